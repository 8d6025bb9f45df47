//! `assay publish`: what was judged and did not arrive where it is published.
//!
//! Invariant: with `--dry-run` nothing is written anywhere; without it the coordinator is told to
//! try now. What is shown is what the coordinator's journal says, not what a registry says.

use super::fleet::Connection;
use crate::{
    exit::Outcome,
    output::{self, Format},
};
use proto::v1;

/// Arguments of `publish`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only shows what would be pushed, and where to.
    #[arg(long)]
    dry_run: bool,
    /// Rows that are shown.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rows: u32,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command.
pub async fn run(args: Args) -> Outcome {
    let request = v1::PublishRequest { dry_run: args.dry_run, rows_max: args.rows };
    let answer = args.connection.ask_long(args.connection.admin()?.publish(request)).await?;
    match args.format {
        Format::Json => {
            let publications: Vec<_> = answer.publications.iter().map(json).collect();
            output::json(&serde_json::json!({
                "schema": "assay/publish/v1", "dry_run": args.dry_run,
                "configured": answer.configured, "publications": publications,
                "more": answer.more,
            }))?;
        }
        Format::Text => output::data(&text(&answer))?,
    }
    if !args.dry_run && !answer.publications.is_empty() {
        output::say(
            "the coordinator tries all of it now; `assay publish --dry-run` shows the rest",
        );
    }
    Ok(0)
}

fn json(row: &v1::PendingPublication) -> serde_json::Value {
    serde_json::json!({
        "image": row.image, "platform": row.platform, "target": row.target,
        "attested": row.attested, "evidence": row.evidence, "failures": row.failures,
        "problem": row.problem,
    })
}

fn what(row: &v1::PendingPublication) -> &'static str {
    match (row.attested, row.evidence) {
        (true, true) => "attestation, evidence",
        (true, false) => "attestation",
        (false, true) => "evidence, no attestation",
        (false, false) => "no attestation",
    }
}

fn text(answer: &v1::PublishResponse) -> String {
    if !answer.configured {
        return "nothing is published: coordinator.toml has no `publish`\n".to_owned();
    }
    if answer.publications.is_empty() {
        return "everything is where it goes\n".to_owned();
    }
    let rows: Vec<Vec<String>> = answer
        .publications
        .iter()
        .map(|row| {
            let failed = match row.failures {
                0 => row.problem.clone(),
                n => format!("{n} times: {}", row.problem),
            };
            let cells: [&str; 5] = [&row.image, &row.platform, what(row), &row.target, &failed];
            cells.map(str::to_owned).to_vec()
        })
        .collect();
    let header = ["IMAGE", "PLATFORM", "WHAT", "TO", "FAILED"];
    let more = if answer.more { "and more\n" } else { "" };
    format!("{}{more}", output::table(&header, &rows))
}
