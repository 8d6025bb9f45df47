//! Where evidence comes from, and how sets about one image become one.
//!
//! ```text
//! FILE                 a set (assay/evidence/v1) or a bundle of sets (assay/bundle/v1)
//! DIR                  every *.json in it that is one of these, at most 4 folders deep; an OCI
//!                      layout also for what is attached in it
//! https://HOST[/BASE]  a coordinator: GET /v1/evidence?source=…&repository=…&manifest=…&platform=…
//! oci://HOST/REPO      a repository with attached sets, as a sidecar (`attached`)
//! ```
//! Invariant: a source that cannot be read is an error, never "there is none"; so is a set that is
//! damaged, and a set about another image where this one was asked for. Sets are united: evidence
//! only grows, and what one source leaves out another can add. Nothing in a set is believed here.
//! What no source has cannot be seen: a source can hide a dissent or a revocation (protocol,
//! "Completeness"). Against one that does, name more sources that do not depend on each other.

pub mod coordinator;
pub mod file;

pub use oci::attached;

use crate::{
    error::GateError,
    image::{Asked, Wanted, network_of, source_of},
};
use attest::{
    Digest, Repository,
    evidence_set::{EvidenceSet, EvidenceSetError},
    policy::{Policy, Source},
};
use file::Local;
use oci::{
    Credentials, ImageReference, ImageSource, Layout, Registry, SourceOptions, Timing,
    fetch::Fetcher,
};
use serde::Serialize;
use std::{collections::BTreeSet, path::PathBuf, str::FromStr};
use url::Url;

/// One place of evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EvidenceSource {
    /// A file or a folder.
    Path(PathBuf),
    /// A coordinator's base URL.
    Coordinator(Url),
    /// A repository of a registry in which sets are attached to the image's digest.
    Repository(Repository),
    /// The place where the image itself is.
    BesideImage,
}

/// A source could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct SourceError {
    expected: &'static str,
    found: String,
}

impl FromStr for EvidenceSource {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let bad = |expected| SourceError { expected, found: text.chars().take(200).collect() };
        if let Some(name) = text.strip_prefix("oci://") {
            const EXPECTED: &str = "a repository with its host, as in oci://registry.example/repo";
            let repository: Repository = name.parse().map_err(|_| bad(EXPECTED))?;
            return match oci::reference::host_and_path(&repository) {
                Some(_) => Ok(Self::Repository(repository)),
                None => Err(bad(EXPECTED)),
            };
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            const EXPECTED: &str = "a coordinator's URL, as in https://coordinator.example:8443";
            return match Url::parse(text) {
                Ok(url) if url.query().is_none() && url.fragment().is_none() => {
                    Ok(Self::Coordinator(url))
                }
                _ => Err(bad(EXPECTED)),
            };
        }
        // No folder is named like that: whoever wrote it meant the network.
        if text.is_empty() || text.contains("://") {
            return Err(bad("a file, a folder, a coordinator's URL or oci://HOST/REPOSITORY"));
        }
        Ok(Self::Path(PathBuf::from(text)))
    }
}

/// A set that was used: where it came from and which it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UsedSet {
    /// File, URL or artifact.
    pub uri: String,
    /// The digest of its canonical bytes.
    pub digest: Digest,
}

/// The evidence about one image, united.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    /// The set; none where no source has one.
    pub set: Option<EvidenceSet>,
    /// What it is made of.
    pub used: Vec<UsedSet>,
}

/// Every source, opened: files are read already, the network is not spoken to yet.
#[derive(Debug)]
pub struct Collector {
    local: Vec<Local>,
    layouts: Vec<Layout>,
    coordinators: Vec<(Url, Fetcher)>,
    repositories: Vec<Repository>,
    beside: bool,
    /// A folder or a bundle is among the sources.
    keeps: bool,
    registry: Registry,
}

