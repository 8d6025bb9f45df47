//! When a decision's records are durable and the index has followed them, and not before: what is
//! said to the services, and what may leave memory.
//!
//! Invariant: the rig is the order of `Embedded` without its threads: decide, write, sync, follow,
//! settle. Nothing is durable until a test says so.

use super::*;
use crate::journal::{Group, Log, MemoryDisk, Options};
use crate::queue::{Class, JobSpec, Need, Phase, Tenant};
use crate::store::{
    MemoryTables,
    contract::{PlainNotary, TestClock, output, report, spec, submission},
};
use attest::id::JournalPosition;

struct Rig {
    log: Log<MemoryDisk>,
    index: Arc<Index<MemoryTables>>,
    engine: Engine<MemoryTables>,
    clock: TestClock,
}

impl Rig {
    fn new(limits: Limits, notary: Arc<dyn Notary>) -> Self {
        let (log, _) = Log::open(MemoryDisk::default(), Options::new([7; 16])).unwrap();
        let reader = log.reader();
        let start = reader.chain_at(JournalPosition(0)).unwrap().unwrap();
        let tables = MemoryTables::default();
        let index = Arc::new(Index::open(tables, &reader.journal(), start).unwrap());
        let clock = TestClock::default();
        clock.advance(3_600_000);
        let (engine, _) = Engine::new(Arc::clone(&index), limits, notary, &clock).unwrap();
        Self { log, index, engine, clock }
    }

    /// A decision whose records are on their way, and what may be said at once.
    fn decide(&mut self, event: Event) -> (Decision, Vec<Notice>) {
        let kind = match event {
            Event::Submit(_) => Kind::OBSERVATION,
            _ => Kind::ANNOUNCE,
        };
        let attach: Attach =
            Box::new(move |job| vec![NewRecord::new(kind, job.id().0, b"attached".to_vec())]);
        let mut decision = self.engine.decide(event, attach, &self.clock).unwrap();
        let (records, notices) = (decision.records.clone(), std::mem::take(&mut decision.notices));
        let said = self.engine.sent(records.len(), notices);
        if !records.is_empty() {
            let group = Group { records, time: self.clock.wall() };
            assert!(self.log.write(vec![group]).failed.is_none());
        }
        (decision, said)
    }

    /// What is on its way arrives, so many records of it at most.
    fn arrives(&mut self, most: usize) -> Vec<Notice> {
        self.log.sync().unwrap();
        let from = JournalPosition(self.index.reached().next);
        let records: Vec<Stored> =
            self.log.reader().from(from).take(most).map(Result::unwrap).collect();
        self.index.follow(&records).unwrap();
        self.engine.settled(&records)
    }

    /// Decided and durable: the reply, the kinds of the records, and what is said afterwards.
    fn done(&mut self, event: Event) -> (Reply, Vec<Kind>, Vec<Notice>) {
        let (decision, mut said) = self.decide(event);
        said.extend(self.arrives(usize::MAX));
        (decision.reply, decision.records.iter().map(|record| record.kind).collect(), said)
    }

    fn announce(&mut self, spec: JobSpec) -> JobId {
        let (id, tenant) = (spec.id, Tenant("ci".into()));
        self.done(Event::Announce { spec, tenant, class: Class::Push });
        id
    }

    fn lease(&mut self, n: u32) -> Offer {
        let one = crate::queue::Report { slots_free: 1, ..report(n, vec![]) };
        let (reply, ..) = self.done(Event::Sync(one));
        let Reply::Desired(desired) = reply else { panic!("{reply:?}") };
        let offer = desired.offers[0].clone();
        let (worker, lease, fence) = (offer.grant.worker, offer.grant.lease, offer.grant.fence);
        self.done(Event::Accept { worker, lease, fence });
        offer
    }

    fn judged(&mut self, job: JobId, need: Need) -> Event {
        let state = self.index.job(&job).unwrap().unwrap();
        let (attempt, answers, outcome) = (state.attempt, state.answers.len(), "reproduced".into());
        Event::Judged { job, attempt, answers, outcome, need }
    }
}

fn judges(notices: &[Notice]) -> usize {
    notices.iter().filter(|notice| matches!(notice, Notice::Judge { .. })).count()
}

