//! What the publisher's evidence comes to: recipes, or the outcome that needs no observation.
//!
//! Invariant: what the policy asks for and this version cannot check is inconclusive before
//! anything is derived. No observation, lease or record is looked at here.

use super::{UsedEvidence, VerdictOutcome};
use crate::{
    Digest, Gap,
    evidence_set::EvidenceSet,
    policy::Policy,
    recipe::{Derivation, Recipe, Tier, derive},
    trust::{Signers, Trust, judge_evidence},
};
use std::collections::BTreeSet;

/// What the publisher's evidence comes to under a policy.
pub(crate) struct Basis {
    /// Each recipe with its tier, ascending by digest.
    pub(crate) recipes: Vec<(Digest, Tier)>,
    pub(crate) contradictions: Vec<String>,
    /// What keeps a difference from being called a divergence.
    pub(crate) gaps: Vec<Gap>,
    pub(crate) evidence: Vec<UsedEvidence>,
}

impl Basis {
    /// From the publisher's evidence to recipes, or to the outcome that needs no observation.
    pub(super) fn of(
        policy: &Policy,
        set: &EvidenceSet,
    ) -> Result<Self, (VerdictOutcome, Option<String>)> {
        let inconclusive = |reason: String| Err((VerdictOutcome::Inconclusive { reason }, None));
        if let Err(error) = set.check() {
            return inconclusive(format!("The evidence does not fit together: {error}."));
        }
        let unsupported = policy.unsupported(set.source, &set.subject.repository);
        if !unsupported.is_empty() {
            return inconclusive(format!(
                "The policy asks for what this version cannot check: {}.",
                unsupported.join(", ")
            ));
        }
        let signers = Signers::Policy(policy, set.source);
        let trust = judge_evidence(signers, &set.subject.repository, &set.publisher);
        match derive(&set.subject, set.index_digest().as_ref(), &trust) {
            Derivation::Untrusted { reason } => Err((VerdictOutcome::Untrusted, Some(reason))),
            Derivation::NotRebuildable(gaps) => {
                Err((VerdictOutcome::NotRebuildable { gaps }, None))
            }
            Derivation::Recipes { recipes, contradictions, gaps } => {
                let evidence = used(&trust, &recipes);
                let mut recipes: Vec<_> = recipes.iter().map(|r| (r.digest(), r.tier)).collect();
                recipes.sort_unstable();
                Ok(Self { recipes, contradictions, gaps, evidence })
            }
        }
    }
}

fn used(trust: &Trust, recipes: &[Recipe]) -> Vec<UsedEvidence> {
    let named: BTreeSet<&Digest> = recipes.iter().flat_map(|recipe| &recipe.evidence).collect();
    let used: BTreeSet<UsedEvidence> = trust
        .trusted
        .iter()
        .filter(|statement| named.contains(&statement.evidence))
        .map(|statement| UsedEvidence { digest: statement.evidence, uri: statement.uri.clone() })
        .collect();
    used.into_iter().collect()
}
