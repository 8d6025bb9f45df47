//! From filed envelopes to answers: each observation authenticated, matched with subject, job,
//! recipe and lease, and reduced to what it says about the published image.
//!
//! Invariant: nothing of an observation is used before its worker's signature was checked under a
//! record of the policy's operator. What an answer says does not depend on which other
//! observations there are; only whether it counts does ([`Answers::excluded`], `standing`).

use super::{
    basis::Basis,
    judgement::{Equivocation, NotCounted},
    ladder::Published,
    leases::Leases,
    roster::{Moments, Roster},
    why::Why,
};
use crate::{
    Digest, Gap, GapCode, Level,
    dsse::Envelope,
    evidence_set::EvidenceSet,
    id::{Attempt, Fence, JobId, LeaseId, ObservationId, OperatorId, WorkerId},
    observation::{Environment, Hint, Observation, Outcome},
    policy::Quorum,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What an observation says about the published image.
#[derive(Debug)]
pub(super) enum Said {
    /// It was rebuilt, at a level that may be called reproduced.
    Published(Level),
    /// Another image was built.
    Other(Digest),
    /// It cannot be built.
    Failed { outcome: &'static str, class: String, gaps: Vec<Gap> },
    /// Nothing that counts.
    Nothing(Why),
}

/// One authenticated observation of this job.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) id: ObservationId,
    pub(super) operator: OperatorId,
    worker: WorkerId,
    lease: LeaseId,
    pub(super) attempt: Attempt,
    fence: Fence,
    /// Why it is a volunteer's: it can veto, and adds to nothing.
    pub(super) standing: Option<Why>,
    /// It answers another job about the same subject: nothing of it is heard but its dissent.
    pub(super) elsewhere: bool,
    pub(super) said: Said,
    /// Why a match is not one for this policy.
    pub(super) against: Option<Why>,
    /// The manifest that was built, of an OUTPUT: it names configuration and layers, so two that
    /// are equal are one answer.
    pub(super) built: Option<Digest>,
    pub(super) hints: Vec<Hint>,
    pub(super) environment: Environment,
    /// Worker record and lease: SHA-256 of what was signed.
    pub(super) records: Vec<Digest>,
}

/// All answers to one job.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) answers: Vec<Answer>,
    pub(super) not_counted: BTreeSet<NotCounted>,
    pub(super) equivocations: Vec<Equivocation>,
    /// Operators of which nothing counts, apart from their dissent.
    pub(super) excluded: BTreeMap<OperatorId, Why>,
}

/// What answers are matched with.
pub(super) struct Question<'a> {
    pub(super) set: &'a EvidenceSet,
    pub(super) quorum: &'a Quorum,
    pub(super) basis: &'a Basis,
    pub(super) job: JobId,
    pub(super) published: Published,
    pub(super) leases: &'a Leases,
    pub(super) roster: &'a Roster,
}

/// An observation that its worker signed, and that stands at its time.
struct Authentic {
    id: ObservationId,
    observation: Arc<Observation>,
    leased: Result<Option<Digest>, Why>,
    record: Digest,
}

/// Every observation of the set that can be read, with those that cannot.
pub(super) struct Readings<'a> {
    read: Vec<(ObservationId, &'a Envelope, Arc<Observation>)>,
    malformed: Vec<(ObservationId, String)>,
}

impl<'a> Readings<'a> {
    pub(super) fn new(set: &'a EvidenceSet) -> Self {
        let mut readings = Self { read: Vec::new(), malformed: Vec::new() };
        for filed in &set.observations {
            let id = filed.envelope.observation_id();
            match Observation::read(&filed.envelope) {
                Ok(observation) => readings.read.push((id, &filed.envelope, observation)),
                Err(error) => readings.malformed.push((id, error.to_string())),
            }
        }
        readings
    }

    /// The workers that the observations name.
    pub(super) fn workers(&self) -> BTreeSet<WorkerId> {
        self.read.iter().map(|(_, _, observation)| observation.worker).collect()
    }
}

