//! Everything that is known about one published image, in one file: what the coordinator serves,
//! what `--keep` keeps, what a gate reads.
//!
//! ```text
//! {"schema":"assay/evidence/v1","source":"registry","subject":{…},
//!  "manifest":"<base64>","index":"<base64>","config":"<base64>",
//!  "publisher":[{kind,bytes,digest,uri,attached_to}],
//!  "operators":[DSSE],"workers":[DSSE],"announces":[DSSE],"leases":[DSSE],
//!  "observations":[{"envelope":DSSE,"position":12}],"receipts":[DSSE],
//!  "revocations":[DSSE],"verdicts":[DSSE],"attestations":[DSSE]}
//! ```
//! Invariant: the bytes of manifest, index and configuration hash to what the subject names, and
//! every list is sorted and without repetition in [`EvidenceSet::to_canonical_json`], so equal
//! evidence has one digest. Nothing in it is believed because it is in it: signatures are checked
//! by `verdict::judge`, `position` orders nothing, `verdicts` and `attestations` are for
//! people and are never read by the judge.
//! A set that came from elsewhere says itself what it is about: whoever uses it must compare
//! `source` and `subject` with the image that was asked for ([`EvidenceSet::is_for`]).

use crate::{
    Digest, Repository, Subject, base64_text,
    canonical::{self, CanonicalError},
    dsse::{Envelope, EnvelopeError},
    evidence::RawEvidence,
    id::JournalPosition,
    image_manifest::{ImageManifest, ManifestError, parse_strict},
    policy::Source,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The schema of the JSON.
pub const EVIDENCE_SET_SCHEMA: &str = "assay/evidence/v1";
/// Largest set that is read: an SBOM of 16 MiB, and some 10,000 observations of 4 KiB.
pub const EVIDENCE_SET_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Most entries of one list: 20 operators, 3 attempts, and 60 rechecks of that.
pub const ENTRIES_MAX: usize = 4096;
/// Largest configuration: as for manifests (protocol: "manifests 4 MiB").
const CONFIG_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What can be wrong with a set of evidence.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceSetError {
    /// Larger than [`EVIDENCE_SET_BYTES_MAX`].
    #[error("expected evidence of at most {EVIDENCE_SET_BYTES_MAX} bytes, found {0}")]
    TooLarge(usize),
    /// Not the JSON of a set of evidence; unknown fields are refused.
    #[error("expected evidence ({EVIDENCE_SET_SCHEMA}): {0}")]
    Json(#[from] serde_json::Error),
    /// A key that only this program's JSON library understands.
    #[error("expected keys that every reader understands alike, found {0:?}")]
    ReservedKey(String),
    /// Another schema.
    #[error("expected schema {EVIDENCE_SET_SCHEMA}, found {0:?}")]
    Schema(String),
    /// A list is too long.
    #[error("expected at most {ENTRIES_MAX} {list}, found {found}")]
    Count {
        /// The list.
        list: &'static str,
        /// How many there are.
        found: usize,
    },
    /// An envelope cannot be read.
    #[error("in {list}: {error}")]
    Envelope {
        /// The list.
        list: &'static str,
        /// What is wrong.
        error: EnvelopeError,
    },
    /// Bytes that do not hash to what names them.
    #[error("expected {what} with digest {expected}, found bytes with digest {found}")]
    Bytes {
        /// Which bytes.
        what: &'static str,
        /// The digest that names them.
        expected: Digest,
        /// Their digest.
        found: Digest,
    },
    /// The published manifest cannot be read.
    #[error("the published manifest: {0}")]
    Manifest(#[from] ManifestError),
    /// The index does not list the subject.
    #[error("expected an index that lists {0}, found none of its entries to be that")]
    Index(Digest),
    /// A set about another image.
    #[error("expected evidence about {expected}, found evidence about {found}")]
    OtherSubject {
        /// What was asked for.
        expected: String,
        /// What the set is about.
        found: String,
    },
    /// No canonical form.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
}

/// An observation as it was filed. Whether it is late or unleased is derived, never read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filed {
    /// The signed observation.
    pub envelope: Envelope,
    /// Where the coordinator says that it stands in its journal. Orders nothing.
    pub position: Option<JournalPosition>,
}

/// All evidence about one published image. See the module's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceSet {
    /// Where the image was read from.
    pub source: Source,
    /// The published image.
    pub subject: Subject,
    /// The index in which it was found, as published.
    pub index: Option<Vec<u8>>,
    /// The published manifest.
    pub manifest: Vec<u8>,
    /// The published configuration, where it was fetched.
    pub config: Option<Vec<u8>>,
    /// What the publisher attached to the image and to its index.
    pub publisher: Vec<RawEvidence>,
    /// [`crate::record::OperatorRecord`]s.
    pub operators: Vec<Envelope>,
    /// [`crate::record::WorkerRecord`]s.
    pub workers: Vec<Envelope>,
    /// [`crate::record::JobAnnounce`]s.
    pub announces: Vec<Envelope>,
    /// [`crate::record::Lease`]s.
    pub leases: Vec<Envelope>,
    /// [`crate::observation::Observation`]s.
    pub observations: Vec<Filed>,
    /// [`crate::record::Receipt`]s.
    pub receipts: Vec<Envelope>,
    /// [`crate::record::KeyRevocation`]s.
    pub revocations: Vec<Envelope>,
    /// Signed verdicts, for people.
    pub verdicts: Vec<Envelope>,
    /// Published attestations, for people.
    pub attestations: Vec<Envelope>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSet {
    schema: String,
    source: Source,
    subject: Subject,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "base64_text::option")]
    index: Option<Vec<u8>>,
    #[serde(with = "base64_text")]
    manifest: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "base64_text::option")]
    config: Option<Vec<u8>>,
    publisher: Vec<RawEvidence>,
    operators: Vec<Value>,
    workers: Vec<Value>,
    announces: Vec<Value>,
    leases: Vec<Value>,
    observations: Vec<WireFiled>,
    receipts: Vec<Value>,
    revocations: Vec<Value>,
    verdicts: Vec<Value>,
    attestations: Vec<Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireFiled {
    envelope: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<JournalPosition>,
}

