//! Checksum files beside the CA bundles: `.ca-certificates.crt.sha256` and its siblings.
//!
//! Invariant: one for each bundle that exists at this moment, whoever made it; nothing else of the
//! bundle is touched.

use super::{Build, java_trust_store};
use crate::apko::{behaviour::Capability, error::AssembleError, fs::FsError};
use sha2::{Digest as _, Sha256};
use std::io::Read;

/// The bundles that certificates are appended to; the last one belongs to kaniko.
pub(super) const BUNDLES: [&str; 3] = [
    "etc/ssl/certs/ca-certificates.crt",
    "var/lib/ecs/deps/execute-command/certs/tls-ca-bundle.pem",
    KANIKO,
];
const KANIKO: &str = "kaniko/ssl/certs/ca-certificates.crt";

const STEP: &str = "checksums of CA bundles";
const CHUNK_BYTES: usize = 64 << 10;

impl Build<'_> {
    pub(super) fn ca_sidecars(&mut self) -> Result<(), AssembleError> {
        let kaniko = self.behaviour.has(Capability::KanikoBundle);
        let bundles = BUNDLES.into_iter().filter(|bundle| kaniko || *bundle != KANIKO);
        for bundle in bundles.chain([java_trust_store::PATH]) {
            let Some(digest) = self.digest(bundle)? else { continue };
            let (folder, base) = bundle.rsplit_once('/').unwrap_or((".", bundle));
            let text = format!("{digest}  {base}\n").into_bytes();
            let sidecar = format!("{folder}/.{base}.sha256");
            let id = self
                .tree
                .write(sidecar.as_bytes(), text, 0o444)
                .map_err(AssembleError::in_step(STEP))?;
            self.tree.node_mut(id).mtime = self.created;
        }
        Ok(())
    }

    /// SHA-256 of a file in hex, read in pieces; none if it is not there.
    fn digest(&mut self, path: &str) -> Result<Option<String>, AssembleError> {
        let id = match self.tree.open(path.as_bytes(), None) {
            Ok(id) => id,
            Err(FsError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(AssembleError::in_step(STEP)(error)),
        };
        let mut content = self.packages.content(self.tree.node(id));
        let mut sha256 = Sha256::new();
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = content
                .read(&mut chunk)
                .map_err(|source| AssembleError::Io { doing: format!("reading {path}"), source })?;
            if count == 0 {
                return Ok(Some(hex::encode(sha256.finalize())));
            }
            sha256.update(chunk.get(..count).unwrap_or_default());
        }
    }
}
