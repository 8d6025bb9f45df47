//! `assay status [IMAGE]`: what a coordinator knows.
//!
//! Invariant: what is shown is the coordinator's word; whoever has to rely on it uses `gate check`,
//! which judges again from the evidence.

use super::fleet::{self, Connection};
use crate::{
    exit::{Failure, Outcome},
    output::{self, Format},
};
use oci::ImageReference;
use proto::v1;
use serde_json::Value;

/// The schema of an image's state.
pub const STATUS_SCHEMA: &str = "assay/status/v1";

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// registry/repo@sha256:…; without it, the coordinator's own state.
    image: Option<String>,
    /// How the result is printed.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    #[command(flatten)]
    connection: Connection,
}

/// Runs the command.
pub async fn run(args: Args) -> Outcome {
    let Some(image) = &args.image else { return own(&args).await };
    let (repository, digest) = by_digest(image)?;
    let request = v1::GetImageRequest { repository, digest };
    let state = args.connection.images()?.get(request).await.map_err(fleet::failed)?;
    let state = state.into_inner();
    print(&state, args.format)?;
    Ok(exit(&state))
}

async fn own(args: &Args) -> Outcome {
    let answer = args.connection.admin()?.status(v1::StatusRequest {}).await;
    let status: Value =
        serde_json::from_slice(&answer.map_err(fleet::failed)?.into_inner().status)?;
    match args.format {
        Format::Json => output::json(&status)?,
        Format::Text => output::data(&serde_json::to_string_pretty(&status)?)?,
    }
    Ok(0)
}

/// Repository and digest of a reference that must have a digest.
pub fn by_digest(image: &str) -> Result<(String, String), Failure> {
    let usage = |text: String| Failure::Usage(text);
    let reference: ImageReference =
        image.parse().map_err(|e: oci::reference::ReferenceError| usage(e.to_string()))?;
    match (reference.repository(), reference.digest()) {
        (Some(repository), Some(digest)) => Ok((repository.to_string(), digest.to_string())),
        _ => Err(usage(format!(
            "expected an image by digest, like registry.example/team/app@sha256:…, found {image:?}"
        ))),
    }
}

/// True when every platform was judged or parked.
pub fn is_settled(state: &v1::ImageState) -> bool {
    !state.platforms.is_empty()
        && state.platforms.iter().all(|p| matches!(p.phase.as_str(), "judged" | "parked"))
}

/// One line.
pub fn summary(state: &v1::ImageState) -> String {
    let parts: Vec<String> = state
        .platforms
        .iter()
        .map(|p| {
            let platform = p.subject.as_ref().map(|s| s.platform.as_str()).unwrap_or_default();
            format!("{platform} {} {}/{}", p.phase, p.observations, p.wanted)
        })
        .collect();
    parts.join(", ")
}

fn judgement(platform: &v1::PlatformState) -> Value {
    serde_json::from_slice(&platform.judgement).unwrap_or(Value::Null)
}

/// The exit code of the worst platform.
pub fn exit(state: &v1::ImageState) -> u8 {
    match state.outcome.as_str() {
        "reproduced" => 0,
        "diverged" => 10,
        "flaky" | "disputed" => 12,
        "untrusted" => 13,
        "not-rebuildable" => 14,
        "stale" => 15,
        "error" => 1,
        _ => 11,
    }
}

/// Prints a state.
pub fn print(state: &v1::ImageState, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        let platforms: Vec<Value> = state.platforms.iter().map(platform_json).collect();
        output::json(&serde_json::json!({
            "schema": STATUS_SCHEMA,
            "repository": state.repository,
            "digest": state.digest,
            "outcome": state.outcome,
            "platforms": platforms,
        }))?;
        return Ok(());
    }
    let rows: Vec<Vec<String>> = state
        .platforms
        .iter()
        .map(|p| {
            let judged = judgement(p);
            let text =
                |key: &str| judged.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
            vec![
                p.subject.as_ref().map(|s| s.platform.clone()).unwrap_or_default(),
                p.phase.clone(),
                format!("{}/{}", p.observations, p.wanted),
                p.attempt.to_string(),
                text("outcome"),
                text("reason"),
            ]
        })
        .collect();
    let header = ["PLATFORM", "PHASE", "ANSWERS", "ATTEMPT", "OUTCOME", "WHY"];
    let outcome = if state.outcome.is_empty() { "not judged yet" } else { &state.outcome };
    let table = output::table(&header, &rows);
    output::data(&format!("{}@{}\n\n{table}\n{outcome}\n", state.repository, state.digest))?;
    Ok(())
}

fn platform_json(platform: &v1::PlatformState) -> Value {
    let subject = platform.subject.clone().unwrap_or_default();
    serde_json::json!({
        "platform": subject.platform,
        "manifest": subject.manifest,
        "job": platform.job,
        "phase": platform.phase,
        "attempt": platform.attempt,
        "observations": platform.observations,
        "wanted": platform.wanted,
        "judgement": judgement(platform),
    })
}
