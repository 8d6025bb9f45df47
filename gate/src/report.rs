//! What a gate says of an image: one decision for all of its platforms (`assay/gate/v1`).
//!
//! Invariant: every platform is in it, the same one twice included. The outcome is the worst of
//! them in the order of the command line (13, 10, 12, 1, 14, 15, 11, 0), and so is the decision:
//! one platform that is denied denies the image. The digest is the one that was judged; an image
//! without platforms is never admitted.

use crate::{
    assess::{Ruling, bare},
    decision::{Before, Facts, Rules, decide},
    error::GateError,
    image::{Asked, Wanted},
    outcome::{Admission, Outcome},
};
use attest::{Digest, Platform, Repository, policy::Policy, time::Timestamp};
use oci::ImageReference;
use serde::Serialize;

/// The schema of the JSON.
pub const REPORT_SCHEMA: &str = "assay/gate/v1";

/// One platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlatformRuling {
    /// The platform.
    pub platform: Platform,
    /// Which of several entries of this platform, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<usize>,
    /// The manifest that was judged.
    pub manifest: Digest,
    /// What happens, and why.
    #[serde(flatten)]
    pub ruling: Ruling,
}

/// The image. The fields of `ruling` are those of the platform that decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    pub schema: &'static str,
    /// The reference as it was given.
    pub image: String,
    /// The repository, where it is known.
    pub repository: Option<Repository>,
    /// The digest that was judged; none where the reference could not be resolved.
    pub digest: Option<Digest>,
    /// What happens, and why.
    #[serde(flatten)]
    pub ruling: Ruling,
    /// The policy.
    pub policy: Digest,
    /// The moment of the decision.
    pub decided_at: Timestamp,
    /// True where the image itself was not read, and the evidence alone was.
    pub offline: bool,
    /// The exit code of the outcome: what `--strict-exit` returns.
    pub outcome_exit: u8,
    /// 0 where the image is admitted, else the outcome's.
    pub exit: u8,
    /// Every platform.
    pub platforms: Vec<PlatformRuling>,
}

impl Report {
    /// Puts the platforms together.
    pub fn of(
        policy: &Policy,
        asked: &Asked,
        rulings: Vec<(Wanted, Ruling)>,
        now: Timestamp,
    ) -> Self {
        let platforms: Vec<PlatformRuling> = rulings
            .into_iter()
            .map(|(wanted, ruling)| PlatformRuling {
                platform: wanted.subject.platform,
                entry: wanted.entry,
                manifest: wanted.subject.digest,
                ruling,
            })
            .collect();
        let weight = |p: &&PlatformRuling| (p.ruling.decision, p.ruling.outcome.severity());
        let worst = platforms.iter().map(|p| p.ruling.outcome).max_by_key(|o| o.severity());
        let ruling = match (platforms.iter().rev().max_by_key(weight), worst) {
            (Some(deciding), Some(outcome)) => {
                let several = platforms.len() > 1 && deciding.ruling.outcome.severity() > 0;
                let prefix =
                    if several { format!("{}: ", deciding.platform) } else { String::new() };
                let reason = format!("{prefix}{}", deciding.ruling.reason);
                Ruling { reason, outcome, class: outcome.class(), ..deciding.ruling.clone() }
            }
            _ => undecided(
                policy,
                Outcome::Inconclusive,
                "The index lists no image.",
                "An image.",
                now,
            ),
        };
        Self {
            schema: REPORT_SCHEMA,
            image: asked.image.clone(),
            repository: Some(asked.repository.clone()),
            digest: Some(asked.digest),
            policy: policy.digest(),
            decided_at: now,
            offline: asked.root.is_none(),
            outcome_exit: ruling.outcome.exit_code(),
            exit: exit(&ruling),
            ruling,
            platforms,
        }
    }

    /// Nobody knows which image it is, or what is known: an error, whatever the mode.
    pub fn unreadable(
        policy: &Policy,
        reference: &ImageReference,
        error: &GateError,
        now: Timestamp,
    ) -> Self {
        let (reason, to_pass) =
            (format!("{error}."), format!("It has to be readable: {}.", error.hint()));
        let ruling = undecided(policy, Outcome::Error, &reason, &to_pass, now);
        Self {
            schema: REPORT_SCHEMA,
            image: reference.to_string(),
            repository: reference.repository().cloned(),
            digest: None,
            policy: policy.digest(),
            decided_at: now,
            offline: false,
            outcome_exit: ruling.outcome.exit_code(),
            exit: exit(&ruling),
            ruling,
            platforms: Vec::new(),
        }
    }

    /// True where the image passes.
    pub fn admits(&self) -> bool {
        self.ruling.decision.admits()
    }
}

fn exit(ruling: &Ruling) -> u8 {
    if ruling.decision.admits() { 0 } else { ruling.outcome.exit_code() }
}

/// A ruling about no image in particular: enforced, without overrides and waivers.
fn undecided(
    policy: &Policy,
    outcome: Outcome,
    reason: &str,
    to_pass: &str,
    now: Timestamp,
) -> Ruling {
    let facts = Facts { outcome, reason, to_pass, verdict_time: None, before: Before::Good };
    let rules = Rules { gate: &policy.gate, waivers: &[], now };
    let decision = decide(&facts, &rules);
    Ruling { decision: Admission::Deny, enforced: true, ..bare(decision, policy) }
}
