//! The evidence of one job, put together from the journal.
//!
//! What the publisher attached is kept once, at intake, as a set of evidence about the job (in
//! pieces, because a journal record is bounded); records, leases and observations are added as they
//! lie in the journal. Invariant: nothing is left out and nothing is made up: the set holds every
//! observation of the job, also those that do not count, every output of another job about the same
//! subject, and every record that binds one.

use super::{Core, roster::Roster};
use crate::{
    journal::{Kind, NewRecord, Stored},
    store::{Store, StoreError},
};
use attest::{
    Digest, Repository,
    dsse::Envelope,
    evidence_set::{EvidenceSet, EvidenceSetError, Filed},
    id::{JobId, JournalPosition, WorkerId},
    observation::Observation,
    record::{KeyRevocation, Receipt, Record},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Bytes of a set in one journal record, which holds at most 4 MiB.
const PIECE_BYTES: usize = 3 << 20;
/// Most bytes of explanations in one answer: five of the largest.
const EXPLANATIONS_BYTES_MAX: usize = 16 << 20;
/// Most bytes of the manifests that were left out of one index: BuildKit's take one or two KiB for
/// each platform, 1 MiB is room for 500 of them.
const LEFT_OUT_BYTES_MAX: usize = 1 << 20;
/// Records read at a time.
const PAGE: usize = 500;

/// Why evidence can't be put together.
#[derive(Debug, thiserror::Error)]
pub enum EvidenceError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A piece is missing or in the wrong place.
    #[error("expected {expected} pieces of the evidence of job {job}, found {found}")]
    Pieces {
        /// The job.
        job: JobId,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// The set that intake kept.
    #[error(transparent)]
    Set(#[from] EvidenceSetError),
    /// An envelope in the journal.
    #[error("record {position} of the journal is no envelope: {problem}")]
    Envelope {
        /// Where.
        position: u64,
        /// Why.
        problem: String,
    },
    /// A receipt could not be signed.
    #[error("the receipt for record {position} of the journal could not be signed: {problem}")]
    Receipt {
        /// Where.
        position: u64,
        /// Why.
        problem: String,
    },
}

/// An image as it was submitted: which jobs judge it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmittedImage {
    /// Where it is published.
    pub repository: Repository,
    /// The index, or the bare manifest.
    pub digest: Digest,
    /// Its platforms.
    pub jobs: Vec<SubmittedPlatform>,
    /// The tag that named it when it was submitted, the newest that is known. For research only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
}

/// One platform of a submitted image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmittedPlatform {
    /// The position in the index.
    pub entry: u32,
    /// The job.
    pub job: JobId,
}

/// What the record of a submitted image is about.
pub fn about_image(repository: &Repository, digest: &Digest) -> Digest {
    Digest::of(format!("image\n{repository}@{digest}").as_bytes())
}

/// One image in which a job's subject was found, when it was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// Where it is published.
    pub repository: Repository,
    /// The index, or the bare manifest.
    pub digest: Digest,
    /// Whether it is an index.
    pub is_index: bool,
}

/// What the records of a job's submissions are about: from the job they lead to each index that
/// shares its subject, and the last one says when it was submitted last.
pub fn about_submissions(job: &JobId) -> Digest {
    Digest::of(format!("submissions\n{job}").as_bytes())
}

/// The records that lead from the jobs of an image to it.
pub fn submissions(image: &SubmittedImage, is_index: bool) -> Vec<NewRecord> {
    let (repository, digest) = (image.repository.clone(), image.digest);
    let submission = Submission { repository, digest, is_index };
    // Text only: writing it as JSON cannot fail.
    let body = serde_json::to_vec(&submission).unwrap_or_default();
    let jobs: BTreeSet<JobId> = image.jobs.iter().map(|platform| platform.job).collect();
    let record = |job| NewRecord::new(Kind::EVIDENCE, about_submissions(&job), body.clone());
    jobs.into_iter().map(record).collect()
}