fn envelopes(list: &'static str, values: Vec<Value>) -> Result<Vec<Envelope>, EvidenceSetError> {
    let read = |value| {
        Envelope::from_value(value).map_err(|error| EvidenceSetError::Envelope { list, error })
    };
    values.into_iter().map(read).collect()
}

fn sort_envelopes(list: &mut Vec<Envelope>) {
    list.sort_by_cached_key(|envelope| (envelope.signed_digest(), envelope.to_json()));
    list.dedup();
}

fn values(list: &[Envelope]) -> Vec<Value> {
    list.iter().map(Envelope::to_value).collect()
}

impl EvidenceSet {
    /// A set that holds nothing but the published manifest.
    pub fn new(source: Source, subject: Subject, manifest: Vec<u8>) -> Self {
        Self {
            source,
            subject,
            index: None,
            manifest,
            config: None,
            publisher: Vec::new(),
            operators: Vec::new(),
            workers: Vec::new(),
            announces: Vec::new(),
            leases: Vec::new(),
            observations: Vec::new(),
            receipts: Vec::new(),
            revocations: Vec::new(),
            verdicts: Vec::new(),
            attestations: Vec::new(),
        }
    }

    /// Reads a set, checks it ([`EvidenceSet::check`]) and brings it into canonical order.
    pub fn parse(json: &[u8]) -> Result<Self, EvidenceSetError> {
        if json.len() > EVIDENCE_SET_BYTES_MAX {
            return Err(EvidenceSetError::TooLarge(json.len()));
        }
        if let Some(key) = crate::ambiguous_keys::reserved(json) {
            return Err(EvidenceSetError::ReservedKey(key));
        }
        let wire: WireSet = serde_json::from_slice(json)?;
        if wire.schema != EVIDENCE_SET_SCHEMA {
            return Err(EvidenceSetError::Schema(wire.schema.chars().take(200).collect()));
        }
        let filed = |wire: WireFiled| {
            let envelope = Envelope::from_value(wire.envelope)
                .map_err(|error| EvidenceSetError::Envelope { list: "observations", error })?;
            Ok(Filed { envelope, position: wire.position })
        };
        let observations = wire.observations.into_iter().map(filed);
        let mut set = Self {
            source: wire.source,
            subject: wire.subject,
            index: wire.index,
            manifest: wire.manifest,
            config: wire.config,
            publisher: wire.publisher,
            operators: envelopes("operators", wire.operators)?,
            workers: envelopes("workers", wire.workers)?,
            announces: envelopes("announces", wire.announces)?,
            leases: envelopes("leases", wire.leases)?,
            observations: observations.collect::<Result<_, EvidenceSetError>>()?,
            receipts: envelopes("receipts", wire.receipts)?,
            revocations: envelopes("revocations", wire.revocations)?,
            verdicts: envelopes("verdicts", wire.verdicts)?,
            attestations: envelopes("attestations", wire.attestations)?,
        };
        set.check()?;
        set.sort();
        Ok(set)
    }

