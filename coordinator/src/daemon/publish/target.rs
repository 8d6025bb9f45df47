//! Where publications go, as the configuration says.
//!
//! Invariant: what is known belongs to (repository, digest), so every image's repository has one of
//! its own to publish into (`{host}` and `{repository}` in the target): verifiers of attestations compare digests
//! only, and the same bytes may be reproduced in one repository and untrusted in another.

use super::super::Core;
use crate::setup::config::PublishTarget;
use attest::{Repository, name::NameError};
use oci::{
    Destination, LayoutWriter, Place, SourceOptions, reference::host_and_path, registry::Registry,
};

/// Why a target cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The target is no repository once the names are filled in.
    #[error("expected the target of publications to be a repository, found {found:?}: {error}")]
    Name {
        /// What it became.
        found: String,
        /// What is wrong.
        error: NameError,
    },
    /// The folder.
    #[error(transparent)]
    Folder(#[from] oci::Error),
}

/// Where one image's publications go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The repository that is written to.
    pub repository: Repository,
    /// Whose it is.
    pub place: Place,
    /// True in an OCI layout.
    pub in_folder: bool,
}

impl Target {
    /// The target for images of a repository.
    pub fn of(target: &PublishTarget, own: &Repository) -> Result<Self, TargetError> {
        let (host, path) = host_and_path(own).unwrap_or(("", own.as_str()));
        // A port's colon may not stand in a path; an underscore may not stand in a host.
        let host = host.replace(':', "_");
        let named = |found: String| {
            found.parse().map_err(|error| TargetError::Name { found: found.clone(), error })
        };
        Ok(match target {
            PublishTarget::Sidecar { repository } => {
                let name = repository.replace("{repository}", path).replace("{host}", &host);
                Self { repository: named(name)?, place: Place::Sidecar, in_folder: false }
            }
            PublishTarget::Beside => {
                Self { repository: own.clone(), place: Place::Publisher, in_folder: false }
            }
            PublishTarget::Folder { .. } => {
                let name = if host.is_empty() { path.to_owned() } else { format!("{host}/{path}") };
                Self { repository: named(name)?, place: Place::Sidecar, in_folder: true }
            }
        })
    }

    /// The host that is spoken to; empty for a folder.
    pub fn host(&self) -> &str {
        match self.in_folder {
            true => "",
            false => host_and_path(&self.repository).map_or("", |(host, _)| host),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let prefix = if self.in_folder { "folder:" } else { "" };
        write!(f, "{prefix}{}", self.repository)
    }
}

/// Opens the place that is written to.
pub fn destination(core: &Core, target: &PublishTarget) -> Result<Destination, TargetError> {
    Ok(match target {
        PublishTarget::Folder { path } => {
            Destination::Layout(LayoutWriter::create(core.loaded.folder.join(path))?)
        }
        PublishTarget::Sidecar { .. } | PublishTarget::Beside => {
            let network = super::super::intake::network(core);
            let options = SourceOptions { network, ..SourceOptions::default() };
            Destination::Registry(Registry::new(&options))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_repository_has_its_own() {
        let own: Repository = "registry.example:5000/team/app".parse().unwrap();
        let repository = "registry.example/assay/{host}/{repository}".to_owned();
        let target = Target::of(&PublishTarget::Sidecar { repository }, &own).unwrap();
        assert_eq!(target.to_string(), "registry.example/assay/registry.example_5000/team/app");
        assert_eq!(target.host(), "registry.example");
        let beside = Target::of(&PublishTarget::Beside, &own).unwrap();
        assert_eq!((beside.repository, beside.place), (own.clone(), Place::Publisher));
        let folder = Target::of(&PublishTarget::Folder { path: "out".into() }, &own).unwrap();
        assert_eq!(
            (folder.to_string().as_str(), folder.host()),
            ("folder:registry.example_5000/team/app", "")
        );
        let repository = "registry.example/ASSAY/{repository}".to_owned();
        assert!(Target::of(&PublishTarget::Sidecar { repository }, &own).is_err());
    }
}
