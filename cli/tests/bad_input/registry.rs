//! Registries that answer wrongly, move a tag, or are down: an error of their own, never a verdict.

use crate::bench::{Bench, case};
use crate::{WORDS, assert_error, copy_into};
use harness::registry::{Fault, What};
use oci::{layout::writer::LayoutWriter, media};
use serde_json::{Value, json};

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
