//! A policy in words: what `assay policy explain` prints.
//!
//! Invariant: every rule of the policy is in the text, also those that this version cannot check,
//! and the defaults that a missing table has.

use super::{
    FullScan, GatePolicy, Inclusion, KeySource, Mode, PackageRepository, Policy, Publisher, Quorum,
    SignerRule, UnknownRule, WaiverTarget,
};
use std::fmt::{Display, Write as _};

pub(super) fn policy(policy: &Policy) -> String {
    let mut out = String::new();
    publishers(&mut out, &policy.publishers);
    packages(&mut out, policy);
    quorum(&mut out, policy);
    log(&mut out, policy);
    gate(&mut out, policy);
    // Writing to a string cannot fail.
    let _ = writeln!(out, "The policy's digest is {}.", policy.digest());
    out
}

fn line(out: &mut String, text: impl Display) {
    let _ = writeln!(out, "{text}");
}

fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let words: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match words.split_last() {
        None => "none".into(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

fn publishers(out: &mut String, publishers: &[Publisher]) {
    if publishers.is_empty() {
        line(out, "Nobody's word about a recipe counts: every image with evidence is untrusted.");
    }
    for publisher in publishers {
        let signer = match &publisher.signer {
            SignerRule::Key(key) => format!("the holder of key {}", key.id()),
            SignerRule::Keyless { identity, issuer } => {
                format!("whoever {issuer} certifies as {identity}")
            }
        };
        let repositories = list(&publisher.repositories);
        line(out, format!("About images of {repositories}, the word of {signer} counts."));
        if let Some(what) = publisher.unsupported() {
            line(out, format!("  This version cannot check {what}: such images are refused."));
        }
    }
}

fn packages(out: &mut String, policy: &Policy) {
    if policy.package_repositories.is_empty() {
        line(out, "No package repository is named: no packages may be inputs.");
    }
    for repository in &policy.package_repositories {
        package_repository(out, repository);
    }
    for mirror in &policy.mirrors {
        let complete = if mirror.complete {
            "what is not there counts as gone"
        } else {
            "what is not there is an operational error"
        };
        let (prefix, url) = (&mirror.prefix, &mirror.url);
        line(out, format!("Materials under {prefix} are read from {url}; {complete}."));
    }
    for registry in &policy.registries {
        let host = &registry.host;
        line(out, format!("The host {host} may be reached even where its address is private."));
        if registry.plain_http {
            line(out, format!("  {host} is spoken to over plain HTTP: what it says is readable."));
        }
        if registry.ca.is_some() {
            line(out, format!("  {host} may present a certificate of a private authority."));
        }
    }
}

fn package_repository(out: &mut String, repository: &PackageRepository) {
    let keys = match &repository.keys {
        KeySource::Discovery => "its own discovery over TLS".to_owned(),
        KeySource::Files(files) => format!("the files {}", list(files.iter().map(|(n, _)| n))),
    };
    let pins = match repository.pins.len() {
        0 => String::new(),
        n => format!(" and {n} pinned"),
    };
    line(out, format!("Packages from {} may be inputs; keys from {keys}{pins}.", repository.url));
    if !repository.jwks_hosts.is_empty() {
        let hosts = list(&repository.jwks_hosts);
        line(out, format!("  A JWKS at {hosts} counts like one at the repository's own host."));
    }
    if repository.archived {
        line(out, "  Keys that counted once and were kept by the worker's store count as well.");
    }
    line(
        out,
        if repository.complete {
            "  That list is complete: another key in an image is a divergence."
        } else {
            "  That list may lack keys: an unknown key in an image is a gap."
        },
    );
}

fn quorum(out: &mut String, policy: &Policy) {
    if let Some(key) = &policy.coordinator {
        line(out, format!("Only leases signed by key {} count.", key.id()));
    }
    for operator in &policy.operators {
        let affiliated = match operator.affiliations.as_slice() {
            [] => String::new(),
            some => format!(", affiliated with {}", list(some)),
        };
        let id = operator.root_key.id();
        line(out, format!("Operator {} is who holds key {id}{affiliated}.", operator.name));
    }
    let Some(quorum) = &policy.quorum else {
        line(out, "There is no quorum: a fleet's verdict is never good under this policy.");
        return;
    };
    let Quorum { operators, reproduced, level, tier, .. } = quorum;
    line(
        out,
        format!(
            "An image is reproduced when {reproduced} of {} ({}) rebuilt it at level {level} or \
             better, from a recipe of tier {tier} or better.",
            operators.len(),
            list(operators)
        ),
    );
    let hints = list(&quorum.hints);
    line(out, format!("  What may have been taken from the published image: {hints}."));
    if !quorum.diversity.is_empty() {
        line(out, format!("  They must differ in: {}.", list(&quorum.diversity)));
    }
    if !quorum.dissent_sources.is_empty() {
        let sources = list(&quorum.dissent_sources);
        line(out, format!("  Also asked for dissent: {sources}; silence there is inconclusive."));
        line(out, "  This version cannot ask them: the answer is refused.");
    }
}

fn log(out: &mut String, policy: &Policy) {
    let log = &policy.log;
    let origin = log.origin.as_deref().unwrap_or("(no origin)");
    if log.inclusion == Inclusion::Required {
        line(out, format!("Every counted record must be proven to be in the log {origin}."));
    }
    if log.full_scan != FullScan::None {
        let who = log.full_scan;
        line(out, format!("The log {origin} must have been read completely (full_scan {who})."));
    }
    if log.witnesses.is_some() {
        line(out, "Checkpoints must be cosigned as the witness policy says.");
    }
    let asks = log.inclusion != Inclusion::None
        || log.full_scan != FullScan::None
        || log.witnesses.is_some();
    line(
        out,
        if asks {
            "This version cannot check the log: what needs it is refused."
        } else {
            "No log is asked for: the coordinator is trusted not to hide a dissent."
        },
    );
}

fn gate(out: &mut String, policy: &Policy) {
    let GatePolicy { mode, unknown, max_age_seconds, delay_until, regressions_only } = &policy.gate;
    let what = match mode {
        Mode::Observe => "admits everything and records what it would have said".to_owned(),
        Mode::Warn => "admits everything and warns of what is not good".to_owned(),
        Mode::Delay => {
            let when = delay_until.map_or_else(|| "a date".to_owned(), |date| date.to_string());
            format!("warns until {when}, then denies what is not good")
        }
        Mode::Enforce => "denies what is not good".to_owned(),
    };
    line(out, format!("The gate {what}."));
    line(
        out,
        match unknown {
            UnknownRule::Pass => "  An image without a verdict is admitted, shown as unknown.",
            UnknownRule::Warn => "  An image without a verdict is admitted with a warning.",
            UnknownRule::Fail => "  An image without a verdict is denied.",
        },
    );
    if let Some(seconds) = max_age_seconds {
        let (days, hours) = (seconds / 86_400, seconds % 86_400 / 3_600);
        line(out, format!("  A verdict older than {seconds} s ({days} d {hours} h) is stale."));
    }
    if *regressions_only {
        line(
            out,
            "  Only where an earlier image was reproduced, by evidence in a folder or a bundle,",
        );
        line(out, "  is an image denied; without such a source everything that is not good is.");
    }
    for rule in &policy.overrides {
        let platforms = match rule.platforms.as_slice() {
            [] => "every platform".to_owned(),
            some => list(some),
        };
        let (repositories, mode) = (list(&rule.repositories), rule.mode);
        line(out, format!("For {repositories} ({platforms}) the mode is {mode}."));
    }
    for waiver in &policy.waivers {
        let image = match &waiver.target {
            WaiverTarget::Image { repository, digest } => format!("{repository}@{digest}"),
            WaiverTarget::Repositories(pattern) => format!("every image of {pattern}"),
        };
        line(
            out,
            format!(
                "Until {}, {image} passes although {}: {} ({}).",
                waiver.expires,
                list(&waiver.outcomes),
                waiver.reason,
                waiver.owner
            ),
        );
    }
}