/// What is known of other images of the same repository and platform: it tells a regression from
/// what never was good.
#[derive(Debug, Clone, Default)]
pub struct Predecessors<'a> {
    /// Their sets.
    pub sets: Vec<&'a EvidenceSet>,
    /// True where a source was given that would have them: a folder or a bundle. A coordinator, a
    /// registry and a file about one image are asked about that image alone.
    pub known: bool,
}

/// Network and credentials of a gate: the exceptions are the policy's.
pub fn options(policy: &Policy, credentials: Credentials, timing: Timing) -> SourceOptions {
    SourceOptions { network: network_of(policy), credentials, timing }
}

impl Collector {
    /// Opens the sources; without any, the place where the image is.
    pub fn open(sources: &[EvidenceSource], options: &SourceOptions) -> Result<Self, GateError> {
        let mut collector = Self {
            local: Vec::new(),
            layouts: Vec::new(),
            coordinators: Vec::new(),
            repositories: Vec::new(),
            beside: sources.is_empty(),
            keeps: false,
            registry: Registry::new(options),
        };
        for source in sources {
            match source {
                EvidenceSource::Path(path) => {
                    let found = file::read(path)?;
                    let is_layout = path.join("oci-layout").is_file();
                    if is_layout {
                        collector.layouts.push(Layout::open(path)?);
                    }
                    // Of a layout only what is attached to the image is looked for.
                    let of_many = if path.is_dir() { !is_layout } else { found.len() != 1 };
                    collector.keeps |= of_many || found.len() > 1;
                    collector.local.extend(found);
                }
                EvidenceSource::Coordinator(url) => {
                    collector.coordinators.push((url.clone(), Fetcher::new(&options.network)?));
                }
                EvidenceSource::Repository(name) => collector.repositories.push(name.clone()),
                EvidenceSource::BesideImage => collector.beside = true,
            }
        }
        Ok(collector)
    }

    /// The sets that were read from files, of whichever image.
    pub fn local(&self) -> impl Iterator<Item = &EvidenceSet> {
        self.local.iter().map(|local| &local.set)
    }

    /// What is known of other images of the same repository and platform.
    pub fn predecessors<'a>(&'a self, asked: &Asked, wanted: &Wanted) -> Predecessors<'a> {
        let platform = wanted.subject.platform.normal();
        let of_repository = self.local().filter(|set| {
            set.source == asked.source
                && set.subject.repository == asked.repository
                && set.subject.platform.normal() == platform
                && set.subject.digest != wanted.subject.digest
        });
        Predecessors { sets: of_repository.collect(), known: self.keeps }
    }

    /// An error when a file that was named on its own is about none of the images asked for.
    pub fn check_named(&self, asked: &Asked) -> Result<(), GateError> {
        for Local { uri, set, .. } in self.local.iter().filter(|local| local.named) {
            let is_asked =
                |wanted: &Wanted| set.source == asked.source && set.subject == wanted.subject;
            if !asked.wanted.iter().any(is_asked) {
                let prefix = if set.source == Source::Layout { "oci:" } else { "" };
                let found = format!("{prefix}{}", set.subject);
                let error = EvidenceSetError::OtherSubject { expected: asked.named(), found };
                return Err(GateError::Evidence { uri: uri.clone(), error });
            }
        }
        Ok(())
    }

    /// All evidence about one image.
    pub async fn gather(
        &self,
        image: Option<&ImageSource>,
        asked: &Asked,
        wanted: &Wanted,
    ) -> Result<Gathered, GateError> {
        let mut found: Vec<(String, EvidenceSet)> = Vec::new();
        let here = self.local.iter().filter(|local| {
            let set = &local.set;
            set.is_for(asked.source, &asked.repository, &wanted.subject.digest).is_ok()
                && set.subject == wanted.subject
        });
        found.extend(here.map(|local| (local.uri.clone(), local.set.clone())));
        for (base, fetcher) in &self.coordinators {
            found.extend(coordinator::get(fetcher, base, asked.source, &wanted.subject).await?);
        }
        let registry = ImageSource::Registry(self.registry.clone());
        let (repository, digest) = (&asked.repository, &wanted.subject.digest);
        let mut places: Vec<(ImageSource, &Repository)> = Vec::new();
        let layouts = self.layouts.iter().cloned().map(ImageSource::Layout);
        places.extend(layouts.map(|layout| (layout, repository)));
        places.extend(self.repositories.iter().map(|name| (registry.clone(), name)));
        if self.beside
            && let Some(image) = image
        {
            places.push((image.clone(), repository));
        }
        for (place, repository) in places {
            found.extend(attached::find(&place, repository, digest).await?);
        }
        united(found, asked, wanted)
    }
}

