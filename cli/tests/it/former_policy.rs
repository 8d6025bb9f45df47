//! A coordinator that starts with another policy makes its verdicts anew, and what is published
//! follows; also with another verdict key, and when it is killed in the middle. With the built
//! binary, over a registry that deletes.

use crate::{
    publishing::{attestations, pending, small_fleet, start},
    stage::{Host, Stage},
};
use serde_json::Value;
use std::collections::BTreeMap;

const PENDING: &str = "assay publish --dry-run --format json";
const VERDICTS: &str = "assay export --table verdicts";

/// Makes the policy of a stopped coordinator ask for so many operators.
fn require(stage: &Stage, operators: u32) {
    let edit = format!("sed -i 's/^reproduced = .*/reproduced = {operators}/' c/policy.toml");
    stage.expect(&edit, 0);
}

/// Starts the coordinator again with a policy that asks for so many operators.
fn restart_with(stage: &mut Stage, operators: u32) {
    stage.stop("coordinator");
    require(stage, operators);
    start(stage);
}

/// Submits an image and waits for its verdict; gives its index and all its digests.
fn submitted(stage: &Stage, reference: &str) -> (String, Vec<String>) {
    let submit = format!("assay submit {reference} --wait --format json");
    let state: Value = serde_json::from_str(&stage.expect(&submit, 0).out).unwrap();
    let index = state["digest"].as_str().unwrap().to_owned();
    let platforms = state["platforms"].as_array().unwrap().iter();
    let manifests = platforms.map(|platform| platform["manifest"].as_str().unwrap().to_owned());
    let digests = manifests.chain([index.clone()]).collect();
    (index, digests)
}

/// Waits until the newest verdict on each platform has this outcome.
fn becomes(stage: &Stage, image: &str, outcome: &str) {
    stage.until(&format!("assay status {image} --format json || true"), |out| {
        let state: Value = serde_json::from_str(out).unwrap();
        let platforms = state["platforms"].as_array().unwrap();
        platforms.iter().all(|platform| platform["judgement"]["outcome"] == outcome)
    });
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
    let (index, digests) = submitted(&stage, &format!("{hello}:latest"));
    let image = format!("{hello}@{index}");
    assert_eq!(digests.len(), 3);
    attested(&stage, &sidecar, &images, &digests, 1).await;
    // Nobody is there to give more observations.
    stage.stop("worker");
    // As often as somebody likes: that uses up none of the openings that dissent has.
    for round in 0..3 {
        restart_with(&mut stage, 2);
        becomes(&stage, &image, "inconclusive");
        attested(&stage, &sidecar, &images, &digests, 0).await;
        restart_with(&mut stage, 1);
        becomes(&stage, &image, "reproduced");
        attested(&stage, &sidecar, &images, &digests, 1).await;
        if round == 1 {
            // What the former key attested is withdrawn and replaced like what this one does.
            stage.stop("coordinator");
            stage.expect("rm c/verdict.key c/verdict.pub", 0);
            stage.expect("assay operator keygen verdict --dir c", 0);
            start(&mut stage);
            becomes(&stage, &image, "reproduced");
        }
    }
    // A publisher that is not trusted any more: history has both.
    for (old, new, outcome) in
        [("publisher", "verdict", "untrusted"), ("verdict", "publisher", "reproduced")]
    {
        stage.stop("coordinator");
        let edit = format!("sed -i 's/^key = \"{old}.pub\"/key = \"{new}.pub\"/' c/policy.toml");
        stage.expect(&edit, 0);
        start(&mut stage);
        becomes(&stage, &image, outcome);
    }
    let history = stage.expect(&format!("assay history {hello}"), 0).out;
    for (outcome, times) in [("reproduced", 5), ("untrusted", 1), ("inconclusive", 3)] {
        let lines = history.lines().filter(|line| line.contains(outcome)).count();
        assert_eq!(lines, 2 * times, "{outcome} in {history}");
    }
    attested(&stage, &sidecar, &images, &digests, 1).await;
    // The same policy again changes nothing.
    let verdicts = stage.expect(VERDICTS, 0).out;
    assert_eq!(verdicts.lines().count(), 2 * 9, "{verdicts}");
    let written = sidecar.writes();
    restart_with(&mut stage, 1);
    assert_eq!(stage.expect(VERDICTS, 0).out, verdicts);
    assert_eq!(sidecar.writes(), written);
    // And with the stricter one the job is open again: the second operator, and whoever else is
    // there, settle it.
    restart_with(&mut stage, 2);
    becomes(&stage, &image, "inconclusive");
    stage.expect(
        "assay worker init g --operator globex --coordinator $ASSAY_COORDINATOR --ca c/ca.pem \
         --coordinator-key c/verdict.pub --policy c/policy.toml && \
         assay operator add globex --root-key c/globex.key && \
         assay operator enroll-worker g/worker.pub --operator globex --root-key c/globex.key",
        0,
    );
    stage.start("worker", "assay worker run w", Some("worker started"));
    stage.start("second", "assay worker run g", Some("worker started"));
    becomes(&stage, &image, "reproduced");
    attested(&stage, &sidecar, &images, &digests, 1).await;
    stage.stop("worker");
    stage.stop("second");
    stage.stop("coordinator");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_judges_by_another_policy_it_loses_and_doubles_nothing() {
    const IMAGES: [&str; 2] = ["hello", "hello-legacy"];
    let (images, sidecar) = (Host::own(true, None).await, Host::own(false, None).await);
    let mut stage = small_fleet(&images, sidecar.name(), &["acme", "globex"]).await;
    images.fill(&IMAGES[1..]).await;
    let repository = |name: &str| format!("{}/demo/{name}", images.name());
    let submit = |name: &&str| submitted(&stage, &format!("{}:latest", repository(name))).0;
    let indexes: Vec<String> = IMAGES.iter().map(submit).collect();
    stage.stop("worker");
    stage.stop("coordinator");
    require(&stage, 2);
    stage.start("coordinator", "assay coordinator run c", Some("job judged"));
    stage.kill("coordinator");
    start(&mut stage);
    for (name, index) in IMAGES.iter().zip(&indexes) {
        becomes(&stage, &format!("{}@{index}", repository(name)), "inconclusive");
    }
    let out = stage.expect(VERDICTS, 0).out;
    let mut verdicts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in out.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let (job, outcome) = (row["job"].as_str().unwrap(), row["outcome"].as_str().unwrap());
        verdicts.entry(job.to_owned()).or_default().push(outcome.to_owned());
    }
    assert_eq!(verdicts.len(), 4, "{out}");
    assert!(verdicts.values().all(|all| *all == ["reproduced", "inconclusive"]), "{out}");
    stage.stop("coordinator");
}
