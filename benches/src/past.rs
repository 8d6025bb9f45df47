//! A long past, written straight into a journal: jobs with three observations an attempt, judged,
//! and looked at again later.
//!
//! Every record is of the kind and size that a coordinator writes (evidence, announcement, leases,
//! signed envelopes, verdicts, transitions). Envelopes are really signed, but only
//! [`ENVELOPES`] of them: signing a million would measure the generator.

use crate::{
    fleet::{self, Member},
    image::{self, Image, Permission},
};
use anyhow::{Context, Result};
use attest::{
    Digest,
    id::{Attempt, Fence, JobId, JournalPosition, LeaseId, ObservationId},
};
use coordinator::{
    daemon::{evidence, former_policy, publish::indexes},
    journal::{Group, Kind, Log, NewRecord, Options, RealDisk},
    queue::{
        Answer, Change, Class, Grant, JobSpec, Millis, ReopenReason, Role, Said, Tenant, Transition,
    },
    setup::Loaded,
    store::JOURNAL_FOLDER,
};
use std::path::Path;

/// Envelopes that are signed.
const ENVELOPES: usize = 512;
/// Observations of one attempt.
const WANTED: u64 = 3;
/// Attempts of an ordinary job, and of the image that is looked at daily.
const ATTEMPTS: u64 = 3;
const ATTEMPTS_OF_THE_FAMOUS: u64 = 80;
/// Bytes that are synced at a time.
const SYNC_BYTES: usize = 64 << 20;

/// What was written.
pub struct Past {
    /// Observations.
    pub observations: u64,
    /// Images: numbers from 0, of which 0 is the famous one.
    pub images: u64,
    /// Records in the journal.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

struct Writer {
    log: Log<RealDisk>,
    clock: u64,
    waiting: Vec<Group>,
    bytes: usize,
    past: Past,
}

impl Writer {
    fn group(&mut self, before: Vec<NewRecord>, job: JobId, change: Change) -> Result<()> {
        self.clock += 1;
        let step = Transition { at: Millis(self.clock), job, change };
        let mut records = before;
        records.push(NewRecord::new(Kind::TRANSITION, job.0, step.to_json()));
        self.append(records)
    }