#[test]
fn nothing_is_said_before_its_records_are_there() {
    let mut rig = Rig::new(Limits::default(), Arc::new(PlainNotary));
    rig.announce(spec("a", 1));
    rig.announce(spec("b", 1));
    let (one, two) = (rig.lease(1), rig.lease(2));
    // Two decisions on their way, one after the other.
    for (n, offer) in [(1, &one), (2, &two)] {
        let (submission, _) = submission(n, offer, output("x"));
        let (decision, said) = rig.decide(Event::Submit(submission));
        assert_eq!((decision.records.len(), said), (2, vec![]));
    }
    // The index follows whole decisions; the engine hears of them in pieces of any size.
    rig.log.sync().unwrap();
    let from = JournalPosition(rig.index.reached().next);
    let records: Vec<Stored> = rig.log.reader().from(from).map(Result::unwrap).collect();
    rig.index.follow(&records).unwrap();
    let pieces = [&records[..1], &records[1..3], &records[3..]];
    let said = pieces.map(|piece| judges(&rig.engine.settled(piece)));
    assert_eq!(said, [0, 1, 1], "half of the first, the rest and half of the second, the rest");
    // What needs no record is said at once.
    let (again, _) = submission(1, &one, output("x"));
    let (decision, said) = rig.decide(Event::Submit(again));
    assert!(decision.records.is_empty() && said.is_empty());
    assert_eq!(rig.engine.sent(0, vec![Notice::Wake(one.grant.worker)]).len(), 1);
}

#[test]
fn what_a_transition_rests_on_stands_directly_before_it() {
    let mut rig = Rig::new(Limits::default(), Arc::new(PlainNotary));
    let (a, t, l) = (Kind::ANNOUNCE, Kind::TRANSITION, Kind::LEASE);
    rig.done(Event::Sync(crate::queue::Report { waits: true, ..report(1, vec![]) }));
    // Announced, and offered at once to a worker that waits.
    let tenant = Tenant("ci".into());
    let announce = Event::Announce { spec: spec("a", 2), tenant, class: Class::Push };
    let (decision, _) = rig.decide(announce);
    let kinds: Vec<Kind> = decision.records.iter().map(|record| record.kind).collect();
    assert_eq!((kinds, decision.attached), (vec![a, t, l, t], Some(0)));
    rig.arrives(usize::MAX);
    let job = spec("a", 2).id;
    // Judged while an offer is out: that is taken back first.
    let judged = rig.judged(job, Need::Enough);
    let (decision, _) = rig.decide(judged);
    let kinds: Vec<Kind> = decision.records.iter().map(|record| record.kind).collect();
    assert_eq!((kinds, decision.attached), (vec![t, a, t], Some(1)));
    // Without a notary no lease is on record.
    let mut rig = Rig::new(Limits::default(), Arc::new(NoNotary));
    rig.announce(spec("a", 1));
    let (_, kinds, _) = rig.done(Event::Sync(report(1, vec![])));
    assert_eq!(kinds, [t]);
}

#[test]
fn a_job_leaves_memory_when_the_index_has_it_and_not_before() {
    let limits = Limits { window_max: 2, ..Limits::default() };
    let mut rig = Rig::new(limits, Arc::new(PlainNotary));
    let tenant = Tenant("ci".into());
    for name in ["a", "b", "c", "d"] {
        let (spec, tenant) = (spec(name, 1), tenant.clone());
        rig.decide(Event::Announce { spec, tenant, class: Class::Push });
    }
    assert_eq!(rig.engine.queue().jobs().count(), 4);
    // Of the last two nothing is durable: of those two that are, one may not leave, as it is first.
    let said = rig.arrives(4);
    assert!(said.is_empty());
    assert_eq!(rig.engine.queue().jobs().count(), 2);
    for name in ["c", "d"] {
        assert!(rig.engine.queue().job(&spec(name, 1).id).is_some(), "{name} is nowhere else");
    }
    rig.arrives(usize::MAX);
    assert_eq!(rig.engine.queue().jobs().count(), 2);
    // Everything is still there, for whoever comes.
    let mut offered = BTreeMap::new();
    for n in 1..=4 {
        offered.insert(rig.lease(n).job, n);
        rig.done(Event::Tick);
    }
    assert_eq!(offered.len(), 4);
    // What is done leaves at once, and comes back for whoever names it.
    let job = *offered.keys().next().unwrap();
    let judged = rig.judged(job, Need::Enough);
    rig.done(judged);
    assert!(rig.engine.queue().job(&job).is_none());
    assert!(matches!(rig.index.job(&job).unwrap().unwrap().phase, Phase::Judged { .. }));
}

/// A job for another kind of worker.
fn elsewhere(name: &str) -> JobSpec {
    let amd64 = spec(name, 1);
    let platform = attest::Platform::linux("arm64");
    let subject = attest::Subject { platform, ..amd64.subject };
    JobSpec::new(subject, amd64.recipes, "apko", 0, 1, 3_600_000).unwrap()
}

