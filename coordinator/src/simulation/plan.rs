//! What happens in one schedule: who is there, what is asked, what goes wrong and when.
//!
//! Invariant: everything follows from the seed, and every entry can be dropped without changing the
//! chances of the others: that is what lets a failing schedule shrink.

use super::random::Chance;
use crate::queue::{Class, Limits};

/// Operators that there can be.
pub(super) const OPERATORS_MAX: usize = 7;

/// How a worker works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Builds, and says what came out.
    Honest,
    /// Never builds, and always says that it matches.
    Lazy,
    /// Says something that nobody else says.
    Liar,
    /// Says what its accomplices say.
    Colluding,
    /// Needs longer than it may, now and then, and is silent meanwhile.
    Slow,
    /// Takes offers and gives them back.
    Broken,
    /// Does not answer every offer, and declines some.
    Silent,
    /// Its policy forbids it.
    Refusing,
    /// Signs two different answers for one lease.
    Equivocating,
    /// Goes on with what it was told to stop, and sends everything twice.
    Stubborn,
    /// Sends observations that nobody asked for.
    Volunteering,
}

const MANNERS: [Manner; 10] = [
    Manner::Lazy,
    Manner::Liar,
    Manner::Colluding,
    Manner::Slow,
    Manner::Broken,
    Manner::Silent,
    Manner::Refusing,
    Manner::Equivocating,
    Manner::Stubborn,
    Manner::Volunteering,
];

/// What rebuilding an image really gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Truth {
    /// What was published.
    Reproducible,
    /// Something else, always the same.
    Tampered,
    /// Something else each time.
    Nondeterministic,
    /// Nothing: the build fails.
    Failing,
    /// Nothing: an input is gone.
    InputGone,
    /// Nothing: it is too large.
    TooLarge,
}

/// Somebody wants an image judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlannedJob {
    pub(super) image: u8,
    pub(super) truth: Truth,
    pub(super) wanted: u32,
    pub(super) tenant: u8,
    pub(super) class: Class,
    pub(super) step: u32,
    /// No worker can do it.
    pub(super) unroutable: bool,
    /// How often it is announced: again as a recheck.
    pub(super) times: u32,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct PlannedWorker {
    pub(super) operator: u8,
    pub(super) manner: Manner,
}

/// Something goes wrong, for so many steps where it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Loss {
        percent: u64,
        steps: u32,
    },
    Duplication {
        percent: u64,
        steps: u32,
    },
    /// Messages take up to so long: they overtake each other.
    Delay {
        ms: u64,
        steps: u32,
    },
    Partition {
        worker: u8,
        steps: u32,
    },
    WorkerCrash {
        worker: u8,
        steps: u32,
    },
    /// The coordinator is killed; what it wrote is in the page cache.
    Kill,
    /// The coordinator is killed in the middle of a disk operation.
    KillAt {
        operation: u32,
    },
    /// The power goes in the middle of a disk operation.
    PowerCut {
        operation: u32,
    },
    DiskError {
        operation: u32,
    },
    DiskFull {
        operation: u32,
        writes: u32,
    },
    /// A bit on the disk flips while the coordinator is down.
    BitFlip,
    /// Everybody's time jumps.
    Leap {
        ms: u64,
    },
    Throttle {
        ms: u64,
    },
    Drain {
        worker: u8,
        steps: u32,
    },
    Unpark {
        job: u8,
    },
    /// The judge does not answer for so long.
    JudgeAway {
        steps: u32,
    },
    /// The index is lost, or is behind.
    IndexLost,
    /// An observation with a signature that is not its worker's is filed with the evidence.
    Forgery {
        job: u8,
    },
}

/// One schedule.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Steps with faults; then everything is well, and every job must end.
    pub(super) steps: u32,
    /// Operators that must agree.
    pub(super) required: u32,
    pub(super) short_waits: bool,
    pub(super) jobs: Vec<PlannedJob>,
    pub(super) workers: Vec<PlannedWorker>,
    pub(super) faults: Vec<(u32, Fault)>,
}

