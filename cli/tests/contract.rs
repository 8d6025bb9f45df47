//! What scripts depend on (docs/CLI.md): references, options, outcomes, exit codes and JSON fields
//! of `verify` and `gate check`, with the built binary on the published cases.
//!
//! Invariant: every expectation is the contract's, none is copied from what the binary printed.

#[path = "contract/alpine.rs"]
mod alpine;
mod bench;

use bench::{Bench, case, fixtures};
use oci::layout::writer::LayoutWriter;
use serde_json::{Value, json};
use std::fs;

fn layout(rest: &str) -> String {
    format!("oci:{}{rest}", fixtures().display())
}

/// Every key of an object, sorted.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// Fails where one of these keys is missing.
fn has(value: &Value, names: &[&str]) {
    for name in names {
        assert!(value.get(name).is_some(), "expected {name} among {:?}", keys(value));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_named_in_four_ways_and_known_by_repository_and_digest() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    let index = case("hello")["index"].as_str().unwrap().to_owned();
    for image in [
        bench.image("hello"),
        bench.by_digest("hello"),
        layout(":demo/hello:latest"),
        layout(&format!(":demo/hello@{index}")),
    ] {
        let run = bench.verify(&image, &policy, &[]).await;
        let json = run.json();
        assert_eq!((run.code, &json["index"]), (Some(0), &json!(index)), "{run:?}");
        assert_eq!(json["image"], image);
        assert!(json["repository"].as_str().unwrap().ends_with("demo/hello"));
    }
    // The same bytes in other repositories have other evidence, and another answer.
    for (name, code) in [("no-attestation", 14), ("wrong-signer", 13), ("unknown-field", 14)] {
        let digest = case(name)["index"].as_str().unwrap().to_owned();
        for image in [bench.image(name), layout(&format!(":demo/{name}@{digest}"))] {
            let run = bench.verify(&image, &policy, &[]).await;
            assert_eq!((run.code, &run.json()["exit"]), (Some(code), &json!(code)), "{image}");
        }
    }
    // Without a repository only while the layout has one.
    let run = bench.verify(&layout(&format!("@{index}")), &policy, &[]).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains("one repository, because the reference names none"), "{run:?}");
    let alone = bench.path("alone");
    let writer = LayoutWriter::create(&alone).unwrap();
    let manifest =
        case("hello")["platforms"]["linux/amd64"]["manifest"].as_str().unwrap().to_owned();
    let blob = |digest: &str| {
        let path = fixtures().join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
        let bytes = fs::read(path).unwrap();
        writer.put_blob(&bytes).unwrap();
        bytes
    };
    let bytes = blob(&manifest);
    let parsed: Value = serde_json::from_slice(&bytes).unwrap();
    for descriptor in parsed["layers"].as_array().unwrap().iter().chain([&parsed["config"]]) {
        blob(descriptor["digest"].as_str().unwrap());
    }
    let descriptor = writer.put_manifest(oci::media::OCI_MANIFEST, &bytes).unwrap();
    writer.tag(&"only".parse().unwrap(), &"1".parse().unwrap(), &descriptor).unwrap();
    let run = bench.verify(&format!("oci:{}@{manifest}", alone.display()), &policy, &[]).await;
    let json = run.json();
    assert_eq!((run.code, &json["repository"]), (Some(14), &json!("only")), "{run:?}");
    assert_eq!(json["platforms"][0]["recipe"]["gaps"][0]["code"], "no-recipe");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_judged_is_listed_and_the_worst_counts() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    let amd64 = ["--platform", "linux/amd64"];
    let run = bench.verify(&bench.image("hello"), &policy, &amd64).await;
    let json = run.json();
    assert_eq!((run.code, &json["outcome"]), (Some(11), &json!("inconclusive")), "{run:?}");
    assert_eq!(json["platforms_unchecked"], json!(["linux/arm64"]));
    assert_eq!(json["platforms"][0]["outcome"], "reproduced");
    assert_eq!(json["index_reproduced"], false);
    let both = [&amd64[..], &["--platform", "linux/arm64"]].concat();
    let run = bench.verify(&bench.image("hello"), &policy, &both).await;
    assert_eq!((run.code, &run.json()["platforms_unchecked"]), (Some(0), &json!([])));
    // A platform that is not there at all.
    let run = bench.verify(&bench.image("hello"), &policy, &["--platform", "linux/s390x"]).await;
    assert_eq!(run.code, Some(11), "{run:?}");
    // One platform of two is bad: so is the image, also where the other was left out.
    for more in [&[][..], &["--platform", "linux/arm64"]] {
        let run = bench.verify(&bench.image("mixed"), &policy, more).await;
        assert_eq!(run.code, Some(10), "{run:?}");
    }
    // The same platform twice: each entry on its own.
    let run = bench.verify(&bench.image("twice"), &policy, &[]).await;
    let json = run.json();
    let platforms = json["platforms"].as_array().unwrap();
    assert_eq!((run.code, platforms.len()), (Some(10), 3), "{json}");
    let entries: Vec<u64> = platforms.iter().filter_map(|p| p["entry"].as_u64()).collect();
    assert_eq!(entries, [0, 2], "{json}");
    let run = bench.verify(&bench.image("twice"), &policy, &amd64).await;
    assert_eq!(run.code, Some(10), "both entries of the platform are judged: {run:?}");
    // An amd64 image that is annotated as an attestation manifest is still judged.
    let run = bench.verify(&bench.image("hidden-platform"), &policy, &[]).await;
    assert_eq!(run.code, Some(10), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_json_of_verify_has_every_field_of_the_contract() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    let fields = [
        "schema",
        "image",
        "repository",
        "index",
        "index_reproduced",
        "outcome",
        "exit",
        "platforms_unchecked",
        "platforms",
    ];
    for (name, outcome, code) in [
        ("hello", "reproduced", 0),
        ("tampered", "diverged", 10),
        ("wrong-signer", "untrusted", 13),
        ("no-attestation", "not-rebuildable", 14),
        ("withdrawn", "not-rebuildable", 14),
    ] {
        let run = bench.verify(&bench.image(name), &policy, &[]).await;
        let json = run.json();
        has(&json, &fields);
        assert_eq!(json["schema"], "assay/verify/v1");
        let found = (run.code, json["exit"].as_i64(), json["outcome"].as_str());
        assert_eq!(found, (Some(code), Some(i64::from(code)), Some(outcome)), "{name}: {json}");
        for platform in json["platforms"].as_array().unwrap() {
            has(platform, &["platform", "outcome", "level", "recipe", "materials", "seconds"]);
            has(&platform["seconds"], &["fetch", "build", "compare"]);
            has(&platform["recipe"], &["gaps", "hints", "searched", "contradictions", "ignored"]);
        }
        let platform = &json["platforms"][0];
        if matches!(outcome, "reproduced" | "diverged") {
            has(&platform["recipe"], &["digest", "builder", "version", "tier", "signer"]);
            for side in ["published", "rebuilt"] {
                has(&platform[side], &["manifest", "config", "layers"]);
                has(&platform[side]["layers"][0], &["blob"]);
            }
            has(&platform["materials"][0], &["uri", "sha256", "from", "verified_by"]);
        }
        if outcome == "diverged" {
            has(&platform["explanation"], &["digest", "differences", "causes", "security"]);
            assert_ne!(platform["published"]["config"], platform["rebuilt"]["config"]);
        }
    }
    let run = bench.verify(&bench.image("withdrawn"), &policy, &[]).await;
    assert_eq!(run.json()["platforms"][0]["recipe"]["gaps"][0]["code"], "material-gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_policy_counts_and_what_any_signer_means() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    // The user's own policy, where none is given.
    let own = bench.path(".config/assay");
    fs::create_dir_all(&own).unwrap();
    fs::copy(&policy, own.join("policy.toml")).unwrap();
    fs::copy(bench.path("publisher.pub"), own.join("publisher.pub")).unwrap();
    let run = bench.assay(&["verify", &bench.image("hello"), "--format", "json"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    // Whoever signed: it is rebuilt, and said that nobody checked who it was.
    let image = bench.image("wrong-signer");
    let run = bench.verify(&image, &policy, &[]).await;
    assert_eq!(run.code, Some(13), "{run:?}");
    let run = bench.assay(&["verify", &image, "--any-signer", "--format", "json"]).await;
    let json = run.json();
    assert_eq!(run.code, Some(0), "{run:?}");
    let signer = json["platforms"][0]["recipe"]["signer"].as_str().unwrap();
    assert!(signer.contains("unverified"), "{signer}");
    assert_eq!(json["platforms"][0]["recipe"]["tier"], "hinted");
    // Beside it a policy says where registries and packages are, and nothing about signers.
    let both = ["verify", &image, "--any-signer", "--policy", &policy, "--format", "json"];
    let run = bench.assay(&both).await;
    let recipes = [&run.json(), &json].map(|json| json["platforms"][0]["recipe"].clone());
    assert!(run.code == Some(0) && recipes[0] == recipes[1], "{run:?}");
    // A draft names the signers that were found.
    let draft = bench.assay(&["policy", "init", &bench.image("hello"), "--policy", &policy]).await;
    assert_eq!(draft.code, Some(0), "{draft:?}");
    assert!(draft.out.contains("[[publisher]]"), "{draft:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_changes_where_bytes_come_from_and_nothing_else() {
    let bench = Bench::start().await;
    let packages = fixtures().join("packages");
    let policy = fs::read_to_string(bench.policy("policy.toml", "")).unwrap();
    let start = policy.find("[[mirror]]").unwrap();
    let end = policy.find("[[registry]]").unwrap();
    let without = format!("{}{}", &policy[..start], &policy[end..]);
    let path = bench.path("without.toml");
    fs::write(&path, &without).unwrap();
    let path = path.to_str().unwrap();
    let mirror = format!("https://packages.assay.test/={}", packages.display());
    let urls = [mirror.clone(), mirror.replace("/=/", "/=file:///")];
    for url in &urls {
        let run = bench.verify(&bench.image("hello"), path, &["--mirror", url]).await;
        assert_eq!(run.code, Some(0), "{url}: {run:?}");
        for material in run.json()["platforms"][0]["materials"].as_array().unwrap() {
            let (uri, from) =
                (material["uri"].as_str().unwrap(), material["from"].as_str().unwrap());
            assert!(uri.starts_with("https://packages.assay.test/"), "{material}");
            assert!(from.contains(packages.to_str().unwrap()), "{material}");
        }
    }
    // Complete only if the policy says so: "not there" is an error otherwise, not a withdrawal.
    let run = bench.verify(&bench.image("withdrawn"), path, &["--mirror", &urls[0]]).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    // Keys that came through a mirror count only if the policy pins them.
    let pins = without.lines().filter(|line| !line.starts_with("pins")).collect::<Vec<_>>();
    fs::write(path, pins.join("\n").replace("complete = true", "complete = false")).unwrap();
    let run = bench.verify(&bench.image("hello"), path, &["--mirror", &urls[0]]).await;
    let json = run.json();
    assert_eq!(run.code, Some(14), "{run:?}");
    assert_eq!(json["platforms"][0]["recipe"]["gaps"][0]["code"], "keys", "{json}");
    let run = bench.verify(&bench.image("hello"), path, &["--mirror", "no-url"]).await;
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.err.contains("PREFIX=URL"), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_can_be_looked_at_again() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    let keep = bench.path("kept");
    let more = ["--keep", keep.to_str().unwrap()];
    let run = bench.verify(&bench.image("tampered"), &policy, &more).await;
    assert_eq!(run.code, Some(10), "{run:?}");
    let json = run.json();
    let report: Value =
        serde_json::from_slice(&fs::read(keep.join("report.json")).unwrap()).unwrap();
    assert_eq!(report["platforms"][0]["rebuilt"], json["platforms"][0]["rebuilt"]);
    let explanation = fs::read(keep.join("explanation-linux-amd64.json")).unwrap();
    let digest = attest::Digest::of(&explanation).to_string();
    assert_eq!(json["platforms"][0]["explanation"]["digest"], digest);
    let evidence = fs::read(keep.join("publisher-evidence.json")).unwrap();
    assert!(!serde_json::from_slice::<Value>(&evidence).unwrap().as_array().unwrap().is_empty());
    // The rebuilt image is an image, under a name that nobody takes for the published one.
    let rebuilt = format!("oci:{}:rebuilt/tampered:linux-amd64", keep.join("rebuilt").display());
    let published = layout(":demo/tampered:latest");
    let diff = ["diff", &published, &rebuilt, "--platform", "linux/amd64"];
    let run = bench.assay(&diff).await;
    assert_eq!(run.code, Some(10), "{run:?}");
    assert!(!run.out.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_json_of_a_gate_has_every_field_of_the_contract_and_modes_change_the_exit_only() {
    let bench = Bench::start().await;
    let fields = [
        "schema",
        "image",
        "repository",
        "digest",
        "outcome",
        "class",
        "decision",
        "mode",
        "enforced",
        "reason",
        "to_pass",
        "k",
        "counted",
        "dissent",
        "not_counted",
        "recipe",
        "waiver",
        "evidence",
        "verdict_time",
        "policy",
    ];
    let image = bench.image("hello");
    for (mode, decision, code) in [
        ("observe", "admit", 0),
        ("warn", "warn", 0),
        ("delay", "deny", 11),
        ("enforce", "deny", 11),
    ] {
        let until = if mode == "delay" { "delay_until = \"2026-01-01\"\n" } else { "" };
        let gate = format!("[gate]\nmode = \"{mode}\"\n{until}");
        let policy = bench.policy(&format!("{mode}.toml"), &gate);
        let check = ["gate", "check", &image, "--policy", &policy, "--format", "json"];
        let run = bench.assay(&check).await;
        let json = run.json();
        has(&json, &fields);
        assert_eq!(json["schema"], "assay/gate/v1");
        assert_eq!((run.code, &json["decision"]), (Some(code), &json!(decision)), "{mode}: {json}");
        let said = (&json["outcome"], &json["class"], &json["mode"]);
        assert_eq!(said, (&json!("inconclusive"), &json!("unknown"), &json!(mode)));
        assert_eq!(json["enforced"], matches!(mode, "delay" | "enforce"), "{mode}");
        assert_eq!(json["digest"], case("hello")["index"]);
        let strict = [&check[..], &["--strict-exit"]].concat();
        assert_eq!(bench.assay(&strict).await.code, Some(11), "{mode}");
    }
    // People promote the digest that was decided about, not what the tag names later.
    let policy = bench.policy("enforce.toml", "");
    let text = bench.assay(&["gate", "check", &image, "--policy", &policy]).await;
    let decided = format!("decided about {}", bench.by_digest("hello"));
    assert!(text.out.lines().any(|line| line.trim() == decided), "{text:?}");
    // An image without a verdict passes only where the policy says so, and that is shown.
    let policy = bench.policy("pass.toml", "[gate]\nmode = \"enforce\"\nunknown = \"pass\"\n");
    let check = ["gate", "check", &image, "--policy", &policy, "--format", "json"];
    let run = bench.assay(&check).await;
    let json = run.json();
    assert_eq!((run.code, &json["outcome"]), (Some(0), &json!("inconclusive")), "{run:?}");
    assert!(json["reason"].as_str().unwrap().contains("lets unknown images pass"), "{json}");
}

/// What a gate refuses is not good, before it comes to a gate.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_checked_as_gates_and_verify_do() {
    let bench = Bench::start().await;
    let log = "[log]\norigin = \"log.example\"\nkey = \"publisher.pub\"\n\
               inclusion = \"required\"\n";
    let keyless = "[[publisher]]\nrepositories = [\"*\"]\nissuer = \"https://issuer.example\"\n\
                   identity = \"https://ci.example/team\"\ntransparency = \"rekor\"\n";
    let image = bench.image("hello");
    for (name, more, says) in [
        ("log.toml", log, Some("log.inclusion")),
        ("keyless.toml", keyless, Some("keyless")),
        ("good.toml", "", None),
    ] {
        let policy = bench.policy(name, more);
        let checked = bench.assay(&["policy", "check", &policy]).await;
        let gate = bench.assay(&["gate", "check", &image, "--policy", &policy]).await;
        assert_eq!(checked.code == Some(16), gate.code == Some(16), "{checked:?} {gate:?}");
        match says {
            Some(says) => {
                assert_eq!((checked.code, checked.out.as_str()), (Some(16), ""), "{name}");
                assert!(checked.err.contains(says) && gate.err.contains(says), "{checked:?}");
            }
            None => assert!(checked.code == Some(0) && checked.out.contains("good"), "{name}"),
        }
    }
}

/// Before anything is done, and with the name of what is in the way.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_kept_needs_a_folder() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    let file = bench.path("file");
    fs::write(&file, "precious").unwrap();
    let (image, file) = (bench.image("hello"), file.to_str().unwrap());
    for command in [&["verify"][..], &["gate", "check"]] {
        let rest = [&image, "--policy", &policy, "--format", "json", "--keep", file];
        let run = bench.assay(&[command, &rest[..]].concat()).await;
        assert_eq!((run.code, &run.json()["outcome"]), (Some(2), &json!("error")), "{run:?}");
        assert!(run.err.contains(file) && run.err.contains("name another one"), "{run:?}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "precious");
}

/// `assay gate check … | head -1` must not turn a denial into a pass.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_went_away_changes_no_exit_code() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    let image = bench.image("tampered");
    for format in ["text", "json"] {
        for (command, code) in [(&["verify"][..], 10), (&["gate", "check"], 11)] {
            let mut assay = bench::command(bench.folder.path());
            assay.args(command).args([&image, "--policy", &policy, "--format", format]);
            assert_eq!(bench::unread(assay).await, (Some(code), String::new()), "{command:?}");
        }
    }
    // What fails without a result, and what is admitted.
    let observes = bench.policy("observe.toml", "[gate]\nmode = \"observe\"\n");
    let away = bench.image("no-such-case");
    for (image, policy, code) in [(&away, &policy, 1), (&image, &observes, 0)] {
        let mut assay = bench::command(bench.folder.path());
        assay.args(["gate", "check", image, "--policy", policy, "--format", "json"]);
        assert_eq!(bench::unread(assay).await.0, Some(code), "{image}");
    }
}

/// What it cannot begin or report says nothing about an image: exit 75, and no code of a crash.
#[tokio::test(flavor = "multi_thread")]
async fn a_building_process_that_cannot_begin_or_report_says_so() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    let order = worker::daemon::child::Order {
        subject: attest::Subject {
            repository: format!("{}/demo/hello", bench.registry.host()).parse().unwrap(),
            digest: case("hello")["platforms"]["linux/amd64"]["manifest"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap(),
            platform: "linux/amd64".parse().unwrap(),
        },
        index: None,
        policy: policy.into(),
        alpine_releases: None,
        store: bench.path("store"),
        store_mib_max: 64,
        work: bench.folder.path().to_owned(),
        memory_mib_max: 2048,
        threads: 1,
    };
    let good = serde_json::to_string(&order).unwrap();
    for (input, script, why) in [
        ("", "exec \"$0\" worker execute", "EOF"),
        ("{}", "exec \"$0\" worker execute", "missing field"),
        (&good, "exec \"$0\" worker execute >/dev/full", "No space left"),
    ] {
        let mut command = bench::through_shell(bench.folder.path(), script);
        fs::write(bench.path("order"), input).unwrap();
        command.stdin(fs::File::open(bench.path("order")).unwrap());
        let run = bench::run(command).await;
        assert_eq!((run.code, run.out.as_str()), (Some(75), ""), "{run:?}");
        assert!(run.err.contains(why), "{run:?}");
    }
}
