//! Durable transitions in process: many callers against one that waits for each sync.
//!
//! Each caller takes jobs through their whole life (announced, offered, leased, observed, judged):
//! five transitions, each answered only when it is on disk and in the index. Beside it, in the same
//! run, other stores doing as many durable writes of the same size.

use crate::{arguments::Arguments, fleet, image, report::Report, rivals};
use anyhow::{Context, Result};
use attest::{
    Digest,
    id::{ObservationId, OperatorId, WorkerId},
};
use coordinator::{
    journal::Options,
    queue::{
        Class, Event, JobSpec, Limits, Need, Rate, Reply, Report as Said, Said as Outcome,
        Submission, Tenant,
    },
    store::{self, FileStore, NoNotary, Parts, Store, SystemSurroundings, nothing},
};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Callers that share a sync.
const CALLERS: usize = 256;
/// Bytes of an observation's envelope: a small image of apko.
const ENVELOPE_BYTES: usize = 4096;

/// Runs it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let folder = arguments.folder()?;
    let time = Duration::from_secs(arguments.get("seconds", 10u64)?);
    let mut report = Report::new("durable transitions in process");
    let many = assay(&folder, CALLERS, time)?;
    let one = assay(&folder, 1, time)?;
    report.add(format!("{CALLERS} callers"), many.rate, "/s", "aim 20000");
    report.add("1 caller that waits for each sync", one.rate, "/s", "");
    report.add("ratio", many.rate / one.rate, "times", ">= 20");
    report.add("transitions of one fdatasync, 256 callers", many.of_one_sync, "", "");
    report.add("fdatasync, mean of the one caller", one.sync_ms, "ms", "");
    for rival in rivals::all(&folder, CALLERS, time)? {
        report.add(rival.name, rival.rate, "/s", rival.remark);
    }
    report.print()
}

struct Measured {
    rate: f64,
    of_one_sync: f64,
    sync_ms: f64,
}

fn assay(folder: &Path, callers: usize, time: Duration) -> Result<Measured> {
    let data = tempfile::tempdir_in(folder)?;
    let open = Rate { burst: u64::MAX / 4000, per_second: 1_000_000 };
    let limits = Limits { announce: open, submit: open, ..fleet::limits() };
    let parts = Parts {
        limits,
        notary: Arc::new(NoNotary),
        around: Arc::new(SystemSurroundings::default()),
        on_fatal: Box::new(|error| panic!("the journal ended: {error}")),
    };
    let opened = store::open(data.path(), Options::new(rand::random()), parts, |_, _| {})?;
    let store = Arc::new(opened.store);
    let done = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Runtime::new()?;
    let before = store.sync_totals();
    let started = Instant::now();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..callers)
            .map(|caller| {
                let (store, done) = (Arc::clone(&store), Arc::clone(&done));
                tokio::spawn(async move { live(&store, caller, started + time, &done).await })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        anyhow::Ok(())
    })?;
    let (seconds, after) = (started.elapsed().as_secs_f64(), store.sync_totals());
    let (done, syncs) = (done.load(Ordering::Relaxed), after.syncs - before.syncs);
    let spent = (after.nanoseconds - before.nanoseconds) as f64 / 1e6;
    store.close();
    Ok(Measured {
        rate: done as f64 / seconds,
        of_one_sync: done as f64 / syncs.max(1) as f64,
        sync_ms: spent / syncs.max(1) as f64,
    })
}

/// Jobs from their announcement to their judgement, until the time is over.
async fn live(store: &FileStore, caller: usize, end: Instant, done: &AtomicU64) -> Result<()> {
    let worker = WorkerId(Digest::of(format!("worker {caller}").as_bytes()));
    let operator: OperatorId = format!("operator-{caller}").parse()?;
    let report = Said {
        worker,
        operator: operator.clone(),
        architectures: vec!["amd64".into()],
        rebuilders: vec!["apko".into()],
        memory_mib: 0,
        slots_free: 1,
        draining: false,
        leases: vec![],
        waits: false,
    };
    let mut number = caller as u64;
    while Instant::now() < end {
        number += CALLERS as u64;
        let subject = image::subject(number, 100)?;
        let recipe = Digest::of(&number.to_be_bytes());
        let spec = JobSpec::new(subject, vec![recipe], "apko", 0, 1, 3_600_000)?;
        let tenant = Tenant(format!("tenant-{}", caller % 16));
        let count = || done.fetch_add(1, Ordering::Relaxed);
        store.act(Event::Announce { spec, tenant, class: Class::Push }, nothing()).await?;
        count();
        let Reply::Desired(desired) = store.act(Event::Sync(report.clone()), nothing()).await?
        else {
            continue;
        };
        // Not always the job that was just announced: any that waits.
        let Some(offer) = desired.offers.first() else { continue };
        count();
        let (lease, fence) = (offer.grant.lease, offer.grant.fence);
        store.act(Event::Accept { worker, lease, fence }, nothing()).await?;
        count();
        let submission = Submission {
            job: offer.job,
            attempt: offer.attempt,
            lease,
            fence,
            worker,
            operator: operator.clone(),
            observation: ObservationId(Digest::of(&lease.0)),
            said: Outcome::Output { manifest: recipe },
            duration_ms: 1000,
            bytes: ENVELOPE_BYTES as u64,
        };
        store.complete(submission, vec![b'x'; ENVELOPE_BYTES]).await?;
        count();
        let job = store.job(&offer.job)?.context("expected the job")?;
        let judged = Event::Judged {
            job: offer.job,
            attempt: job.attempt,
            answers: job.answers.len(),
            outcome: "reproduced".into(),
            need: Need::Enough,
        };
        store.act(judged, nothing()).await?;
        count();
    }
    Ok(())
}
