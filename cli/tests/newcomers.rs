//! What newcomers ran into: mistakes in a worker's folder, names that nobody knows, coordinators
//! that do not answer. Each with the built binary and, where one is needed, a real coordinator.

mod bench;

use bench::{Bench, Run, case, fixtures, fleet::Fleet};
use harness::registry::{Fault, What};
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

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

#[tokio::test(flavor = "multi_thread")]
async fn one_digest_names_an_image_everywhere_and_nothing_known_is_said() {
    let bench = Bench::start().await;
    let fleet = Fleet::start(&bench, "").await;
    let ask = async |words: &[&str]| bench.assay(&[words, &fleet.connection()].concat()).await;
    // Neither of its two platforms has a recipe: they are judged without any worker.
    let judged = bench.by_digest("index-only");
    let run = ask(&["submit", &judged, "--wait", "--format", "json"]).await;
    let json = run.json();
    assert_eq!((run.code, &json["exit"]), (Some(14), &json!(14)), "{run:?}");
    let shape = (&json["schema"], &json["image"], &json["hint"]);
    assert_eq!(shape, (&json!("assay/submit/v1"), &json!(judged), &Value::Null));
    let state = ask(&["status", &judged, "--format", "json"]).await.json();
    assert_eq!(state["schema"], "assay/status/v1");
    let platforms: Vec<&str> = state["platforms"]
        .as_array()
        .unwrap()
        .iter()
        .map(|platform| platform["manifest"].as_str().unwrap())
        .collect();
    assert_eq!(platforms.len(), 2, "{state}");
    let listed = ask(&["history", &judged, "--format", "json"]).await.json();
    assert_eq!(listed["schema"], "assay/history-list/v1");
    let rows = listed["rows"].as_array().unwrap();
    let of: Vec<&str> = rows.iter().map(|row| row["manifest_digest"].as_str().unwrap()).collect();
    for platform in &platforms {
        assert!(of.contains(platform), "{platform} is not in {of:?}");
    }
    let cursor = listed["cursor"].as_str().unwrap();
    let behind = ask(&["history", &judged, "--format", "json", "--cursor", cursor]).await.json();
    assert_eq!(behind["rows"], json!([]), "nothing came since");
    let repository = judged.split('@').next().unwrap();
    for (at, platform) in platforms.iter().enumerate() {
        let one = format!("{repository}@{platform}");
        let own = ask(&["history", &one, "--format", "json"]).await.json();
        let own = own["rows"].as_array().unwrap();
        assert!(!own.is_empty() && own.len() < rows.len(), "{own:?}");
        assert!(own.iter().all(|row| row["manifest_digest"] == **platform), "{own:?}");
        // A platform's own manifest is known to every command, with its own job.
        for command in ["status", "explain"] {
            let run = ask(&[command, &one, "--format", "json"]).await;
            let json = run.json();
            assert!(run.code == Some(14) && run.err.is_empty(), "{run:?}");
            let found = json["platforms"].as_array().unwrap();
            assert_eq!(found.len(), 1, "{json}");
            assert_eq!(found[0]["manifest"], **platform, "{json}");
            assert_eq!(found[0]["outcome"], "not-rebuildable", "{json}");
            assert_eq!(found[0]["open_again"], false, "{json}");
        }
        let own = ask(&["status", &one, "--format", "json"]).await.json();
        assert_eq!(own["platforms"][0]["job"], state["platforms"][at]["job"], "{own}");
        let run = ask(&["unpark", &one]).await;
        assert!(run.code == Some(1) && run.err.contains("expected a parked platform"), "{run:?}");
    }
    let whole = ask(&["history", repository, "--format", "json"]).await.json();
    assert_eq!(whole["rows"], listed["rows"], "the repository has one image");
    let run = ask(&["export", &judged, "--table", "verdicts"]).await;
    let verdicts: Vec<Value> = run.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(verdicts.len(), platforms.len(), "{run:?}");
    for (verdict, platform) in verdicts.iter().zip(state["platforms"].as_array().unwrap()) {
        assert_eq!(verdict["attempt"], platform["attempt"], "one count");
    }
    // An image that is known is not called unknown where a table has nothing of it.
    let one = format!("{repository}@{}", platforms[0]);
    for image in [&judged[..], &one, repository] {
        for table in ["diffs", "tags"] {
            let run = ask(&["export", image, "--table", table]).await;
            assert_eq!((run.code, &run.out[..]), (Some(0), ""), "{run:?}");
            let says = format!("{image} is known here, the table {table} has no rows of it");
            assert!(run.err.contains(&says), "{run:?}");
        }
    }
    let hello = bench.by_digest("hello");
    let other = hello.split('@').next().unwrap();
    for command in ["history", "export"] {
        let run = ask(&[command, &hello]).await;
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.err.contains("nothing is known of"), "{run:?}");
        let run = ask(&[command, other]).await;
        assert!(run.code == Some(0) && run.err.contains("nothing was observed"), "{run:?}");
        for wrong in [&bench.image("hello")[..], "not a reference", "r.example/a@sha256:12"] {
            assert_eq!(ask(&[command, wrong]).await.code, Some(2), "{command} {wrong}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_a_verdict_is_inconclusive_to_status_and_explain() {
    let bench = Bench::start().await;
    let fleet = Fleet::start(&bench, "").await;
    let ask = async |words: &[&str]| bench.assay(&[words, &fleet.connection()].concat()).await;
    let hello = bench.by_digest("hello");
    for command in ["status", "explain"] {
        let run = ask(&[command, &hello, "--format", "json"]).await;
        assert!(run.code == Some(11) && run.err.contains("was never submitted"), "{run:?}");
        assert_eq!(run.json()["platforms"], json!([]));
    }
    let run = ask(&["submit", &hello, "--format", "json"]).await;
    let json = run.json();
    assert_eq!((run.code, &json["outcome"], &json["exit"]), (Some(0), &Value::Null, &json!(0)));
    let run = ask(&["status", &hello, "--format", "json"]).await;
    assert_eq!((run.code, &run.json()["outcome"]), (Some(11), &Value::Null), "{run:?}");
    let run = ask(&["explain", &hello, "--format", "json"]).await;
    assert_eq!(run.code, Some(11), "{run:?}");
    let json = run.json();
    let platforms = json["platforms"].as_array().unwrap();
    assert_eq!(platforms.len(), case("hello")["platforms"].as_object().unwrap().len(), "{json}");
    assert!(platforms.iter().all(|p| p["outcome"] == "inconclusive"), "{json}");
    let again = |p: &Value| (p["open_again"] == false, p["open_again_attempt"].is_null());
    assert!(platforms.iter().all(|p| again(p) == (true, true)), "{json}");
    let run = ask(&["history", &hello]).await;
    assert!(run.code == Some(0) && run.err.contains("is known here"), "{run:?}");
    let run = ask(&["explain", &hello]).await;
    assert!(run.code == Some(11) && run.out.contains("not judged yet"), "{run:?}");
    // The coordinator itself: numbers.
    let json = ask(&["status", "--format", "json"]).await.json();
    assert_eq!(json["schema"], "assay/coordinator-status/v1");
    assert_eq!(json["jobs_unfinished"], platforms.len(), "{json}");
    assert!(json["oldest_unfinished_seconds"].is_u64(), "{json}");
    let text = ask(&["status"]).await;
    assert!(text.out.contains("jobs unfinished") && !text.out.contains('{'), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_away_silent_or_another_is_named_with_what_to_look_at() {
    let bench = Bench::start().await;
    let mut fleet = Fleet::start(&bench, "").await;
    let ca = fleet.folder.join("ca.pem");
    let key = fleet.folder.join("admin.key");
    let (ca, key) = (ca.to_str().unwrap(), key.to_str().unwrap());
    let status = async |address: &str, more: &[&str]| {
        let words = ["status", "--coordinator", address, "--key", key];
        bench.assay(&[&words[..], more].concat()).await
    };
    let with_ca = &["--ca", ca][..];
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_address = format!("https://{}", silent.local_addr().unwrap());
    let accepting = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            held.push(stream);
        }
    });
    let plain = format!("https://{}", bench.registry.host());
    let (grpc, http) = (fleet.address.clone(), fleet.http.clone());
    for (address, more, hint) in [
        (&grpc, &[][..], "ASSAY_CA"),
        (&http, with_ca, "not a coordinator's gRPC"),
        (&plain, with_ca, "not a coordinator's gRPC"),
        (&silent_address, with_ca, "says nothing"),
    ] {
        let run = status(address, more).await;
        assert_eq!(run.code, Some(1), "{hint}: {run:?}");
        let says = format!("expected an answer of {address}, found ");
        assert!(run.err.contains(&says) && run.err.contains(hint), "{hint}: {run:?}");
    }
    accepting.abort();
    // What the coordinator says is said as it is.
    let run = bench.assay(&[&["watch", "remove", "none"][..], &fleet.connection()].concat()).await;
    let plain_words = !run.err.contains("status") && !run.err.contains("code");
    assert!(run.code != Some(0) && plain_words, "{run:?}");
    fleet.kill().await;
    let run = status(&grpc, with_ca).await;
    assert!(run.code == Some(1) && run.err.contains("is the coordinator running"), "{run:?}");
    for (address, more) in [("http://c:1", with_ca), ("c:1", with_ca), (&grpc, &["--ca", key][..])]
    {
        assert_eq!(status(address, more).await.code, Some(2), "{address}");
    }
}

/// What lies in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn signal(name: &str, pid: u32) {
    let sent = std::process::Command::new("kill").arg(name).arg(pid.to_string()).status();
    assert!(sent.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_signal_ends_leaves_nothing_behind() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    let temporary = bench.path("tmp");
    fs::create_dir(&temporary).unwrap();
    bench.registry.fault(Fault::get("/blobs/", What::Hang));
    let asked = bench.registry.count("GET", "/blobs/");
    let mut command = bench::command(bench.folder.path());
    command.args(["verify", &bench.image("hello"), "--policy", &policy]);
    let mut child = command.env("TMPDIR", &temporary).spawn().unwrap();
    bench.registry.asked("GET", "/blobs/", asked).await;
    assert_ne!(names(&temporary), [""; 0], "it is at work");
    signal("-INT", child.id().unwrap());
    assert_eq!(child.wait().await.unwrap().code(), Some(130));
    assert_eq!(names(&temporary), [""; 0]);
    let mut command = bench::command(bench.folder.path());
    command.args(["demo", "--fixtures", fixtures().to_str().unwrap()]).stderr(Stdio::piped());
    let mut child = command.env("TMPDIR", &temporary).stdout(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.starts_with("hello") {
            break;
        }
    }
    assert_ne!(names(&temporary), [""; 0], "it is at work");
    signal("-TERM", child.id().unwrap());
    let rest = tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    assert_eq!(child.wait().await.unwrap().code(), Some(143));
    rest.await.unwrap();
    assert_eq!(names(&temporary), [""; 0]);
}

/// Its last stage waits for other processes: who stops it there hears nothing of their answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_demonstration_that_is_stopped_while_gates_decide_says_that_it_was_stopped() {
    let bench = Bench::start().await;
    let temporary = bench.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut command = bench::command(bench.folder.path());
    command.args(["demo", "--fixtures", fixtures().to_str().unwrap()]).stderr(Stdio::null());
    let mut child = command.env("TMPDIR", &temporary).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // The fleet's table is printed, the gates begin.
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.starts_with("IMAGE") {
            break;
        }
    }
    signal("-INT", child.id().unwrap());
    let mut rest = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        rest.push_str(&line);
    }
    assert_eq!(child.wait().await.unwrap().code(), Some(130), "{rest}");
    assert!(!rest.contains("GATE CHECK"), "{rest}");
    assert_eq!(names(&temporary), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_the_call_are_2_and_say_what_is_there() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    let image = bench.image("hello");
    let run = bench.verify(&image, &policy, &["--platform", "linux/s390x"]).await;
    assert_eq!(run.code, Some(11), "nothing was checked: {run:?}");
    assert!(run.err.contains("expected linux/s390x in"), "{run:?}");
    assert!(run.err.contains("found linux/amd64, linux/arm64"), "{run:?}");
    let mirror = format!("https://p.example/=file://{}/", bench.path("none").display());
    let run = bench.verify(&image, &policy, &["--mirror", &mirror]).await;
    assert!(run.code == Some(2) && run.err.contains("expected a folder at"), "{run:?}");
    let layout = format!("oci:{}:no/such:tag", fixtures().display());
    let run = bench.verify(&layout, &policy, &[]).await;
    assert!(run.code == Some(1) && !run.err.contains("Repository("), "{run:?}");
    // A registry without TLS: the hint can be followed with and without trusted signers, and the
    // draft has what was needed to make it.
    let run = bench.assay(&["verify", &image, "--any-signer", "--policy", &policy]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    let run = bench.assay(&["policy", "init", &image, "--policy", &policy]).await;
    let host = bench.registry.host();
    let table = format!("[[registry]]\nhost = \"{host}\"\nplain_http = true\n");
    assert!(run.code == Some(0) && run.out.contains(&table), "{run:?}");
    // The user's own policy counts for the same.
    let own = bench.path(".config/assay");
    fs::create_dir_all(&own).unwrap();
    fs::copy(&policy, own.join("policy.toml")).unwrap();
    fs::copy(bench.path("publisher.pub"), own.join("publisher.pub")).unwrap();
    assert!(bench.assay(&["policy", "init", &image]).await.out.contains(&table));
    let run = bench.assay(&["diff", &image, &image, "--platform", "linux/amd64"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    let (one, other) = (&image, bench.image("tampered"));
    let run = bench.assay(&["diff", one, &other, "--platform", "linux/amd64"]).await;
    assert!(run.code == Some(10) && run.out.contains("A -> B:"), "{run:?}");
    // A coordinator's folder.
    let folder = bench.path("c");
    let dir = folder.to_str().unwrap();
    let code = async |words: &[&str]| bench.assay(words).await.code;
    assert_eq!(code(&["coordinator", "check-config", dir]).await, Some(2), "there is none");
    assert_eq!(code(&["coordinator", "init", dir]).await, Some(0));
    assert_eq!(code(&["coordinator", "init", dir]).await, Some(2), "it is full");
    let key = folder.join("verdict.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(code(&["coordinator", "check-config", dir]).await, Some(2), "others can read it");
    assert_eq!(code(&["coordinator", "run", dir]).await, Some(2));
    // Files, folders and addresses that are not there, or where nothing can be made.
    let digest = bench.by_digest("hello");
    let gate = ["gate", "check", &digest, "--policy", &policy];
    for (words, says) in [
        (&["--evidence", "/nope"][..], "found nothing at /nope"),
        (&["--evidence", "ftp://x.example"], "ftp://x.example"),
        (&["--keep", "/proc/x"], "/proc/x"),
    ] {
        let run = bench.assay(&[&gate[..], words].concat()).await;
        assert!(run.code == Some(2) && run.err.contains(says), "{run:?}");
    }
    for (words, says) in [
        (&["gate", "check", &image, "--policy", &policy, "--offline"][..], "expected a digest"),
        (&["explain", &digest, "--policy", &policy, "--evidence", "/nope"], "at /nope"),
        (&["verify", "oci:/nope:a/b:c", "--policy", &policy], "at /nope"),
        (&["verify", &image, "--policy", &policy, "--store", "/proc/x"], "at /proc/x"),
        (&["verify", &image, "--policy", &policy, "--keep", "/proc/x"], "at /proc/x"),
        (&["operator", "keygen", "acme", "--dir", "/nope"], "at /nope"),
        (&["coordinator", "init", "/proc/x"], "/proc/x"),
        (&["coordinator", "reindex", "/nope"], "at /nope"),
        (&["coordinator", "backup", "/nope", "b"], "at /nope"),
        (&["coordinator", "restore", "/nope", "c"], "at /nope"),
        (&["demo", "--keep", "/proc/x"], "at /proc/x"),
    ] {
        let run = bench.assay(words).await;
        assert!(run.code == Some(2) && run.err.contains(says), "{words:?}: {run:?}");
    }
    // Words about logs.
    assert_eq!(code(&["--log", "!!!", "policy", "check", &policy]).await, Some(2));
    for value in ["1", "0", ""] {
        let mut command = bench::command(bench.folder.path());
        command.args(["policy", "check", &policy]).env("ASSAY_LOG_JSON", value);
        let run = bench::run(command).await;
        assert_eq!(run.code, Some(0), "{value:?}: {run:?}");
    }
}
