//! Evidence that cannot be read: listed beside an image, denied by a gate in every mode.

use crate::bench::{Bench, case, fixtures};
use crate::{assert_error, copy_into};
use harness::registry::{Fault, What};
use oci::{layout::writer::LayoutWriter, media};
use serde_json::json;
use std::{fs, path::Path};

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
