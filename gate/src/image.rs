//! Which images have to be judged when a reference is asked for: every platform of it.
//!
//! Invariant: the digest comes from the reference once, and everything that is judged hangs on it:
//! an index by its bytes, a platform by the index's entry or, for a bare manifest, by the image's
//! configuration. Where the image cannot be read, only a reference by digest is decided, from
//! bytes in the evidence that hash to it. What a set of evidence merely says of itself (which
//! platform, which index) is never taken.

use crate::error::GateError;
use attest::{
    Digest, Platform, Repository, Subject,
    evidence_set::EvidenceSet,
    policy::{Policy, Source},
};
use oci::{
    Descriptor, ErrorKind, HostException, Image, ImageReference, ImageSource, NetworkPolicy,
    Resolved, manifest, media,
};

/// One image that has to be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The image.
    pub subject: Subject,
    /// Which of several entries of the same platform, from 1; none where there is one.
    pub entry: Option<usize>,
    /// Why it cannot be judged without reading more of the image, if so.
    pub obscure: Option<String>,
}

/// What was asked for, by digest.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The reference as it was given.
    pub image: String,
    /// Where the image is read from: it decides which patterns of the policy apply.
    pub source: Source,
    /// The repository.
    pub repository: Repository,
    /// The index or manifest that the reference names.
    pub digest: Digest,
    /// The index's bytes, where it is one.
    pub index: Option<Vec<u8>>,
    /// Every platform.
    pub wanted: Vec<Wanted>,
    /// The document as it was read; none where the evidence alone was read.
    pub root: Option<Resolved>,
}

/// Where an image is read from.
pub fn source_of(reference: &ImageReference) -> Source {
    match reference {
        ImageReference::Layout { .. } => Source::Layout,
        ImageReference::Registry { .. } => Source::Registry,
    }
}

/// The exceptions of the policy's `[[registry]]` tables. They hold for coordinators, too.
pub fn network_of(policy: &Policy) -> NetworkPolicy {
    let hosts = policy.registries.iter().map(|registry| HostException {
        host: registry.host.clone(),
        plain_http: registry.plain_http,
        ca_pem: registry.ca.as_ref().map(|pem| String::from_utf8_lossy(pem).into_owned()),
    });
    NetworkPolicy { hosts: hosts.collect() }
}

/// Numbers the entries of platforms that are there several times.
fn numbered(subjects: Vec<(Subject, Option<String>)>) -> Vec<Wanted> {
    let times = |platform: &Platform, within: &[(Subject, Option<String>)]| {
        within.iter().filter(|(subject, _)| subject.platform == *platform).count()
    };
    let wanted = subjects.iter().enumerate().map(|(position, (subject, obscure))| {
        let before = subjects.get(..position).unwrap_or_default();
        let entry =
            (times(&subject.platform, &subjects) > 1).then(|| times(&subject.platform, before) + 1);
        Wanted { subject: subject.clone(), entry, obscure: obscure.clone() }
    });
    wanted.collect()
}

impl Asked {
    /// The image by repository and digest, as evidence names it.
    pub fn named(&self) -> String {
        let prefix = if self.source == Source::Layout { "oci:" } else { "" };
        format!("{prefix}{}@{}", self.repository, self.digest)
    }

    /// Reads the image from its registry or layout.
    pub async fn read(source: &ImageSource, reference: &ImageReference) -> Result<Self, GateError> {
        let image = Image::read(source, reference).await?;
        let subjects = image.entries.iter().map(|entry| (image.subject(entry), None)).collect();
        Ok(Self {
            image: reference.to_string(),
            source: source_of(reference),
            repository: image.repository().clone(),
            digest: image.digest(),
            index: image.index.is_some().then(|| image.root.bytes.clone()),
            wanted: numbered(subjects),
            root: Some(image.root),
        })
    }

