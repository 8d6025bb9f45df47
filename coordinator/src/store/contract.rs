//! What every store must do, whatever it is made of: each backend runs this whole suite.
//!
//! Invariant: tests see a store through [`Store`] only. [`Backend::open`] may be called again after
//! the store before was dropped, and must then show everything that was acknowledged.

use super::*;
use crate::journal::{Kind, NewRecord};
use crate::queue::*;
use attest::{
    Digest, Platform, Subject,
    id::{Attempt, Fence, JobId, LeaseId, ObservationId, OperatorId, WorkerId},
    time::Timestamp,
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Something that opens stores over the same, lasting data.
pub(crate) trait Backend {
    type S: Store;
    fn open(&self, clock: Arc<TestClock>) -> Self::S;
    /// Throws the index away, if there is one.
    fn lose_index(&self);
}

/// A clock that is moved by hand, and randomness that can be repeated.
#[derive(Debug, Default)]
pub(crate) struct TestClock {
    now: AtomicU64,
    draws: AtomicU64,
}

impl TestClock {
    pub(crate) fn advance(&self, ms: u64) {
        self.now.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Surroundings for TestClock {
    fn now(&self) -> Millis {
        Millis(self.now.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Timestamp {
        Timestamp::from_unix(1_800_000_000 + (self.now().0 / 1000) as i64).unwrap()
    }

    fn entropy(&self) -> Entropy {
        let draw = self.draws.fetch_add(1, Ordering::SeqCst);
        Entropy(*Digest::of(&draw.to_le_bytes()).raw())
    }

    fn go_on_from(&self, at: Millis) {
        self.now.fetch_max(at.0, Ordering::SeqCst);
    }
}

/// Signs leases with nothing, so that the place of the record can be seen.
pub(crate) struct PlainNotary;

impl Notary for PlainNotary {
    fn lease(&self, _: &Job, offer: &Offer, _: Timestamp) -> Option<Vec<u8>> {
        Some(format!("lease {} fence {}", offer.grant.lease, offer.grant.fence).into_bytes())
    }
}

pub(crate) fn spec(name: &str, wanted: u32) -> JobSpec {
    let subject = Subject {
        repository: "registry.example/demo/hello".parse().unwrap(),
        digest: Digest::of(name.as_bytes()),
        platform: Platform::linux("amd64"),
    };
    JobSpec::new(subject, vec![Digest::of(b"recipe")], "apko", 0, wanted, 3_600_000).unwrap()
}

pub(crate) fn worker(n: u32) -> WorkerId {
    WorkerId(Digest::of(format!("worker {n}").as_bytes()))
}

pub(crate) fn operator(n: u32) -> OperatorId {
    format!("operator-{n}").parse().unwrap()
}

pub(crate) fn report(n: u32, leases: Vec<(LeaseId, Fence)>) -> Report {
    Report {
        worker: worker(n),
        operator: operator(n),
        architectures: vec!["amd64".into()],
        rebuilders: vec!["apko".into()],
        memory_mib: 0,
        slots_free: 4,
        draining: false,
        leases,
        waits: false,
    }
}

pub(crate) fn submission(n: u32, offer: &Offer, said: Said) -> (Submission, Vec<u8>) {
    let envelope = format!("{n} {} {:?}", offer.grant.lease, said).into_bytes();
    let submission = Submission {
        job: offer.job,
        attempt: offer.attempt,
        lease: offer.grant.lease,
        fence: offer.grant.fence,
        worker: worker(n),
        operator: operator(n),
        observation: ObservationId(Digest::of(&envelope)),
        said,
        duration_ms: 1000,
        bytes: envelope.len() as u64,
    };
    (submission, envelope)
}

pub(crate) fn output(what: &str) -> Said {
    Said::Output { manifest: Digest::of(what.as_bytes()) }
}

/// A store with a few words for what tests do all the time.
struct At<'a, S: Store>(&'a S);

impl<S: Store> At<'_, S> {
    async fn announce(&self, name: &str, wanted: u32) -> JobId {
        let event = Event::Announce {
            spec: spec(name, wanted),
            tenant: Tenant("ci".into()),
            class: Class::Push,
        };
        let attach: Attach = Box::new(|job| {
            let body = format!("announce attempt {}", job.attempt);
            vec![NewRecord::new(Kind::ANNOUNCE, job.id().0, body)]
        });
        let Reply::Announced { job, .. } = self.0.act(event, attach).await.unwrap() else {
            panic!("expected an announcement")
        };
        job
    }

    async fn offers(&self, n: u32) -> Vec<Offer> {
        match self.0.act(Event::Sync(report(n, vec![])), nothing()).await.unwrap() {
            Reply::Desired(desired) => desired.offers,
            other => panic!("expected offers, found {other:?}"),
        }
    }

    async fn accept(&self, n: u32, offer: &Offer) -> Result<Reply, StoreError> {
        let (lease, fence) = (offer.grant.lease, offer.grant.fence);
        self.0.act(Event::Accept { worker: worker(n), lease, fence }, nothing()).await
    }

    /// The worker takes its first offer and answers it.
    async fn work(&self, n: u32, said: Said) -> (Offer, Receipt) {
        let offer = self.offers(n).await.remove(0);
        self.accept(n, &offer).await.unwrap();
        let (submission, envelope) = submission(n, &offer, said);
        let receipt = self.0.complete(submission, envelope).await.unwrap();
        (offer, receipt)
    }

    async fn judge(&self, job: JobId, need: Need) -> Result<Reply, StoreError> {
        let state = self.0.job(&job).unwrap().unwrap();
        let (attempt, answers) = (state.attempt, state.answers.len());
        let event = Event::Judged { job, attempt, answers, outcome: "reproduced".into(), need };
        let attach: Attach =
            Box::new(move |job| vec![NewRecord::new(Kind::VERDICT, job.id().0, *b"verdict")]);
        self.0.act(event, attach).await
    }

    /// Everything that can be asked about a job, as bytes.
    fn answers(&self, job: &JobId) -> Vec<u8> {
        let state = self.0.job(job).unwrap().unwrap();
        let subject = state.spec.subject.clone();
        let start = JournalPosition(0);
        let rows = self.0.history_of(&subject.repository, Some(&subject.digest), start, 1000);
        let all = self.0.history_of(&subject.repository, None, start, 1000).unwrap();
        let mut out = format!("{state:?}").into_bytes();
        for row in rows.unwrap().into_iter().chain(all).chain(self.0.export(start, 1000).unwrap()) {
            out.extend(row.encode());
        }
        for kind in Kind::ALL {
            for record in self.0.records_about(*kind, &job.0, start, 1000).unwrap() {
                out.extend(record.position.0.to_be_bytes());
                out.extend(record.body);
            }
        }
        out.extend(
            serde_json::to_vec(&self.0.jobs_of(&subject.repository, &subject.digest).unwrap())
                .unwrap(),
        );
        out
    }
}

/// Runs the suite; `fresh` makes a backend without data.
pub(crate) fn run<B: Backend>(fresh: impl Fn() -> B) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        a_job_from_announcement_to_verdict(&fresh()).await;
        every_verdict_is_history(&fresh()).await;
        what_comes_twice_late_or_unasked(&fresh()).await;
        coalescing_and_unparking(&fresh()).await;
        records_beside_the_queue(&fresh()).await;
        publications_wait_until_they_arrived(&fresh()).await;
        leases_survive_a_restart(&fresh()).await;
        a_refused_decision_leaves_no_trace(&fresh()).await;
        many_at_once(&fresh()).await;
        what_was_filed_long_ago_is_known(&fresh()).await;
        a_job_at_rest_has_an_age(&fresh()).await;
    });
}

