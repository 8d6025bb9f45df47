//! `certificates:` of the configuration: files of their own, CA bundles, the Java trust store.
//!
//! Invariant: a certificate is written again from its DER, without the text around it, and appended
//! to each bundle that exists; the bundles' mtime becomes the image's creation time. Nothing here
//! decides whether a certificate deserves trust.

use super::{Build, ca_bundles::BUNDLES, certificate::Certificate, java_trust_store, pem};
use crate::{
    apko::{
        behaviour::Capability,
        error::AssembleError,
        fs::{path, tree::shown},
    },
    go::tar::Kind,
};

const STEP: &str = "certificates";
const FOLDER: &str = "usr/local/share/ca-certificates";
/// Certificates of one image. The bundles of the web's authorities have about 150.
const CERTIFICATES_MAX: usize = 10_000;

impl Build<'_> {
    pub(super) fn add_certificates(&mut self) -> Result<(), AssembleError> {
        let mut all = self.additional()?;
        all.extend(self.provided()?);
        if all.is_empty() {
            return Ok(());
        }
        let bundles = if self.behaviour.has(Capability::KanikoBundle) { 3 } else { 2 };
        for bundle in BUNDLES.iter().take(bundles) {
            self.append(bundle, &all)?;
        }
        if self.behaviour.has(Capability::JavaTrustStore) {
            self.java_trust_store(&all)?;
        }
        Ok(())
    }

    /// Those given in place, each written to a file of its own.
    fn additional(&mut self) -> Result<Vec<Certificate>, AssembleError> {
        let Some(certificates) = &self.config.certificates else { return Ok(Vec::new()) };
        let given = certificates.additional.clone();
        let in_step = AssembleError::in_step(STEP);
        if !given.is_empty() {
            self.tree.make_directories(FOLDER.as_bytes(), 0o755).map_err(&in_step)?;
        }
        let mut all = Vec::with_capacity(given.len());
        for one in given {
            check_name(&one.name)?;
            let alias = |fingerprint: &str| format!("{}-{fingerprint}", one.name);
            let certificate = Certificate::read(one.content.as_bytes(), alias)
                .map_err(|error| AssembleError::step(STEP, format!("{:?}: {error}", one.name)))?;
            let file = format!("{FOLDER}/{}.crt", certificate.alias);
            let pem = certificate.pem.clone();
            let id = self.tree.write(file.as_bytes(), pem, 0o644).map_err(&in_step)?;
            self.tree.node_mut(id).mtime = self.created;
            all.push(certificate);
        }
        Ok(all)
    }

    /// Those that packages bring which provide one of the configured names. What is no certificate
    /// there is passed over, as apko does.
    fn provided(&mut self) -> Result<Vec<Certificate>, AssembleError> {
        let Some(certificates) = &self.config.certificates else { return Ok(Vec::new()) };
        let wanted = &certificates.providers;
        let mut files: Vec<Vec<u8>> = self
            .packages
            .0
            .iter()
            .filter(|package| package.info.provides.iter().any(|name| wanted.contains(name)))
            .flat_map(|package| &package.entries)
            .filter(|entry| entry.header.kind != Kind::Directory)
            .map(|entry| entry.header.name.clone())
            .filter(|name| is_certificate_file(name))
            .collect();
        files.sort_unstable();
        if files.len() > CERTIFICATES_MAX {
            return Err(AssembleError::Limit {
                what: "certificates of packages",
                limit: CERTIFICATES_MAX as u64,
                found: files.len().to_string(),
            });
        }
        let mut all = Vec::new();
        for file in files {
            let id = self.tree.open(&file, None).map_err(AssembleError::in_step(STEP))?;
            let size = self.packages.size(self.tree.node(id));
            if size > pem::TEXT_BYTES_MAX as u64 {
                return Err(AssembleError::Limit {
                    what: "bytes of a certificate file",
                    limit: pem::TEXT_BYTES_MAX as u64,
                    found: format!("{size} in {}", shown(&file)),
                });
            }
            let text = self.packages.read(self.tree, id)?;
            all.extend(Certificate::read(&text, |fingerprint| format!("pkg-{fingerprint}")));
        }
        Ok(all)
    }

    fn append(&mut self, bundle: &str, all: &[Certificate]) -> Result<(), AssembleError> {
        let Some((id, mut data)) = self.packages.read_path(self.tree, bundle, STEP)? else {
            return Ok(());
        };
        for certificate in all {
            data.extend_from_slice(&certificate.pem);
            data.push(b'\n');
        }
        let node = self.tree.node_mut(id);
        node.data = data;
        node.mtime = self.created;
        Ok(())
    }

    fn java_trust_store(&mut self, all: &[Certificate]) -> Result<(), AssembleError> {
        let path = java_trust_store::PATH;
        let Some((id, before)) = self.packages.read_path(self.tree, path, STEP)? else {
            return Ok(());
        };
        let after = java_trust_store::add(&before, all, self.created)
            .map_err(|error| AssembleError::step(STEP, format!("{path}: {error}")))?;
        let node = self.tree.node_mut(id);
        node.data = after;
        node.mtime = self.created;
        Ok(())
    }
}

fn is_certificate_file(name: &[u8]) -> bool {
    let below = name.strip_prefix(FOLDER.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"));
    let base = path::base(name);
    below && (base.ends_with(b".crt") || base.ends_with(b".pem"))
}

/// `^[a-zA-Z0-9_-]+[a-zA-Z0-9_.-]*$`
fn check_name(name: &str) -> Result<(), AssembleError> {
    let ok = !name.is_empty()
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    if ok {
        return Ok(());
    }
    let detail = format!("expected a name of letters, digits, _ - and ., found {name:?}");
    Err(AssembleError::step(STEP, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert!(check_name("my-ca.2").is_ok());
        for bad in ["", ".a", "a/b", "a b", "é"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(is_certificate_file(b"usr/local/share/ca-certificates/x/y.pem"));
        assert!(!is_certificate_file(b"usr/local/share/ca-certificates-old/y.pem"));
    }
}
