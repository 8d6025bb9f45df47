//! The verdict: a pure function of a policy and a set of evidence.
//!
//! ```text
//! publisher's evidence -> trust -> recipes -> job        (under this policy)
//! records              -> roster: whose worker is whose  (root keys of this policy)
//! leases               -> standing: counted or volunteer (coordinator key of this policy)
//! observations         -> answers -> tally -> outcome
//! ```
//! Invariant: no clock, no network, no order: the same evidence gives the same bytes on any
//! machine. An observation counts only if its subject (repository, digest, platform), job and
//! recipe are exactly those that follow here, its worker is vouched for by an operator whose root
//! key this policy holds, and its lease was of its attempt. A verdict in the evidence is never
//! read. Unknown is never good: what the policy asks for and this version cannot check makes the
//! outcome inconclusive.
//!
//! What cannot be seen: evidence that is not in the set. Signatures prove presence, never the
//! absence of a dissent or a revocation; whoever serves the set can leave one out (protocol,
//! "Completeness"). A dissent about the subject that *is* in the set always stands, also one from
//! another job (the publisher said its recipe otherwise), except that an operator which revokes a key
//! takes back all that the key signed, its dissent too; that is listed as such.
//! Not in this version: skips, draws and commitments (the protocol's second stage).

mod answers;
mod basis;
mod diversity;
mod judgement;
mod ladder;
mod leases;
mod need;
mod roster;
mod sentence;
mod tally;
mod why;

#[cfg(test)]
pub(crate) mod tests;

pub use judgement::{
    Counted, Dissent, Equivocation, FINDING_SCHEMA, Failure, Finding, Judgement, NotCounted,
    OutcomeClass, Reproduced, UsedEvidence, VERDICT_FUNCTION, VerdictOutcome,
};
pub use need::{ATTEMPTS_MAX, Need};
pub use why::Why;

use crate::{
    Digest,
    evidence_set::EvidenceSet,
    id::{JobId, OperatorId},
    observation::{Hint, one_line},
    policy::{Policy, Quorum},
};
use answers::{Answers, Question, Readings};
use basis::Basis;
use judgement::{WORDS_BYTES_MAX, WORDS_MAX};
use ladder::Published;
use leases::Leases;
use roster::Roster;
use std::collections::{BTreeMap, BTreeSet};
use tally::Tally;

/// Judges a set of evidence under a policy. The caller has made sure that the set is about the
/// image that was asked for ([`EvidenceSet::is_for`]).
pub fn judge(policy: &Policy, set: &EvidenceSet) -> Judgement {
    judge_and_needs(policy, set).0
}

/// What the job still needs. For the coordinator, under its own policy.
pub fn needs(policy: &Policy, set: &EvidenceSet) -> Need {
    judge_and_needs(policy, set).1
}

/// Both, from one look at the evidence: every signature is checked once.
pub fn judge_and_needs(policy: &Policy, set: &EvidenceSet) -> (Judgement, Need) {
    match Basis::of(policy, set) {
        Ok(basis) => judge_and_needs_on(policy, set, basis),
        Err((outcome, because)) => {
            let mut finding = without_answers(policy, set, outcome);
            if let Some(because) = because {
                let reason = finding.reason.trim_end_matches('.');
                finding.reason = format!("{reason} ({because}).");
            }
            (Judgement::new(finding), Need::Enough)
        }
    }
}

fn still_needed(judge: &Judge<'_>, answers: &Answers, tally: &Tally<'_>) -> Need {
    let announced = judge.leases.newest_attempt();
    let announced = announced.map(|at| (at, judge.leases.wanted_in(at)));
    let operators = judge.roster.names().collect();
    let openings = judge.leases.openings();
    need::Progress { tally, answers: &answers.answers, operators, announced, openings }.need()
}

/// One job under one policy, with everything that answers are matched with.
struct Judge<'a> {
    quorum: &'a Quorum,
    set: &'a EvidenceSet,
    basis: &'a Basis,
    job: JobId,
    leases: Leases,
    roster: Roster,
    readings: Option<Readings<'a>>,
}

impl<'a> Judge<'a> {
    fn new(policy: &'a Policy, quorum: &'a Quorum, set: &'a EvidenceSet, basis: &'a Basis) -> Self {
        let subject = &set.subject;
        let recipes: Vec<Digest> = basis.recipes.iter().map(|(digest, _)| *digest).collect();
        let job = JobId::of(&subject.repository, &subject.digest, &subject.platform, &recipes);
        let readings = Readings::new(set);
        let roster = Roster::new(policy, set, &readings.workers());
        let leases = Leases::new(policy, set, &job);
        Self { quorum, set, basis, job, leases, roster, readings: Some(readings) }
    }