async fn a_job_from_announcement_to_verdict<B: Backend>(backend: &B) {
    let clock = Arc::new(TestClock::default());
    let store = backend.open(clock.clone());
    let at = At(&store);
    let mut notices = store.notices();
    let job = at.announce("m", 2).await;
    let (offer, receipt) = at.work(1, output("same")).await;
    assert_eq!(receipt.filed, Filing { role: Role::Counted, known: false });
    assert!(store.due().is_empty());
    assert!(at.offers(1).await.is_empty(), "an operator has one part in an attempt");
    let (second, _) = at.work(2, output("same")).await;
    assert!(second.grant.fence > offer.grant.fence);
    let judge = Notice::Judge { job, attempt: Attempt(1), due: Due::Complete };
    assert_eq!(store.due(), vec![judge.clone()]);
    assert_eq!(notices.try_recv().unwrap(), judge);
    let lease = store.lease_record(&offer.grant.lease).unwrap().unwrap();
    let signed = format!("lease {} fence {}", offer.grant.lease, offer.grant.fence);
    assert_eq!((lease.kind, lease.body), (Kind::LEASE, signed.into_bytes()));
    at.judge(job, Need::Enough).await.unwrap();
    assert!(store.due().is_empty());
    assert!(matches!(store.job(&job).unwrap().unwrap().phase, Phase::Judged { .. }));
    let rows = store.export(JournalPosition(0), 10).unwrap();
    assert_eq!(rows.len(), 3, "two observations and a verdict: {rows:?}");
    assert_eq!(rows[0].position, receipt.position);
    let page = store.export(JournalPosition(rows[0].position.0 + 1), 1).unwrap();
    assert_eq!(page, rows[1..2]);
    assert_eq!(store.newest_about(Kind::VERDICT, &job.0).unwrap().unwrap().body, b"verdict");
    let before = at.answers(&job);
    drop(store);
    let store = backend.open(clock.clone());
    assert_eq!(At(&store).answers(&job), before, "after a restart");
    drop(store);
    backend.lose_index();
    let store = backend.open(clock);
    assert_eq!(At(&store).answers(&job), before, "after the index was lost");
    assert!(store.due().is_empty());
}

