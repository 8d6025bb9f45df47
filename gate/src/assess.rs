//! One image of one platform, from its evidence to the decision and all that explains it. Pure.
//!
//! Invariant: the evidence is judged here, again, by `attest::verdict::judge` under this policy;
//! verdicts and attestations in it are not asked. No evidence is `inconclusive`, evidence that
//! could not be read is `error`.

use crate::{
    age::verdict_time,
    collect::{Gathered, Predecessors, UsedSet},
    decision::{Before, Decision, Facts, Rules, Waived, decide},
    error::GateError,
    image::{Asked, Wanted},
    outcome::{Admission, Class, Outcome},
};
use attest::{
    Digest, Level,
    id::{ObservationId, OperatorId},
    policy::{Mode, Policy},
    time::Timestamp,
    verdict::{Dissent, Judgement, UsedEvidence, VerdictOutcome, judge},
};
use serde::Serialize;

/// An operator that is counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CountedOperator {
    /// Who.
    pub operator: OperatorId,
    /// By which observation.
    pub observation: ObservationId,
    /// At which level.
    pub level: Level,
}

/// An observation that is not counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotCountedOperator {
    /// Whose it is, or says that it is.
    pub operator: String,
    /// Why not.
    pub why: String,
    /// Which.
    pub observation: ObservationId,
}

/// A decision with everything that explains it. The fields are the contract of
/// `assay/gate/v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ruling {
    /// What is known.
    pub outcome: Outcome,
    /// How a gate sees that.
    pub class: Class,
    /// What happens.
    pub decision: Admission,
    /// The mode that counted.
    pub mode: Mode,
    /// True when this mode, at this moment, denies.
    pub enforced: bool,
    /// Why, in one sentence.
    pub reason: String,
    /// What would have to change, in one sentence.
    pub to_pass: String,
    /// The level that was reproduced.
    pub level: Level,
    /// How many operators are counted.
    pub k: u32,
    /// How many operators built something, in any attempt.
    pub n: u32,
    /// How many the policy asks for.
    pub required: u32,
    /// Who is counted.
    pub counted: Vec<CountedOperator>,
    /// Who observed another output.
    pub dissent: Vec<Dissent>,
    /// Who stands alone against others that agree.
    pub suspects: Vec<OperatorId>,
    /// What is not counted, and why.
    pub not_counted: Vec<NotCountedOperator>,
    /// The recipe; the first, where several follow from the publisher's evidence.
    pub recipe: Option<Digest>,
    /// The waiver that let the image pass.
    pub waiver: Option<Waived>,
    /// The sets that were judged.
    pub evidence: Vec<UsedSet>,
    /// The publisher's statements that the recipe follows from.
    pub statements: Vec<UsedEvidence>,
    /// When it was last known to hold.
    pub verdict_time: Option<Timestamp>,
}

/// Decides about one image from what was gathered about it, and about others of its repository.
pub fn assess(
    policy: &Policy,
    asked: &Asked,
    wanted: &Wanted,
    gathered: &Result<Gathered, GateError>,
    others: &Predecessors<'_>,
    now: Timestamp,
) -> Ruling {
    match gathered {
        Err(error) => unreadable(policy, asked, wanted, error, now),
        Ok(gathered) => match (&gathered.set, &wanted.obscure) {
            (Some(set), None) => {
                let judgement = judge(policy, set);
                let before = before(policy, Some(&judgement), others);
                let time = verdict_time(policy, set, &judgement, now);
                let facts = Facts {
                    outcome: Outcome::from(&judgement.outcome),
                    reason: &judgement.reason,
                    to_pass: &judgement.to_pass,
                    verdict_time: time,
                    before,
                };
                let decision = decided(policy, asked, wanted, &facts, now);
                explained(decision, &judgement, gathered, time)
            }
            (_, obscure) => {
                let reason = obscure
                    .clone()
                    .unwrap_or_else(|| format!("No evidence about {} was found.", wanted.subject));
                let facts = Facts {
                    outcome: Outcome::Inconclusive,
                    reason: &reason,
                    to_pass: "Evidence about this image, from a fleet that rebuilt it.",
                    verdict_time: None,
                    before: before(policy, None, others),
                };
                let decision = decided(policy, asked, wanted, &facts, now);
                Ruling { evidence: gathered.used.clone(), ..bare(decision, policy) }
            }
        },
    }
}

