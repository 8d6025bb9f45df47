//! The schedules that run with every `cargo test`, and what shows that the checks can fail.

use super::checks::Violation;
use super::plan::Plan;
use super::shrink::shrink;
use super::site::Sabotage;
use super::world::{Depth, Outcome, World};
use std::{
    io::Write,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// Schedules in `cargo test`, which is built without optimisation.
const SEEDS_USUAL: u64 = 2_000;
/// Seeds within which each kind of sabotage must be caught.
const SABOTAGE_SEEDS: u64 = 1_500;
/// Lines of what happened last that a failure shows.
const TRACE_LINES: usize = 80;

fn depth(seed: u64) -> Depth {
    match seed % 64 {
        0 => Depth::Signed,
        1 | 17 | 33 | 49 => Depth::Whole,
        _ => Depth::Bare,
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.trim().parse().ok())
}

fn run(seed: u64, sabotage: Sabotage) -> Result<Outcome, Violation> {
    World::new(&Plan::of(seed), depth(seed), sabotage, false).run()
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A violation, with the smallest schedule that shows it.
fn explain(seed: u64, violation: &Violation) -> String {
    let depth = depth(seed);
    let plan = shrink(&Plan::of(seed), depth, Sabotage::None, violation.invariant);
    let mut world = World::new(&plan, depth, Sabotage::None, true);
    let found = world.run();
    let trace = world.trace();
    let last = trace.len().saturating_sub(TRACE_LINES);
    format!(
        "seed {seed} ({depth:?}) breaks {}: {}\nsmallest: {plan:#?}\n{found:?}\n{}",
        violation.invariant,
        violation.what,
        trace[last..].join("\n")
    )
}

struct Sum {
    schedules: u64,
    total: Outcome,
    fewest: (u64, u64),
}

/// Runs schedules on all cores; gives what they came to, or the violations.
fn many(from: u64, count: u64) -> Result<Sum, Vec<(u64, Violation)>> {
    let next = AtomicU64::new(from);
    let failed = AtomicBool::new(false);
    let fewest = (u64::MAX, u64::MAX);
    let sum = Mutex::new(Sum { schedules: 0, total: Outcome::default(), fewest });
    let violations = Mutex::new(Vec::new());
    let threads = number("ASSAY_THREADS").unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64)
    });
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    match run(seed, Sabotage::None) {
                        Ok(one) => {
                            let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                            add(&mut sum, &one);
                        }
                        Err(violation) => {
                            failed.store(number("ASSAY_GO_ON").is_none(), Ordering::Relaxed);
                            let mut all = violations.lock().unwrap_or_else(PoisonError::into_inner);
                            all.push((seed, violation));
                        }
                    }
                }
            });
        }
    });
    let violations = violations.into_inner().unwrap_or_else(PoisonError::into_inner);
    if violations.is_empty() {
        Ok(sum.into_inner().unwrap_or_else(PoisonError::into_inner))
    } else {
        Err(violations)
    }
}

fn add(sum: &mut Sum, one: &Outcome) {
    let total = &mut sum.total;
    sum.schedules += 1;
    total.steps += one.steps;
    total.faults += one.faults;
    total.records += one.records;
    total.receipts += one.receipts;
    total.starts += one.starts;
    total.judged += one.judged;
    total.parked += one.parked;
    sum.fewest = (sum.fewest.0.min(one.steps), sum.fewest.1.min(one.faults));
}

#[test]
fn schedules_hold_every_invariant() {
    if let Some(seed) = number("ASSAY_SEED") {
        let plan = Plan::of(seed);
        let mut world = World::new(&plan, depth(seed), Sabotage::None, true);
        let found = world.run();
        say(&world.trace().join("\n"));
        if let Err(violation) = &found {
            panic!("{}", explain(seed, violation));
        }
        return;
    }
    let count = number("ASSAY_SEEDS").unwrap_or(SEEDS_USUAL);
    let started = Instant::now();
    match many(number("ASSAY_SEED_FROM").unwrap_or(0), count) {
        Ok(Sum { schedules, total, fewest }) => {
            let seconds = started.elapsed().as_secs_f64();
            say(&format!(
                "{schedules} schedules in {seconds:.1} s ({:.0} a second), at least {} steps and {} \
                 faults each; {total:?}; 0 violations",
                schedules as f64 / seconds,
                fewest.0,
                fewest.1,
            ));
            assert_eq!(schedules, count);
            assert!(fewest.0 >= 200 && fewest.1 >= 5, "{fewest:?}");
            assert!(
                total.receipts > schedules && total.judged > 0 && total.parked > 0,
                "{total:?}"
            );
        }
        Err(violations) => {
            let list: Vec<String> = violations
                .iter()
                .map(|(seed, v)| format!("{seed} {} {}", v.invariant, v.what))
                .collect();
            let (seed, violation) = &violations[0];
            panic!("{}\n{}", list.join("\n"), explain(*seed, violation));
        }
    }
}

#[test]
fn a_schedule_replays_exactly() {
    for seed in [0, 1, 2, 64, 65] {
        let traced = || {
            let plan = Plan::of(seed);
            let mut world = World::new(&plan, depth(seed), Sabotage::None, true);
            let outcome = world.run();
            (outcome, world.trace())
        };
        let (first, second) = (traced(), traced());
        assert_eq!(first.0, second.0, "seed {seed}");
        assert!(first.1 == second.1, "seed {seed} takes two ways");
    }
}

/// Every invariant is seen to fail when the coordinator is broken in its way.
#[test]
fn every_kind_of_sabotage_is_caught() {
    let expected = [
        (Sabotage::AnswerEarly, "I7"),
        (Sabotage::LyingDisk, "I7"),
        (Sabotage::AppendTwice, "I7"),
        (Sabotage::ReviveFence, "I8"),
        (Sabotage::CountKeys, "I9"),
        (Sabotage::ForgetEquivocation, "I2"),
        (Sabotage::MakeUp, "I1"),
        (Sabotage::FirstWins, "I5"),
        (Sabotage::HideDissent, "I6"),
        (Sabotage::CountAnswers, "I9"),
        (Sabotage::NeverJudge, "I10"),
        (Sabotage::AdmitTag, "I11"),
    ];
    for (sabotage, invariant) in expected {
        // Bare schedules only: some sabotage needs the transitions at hand.
        let bare = (0..SABOTAGE_SEEDS).filter(|seed| depth(*seed) == Depth::Bare);
        let mut found = bare.filter_map(|seed| run(seed, sabotage).err().map(|v| (seed, v)));
        let caught = found.find(|(_, violation)| violation.invariant == invariant);
        assert!(caught.is_some(), "{sabotage:?} is not caught as {invariant}");
    }
}

#[test]
fn a_failing_schedule_shrinks() {
    let fails = |seed: &u64| run(*seed, Sabotage::ReviveFence).is_err_and(|v| v.invariant == "I8");
    let seed = (2..SABOTAGE_SEEDS).filter(|s| depth(*s) == Depth::Bare).find(fails).unwrap();
    let plan = Plan::of(seed);
    let small = shrink(&plan, Depth::Bare, Sabotage::ReviveFence, "I8");
    let size = |plan: &Plan| plan.faults.len() + plan.jobs.len() + plan.workers.len();
    assert!(size(&small) < size(&plan), "{small:?}");
    let again = World::new(&small, Depth::Bare, Sabotage::ReviveFence, false).run();
    assert_eq!(again.unwrap_err().invariant, "I8");
}
