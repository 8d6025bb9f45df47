//! "Backpressure: bounded queues, RESOURCE_EXHAUSTED with retry info; a token bucket per registry,
//! 429 and Retry-After honoured." Quotas of workers and submitters; bounded memory.

use super::*;

fn exhausted(reply: &Reply) -> Option<(&'static str, u64)> {
    match reply {
        Reply::Refused(Refusal::Exhausted { what, retry_after_ms, .. }) => {
            Some((what, *retry_after_ms))
        }
        _ => None,
    }
}

#[test]
fn a_tenant_announces_so_many_at_once_and_is_told_when_to_come_back() {
    let rate = Rate { burst: 2, per_second: 4 };
    let mut rig = Rig::with(Limits { announce: rate, ..Limits::default() });
    rig.announce("a", 1);
    rig.announce("b", 1);
    let refused = rig.announce_as(spec("c", 1), "ci", Class::Gate);
    assert_eq!(exhausted(&refused), Some(("announcements of one tenant in a moment", 250)));
    assert_eq!(rig.queue.jobs().count(), 2, "nothing is left of it");
    let other = rig.announce_as(spec("c", 1), "another", Class::Gate);
    assert!(matches!(other, Reply::Announced { .. }));
    rig.now += 250;
    let again = rig.announce_as(spec("d", 1), "ci", Class::Gate);
    assert!(matches!(again, Reply::Announced { .. }));
}

#[test]
fn the_queue_and_each_tenants_share_of_it_are_bounded() {
    let limits = Limits { unfinished_max: 3, unfinished_per_tenant_max: 2, ..Limits::default() };
    let mut rig = Rig::with(limits);
    let first = rig.announce("a", 1);
    rig.announce("b", 1);
    let own = rig.announce_as(spec("c", 1), "ci", Class::Gate);
    assert_eq!(exhausted(&own), Some(("unfinished jobs of one tenant", MINUTE)));
    assert!(exhausted(&rig.announce_as(spec("a", 1), "ci", Class::Gate)).is_none(), "known");
    rig.announce_as(spec("c", 1), "x", Class::Push);
    let all = rig.announce_as(spec("d", 1), "x", Class::Push);
    assert_eq!(exhausted(&all), Some(("unfinished jobs", MINUTE)));
    // What is done makes room, and a recheck needs room, too.
    rig.work(1, output("a"));
    let done: Vec<JobId> =
        rig.queue.jobs().filter(|job| job.due().is_some()).map(Job::id).collect();
    rig.judged(done[0], "reproduced", Need::Enough);
    assert!(matches!(rig.announce_as(spec("d", 1), "x", Class::Push), Reply::Announced { .. }));
    let spec = rig.job(done[0]).spec;
    let recheck = rig.announce_as(spec, "ci", Class::Recheck);
    assert!(exhausted(&recheck).is_some());
    assert!(rig.job(first).announced_at.0 > 0);
}

#[test]
fn who_asks_for_a_recheck_pays_for_it() {
    let limits = Limits { unfinished_per_tenant_max: 2, ..Limits::default() };
    let mut rig = Rig::with(limits);
    for name in ["a", "b", "c"] {
        rig.announce(name, 1);
        let offer = rig.work(1, output(name));
        rig.judged(offer.job, "reproduced", Need::Enough);
    }
    for name in ["a", "b"] {
        let opened = rig.announce_as(spec(name, 1), "greedy", Class::Recheck);
        assert!(matches!(opened, Reply::Announced { opened: true, .. }), "{opened:?}");
    }
    let over = rig.announce_as(spec("c", 1), "greedy", Class::Recheck);
    assert_eq!(exhausted(&over), Some(("unfinished jobs of one tenant", MINUTE)));
    // The owner of these images has all its room, and its own place in the queue.
    let tenants = &rig.queue.totals().by_tenant;
    assert_eq!(tenants, &BTreeMap::from([(Tenant("greedy".into()), 2)]));
    rig.announce_as(spec("c", 1), "ci", Class::Recheck);
    let rank = |rig: &Rig, name| rig.job(spec(name, 1).id).rank;
    assert_eq!(rank(&rig, "c"), rank(&rig, "a"), "not behind what another client asked for");
    assert!(rank(&rig, "a") < rank(&rig, "b"));
    // Done or opened again by its owner, it is nobody else's.
    let ids = ["a", "b"].map(|name| spec(name, 1).id);
    rig.pass(6 * MINUTE);
    for _ in 0..3 {
        let offer = rig.work(1, output("again"));
        rig.judged(offer.job, "reproduced", Need::Enough);
    }
    assert!(rig.queue.totals().by_tenant.is_empty());
    rig.announce_as(spec("a", 1), "ci", Class::Recheck);
    assert_eq!(rig.job(ids[0]).payer(), &Tenant("ci".into()));
}

