//! The `os-release` that apko made before 0.17.0 where no package brought one.
//!
//! Invariant: the text is the one of a configuration that says nothing about it; one that does is
//! refused as a gap when it is read.

use super::Build;
use crate::apko::{behaviour::Capability, error::AssembleError};

impl Build<'_> {
    pub(super) fn os_release(&mut self) -> Result<(), AssembleError> {
        if self.tree.exists(b"etc/os-release") {
            return Ok(());
        }
        let owner = if self.behaviour.has(Capability::OsReleaseUrl) {
            "chainguard.dev"
        } else {
            "github.com/chainguard-dev"
        };
        let text = format!(
            "ID=unknown\nNAME=\"apko-generated image\"\nPRETTY_NAME=\"apko-generated image\"\n\
             VERSION_ID=unknown\nHOME_URL=\"https://{owner}/apko\"\n"
        );
        let in_step = AssembleError::in_step("os-release");
        self.tree.write(b"etc/os-release", text.into_bytes(), 0o666).map_err(&in_step)?;
        self.tree.write(b"etc/unknown-release", b"unknown\n".to_vec(), 0o666).map_err(&in_step)?;
        Ok(())
    }
}