/// Also one that leaves its job open, that opens it again, or that parks it.
async fn every_verdict_is_history<B: Backend>(backend: &B) {
    let clock = Arc::new(TestClock::default());
    let store = backend.open(clock.clone());
    let at = At(&store);
    let job = at.announce("m", 1).await;
    let reopen = || Need::Reopen { wanted: 1, without: vec![] };
    for (n, need) in (1..).zip([Need::More(1), reopen(), Need::Enough]) {
        at.work(n, output("same")).await;
        at.judge(job, need).await.unwrap();
    }
    // An administrator unsettles it; then there is dissent until it is parked.
    at.judge(job, reopen()).await.unwrap();
    for n in 4..7 {
        at.work(n, output("same")).await;
        at.judge(job, reopen()).await.unwrap();
    }
    assert!(matches!(store.job(&job).unwrap().unwrap().phase, Phase::Parked { .. }));
    let verdicts = store.records_about(Kind::VERDICT, &job.0, JournalPosition(0), 10).unwrap();
    let positions: Vec<_> = verdicts.iter().map(|stored| stored.position).collect();
    let rows = store.export(JournalPosition(0), 100).unwrap();
    let said = rows.iter().filter_map(|row| match &row.event {
        HistoryEvent::Verdict { outcome } => Some((row.position, row.attempt.0, outcome.clone())),
        HistoryEvent::Observation { .. } => None,
    });
    let (said, settled) = (said.collect::<Vec<_>>(), Some("reproduced".to_owned()));
    let expected = [(1, None), (1, None), (2, settled), (2, None), (3, None), (4, None), (5, None)];
    assert_eq!(said.len(), expected.len(), "{said:?}");
    let expected = positions.into_iter().zip(expected).map(|(at, (n, said))| (at, n, said));
    assert_eq!(said, expected.collect::<Vec<_>>());
    let before = at.answers(&job);
    drop(store);
    backend.lose_index();
    assert_eq!(At(&backend.open(clock)).answers(&job), before, "after the index was lost");
}