#[test]
fn a_worker_submits_so_many_and_the_same_again_is_free() {
    let limits = Limits { submit: Rate { burst: 1, per_second: 1 }, ..Limits::default() };
    let mut rig = Rig::with(limits);
    rig.announce("a", 1);
    rig.announce("b", 1);
    let offers = rig.offers(1);
    offers.iter().for_each(|offer| assert!(matches!(rig.accept(1, offer), Reply::Granted { .. })));
    assert!(matches!(rig.submit(1, &offers[0], output("a")), Reply::Filed(Filed::New(_))));
    assert!(matches!(rig.submit(1, &offers[0], output("a")), Reply::Filed(Filed::Known(_))));
    let refused = rig.submit(1, &offers[1], output("a"));
    assert_eq!(exhausted(&refused), Some(("observations of one worker", SECOND)));
    rig.now += SECOND;
    assert!(matches!(rig.submit(1, &offers[1], output("a")), Reply::Filed(Filed::New(_))));
}

#[test]
fn an_operator_files_only_so_much_that_nobody_asked_for() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 2);
    let offer = rig.lease(1);
    let unasked = |n: u32, i: u32| {
        let lease = LeaseId([i as u8 + 1; 16]);
        let mut offer = offer.clone();
        offer.grant.lease = lease;
        Event::Submit(submission(n, &offer, output(&format!("{i}"))))
    };
    for i in 0..8 {
        // Its second worker does not help it.
        let filed = rig.apply(unasked(if i % 2 == 0 { 5 } else { 105 }, i));
        assert_eq!(filed, Reply::Filed(Filed::New(Role::Volunteer)));
    }
    let refused = rig.apply(unasked(105, 9));
    let what = "volunteer observations of one operator for one job";
    assert_eq!(exhausted(&refused), Some((what, HOUR)));
    // However many operators do it, the leased are heard.
    for n in 6..40 {
        for i in 0..8 {
            rig.apply(unasked(n, i));
        }
    }
    assert_eq!(rig.job(job).answers.len(), job::ANSWERS_MAX / 2);
    assert_eq!(rig.submit(1, &offer, output("a")), Reply::Filed(Filed::New(Role::Counted)));
}

#[test]
fn what_nobody_asked_for_leaves_room_in_the_message_that_carries_the_evidence() {
    const MIB: u64 = 1 << 20;
    let mut rig = Rig::new();
    let job = rig.announce("m", 2);
    let offer = rig.lease(1);
    let unasked = |n: u32, i: u8, bytes: u64| {
        let mut offer = offer.clone();
        offer.grant.lease = LeaseId([i + 1; 16]);
        let new = submission(n, &offer, output(&format!("{i}")));
        Event::Submit(Submission { bytes, ..new })
    };
    let volunteer = Reply::Filed(Filed::New(Role::Volunteer));
    assert_eq!(rig.apply(unasked(5, 1, 2 * MIB)), volunteer);
    assert_eq!(rig.apply(unasked(105, 2, MIB)), volunteer);
    let refused = rig.apply(unasked(5, 3, 1));
    let what = "bytes of one operator's volunteer observations for one job";
    assert_eq!(exhausted(&refused), Some((what, HOUR)));
    assert_eq!(rig.apply(unasked(6, 4, 3 * MIB)), volunteer);
    assert_eq!(rig.apply(unasked(7, 5, 2 * MIB)), volunteer);
    let refused = rig.apply(unasked(8, 6, MIB));
    assert_eq!(exhausted(&refused), Some(("bytes of volunteer observations for one job", HOUR)));
    // What others filled silences nobody: the first short word of an operator is heard.
    assert_eq!(rig.apply(unasked(8, 7, MIB / 4)), volunteer);
    let refused = rig.apply(unasked(8, 8, 1));
    assert_eq!(exhausted(&refused), Some(("bytes of volunteer observations for one job", HOUR)));
    // The leased are heard, however long what they say is, and take nothing of it.
    let long = Submission { bytes: 4 * MIB, ..submission(1, &offer, output("a")) };
    assert_eq!(rig.apply(Event::Submit(long)), Reply::Filed(Filed::New(Role::Counted)));
    let bytes: Vec<u64> = rig.job(job).answers.iter().map(|answer| answer.bytes).collect();
    assert_eq!(bytes, [2 * MIB, MIB, 3 * MIB, 2 * MIB, MIB / 4, 0]);
}

#[test]
fn so_many_workers_are_known_and_the_silent_are_forgotten() {
    let mut rig = Rig::with(Limits { workers_max: 2, ..Limits::default() });
    rig.offers(1);
    rig.announce("m", 1);
    rig.lease(2);
    let refused = rig.apply(Event::Sync(report(3, &[])));
    assert_eq!(exhausted(&refused), Some(("workers", MINUTE)));
    assert!(matches!(rig.apply(Event::Sync(report(1, &[]))), Reply::Desired(_)));
    rig.pass(5 * MINUTE + 1);
    rig.pass(MINUTE);
    assert_eq!(rig.queue.figures().workers, 1, "who holds a lease is kept");
    assert!(matches!(rig.apply(Event::Sync(report(3, &[]))), Reply::Desired(_)));
}

