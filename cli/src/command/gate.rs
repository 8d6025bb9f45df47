//! `assay gate check IMAGE`: decides, from a policy and evidence, whether an image may pass.
//!
//! Invariant: the decision is the gate library's; nothing is rebuilt here, and what could not be read
//! is an error in every mode.

use super::{fleet, keep::keep, named, policy_file};
use crate::{
    exit::{Failure, Outcome},
    output::{self, Format},
};
use gate::{
    Check, EvidenceSource, GateError, Report,
    collect::{SourceError, options},
};
use std::path::PathBuf;

/// Subcommands of `gate`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Decides about an image. Exit 0: admitted.
    Check(CheckArgs),
}

/// Arguments of `gate check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The image.
    image: String,
    /// The gate's own policy.
    #[arg(long)]
    policy: PathBuf,
    /// Where evidence is: a file, a folder, https://HOST of a coordinator, or oci://HOST/REPO.
    #[arg(long = "evidence", value_parser = |t: &str| t.parse::<EvidenceSource>().map_err(|e: SourceError| e.to_string()))]
    evidence: Vec<EvidenceSource>,
    /// Leaves the evidence that was used in this folder, for later checks: --evidence DIR.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// Does not read the image: decides about the digest in the reference from the evidence alone.
    #[arg(long)]
    offline: bool,
    /// Returns the outcome's exit code whatever the mode.
    #[arg(long)]
    strict_exit: bool,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs a subcommand.
pub async fn run(command: Command) -> Outcome {
    match command {
        Command::Check(args) => {
            let (format, image) = (args.format, args.image.clone());
            let outcome = check(args).await;
            if let (Err(failure), Format::Json) = (&outcome, format) {
                let mut value = failure.json(gate::report::REPORT_SCHEMA, &image);
                value["class"] = "error".into();
                value["decision"] = "deny".into();
                output::json(&value)?;
            }
            outcome
        }
    }
}

async fn check(args: CheckArgs) -> Outcome {
    let reference = named::image(&args.image)?;
    if args.offline && reference.digest().is_none() {
        return Err(Failure::Usage(format!(
            "expected a digest with --offline, like registry.example/team/app@sha256:…, found {}: \
             nothing is asked then which image a tag names",
            args.image
        )));
    }
    named::evidence(&args.evidence)?;
    named::folder_to_make("--keep", args.keep.as_deref(), named::SHARED)?;
    let policy = policy_file::read(&args.policy)?;
    let options =
        options(&policy, oci::registry::Credentials::default(), oci::registry::Timing::default());
    let checked = gate::check(&Check {
        reference: &reference,
        policy: &policy,
        evidence: &args.evidence,
        options: &options,
        now: fleet::now()?,
        offline: args.offline,
    })
    .await
    .map_err(|error| match error {
        GateError::Policy(_) => Failure::Policy(error.to_string()),
        other => other.into(),
    })?;
    if let Some(folder) = &args.keep {
        keep(folder, &checked.sets)?;
    }
    let report = &checked.report;
    match args.format {
        Format::Json => output::json(report)?,
        Format::Text => output::data(&text(report))?,
    }
    Ok(if args.strict_exit { report.outcome_exit } else { report.exit })
}

fn text(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .platforms
        .iter()
        .map(|p| {
            vec![
                p.platform.to_string(),
                p.ruling.outcome.to_string(),
                p.ruling.level.to_string(),
                format!("{}/{}", p.ruling.k, p.ruling.n),
                p.ruling.decision.to_string(),
            ]
        })
        .collect();
    let table = output::table(&["PLATFORM", "OUTCOME", "LEVEL", "K/N", "DECISION"], &rows);
    let ruling = &report.ruling;
    // What is to be deployed: the tag may name another image by then.
    let decided = match (&report.repository, &report.digest) {
        (Some(repository), Some(digest)) => format!("  decided about {repository}@{digest}\n"),
        _ => String::new(),
    };
    let mut text =
        format!("{}\n{decided}\n{table}\n{}: {}\n", report.image, ruling.decision, ruling.reason);
    if !ruling.to_pass.is_empty() {
        text.push_str(&format!("to pass: {}\n", ruling.to_pass));
    }
    for suspect in &ruling.suspects {
        text.push_str(&format!("stands alone against the others: {suspect}\n"));
    }
    text
}