    /// The bytes agree with the digests that name them, and every list is within its bound.
    pub fn check(&self) -> Result<(), EvidenceSetError> {
        for (list, found) in [
            ("publisher", self.publisher.len()),
            ("operators", self.operators.len()),
            ("workers", self.workers.len()),
            ("announces", self.announces.len()),
            ("leases", self.leases.len()),
            ("observations", self.observations.len()),
            ("receipts", self.receipts.len()),
            ("revocations", self.revocations.len()),
            ("verdicts", self.verdicts.len()),
            ("attestations", self.attestations.len()),
        ] {
            if found > ENTRIES_MAX {
                return Err(EvidenceSetError::Count { list, found });
            }
        }
        named("the published manifest", &self.subject.digest, &self.manifest)?;
        if let Some(config) = &self.config {
            if config.len() > CONFIG_BYTES_MAX {
                return Err(EvidenceSetError::TooLarge(config.len()));
            }
            let manifest = ImageManifest::parse(&self.manifest)?;
            named("the published configuration", &manifest.config.digest, config)?;
        }
        for evidence in &self.publisher {
            named("a publisher's evidence", &evidence.digest, &evidence.bytes)?;
        }
        match &self.index {
            Some(index) if !lists(index, &self.subject.digest)? => {
                Err(EvidenceSetError::Index(self.subject.digest))
            }
            _ => Ok(()),
        }
    }

    /// The digest of the index, if there is one.
    pub fn index_digest(&self) -> Option<Digest> {
        self.index.as_deref().map(Digest::of)
    }

    /// An error unless the set is about this image, read from this kind of source. To be called by
    /// whoever got the set from elsewhere.
    pub fn is_for(
        &self,
        source: Source,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), EvidenceSetError> {
        let name = |source: Source, repository: &Repository, digest: &Digest| {
            let prefix = if source == Source::Layout { "oci:" } else { "" };
            format!("{prefix}{repository}@{digest}")
        };
        let expected = name(source, repository, digest);
        let found = name(self.source, &self.subject.repository, &self.subject.digest);
        if expected == found {
            return Ok(());
        }
        Err(EvidenceSetError::OtherSubject { expected, found })
    }

