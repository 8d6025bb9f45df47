//! "Priority: a waiting gate > a new push > regression recheck > scheduled recheck > backfill; fair
//! among tenants; with ageing; duplicates coalesce by (subject, recipe, class)." Routing by
//! capability, platform and resources. "Drain: the worker stops being offered work, finishes,
//! leaves. An offer is not busy until it is accepted."

use super::*;

/// The jobs in the order in which they are offered, one worker with one slot after the other.
fn order(rig: &mut Rig) -> Vec<JobId> {
    let mut order = Vec::new();
    for n in 0..rig.queue.jobs().count() as u32 {
        let one = Report { slots_free: 1, ..report(n, &[]) };
        order.extend(rig.sync_with(one).offers.iter().map(|offer| offer.job));
    }
    order
}

#[test]
fn classes_are_served_in_their_order() {
    let mut rig = Rig::new();
    for class in Class::ALL.into_iter().rev() {
        rig.announce_as(spec(class.as_str(), 1), "ci", class);
    }
    let expected: Vec<JobId> = Class::ALL.iter().map(|class| spec(class.as_str(), 1).id).collect();
    assert_eq!(order(&mut rig), expected);
}

#[test]
fn a_class_may_wait_so_much_longer_than_a_gate() {
    let minutes = |class: Class| class.handicap_ms() / MINUTE;
    assert_eq!(Class::ALL.map(minutes), [0, 10, 60, 360, 1440]);
    assert_eq!(Class::ALL.map(|class| class.handicap_ms() % MINUTE), [0; 5]);
    assert_eq!(Class::Gate.to_string(), "gate");
}

#[test]
fn what_waits_long_is_served_before_what_is_more_urgent_and_new() {
    let mut rig = Rig::new();
    rig.announce_as(spec("old", 1), "ci", Class::Backfill);
    rig.now += 24 * HOUR + 1;
    rig.announce_as(spec("new", 1), "other", Class::Gate);
    assert_eq!(order(&mut rig)[0], spec("old", 1).id);
}

#[test]
fn the_many_jobs_of_one_tenant_do_not_hold_up_another_tenants_first() {
    let mut rig = Rig::new();
    for i in 0..300 {
        rig.announce_as(spec(&format!("{i}"), 1), "many", Class::Push);
    }
    rig.now += 30 * SECOND;
    rig.announce_as(spec("one", 1), "few", Class::Push);
    let mut before = 0;
    for n in 0..90 {
        let one = Report { slots_free: 1, ..report(n, &[]) };
        let offers = rig.sync_with(one).offers;
        if offers[0].job == spec("one", 1).id {
            break;
        }
        before += 1;
    }
    // About those of 30 s; a few more, because one of the earliest four is drawn.
    assert!(before <= 34, "{before} of the other tenant were offered before");
}

#[test]
fn a_tenants_place_is_remembered_while_it_lies_ahead() {
    let mut rig = Rig::new();
    for i in 0..300 {
        rig.announce_as(spec(&format!("{i}"), 1), "many", Class::Push);
    }
    // Long enough for what is of no use any more to be forgotten.
    rig.pass(2 * MINUTE);
    rig.announce_as(spec("one", 1), "few", Class::Push);
    rig.announce_as(spec("next", 1), "many", Class::Push);
    let rank = |rig: &Rig, name| rig.job(spec(name, 1).id).rank;
    assert!(rank(&rig, "one") < rank(&rig, "299"));
    assert!(rank(&rig, "299") < rank(&rig, "next"));
}

