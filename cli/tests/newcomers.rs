//! What newcomers ran into: mistakes in a worker's folder, names that nobody knows, coordinators
//! that do not answer. Each with the built binary and, where one is needed, a real coordinator.

mod bench;

use bench::{Bench, Run, fleet::Fleet};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

/// The check of this name in `worker doctor --format json`.
fn check(run: &Run, name: &str) -> (bool, String) {
    let json = run.json();
    let found = json["checks"].as_array().unwrap().iter().find(|check| check["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no check {name}: {json}"));
    (found["good"] == true, found["detail"].as_str().unwrap().to_owned())
}

/// A coordinator, and the folder of a worker of `acme` that it knows.
async fn enrolled(bench: &Bench) -> (Fleet, PathBuf) {
    let fleet = Fleet::start(bench, "").await;
    let policy = bench.policy("worker-policy.toml", "");
    let worker = fleet.worker(bench, "acme", &policy).await;
    fleet.add_operator(bench, "acme").await;
    assert_eq!(fleet.enrol(bench, "acme", &worker.join("worker.pub")).await.code, Some(0));
    (fleet, worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doctor_sees_the_wrong_key_and_policies_that_nothing_comes_of() {
    let bench = Bench::start().await;
    let (fleet, worker) = enrolled(&bench).await;
    let doctor = async || {
        let dir = worker.to_str().unwrap();
        bench.assay(&["worker", "doctor", dir, "--format", "json"]).await
    };
    let run = doctor().await;
    assert_eq!(run.code, Some(0), "{run:?}");
    let (good, detail) = check(&run, "coordinator key");
    assert!(good && detail.contains("leases are signed by"), "{detail}");
    let config = fs::read_to_string(worker.join("worker.toml")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(config.contains(from), "{config}");
        fs::write(worker.join("worker.toml"), config.replace(from, to)).unwrap();
    };
    // Another key: the worker's own will do.
    let verdict_pub = fleet.folder.join("verdict.pub");
    let own = worker.join("worker.pub");
    with(verdict_pub.to_str().unwrap(), own.to_str().unwrap());
    let run = doctor().await;
    assert_eq!(run.code, Some(1), "{run:?}");
    let (good, detail) = check(&run, "coordinator key");
    assert!(!good && detail.contains("every offer would be refused"), "{detail}");
    with("memory_mib_max = 2048", "memory_mib_max = 99999999");
    let (good, detail) = check(&doctor().await, "memory");
    assert!(!good && detail.contains("the machine has"), "{detail}");
    for (text, says) in [
        ("", "no [[publisher]]"),
        (
            "[[publisher]]\nrepositories = [\"*\"]\nidentity = \"a@b.example\"\n\
             issuer = \"https://issuer.example\"\n",
            "keyless",
        ),
    ] {
        fs::write(bench.path("other-policy.toml"), text).unwrap();
        with("worker-policy.toml", "other-policy.toml");
        let run = doctor().await;
        let (good, detail) = check(&run, "policy");
        assert!(run.code == Some(1) && !good && detail.contains(says), "{detail}");
    }
    // What cannot be read is said in one line, and `run` says it too.
    for (from, to, says) in [
        ("slots = 1", "slots = 0", "expected slots = 1 or more"),
        ("slots = 1", "slots = ", "TOML parse error at line"),
        ("coordinator = \"https", "coordinator = \"http", "expected an address like https"),
    ] {
        with(from, to);
        let (good, detail) = check(&doctor().await, "configuration");
        assert!(!good && detail.contains(says) && !detail.contains('\n'), "{detail}");
        let run = bench.assay(&["worker", "run", worker.to_str().unwrap()]).await;
        assert!(run.code == Some(2) && run.err.contains(says), "{run:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_not_made_from_what_cannot_be_right() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    let key = bench.path("publisher.pub");
    let (key, text) = (key.to_str().unwrap(), bench.path("text"));
    fs::write(&text, "no key and no certificate").unwrap();
    let (text, missing) = (text.to_str().unwrap(), bench.path("missing"));
    let missing = missing.to_str().unwrap();
    let folder = bench.path("w");
    let good = "https://coordinator.example:7443";
    for (coordinator, key, ca, says) in [
        ("http://coordinator.example:7443", key, None, "expected an address like https"),
        ("coordinator.example:7443", key, None, "expected an address like https"),
        (good, missing, None, "missing"),
        (good, text, None, "text: "),
        (good, key, Some(missing), "missing"),
        (good, key, Some(text), "expected certificates in PEM"),
    ] {
        let mut call = vec!["worker", "init", folder.to_str().unwrap(), "--operator", "acme"];
        call.extend(["--coordinator", coordinator, "--coordinator-key", key, "--policy", &policy]);
        call.extend(ca.iter().flat_map(|ca| ["--ca", ca]));
        let run = bench.assay(&call).await;
        assert!(run.code == Some(2) && run.err.contains(says), "{says}: {run:?}");
        assert!(!folder.exists(), "{says}: nothing was written");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_worker_is_shown_and_an_unknown_one_is_not_found() {
    let bench = Bench::start().await;
    let (fleet, worker) = enrolled(&bench).await;
    let admin = async |words: &[&str]| bench.assay(&[words, &fleet.connection()].concat()).await;
    let unknown = attest::Digest::of(b"nobody").to_string();
    let run = admin(&["worker", "drain", &unknown]).await;
    assert!(run.code == Some(1) && run.err.contains("is not known"), "{run:?}");
    let listed = async || {
        let run = admin(&["operator", "list", "--format", "json"]).await;
        assert_eq!(run.code, Some(0), "{run:?}");
        run.json()["operators"][0]["workers"][0].clone()
    };
    let row = listed().await;
    let id = row["worker"].as_str().unwrap().to_owned();
    let away = json!({"worker": id, "state": "away", "leases": 0, "last_seen": null,
                      "version": null});
    assert_eq!(row, away, "it never called");
    let dir = worker.to_str().unwrap();
    assert_eq!(bench.assay(&["worker", "doctor", dir]).await.code, Some(0));
    let row = listed().await;
    assert_eq!((&row["state"], &row["version"]), (&json!("connected"), &json!("0.1.0")), "{row}");
    assert!(row["last_seen"].as_str().unwrap().ends_with('Z'), "{row}");
    let run = admin(&["worker", "drain", &id]).await;
    assert!(run.code == Some(0) && run.err.contains("gets no new work"), "{run:?}");
    assert_eq!(listed().await["state"], "draining");
    let text = admin(&["operator", "list"]).await;
    assert!(text.out.contains("draining") && text.out.contains("LAST SEEN"), "{text:?}");
    assert_eq!(admin(&["worker", "drain", &id, "--undo"]).await.code, Some(0));
    assert_eq!(listed().await["state"], Value::from("connected"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_parked_is_unparked() {
    let bench = Bench::start().await;
    let fleet = Fleet::start(&bench, "").await;
    let admin = async |words: &[&str]| bench.assay(&[words, &fleet.connection()].concat()).await;
    // No recipe that anybody trusts: judged at once, without a worker.
    let submitted = admin(&["submit", &bench.image("wrong-signer"), "--format", "json"]).await;
    assert_eq!(submitted.code, Some(0), "{submitted:?}");
    let digest = bench.by_digest("wrong-signer");
    let run = admin(&["unpark", &digest]).await;
    assert!(run.code == Some(1) && run.err.contains("expected a parked platform"), "{run:?}");
    assert!(run.err.contains("judged"), "what it is instead: {run:?}");
    let job = submitted.json()["platforms"][0]["job"].as_str().unwrap().to_owned();
    let run = admin(&["unpark", &job]).await;
    assert!(run.code == Some(1) && run.err.contains("judged"), "{run:?}");
    let unknown = attest::Digest::of(b"nothing").to_string();
    let run = admin(&["unpark", &unknown]).await;
    assert!(run.code == Some(1) && run.out.is_empty(), "{run:?}");
}
