//! `etc/apk/repositories`: what apk in the finished image will use.
//!
//! Invariant: a sorted set. Build repositories are not in it, but for layered images of the
//! versions that had this fault.

use super::Build;
use crate::apko::{behaviour::Capability, error::AssembleError, install::base::lines};
use std::collections::BTreeSet;

impl Build<'_> {
    pub(super) fn repositories(&mut self) -> Result<(), AssembleError> {
        let contents = &self.config.contents;
        let layered = self.config.active_layering().is_some();
        let with_build = layered && self.behaviour.has(Capability::BuildRepositoriesInLayered);
        let build = contents.build_repositories.iter().filter(|_| with_build);
        let set: BTreeSet<&String> = contents
            .repositories
            .iter()
            .chain(&contents.runtime_repositories)
            .chain(self.extra_repositories)
            .chain(build)
            .collect();
        let file = lines(set.into_iter().map(String::as_str));
        self.tree
            .write(b"etc/apk/repositories", file, 0o644)
            .map_err(AssembleError::in_step("etc/apk/repositories"))?;
        Ok(())
    }
}