    fn append(&mut self, records: Vec<NewRecord>) -> Result<()> {
        self.past.records += records.len() as u64;
        let group = Group { records, time: image::now() };
        self.bytes += group.bytes();
        self.waiting.push(group);
        if self.bytes >= SYNC_BYTES { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> Result<()> {
        self.past.bytes += self.bytes as u64;
        self.bytes = 0;
        let written = self.log.write(std::mem::take(&mut self.waiting));
        if let Some(error) = written.failed {
            return Err(error.into());
        }
        self.log.sync()?;
        Ok(())
    }
}

/// Writes at least so many observations into the journal of this folder's coordinator.
pub fn write(folder: &Path, members: &[Member], observations: u64) -> Result<Past> {
    let loaded = Loaded::read(&fleet::home(folder))?;
    let publisher = fleet::publisher(folder)?;
    let samples = samples(&publisher, &loaded, members)?;
    let disk = RealDisk::new(&loaded.data_folder().join(JOURNAL_FOLDER))?;
    let (log, recovery) = Log::open(disk, Options::new(rand::random()))?;
    let past = Past { observations: 0, images: 0, records: recovery.end.0, bytes: 0 };
    let mut writer = Writer { log, clock: 1, waiting: Vec::new(), bytes: 0, past };
    let mut number = 0;
    while writer.past.observations < observations {
        job(&mut writer, number, &samples, members)?;
        number += 1;
    }
    // As after any stop: the next start has no verdicts of former policies to look for, and no indexes
    // that nobody looked at. Without this it would read all of the past beside the questions.
    writer.append(vec![
        former_policy::every_verdict_is_by(loaded.policy.digest()),
        indexes::everything_was_looked_at(JournalPosition(writer.past.records)),
    ])?;
    writer.sync()?;
    writer.past.images = number;
    Ok(writer.past)
}

/// Bodies of real records.
struct Samples {
    envelopes: Vec<Vec<u8>>,
    evidence: Vec<u8>,
    lease: Vec<u8>,
    verdict: Vec<u8>,
}

fn samples(
    publisher: &attest::key::SigningKey,
    loaded: &Loaded,
    members: &[Member],
) -> Result<Samples> {
    let sample = Image::new(0, publisher, &loaded.policy)?;
    let id = JobId(Digest::of(b"a job"));
    let pieces = evidence::pieces(&id, &sample.set)?;
    let mut envelopes = Vec::with_capacity(ENVELOPES);
    for n in 0..ENVELOPES as u64 {
        let member = members.get(n as usize % members.len()).context("no workers")?;
        let mut lease = [0; 16];
        lease[..8].copy_from_slice(&n.to_be_bytes());
        let permission =
            Permission { job: id, attempt: Attempt(1), lease: LeaseId(lease), fence: Fence(n + 1) };
        let who = (&member.operator, &member.key);
        let manifest = image::manifest(n)?;
        let envelope =
            image::observed(&sample.subject, manifest, &sample.recipes, &permission, who)?;
        envelopes.push(envelope.to_json());
    }
    let evidence = pieces.into_iter().next().context("no evidence")?.body;
    let judgement = attest::verdict::judge(&loaded.policy, &sample.set);
    let key = &loaded.verdict_key;
    let verdict = attest::vsa::VerdictRecord::sign(&judgement, image::now(), key)?.to_json();
    // A lease's or announcement's envelope takes 800 bytes.
    Ok(Samples { envelopes, evidence, lease: vec![b'l'; 800], verdict })
}

fn job(writer: &mut Writer, number: u64, samples: &Samples, members: &[Member]) -> Result<()> {
    let subject = image::subject(number, 100)?;
    let recipe = Digest::of(&number.to_be_bytes());
    let manifest = subject.digest;
    let spec = JobSpec::new(subject, vec![recipe], "apko", 0, WANTED as u32, 3_600_000)?;
    let id = spec.id;
    let tenant = Tenant(format!("tenant-{}", number % 50));
    let record = |kind, body: &[u8]| NewRecord::new(kind, id.0, body);
    let opened =
        || vec![record(Kind::EVIDENCE, &samples.evidence), record(Kind::ANNOUNCE, &samples.lease)];
    let announced = Change::Announced { spec, tenant, class: Class::Push, rank: writer.clock };
    writer.group(opened(), id, announced)?;
    let attempts = if number == 0 { ATTEMPTS_OF_THE_FAMOUS } else { ATTEMPTS };
    let mut fence = 0;
    for attempt in 1..=attempts {
        if attempt > 1 {
            let again = Change::Reopened {
                attempt: Attempt(attempt),
                wanted: WANTED as u32,
                without: vec![],
                class: Class::Recheck,
                rank: writer.clock,
                why: ReopenReason::Recheck,
                by: None,
            };
            writer.group(vec![record(Kind::ANNOUNCE, &samples.lease)], id, again)?;
        }
        for slot in 0..WANTED {
            fence += 1;
            let n = writer.past.observations;
            let member = &members[(n as usize + slot as usize) % members.len()];
            let mut lease = [0; 16];
            lease[..8].copy_from_slice(&n.to_be_bytes());
            let grant = Grant {
                lease: LeaseId(lease),
                fence: Fence(fence),
                worker: member.id(),
                operator: member.operator.clone(),
            };
            observe(writer, (id, attempt, slot as u32), grant, manifest, samples, &record)?;
        }
        let outcome = "reproduced".to_owned();
        let verdict = vec![record(Kind::VERDICT, &samples.verdict)];
        writer.group(verdict, id, Change::Judged { outcome })?;
    }
    Ok(())
}

fn observe(
    writer: &mut Writer,
    (id, attempt, slot): (JobId, u64, u32),
    grant: Grant,
    manifest: Digest,
    samples: &Samples,
    record: &impl Fn(Kind, &[u8]) -> NewRecord,
) -> Result<()> {
    let n = writer.past.observations;
    writer.past.observations += 1;
    let until = Millis(writer.clock + 30_000);
    let (lease, fence) = (grant.lease, grant.fence);
    let (worker, operator) = (grant.worker, grant.operator.clone());
    let offered = Change::Offered { slot, grant, until };
    writer.group(vec![record(Kind::LEASE, &samples.lease)], id, offered)?;
    let deadline = Millis(writer.clock + 3_600_000);
    writer.group(vec![], id, Change::Leased { slot, fence, deadline, grace_ms: 600_000 })?;
    let answer = Answer {
        observation: ObservationId(Digest::of(&[b"o", &n.to_be_bytes()[..]].concat())),
        operator,
        worker,
        attempt: Attempt(attempt),
        lease,
        fence,
        said: Said::Output { manifest },
        role: Role::Counted,
        duration_ms: 60_000,
        bytes: 0,
    };
    let envelope = &samples.envelopes[n as usize % samples.envelopes.len()];
    writer.group(vec![record(Kind::OBSERVATION, envelope)], id, Change::Observed { slot, answer })
}