    /// Takes in what another set about the same image knows. Which one takes in which changes
    /// nothing: of two different indexes the one with the smaller digest stays. Whoever judges has
    /// to know the index from the reference, or refuse two.
    pub fn merge(&mut self, other: Self) -> Result<(), EvidenceSetError> {
        if (self.source, &self.subject) != (other.source, &other.subject) {
            let name = |set: &Self| {
                let prefix = if set.source == Source::Layout { "oci:" } else { "" };
                format!("{prefix}{}", set.subject)
            };
            let (expected, found) = (name(self), name(&other));
            return Err(EvidenceSetError::OtherSubject { expected, found });
        }
        if self.index != other.index {
            let indexes = self.index.take().into_iter().chain(other.index);
            self.index = indexes.min_by_key(|index| Digest::of(index));
        }
        self.config = self.config.take().or(other.config);
        self.publisher.extend(other.publisher);
        self.operators.extend(other.operators);
        self.workers.extend(other.workers);
        self.announces.extend(other.announces);
        self.leases.extend(other.leases);
        self.observations.extend(other.observations);
        self.receipts.extend(other.receipts);
        self.revocations.extend(other.revocations);
        self.verdicts.extend(other.verdicts);
        self.attestations.extend(other.attestations);
        self.sort();
        self.check()
    }

    /// Brings every list into canonical order, without repetitions.
    pub fn sort(&mut self) {
        self.publisher.sort_by(|a, b| {
            (a.digest, a.attached_to, &a.uri, a.kind).cmp(&(
                b.digest,
                b.attached_to,
                &b.uri,
                b.kind,
            ))
        });
        self.publisher.dedup();
        for list in [
            &mut self.operators,
            &mut self.workers,
            &mut self.announces,
            &mut self.leases,
            &mut self.receipts,
            &mut self.revocations,
            &mut self.verdicts,
            &mut self.attestations,
        ] {
            sort_envelopes(list);
        }
        // A known position comes first, so that the repetition without one is dropped.
        self.observations.sort_by_cached_key(|filed| {
            let position = (filed.position.is_none(), filed.position);
            (filed.envelope.signed_digest(), filed.envelope.to_json(), position)
        });
        self.observations.dedup_by(|later, kept| later.envelope == kept.envelope);
    }

    /// The canonical bytes: the same for equal evidence, whatever its order.
    pub fn to_canonical_json(&self) -> Result<Vec<u8>, EvidenceSetError> {
        let mut set = self.clone();
        set.sort();
        let filed = |filed: &Filed| WireFiled {
            envelope: filed.envelope.to_value(),
            position: filed.position,
        };
        let wire = WireSet {
            schema: EVIDENCE_SET_SCHEMA.to_owned(),
            operators: values(&set.operators),
            workers: values(&set.workers),
            announces: values(&set.announces),
            leases: values(&set.leases),
            observations: set.observations.iter().map(filed).collect(),
            receipts: values(&set.receipts),
            revocations: values(&set.revocations),
            verdicts: values(&set.verdicts),
            attestations: values(&set.attestations),
            source: set.source,
            subject: set.subject,
            index: set.index,
            manifest: set.manifest,
            config: set.config,
            publisher: set.publisher,
        };
        let bytes = canonical::to_vec(&wire)?;
        if bytes.len() > EVIDENCE_SET_BYTES_MAX {
            return Err(EvidenceSetError::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }

    /// SHA-256 of the canonical bytes.
    pub fn digest(&self) -> Result<Digest, EvidenceSetError> {
        Ok(Digest::of(&self.to_canonical_json()?))
    }
}

fn named(what: &'static str, expected: &Digest, bytes: &[u8]) -> Result<(), EvidenceSetError> {
    let found = Digest::of(bytes);
    if found == *expected {
        return Ok(());
    }
    Err(EvidenceSetError::Bytes { what, expected: *expected, found })
}

/// True when one of the index's entries is this digest.
fn lists(index: &[u8], digest: &Digest) -> Result<bool, EvidenceSetError> {
    if index.len() > crate::image_manifest::MANIFEST_BYTES_MAX {
        return Err(EvidenceSetError::TooLarge(index.len()));
    }
    let index = parse_strict(index)?;
    let text = digest.to_string();
    let entries = index.get("manifests").and_then(Value::as_array);
    Ok(entries.is_some_and(|entries| {
        entries.iter().any(|entry| entry.get("digest").and_then(Value::as_str) == Some(&text))
    }))
}

#[cfg(test)]
mod tests;
