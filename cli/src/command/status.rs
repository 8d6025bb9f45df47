//! `assay status [IMAGE]`: what a coordinator knows.
//!
//! Invariant: what is shown is the coordinator's word; whoever has to rely on it uses `gate check`,
//! which judges again from the evidence.

use super::fleet::Connection;
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
    let Some(state) = get(&args.connection, &repository, &digest).await? else {
        never_submitted(image);
        let state = v1::ImageState { repository, digest, ..Default::default() };
        if args.format == Format::Json {
            output::json(&json(STATUS_SCHEMA, image, &state, exit(&state)))?;
        }
        return Ok(exit(&state));
    };
    match args.format {
        Format::Json => output::json(&json(STATUS_SCHEMA, image, &state, exit(&state)))?,
        Format::Text => output::data(&text(&state))?,
    }
    Ok(exit(&state))
}

/// The state of an image; none where it was never submitted.
pub async fn get(
    connection: &Connection,
    repository: &str,
    digest: &str,
) -> Result<Option<v1::ImageState>, Failure> {
    let (repository, digest) = (repository.to_owned(), digest.to_owned());
    let request = v1::GetImageRequest { repository, digest };
    connection.ask_if_known(connection.images()?.get(request)).await
}

/// Says that nobody asked for an image: it has no verdict, as one that waits for its first.
pub fn never_submitted(image: &str) {
    output::say(&format!(
        "{image} was never submitted to this coordinator; `assay submit {image}` asks for it"
    ));
}

async fn own(args: &Args) -> Outcome {
    let answer = args.connection.ask(args.connection.admin()?.status(v1::StatusRequest {})).await?;
    let status: Value = serde_json::from_slice(&answer.status)?;
    match args.format {
        Format::Json => output::json(&status)?,
        Format::Text => output::data(&own_text(&status))?,
    }
    Ok(0)
}

/// One line for each number.
fn own_text(status: &Value) -> String {
    let rows: Vec<Vec<String>> = status
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, _)| *name != "schema")
        .map(|(name, value)| {
            let value = match value {
                Value::String(text) => text.clone(),
                Value::Null => "-".to_owned(),
                other => other.to_string(),
            };
            vec![name.replace('_', " "), value]
        })
        .collect();
    output::table(&["WHAT", "VALUE"], &rows)
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
    state.platforms.iter().all(|p| matches!(p.phase.as_str(), "judged" | "parked"))
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

/// What is known of an image, for a program.
pub fn json(schema: &str, image: &str, state: &v1::ImageState, exit: u8) -> Value {
    let platforms: Vec<Value> = state.platforms.iter().map(platform_json).collect();
    let outcome = Some(state.outcome.as_str()).filter(|outcome| !outcome.is_empty());
    serde_json::json!({
        "schema": schema, "image": image, "repository": state.repository, "digest": state.digest,
        "outcome": outcome, "exit": exit, "error": null, "hint": null, "platforms": platforms,
    })
}

/// True for a job that has a verdict and asks for more answers.
pub fn is_open_again(platform: &v1::PlatformState) -> bool {
    !platform.judgement.is_empty() && !matches!(platform.phase.as_str(), "judged" | "parked")
}

/// The same for people.
pub fn text(state: &v1::ImageState) -> String {
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
    let table = output::table(&header, &rows);
    let outcome = if state.outcome.is_empty() { "not judged yet" } else { &state.outcome };
    let again: Vec<String> = state
        .platforms
        .iter()
        .filter(|platform| is_open_again(platform))
        .map(|platform| {
            let name = platform.subject.as_ref().map(|s| s.platform.as_str()).unwrap_or_default();
            format!("; {name} open again, attempt {}", platform.attempt)
        })
        .collect();
    format!("{}@{}\n\n{table}\n{outcome}{}\n", state.repository, state.digest, again.concat())
}

fn platform_json(platform: &v1::PlatformState) -> Value {
    let subject = platform.subject.clone().unwrap_or_default();
    let judgement = judgement(platform);
    serde_json::json!({
        "platform": subject.platform,
        "manifest": subject.manifest,
        "job": platform.job,
        "phase": platform.phase,
        "attempt": platform.attempt,
        "observations": platform.observations,
        "wanted": platform.wanted,
        "outcome": judgement.get("outcome"),
        "open_again": is_open_again(platform),
        "judgement": judgement,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_stands_while_its_job_is_open_again() {
        let mut platform = v1::PlatformState {
            subject: Some(v1::Subject { platform: "linux/amd64".into(), ..Default::default() }),
            phase: "announced".into(),
            attempt: 2,
            judgement: br#"{"outcome":"reproduced","reason":"Two of two."}"#.to_vec(),
            ..Default::default()
        };
        let of = |platform: &v1::PlatformState, outcome: &str| v1::ImageState {
            platforms: vec![platform.clone()],
            outcome: outcome.into(),
            ..Default::default()
        };
        let state = of(&platform, "reproduced");
        assert_eq!(exit(&state), 0);
        let said = text(&state);
        assert!(said.ends_with("\nreproduced; linux/amd64 open again, attempt 2\n"), "{said}");
        let value = json(STATUS_SCHEMA, "i", &state, 0);
        assert_eq!(value["platforms"][0]["open_again"], true);
        assert_eq!(value["platforms"][0]["outcome"], "reproduced");
        platform.judgement.clear();
        let state = of(&platform, "");
        assert_eq!(exit(&state), 11);
        assert!(text(&state).ends_with("\nnot judged yet\n"));
        assert_eq!(json(STATUS_SCHEMA, "i", &state, 11)["outcome"], Value::Null);
    }

    #[test]
    fn numbers_of_the_coordinator_are_a_table() {
        let status = serde_json::json!({"schema": "s", "jobs_unfinished": 3, "oldest": null});
        assert_eq!(
            own_text(&status),
            "WHAT             VALUE\njobs unfinished  3\noldest           -\n"
        );
    }
}