async fn what_comes_twice_late_or_unasked<B: Backend>(backend: &B) {
    let clock = Arc::new(TestClock::default());
    let store = backend.open(clock.clone());
    let at = At(&store);
    let job = at.announce("m", 3).await;
    let (offer, receipt) = at.work(1, output("a")).await;
    let (same, envelope) = submission(1, &offer, output("a"));
    let again = store.complete(same.clone(), envelope.clone()).await.unwrap();
    assert_eq!(again.position, receipt.position);
    assert_eq!(again.filed, Filing { role: Role::Counted, known: true });
    assert_eq!(store.observation(&same.observation).unwrap().unwrap().body, envelope);
    let (other, envelope) = submission(1, &offer, output("b"));
    let filed = store.complete(other, envelope).await.unwrap().filed;
    assert_eq!(filed.role, Role::Equivocation);
    assert_eq!(store.job(&job).unwrap().unwrap().excluded, vec![operator(1)]);
    // Somebody without a lease, and somebody with a wrong fence.
    let (unasked, envelope) = submission(7, &offer, output("c"));
    assert_eq!(store.complete(unasked, envelope).await.unwrap().filed.role, Role::Volunteer);
    let mut second = at.offers(2).await.remove(0);
    at.accept(2, &second).await.unwrap();
    second.grant.fence = Fence(second.grant.fence.0 - 1);
    let (stale, envelope) = submission(2, &second, output("d"));
    assert_eq!(store.complete(stale, envelope).await.unwrap().filed.role, Role::Volunteer);
    let state = store.job(&job).unwrap().unwrap();
    assert_eq!(state.counted().count(), 1);
    assert!(state.held(), "a stale fence moves no lease");
    let (unknown, envelope) = submission(1, &offer, output("e"));
    let unknown = Submission { job: JobId(Digest::of(b"?")), ..unknown };
    let refused = store.complete(unknown, envelope).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(Refusal::UnknownJob(_))));
}

async fn coalescing_and_unparking<B: Backend>(backend: &B) {
    let clock = Arc::new(TestClock::default());
    let store = backend.open(clock.clone());
    let at = At(&store);
    let job = at.announce("m", 1).await;
    assert_eq!(at.announce("m", 1).await, job);
    let announces = store.records_about(Kind::ANNOUNCE, &job.0, JournalPosition(0), 10).unwrap();
    assert_eq!(announces.len(), 1, "the second announcement was the same job");
    at.work(1, output("a")).await;
    for attempt in 2..=3 {
        let need = Need::Reopen { wanted: 1, without: vec![operator(attempt as u32 - 1)] };
        at.judge(job, need).await.unwrap();
        assert_eq!(store.job(&job).unwrap().unwrap().attempt, Attempt(attempt));
        at.work(attempt as u32, output("a")).await;
    }
    at.judge(job, Need::Reopen { wanted: 1, without: vec![] }).await.unwrap();
    let parked = store.job(&job).unwrap().unwrap().phase;
    assert!(matches!(parked, Phase::Parked { why: ParkReason::Attempts, .. }), "{parked:?}");
    drop(store);
    let store = backend.open(clock);
    let reply = store.act(Event::Unpark { job }, nothing()).await.unwrap();
    assert_eq!(reply, Reply::Settled { phase: Phase::Open, attempt: Attempt(4) });
    let refused = store.act(Event::Unpark { job }, nothing()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(Refusal::NotParked("open"))));
    let stale = At(&store).judge(job, Need::Enough).await;
    assert!(stale.is_ok(), "a judgement of what is there is never stale");
    let event = Event::Judged {
        job,
        attempt: Attempt(3),
        answers: 3,
        outcome: "flaky".into(),
        need: Need::Enough,
    };
    let refused = store.act(event, nothing()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(Refusal::Stale { .. })));
}