#[test]
fn the_same_job_asked_for_twice_is_one_and_only_gets_more_urgent() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    let rank = rig.job(job).rank;
    let steps = rig.steps.len();
    for class in [Class::Backfill, Class::Push] {
        let again = rig.announce_as(spec("m", 1), "other", class);
        assert!(matches!(again, Reply::Announced { opened: false, .. }));
    }
    assert_eq!(rig.steps.len(), steps, "nothing to write down");
    assert_eq!((rig.job(job).rank, rig.job(job).class), (rank, Class::Push));
    rig.announce_as(spec("m", 1), "other", Class::Gate);
    assert_eq!((rig.queue.jobs().count(), rig.job(job).class), (1, Class::Gate));
    assert!(rig.job(job).rank < rank);
    assert_eq!(rig.queue.totals().by_class, [1, 0, 0, 0, 0]);
}

#[test]
fn asking_again_never_makes_what_waited_long_wait_longer() {
    let mut rig = Rig::new();
    let job = match rig.announce_as(spec("m", 1), "ci", Class::Backfill) {
        Reply::Announced { job, .. } => job,
        other => panic!("{other:?}"),
    };
    let rank = rig.job(job).rank;
    rig.now += 24 * HOUR - MINUTE;
    rig.announce_as(spec("m", 1), "ci", Class::Push);
    assert_eq!(rig.job(job).rank, rank, "ten minutes from now would be later");
    assert_eq!(rig.job(job).class, Class::Push);
}

#[test]
fn what_got_more_urgent_is_offered_earlier() {
    let mut rig = Rig::new();
    rig.announce_as(spec("slow", 1), "ci", Class::Backfill);
    rig.announce_as(spec("fast", 1), "ci", Class::Regression);
    rig.announce_as(spec("slow", 1), "ci", Class::Gate);
    assert_eq!(order(&mut rig), [spec("slow", 1).id, spec("fast", 1).id]);
}

#[test]
fn a_job_that_comes_free_again_is_found_by_who_passed_it() {
    let mut rig = Rig::new();
    let job = rig.announce("first", 2);
    let first = rig.lease(1);
    rig.announce("second", 1);
    let one = |rig: &mut Rig| rig.sync_with(Report { slots_free: 1, ..report(101, &[]) }).offers;
    let second = one(&mut rig);
    assert_ne!(second[0].job, job, "its operator has a part in the first one");
    rig.decline(1, &first);
    rig.pass(MINUTE);
    let again = rig.sync_with(Report { slots_free: 9, ..report(101, &[]) }).offers;
    assert!(again.iter().any(|offer| offer.job == job));
}

#[test]
fn an_operator_with_a_part_in_the_first_hundreds_gets_to_those_behind_them() {
    let mut rig = Rig::with(Limits { scan_max: 4, ..Limits::default() });
    for i in 0..9 {
        rig.announce(&format!("{i}"), 2);
        rig.now += MINUTE;
        rig.lease(1 + 100 * i);
    }
    let last = rig.announce("last", 2);
    let offered = (0..9).find_map(|_| rig.offers(901).first().map(|offer| offer.job));
    assert_eq!(offered, Some(last));
}

#[test]
fn jobs_go_to_workers_that_can_do_them() {
    let mut rig = Rig::new();
    let arm = spec_at("registry.example/a", "arm", "apko", "arm64", 0, 1);
    let docker = spec_at("registry.example/a", "docker", "buildkit", "amd64", 0, 1);
    let large = spec_at("registry.example/a", "large", "apko", "amd64", 6000, 1);
    for spec in [&arm, &docker, &large] {
        rig.announce_as(spec.clone(), "ci", Class::Push);
    }
    let offered = |rig: &mut Rig, n, arch: &str, rebuilder: &str, memory_mib| {
        let report = Report {
            architectures: vec![arch.into()],
            rebuilders: vec![rebuilder.into()],
            memory_mib,
            ..report(n, &[])
        };
        rig.sync_with(report).offers.iter().map(|offer| offer.job).collect::<Vec<_>>()
    };
    assert_eq!(offered(&mut rig, 1, "amd64", "apko", 4096), vec![]);
    assert_eq!(offered(&mut rig, 2, "arm64", "buildkit", 0), vec![]);
    assert_eq!(offered(&mut rig, 3, "arm64", "apko", 16), vec![arm.id]);
    assert_eq!(offered(&mut rig, 4, "amd64", "buildkit", 16), vec![docker.id]);
    assert_eq!(offered(&mut rig, 5, "amd64", "apko", 8192), vec![large.id]);
}