    /// Reads the image, or, where nobody answers and the reference is by digest, takes from the
    /// evidence what is bound to that digest. A definite "no" of a registry is an error.
    pub async fn read_or_known(
        source: &ImageSource,
        reference: &ImageReference,
        sets: &[&EvidenceSet],
    ) -> Result<Self, GateError> {
        match Self::read(source, reference).await {
            Err(GateError::Oci(error))
                if error.kind() == ErrorKind::Unavailable && reference.digest().is_some() =>
            {
                tracing::warn!(
                    image.reference = %reference, %error,
                    "the image cannot be read: deciding by its digest from the evidence alone"
                );
                // Where the evidence does not help either, the first problem is the one to tell.
                Self::known(reference, sets).map_err(|_| GateError::Oci(error))
            }
            other => other,
        }
    }

    /// The image from the evidence alone, without reading it.
    pub fn known(reference: &ImageReference, sets: &[&EvidenceSet]) -> Result<Self, GateError> {
        let image = || reference.to_string();
        let (Some(repository), Some(digest)) = (reference.repository(), reference.digest()) else {
            let expected = "a repository and a digest, as the image itself is not read";
            return Err(GateError::Image { image: image(), expected, found: "a tag".into() });
        };
        let source = source_of(reference);
        let about: Vec<&EvidenceSet> = sets
            .iter()
            .copied()
            .filter(|set| set.source == source && set.subject.repository == *repository)
            .collect();
        let asked = Self {
            image: image(),
            source,
            repository: repository.clone(),
            digest,
            index: None,
            wanted: Vec::new(),
            root: None,
        };
        let index = about.iter().find(|set| set.index_digest() == Some(digest));
        if let Some(bytes) = index.and_then(|set| set.index.clone()) {
            return asked.of_index(bytes, &about);
        }
        match proven_platform(&about, &digest)? {
            Some(platform) => {
                let subject = Subject { repository: repository.clone(), digest, platform };
                Ok(Self { wanted: numbered(vec![(subject, None)]), ..asked })
            }
            None => {
                let expected = "evidence with the index or the manifest and configuration of it";
                let found = format!("{} sets about other images", about.len());
                Err(GateError::Image { image: image(), expected, found })
            }
        }
    }

    /// The images of an index whose bytes are in the evidence.
    fn of_index(self, bytes: Vec<u8>, sets: &[&EvidenceSet]) -> Result<Self, GateError> {
        let what = format!("index {}", self.digest);
        let read = manifest::read_image_index(&bytes, None, &what);
        // An index of the first OCI specification does not say what it is.
        let index = match read {
            Ok(index) => index,
            Err(_) => manifest::read_image_index(&bytes, Some(media::OCI_INDEX), &what)?,
        };
        let mut subjects = Vec::new();
        for (position, entry) in index.entries.iter().enumerate() {
            if !media::is_manifest(&entry.media_type) {
                let expected = "only image manifests in the index";
                let found = format!("{} at entry {position}", entry.media_type);
                return Err(GateError::Image { image: self.image, expected, found });
            }
            let platform = named_platform(entry);
            let platform = match platform {
                Some(platform) => Some(platform),
                None => proven_platform(sets, &entry.digest)?,
            };
            let obscure = platform.is_none().then(|| {
                format!(
                    "Entry {position} of the index ({}) names no platform, and whether it is an \
                     attestation can be seen only where the image can be read.",
                    entry.digest
                )
            });
            let repository = self.repository.clone();
            let platform = platform.unwrap_or_else(unknown);
            subjects.push((Subject { repository, digest: entry.digest, platform }, obscure));
        }
        Ok(Self { index: Some(bytes), wanted: numbered(subjects), ..self })
    }
}

fn unknown() -> Platform {
    Platform { os: "unknown".into(), architecture: "unknown".into(), variant: None }
}

/// The platform that an index's entry names.
fn named_platform(entry: &Descriptor) -> Option<Platform> {
    entry.platform.clone().filter(|platform| *platform != unknown())
}

/// The platform of a manifest, by the configuration that it names.
fn proven_platform(sets: &[&EvidenceSet], digest: &Digest) -> Result<Option<Platform>, GateError> {
    // A set was checked when it was read: the configuration hashes to what the manifest names.
    let configs = sets.iter().filter(|set| set.subject.digest == *digest);
    match configs.filter_map(|set| set.config.as_ref()).next() {
        Some(config) => {
            let what = format!("the configuration of {digest}");
            Ok(manifest::platform_of_config(config, &what)?)
        }
        None => Ok(None),
    }
}
