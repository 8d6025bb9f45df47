//! `assay gate check`: from a reference to the decision, every platform of it.
//!
//! ```text
//! reference -> digest -> platforms -> evidence of each -> judge -> decide -> the worst counts
//! ```
//! Invariant: the reference is resolved once, and everything after that goes by digest; nothing is
//! rebuilt, and nothing is asked of the image's layers. What cannot be read ends as `error`, which
//! is denied in every mode.

use crate::{
    assess::assess,
    collect::{Collector, EvidenceSource, Gathered, open_image},
    error::GateError,
    image::Asked,
    report::Report,
};
use attest::{
    evidence_set::EvidenceSet,
    policy::{Policy, Source},
    time::Timestamp,
};
use oci::{ImageReference, ImageSource, SourceOptions};
use std::collections::BTreeSet;

/// What is to be decided.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    /// The image.
    pub reference: &'a ImageReference,
    /// The policy.
    pub policy: &'a Policy,
    /// Where evidence is looked for; without any, beside the image.
    pub evidence: &'a [EvidenceSource],
    /// Network, credentials and timing; see `collect::options`.
    pub options: &'a SourceOptions,
    /// The moment of the decision.
    pub now: Timestamp,
    /// Does not read the image: decides about the digest in the reference.
    pub offline: bool,
}

/// A report, and what it was made of.
#[derive(Debug)]
pub struct Checked {
    /// The decision.
    pub report: Report,
    /// The image; none where it could not be resolved.
    pub asked: Option<Asked>,
    /// The united evidence of each platform that has some.
    pub sets: Vec<EvidenceSet>,
}

/// Decides. The only error is a policy that asks for what this version cannot check: it is refused
/// by name, for no decision under it would mean what it says.
pub async fn check(check: &Check<'_>) -> Result<Checked, GateError> {
    match decided(check).await {
        Err(GateError::Policy(error)) => Err(GateError::Policy(error)),
        Err(error) => {
            let report = Report::unreadable(check.policy, check.reference, &error, check.now);
            Ok(Checked { report, asked: None, sets: Vec::new() })
        }
        Ok(checked) => Ok(checked),
    }
}

async fn decided(check: &Check<'_>) -> Result<Checked, GateError> {
    let collector = Collector::open(check.evidence, check.options)?;
    let found = find(check, &collector).await?;
    collector.check_named(&found.asked)?;
    judged(check.policy, &collector, found, check.now)
}

fn judged(
    policy: &Policy,
    collector: &Collector,
    found: Found,
    now: Timestamp,
) -> Result<Checked, GateError> {
    let Found { asked, gathered } = found;
    policy.refuse_unsupported(asked.source, &asked.repository)?;
    let mut rulings = Vec::new();
    for (wanted, gathered) in asked.wanted.iter().zip(&gathered) {
        let before = collector.predecessors(&asked, wanted);
        let ruling = assess(policy, &asked, wanted, gathered, &before, now);
        tracing::info!(
            image.reference = asked.image, image.platform = %wanted.subject.platform,
            verdict.outcome = %ruling.outcome, gate.decision = %ruling.decision,
            "a platform was decided"
        );
        rulings.push((wanted.clone(), ruling));
    }
    let report = Report::of(policy, &asked, rulings, now);
    let sets = gathered.into_iter().filter_map(|g| g.ok()?.set).collect();
    Ok(Checked { report, asked: Some(asked), sets })
}

/// An image with its evidence, before anything is judged.
#[derive(Debug)]
pub struct Found {
    /// The image.
    pub asked: Asked,
    /// The evidence of each platform, in the order of `asked.wanted`.
    pub gathered: Vec<Result<Gathered, GateError>>,
}

/// Resolves the image and gathers the evidence of every platform.
pub async fn find(check: &Check<'_>, collector: &Collector) -> Result<Found, GateError> {
    let Check { reference, options, offline, .. } = *check;
    let known: Vec<_> = collector.local().collect();
    let (image, asked): (Option<ImageSource>, Asked) = if offline {
        (None, Asked::known(reference, &known)?)
    } else {
        let image = open_image(reference, options)?;
        let asked = Asked::read_or_known(&image, reference, &known).await?;
        (Some(image), asked)
    };
    let mut gathered = Vec::new();
    for wanted in &asked.wanted {
        gathered.push(collector.gather(image.as_ref(), &asked, wanted).await);
    }
    Ok(Found { asked, gathered })
}

/// What would happen to every image that the collector's files are about: the evidence alone is
/// read, and each set is taken for what it says that it is about. For trying out a policy; it
/// admits nothing.
pub async fn rehearse(
    policy: &Policy,
    collector: &Collector,
    options: &SourceOptions,
    now: Timestamp,
) -> Result<Vec<Report>, GateError> {
    let mut reports = Vec::new();
    for reference in &about(collector) {
        let evidence = &[];
        let check = Check { reference, policy, evidence, options, now, offline: true };
        let report = match find(&check, collector).await {
            Ok(found) => judged(policy, collector, found, now)?.report,
            Err(error) => Report::unreadable(policy, reference, &error, now),
        };
        reports.push(report);
    }
    Ok(reports)
}

/// The images that files are about, by the digest of the index where there is one.
fn about(collector: &Collector) -> BTreeSet<ImageReference> {
    let reference = |set: &EvidenceSet| {
        let digest = set.index_digest().unwrap_or(set.subject.digest);
        let repository = set.subject.repository.clone();
        match set.source {
            Source::Registry => ImageReference::in_registry(repository, digest),
            Source::Layout => ImageReference::in_layout(".", repository, digest),
        }
    };
    collector.local().map(reference).collect()
}