#[test]
fn jobs_of_many_routes_are_all_found() {
    let mut rig = Rig::new();
    // Operator 1 has a part in every job but the one of the last of a hundred registries.
    for i in 0..100 {
        let spec = spec_at(&format!("r{i:02}.example/a"), "m", "apko", "amd64", 0, 2);
        rig.announce_as(spec, "ci", Class::Push);
        if i < 99 {
            let report = Report { slots_free: 100, ..report(1, &[]) };
            rig.sync_with(report);
        }
        rig.now += 1;
    }
    let report = Report { slots_free: 256, ..report(101, &[]) };
    assert_eq!(rig.sync_with(report).offers.len(), 1);
}

#[test]
fn a_route_whose_first_job_is_not_for_the_worker_does_not_hide_an_earlier_job_of_another() {
    let mut rig = Rig::new();
    let at = |registry: &str, name| spec_at(registry, name, "apko", "amd64", 0, 2);
    let announce = |rig: &mut Rig, spec: JobSpec| {
        rig.announce_as(spec, "ci", Class::Push);
        rig.now += MINUTE;
    };
    announce(&mut rig, at("a.example/m", "first"));
    rig.lease(1);
    announce(&mut rig, at("b.example/m", "second"));
    announce(&mut rig, at("a.example/m", "third"));
    let one = Report { slots_free: 1, ..report(101, &[]) };
    let offers = rig.sync_with(one).offers;
    assert_eq!(offers[0].job, at("b.example/m", "second").id);
}

#[test]
fn what_an_operator_may_have_in_a_minute_is_not_passed_over_for_ever() {
    let mut rig = Rig::new();
    let earlier = rig.announce("earlier", 1);
    let offer = rig.lease(1);
    rig.decline(1, &offer);
    rig.announce("later", 2);
    let later = rig.lease(1);
    assert_ne!(later.job, earlier, "left alone for a minute");
    // Looking again finds one job that is not for it now, and one in which it has its part.
    let room = |rig: &mut Rig| rig.sync_with(report(1, &[&later])).offers;
    assert!(room(&mut rig).is_empty());
    rig.pass(MINUTE);
    assert_eq!(room(&mut rig).first().map(|offer| offer.job), Some(earlier));
}

#[test]
fn a_worker_is_shown_what_it_has_room_for_and_an_offer_is_not_busy() {
    let mut rig = Rig::new();
    for i in 0..9 {
        rig.announce(&format!("{i}"), 1);
    }
    let two = Report { slots_free: 2, ..report(1, &[]) };
    let offers = rig.sync_with(two.clone()).offers;
    assert_eq!(offers.len(), 2);
    assert_eq!(rig.sync_with(two).offers, offers, "offers that are out take the room");
    rig.accept(1, &offers[0]);
    rig.decline(1, &offers[1]);
    let one = Report { slots_free: 1, ..report(1, &[&offers[0]]) };
    assert_eq!(rig.sync_with(one).offers.len(), 1);
    let many = Report { slots_free: 200, ..report(2, &[]) };
    assert_eq!(rig.sync_with(many).offers.len(), 4, "four at once");
    let none = Report { slots_free: 0, ..report(3, &[]) };
    assert!(rig.sync_with(none).offers.is_empty());
    let limits = Limits { leases_per_worker_max: 1, ..Limits::default() };
    let mut rig = Rig::with(limits);
    rig.announce("a", 1);
    rig.announce("b", 1);
    assert_eq!(rig.offers(1).len(), 1, "whatever it says");
}