impl Answers {
    pub(super) fn new(question: &Question<'_>, readings: Readings<'_>) -> Self {
        let mut found = Self {
            answers: Vec::new(),
            not_counted: BTreeSet::new(),
            equivocations: Vec::new(),
            excluded: BTreeMap::new(),
        };
        for (id, error) in &readings.malformed {
            let why = Why::Malformed { error: error.clone() };
            found.refuse("unknown".to_owned(), *id, &why);
        }
        let authentic = found.authenticate(question, readings);
        found.one_answer_per_lease(&authentic);
        found.one_operator_per_key(&authentic);
        for authentic in authentic {
            found.weigh(question, authentic);
        }
        found.answers.sort_by_key(|answer| answer.id);
        let pinned = question.leases.pinned();
        if !pinned {
            found.newest_fence_only();
        }
        found.one_output_per_attempt(pinned);
        found.equivocations.sort_by(|a, b| a.operator.cmp(&b.operator));
        found
    }

    fn refuse(&mut self, operator: String, observation: ObservationId, why: &Why) {
        self.not_counted.insert(NotCounted::new(operator, observation, why));
    }

    fn authenticate(&mut self, question: &Question<'_>, readings: Readings<'_>) -> Vec<Authentic> {
        let mut authentic = BTreeMap::new();
        for (id, envelope, observation) in readings.read {
            if authentic.contains_key(&id) {
                continue;
            }
            let (operator, worker) = (&observation.operator, &observation.worker);
            let member = match question.roster.authenticate(operator, worker, envelope) {
                Ok(member) => member,
                Err(why) => {
                    self.refuse(format!("{operator} (unverified)"), id, &why);
                    continue;
                }
            };
            let leased = question.leases.lease_of(&observation);
            let leased_at = match &leased {
                Ok(Some((lease, _))) => Some(lease.issued_at),
                _ => None,
            };
            let (observed_at, received_at) =
                (observation.observed_at, question.leases.received_at(&id));
            let moments = Moments { observed_at, leased_at, received_at };
            match member.standing(worker, moments) {
                Ok(vouched) => {
                    let record = vouched.signed;
                    let leased = leased.map(|lease| lease.map(|(_, signed)| *signed));
                    authentic.insert(id, Authentic { id, observation, leased, record });
                }
                Err(mut why) => {
                    if let Why::RevokedKey { dissent, .. } = &mut why {
                        let other = |output| {
                            question.published.level(&observation, output).0 == Level::None
                        };
                        *dissent = observation.subject == question.set.subject
                            && observation.output().is_some_and(other);
                    }
                    self.refuse(operator.to_string(), id, &why);
                }
            }
        }
        // The same words under somebody else's signature take nothing from the genuine ones,
        // whichever of the two comes first.
        self.not_counted.retain(|refused| !authentic.contains_key(&refused.observation));
        authentic.into_values().collect()
    }

    fn exclude(&mut self, operator: &OperatorId, observations: &BTreeSet<ObservationId>) {
        let Some(other) = observations.first() else { return };
        self.excluded.entry(operator.clone()).or_insert(Why::Equivocation { other: *other });
        let observations = observations.iter().copied().collect();
        self.equivocations.push(Equivocation { operator: operator.clone(), observations });
    }

    /// There is one observation per lease, ever.
    fn one_answer_per_lease(&mut self, authentic: &[Authentic]) {
        let mut by_lease: BTreeMap<_, BTreeSet<ObservationId>> = BTreeMap::new();
        for Authentic { id, observation, .. } in authentic {
            let key = (observation.operator.clone(), observation.worker, observation.lease);
            by_lease.entry(key).or_default().insert(*id);
        }
        for ((operator, _, _), ids) in by_lease {
            if ids.len() > 1 {
                self.exclude(&operator, &ids);
            }
        }
    }

    /// A key that answers for two operators makes neither independent of the other.
    fn one_operator_per_key(&mut self, authentic: &[Authentic]) {
        let mut by_key: BTreeMap<WorkerId, BTreeSet<&OperatorId>> = BTreeMap::new();
        for Authentic { observation, .. } in authentic {
            by_key.entry(observation.worker).or_default().insert(&observation.operator);
        }
        for operators in by_key.into_values().filter(|operators| operators.len() > 1) {
            for operator in &operators {
                let other = operators.iter().find(|other| *other != operator);
                let other = other.map_or_else(|| (*operator).clone(), |other| (*other).clone());
                self.excluded.entry((*operator).clone()).or_insert(Why::TwoOperators { other });
            }
        }
    }

