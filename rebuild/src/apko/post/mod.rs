//! What the build does after the packages: accounts, its own files, links, caches, repositories.
//!
//! Invariant: the steps run in apko's order, and each sees what those before it left. A step that
//! apko would fail on fails here too; none is skipped because it is inconvenient.

mod accounts;
mod apko_json;
mod busybox;
mod ca_bundles;
mod certificate;
mod certificates;
mod java_trust_store;
pub mod ld_cache;
mod os_release;
pub mod passwd;
mod paths;
mod pem;
mod repositories;
mod runtime_keys;
mod services;

use super::{
    behaviour::{Behaviour, Capability},
    config::ImageConfiguration,
    error::AssembleError,
    fs::FileTree,
    install::{Packages, base::DEVICES},
};

/// The image between installation and layering.
pub struct Build<'a> {
    /// The file system.
    pub tree: &'a mut FileTree,
    /// What was installed.
    pub packages: Packages<'a>,
    /// What to make; `run-as` becomes a number on the way.
    pub config: &'a mut ImageConfiguration,
    /// How this version of apko does it.
    pub behaviour: Behaviour,
    /// When the image counts as created, seconds since 1970.
    pub created: i64,
    /// Repositories of the command line, for `etc/apk/repositories`.
    pub extra_repositories: &'a [String],
}

impl Build<'_> {
    /// All steps, in order.
    pub fn finish(&mut self) -> Result<(), AssembleError> {
        self.accounts()?;
        if self.behaviour.has(Capability::ApkoJson) {
            self.apko_json()?;
        }
        self.change_paths()?;
        if self.behaviour.has(Capability::OsRelease) {
            self.os_release()?;
        }
        self.add_certificates()?;
        if self.behaviour.has(Capability::CaSidecars) {
            self.ca_sidecars()?;
        }
        self.runtime_keys()?;
        self.services()?;
        self.busybox_links()?;
        self.devices()?;
        if self.behaviour.has(Capability::LdCache) {
            self.ld_cache()?;
        }
        self.repositories()
    }

    /// Devices that a package removed come back, with mode 0.
    fn devices(&mut self) -> Result<(), AssembleError> {
        let in_step = AssembleError::in_step("devices");
        for (path, _, numbers) in DEVICES {
            if !self.tree.exists(path.as_bytes()) {
                self.tree.make_directories(b"dev", 0o755).map_err(&in_step)?;
                self.tree.make_device(path.as_bytes(), 0, *numbers).map_err(&in_step)?;
            }
        }
        Ok(())
    }
}
