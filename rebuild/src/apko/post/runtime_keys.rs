//! `runtime_keyring`: keys that only the finished image trusts.
//!
//! Invariant: each is one PEM public key, written again without anything around it; none replaces
//! a key that is there already.

use super::{Build, pem};
use crate::apko::error::AssembleError;

const STEP: &str = "runtime_keyring";

impl Build<'_> {
    pub(super) fn runtime_keys(&mut self) -> Result<(), AssembleError> {
        let mut keys = self.config.contents.runtime_keyring.clone();
        keys.sort_by(|a, b| a.name.cmp(&b.name));
        for key in keys {
            let block = pem::only_block(key.content.as_bytes(), "PUBLIC KEY")
                .map_err(|error| AssembleError::step(STEP, format!("{:?}: {error}", key.name)))?;
            let path = format!("etc/apk/keys/{}", key.name);
            if key.name.contains('/') || self.tree.exists(path.as_bytes()) {
                let detail = format!("expected a new, plain file name, found {:?}", key.name);
                return Err(AssembleError::step(STEP, detail));
            }
            let id = self
                .tree
                .write(path.as_bytes(), block.encode(), 0o644)
                .map_err(AssembleError::in_step(STEP))?;
            self.tree.node_mut(id).mtime = self.created;
        }
        Ok(())
    }
}