    fn weigh(&mut self, question: &Question<'_>, authentic: Authentic) {
        let Authentic { id, observation, leased, record } = authentic;
        let (said, elsewhere) = match about(question, &observation) {
            Ok(()) => (said(question, &observation), None),
            Err(why) => match dissent_elsewhere(question, &observation, &why) {
                Some(output) => (Said::Other(output), Some(why)),
                None => {
                    self.refuse(observation.operator.to_string(), id, &why);
                    return;
                }
            },
        };
        let against = match &said {
            Said::Published(level) => against(question, &observation, *level),
            _ => None,
        };
        let (standing, lease, elsewhere) = match (elsewhere, leased) {
            (Some(why), _) => (Some(why), None, true),
            (None, Err(why)) => (Some(why), None, false),
            (None, Ok(lease)) => (None, lease, false),
        };
        self.answers.push(Answer {
            id,
            worker: observation.worker,
            lease: observation.lease,
            attempt: observation.attempt,
            fence: observation.fence,
            standing,
            elsewhere,
            said,
            against,
            built: observation.output().map(|output| output.manifest),
            records: [Some(record), lease].into_iter().flatten().collect(),
            operator: observation.operator.clone(),
            hints: observation.hints.clone(),
            environment: observation.environment.clone(),
        });
    }

    /// Without a pinned coordinator: of one operator's answers in one attempt, only those with the
    /// highest fence are timely.
    fn newest_fence_only(&mut self) {
        let mut newest: BTreeMap<(OperatorId, Attempt), Fence> = BTreeMap::new();
        for answer in self.answers.iter().filter(|answer| !answer.elsewhere) {
            let fence = newest.entry((answer.operator.clone(), answer.attempt)).or_default();
            *fence = answer.fence.max(*fence);
        }
        for answer in self.answers.iter_mut().filter(|answer| !answer.elsewhere) {
            let current = newest.get(&(answer.operator.clone(), answer.attempt)).copied();
            let current = current.unwrap_or_default();
            if answer.fence < current {
                answer.standing = Some(Why::StaleFence { found: answer.fence, current });
            }
        }
    }

    /// At most one counted observation per (job, attempt, operator); two are equivocation.
    ///
    /// Without a pinned coordinator leases and fences are the worker's word, and a coordinator that
    /// was restored may have asked it again, under another lease with an equal fence: the same
    /// output twice is then one answer ([`Why::CountedAlready`]), two outputs are equivocation.
    fn one_output_per_attempt(&mut self, pinned: bool) {
        let mut seen: BTreeMap<_, Seen> = BTreeMap::new();
        for answer in self.answers.iter().filter(|a| a.standing.is_none()) {
            let Some(output) = answer.built else { continue };
            let seen = seen.entry((answer.operator.clone(), answer.attempt)).or_default();
            seen.observations.insert(answer.id);
            seen.leases.insert((answer.worker, answer.lease));
            seen.outputs.insert(output);
        }
        for ((operator, _), seen) in seen {
            // Two answers under one lease are already excluded.
            if seen.leases.len() > 1 && (pinned || seen.outputs.len() > 1) {
                self.exclude(&operator, &seen.observations);
            }
        }
    }
}

/// What one operator built in one attempt.
#[derive(Default)]
struct Seen {
    observations: BTreeSet<ObservationId>,
    leases: BTreeSet<(WorkerId, LeaseId)>,
    outputs: BTreeSet<Digest>,
}

/// What somebody else's job says against this image. A veto is the operator's, once for the subject:
/// one more statement by the publisher makes another job, and must not make a dissent go away.
fn dissent_elsewhere(
    question: &Question<'_>,
    observation: &Observation,
    why: &Why,
) -> Option<Digest> {
    let output = observation.output()?;
    let same_subject = matches!(why, Why::OtherRecipe { .. } | Why::OtherJob);
    let level = question.published.level(observation, output).0;
    (same_subject && !level.is_reproduced()).then_some(output.manifest)
}

