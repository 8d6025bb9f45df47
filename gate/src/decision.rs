//! The decision: what happens to one image of one platform, from what is known of it and what the
//! policy says. Pure: no clock, no network, no files; `now` is an argument.
//!
//! ```text
//! outcome --max_age--> outcome --class--> what enforcement would do
//!         --regressions_only--> --waiver--> --mode--> admit | warn | deny
//! ```
//! Invariant: nothing in here makes an image better than it is: an outcome changes only from
//! `reproduced` to `stale`, and what is not known of the past softens nothing. What could not be
//! looked at is denied in every mode, because modes are about what was found. A waiver turns a denial into a warning that names it, never into silence.

use crate::{
    age::is_ahead,
    outcome::{Admission, Class, Outcome},
};
use attest::{
    policy::{GatePolicy, Mode, UnknownRule, Waiver},
    time::Timestamp,
};
use serde::Serialize;

/// What is known of the time before this image, for a policy that denies regressions alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// It was good before, or another image of the same repository and platform is.
    Good,
    /// The evidence of earlier images was looked at, and none was good.
    NotGood,
    /// No source was given that would know.
    Unknown,
}

/// What is known of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts<'a> {
    /// What the evidence comes to.
    pub outcome: Outcome,
    /// Why, in one sentence.
    pub reason: &'a str,
    /// What would have to change, in one sentence.
    pub to_pass: &'a str,
    /// When it was last known (`age`); none if nobody said when.
    pub verdict_time: Option<Timestamp>,
    /// Whether this is a regression.
    pub before: Before,
}

/// What the policy says about this image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules<'a> {
    /// The gate's table, with the mode of the first override that matches.
    pub gate: &'a GatePolicy,
    /// The waivers that are about this image, ended ones included.
    pub waivers: &'a [&'a Waiver],
    /// The moment of the decision.
    pub now: Timestamp,
}

/// A waiver that was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waived {
    /// Why the image may pass for a time.
    pub reason: String,
    /// Who answers for it.
    pub owner: String,
    /// When it ends.
    pub expires: Timestamp,
}

/// What happens to the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What is known, age included.
    pub outcome: Outcome,
    /// How a gate sees that.
    pub class: Class,
    /// What happens.
    pub admission: Admission,
    /// The mode that counted.
    pub mode: Mode,
    /// True when a denial would be, or is, one: by the mode at this moment, or because nobody
    /// could look.
    pub enforced: bool,
    /// Why, in one sentence.
    pub reason: String,
    /// What would have to change, in one sentence.
    pub to_pass: String,
    /// The waiver that let the image pass.
    pub waiver: Option<Waived>,
}

/// Silence about the past is no proof that nothing was good.
const NOBODY_KNOWS_BEFORE: &str = "whether it is a regression is not known, as no folder or bundle \
    with the evidence of earlier images is among the sources";

/// Decides.
pub fn decide(facts: &Facts<'_>, rules: &Rules<'_>) -> Decision {
    let gate = rules.gate;
    let (outcome, mut reason, to_pass) = aged(facts, rules);
    let class = outcome.class();
    let mut admission = match (class, gate.unknown) {
        (Class::Good, _) => Admission::Admit,
        (Class::Unknown, UnknownRule::Pass) => Admission::Admit,
        (Class::Unknown, UnknownRule::Warn) => Admission::Warn,
        (Class::Unknown, UnknownRule::Fail) | (Class::Bad | Class::Error, _) => Admission::Deny,
    };
    if class == Class::Unknown && gate.unknown == UnknownRule::Pass {
        also(&mut reason, "the policy lets unknown images pass");
    }
    let mut waiver = None;
    if admission == Admission::Deny && class != Class::Error {
        match facts.before {
            Before::NotGood if gate.regressions_only => {
                admission = Admission::Warn;
                also(&mut reason, "no image of this repository and platform is known to be better");
            }
            Before::Unknown if gate.regressions_only => also(&mut reason, NOBODY_KNOWS_BEFORE),
            _ => {}
        }
        waiver = waived(outcome, rules, &mut reason);
        if waiver.is_some() {
            admission = Admission::Warn;
        }
    }
    let enforced = is_enforced(gate, rules.now) || class == Class::Error;
    if !enforced {
        let mildest = if gate.mode == Mode::Observe { Admission::Admit } else { Admission::Warn };
        if admission > mildest {
            also(&mut reason, &not_enforced(gate));
            admission = mildest;
        }
    }
    Decision { outcome, class, admission, mode: gate.mode, enforced, reason, to_pass, waiver }
}

