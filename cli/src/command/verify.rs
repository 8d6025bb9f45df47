//! `assay verify IMAGE`: rebuilds an image here.

use super::{named, policy_file};
use crate::{
    exit::{Failure, Outcome},
    output::{self, Format},
    progress::Spinner,
    scratch::Scratch,
    whole_file,
};
use attest::{
    Platform,
    policy::{Mirror, Policy},
};
use rebuild::compare::render_text;
use std::{path::PathBuf, sync::Arc};
use worker::{
    material::{ContentStore, release_list, store::STORE_BYTES_MAX_DEFAULT},
    pipeline::{
        self, Signers, Workshop,
        verify::{Verified, VerifyOptions},
    },
    report::{PlatformReport, VerifyReport},
};

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// registry/repo:tag, registry/repo@sha256:…, oci:DIR:REF or oci:DIR:REPO@sha256:…
    image: String,
    /// Whose word counts; else the user's own policy.
    #[arg(long)]
    policy: Option<PathBuf>,
    /// Rebuilds whoever signed, and says who did; of a policy, registries, mirrors and keys of
    /// package repositories count then. Not for gates.
    #[arg(long)]
    any_signer: bool,
    /// Only these platforms; the others are listed as unchecked.
    #[arg(long = "platform")]
    platforms: Vec<Platform>,
    /// Reads materials whose URI starts with PREFIX from URL: PREFIX=URL.
    #[arg(long = "mirror", value_parser = policy_file::mirror)]
    mirrors: Vec<Mirror>,
    /// Where Alpine's release list (releases.json) is: the keys that it names count for repositories
    /// like https://…/alpine/v3.20/main whose keys the policy leaves to discovery. No default.
    #[arg(long, value_name = "URL", value_parser = release_list::address)]
    alpine_releases: Option<String>,
    /// Prints every difference.
    #[arg(long)]
    explain: bool,
    /// Leaves the rebuilt image, the explanations and the evidence in this folder.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Where inputs are kept between runs; else a folder that goes away.
    #[arg(long, env = "ASSAY_STORE")]
    store: Option<PathBuf>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command. With `--format json` a failure is one JSON value, too.
pub async fn run(args: Args) -> Outcome {
    let (format, image) = (args.format, args.image.clone());
    let outcome = verified(args).await;
    if let (Err(failure), Format::Json) = (&outcome, format) {
        let mut value = failure.json(worker::report::VERIFY_SCHEMA, &image);
        value["platforms"] = serde_json::json!([]);
        value["index_reproduced"] = false.into();
        output::json(&value)?;
    }
    outcome
}

async fn verified(args: Args) -> Outcome {
    let reference = named::image(&args.image)?;
    named::folder_to_make("--keep", args.keep.as_deref(), named::SHARED)?;
    named::folder_to_make("--store", args.store.as_deref(), named::PRIVATE)?;
    let policy = if args.any_signer {
        let own = args.policy.clone().or_else(policy_file::users_own);
        own.map_or_else(|| Ok(Policy::default()), |path| policy_file::read(&path)).map(Arc::new)?
    } else {
        policy_file::find(args.policy.as_deref(), &args.image)?
    };
    let signers = if args.any_signer { Signers::Any } else { Signers::Policy };
    if !args.any_signer {
        let repository = reference.repository();
        let source = pipeline::source_of(&reference);
        if let Some(repository) = repository {
            policy
                .refuse_unsupported_publishers(source, repository)
                .map_err(|e| Failure::Policy(e.to_string()))?;
        }
    }
    let work = Scratch::new()?;
    let store = match &args.store {
        Some(store) => ContentStore::open(store, STORE_BYTES_MAX_DEFAULT)?,
        None => ContentStore::scratch(work.path().join("store"), STORE_BYTES_MAX_DEFAULT)?,
    };
    let store = Arc::new(store);
    let folder = work.path().to_owned();
    let mut workshop = Workshop::new(policy, signers, args.mirrors.clone(), store, folder)?;
    workshop.alpine_releases.clone_from(&args.alpine_releases);
    let options = VerifyOptions { platforms: args.platforms.clone(), keep: args.keep.clone() };
    let spinner = Spinner::new(&format!("looking at {}", args.image));
    let verified = pipeline::verify::verify(&workshop, &reference, &options, &spinner).await;
    drop(spinner);
    let verified = verified?;
    say_missing(&args, &verified.report);
    if let Some(keep) = &args.keep {
        keep_evidence(keep, &verified)?;
    }
    match args.format {
        Format::Json => output::json(&verified.report)?,
        Format::Text => output::data(&text(&verified, args.explain))?,
    }
    Ok(verified.report.exit)
}