/// One set of all: every one must be about exactly this image.
fn united(
    found: Vec<(String, EvidenceSet)>,
    asked: &Asked,
    wanted: &Wanted,
) -> Result<Gathered, GateError> {
    if asked.index.is_none() {
        one_index(&found, asked)?;
    }
    let mut gathered = Gathered::default();
    for (uri, mut set) in found {
        let evidence = |error| GateError::Evidence { uri: uri.clone(), error };
        set.is_for(asked.source, &asked.repository, &wanted.subject.digest).map_err(evidence)?;
        if set.subject != wanted.subject {
            let (expected, found) = (wanted.subject.to_string(), set.subject.to_string());
            return Err(evidence(EvidenceSetError::OtherSubject { expected, found }));
        }
        gathered.used.push(UsedSet { uri: uri.clone(), digest: set.digest().map_err(evidence)? });
        // Which index the image is in is known from the reference, not from whoever sent evidence.
        if let Some(index) = &asked.index {
            set.index = Some(index.clone());
        }
        match &mut gathered.set {
            None => gathered.set = Some(set),
            Some(all) => all.merge(set).map_err(evidence)?,
        }
    }
    gathered.used.sort_by(|a, b| (&a.uri, a.digest).cmp(&(&b.uri, b.digest)));
    Ok(gathered)
}

/// A manifest that is asked for alone may be in several indexes, and what is attached to one says
/// nothing about another. Which one is meant is for the reference to say: not for the first source,
/// nor for whoever adds a set of their own.
fn one_index(found: &[(String, EvidenceSet)], asked: &Asked) -> Result<(), GateError> {
    let mut named: BTreeSet<(Digest, String)> = BTreeSet::new();
    for (uri, set) in found {
        named.extend(set.index_digest().map(|index| (index, format!("{index} in {uri}"))));
        let pieces = set.publisher.iter().filter(|piece| piece.attached_to != set.subject.digest);
        named.extend(pieces.map(|piece| {
            let index = piece.attached_to;
            (index, format!("{index}, to which a statement in {uri} is attached"))
        }));
    }
    let Some((first, first_named)) = named.first() else { return Ok(()) };
    match named.iter().find(|(index, _)| index != first) {
        None => Ok(()),
        Some((_, second)) => Err(GateError::TwoIndexes {
            image: asked.named(),
            first: first_named.clone(),
            second: second.clone(),
        }),
    }
}

/// The place where a reference's image is read.
pub fn open_image(
    reference: &ImageReference,
    options: &SourceOptions,
) -> Result<ImageSource, GateError> {
    tracing::debug!(
        image.reference = %reference, image.source = ?source_of(reference),
        "opening the image's place"
    );
    Ok(ImageSource::open(reference, options)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_as_people_write_them() {
        let read = |text: &str| text.parse::<EvidenceSource>();
        assert_eq!(read("evidence/a.json"), Ok(EvidenceSource::Path("evidence/a.json".into())));
        for url in ["https://coordinator.example:8443", "http://127.0.0.1:8080/fleet/"] {
            let expected = EvidenceSource::Coordinator(Url::parse(url).unwrap());
            assert_eq!(read(url), Ok(expected));
        }
        let repository: Repository = "registry.example:5000/assay/evidence".parse().unwrap();
        let text = format!("oci://{repository}");
        assert_eq!(read(&text), Ok(EvidenceSource::Repository(repository)));
        for bad in ["", "oci://demo/hello", "oci://", "https://", "https://h/?x=1", "http://a b/"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
