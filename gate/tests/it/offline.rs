//! Decisions without the image: by the digest of the reference, from bytes in the evidence.

use crate::{
    Bench,
    fleet::{NOON, index},
    path, try_run,
};
use attest::{Digest, Platform, evidence_set::EvidenceSet};
use gate::{Admission, Checked, EvidenceSource, Outcome, collect::file};
use std::fs;

async fn offline(bench: &Bench, more: &str, image: &str, evidence: &[EvidenceSource]) -> Checked {
    let policy = bench.fleet.policy(more);
    try_run(&policy, image, evidence, NOON, true).await.unwrap()
}

#[tokio::test]
async fn an_index_and_a_manifest_are_decided_by_digest() {
    let bench = Bench::new();
    let sets = bench.reproduced();
    let folder = bench.fleet.keep("evidence", &sets);
    let by_digest = bench.by_digest();
    fs::remove_dir_all(bench.fleet.path("layout")).unwrap();
    let checked = offline(&bench, "", &by_digest, &[path(&folder)]).await;
    let report = &checked.report;
    assert_eq!((report.ruling.outcome, report.exit), (Outcome::Reproduced, 0));
    assert_eq!((report.digest, report.offline), (Some(bench.image.index.digest), true));
    assert_eq!(report.platforms.len(), 2);

    let amd64 = bench.image.platforms[0].descriptor.digest;
    let image = by_digest.replace(&bench.image.index.digest.to_string(), &amd64.to_string());
    let report = offline(&bench, "", &image, &[path(&folder)]).await.report;
    assert_eq!((report.ruling.outcome, report.platforms.len()), (Outcome::Reproduced, 1));
    assert_eq!(report.digest, Some(amd64));

    // A tag says nothing without the image, nor does a digest that no evidence is about.
    let other =
        by_digest.replace(&bench.image.index.digest.to_string(), &Digest::of(b"other").to_string());
    for image in [bench.reference.as_str(), &other] {
        let report = offline(&bench, "", image, &[path(&folder)]).await.report;
        assert_eq!((report.ruling.outcome, report.exit), (Outcome::Error, 1), "{image}");
        assert_eq!((report.digest, report.ruling.decision), (None, Admission::Deny));
    }
    // Without one platform's evidence the index is inconclusive.
    fs::remove_file(folder.join(file::name_of(&sets[1]))).unwrap();
    let report = offline(&bench, "", &by_digest, &[path(&folder)]).await.report;
    assert_eq!((report.ruling.outcome, report.exit), (Outcome::Inconclusive, 11));
}

#[tokio::test]
async fn a_platform_is_what_index_or_configuration_say_never_the_set() {
    let bench = Bench::new();
    // arm64 is only warned about: evidence that calls amd64 so must not get that rule.
    let more = "[[override]]\nrepositories = [\"oci:*\"]\nplatforms = [\"linux/arm64\"]\n\
                mode = \"warn\"\n";
    let amd64 = bench.image.platforms[0].descriptor.digest;
    let image =
        bench.by_digest().replace(&bench.image.index.digest.to_string(), &amd64.to_string());
    let mut renamed: EvidenceSet = bench.set(0);
    renamed.subject.platform = Platform::linux("arm64");
    let folder = bench.fleet.keep("renamed", &[renamed.clone()]);
    let report = offline(&bench, more, &image, &[path(&folder)]).await.report;
    assert_eq!(report.ruling.decision, Admission::Deny);
    assert_eq!(report.platforms[0].platform, crate::amd64());
    assert_eq!(report.ruling.mode.as_str(), "enforce");
    // Without its configuration nothing says which platform a bare manifest is for.
    renamed.config = None;
    fs::remove_dir_all(&folder).unwrap();
    let folder = bench.fleet.keep("renamed", &[renamed]);
    let report = offline(&bench, more, &image, &[path(&folder)]).await.report;
    assert_eq!((report.ruling.outcome, report.exit), (Outcome::Error, 1));
    // With the index it is known again.
    let mut set = bench.reproduced().remove(0);
    set.config = None;
    let sets = bench.with_first(set);
    let folder = bench.fleet.keep("evidence", &sets);
    let report = offline(&bench, more, &bench.by_digest(), &[path(&folder)]).await.report;
    assert_eq!(report.ruling.outcome, Outcome::Reproduced);
}

#[tokio::test]
async fn an_entry_that_cannot_be_seen_keeps_the_index_from_being_good() {
    let bench = Bench::new();
    let mut attestation = bench.image.platforms[1].descriptor.to_json();
    attestation["digest"] = Digest::of(b"an attestation manifest").to_string().into();
    attestation["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
    attestation["annotations"] =
        serde_json::json!({"vnd.docker.reference.type": "attestation-manifest"});
    let bytes = index(&[bench.image.platforms[0].descriptor.to_json(), attestation]);
    let mut set = bench.reproduced().remove(0);
    set.index = Some(bytes.clone());
    let folder = bench.fleet.keep("evidence", &[set]);
    let old = bench.image.index.digest.to_string();
    let image = bench.by_digest().replace(&old, &Digest::of(&bytes).to_string());
    let report = offline(&bench, "", &image, &[path(folder)]).await.report;
    assert_eq!((report.ruling.outcome, report.exit), (Outcome::Inconclusive, 11));
    assert_eq!(report.platforms[0].ruling.outcome, Outcome::Reproduced);
    assert!(report.ruling.reason.contains("names no platform"), "{}", report.ruling.reason);
}

#[tokio::test]
async fn a_bundle_is_all_that_is_needed() {
    let bench = Bench::new();
    let mut sets = bench.reproduced();
    let bytes = file::bundle(&sets).unwrap();
    sets.reverse();
    assert_eq!(file::bundle(&sets).unwrap(), bytes, "the order of sets changes nothing");
    let name = bench.fleet.path("bundle.json");
    fs::write(&name, &bytes).unwrap();
    fs::remove_dir_all(bench.fleet.path("layout")).unwrap();
    let checked = offline(&bench, "", &bench.by_digest(), &[path(&name)]).await;
    assert_eq!(checked.report.ruling.outcome, Outcome::Reproduced);
    // What a check united makes the same bundle again.
    assert_eq!(file::bundle(&checked.sets).unwrap(), bytes);
    let text = String::from_utf8(bytes).unwrap().replace("\"sets\"", "\"set\"");
    fs::write(&name, text).unwrap();
    let report = offline(&bench, "", &bench.by_digest(), &[path(&name)]).await.report;
    assert_eq!((report.ruling.outcome, report.exit), (Outcome::Error, 1));
}
