//! `assay demo`: a whole fleet on this machine, with published images and one dishonest operator.
//!
//! An in-process registry on loopback serves the images; a coordinator, five workers of five
//! operators and a client are the real ones and speak real gRPC over TLS; each job is built by a
//! process of its own. Only the timing is helped: two operators start late, so that the dishonest
//! one is among the first three asked. At the end the gate decides from the kept evidence in a
//! process that shares nothing with the fleet.
//! Invariant: no shortcut and no prepared answer; what is printed is what was computed.

mod fleet;
mod images;
mod liar;

pub use liar::lie;

use crate::{
    exit::{Failure, Outcome},
    output,
    scratch::Scratch,
};
use fleet::Fleet;
use images::{DemoImage, IMAGES};
use proto::v1;
use std::path::{Path, PathBuf};

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leaves evidence, policies and keys in this folder: a new or an empty one.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// The published images and packages (tests/fixtures/published of the source tree).
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/published"))]
    fixtures: PathBuf,
}

/// Runs the demonstration. Exit 0 only if every answer is the one that the fixtures' makers expect.
pub async fn run(args: Args) -> Outcome {
    if !args.fixtures.join("cases.json").is_file() {
        return Err(Failure::Usage(format!(
            "expected the published images in {}: run from the source tree, or give --fixtures DIR",
            args.fixtures.display()
        )));
    }
    if let Some(folder) = &args.keep {
        refuse_used(folder)?;
    }
    let temporary = Scratch::new()?;
    let folder = args.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
    super::named::folder_to_make("--keep", Some(&folder), super::named::SHARED)?;
    let folder = std::fs::canonicalize(folder)?;
    output::say("starting: a registry, a coordinator, five operators with a worker each");
    let mut fleet = Fleet::start(&folder, &args.fixtures).await?;
    let mut rows = Vec::new();
    let mut wrong = 0;
    for image in &IMAGES {
        output::say(&format!("\n{} — {}", image.name, image.what));
        let state = follow(&mut fleet, image).await?;
        for platform in &state.platforms {
            fleet.keep_evidence(image, platform).await?;
            rows.push(row(image, platform));
        }
        wrong += usize::from(state.outcome != image.expect);
    }
    fleet.stop().await;
    let header = ["IMAGE", "PLATFORM", "OUTCOME", "LEVEL", "K/N", "ATTEMPT", "WHY"];
    output::data(&format!("\n{}", output::table(&header, &rows)))?;
    wrong += gate(&folder, &fleet).await?;
    if args.keep.is_some() {
        output::data(&format!(
            "\nThe evidence is in {0}/evidence. To look at it:\n  assay gate check IMAGE --policy \
             {0}/gate.toml --evidence {0}/evidence\n",
            folder.display()
        ))?;
    }
    Ok(if wrong == 0 { 0 } else { 1 })
}

/// Nothing that is there is touched: it could be the journal and the keys of a real fleet.
fn refuse_used(folder: &Path) -> Result<(), Failure> {
    let found = match std::fs::read_dir(folder) {
        Ok(mut entries) => match entries.next() {
            None => return Ok(()),
            Some(_) => "found one with files".to_owned(),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => error.to_string(),
    };
    Err(Failure::Usage(format!(
        "expected --keep to name a new or an empty folder, at {}: {found}. Name another one, or \
         remove this one first if it is of an earlier demonstration",
        folder.display()
    )))
}

/// Submits an image and says every change until it is settled.
async fn follow(fleet: &mut Fleet, image: &DemoImage) -> Result<v1::ImageState, Failure> {
    let submitted = fleet.submit(image).await?;
    let mut known = String::new();
    loop {
        let state = fleet.watch(&submitted, &known).await?;
        if state.state_digest != known {
            output::say(&format!("  {}", super::status::summary(&state)));
        }
        // The late operators come when the job was opened again.
        if state.platforms.iter().any(|p| p.attempt > 1) {
            fleet.start_late_workers()?;
        }
        if super::status::is_settled(&state) {
            return Ok(state);
        }
        known.clone_from(&state.state_digest);
    }
}

fn row(image: &DemoImage, platform: &v1::PlatformState) -> Vec<String> {
    let judged: serde_json::Value = serde_json::from_slice(&platform.judgement).unwrap_or_default();
    let text = |key: &str| judged.get(key).and_then(|v| v.as_str()).unwrap_or("-").to_owned();
    let number = |key: &str| judged.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let level = judged.pointer("/outcome_detail/level").and_then(|v| v.as_str()).unwrap_or("-");
    vec![
        image.name.to_owned(),
        platform.subject.as_ref().map(|s| s.platform.clone()).unwrap_or_default(),
        text("outcome"),
        level.to_owned(),
        format!("{}/{}", number("k"), number("n")),
        platform.attempt.to_string(),
        format!("{}{}", text("reason"), suspects(&judged)),
    ]
}

/// Who stands alone against others that agree.
fn suspects(judged: &serde_json::Value) -> String {
    let named = judged.get("suspects").and_then(|v| v.as_array());
    let names: Vec<&str> = named.into_iter().flatten().filter_map(|v| v.as_str()).collect();
    if names.is_empty() {
        String::new()
    } else {
        format!(" Alone against them: {}.", names.join(", "))
    }
}

/// Lets fresh processes decide from the kept evidence; counts those that decide otherwise. Ctrl-C of a
/// terminal is for this process alone: they are in a group of their own, and go when it stops.
async fn gate(folder: &Path, fleet: &Fleet) -> Result<usize, Failure> {
    let mut rows = Vec::new();
    let mut wrong = 0;
    for (image, reference) in fleet.references() {
        let status = tokio::process::Command::new(std::env::current_exe()?)
            .args(["gate", "check", reference, "--strict-exit", "--format", "json", "--policy"])
            .arg(folder.join("gate.toml"))
            .arg("--evidence")
            .arg(folder.join("evidence"))
            .process_group(0)
            .kill_on_drop(true)
            .output()
            .await?;
        let code = status.status.code().unwrap_or(-1);
        let answer: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap_or_default();
        let text = |key: &str| answer.get(key).and_then(|v| v.as_str()).unwrap_or("-").to_owned();
        wrong += usize::from(code != i32::from(image.exit));
        if code == 1 || code == 2 {
            output::say(&String::from_utf8_lossy(&status.stderr));
        }
        let decision = text("decision");
        rows.push(vec![
            image.name.to_owned(),
            text("outcome"),
            decision,
            code.to_string(),
            text("reason"),
        ]);
    }
    let table = output::table(&["GATE CHECK", "OUTCOME", "DECISION", "EXIT", "WHY"], &rows);
    output::data(&format!(
        "\nA fresh process each, given only the evidence and a policy:\n\n{table}"
    ))?;
    Ok(wrong)
}