impl Plan {
    /// The schedule of a seed: at least 200 steps and 5 faults.
    pub(super) fn of(seed: u64) -> Self {
        let mut chance = Chance::of(seed, 1);
        let steps = chance.within(200, 320) as u32;
        let operators = chance.within(2, OPERATORS_MAX as u64 + 1);
        let bad = chance.below(operators + 1);
        let mut workers = Vec::new();
        for operator in 0..operators {
            let manner = match chance.below(operators) < bad {
                true => MANNERS[chance.below(MANNERS.len() as u64) as usize],
                false => Manner::Honest,
            };
            for _ in 0..1 + u64::from(chance.percent(25)) {
                workers.push(PlannedWorker { operator: operator as u8, manner });
            }
        }
        let jobs = (0..chance.within(1, 5)).map(|i| job(&mut chance, i as u8, steps)).collect();
        let faults = chance.within(5, 10);
        let mut faults: Vec<_> = (0..faults)
            .map(|_| (chance.below(u64::from(steps)) as u32, fault(&mut chance, workers.len())))
            .collect();
        faults.sort_by_key(|(step, _)| *step);
        let (required, short_waits) = (chance.within(1, 4) as u32, chance.percent(60));
        Self { seed, steps, required, short_waits, jobs, workers, faults }
    }

    /// The queue's numbers: as they are, or with short waits and little room.
    pub(super) fn limits(&self) -> Limits {
        let usual = Limits::default();
        if !self.short_waits {
            return Limits { present_ms: 24 * 3_600_000, ..usual };
        }
        Limits {
            offer_ms: 5_000,
            suspect_ms: 20_000,
            expire_ms_min: 60_000,
            skip_ms: 10_000,
            exhausted_ms: 60_000,
            present_ms: 24 * 3_600_000,
            window_max: 2,
            active_max: 3,
            tries_per_slot_max: 3,
            ..usual
        }
    }
}

fn job(chance: &mut Chance, image: u8, steps: u32) -> PlannedJob {
    let truth = match chance.below(10) {
        0 => Truth::Tampered,
        1 => Truth::Nondeterministic,
        2 => Truth::Failing,
        3 => Truth::InputGone,
        4 => Truth::TooLarge,
        _ => Truth::Reproducible,
    };
    PlannedJob {
        image,
        truth,
        wanted: chance.within(1, 5) as u32,
        tenant: chance.below(2) as u8,
        class: Class::ALL[chance.below(5) as usize],
        step: if image == 0 { 0 } else { chance.below(u64::from(steps) / 2) as u32 },
        unroutable: chance.percent(4),
        times: 1 + u32::from(chance.percent(25)),
    }
}

fn fault(chance: &mut Chance, workers: usize) -> Fault {
    let worker = chance.below(workers as u64) as u8;
    let steps = chance.within(10, 80) as u32;
    let operation = chance.below(24) as u32;
    match chance.below(20) {
        0 => Fault::Loss { percent: chance.within(10, 70), steps },
        1 => Fault::Duplication { percent: chance.within(20, 90), steps },
        2 | 3 => Fault::Delay { ms: chance.within(1_000, 120_000), steps },
        4 => Fault::Partition { worker, steps },
        5 => Fault::WorkerCrash { worker, steps },
        6 => Fault::Kill,
        7 => Fault::KillAt { operation },
        8..=10 => Fault::PowerCut { operation },
        11 => Fault::DiskError { operation },
        12 => Fault::DiskFull { operation, writes: chance.within(1, 6) as u32 },
        13 => Fault::BitFlip,
        14 => Fault::Leap { ms: chance.within(10_000, 7_200_000) },
        15 => match chance.percent(50) {
            true => Fault::Throttle { ms: chance.within(1_000, 600_000) },
            false => Fault::Drain { worker, steps },
        },
        16 => Fault::Unpark { job: chance.below(4) as u8 },
        17 => Fault::JudgeAway { steps },
        18 => Fault::IndexLost,
        _ => Fault::Forgery { job: chance.below(4) as u8 },
    }
}