/// Reproduced too long ago, or at a time that nobody signed, is not good any more.
fn aged(facts: &Facts<'_>, rules: &Rules<'_>) -> (Outcome, String, String) {
    let as_it_is = (facts.outcome, facts.reason.to_owned(), facts.to_pass.to_owned());
    let (Outcome::Reproduced, Some(max)) = (facts.outcome, rules.gate.max_age_seconds) else {
        return as_it_is;
    };
    let found = match facts.verdict_time.filter(|time| !is_ahead(*time, rules.now)) {
        Some(time) => {
            // A clock that is a little ahead is no age at all.
            let age = u64::try_from(rules.now.seconds_since(time)).unwrap_or(0);
            if age <= max {
                return as_it_is;
            }
            format!("it was last seen at {time}")
        }
        None => "nobody says credibly when".to_owned(),
    };
    let reason = format!(
        "The image was reproduced, but {found}; the policy allows {} at {}.",
        in_words(max),
        rules.now
    );
    let to_pass = "Newer observations by as many operators as the policy asks for.".to_owned();
    (Outcome::Stale, reason, to_pass)
}

/// The waiver that counts; one that has ended is told in the reason.
fn waived(outcome: Outcome, rules: &Rules<'_>, reason: &mut String) -> Option<Waived> {
    let named = |w: &&&Waiver| w.outcomes.iter().any(|name| name == outcome.as_str());
    if let Some(w) = rules.waivers.iter().find(|w| w.counts(outcome.as_str(), rules.now)) {
        let Waiver { reason: why, owner, expires, .. } = w;
        also(reason, &format!("waived until {expires} by {owner} ({why})"));
        return Some(Waived { reason: why.clone(), owner: owner.clone(), expires: *expires });
    }
    if let Some(ended) = rules.waivers.iter().filter(named).max_by_key(|w| w.expires) {
        also(reason, &format!("the waiver by {} ended at {}", ended.owner, ended.expires));
    }
    None
}

/// True when this mode denies at this moment. `delay` without a date enforces.
fn is_enforced(gate: &GatePolicy, now: Timestamp) -> bool {
    match gate.mode {
        Mode::Observe | Mode::Warn => false,
        Mode::Delay => gate.delay_until.is_none_or(|until| now >= until),
        Mode::Enforce => true,
    }
}

fn not_enforced(gate: &GatePolicy) -> String {
    match (gate.mode, gate.delay_until) {
        (Mode::Delay, Some(until)) => format!("the policy enforces from {until}"),
        (mode, _) => format!("the policy's mode is {mode}"),
    }
}

/// Adds to a sentence.
fn also(sentence: &mut String, more: &str) {
    let end = sentence.trim_end_matches('.').len();
    sentence.truncate(end);
    sentence.push_str("; ");
    sentence.push_str(more);
    sentence.push('.');
}

/// `30 days`, `12 hours`, `90 s`.
fn in_words(seconds: u64) -> String {
    match seconds {
        s if s >= 86_400 && s % 86_400 == 0 => format!("{} days", s / 86_400),
        s if s >= 3_600 && s % 3_600 == 0 => format!("{} hours", s / 3_600),
        s => format!("{s} s"),
    }
}

#[cfg(test)]
mod tests;
