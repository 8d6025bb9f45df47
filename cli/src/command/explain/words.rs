//! The words of `assay explain`, and its JSON.
//!
//! Invariant: every operator that answered is named, with what it answered; what came from others
//! (reasons, paths) is cleaned of control characters.

use super::{Explained, Unjudged, Whose};
use crate::exit::Failure;
use attest::{
    Digest,
    id::{ObservationId, OperatorId},
    observation::Observation,
    verdict::{Finding, VerdictOutcome},
};
use rebuild::compare::{Explanation, render_text};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// The whole as one JSON value.
pub fn json(
    image: &str,
    whose: Whose,
    explained: &[Explained],
    unjudged: &[Unjudged],
) -> Result<Value, Failure> {
    let mut platforms = Vec::new();
    for one in explained {
        let explanations: BTreeMap<String, &Explanation> =
            one.explanations.iter().map(|(digest, e)| (digest.to_string(), e)).collect();
        platforms.push(json!({
            "platform": one.finding.subject.platform,
            "manifest": one.finding.subject.digest,
            "outcome": one.finding.outcome.as_str(),
            "level": one.finding.outcome.level().as_str(),
            "open_again": one.open_again.is_some(),
            "open_again_attempt": one.open_again,
            "verdict": serde_json::to_value(&one.finding)?,
            "explained_by": explained_by(one),
            "explanations": explanations,
        }));
    }
    platforms.extend(unjudged.iter().map(|one| {
        json!({
            "platform": one.platform, "manifest": one.manifest, "outcome": "inconclusive",
            "level": "none", "open_again": false, "open_again_attempt": null, "verdict": null,
            "why": one.why, "explained_by": {}, "explanations": {},
        })
    }));
    let judged_by = match whose {
        Whose::Coordinators => "coordinator",
        Whose::Own => "policy",
    };
    Ok(json!({
        "schema": "assay/explain/v1", "image": image, "judged_by": judged_by,
        "platforms": platforms,
    }))
}

/// The whole in words.
pub fn text(image: &str, whose: Whose, explained: &[Explained], unjudged: &[Unjudged]) -> String {
    let mut text = match whose {
        Whose::Coordinators => {
            format!("{image}\nas the coordinator says; to judge it yourself: assay gate check\n")
        }
        Whose::Own => format!("{image}\njudged here, from the evidence and the policy\n"),
    };
    for one in explained {
        text.push('\n');
        platform(&mut text, one);
    }
    for one in unjudged {
        let _ = write!(text, "\n{}: inconclusive\n  {}\n", one.platform, one.why);
    }
    let clean = |c: char| if c.is_control() && c != '\n' { '?' } else { c };
    text.chars().map(clean).collect()
}

fn line(text: &mut String, words: impl std::fmt::Display) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  {words}");
}

fn platform(text: &mut String, one: &Explained) {
    let finding = &one.finding;
    let _ = writeln!(text, "{}: {}", finding.subject.platform, headline(finding));
    line(text, &finding.reason);
    if !finding.to_pass.is_empty() {
        line(text, format!("To pass: {}", finding.to_pass));
    }
    if let Some(attempt) = one.open_again {
        line(text, format!("open again, attempt {attempt}: more answers are asked for"));
    }
    answers(text, finding);
    grounds(text, finding);
    let by = explained_by(one);
    for (digest, explanation) in &one.explanations {
        let who = by.get(&digest.to_string()).map(|names| names.join(", ")).unwrap_or_default();
        let _ = writeln!(text, "\n  What {who} built differs from what is published:");
        for row in render_text(explanation).lines() {
            line(text, format!("  {row}"));
        }
    }
}

fn headline(finding: &Finding) -> String {
    match &finding.outcome {
        VerdictOutcome::Reproduced { level } => {
            format!("reproduced, level {level}, {} of {} operators", finding.k, finding.n)
        }
        VerdictOutcome::NotRebuildable { gaps } => {
            let codes: BTreeSet<&str> = gaps.iter().map(|g| g.code.as_str()).collect();
            let codes: Vec<&str> = codes.into_iter().collect();
            format!("not-rebuildable ({})", codes.join(", "))
        }
        other => other.as_str().to_owned(),
    }
}

fn short(digest: &Digest) -> String {
    format!("sha256:{}…", digest.hex().chars().take(12).collect::<String>())
}

/// Who answered what.
fn answers(text: &mut String, finding: &Finding) {
    for counted in &finding.counted {
        line(text, format!("{} rebuilt it, level {}", counted.operator, counted.level));
    }
    for dissent in &finding.dissent {
        let outputs: Vec<String> = dissent.outputs.iter().map(short).collect();
        let resolved = if dissent.resolved { "; others resolved it since" } else { "" };
        let outputs = outputs.join(", ");
        line(text, format!("{} built another image: {outputs}{resolved}", dissent.operator));
    }
    for failure in &finding.failures {
        line(
            text,
            format!("{} could not: {} ({})", failure.operator, failure.outcome, failure.class),
        );
    }
    for other in &finding.not_counted {
        line(text, format!("not counted: {}: {}", other.operator, other.why));
    }
    for equivocation in &finding.equivocations {
        line(text, format!("{} gave different answers to one question", equivocation.operator));
    }
    for suspect in &finding.suspects {
        line(text, format!("{suspect} stands alone against the others"));
    }
}

/// What it rests on.
fn grounds(text: &mut String, finding: &Finding) {
    for hint in &finding.hints {
        let decided = match hint.decided.as_slice() {
            [] => String::new(),
            paths => format!(", which decided {}", paths.join(", ")),
        };
        line(text, format!("taken from the published image: {}{decided}", hint.name));
    }
    for contradiction in &finding.contradictions {
        line(text, format!("the publisher contradicts itself: {contradiction}"));
    }
    for recipe in &finding.recipes {
        line(text, format!("recipe {}", short(recipe)));
    }
    for evidence in &finding.evidence {
        line(text, format!("the publisher's statement {}", evidence.uri));
    }
    line(
        text,
        format!("policy {}, opened {} time(s)", short(&finding.policy), finding.attempts.max(1)),
    );
}

/// For each explanation: the operators whose observations name it.
fn explained_by(one: &Explained) -> BTreeMap<String, Vec<String>> {
    let mut by: BTreeMap<String, BTreeSet<OperatorId>> = BTreeMap::new();
    let counted: BTreeSet<ObservationId> = one
        .finding
        .counted
        .iter()
        .map(|c| c.observation)
        .chain(one.finding.dissent.iter().flat_map(|d| d.observations.clone()))
        .collect();
    for filed in &one.set.observations {
        let Ok(observation) = Observation::read(&filed.envelope) else { continue };
        let Some(explanation) = observation.explanation else { continue };
        // Only whom the verdict names: others may say anything.
        if counted.contains(&filed.envelope.observation_id()) {
            by.entry(explanation.to_string()).or_default().insert(observation.operator.clone());
        }
    }
    let names = |set: BTreeSet<OperatorId>| set.iter().map(ToString::to_string).collect();
    by.into_iter().map(|(digest, operators)| (digest, names(operators))).collect()
}