/// An observation is about exactly this subject, this job, and recipes that the judge derived.
fn about(question: &Question<'_>, observation: &Observation) -> Result<(), Why> {
    let (expected, found) = (&question.set.subject, &observation.subject);
    if found.repository != expected.repository {
        return Err(Why::OtherRepository { found: found.repository.clone() });
    }
    if found.digest != expected.digest {
        return Err(Why::OtherImage { found: found.digest });
    }
    if found.platform != expected.platform {
        return Err(Why::OtherPlatform { found: found.platform.clone() });
    }
    let known = &question.basis.recipes;
    let stranger = |recipe: &&Digest| !known.iter().any(|(digest, _)| digest == *recipe);
    let named = observation.recipes_tried.iter().chain(&observation.recipe);
    if let Some(found) = named.into_iter().find(stranger) {
        return Err(Why::OtherRecipe { found: *found });
    }
    if observation.job != question.job { Err(Why::OtherJob) } else { Ok(()) }
}

fn said(question: &Question<'_>, observation: &Observation) -> Said {
    let failed = |class: String, gaps: Vec<Gap>| Said::Failed {
        outcome: observation.outcome.as_str(),
        class,
        gaps,
    };
    match &observation.outcome {
        Outcome::Output(output) => {
            let (level, _) = question.published.level(observation, output);
            let (tried, known) = (observation.recipes_tried.len(), question.basis.recipes.len());
            if level.is_reproduced() {
                Said::Published(level)
            } else if tried < known {
                Said::Nothing(Why::IncompleteRecipes { tried, known })
            } else {
                Said::Other(output.manifest)
            }
        }
        Outcome::BuildFailed { class, detail } => {
            let gap = Gap::new(GapCode::BuildFailed, format!("{class}: {detail}"));
            failed(class.clone(), vec![gap])
        }
        Outcome::LimitExceeded { limit, detail } => {
            let gap = Gap::new(GapCode::Limit, format!("{limit}: {detail}"));
            failed(limit.clone(), vec![gap])
        }
        Outcome::RecipeInvalid { gaps } => {
            let codes: BTreeSet<&str> = gaps.iter().map(|gap| gap.code.as_str()).collect();
            failed(codes.into_iter().collect::<Vec<_>>().join(" "), gaps.clone())
        }
        Outcome::InputUnavailable { gap, uri } => {
            let detail = format!("{} ({uri})", gap.detail);
            failed(gap.code.to_string(), vec![Gap::new(gap.code, detail)])
        }
        Outcome::Timeout { limit_seconds } => {
            Said::Nothing(Why::Timeout { limit_seconds: *limit_seconds })
        }
        Outcome::Refused { detail, .. } => Said::Nothing(Why::Refused { detail: detail.clone() }),
    }
}

/// Why a match is not one for this policy.
fn against(question: &Question<'_>, observation: &Observation, level: Level) -> Option<Why> {
    let quorum = question.quorum;
    if level < quorum.level {
        let detail = observation
            .output()
            .map(|output| question.published.level(observation, output).1)
            .unwrap_or_default();
        return Some(Why::BelowLevel { found: level, required: quorum.level, detail });
    }
    let tier = question.basis.recipes.iter().find(|(r, _)| Some(*r) == observation.recipe);
    if let Some((_, tier)) = tier
        && *tier < quorum.tier
    {
        return Some(Why::BelowTier { found: *tier, required: quorum.tier });
    }
    observation.hints.iter().find_map(|hint| {
        let conflicts = format!("{}-conflicts", hint.name);
        if !quorum.hints.contains(&hint.name) {
            Some(Why::HintNotAllowed { hint: hint.name.clone() })
        } else if !hint.decided.is_empty() && !quorum.hints.contains(&conflicts) {
            Some(Why::HintNotAllowed { hint: conflicts })
        } else {
            None
        }
    })
}