fn unreadable(
    policy: &Policy,
    asked: &Asked,
    wanted: &Wanted,
    error: &GateError,
    now: Timestamp,
) -> Ruling {
    let reason = format!("The evidence could not be read: {error}.");
    let to_pass = format!("Evidence that can be read: {}.", error.hint());
    let facts = Facts {
        outcome: Outcome::Error,
        reason: &reason,
        to_pass: &to_pass,
        verdict_time: None,
        before: Before::Unknown,
    };
    bare(decided(policy, asked, wanted, &facts, now), policy)
}

fn decided(
    policy: &Policy,
    asked: &Asked,
    wanted: &Wanted,
    facts: &Facts<'_>,
    now: Timestamp,
) -> Decision {
    let repository = &asked.repository;
    let gate = policy.gate_for(asked.source, repository, &wanted.subject.platform);
    let digests = [wanted.subject.digest, asked.digest];
    let waivers: Vec<_> = policy.waivers_for(asked.source, repository, &digests).collect();
    decide(facts, &Rules { gate: &gate, waivers: &waivers, now })
}

/// What is known of the time before: enough operators rebuilt this image before others dissented,
/// or another image of the same repository and platform is reproduced.
fn before(policy: &Policy, judgement: Option<&Judgement>, others: &Predecessors<'_>) -> Before {
    let was_met = |j: &Judgement| j.required > 0 && j.k >= j.required && !j.dissent.is_empty();
    let is_good = |set| matches!(judge(policy, set).outcome, VerdictOutcome::Reproduced { .. });
    // Nothing else asks, and judging takes its time.
    let asked = policy.gate.regressions_only;
    if judgement.is_some_and(was_met) || (asked && others.sets.iter().copied().any(is_good)) {
        Before::Good
    } else if others.known {
        Before::NotGood
    } else {
        Before::Unknown
    }
}

/// A ruling about an image of which no observation was looked at.
pub(crate) fn bare(decision: Decision, policy: &Policy) -> Ruling {
    Ruling {
        outcome: decision.outcome,
        class: decision.class,
        decision: decision.admission,
        mode: decision.mode,
        enforced: decision.enforced,
        reason: decision.reason,
        to_pass: decision.to_pass,
        level: Level::None,
        k: 0,
        n: 0,
        required: policy.quorum.as_ref().map_or(0, |quorum| quorum.reproduced),
        counted: Vec::new(),
        dissent: Vec::new(),
        suspects: Vec::new(),
        not_counted: Vec::new(),
        recipe: None,
        waiver: decision.waiver,
        evidence: Vec::new(),
        statements: Vec::new(),
        verdict_time: None,
    }
}

fn explained(
    decision: Decision,
    judgement: &Judgement,
    gathered: &Gathered,
    verdict_time: Option<Timestamp>,
) -> Ruling {
    let counted = judgement.counted.iter().map(|counted| CountedOperator {
        operator: counted.operator.clone(),
        observation: counted.observation,
        level: counted.level,
    });
    let not_counted = judgement.not_counted.iter().map(|not| NotCountedOperator {
        operator: not.operator.clone(),
        why: not.why.clone(),
        observation: not.observation,
    });
    Ruling {
        outcome: decision.outcome,
        class: decision.class,
        decision: decision.admission,
        mode: decision.mode,
        enforced: decision.enforced,
        reason: decision.reason,
        to_pass: decision.to_pass,
        level: judgement.outcome.level(),
        k: judgement.k,
        n: judgement.n,
        required: judgement.required,
        counted: counted.collect(),
        dissent: judgement.dissent.clone(),
        suspects: judgement.suspects.clone(),
        not_counted: not_counted.collect(),
        recipe: judgement.recipes.first().copied(),
        waiver: decision.waiver,
        evidence: gathered.used.clone(),
        statements: judgement.evidence.clone(),
        verdict_time,
    }
}