#[test]
fn a_drained_worker_finishes_and_gets_nothing_new() {
    let mut rig = Rig::new();
    rig.announce("a", 1);
    let offer = rig.lease(1);
    rig.announce("b", 1);
    let draining = Report { draining: true, ..report(1, &[&offer]) };
    let desired = rig.sync_with(draining.clone());
    assert_eq!(desired, Desired::default(), "nothing new, nothing to stop");
    rig.apply(Event::Drain { worker: worker(1), draining: false });
    assert!(rig.sync_with(draining).offers.is_empty(), "its own word stands");
    assert!(matches!(rig.submit(1, &offer, output("a")), Reply::Filed(Filed::New(Role::Counted))));
    // By an administrator, whatever it says itself.
    rig.apply(Event::Drain { worker: worker(2), draining: true });
    assert!(rig.offers(2).is_empty());
    assert_eq!(rig.queue.figures().offers, 0);
    rig.apply(Event::Drain { worker: worker(2), draining: false });
    assert_eq!(rig.offers(2).len(), 1);
}

#[test]
fn a_drained_workers_operator_does_not_count_as_there() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    rig.work(1, output("a"));
    rig.offers(2);
    rig.judged(job, "disputed", Need::Reopen { wanted: 1, without: vec![] });
    assert!(rig.offers(1).is_empty(), "operator 2 is asked first");
    rig.apply(Event::Drain { worker: worker(2), draining: true });
    assert_eq!(rig.offers(1).len(), 1);
}

#[test]
fn an_operator_without_room_does_not_keep_others_from_a_recheck() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    rig.work(1, output("a"));
    rig.judged(job, "reproduced", Need::Enough);
    let full = Report { slots_free: 0, ..report(2, &[]) };
    rig.sync_with(full.clone());
    rig.announce_as(spec("m", 1), "ci", Class::Recheck);
    assert_eq!(rig.offers(1).len(), 1, "who could be asked first never takes anything");
}

#[test]
fn who_answered_before_is_asked_when_others_did_not_take_it_for_ten_minutes() {
    let mut rig = Rig::new();
    let job = rig.announce("m", 1);
    rig.work(1, output("a"));
    rig.judged(job, "reproduced", Need::Enough);
    rig.announce_as(spec("long", 1), "ci", Class::Gate);
    let long = rig.sync_with(Report { slots_free: 1, ..report(2, &[]) }).offers.remove(0);
    rig.accept(2, &long);
    rig.announce_as(spec("m", 1), "ci", Class::Recheck);
    for _ in 0..10 {
        rig.heartbeat(2, &[&long]);
        assert!(rig.offers(1).is_empty(), "operator 2 is at work, and comes first");
        rig.pass(MINUTE);
    }
    assert_eq!(rig.offers(1).len(), 1);
}

#[test]
fn a_held_call_is_answered_when_there_is_something_to_do() {
    let mut rig = Rig::new();
    let waits = |n| Report { waits: true, ..report(n, &[]) };
    for n in 1..4 {
        assert_eq!(rig.sync_with(waits(n)), Desired::default());
    }
    rig.apply(Event::Hangup { worker: worker(3) });
    rig.announce("m", 2);
    let mut woken = rig.woken();
    woken.sort();
    let mut expected = vec![worker(1), worker(2)];
    expected.sort();
    assert_eq!(woken, expected, "each slot to another one that waits");
    assert_eq!(rig.offers(1).len(), 1, "the offer is there when it asks");
    rig.announce("n", 1);
    assert!(rig.woken().is_empty(), "nobody waits any more");
}

#[test]
fn calls_are_held_and_hung_up_in_any_order() {
    let mut rig = Rig::new();
    for round in 0..40_u32 {
        let n = round * 7 % 11;
        let draining = round % 13 == 0;
        rig.sync_with(Report { waits: true, draining, slots_free: round % 3, ..report(n, &[]) });
        if round % 2 == 0 {
            rig.apply(Event::Hangup { worker: worker(round * 5 % 11) });
        }
    }
    rig.pass(HOUR);
    assert_eq!(rig.queue.figures().workers, 0, "nobody was heard for long");
}

