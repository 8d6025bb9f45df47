//! The verdict rule (design: protocol, "Verdict rule (the strict default)"): from answers to an
//! outcome.
//!
//! Invariant: a dissent is never outvoted. One dissenting operator is resolved only by m+2 others,
//! all leased after it, that agree; two are never resolved by numbers; adding answers never removes
//! a dissent. A volunteer, an excluded or a late operator can veto and adds to nothing.
//! `diverged` is an accusation: it needs k operators that agree on one other output, at most one
//! operator that says anything else, and no trusted statement that could not be used.

use super::{
    answers::{Answer, Answers, Question, Said},
    diversity,
    judgement::{Counted, Dissent, Failure, WORDS_BYTES_MAX, WORDS_MAX},
    why::Why,
};
use crate::{
    Digest, Gap, Level,
    id::{Attempt, OperatorId},
    observation::one_line,
};
use std::collections::{BTreeMap, BTreeSet};

/// Operators that must agree on a failure before it is final (protocol: "deterministic failure:
/// two operators, same class"); one where the policy asks for one operator altogether.
const FAILURES_AGREEING: u32 = 2;
/// Added to m when a dissent opens a job again (protocol: "re-opens the job with m+2").
pub(super) const REOPENED_EXTRA: u32 = 2;

/// The answers, by operator.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    /// k of the policy.
    pub(super) required: u32,
    /// m: how many observations the first opening wanted.
    pub(super) wanted: u32,
    /// Matches that count, the best first.
    pub(super) matches: BTreeMap<&'a OperatorId, Vec<(&'a Answer, Level)>>,
    /// Every operator that built the published image, counted or not.
    pub(super) saw_published: BTreeSet<&'a OperatorId>,
    /// Every operator that built another one.
    pub(super) dissent: BTreeMap<&'a OperatorId, Vec<(&'a Answer, Digest)>>,
    /// Operators that could not build, without dissent or match.
    failures: BTreeMap<&'a OperatorId, &'a Answer>,
    excluded: &'a BTreeMap<OperatorId, Why>,
    diversity: &'a [String],
    /// Operators with an OUTPUT in any attempt.
    pub(super) built: BTreeSet<&'a OperatorId>,
    /// Gaps beside the recipes: then nothing may be called diverged.
    gaps: &'a [Gap],
    reopenings: BTreeMap<crate::id::ObservationId, Attempt>,
    pinned: bool,
    level: Level,
}

/// What follows from a tally.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// k operators agree with the publisher.
    Reproduced { level: Level, resolved: bool },
    /// Enough agree on another output.
    Diverged { output: Digest },
    /// Rebuilders differ among themselves.
    Flaky,
    /// Dissent, unresolved.
    Disputed,
    /// Enough agree that it cannot be built.
    Failed { gaps: Vec<Gap> },
    /// k operators agree, but do not differ in what the policy names.
    NotDiverse,
    /// Not enough answers.
    TooFew,
}

impl<'a> Tally<'a> {
    pub(super) fn new(question: &Question<'a>, answers: &'a Answers) -> Self {
        let quorum = question.quorum;
        let wanted = question.leases.wanted_at_first().unwrap_or_default().max(quorum.reproduced);
        let mut tally = Self {
            required: quorum.reproduced,
            wanted,
            matches: BTreeMap::new(),
            saw_published: BTreeSet::new(),
            dissent: BTreeMap::new(),
            failures: BTreeMap::new(),
            excluded: &answers.excluded,
            diversity: &quorum.diversity,
            built: BTreeSet::new(),
            gaps: &question.basis.gaps,
            reopenings: question.leases.reopenings(),
            pinned: question.leases.pinned(),
            level: quorum.level,
        };
        for answer in &answers.answers {
            if answer.built.is_some() {
                tally.built.insert(&answer.operator);
            }
            match &answer.said {
                Said::Other(output) => {
                    tally.dissent.entry(&answer.operator).or_default().push((answer, *output));
                }
                Said::Published(_) => {
                    tally.saw_published.insert(&answer.operator);
                }
                Said::Failed { .. } | Said::Nothing(_) => {}
            }
        }
        for answer in &answers.answers {
            if tally.not_counted(answer).is_some() {
                continue;
            }
            match &answer.said {
                Said::Published(level) => {
                    tally.matches.entry(&answer.operator).or_default().push((answer, *level));
                }
                Said::Failed { .. } => {
                    tally.failures.entry(&answer.operator).or_insert(answer);
                }
                Said::Other(_) | Said::Nothing(_) => {}
            }
        }
        for matches in tally.matches.values_mut() {
            matches.sort_by_key(|(answer, level)| (std::cmp::Reverse(*level), answer.id));
        }
        tally
    }