async fn records_beside_the_queue<B: Backend>(backend: &B) {
    let clock = Arc::new(TestClock::default());
    let store = backend.open(clock.clone());
    let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
    let tag = |about, body: &str| NewRecord::new(Kind::TAG_SEEN, about, body.as_bytes().to_vec());
    let first = store.append(vec![tag(a, "1"), tag(b, "2"), tag(a, "3")]).await.unwrap();
    assert_eq!((first.first, first.records), (JournalPosition(0), 3));
    store.append(vec![tag(a, "4")]).await.unwrap();
    let bodies = |records: Vec<Stored>| -> Vec<String> {
        records.into_iter().map(|r| String::from_utf8(r.body).unwrap()).collect()
    };
    let start = JournalPosition(0);
    let about = store.records_about(Kind::TAG_SEEN, &a, start, 10).unwrap();
    assert_eq!(bodies(about.clone()), ["1", "3", "4"]);
    assert!(!about[0].public && about[0].continued && !about[2].continued);
    let page = store.records_about(Kind::TAG_SEEN, &a, JournalPosition(1), 1).unwrap();
    assert_eq!(bodies(page), ["3"]);
    let all = store.records_of_kind(Kind::TAG_SEEN, None, 10).unwrap();
    assert_eq!(all.len(), 4);
    let cursor = Some((all[1].about, all[1].position));
    let rest = store.records_of_kind(Kind::TAG_SEEN, cursor, 10).unwrap();
    assert_eq!(rest, all[2..]);
    let positions = store.positions_of_kind(Kind::TAG_SEEN, cursor, 1).unwrap();
    assert_eq!(positions, [(all[2].about, all[2].position)]);
    assert!(store.records_of_kind(Kind::WORKER, None, 10).unwrap().is_empty());
    for kind in [Kind::TRANSITION, Kind::OBSERVATION] {
        let refused = store.append(vec![NewRecord::new(kind, a, *b"x")]).await.unwrap_err();
        assert!(matches!(refused, StoreError::NotForAppend));
    }
    assert_eq!(store.records(JournalPosition(2), 10).unwrap().len(), 2);
    assert_eq!(store.record(JournalPosition(4)).unwrap(), None);
    let chain = store.chain_at(JournalPosition(4)).unwrap().unwrap();
    assert_eq!(chain, store.record(JournalPosition(3)).unwrap().unwrap().chain);
    assert_eq!(store.raise_floor().await.unwrap(), JournalPosition(4));
    drop(store);
    assert_eq!(backend.open(clock).end(), JournalPosition(4));
}

async fn publications_wait_until_they_arrived<B: Backend>(backend: &B) {
    let clock = Arc::new(TestClock::default());
    let store = backend.open(clock.clone());
    let (image, other) = (Digest::of(b"image"), Digest::of(b"other"));
    let publish = async |about, body: &str| {
        let record = NewRecord::new(Kind::PUBLICATION, about, body);
        store.append(vec![record]).await.unwrap().first
    };
    let arrived = async |about, publication| {
        let repository = "registry.example/assay/demo".parse().unwrap();
        let pushed = Pushed::new(publication, repository, None, None).to_json();
        store.append(vec![NewRecord::new(Kind::PUSHED, about, pushed)]).await.unwrap();
    };
    let waiting = |store: &B::S| {
        let found = store.unpublished(None, 10).unwrap();
        found.iter().map(|stored| stored.position).collect::<BTreeSet<_>>()
    };
    assert!(waiting(&store).is_empty());
    let old = publish(image, "old").await;
    let new = publish(image, "new").await;
    let elsewhere = publish(other, "elsewhere").await;
    assert_eq!(waiting(&store), BTreeSet::from([new, elsewhere]), "the newest of each");
    arrived(image, old).await;
    assert_eq!(waiting(&store), BTreeSet::from([new, elsewhere]), "an older one arrived");
    store.append(vec![NewRecord::new(Kind::PUSHED, image, "{}")]).await.unwrap();
    assert_eq!(waiting(&store), BTreeSet::from([new, elsewhere]), "nothing that is understood");
    arrived(image, new).await;
    assert_eq!(waiting(&store), BTreeSet::from([elsewhere]));
    let page = store.unpublished(None, 1).unwrap();
    assert!(store.unpublished(Some(page[0].about), 1).unwrap().is_empty());
    let again = publish(image, "again").await;
    drop(store);
    backend.lose_index();
    let store = backend.open(clock);
    assert_eq!(waiting(&store), BTreeSet::from([again, elsewhere]));
}