    fn with<T>(mut self, then: impl FnOnce(&Self, &Answers, &Tally<'_>) -> T) -> T {
        let readings = self.readings.take().unwrap_or_else(|| Readings::new(self.set));
        let subject = &self.set.subject;
        let question = Question {
            set: self.set,
            quorum: self.quorum,
            basis: self.basis,
            job: self.job,
            published: Published::new(
                subject.digest,
                &self.set.manifest,
                self.set.config.as_deref(),
            ),
            leases: &self.leases,
            roster: &self.roster,
        };
        let answers = Answers::new(&question, readings);
        let tally = Tally::new(&question, &answers);
        then(&self, &answers, &tally)
    }
}

pub(crate) fn judge_and_needs_on(
    policy: &Policy,
    set: &EvidenceSet,
    basis: Basis,
) -> (Judgement, Need) {
    let Some(quorum) = &policy.quorum else {
        let reason = "The policy has no [quorum]: it names nobody whose rebuilds count.".to_owned();
        let mut finding = without_answers(policy, set, VerdictOutcome::Inconclusive { reason });
        finding.recipes = basis.recipes.iter().map(|(digest, _)| *digest).collect();
        finding.evidence = basis.evidence;
        return (Judgement::new(finding), Need::Enough);
    };
    let look = Judge::new(policy, quorum, set, &basis);
    let (finding, need) = look.with(|judge, answers, tally| {
        (found(policy, judge, answers, tally), still_needed(judge, answers, tally))
    });
    let judgement = Judgement::new(Finding {
        recipes: basis.recipes.iter().map(|(digest, _)| *digest).collect(),
        contradictions: basis.contradictions,
        evidence: basis.evidence,
        ..finding
    });
    (judgement, need)
}

/// A finding about an image of which no observation was looked at.
fn without_answers(policy: &Policy, set: &EvidenceSet, outcome: VerdictOutcome) -> Finding {
    let (reason, to_pass) = sentence::without_answers(&outcome);
    Finding {
        schema: FINDING_SCHEMA.to_owned(),
        function: VERDICT_FUNCTION.to_owned(),
        source: set.source,
        subject: set.subject.clone(),
        index: set.index_digest(),
        job: None,
        policy: policy.digest(),
        recipes: Vec::new(),
        contradictions: Vec::new(),
        outcome,
        reason,
        to_pass,
        required: policy.quorum.as_ref().map_or(0, |quorum| quorum.reproduced),
        k: 0,
        n: 0,
        independent: 0,
        attempts: 0,
        counted: Vec::new(),
        dissent: Vec::new(),
        failures: Vec::new(),
        not_counted: Vec::new(),
        equivocations: Vec::new(),
        suspects: Vec::new(),
        hints: Vec::new(),
        evidence: Vec::new(),
        records: Vec::new(),
    }
}

fn found(policy: &Policy, judge: &Judge<'_>, answers: &Answers, tally: &Tally<'_>) -> Finding {
    let decision = tally.decide();
    let spoken = sentence::of(&decision, tally);
    let counted = tally.counted();
    let mut not_counted = answers.not_counted.clone();
    for (answer, why) in tally.all_not_counted(&answers.answers) {
        not_counted.insert(NotCounted::new(answer.operator.to_string(), answer.id, &why));
    }
    let named = |id| {
        counted.iter().any(|c| c.observation == id)
            || tally.dissent.values().flatten().any(|(answer, _)| answer.id == id)
    };
    let named_answers = || answers.answers.iter().filter(|answer| named(answer.id));
    let hints = hints(answers, &counted);
    let records: BTreeSet<Digest> =
        named_answers().flat_map(|answer| answer.records.iter().copied()).collect();
    // Where a coordinator is pinned, a worker's own word does not open the job again.
    let attempts = if judge.leases.pinned() {
        judge.leases.newest_attempt()
    } else {
        answers.answers.iter().map(|answer| answer.attempt).max()
    };
    let independent = counted
        .iter()
        .filter(|c| c.level.is_exact() && !affiliated(policy, judge, &c.operator))
        .count();
    Finding {
        job: Some(judge.job),
        reason: spoken.reason,
        to_pass: spoken.to_pass,
        k: counted.len() as u32,
        n: tally.built.len() as u32,
        independent: independent as u32,
        attempts: attempts.map_or(0, |attempt| attempt.0),
        dissent: tally.dissents(),
        failures: tally.failures(),
        not_counted: not_counted.into_iter().collect(),
        equivocations: answers.equivocations.clone(),
        suspects: spoken.suspects,
        hints,
        records: records.into_iter().collect(),
        counted,
        ..without_answers(policy, judge.set, spoken.outcome)
    }
}

/// What the counted observations took from the published image, by name.
fn hints(answers: &Answers, counted: &[Counted]) -> Vec<Hint> {
    let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let is_counted = |id| counted.iter().any(|c| c.observation == id);
    for hint in answers.answers.iter().filter(|a| is_counted(a.id)).flat_map(|a| &a.hints) {
        let decided = hint.decided.iter().map(String::as_str);
        names.entry(hint.name.as_str()).or_default().extend(decided);
    }
    let hint = |(name, decided): (&str, BTreeSet<&str>)| {
        let more = decided.len().saturating_sub(WORDS_MAX);
        let mut decided: Vec<String> = decided
            .into_iter()
            .take(WORDS_MAX)
            .map(|path| one_line(path, WORDS_BYTES_MAX))
            .collect();
        if more > 0 {
            decided.push(format!("and {more} more"));
        }
        Hint { name: name.to_owned(), decided }
    };
    names.into_iter().map(hint).collect()
}

/// True when an operator belongs to the publisher of this image: one of its affiliations is the
/// repository's host, the repository or a part of its path (`registry.example/team`), or the
/// identity of a key (`sha256:…`) that the policy accepts as a publisher's for it.
fn affiliated(policy: &Policy, judge: &Judge<'_>, operator: &OperatorId) -> bool {
    let Some(member) = judge.roster.member(operator) else { return false };
    let repository = judge.set.subject.repository.as_str();
    let host = repository.split('/').next().unwrap_or_default();
    let bare_host = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let signers: Vec<String> = policy
        .publishers_for(judge.set.source, &judge.set.subject.repository)
        .filter_map(|publisher| match &publisher.signer {
            crate::policy::SignerRule::Key(key) => Some(key.id().to_string()),
            crate::policy::SignerRule::Keyless { .. } => None,
        })
        .collect();
    member.affiliations.iter().any(|affiliation| {
        let affiliation = affiliation.trim_end_matches('/');
        let inside = repository.strip_prefix(affiliation);
        affiliation == host
            || affiliation == bare_host
            || inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            || signers.iter().any(|signer| signer == affiliation)
    })
}
