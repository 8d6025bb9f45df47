//! A package that no verified index has: its file may still be there, proven by its own signature.
//!
//! Invariant: `Gone` is said only when an index was read and every source answered that it has no
//! such file. What did not answer might have had it, or its proof: that comes before what did.

use super::super::MaterialError;
use super::{
    index::check_architecture,
    shelf::{Bases, PackageRequest, Proven, Shelf},
};

impl Shelf<'_> {
    /// For a package that no verified index has: its file may still be there.
    pub(super) async fn by_own_signature(
        &self,
        bases: &Bases<'_>,
        some_index: bool,
        unread: &[MaterialError],
        request: &PackageRequest,
    ) -> Result<Proven, MaterialError> {
        let mut looked_at = Vec::new();
        let mut others: Vec<MaterialError> = Vec::new();
        for base in &bases.folders {
            let uri = format!("{base}/{}-{}.apk", request.name, request.version);
            let (package, digest, from) = match self.fetch(&uri).await {
                Ok(fetched) => fetched,
                Err(MaterialError::Gone { looked_at: place, .. }) => {
                    looked_at.push(place);
                    continue;
                }
                Err(error) => {
                    others.push(error);
                    continue;
                }
            };
            // A signature says who made a package, not that it is the one that was asked for.
            if (&package.info.name, &package.info.version) != (&request.name, &request.version) {
                let (wanted, found) = (format!("{}-{}", request.name, request.version), package);
                let problem = format!("expected the package {wanted}, found {}", found.label());
                others.push(MaterialError::Unavailable { uri, problem });
                continue;
            }
            if let Err(error) = check_architecture(&uri, &package.info.arch, bases.arch) {
                others.push(error);
                continue;
            }
            match package.verify_signature(&self.keys.ring_of(base)) {
                Ok(signer) => {
                    let verified_by = format!("its own signature by {}", signer.key);
                    let finished = self.finish(&uri, package, digest, from, verified_by);
                    let (package, material) = finished?;
                    return Ok(Proven { package, material, indexed: false });
                }
                Err(error) => {
                    let problem = format!("not in a verified index, and {error}");
                    others.push(MaterialError::Unproven { uri, problem });
                }
            }
        }
        let uri = format!("{}-{}.apk", request.name, request.version);
        // What did not answer might have had it, or its proof: that comes before what did answer.
        let silent = |error: &&MaterialError| {
            matches!(error, MaterialError::Unavailable { .. } | MaterialError::Store(_))
        };
        if let Some(error) = unread.iter().chain(&others).find(silent) {
            let problem = error.to_string();
            return Err(MaterialError::Unavailable { uri, problem });
        }
        if let Some(error) = others.into_iter().next() {
            return Err(error);
        }
        if let Some(error) = unread.iter().find(|e| !matches!(e, MaterialError::Gone { .. })) {
            let problem = format!("an index could not be used: {error}");
            return match error {
                MaterialError::Unproven { .. } => Err(MaterialError::Unproven { uri, problem }),
                _ => Err(MaterialError::Unavailable { uri, problem }),
            };
        }
        if !some_index {
            let problem = "no repository of the recipe has an index".to_owned();
            return Err(MaterialError::Unavailable { uri, problem });
        }
        let looked_at = format!("no verified index has it; {}", looked_at.join("; "));
        Err(MaterialError::Gone { uri, looked_at })
    }
}
