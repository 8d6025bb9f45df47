//! What a configuration means that Assay cannot honour, although every field is known by name.
//!
//! Invariant: only gaps come from here, never a changed configuration. apko itself would refuse
//! some of these; whether a newer one does something with them is not known, so they are gaps.

use super::{ImageConfiguration, decode::field_gap};
use crate::apko::behaviour::{Behaviour, Capability};
use attest::Gap;

/// The types of a path change.
const PATH_TYPES: &[&str] = &["directory", "empty-file", "hardlink", "symlink", "permissions"];

impl ImageConfiguration {
    /// Values whose meaning is not known.
    pub(super) fn check(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        if !matches!(self.entrypoint.kind.as_str(), "" | "service-bundle") {
            gaps.push(field_gap(format!("entrypoint.type: {:?}", self.entrypoint.kind)));
        }
        if let Some(layering) = self.active_layering()
            && layering.strategy != "origin"
        {
            gaps.push(field_gap(format!("layering.strategy: {:?}", layering.strategy)));
        }
        for (index, change) in self.paths.iter().enumerate() {
            if !PATH_TYPES.contains(&change.kind.as_str()) {
                gaps.push(field_gap(format!("paths[{index}].type: {:?}", change.kind)));
            }
            gaps.extend(path_gap(&format!("paths[{index}].path"), &change.path));
            if change.kind == "hardlink" {
                gaps.extend(path_gap(&format!("paths[{index}].source"), &change.source));
            }
        }
        for (index, user) in self.accounts.users.iter().enumerate() {
            gaps.extend(path_gap(&format!("accounts.users[{index}].homedir"), &user.homedir));
        }
        for name in self.entrypoint.services.keys() {
            gaps.extend(path_gap("entrypoint.services", &format!("sv/{name}")));
        }
        gaps
    }

    /// Fields that are set although this version of apko does not have them. A recipe that says so
    /// contradicts itself, or its version is wrong.
    pub fn unknown_to(&self, behaviour: &Behaviour) -> Vec<Gap> {
        let certificates = self.certificates.as_ref();
        let providers = certificates.is_some_and(|c| !c.providers.is_empty());
        let dotted =
            certificates.is_some_and(|c| c.additional.iter().any(|one| one.name.contains('.')));
        let contents = &self.contents;
        let empty_layering = self.layering.as_ref().is_some_and(|l| !l.is_active());
        [
            (self.layering.is_some(), Capability::Layering, "layering"),
            (empty_layering, Capability::EmptyLayering, "layering: {}"),
            (certificates.is_some(), Capability::Certificates, "certificates"),
            (providers, Capability::CertificateProviders, "certificates.providers"),
            (dotted, Capability::CertificateNameDot, "certificates.additional[].name with a dot"),
            (
                !contents.build_repositories.is_empty(),
                Capability::BuildRepositories,
                "contents.build_repositories",
            ),
            (
                !contents.runtime_repositories.is_empty(),
                Capability::RuntimeRepositories,
                "contents.runtime_repositories",
            ),
            (
                !contents.runtime_keyring.is_empty(),
                Capability::RuntimeKeyring,
                "contents.runtime_keyring",
            ),
        ]
        .into_iter()
        .filter(|(set, capability, _)| *set && !behaviour.has(*capability))
        .map(|(_, _, field)| field_gap(format!("{field}: {behaviour} does not have this")))
        .collect()
    }
}

/// apko takes names between slashes as they are, so `.` and `..` would become names of files.
fn path_gap(field: &str, path: &str) -> Option<Gap> {
    let odd = path.contains('\0') || path.split('/').any(|part| matches!(part, "." | ".."));
    odd.then(|| field_gap(format!("{field}: {path:?} has a component . or .. or a NUL")))
}