/// Reads every submission of a job; of a later version's records it does not know, none.
pub fn each_submission(
    store: &dyn Store,
    job: &JobId,
    mut with: impl FnMut(Submission),
) -> Result<(), StoreError> {
    let (of, mut from) = (about_submissions(job), JournalPosition(0));
    loop {
        let page = store.records_about(Kind::EVIDENCE, &of, from, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        from = last.position.next();
        page.iter()
            .filter_map(|stored| serde_json::from_slice(&stored.body).ok())
            .for_each(&mut with);
    }
}

/// When a job was submitted last, in the order of the journal.
pub fn submitted_at(store: &dyn Store, job: &JobId) -> Result<JournalPosition, StoreError> {
    let mut last = JournalPosition(0);
    for of in [about_submissions(job), job.0] {
        last = last.max(store.newest_about(Kind::EVIDENCE, &of)?.map_or(last, |s| s.position));
    }
    Ok(last)
}

/// What comes from outside is kept as it came only if it is JSON text: such text holds no zero byte,
/// so nothing in it can look like a frame of the journal to a recovery that searches behind a hole.
pub fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

/// The record that keeps a published document by its digest, unless it is kept already.
pub fn keep_document(store: &dyn Store, bytes: &[u8]) -> Result<Option<NewRecord>, StoreError> {
    let digest = Digest::of(bytes);
    let known = document(store, &digest)?.is_some();
    Ok((!known).then(|| NewRecord::new(Kind::EVIDENCE, digest, bytes)))
}

/// A published document that intake kept.
pub fn document(store: &dyn Store, digest: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
    let stored = store.newest_about(Kind::EVIDENCE, digest)?;
    Ok(stored.map(|stored| stored.body).filter(|body| Digest::of(body) == *digest))
}

/// The kept manifests of entries that intake left out of an index: attestation manifests.
pub fn left_out_of(store: &dyn Store, index: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
    // OCI's where it names none; whatever is no index has no entries to leave out.
    let read = |declared| oci::manifest::read_image_index(index, declared, "the index");
    let read = read(None).or_else(|_| read(Some(oci::media::OCI_INDEX)));
    let Ok(index) = read else { return Ok(Vec::new()) };
    let (mut found, mut left) = (Vec::new(), LEFT_OUT_BYTES_MAX);
    for entry in index.entries.iter().filter(|entry| oci::image::is_marked(entry)) {
        let Some(bytes) = document(store, &entry.digest)? else { continue };
        let Some(rest) = left.checked_sub(bytes.len()) else { break };
        left = rest;
        found.push(bytes);
    }
    Ok(found)
}

/// The records that keep an index and the manifests of the entries that were left out of it.
pub fn documents(store: &dyn Store, image: &oci::Image) -> Result<Vec<NewRecord>, StoreError> {
    if image.index.is_none() {
        return Ok(Vec::new());
    }
    let left_out = image.attestations.iter().map(|left_out| left_out.manifest.as_slice());
    // Too much of it, or not JSON: the index is judged all the same, and not attested.
    let fits = left_out.clone().map(<[u8]>::len).sum::<usize>() <= LEFT_OUT_BYTES_MAX
        && left_out.clone().all(is_json);
    let mut records = Vec::new();
    for bytes in std::iter::once(image.root.bytes.as_slice()).chain(left_out.filter(|_| fits)) {
        records.extend(keep_document(store, bytes)?);
    }
    Ok(records)
}

/// The records that keep what the publisher attached, about the job.
pub fn pieces(job: &JobId, set: &EvidenceSet) -> Result<Vec<NewRecord>, EvidenceSetError> {
    let json = set.to_canonical_json()?;
    let chunks: Vec<&[u8]> = json.chunks(PIECE_BYTES).collect();
    let count = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
    let piece = |(i, chunk): (usize, &&[u8])| {
        let mut body = Vec::with_capacity(chunk.len() + 8);
        body.extend_from_slice(&u32::try_from(i).unwrap_or(u32::MAX).to_le_bytes());
        body.extend_from_slice(&count.to_le_bytes());
        body.extend_from_slice(chunk);
        NewRecord::new(Kind::EVIDENCE, job.0, body)
    };
    Ok(chunks.iter().enumerate().map(piece).collect())
}

/// The newest whole set that intake kept for a job.
fn kept(store: &dyn Store, job: &JobId) -> Result<Option<EvidenceSet>, EvidenceError> {
    let records = about(store, Kind::EVIDENCE, &job.0)?;
    let Some(last) = records.last() else { return Ok(None) };
    let number = |stored: &Stored, at: usize| {
        let bytes = stored.body.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes) as usize)
    };
    let count = number(last, 4).unwrap_or(0);
    let found = records.len();
    let missing = || EvidenceError::Pieces { job: *job, expected: count, found };
    let start = found.checked_sub(count).ok_or_else(missing)?;
    let mut json = Vec::new();
    for (i, stored) in records[start..].iter().enumerate() {
        if number(stored, 0) != Some(i) {
            return Err(missing());
        }
        json.extend_from_slice(stored.body.get(8..).unwrap_or_default());
    }
    Ok(Some(EvidenceSet::parse(&json)?))
}

/// Everything that is known about a job's image.
pub fn set_of(core: &Core, job: &JobId) -> Result<Option<EvidenceSet>, EvidenceError> {
    let store = core.store.as_ref();
    let Some(mut set) = kept(store, job)? else { return Ok(None) };
    let envelopes = |kind| -> Result<Vec<Envelope>, EvidenceError> {
        about(store, kind, &job.0)?
            .iter()
            .map(|stored| read(&stored.body, stored.position))
            .collect()
    };
    set.announces = envelopes(Kind::ANNOUNCE)?;
    set.leases = envelopes(Kind::LEASE)?;
    set.verdicts = envelopes(Kind::VERDICT)?;
    let filed = about(store, Kind::OBSERVATION, &job.0)?;
    for stored in &filed {
        let envelope = read(&stored.body, stored.position)?;
        set.observations.push(Filed { envelope, position: Some(stored.position) });
    }
    add_outputs_of_other_jobs(&mut set, store, job)?;
    add_roster(&mut set, &core.roster());
    add_receipts(&mut set, core, &filed)?;
    set.sort();
    Ok(Some(set))
}

