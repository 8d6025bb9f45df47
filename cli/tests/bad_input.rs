//! Bad input, through the built binary: the exit code, a message that says what was expected, what
//! was found and what to do, one JSON value on standard output, nothing half-written, never a pass.

mod bench;

use bench::{Bench, Run, case, fixtures};
use harness::registry::{Fault, What};
use oci::{layout::writer::LayoutWriter, media};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};

/// A failure that no verdict may come from: exit 1, said in both forms.
fn assert_error(run: &Run, what: &str, says: &[&str]) {
    assert_eq!(run.code, Some(1), "{what}: {run:?}");
    let json = run.json();
    assert_eq!((&json["outcome"], &json["exit"]), (&json!("error"), &json!(1)), "{what}: {json}");
    for text in says {
        let found = run.err.contains(text) || run.out.contains(text);
        assert!(found, "{what}: expected {text:?} in {run:?}");
    }
}

/// What every message of a failed fetch has.
const WORDS: [&str; 2] = ["expected", "found"];

fn index_of(entries: &Value) -> What {
    let index = json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries});
    What::Instead(media::OCI_INDEX.into(), serde_json::to_vec(&index).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_ends_with_1_whatever_is_wrong_with_the_registry() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    let nested = json!([{
        "mediaType": media::OCI_INDEX, "size": 2, "digest": attest::Digest::of(b"{}").to_string(),
        "platform": {"os": "linux", "architecture": "amd64"},
    }]);
    let oversized = media::MANIFEST_BYTES_MAX as usize + 1;
    let html = What::Instead("text/html".into(), b"<html>log in</html>".to_vec());
    let at = "try again when the registry answers";
    for (what, says, hint) in [
        (What::Status(401), "401", "docker login"),
        (What::Status(403), "403", "docker login"),
        (What::Status(404), "found none", "typing errors"),
        (What::Status(500), "500", at),
        (What::Truncated, "cut short", at),
        (What::WrongBytes, "digest", "damaged or dishonest"),
        (What::Oversized(oversized), "at most 4194304 bytes", "out of bounds"),
        (html, "JSON", "push it again"),
        (index_of(&nested), "index", "push it again"),
    ] {
        let name = format!("{what:?}").chars().take(60).collect::<String>();
        bench.registry.heal();
        bench.registry.fault(Fault::get("/manifests/", what));
        let keep = bench.path("kept");
        let more = ["--keep", keep.to_str().unwrap()];
        let run = bench.verify(&bench.image("hello"), &policy, &more).await;
        assert_error(&run, &name, &[&WORDS[..], &[says, hint]].concat());
        assert!(!keep.join("report.json").exists(), "{name}: nothing was found out");
    }
    bench.registry.heal();
    let run = bench.verify(&bench.image("nothing-here"), &policy, &[]).await;
    assert_error(&run, "unknown image", &["found none", "typing errors"]);
    let run = bench.verify(&bench.image("hello"), &policy, &[]).await;
    assert_eq!(run.code, Some(0), "and without a fault it is right: {run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_ends_with_1_whatever_is_wrong_with_blobs_and_evidence() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    for path in ["/blobs/", "/referrers/"] {
        for what in
            [What::Status(403), What::Status(500), What::Truncated, What::Oversized(64 << 20)]
        {
            let name = format!("{path} {what:?}").chars().take(60).collect::<String>();
            bench.registry.heal();
            bench.registry.fault(Fault::get(path, what));
            // An honest image and an altered one: neither becomes better or worse by it.
            for image in ["hello", "tampered"] {
                let run = bench.verify(&bench.image(image), &policy, &[]).await;
                assert_error(&run, &format!("{name} {image}"), &WORDS);
            }
        }
    }
    // A listing that is no listing is said, and gives no evidence.
    bench.registry.heal();
    let list = What::Instead("application/json".into(), b"[]".to_vec());
    bench.registry.fault(Fault::get("/referrers/", list));
    let run = bench.verify(&bench.image("hello"), &policy, &[]).await;
    let json = run.json();
    assert_eq!(run.code, Some(14), "{run:?}");
    assert!(!json["platforms"][0]["recipe"]["ignored"].as_array().unwrap().is_empty(), "{json}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_changes_nothing_that_was_begun() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    let other: attest::Digest = case("tampered")["index"].as_str().unwrap().parse().unwrap();
    // Both images in one repository, so that its tag can move from one to the other.
    let layout = LayoutWriter::create(bench.path("both")).unwrap();
    copy_into(&layout, &other.to_string(), "demo/hello", "tampered");
    bench.registry.load_layout(bench.path("both"));
    let tag = "latest".parse().unwrap();
    let fault = What::ThenMoveTag("demo/hello".into(), tag, other);
    bench.registry.fault(Fault::get("/demo/hello/manifests/latest", fault).times(1));
    let run = bench.verify(&bench.image("hello"), &policy, &[]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(run.json()["index"], case("hello")["index"], "what was resolved is what was judged");
    // Asked again, the tag names the other image, of which the evidence lies elsewhere.
    let run = bench.verify(&bench.image("hello"), &policy, &[]).await;
    assert_eq!(run.json()["index"], other.to_string());
    assert_ne!(run.code, Some(0), "{run:?}");
}

/// Copies a manifest with everything below it from the published cases into a layout.
fn copy_into(layout: &LayoutWriter, digest: &str, repository: &str, tag: &str) {
    fn blob(layout: &LayoutWriter, digest: &str) -> Vec<u8> {
        let hex = digest.strip_prefix("sha256:").unwrap();
        let bytes = fs::read(fixtures().join("blobs/sha256").join(hex)).unwrap();
        layout.put_blob(&bytes).unwrap();
        bytes
    }
    let bytes = blob(layout, digest);
    let root: Value = serde_json::from_slice(&bytes).unwrap();
    let mut below: Vec<String> = Vec::new();
    let digests = |value: &Value| value["digest"].as_str().unwrap().to_owned();
    for entry in root["manifests"].as_array().into_iter().flatten() {
        let manifest: Value = serde_json::from_slice(&blob(layout, &digests(entry))).unwrap();
        below.push(digests(&manifest["config"]));
        below.extend(manifest["layers"].as_array().unwrap().iter().map(digests));
    }
    if root["config"].is_object() {
        below.push(digests(&root["config"]));
        below.extend(root["layers"].as_array().unwrap().iter().map(digests));
    }
    below.iter().for_each(|digest| {
        blob(layout, digest);
    });
    let media_type = root["mediaType"].as_str().unwrap();
    let descriptor = layout.put_manifest(media_type, &bytes).unwrap();
    layout.tag(&repository.parse().unwrap(), &tag.parse().unwrap(), &descriptor).unwrap();
}

/// A layout with `hello`, and one referrer of its amd64 image that holds these bytes.
fn with_evidence(folder: &Path, evidence: &[u8]) -> String {
    let layout = LayoutWriter::create(folder).unwrap();
    let manifest =
        case("hello")["platforms"]["linux/amd64"]["manifest"].as_str().unwrap().to_owned();
    copy_into(&layout, &manifest, "demo/hello", "latest");
    let hex = manifest.strip_prefix("sha256:").unwrap();
    let bytes = fs::read(fixtures().join("blobs/sha256").join(hex)).unwrap();
    let subject = oci::Descriptor::of(media::OCI_MANIFEST, &bytes);
    let descriptor = |media_type: &str, bytes: &[u8]| {
        layout.put_blob(bytes).unwrap();
        oci::Descriptor::of(media_type, bytes).to_json()
    };
    let referrer = json!({
        "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "artifactType": media::BUNDLE_V03,
        "config": descriptor(media::EMPTY, b"{}"),
        "layers": [descriptor(media::BUNDLE_V03, evidence)],
        "subject": subject.to_json(),
    });
    let referrer = serde_json::to_vec(&referrer).unwrap();
    let referrer = layout.put_manifest(media::OCI_MANIFEST, &referrer).unwrap();
    layout.tag(&"demo/hello".parse().unwrap(), &"evidence".parse().unwrap(), &referrer).unwrap();
    format!("oci:{}:demo/hello:latest", folder.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_that_cannot_be_read_is_untrusted_and_listed() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    let envelope =
        br#"{"payload":"e30=","payloadType":"application/vnd.in-toto+json","signatures":[]}"#;
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    for (name, bytes) in [
        ("garbage", &b"\x00\xff garbage"[..]),
        ("no bundle", b"{}"),
        ("an envelope without signatures", envelope),
        ("deep", deep.as_bytes()),
    ] {
        let image = with_evidence(&bench.path(&name.replace(' ', "-")), bytes);
        let run = bench.verify(&image, &policy, &[]).await;
        let json = run.json();
        assert_eq!(
            (run.code, &json["outcome"]),
            (Some(13), &json!("untrusted")),
            "{name}: {run:?}"
        );
        let ignored = json["platforms"][0]["recipe"]["ignored"].as_array().unwrap();
        assert_eq!(ignored.len(), 1, "{name}: {json}");
        assert!(!ignored[0]["reason"].as_str().unwrap().is_empty(), "{name}: {json}");
        let anybody = bench.assay(&["verify", &image, "--any-signer", "--format", "json"]).await;
        assert_ne!(anybody.code, Some(0), "{name}: {anybody:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_is_an_error_everywhere() {
    let mut bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    let (tag, digest) = (bench.image("hello"), bench.by_digest("hello"));
    bench.registry.stop().await;
    for image in [&tag, &digest] {
        let run = bench.verify(image, &policy, &[]).await;
        assert_error(&run, image, &["expected an answer", "hint: ", "try again"]);
        let arguments = ["gate", "check", image, "--policy", &policy, "--format", "json"];
        let run = bench.assay(&arguments).await;
        assert_eq!(run.code, Some(1), "{run:?}");
        let json = run.json();
        let said = (&json["outcome"], &json["class"], &json["decision"], &json["enforced"]);
        assert_eq!(said, (&json!("error"), &json!("error"), &json!("deny"), &json!(true)));
        assert!(json["reason"].as_str().unwrap().contains("expected an answer"), "{json}");
        assert!(json["to_pass"].as_str().unwrap().contains("try again"), "{json}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_denies_whatever_it_cannot_read_in_every_mode() {
    let bench = Bench::start().await;
    let (tag, digest) = (bench.image("hello"), bench.by_digest("hello"));
    for mode in ["observe", "enforce"] {
        let more = format!("[gate]\nmode = \"{mode}\"\nunknown = \"pass\"\n");
        let policy = bench.policy(&format!("{mode}.toml"), &more);
        let check = async |image: &str, more: &[&str]| {
            let arguments = ["gate", "check", image, "--policy", &policy, "--format", "json"];
            bench.assay(&[&arguments[..], more].concat()).await
        };
        for what in [401, 403, 404, 500] {
            bench.registry.heal();
            bench.registry.fault(Fault::get("/v2/", What::Status(what)));
            for image in [&tag, &digest] {
                let run = check(image, &[]).await;
                assert_error(&run, &format!("{mode} {what}"), &["deny", "expected", "found"]);
            }
        }
        for (path, what) in [
            ("/manifests/", What::Truncated),
            ("/manifests/", What::WrongBytes),
            ("/manifests/", What::Oversized(media::MANIFEST_BYTES_MAX as usize + 1)),
            ("/referrers/", What::Truncated),
            ("/referrers/", What::Status(500)),
        ] {
            let name = format!("{mode} {path} {what:?}");
            bench.registry.heal();
            bench.registry.fault(Fault::get(path, what));
            let run = check(&tag, &[]).await;
            assert_error(&run, &name, &["deny"]);
        }
        bench.registry.heal();
        let missing = bench.path("no-such-evidence");
        let run = check(&tag, &["--evidence", missing.to_str().unwrap()]).await;
        // A mistake of the call, and a denial all the same.
        let json = run.json();
        assert_eq!((run.code, &json["exit"]), (Some(2), &json!(2)), "{run:?}");
        assert_eq!((&json["decision"], &json["outcome"]), (&json!("deny"), &json!("error")));
        assert!(run.err.contains("no-such-evidence"), "{run:?}");
        let broken = bench.path("broken.json");
        fs::write(&broken, br#"{"schema":"assay/evidence/v1","#).unwrap();
        let run = check(&tag, &["--evidence", broken.to_str().unwrap()]).await;
        assert_error(&run, "half a file", &["broken.json", "deny"]);
    }
    // Nothing wrong and nothing known: unknown, which this policy lets pass and says so.
    let run = bench
        .assay(&[
            "gate",
            "check",
            &tag,
            "--policy",
            bench.path("enforce.toml").to_str().unwrap(),
            "--format",
            "json",
            "--strict-exit",
        ])
        .await;
    assert_eq!((run.code, &run.json()["outcome"]), (Some(11), &json!("inconclusive")), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_policies_that_are_wrong_say_what_to_do() {
    let bench = Bench::start().await;
    let image = bench.image("hello");
    let run = bench.assay(&["verify", &image, "--format", "json"]).await;
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.err.contains(&format!("assay policy init {image}")), "{run:?}");
    assert_eq!(run.json()["exit"], 2);
    let run = bench.assay(&["verify", "not a reference", "--any-signer", "--format", "json"]).await;
    assert_eq!((run.code, &run.json()["exit"]), (Some(2), &json!(2)), "{run:?}");
    for (name, text) in [
        ("no TOML", "[[publisher"),
        ("an unknown key", "[quorum]\nreproduced = 1\noperators = []\ntypo = 1\n"),
        (
            "a key file that is not there",
            "[[publisher]]\nrepositories = [\"*\"]\nkey = \"x.pub\"\n",
        ),
    ] {
        let path = bench.path("bad.toml");
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        for command in [&["verify", &image][..], &["gate", "check", &image]] {
            let arguments = [command, &["--policy", path, "--format", "json"]].concat();
            let run = bench.assay(&arguments).await;
            assert_eq!((run.code, &run.json()["exit"]), (Some(16), &json!(16)), "{name}: {run:?}");
            assert!(run.err.contains("bad.toml"), "{name}: {run:?}");
        }
    }
}

/// The files below a folder, by name.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path().to_str().unwrap().to_owned());
        }
    }
    found
}

/// Every file of a kept folder is whole: JSON parses, blobs have the digest of their name.
fn assert_whole(folder: &Path) {
    for name in files(folder) {
        let (path, bytes) = (Path::new(&name), fs::read(&name).unwrap());
        if path.parent().is_some_and(|p| p.ends_with("blobs/sha256")) {
            let hex = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(attest::Digest::of(&bytes).hex(), hex, "a blob that is not whole");
        } else if name.ends_with(".json") || name.ends_with("oci-layout") {
            serde_json::from_slice::<Value>(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        } else {
            panic!("{name} was left behind");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_while_results_are_kept_leaves_nothing_half_written() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    // A file that grows beyond the limit fails as on a full disk, in the middle of it.
    let script = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$0\" \"$@\"";
    let mut failed = 0;
    for blocks in ["0", "1", "4", "16"] {
        let keep = bench.path(&format!("kept-{blocks}"));
        let mut command = bench::through_shell(bench.folder.path(), script);
        command.arg(blocks).args(["verify", &bench.image("hello"), "--policy", &policy]);
        command.args(["--format", "json", "--keep", keep.to_str().unwrap()]);
        let run = bench::run(command).await;
        assert_error(&run, blocks, &[]);
        assert_whole(&keep);
        failed += 1;
    }
    assert_eq!(failed, 4);
    let keep = bench.path("kept");
    let run =
        bench.verify(&bench.image("hello"), &policy, &["--keep", keep.to_str().unwrap()]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_whole(&keep);
    assert!(files(&keep).iter().any(|name| name.ends_with("/report.json")));
    // Kept again over what is there; a damaged blob is replaced.
    let blob = files(&keep).into_iter().find(|name| name.contains("blobs/sha256")).unwrap();
    fs::write(&blob, b"damaged").unwrap();
    let run =
        bench.verify(&bench.image("hello"), &policy, &["--keep", keep.to_str().unwrap()]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_whole(&keep);
}

/// Runs a script in a mount namespace in which `$DISK` is a disk of this size.
async fn on_small_disk(bench: &Bench, size: &str, script: &str, arguments: &[&str]) -> Option<Run> {
    let disk = bench.path("disk");
    fs::create_dir_all(&disk).unwrap();
    let full = format!("mount -t tmpfs -o size={size} tmpfs \"$DISK\" || exit 99\n{script}");
    let mut command = tokio::process::Command::new("unshare");
    command.args(["-rm", "sh", "-c", &full, env!("CARGO_BIN_EXE_assay")]).args(arguments);
    command.env("DISK", &disk).env("HOME", bench.folder.path());
    match command.output().await {
        Ok(output) if output.status.code() != Some(99) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            if err.contains("unshare failed") || err.contains("Operation not permitted") {
                bench::unable(&format!("no mount namespace here: {err}"));
                return None;
            }
            Some(Run { code: output.status.code(), out, err })
        }
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            bench::unable(&format!("no disk could be mounted: {why}"));
            None
        }
        Err(error) => {
            bench::skipped(&format!("unshare(1) is not here: {error}"));
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_an_error_and_never_a_verdict() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    let image = bench.image("web");
    let verify = ["verify", &image, "--policy", &policy, "--format", "json"];
    // The content store, the folder of temporary files, the folder of results.
    let stores = [
        ("16k", "\"$0\" \"$@\" --store \"$DISK/store\""),
        ("16k", "TMPDIR=\"$DISK\" \"$0\" \"$@\""),
        ("16k", "\"$0\" \"$@\" --keep \"$DISK/kept\""),
    ];
    for (size, script) in stores {
        // What is left on the disk afterwards is listed behind the result.
        let script = format!(
            "{script}; code=$?; find \"$DISK\" -name '*.new' -o -path '*staging/*' -type f >&2; \
             exit $code"
        );
        let Some(run) = on_small_disk(&bench, size, &script, &verify).await else { return };
        assert_error(&run, &script, &["No space left on device"]);
        assert!(!run.err.contains(".new\n") && !run.err.contains("staging/"), "{run:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_whole_or_not_at_all() {
    let bench = Bench::start().await;
    let script = "\"$0\" \"$@\" --dir \"$DISK\"; code=$?; ls -A \"$DISK\" >&2; exit $code";
    // One page for the folder itself: nothing fits.
    let fill = format!("head -c 1M /dev/zero > \"$DISK/full\" 2>/dev/null; {script}");
    let Some(run) = on_small_disk(&bench, "8k", &fill, &["operator", "keygen", "acme"]).await
    else {
        return;
    };
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains("No space left on device"), "{run:?}");
    assert!(!run.err.lines().any(|line| line == "acme.key"), "half a key was left: {run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_refuses_what_it_cannot_read_and_announces_nothing() {
    let mut bench = Bench::start().await;
    let fleet = bench::fleet::Fleet::start(&bench, "").await;
    let submit = async |bench: &Bench, image: &str| {
        let arguments = [&["submit", image, "--format", "json"][..], &fleet.connection()].concat();
        bench.assay(&arguments).await
    };
    let unknown = bench.image("nothing-here");
    let run = submit(&bench, &unknown).await;
    assert_error(&run, "unknown image", &["found none", "nothing-here"]);
    let image = bench.image("hello");
    for (path, what) in [
        ("/manifests/", What::Status(401)),
        ("/manifests/", What::Status(403)),
        ("/manifests/", What::Status(404)),
        ("/manifests/", What::Status(500)),
        ("/manifests/", What::Truncated),
        ("/manifests/", What::WrongBytes),
        ("/manifests/", What::Oversized(media::MANIFEST_BYTES_MAX as usize + 1)),
        ("/referrers/", What::Status(500)),
        ("/blobs/", What::Truncated),
    ] {
        let name = format!("{path} {what:?}");
        bench.registry.heal();
        bench.registry.fault(Fault::get(path, what));
        let run = submit(&bench, &image).await;
        assert_error(&run, &name, &WORDS);
        let status = ["status", &bench.by_digest("hello"), "--format", "json"];
        let run = bench.assay(&[&status[..], &fleet.connection()].concat()).await;
        assert_eq!(run.code, Some(11), "{name}: {run:?}");
        assert!(run.err.contains("was never submitted"), "{name}: {run:?}");
    }
    bench.registry.stop().await;
    let run = submit(&bench, &image).await;
    assert_error(&run, "registry down", &WORDS);
    // Words that are no image at all are a mistake of the call.
    let run = submit(&bench, "not a reference").await;
    assert_eq!((run.code, &run.json()["exit"]), (Some(2), &json!(2)), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_is_stopped_in_the_middle_is_an_error_and_loses_nothing() {
    let bench = Bench::start().await;
    let mut fleet = bench::fleet::Fleet::start(&bench, "").await;
    let image = bench.image("hello");
    let submit = |fleet: &bench::fleet::Fleet, more: &[&str]| {
        let words = &["submit", &image, "--format", "json"][..];
        let words = [words, more, &fleet.connection()].concat();
        let mut command = bench::command(bench.folder.path());
        command.args(words);
        bench::run(command)
    };
    let run = submit(&fleet, &[]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    let before = run.json();
    // The registry does not answer: the coordinator is killed while it takes the image in.
    let asked = bench.registry.count("GET", "/manifests/");
    bench.registry.fault(Fault::get("/manifests/", What::Hang));
    let waiting = tokio::spawn(submit(&fleet, &["--wait"]));
    bench.registry.asked("GET", "/manifests/", asked).await;
    fleet.kill().await;
    let run = waiting.await.unwrap();
    assert_error(&run, "killed", &["expected an answer of https://"]);
    let run = submit(&fleet, &[]).await;
    assert_error(&run, "down", &["expected an answer of https://", "is the coordinator running"]);
    // The same folder again: what was taken in is there.
    fleet.restart(&bench).await;
    let image = bench.by_digest("hello");
    let status = [&["status", &image, "--format", "json"][..], &fleet.connection()].concat();
    let run = bench.assay(&status).await;
    assert_eq!(run.json()["platforms"], before["platforms"], "{run:?}");
    assert_eq!(run.code, Some(11), "not judged yet: {run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_nobody_vouches_for_end_with_1() {
    let bench = Bench::start().await;
    let fleet = bench::fleet::Fleet::start(&bench, "").await;
    let policy = bench.policy("worker.toml", "");
    let folder = fleet.worker(&bench, "acme", &policy).await;
    let (folder, worker) = (folder.to_str().unwrap(), folder.join("worker.pub"));
    let start = ["worker", "run", folder];
    let run = bench.assay(&start).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains("is not enrolled") && run.err.contains("enrolled it?"), "{run:?}");
    let doctor = bench.assay(&["worker", "doctor", folder]).await;
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.out.contains("enroll-worker"), "{doctor:?}");
    // An operator that nobody added vouches for nobody.
    let stranger = fleet.enrol(&bench, "stranger", &worker).await;
    assert_eq!(stranger.code, Some(1), "{stranger:?}");
    assert!(stranger.err.contains("operator stranger is not known"), "{stranger:?}");
    fleet.add_operator(&bench, "acme").await;
    let enrolled = fleet.enrol(&bench, "acme", &worker).await;
    assert_eq!(enrolled.code, Some(0), "{enrolled:?}");
    let revoked = fleet.revoke(&bench, "acme", &worker).await;
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    let run = bench.assay(&start).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains("or was revoked"), "{run:?}");
    let again = fleet.enrol(&bench, "acme", &worker).await;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.err.contains("a revoked key never comes back"), "{again:?}");
    // Another key under a name that is taken.
    let taken = fleet.add_operator_again(&bench, "acme").await;
    assert_eq!(taken.code, Some(1), "{taken:?}");
    assert!(taken.err.contains("under another root key"), "{taken:?}");
}