#[test]
fn jobs_that_nobody_can_do_do_not_hide_those_behind_them() {
    let limits = || Limits { window_max: 4, ..Limits::default() };
    let mut rig = Rig::new(limits(), Arc::new(PlainNotary));
    // Nobody can do these, and they came first.
    for name in ["1", "2", "3", "4", "5", "6"] {
        rig.announce(elsewhere(name));
    }
    let names = ["a", "b", "c", "d", "e", "f"];
    for name in names {
        rig.announce(spec(name, 1));
    }
    assert_eq!(rig.engine.queue().jobs().count(), 4);
    let mut took = BTreeSet::from([rig.lease(1).job, rig.lease(2).job]);
    // The same after a start, when all of them lie on disk.
    let index = Arc::clone(&rig.index);
    rig.engine = Engine::new(index, limits(), Arc::new(PlainNotary), &rig.clock).unwrap().0;
    for n in 3..=6 {
        took.insert(rig.lease(n).job);
        rig.done(Event::Tick);
    }
    assert_eq!(took, names.map(|name| spec(name, 1).id).into());
    // Half of the window was never theirs; now that nobody else waits it is.
    let waiting = rig.engine.queue().jobs().filter(|job| job.untouched()).count();
    assert_eq!(waiting, 4);
}

#[test]
fn a_route_that_grew_gives_back_what_is_more_than_its_share() {
    let limits = Limits { window_max: 4, ..Limits::default() };
    let mut rig = Rig::new(limits, Arc::new(PlainNotary));
    for name in ["a", "b", "c"] {
        rig.announce(spec(name, 1));
    }
    for name in ["1", "2", "3", "4", "5"] {
        rig.announce(elsewhere(name));
    }
    let kinds = |rig: &Rig| {
        let mut found = BTreeMap::new();
        for job in rig.engine.queue().jobs() {
            *found.entry(job.spec.route().architecture).or_insert(0) += 1;
        }
        (found.get("amd64").copied().unwrap_or(0), found.get("arm64").copied().unwrap_or(0))
    };
    // The longest gives first; of two that are as long, the one whose last is the latest.
    assert_eq!(kinds(&rig), (2, 2));
    rig.done(Event::Tick);
    assert_eq!(kinds(&rig), (2, 2), "and nothing goes to and fro");
}

#[test]
fn a_start_brings_back_all_that_somebody_is_at() {
    let mut rig = Rig::new(Limits::default(), Arc::new(PlainNotary));
    let wanted = 3;
    let specs: Vec<JobSpec> = (0..wanted).map(|n| spec(&n.to_string(), 1)).collect();
    let offers: Vec<Offer> = (1..)
        .zip(specs)
        .map(|(n, spec)| {
            rig.announce(spec);
            rig.lease(n)
        })
        .collect();
    let notary = Arc::new(PlainNotary);
    // However few are read at a time.
    for most in [1, 2, 3, 4] {
        let index = Arc::clone(&rig.index);
        let started =
            Engine::with_pages(index, Limits::default(), notary.clone(), &rig.clock, most);
        let (engine, said) = started.unwrap();
        assert_eq!((engine.queue().held_leases().len(), said.len()), (offers.len(), 0));
    }
    let (submission, _) = submission(1, &offers[0], output("x"));
    rig.done(Event::Submit(submission));
    let index = Arc::clone(&rig.index);
    let (engine, said) = Engine::new(index, Limits::default(), notary, &rig.clock).unwrap();
    assert_eq!((engine.due(), judges(&said)), (said.clone(), 1));
}

#[test]
fn an_image_has_a_history_of_what_was_said_about_it() {
    let mut rig = Rig::new(Limits::default(), Arc::new(PlainNotary));
    let subject = spec("a", 2).subject;
    rig.announce(spec("a", 2));
    for n in 1..=2 {
        let offer = rig.lease(n);
        let (submission, _) = submission(n, &offer, output("x"));
        rig.done(Event::Submit(submission));
    }
    let history = |manifest, from, limit| {
        let rows = rig.index.history(&subject.repository, manifest, JournalPosition(from), limit);
        rows.unwrap().iter().map(|row| row.position.0).collect::<Vec<_>>()
    };
    let all = history(Some(&subject.digest), 0, 10);
    assert_eq!((all.len(), history(None, 0, 10)), (2, all.clone()));
    assert_eq!(history(Some(&subject.digest), all[0] + 1, 10), all[1..]);
    assert_eq!(history(None, 0, 1), all[..1]);
    let another = attest::Digest::of(b"another");
    assert!(history(Some(&another), 0, 10).is_empty());
}