/// What was built for the same subject under other recipes: one more statement by the publisher
/// makes another job, and the dissent of an operator is about the subject.
fn add_outputs_of_other_jobs(
    set: &mut EvidenceSet,
    store: &dyn Store,
    job: &JobId,
) -> Result<(), EvidenceError> {
    let jobs = store.jobs_of(&set.subject.repository, &set.subject.digest)?;
    for other in jobs.iter().filter(|other| *other != job) {
        let same = store.job(other)?.is_some_and(|other| other.spec.subject == set.subject);
        if !same {
            continue;
        }
        for stored in about(store, Kind::OBSERVATION, &other.0)? {
            let envelope = read(&stored.body, stored.position)?;
            let built = Observation::read(&envelope).is_ok_and(|o| o.output().is_some());
            if built && set.observations.len() < attest::evidence_set::ENTRIES_MAX {
                set.observations.push(Filed { envelope, position: Some(stored.position) });
            }
        }
    }
    Ok(())
}

/// Receipts for what revoked keys signed, where the revocation says since when they are not to be
/// believed: a judge counts what the coordinator had before. Others need none, and carry none.
fn add_receipts(set: &mut EvidenceSet, core: &Core, filed: &[Stored]) -> Result<(), EvidenceError> {
    let revoked = set.revocations.iter().filter_map(|r| KeyRevocation::read_unverified(r).ok());
    let revoked: Vec<KeyRevocation> =
        revoked.filter(|revoked| revoked.compromised_since.is_some()).collect();
    if revoked.is_empty() {
        return Ok(());
    }
    for stored in filed {
        let envelope = read(&stored.body, stored.position)?;
        let Ok(observation) = Observation::read(&envelope) else { continue };
        let concerns = |revoked: &KeyRevocation| {
            revoked.key == observation.worker.0 || revoked.operator == observation.operator
        };
        if !revoked.iter().any(concerns) {
            continue;
        }
        let receipt = Receipt {
            observation: envelope.observation_id(),
            job: observation.job,
            lease: observation.lease,
            position: stored.position,
            received_at: stored.time,
            log_index: None,
        };
        let signed = receipt.sign(&core.loaded.verdict_key).map_err(|error| {
            EvidenceError::Receipt { position: stored.position.0, problem: error.to_string() }
        })?;
        set.receipts.push(signed);
    }
    Ok(())
}

/// The records that bind the observations of the set, and no others: with ten thousand workers
/// enrolled, every judgement would read ten thousand records, and a set holds at most
/// [`attest::evidence_set::ENTRIES_MAX`].
fn add_roster(set: &mut EvidenceSet, roster: &Roster) {
    let read = set.observations.iter().filter_map(|o| Observation::read(&o.envelope).ok());
    let named: BTreeSet<WorkerId> = read.map(|observation| observation.worker).collect();
    let mut keys: BTreeSet<Digest> = named.iter().map(|worker| worker.0).collect();
    let mut operators = BTreeSet::new();
    for worker in named.iter().filter_map(|worker| roster.workers.get(worker)) {
        set.workers.push(worker.record.clone());
        operators.insert(&worker.operator);
    }
    for operator in operators.into_iter().filter_map(|name| roster.operators.get(name)) {
        set.operators.push(operator.record.clone());
        keys.insert(operator.root_key.id());
    }
    let binds = |envelope: &&Envelope| {
        KeyRevocation::read_unverified(envelope).is_ok_and(|revoked| keys.contains(&revoked.key))
    };
    set.revocations = roster.revocations.iter().filter(binds).cloned().collect();
}

fn read(body: &[u8], position: JournalPosition) -> Result<Envelope, EvidenceError> {
    Envelope::parse(body).map_err(|error| EvidenceError::Envelope {
        position: position.0,
        problem: error.to_string(),
    })
}

fn about(store: &dyn Store, kind: Kind, about: &Digest) -> Result<Vec<Stored>, StoreError> {
    let (mut found, mut from) = (Vec::new(), JournalPosition(0));
    loop {
        let page = store.records_about(kind, about, from, PAGE)?;
        let Some(last) = page.last() else { return Ok(found) };
        from = last.position.next();
        let whole = page.len() < PAGE;
        found.extend(page);
        if whole {
            return Ok(found);
        }
    }
}

/// The explanations that the observations of a set name, as far as they were sent, each once.
pub fn explanations(core: &Core, set: &EvidenceSet) -> Result<Vec<Vec<u8>>, StoreError> {
    let named = set
        .observations
        .iter()
        .filter_map(|filed| Observation::read(&filed.envelope).ok()?.explanation);
    let (mut found, mut left) = (Vec::new(), EXPLANATIONS_BYTES_MAX);
    for digest in named.collect::<BTreeSet<_>>() {
        let Some(stored) = core.store.newest_about(Kind::EVIDENCE, &digest)? else { continue };
        if stored.body.len() <= left && Digest::of(&stored.body) == digest {
            left -= stored.body.len();
            found.push(stored.body);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