#[test]
fn whoever_names_an_architecture_twice_waits_and_leaves_like_others() {
    let mut rig = Rig::new();
    let twice = || vec!["amd64".into(), "arm64".into(), "amd64".into()];
    for round in 0..60_u32 {
        let n = round * 7 % 5;
        rig.sync_with(Report { architectures: twice(), waits: true, ..report(n, &[]) });
        if round % 3 != 0 {
            rig.apply(Event::Hangup { worker: worker(round * 3 % 5) });
        }
    }
    for n in 0..5 {
        rig.apply(Event::Hangup { worker: worker(n) });
    }
    rig.announce("m", 1);
    assert!(rig.woken().is_empty(), "nobody waits any more");
}

#[test]
fn whoever_holds_a_lease_is_not_forgotten() {
    let mut rig = Rig::new();
    rig.announce("m", 1);
    let slow = rig.lease(1);
    rig.sync_with(report(2, &[]));
    rig.pass(8 * MINUTE);
    assert_eq!(rig.queue.figures().workers, 1, "silent, and its lease is not over");
    assert_eq!(rig.heartbeat(1, &[&slow]), Desired::default());
}

#[test]
fn a_held_call_is_not_offered_what_the_worker_cannot_do() {
    let mut rig = Rig::new();
    let other = Report { architectures: vec!["arm64".into()], waits: true, ..report(1, &[]) };
    rig.sync_with(other);
    let small = Report { memory_mib: 1024, waits: true, ..report(2, &[]) };
    rig.sync_with(small);
    let large = spec_at("registry.example/a", "m", "apko", "amd64", 4096, 1);
    rig.announce_as(large, "ci", Class::Push);
    assert!(rig.woken().is_empty() && rig.queue.figures().offers == 0);
}

#[test]
fn when_a_slot_becomes_free_the_next_one_that_waits_is_woken() {
    let mut rig = Rig::new();
    rig.announce("m", 1);
    let offer = rig.offers(1).remove(0);
    rig.sync_with(Report { waits: true, ..report(2, &[]) });
    rig.decline(1, &offer);
    assert_eq!(rig.woken(), vec![worker(2)]);
}

#[test]
fn a_worker_that_gave_its_result_and_waits_gets_the_next_job() {
    let mut rig = Rig::new();
    rig.announce("a", 1);
    let offer = rig.lease(1);
    let busy = Report { slots_free: 0, waits: true, ..report(1, &[&offer]) };
    rig.sync_with(busy);
    rig.announce("b", 1);
    assert!(rig.woken().is_empty(), "no room");
    rig.submit(1, &offer, output("a"));
    assert_eq!(rig.woken(), vec![worker(1)]);
}

#[test]
fn a_worker_for_which_there_is_nothing_new_is_left_waiting() {
    let mut rig = Rig::new();
    rig.announce("a", 1);
    rig.announce("b", 1);
    let leases = [rig.lease(1), rig.lease(1)];
    let both = leases.each_ref();
    rig.sync_with(Report { slots_free: 0, waits: true, ..report(1, &both) });
    rig.submit(1, &leases[0], output("a"));
    assert!(rig.woken().is_empty(), "it holds a lease, and no offer");
}

#[test]
fn which_of_the_earliest_is_offered_cannot_be_foretold() {
    let mut first = BTreeSet::new();
    for draws in 0..40 {
        let mut rig = Rig::new();
        for i in 0..6 {
            rig.announce(&format!("{i}"), 1);
        }
        rig.draws = draws * 1000;
        let one = Report { slots_free: 1, ..report(1, &[]) };
        first.insert(rig.sync_with(one).offers[0].job);
    }
    assert_eq!(first.len(), 4, "one of four");
}
