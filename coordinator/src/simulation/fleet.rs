//! Workers: what they do with offers, what they say, what they keep.
//!
//! Invariant: an observation is in the outbox before it is first sent, and stays there until its
//! receipt came: a crash of the worker loses what it was building, never what it signed.

use super::images::{AGREED, OWN, PUBLISHED, REBUILT, digest};
use super::plan::{Manner, Truth};
use super::random::Chance;
use super::signed;
use crate::queue::{Offer, Said};
use attest::id::{LeaseId, ObservationId, OperatorId, WorkerId};
use std::collections::BTreeMap;

/// A lease that is being worked on.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) offer: Offer,
    pub(super) done_at: u64,
    /// It would take longer than it may.
    pub(super) late: bool,
}

/// A worker.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) id: WorkerId,
    pub(super) operator: OperatorId,
    /// The operator's number, and which of its workers this is.
    pub(super) key: (usize, usize),
    pub(super) manner: Manner,
    pub(super) chance: Chance,
    /// Down until this step.
    pub(super) down_until: u32,
    pub(super) cut_off_until: u32,
    pub(super) silent_until: u64,
    /// Offers that it asked to take.
    pub(super) asked: BTreeMap<LeaseId, Offer>,
    pub(super) runs: BTreeMap<LeaseId, Run>,
    /// Signed, and no receipt yet: the lease, and when it is sent again.
    pub(super) outbox: Vec<(ObservationId, LeaseId, u64)>,
}

/// What a worker does with an offer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Accept,
    Decline,
    Ignore,
}

impl Worker {
    pub(super) fn new(operator: usize, nth: usize, manner: Manner, chance: Chance) -> Self {
        Self {
            id: signed::worker(operator, nth),
            operator: signed::names()[operator].clone(),
            key: (operator, nth),
            manner,
            chance,
            down_until: 0,
            cut_off_until: 0,
            silent_until: 0,
            asked: BTreeMap::new(),
            runs: BTreeMap::new(),
            outbox: Vec::new(),
        }
    }

    /// It dies and comes back with its outbox.
    pub(super) fn crash(&mut self) {
        self.asked.clear();
        self.runs.clear();
    }

    pub(super) fn choose(&mut self) -> Choice {
        match self.manner {
            Manner::Silent => match self.chance.below(4) {
                0 => Choice::Accept,
                1 => Choice::Decline,
                _ => Choice::Ignore,
            },
            _ => Choice::Accept,
        }
    }

    /// How long it builds, in milliseconds.
    pub(super) fn build_ms(&mut self) -> u64 {
        let usual = self.chance.within(2_000, 240_000);
        match self.manner {
            Manner::Slow if self.chance.percent(40) => usual * 40,
            _ => usual,
        }
    }

    /// What it says about an image. `late`: it ran into the cap.
    pub(super) fn says(&mut self, image: u8, truth: Truth, late: bool) -> Said {
        let output = |variant| Said::Output { manifest: digest(image, variant) };
        let own = OWN + self.chance.below(1 << 30) as u32;
        match self.manner {
            Manner::Lazy => return output(PUBLISHED),
            Manner::Liar => return output(own),
            Manner::Colluding => return output(AGREED),
            Manner::Refusing => return Said::Refused,
            _ if late => return Said::Timeout,
            _ => {}
        }
        match truth {
            Truth::Reproducible => output(PUBLISHED),
            Truth::Tampered => output(REBUILT),
            Truth::Nondeterministic => output(own),
            Truth::Failing => Said::BuildFailed { class: "exit".into() },
            Truth::InputGone => Said::InputUnavailable,
            Truth::TooLarge => Said::LimitExceeded { class: "bytes".into() },
        }
    }
}

/// Another answer than this one: an equivocator's second.
pub(super) fn contradiction(image: u8, said: &Said) -> Said {
    let other = Said::Output { manifest: digest(image, AGREED) };
    if *said == other { Said::Output { manifest: digest(image, PUBLISHED) } } else { other }
}