/// Says which of the platforms that were asked for are not there, and which are.
fn say_missing(args: &Args, report: &VerifyReport) {
    let mut there: Vec<String> = report.platforms.iter().map(|p| p.platform.to_string()).collect();
    there.extend(report.platforms_unchecked.iter().cloned());
    there.dedup();
    let wanted: Vec<String> = args.platforms.iter().map(ToString::to_string).collect();
    let missing: Vec<&str> =
        wanted.iter().filter(|p| !there.contains(p)).map(String::as_str).collect();
    if !missing.is_empty() {
        let (missing, there) = (missing.join(", "), there.join(", "));
        output::say(&format!("expected {missing} in {}, found {there}", args.image));
    }
}

fn keep_evidence(keep: &std::path::Path, verified: &Verified) -> Result<(), Failure> {
    std::fs::create_dir_all(keep).map_err(|error| {
        anyhow::anyhow!("expected to keep what was found in {}: {error}", keep.display())
    })?;
    let report = serde_json::to_vec_pretty(&verified.report)?;
    whole_file::write(&keep.join("report.json"), &report)?;
    for (platform, explanation) in verified.report.platforms.iter().zip(&verified.explanations) {
        if let Some(explanation) = explanation {
            let entry = platform.entry.map(|e| format!("-{e}")).unwrap_or_default();
            let name = platform.platform.to_string().replace('/', "-");
            let path = keep.join(format!("explanation-{name}{entry}.json"));
            whole_file::write(&path, &explanation.to_bytes()?)?;
        }
    }
    let evidence = &verified.examined.discovery.evidence;
    let evidence = serde_json::to_vec_pretty(evidence)?;
    whole_file::write(&keep.join("publisher-evidence.json"), &evidence)?;
    Ok(())
}

fn text(verified: &Verified, explain: bool) -> String {
    let VerifyReport { image, index, outcome, platforms, platforms_unchecked, .. } =
        &verified.report;
    let rows: Vec<Vec<String>> = platforms.iter().map(row).collect();
    let mut text = format!("{image}\n  {index}\n\n");
    text.push_str(&output::table(&["PLATFORM", "OUTCOME", "LEVEL", "BUILDER", "WHY"], &rows));
    for unchecked in platforms_unchecked {
        text.push_str(&format!("{unchecked}  not checked\n"));
    }
    text.push('\n');
    for platform in platforms {
        text.push_str(&remarks(platform));
    }
    if explain {
        for explanation in verified.explanations.iter().flatten() {
            text.push_str(&render_text(explanation));
            text.push('\n');
        }
    }
    let follows = if verified.report.index_reproduced {
        "; the index's own bytes follow from the evidence too"
    } else {
        ""
    };
    text.push_str(&format!("{}{follows}\n", outcome.as_str()));
    text
}

fn row(platform: &PlatformReport) -> Vec<String> {
    let entry = platform.entry.map(|e| format!(" (entry {e})")).unwrap_or_default();
    let recipe = &platform.recipe;
    let builder = match (&recipe.builder, &recipe.version) {
        (Some(builder), Some(version)) => format!("{builder} {version}"),
        (Some(builder), None) => builder.clone(),
        _ => "-".to_owned(),
    };
    vec![
        format!("{}{entry}", platform.platform),
        platform.outcome.as_str().to_owned(),
        platform.level.to_string(),
        builder,
        platform.detail.clone(),
    ]
}

fn remarks(platform: &PlatformReport) -> String {
    let name = &platform.platform;
    let mut text = String::new();
    let mut say = |line: String| {
        let clean: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        text.push_str(&format!("{name}: {clean}\n"));
    };
    if let Some(signer) = &platform.recipe.signer {
        say(format!("recipe signed by {signer}"));
    }
    for hint in &platform.recipe.hints {
        let decided = match hint.decided.as_slice() {
            [] => String::new(),
            paths => format!(", which decided {}", paths.join(", ")),
        };
        say(format!("taken from the published image: {}{decided}", hint.name));
    }
    for found in &platform.recipe.searched {
        say(format!("found by trying: {} {}", found.flag, found.value));
    }
    for gap in platform.recipe.gaps.iter().skip(1) {
        say(gap.to_string());
    }
    for contradiction in &platform.recipe.contradictions {
        say(format!("contradiction: {contradiction}"));
    }
    for ignored in &platform.recipe.ignored {
        say(format!("ignored: {}: {}", ignored.signer, ignored.reason));
    }
    if let Some(explanation) = &platform.explanation {
        if !explanation.causes.is_empty() {
            say(format!("causes: {}", explanation.causes.join(", ")));
        }
        for security in &explanation.security {
            say(format!("security: {security}"));
        }
    }
    text
}