    /// Why this answer adds to nothing; none for one that does, and for a dissent, which is listed
    /// as such. Whether another answer of the same operator is the counted one is not looked at.
    fn not_counted(&self, answer: &Answer) -> Option<Why> {
        if let Said::Nothing(why) = &answer.said {
            return Some(why.clone());
        }
        if matches!(answer.said, Said::Other(_)) {
            return None;
        }
        let own_dissent = || {
            let (other, _) = self.dissent.get(&answer.operator)?.first()?;
            Some(Why::OwnDissent { other: other.id })
        };
        answer
            .standing
            .clone()
            .or_else(|| answer.against.clone())
            .or_else(|| self.excluded.get(&answer.operator).cloned())
            .or_else(own_dissent)
    }

    /// Every answer that is not counted, with the reason.
    pub(super) fn all_not_counted(&self, answers: &'a [Answer]) -> Vec<(&'a Answer, Why)> {
        let why = |answer: &'a Answer| {
            if let Some(why) = self.not_counted(answer) {
                return Some((answer, why));
            }
            let counted = self.matches.get(&answer.operator)?.first()?.0;
            let other = counted.id;
            let is_match = matches!(answer.said, Said::Published(_));
            (is_match && other != answer.id).then_some((answer, Why::CountedAlready { other }))
        };
        answers.iter().filter_map(why).collect()
    }

    pub(super) fn decide(&self) -> Decision {
        if let Some(output) = self.consistent() {
            return Decision::Diverged { output };
        }
        let blocked = !self.dissent.is_empty() && !self.resolved();
        if !blocked {
            return match self.reproduced() {
                Ok(level) => Decision::Reproduced { level, resolved: !self.dissent.is_empty() },
                Err(decision) => decision,
            };
        }
        if !self.gaps.is_empty() && self.saw_published.is_empty() {
            return Decision::Failed { gaps: self.gaps.to_vec() };
        }
        let outputs: BTreeSet<&Digest> =
            self.dissent.values().flatten().map(|(_, output)| output).collect();
        if self.dissent.len() > 1 && outputs.len() > 1 {
            Decision::Flaky
        } else {
            Decision::Disputed
        }
    }

    /// The level that k operators reached, who differ as the policy asks.
    fn reproduced(&self) -> Result<Level, Decision> {
        let k = self.required as usize;
        let levels = Level::ALL.into_iter().rev().filter(|level| *level >= self.level);
        for level in levels {
            let environments: Vec<_> = self
                .matches
                .values()
                .filter_map(|matches| matches.first())
                .filter(|(_, reached)| *reached >= level)
                .map(|(answer, _)| &answer.environment)
                .collect();
            if environments.len() >= k && diversity::enough(&environments, self.diversity, k) {
                return Ok(level);
            }
        }
        if let Some(gaps) = self.agreed_failure() {
            return Err(Decision::Failed { gaps });
        }
        let enough = self.matches.len() >= k;
        Err(if enough { Decision::NotDiverse } else { Decision::TooFew })
    }

    /// The one other output on which at least k operators agree, while at most one says anything
    /// else.
    fn consistent(&self) -> Option<Digest> {
        if !self.gaps.is_empty() {
            return None;
        }
        let mut groups: BTreeMap<Digest, BTreeSet<&OperatorId>> = BTreeMap::new();
        for (operator, dissent) in &self.dissent {
            let outputs: BTreeSet<Digest> = dissent.iter().map(|(_, output)| *output).collect();
            let leased = dissent.iter().any(|(answer, _)| answer.standing.is_none());
            let mut outputs = outputs.into_iter();
            if let (Some(output), None) = (outputs.next(), outputs.next())
                && leased
                && !self.excluded.contains_key(*operator)
                && !self.saw_published.contains(*operator)
            {
                groups.entry(output).or_default().insert(*operator);
            }
        }
        let (output, group) = groups.into_iter().max_by_key(|(_, group)| group.len())?;
        let voices: BTreeSet<&OperatorId> =
            self.dissent.keys().chain(&self.saw_published).copied().collect();
        let others = voices.len() - group.len();
        let enough = group.len() >= self.required as usize;
        (enough && others <= 1 && group.len() > others).then_some(output)
    }

    /// True when the one dissent is answered by m+2 others, leased after it.
    pub(super) fn resolved(&self) -> bool {
        self.resolving() >= self.wanted.saturating_add(REOPENED_EXTRA)
    }

    /// How many other operators agree on the published image under leases granted after the only
    /// dissent; 0 where there is more than one.
    pub(super) fn resolving(&self) -> u32 {
        let mut dissents = self.dissent.values();
        let (Some(dissent), None) = (dissents.next(), dissents.next()) else { return 0 };
        // Once per operator and subject: its first dissent is the one to be answered.
        let Some(after) = dissent.iter().filter_map(|(answer, _)| self.answered_from(answer)).min()
        else {
            return 0;
        };
        let later = |matches: &&Vec<(&Answer, Level)>| {
            matches.iter().any(|(answer, _)| answer.attempt >= after)
        };
        u32::try_from(self.matches.values().filter(later).count()).unwrap_or(u32::MAX)
    }

    /// The first attempt whose leases came after this dissent. A leased dissent belongs to its
    /// attempt. One without a lease belongs to none: a pinned coordinator says in its announcement
    /// which attempt was opened because of it; without a pinned one the dissenter's word stands.
    fn answered_from(&self, dissent: &Answer) -> Option<Attempt> {
        if dissent.standing.is_none() || !self.pinned {
            return Some(dissent.attempt.next());
        }
        self.reopenings.get(&dissent.id).copied()
    }

    /// The gaps of a failure on which enough operators agree.
    fn agreed_failure(&self) -> Option<Vec<Gap>> {
        let mut groups: BTreeMap<(&str, &str), (u32, BTreeSet<&Gap>)> = BTreeMap::new();
        for answer in self.failures.values() {
            if let Said::Failed { outcome, class, gaps } = &answer.said {
                let group = groups.entry((*outcome, class.as_str())).or_default();
                group.0 += 1;
                group.1.extend(gaps);
            }
        }
        let enough = self.required.min(FAILURES_AGREEING);
        let agreed = groups.into_values().filter(|(count, _)| *count >= enough);
        // The largest group; of equal ones the first by name.
        let agreed = agreed.reduce(|best, group| if group.0 > best.0 { group } else { best });
        let cut = |gap: &Gap| Gap::new(gap.code, one_line(&gap.detail, WORDS_BYTES_MAX));
        agreed.map(|(_, gaps)| gaps.into_iter().take(WORDS_MAX).map(cut).collect())
    }

    pub(super) fn counted(&self) -> Vec<Counted> {
        let counted = |(operator, matches): (&&OperatorId, &Vec<(&Answer, Level)>)| {
            let (answer, level) = matches.first()?;
            Some(Counted {
                operator: (*operator).clone(),
                observation: answer.id,
                level: *level,
                attempt: answer.attempt,
            })
        };
        self.matches.iter().filter_map(counted).collect()
    }

    pub(super) fn dissents(&self) -> Vec<Dissent> {
        let resolved = self.resolved();
        let dissent = |(operator, dissent): (&&OperatorId, &Vec<(&Answer, Digest)>)| Dissent {
            operator: (*operator).clone(),
            observations: dissent.iter().map(|(answer, _)| answer.id).collect(),
            outputs: dissent.iter().map(|(_, o)| *o).collect::<BTreeSet<_>>().into_iter().collect(),
            attempt: dissent.iter().map(|(answer, _)| answer.attempt).min().unwrap_or_default(),
            leased: dissent.iter().any(|(answer, _)| answer.standing.is_none()),
            resolved,
        };
        self.dissent.iter().map(dissent).collect()
    }

    pub(super) fn failures(&self) -> Vec<Failure> {
        let failure = |(operator, answer): (&&OperatorId, &&Answer)| match &answer.said {
            Said::Failed { outcome, class, .. } => Some(Failure {
                operator: (*operator).clone(),
                observation: answer.id,
                outcome: (*outcome).to_owned(),
                class: class.clone(),
            }),
            _ => None,
        };
        self.failures.iter().filter_map(failure).collect()
    }
}
