//! Looks at a published image once: its platforms, the evidence beside it, who is trusted, and what
//! recipe follows for each platform.
//!
//! Invariant: evidence of one repository is judged for that repository only; a part that could not
//! be fetched makes the whole an error.

use super::{Signers, Workshop, source_of};
use attest::{
    Subject,
    policy::Source,
    recipe::{Derivation, derive},
    trust::{self, Trust, judge_evidence},
};
use oci::{
    Discovery, Error, Image, ImageReference, ImageSource, IndexEntry, SourceOptions, discover_image,
};

/// One platform, with what may be rebuilt.
#[derive(Debug, Clone)]
pub struct ExaminedPlatform {
    /// The entry of the index.
    pub entry: IndexEntry,
    /// The manifest in its repository.
    pub subject: Subject,
    /// True where the index lists this platform more than once.
    pub repeated: bool,
    /// What follows from trusted evidence.
    pub derivation: Derivation,
}

/// An image, looked at.
pub struct Examined {
    /// Where it is read from.
    pub place: ImageSource,
    /// Registry or layout.
    pub source: Source,
    /// The image.
    pub image: Image,
    /// The evidence found.
    pub discovery: Discovery,
    /// Who is trusted.
    pub trust: Trust,
    /// Every platform that must be judged.
    pub platforms: Vec<ExaminedPlatform>,
}

/// Fetches and judges what lies beside an image. Layers are not fetched.
pub async fn examine(workshop: &Workshop, reference: &ImageReference) -> Result<Examined, Error> {
    let options =
        SourceOptions { network: super::network(&workshop.policy), ..SourceOptions::default() };
    let place = ImageSource::open(reference, &options)?;
    let image = Image::read(&place, reference).await?;
    let discovery = discover_image(&place, &image).await?;
    let source = source_of(reference);
    let signers = match workshop.signers {
        Signers::Policy => trust::Signers::Policy(&workshop.policy, source),
        Signers::Any => trust::Signers::Any,
    };
    let trust = judge_evidence(signers, image.repository(), &discovery.evidence);
    let index = image.index.as_ref().map(|_| image.digest());
    let platforms = image
        .entries
        .iter()
        .map(|entry| {
            let subject = image.subject(entry);
            let same = image.entries.iter().filter(|e| e.platform == entry.platform).count();
            let derivation = derive(&subject, index.as_ref(), &trust);
            ExaminedPlatform { entry: entry.clone(), subject, repeated: same > 1, derivation }
        })
        .collect();
    Ok(Examined { place, source, image, discovery, trust, platforms })
}
