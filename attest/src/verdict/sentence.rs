//! An outcome in words: one sentence for the reason, one for what would have to change.
//!
//! Invariant: the words follow from the decision alone; they hold no foreign text but digests,
//! operators' names of the policy, and gaps (already one line each).

use super::{
    judgement::VerdictOutcome,
    tally::{Decision, REOPENED_EXTRA, Tally},
};
use crate::{Gap, id::OperatorId};
use std::collections::BTreeSet;

/// Most gaps in a sentence; the finding lists all.
const GAPS_SHOWN: usize = 3;

/// An outcome with its words.
pub(super) struct Spoken {
    pub(super) outcome: VerdictOutcome,
    pub(super) reason: String,
    pub(super) to_pass: String,
    pub(super) suspects: Vec<OperatorId>,
}

fn names<'a>(operators: impl IntoIterator<Item = &'a OperatorId>) -> String {
    operators.into_iter().map(OperatorId::as_str).collect::<Vec<_>>().join(", ")
}

fn gaps(gaps: &[Gap]) -> String {
    let mut text: Vec<String> = gaps.iter().take(GAPS_SHOWN).map(Gap::to_string).collect();
    if gaps.len() > GAPS_SHOWN {
        text.push(format!("and {} more", gaps.len() - GAPS_SHOWN));
    }
    text.join("; ")
}

/// Words for an outcome that needed no observation.
pub(super) fn without_answers(outcome: &VerdictOutcome) -> (String, String) {
    match outcome {
        VerdictOutcome::Untrusted => (
            "There is evidence, but none by a publisher whom the policy names.".to_owned(),
            "Evidence signed by a publisher of the policy, or that signer in the policy."
                .to_owned(),
        ),
        VerdictOutcome::NotRebuildable { gaps: found } => (
            format!("The recipe cannot be rebuilt: {}.", gaps(found)),
            "Evidence with a complete recipe that Assay supports.".to_owned(),
        ),
        VerdictOutcome::Inconclusive { reason } => (
            reason.clone(),
            "A policy and evidence that this version can check, as the reason says.".to_owned(),
        ),
        other => (other.as_str().to_owned(), String::new()),
    }
}

/// Words for a decision.
pub(super) fn of(decision: &Decision, tally: &Tally<'_>) -> Spoken {
    let matching = names(tally.matches.keys().copied());
    let dissenting = names(tally.dissent.keys().copied());
    let (k, required) = (tally.matches.len(), tally.required);
    let mut suspects = BTreeSet::new();
    let (outcome, reason, to_pass) = match decision {
        Decision::Reproduced { level, resolved } => {
            let mut reason = format!(
                "{k} operators ({matching}) rebuilt the published image at level {level}; \
                 {required} are required"
            );
            if *resolved {
                suspects.extend(tally.dissent.keys().copied());
                reason.push_str(&format!(
                    "; {dissenting} observed another output, which {} others answered afterwards",
                    tally.resolving()
                ));
            }
            reason.push('.');
            let outcome = VerdictOutcome::Reproduced { level: *level };
            (outcome, reason, "Nothing has to change.".to_owned())
        }
        Decision::Diverged { output } => {
            let agreeing: BTreeSet<&OperatorId> = tally
                .dissent
                .iter()
                .filter(|(operator, dissent)| {
                    !tally.saw_published.contains(**operator)
                        && dissent.iter().all(|(_, other)| other == output)
                })
                .map(|(operator, _)| *operator)
                .collect();
            let voices = tally.dissent.keys().chain(&tally.saw_published).copied();
            suspects.extend(voices.filter(|operator| !agreeing.contains(operator)));
            let reason = format!(
                "{} operators ({}) rebuilt one other image, {output}, from the publisher's recipe.",
                agreeing.len(),
                names(agreeing.iter().copied())
            );
            let to_pass = "An image that the attested recipe builds, or the recipe that built \
                           this one."
                .to_owned();
            (VerdictOutcome::Diverged, reason, to_pass)
        }
        Decision::Flaky => (
            VerdictOutcome::Flaky,
            format!("Rebuilders disagree with each other: {dissenting} each built another image."),
            "A build whose output does not depend on where and when it runs.".to_owned(),
        ),
        Decision::Disputed => disputed(tally, &mut suspects),
        Decision::Failed { gaps: found } => (
            VerdictOutcome::NotRebuildable { gaps: found.clone() },
            format!("The image cannot be rebuilt: {}.", gaps(found)),
            "A recipe and inputs that can be rebuilt, as the gaps say.".to_owned(),
        ),
        Decision::NotDiverse => inconclusive(
            format!(
                "{k} operators rebuilt the published image, but no {required} of them differ in \
                 what the policy's diversity names."
            ),
            "Observations from environments that differ as the policy asks.".to_owned(),
        ),
        Decision::TooFew => inconclusive(
            format!("{k} of the {required} required operators rebuilt the published image."),
            format!("{} more operators that rebuild it.", (required as usize).saturating_sub(k)),
        ),
    };
    let suspects = suspects.into_iter().cloned().collect();
    Spoken { outcome, reason, to_pass, suspects }
}

fn inconclusive(reason: String, to_pass: String) -> (VerdictOutcome, String, String) {
    (VerdictOutcome::Inconclusive { reason: reason.clone() }, reason, to_pass)
}

fn disputed<'a>(
    tally: &Tally<'a>,
    suspects: &mut BTreeSet<&'a OperatorId>,
) -> (VerdictOutcome, String, String) {
    let dissenting = names(tally.dissent.keys().copied());
    let seen = tally.saw_published.len();
    let reason = format!(
        "{dissenting} observed another output, {seen} operators the published one; the dissent is \
         not resolved."
    );
    let needed = tally.wanted.saturating_add(REOPENED_EXTRA);
    let to_pass = if tally.dissent.len() == 1 {
        if seen > 1 {
            suspects.extend(tally.dissent.keys().copied());
        }
        format!(
            "{needed} other operators, leased after the dissent, that rebuild the published image \
             ({} so far).",
            tally.resolving()
        )
    } else {
        "Nothing by numbers: two or more operators dissent; the image or the recipe has to change."
            .to_owned()
    };
    (VerdictOutcome::Disputed, reason, to_pass)
}
