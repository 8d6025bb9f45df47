//! Services of s6: a directory and a script for each.
//!
//! Invariant: the command is written as it stands in the configuration; it is never run.

use super::Build;
use crate::apko::error::AssembleError;

impl Build<'_> {
    pub(super) fn services(&mut self) -> Result<(), AssembleError> {
        let in_step = AssembleError::in_step("services");
        for (name, command) in &self.config.entrypoint.services {
            let folder = format!("sv/{name}");
            self.tree.make_directories(folder.as_bytes(), 0o777).map_err(&in_step)?;
            let script = format!("#!/bin/execlineb\n{command}\n").into_bytes();
            let path = format!("{folder}/run");
            self.tree.write(path.as_bytes(), script, 0o755).map_err(&in_step)?;
        }
        Ok(())
    }
}
