//! A coordinator that starts with another policy makes its verdicts anew, and what is published
//! follows. With the built binary, over a registry that deletes.

use crate::{
    publishing::{attestations, pending, small_fleet, start},
    stage::{Host, Stage},
};
use serde_json::Value;

const PENDING: &str = "assay publish --dry-run --format json";

/// Starts the coordinator again with a policy that asks for so many operators.
fn restart_with(stage: &mut Stage, reproduced: u32) {
    stage.stop("coordinator");
    let edit = format!("sed -i 's/^reproduced = .*/reproduced = {reproduced}/' c/policy.toml");
    stage.expect(&edit, 0);
    start(stage);
}

/// Waits until each digest has so many attestations, and nothing is under way.
async fn attested(stage: &Stage, sidecar: &Host, images: &Host, digests: &[String], each: usize) {
    loop {
        stage.until(PENDING, |out| pending(out).is_empty());
        let mut found = Vec::new();
        for digest in digests {
            found.push(attestations(sidecar, images, digest).await);
        }
        if found.iter().all(|count| *count == each) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_policy_makes_verdicts_and_attestations_anew() {
    let (images, sidecar) = (Host::own(true, None).await, Host::own(false, None).await);
    let mut stage = small_fleet(&images, sidecar.name(), &["acme", "globex"]).await;
    let hello = format!("{}/demo/hello", images.name());
    let submit = format!("assay submit {hello}:latest --wait --format json");
    let state: Value = serde_json::from_str(&stage.expect(&submit, 0).out).unwrap();
    let index = state["digest"].as_str().unwrap().to_owned();
    let platforms = state["platforms"].as_array().unwrap().iter();
    let digests: Vec<String> = platforms
        .map(|platform| platform["manifest"].as_str().unwrap().to_owned())
        .chain([index.clone()])
        .collect();
    assert_eq!(digests.len(), 3);
    attested(&stage, &sidecar, &images, &digests, 1).await;
    // Nobody is there to give more observations.
    stage.stop("worker");
    let status = format!("assay status {hello}@{index} --format json || true");
    let both_are = |outcome: &'static str| {
        move |out: &str| {
            let state: Value = serde_json::from_str(out).unwrap();
            let platforms = state["platforms"].as_array().unwrap();
            platforms.iter().all(|platform| platform["outcome"] == outcome)
        }
    };
    // As often as somebody likes: that uses up none of the openings that dissent has.
    for _ in 0..3 {
        restart_with(&mut stage, 2);
        stage.until(&status, both_are("inconclusive"));
        attested(&stage, &sidecar, &images, &digests, 0).await;
        restart_with(&mut stage, 1);
        stage.until(&status, both_are("reproduced"));
        attested(&stage, &sidecar, &images, &digests, 1).await;
    }
    // The same policy again changes nothing.
    let export = "assay export --table verdicts";
    let verdicts = stage.expect(export, 0).out;
    assert_eq!(verdicts.lines().count(), 2 * 7, "{verdicts}");
    let written = sidecar.writes();
    restart_with(&mut stage, 1);
    assert_eq!(stage.expect(export, 0).out, verdicts);
    assert_eq!(sidecar.writes(), written);
    // And with the stricter one the job is open again: a second operator settles it.
    restart_with(&mut stage, 2);
    stage.until(&status, both_are("inconclusive"));
    stage.expect(
        "assay worker init g --operator globex --coordinator $ASSAY_COORDINATOR --ca c/ca.pem \
         --coordinator-key c/verdict.pub --policy c/policy.toml && \
         assay operator add globex --root-key c/globex.key && \
         assay operator enroll-worker g/worker.pub --operator globex --root-key c/globex.key",
        0,
    );
    stage.start("worker", "assay worker run g", Some("worker started"));
    stage.until(&status, both_are("reproduced"));
    attested(&stage, &sidecar, &images, &digests, 1).await;
    stage.stop("worker");
    stage.stop("coordinator");
}