async fn leases_survive_a_restart<B: Backend>(backend: &B) {
    let clock = Arc::new(TestClock::default());
    let store = backend.open(clock.clone());
    let at = At(&store);
    let job = at.announce("m", 2).await;
    let leased = at.offers(1).await.remove(0);
    at.accept(1, &leased).await.unwrap();
    let offered = at.offers(2).await.remove(0);
    drop(store);
    clock.advance(60_000);
    let store = backend.open(clock.clone());
    let at = At(&store);
    store.tick().await.unwrap();
    let again = at.offers(2).await;
    assert_eq!(again, vec![offered.clone()], "offers stand during the pause after a restart");
    let (lease, fence) = (leased.grant.lease, leased.grant.fence);
    let event = Event::Sync(report(1, vec![(lease, fence)]));
    let reply = store.act(event, nothing()).await.unwrap();
    assert_eq!(reply, Reply::Desired(Desired::default()), "the lease is known and goes on");
    clock.advance(31_000);
    store.tick().await.unwrap();
    let state = store.job(&job).unwrap().unwrap();
    assert_eq!(state.open_slots(), 1, "the offer lapsed, the lease did not: {:?}", state.slots);
    assert!(at.accept(2, &offered).await.is_err());
    let fresh = at.offers(3).await.remove(0);
    assert!(fresh.grant.fence > offered.grant.fence);
    let (answer, envelope) = submission(1, &leased, output("a"));
    let receipt = store.complete(answer, envelope).await.unwrap();
    assert_eq!(receipt.filed.role, Role::Counted);
}

/// A group that the journal refuses must not leave a decision in the queue.
async fn a_refused_decision_leaves_no_trace<B: Backend>(backend: &B) {
    let clock = Arc::new(TestClock::default());
    let store = backend.open(clock);
    let at = At(&store);
    let first = at.announce("first", 1).await;
    let event = Event::Announce {
        spec: spec("too-long", 1),
        tenant: Tenant("ci".into()),
        class: Class::Push,
    };
    let long = vec![0; crate::journal::frame::BODY_BYTES_MAX + 1];
    let attach: Attach =
        Box::new(move |job| vec![NewRecord::new(Kind::ANNOUNCE, job.id().0, long)]);
    let refused = store.act(event, attach).await.unwrap_err();
    assert!(matches!(refused, StoreError::Journal(JournalError::TooLong { .. })), "{refused}");
    assert_eq!(store.job(&spec("too-long", 1).id).unwrap(), None);
    let offers = at.offers(1).await;
    assert_eq!(offers.iter().map(|offer| offer.job).collect::<Vec<_>>(), vec![first]);
    assert_eq!(store.totals().unfinished, 1);
    at.announce("second", 1).await;
    assert_eq!(store.totals().unfinished, 2);
    // What can be seen to be too long is refused before anything is decided, and takes nothing back.
    let too_long = vec![b' '; crate::journal::BODY_BYTES_MAX + 1];
    let (early, _) = submission(1, &offers[0], output("x"));
    let decided = at.0.act(Event::Sync(report(2, vec![])), nothing());
    let refused = store.complete(early.clone(), too_long.clone()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Journal(JournalError::TooLong { .. })), "{refused}");
    let record = NewRecord::new(Kind::EVIDENCE, Digest::of(b"e"), too_long);
    let refused = store.append(vec![record]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Journal(JournalError::TooLong { .. })), "{refused}");
    decided.await.unwrap();
    let filed = store.complete(early, b"short".to_vec()).await.unwrap();
    assert!(!filed.filed.known);
}