#[test]
fn a_registry_gives_so_many_offers_and_others_are_not_held_up() {
    let limits = Limits { registry: Rate { burst: 1, per_second: 1 }, ..Limits::default() };
    let mut rig = Rig::with(limits);
    for (repository, name) in [("a.example/x", "1"), ("a.example/y", "2"), ("b.example/x", "3")] {
        rig.announce_as(spec_at(repository, name, "apko", "amd64", 0, 1), "ci", Class::Push);
    }
    let hosts = |rig: &Rig, offers: &[Offer]| -> Vec<String> {
        let of = |offer: &Offer| rig.job(offer.job).spec.route().registry;
        let mut hosts: Vec<_> = offers.iter().map(of).collect();
        hosts.sort();
        hosts
    };
    let offers = rig.offers(1);
    assert_eq!(hosts(&rig, &offers), ["a.example", "b.example"]);
    rig.now += SECOND;
    assert_eq!(rig.offers(1).len(), 3);
}

#[test]
fn a_registry_that_asks_to_be_left_alone_is() {
    let mut rig = Rig::new();
    rig.announce("m", 1);
    let registry = "registry.example".to_owned();
    let pause = Event::Throttled { registry: registry.clone(), retry_after_ms: 20 * SECOND };
    assert_eq!(rig.apply(pause), Reply::Done);
    // A shorter wait that another one heard does not shorten it.
    rig.apply(Event::Throttled { registry, retry_after_ms: SECOND });
    rig.now += 20 * SECOND - 1;
    assert!(rig.offers(1).is_empty());
    rig.now += 1;
    assert_eq!(rig.offers(1).len(), 1);
}

#[test]
fn what_waits_leaves_memory_the_least_urgent_first() {
    let mut rig = Rig::with(Limits { window_max: 2, ..Limits::default() });
    let urgent = spec("a", 1);
    rig.announce_as(urgent.clone(), "ci", Class::Gate);
    rig.announce_as(spec("b", 1), "ci", Class::Push);
    assert_eq!(rig.queue.overflow(|_| true), None);
    let old = spec("c", 1);
    rig.announce_as(old.clone(), "ci", Class::Backfill);
    assert_eq!(rig.queue.overflow(|_| true), Some(old.id));
    assert_eq!(rig.queue.overflow(|id| *id == urgent.id), Some(urgent.id), "only what may go");
    let state = rig.job(old.id);
    assert!(rig.queue.evict(&old.id) && rig.queue.overflow(|_| true).is_none());
    assert_eq!(rig.queue.totals().unfinished, 3, "it is still to be done");
    rig.queue.load(state, Millis(rig.now));
    assert_eq!(rig.queue.job(&old.id).map(Job::id), Some(old.id));
}

#[test]
fn the_route_with_the_most_jobs_in_memory_gives_first() {
    let mut rig = Rig::with(Limits { window_max: 2, ..Limits::default() });
    let early = spec("a", 1);
    rig.announce_as(early.clone(), "ci", Class::Gate);
    let second = spec("b", 1);
    rig.announce_as(second.clone(), "ci", Class::Push);
    let subject = Subject { platform: Platform::linux("arm64"), ..spec("c", 1).subject };
    let late = JobSpec::new(subject, vec![Digest::of(b"recipe")], "apko", 0, 1, 3_600_000).unwrap();
    rig.announce_as(late.clone(), "ci", Class::Backfill);
    assert_eq!(rig.queue.overflow(|_| true), Some(second.id), "the other is alone on its route");
    assert_eq!(
        rig.queue.overflow(|id| *id == late.id),
        Some(late.id),
        "where the first may not go"
    );
    let routes = BTreeSet::from([early.route(), late.route()]);
    assert_eq!((rig.queue.ready_of(&early.route()), rig.queue.window_share(&routes)), (2, 1));
    let other = Route { architecture: "s390x".into(), ..late.route() };
    assert_eq!(rig.queue.window_share(&BTreeSet::from([other])), 0, "more routes than room");
}

#[test]
fn so_many_jobs_are_begun_at_a_time() {
    let mut rig = Rig::with(Limits { active_max: 1, ..Limits::default() });
    rig.announce("a", 2);
    rig.announce("b", 2);
    let offers = rig.offers(1);
    assert_eq!(offers.len(), 1, "one is begun");
    let other = rig.offers(2);
    assert_eq!(other.len(), 1, "and finished before the next");
    assert_eq!(other[0].job, offers[0].job);
    assert!(rig.offers(3).is_empty());
}