/// A job that was put off lies on disk only, and is as old as it is.
async fn a_job_at_rest_has_an_age<B: Backend>(backend: &B) {
    let clock = Arc::new(TestClock::default());
    let store = backend.open(clock.clone());
    let at = At(&store);
    let job = at.announce("m", 1).await;
    let opened = store.job(&job).unwrap().unwrap().opened_at;
    clock.advance(1000);
    at.work(1, Said::InputUnavailable).await;
    assert_eq!(store.figures().jobs_in_memory, 0);
    assert_eq!(store.figures().oldest_waiting, Some(opened));
}

/// A job that is rechecked again and again forgets old answers in memory, never on disk.
async fn what_was_filed_long_ago_is_known<B: Backend>(backend: &B) {
    let clock = Arc::new(TestClock::default());
    let store = backend.open(clock.clone());
    let at = At(&store);
    let job = at.announce("m", 3).await;
    let mut first = None;
    for round in 0..25u32 {
        for n in 0..3 {
            let worker = 1 + round * 3 + n;
            let (offer, receipt) = at.work(worker, output("a")).await;
            first.get_or_insert((worker, offer, receipt));
        }
        at.judge(job, Need::Enough).await.unwrap();
        clock.advance(400_000);
        let event = Event::Announce {
            spec: spec("m", 3),
            tenant: Tenant("ci".into()),
            class: Class::Recheck,
        };
        store.act(event, nothing()).await.unwrap();
    }
    let (worker, offer, receipt) = first.unwrap();
    let (same, envelope) = submission(worker, &offer, output("a"));
    let state = store.job(&job).unwrap().unwrap();
    assert!(state.answers.iter().all(|answer| answer.observation != same.observation));
    let end = store.end();
    let again = store.complete(same, envelope).await.unwrap();
    assert_eq!(again.position, receipt.position);
    assert_eq!(again.filed, Filing { role: Role::Counted, known: true });
    assert_eq!(store.end(), end, "nothing was written");
    let rows = store.export(JournalPosition(0), 1000).unwrap();
    assert_eq!(rows.len(), 100, "75 observations and 25 verdicts");
}

async fn many_at_once<B: Backend>(backend: &B) {
    const JOBS: u32 = 40;
    let clock = Arc::new(TestClock::default());
    let store = Arc::new(backend.open(clock.clone()));
    let mut receipts = Vec::new();
    for i in 0..JOBS {
        At(&*store).announce(&format!("image {i}"), 3).await;
    }
    let mut tasks = Vec::new();
    for n in 0..12u32 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let mut done = Vec::new();
            let mut empty = 0;
            while empty < 3 {
                let offers = At(&*store).offers(n).await;
                empty = if offers.is_empty() { empty + 1 } else { 0 };
                for offer in offers {
                    At(&*store).accept(n, &offer).await.unwrap();
                    let (new, envelope) = submission(n, &offer, output("same"));
                    let receipt = store.complete(new.clone(), envelope.clone()).await.unwrap();
                    assert_eq!(receipt.filed.role, Role::Counted);
                    let stored = store.record(receipt.position).unwrap().unwrap();
                    assert_eq!(stored.body, envelope, "the receipt names the envelope");
                    done.push((new.observation, receipt.position));
                }
            }
            done
        }));
    }
    for task in tasks {
        receipts.extend(task.await.unwrap());
    }
    assert_eq!(receipts.len(), 3 * JOBS as usize);
    assert_eq!(store.due().len(), JOBS as usize);
    for notice in store.due() {
        let Notice::Judge { job, .. } = notice else { continue };
        let state = store.job(&job).unwrap().unwrap();
        let operators: BTreeSet<_> =
            state.counted().map(|answer| answer.operator.clone()).collect();
        assert_eq!(operators.len(), 3, "distinct operators");
    }
    drop(store);
    backend.lose_index();
    let store = backend.open(clock);
    for (observation, position) in receipts {
        assert_eq!(store.observation(&observation).unwrap().unwrap().position, position);
    }
    assert_eq!(store.due().len(), JOBS as usize);
}
