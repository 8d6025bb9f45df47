//! Whole decisions about an image in a layout, from evidence in a folder.

use crate::{
    Bench,
    fleet::{DAY, NOON, build, index, publish, time},
    path, run, try_run,
};
use attest::{Level, policy::Source, verdict::judge, vsa::VerdictRecord};
use gate::{Admission, Class, GateError, Outcome};
use oci::{LayoutWriter, media};
use serde_json::Value;

#[tokio::test]
async fn reproduced_by_three_of_three_is_admitted() {
    let bench = Bench::new();
    let folder = bench.fleet.keep("evidence", &bench.reproduced());
    let policy = bench.fleet.policy("");
    let checked = run(&policy, &bench.reference, &[path(&folder)]).await;
    let report = &checked.report;
    assert_eq!((report.ruling.outcome, report.ruling.class), (Outcome::Reproduced, Class::Good));
    assert_eq!((report.ruling.decision, report.exit), (Admission::Admit, 0));
    assert_eq!(report.digest, Some(bench.image.index.digest));
    assert_eq!((report.ruling.k, report.ruling.n, report.ruling.required), (3, 3, 3));
    assert_eq!(report.ruling.level, Level::Manifest);
    assert_eq!(report.platforms.len(), 2);
    assert_eq!(report.platforms[1].manifest, bench.image.platforms[1].descriptor.digest);
    assert_eq!(report.ruling.verdict_time, Some(time(NOON)));
    assert_eq!(checked.sets.len(), 2);
    // The JSON is a contract.
    let json: Value = serde_json::to_value(report).unwrap();
    for (key, expected) in [
        ("schema", "assay/gate/v1"),
        ("image", bench.reference.as_str()),
        ("repository", "demo/hello"),
        ("digest", &bench.image.index.digest.to_string()),
        ("outcome", "reproduced"),
        ("class", "good"),
        ("decision", "admit"),
        ("mode", "enforce"),
        ("policy", &policy.digest().to_string()),
        ("verdict_time", &time(NOON).to_string()),
    ] {
        assert_eq!(json[key], expected, "{key}");
    }
    assert_eq!(json["enforced"], true);
    assert_eq!((json["k"].as_u64(), &json["waiver"]), (Some(3), &Value::Null));
    assert!(json["reason"].as_str().unwrap().contains("3 operators (acme, globex, hooli)"));
    for key in ["counted", "evidence"] {
        assert!(json[key].as_array().is_some_and(|list| !list.is_empty()), "{key}");
    }
    for key in ["dissent", "not_counted"] {
        assert!(json[key].as_array().is_some_and(Vec::is_empty), "{key}");
    }
    assert_eq!(json["counted"][0]["operator"], "acme");
    assert_eq!(json["counted"][0]["level"], "manifest");
    assert!(json["counted"][0]["observation"].as_str().unwrap().starts_with("sha256:"));
    assert!(json["recipe"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(json["platforms"][0]["platform"], "linux/amd64");
}

#[tokio::test]
async fn diverged_names_the_dishonest_operator() {
    let bench = Bench::new();
    let mut set = bench.set(0);
    // Worker 0 claims the published image without building; the others built another one.
    let other = build("amd64", "as the recipe says").0.manifest;
    let published = bench.image.platforms[0].manifest.clone();
    bench.fleet.observe(&mut set, 0, &published);
    for who in 1..4 {
        bench.fleet.observe(&mut set, who, &other);
    }
    let folder = bench.fleet.keep("evidence", &bench.with_first(set));
    let report = run(&bench.fleet.policy(""), &bench.reference, &[path(folder)]).await.report;
    let ruling = &report.ruling;
    assert_eq!((ruling.outcome, ruling.class, report.exit), (Outcome::Diverged, Class::Bad, 10));
    assert_eq!(ruling.decision, Admission::Deny);
    let suspects: Vec<&str> = ruling.suspects.iter().map(|o| o.as_str()).collect();
    assert_eq!((suspects, ruling.dissent.len()), (vec!["acme"], 3));
    assert!(ruling.reason.starts_with("linux/amd64: "), "{}", ruling.reason);
    assert!(!ruling.to_pass.is_empty());
    assert_eq!(report.platforms[1].ruling.decision, Admission::Admit);
}

#[tokio::test]
async fn what_is_disputed_not_rebuildable_untrusted_or_unknown_is_denied() {
    let bench = Bench::new();
    let published = bench.image.platforms[0].manifest.clone();
    let other = build("amd64", "other").0.manifest;

    let mut disputed = bench.set(0);
    for who in 0..3 {
        bench.fleet.observe(&mut disputed, who, &published);
    }
    bench.fleet.observe(&mut disputed, 3, &other);
    let mut bare = bench.set(0);
    bare.publisher.clear();
    let strangers = {
        let fleet = &bench.fleet;
        let mut set = fleet.set_by(&fleet.stranger, Source::Layout, "demo/hello", &bench.image, 0);
        for who in 0..3 {
            fleet.observe(&mut set, who, &published);
        }
        set
    };
    let mut few = bench.set(0);
    bench.fleet.observe(&mut few, 0, &published);

    let cases = [
        ("disputed", disputed, Outcome::Disputed, Class::Bad, 12),
        ("not-rebuildable", bare, Outcome::NotRebuildable, Class::Unknown, 14),
        ("untrusted", strangers, Outcome::Untrusted, Class::Bad, 13),
        ("few", few, Outcome::Inconclusive, Class::Unknown, 11),
    ];
    let enforce = bench.fleet.policy("");
    let lenient = bench.fleet.policy("[gate]\nunknown = \"pass\"\n");
    for (name, set, outcome, class, exit) in cases {
        let folder = bench.fleet.keep(name, &bench.with_first(set));
        let report = run(&enforce, &bench.reference, &[path(&folder)]).await.report;
        let ruling = &report.ruling;
        assert_eq!((ruling.outcome, ruling.class), (outcome, class), "{name}");
        assert_eq!((ruling.decision, report.exit), (Admission::Deny, exit), "{name}");
        assert!(!ruling.reason.is_empty() && !ruling.to_pass.is_empty());
        // `unknown = "pass"` is about what nobody knows, not about what speaks against it.
        let report = run(&lenient, &bench.reference, &[path(&folder)]).await.report;
        let admitted = class == Class::Unknown;
        assert_eq!((report.admits(), report.exit == 0), (admitted, admitted), "{name}");
        assert_eq!((report.ruling.outcome, report.outcome_exit), (outcome, exit), "{name}");
        assert_eq!(report.ruling.reason.contains("lets unknown images pass"), admitted);
    }
}

#[tokio::test]
async fn without_evidence_nothing_is_known() {
    let bench = Bench::new();
    let empty = bench.fleet.keep("empty", &[]);
    let policy = bench.fleet.policy("");
    for evidence in [vec![], vec![path(&empty)]] {
        let report = run(&policy, &bench.reference, &evidence).await.report;
        assert_eq!((report.ruling.outcome, report.exit), (Outcome::Inconclusive, 11));
        assert!(report.ruling.reason.contains("No evidence about"), "{}", report.ruling.reason);
        assert_eq!(report.ruling.decision, Admission::Deny);
    }
    // Evidence about one platform is none about the other.
    let one = bench.fleet.keep("one", &bench.reproduced()[..1]);
    let report = run(&policy, &bench.reference, &[path(one)]).await.report;
    assert_eq!((report.ruling.outcome, report.exit), (Outcome::Inconclusive, 11));
    assert_eq!(report.platforms[0].ruling.outcome, Outcome::Reproduced);
    assert!(report.ruling.reason.starts_with("linux/arm64: No evidence"));
}

#[tokio::test]
async fn old_verdicts_are_stale_unless_somebody_looked_again() {
    let bench = Bench::new();
    let policy = bench.fleet.policy("[gate]\nmax_age = \"30d\"\n");
    let mut sets = bench.reproduced();
    let judged = |sets: &[_], now| {
        let folder = bench.fleet.keep("evidence", sets);
        let (policy, reference) = (&policy, &bench.reference);
        async move { try_run(policy, reference, &[path(folder)], now, false).await.unwrap().report }
    };
    assert_eq!(judged(&sets, NOON + 30 * DAY).await.ruling.outcome, Outcome::Reproduced);
    let report = judged(&sets, NOON + 30 * DAY + 1).await;
    assert_eq!((report.ruling.outcome, report.exit), (Outcome::Stale, 15));
    assert_eq!((report.ruling.class, report.ruling.decision), (Class::Unknown, Admission::Deny));
    assert!(report.ruling.reason.contains("30 days"), "{}", report.ruling.reason);

    // One fresh observation of three is no fresh quorum; three are.
    let manifests: Vec<_> = bench.image.platforms.iter().map(|p| p.manifest.clone()).collect();
    let later = NOON + 31 * DAY;
    for (set, manifest) in sets.iter_mut().zip(&manifests) {
        bench.fleet.observe_at(set, 3, 1, manifest, later);
    }
    assert_eq!(judged(&sets, later).await.ruling.outcome, Outcome::Stale);
    // A clock that runs a century ahead does not make it fresh either.
    let mut ahead = sets.clone();
    for (set, manifest) in ahead.iter_mut().zip(&manifests) {
        bench.fleet.observe_at(set, 4, 1, manifest, later + 2 * DAY);
    }
    assert_eq!(judged(&ahead, later).await.ruling.outcome, Outcome::Stale);

    // Those who looked again are fresh, whichever of their observations is the counted one.
    let mut again = sets.clone();
    for (set, manifest) in again.iter_mut().zip(&manifests) {
        bench.fleet.observe_at(set, 0, 2, manifest, later);
    }
    assert_eq!(judged(&again, later).await.ruling.outcome, Outcome::Stale, "two are too few");
    for (set, manifest) in again.iter_mut().zip(&manifests) {
        bench.fleet.observe_at(set, 1, 2, manifest, later - 1);
    }
    let report = judged(&again, later).await;
    let known = (report.ruling.outcome, report.ruling.verdict_time, report.ruling.k);
    assert_eq!(known, (Outcome::Reproduced, Some(time(later - 1)), 4));
    // One operator's three looks are one's, and another output makes nothing fresh.
    let mut alone = sets.clone();
    for (set, manifest) in alone.iter_mut().zip(&manifests) {
        for attempt in 2..5 {
            bench.fleet.observe_at(set, 0, attempt, manifest, later);
        }
    }
    assert_eq!(judged(&alone, later).await.ruling.outcome, Outcome::Stale);

    // The policy's coordinator may say that it still holds; nobody else may.
    for (key, fresh) in [(&bench.fleet.stranger, false), (&bench.fleet.coordinator, true)] {
        let mut signed = sets.clone();
        for set in &mut signed {
            let judgement = judge(&policy, set);
            set.verdicts.push(VerdictRecord::sign(&judgement, time(later), key).unwrap());
        }
        let report = judged(&signed, later).await;
        assert_eq!(report.ruling.outcome == Outcome::Reproduced, fresh);
    }
}

#[tokio::test]
async fn a_verdict_without_observations_is_nothing() {
    let bench = Bench::new();
    let policy = bench.fleet.policy("");
    let mut sets = bench.reproduced();
    for set in &mut sets {
        let judgement = judge(&policy, set);
        let signed = VerdictRecord::sign(&judgement, time(NOON), &bench.fleet.coordinator);
        set.verdicts.push(signed.unwrap());
        set.observations.clear();
    }
    let folder = bench.fleet.keep("evidence", &sets);
    let report = run(&policy, &bench.reference, &[path(folder)]).await.report;
    assert_eq!((report.ruling.outcome, report.ruling.k), (Outcome::Inconclusive, 0));
    assert_eq!((report.ruling.verdict_time, report.exit), (None, 11));
}

#[tokio::test]
async fn modes_overrides_and_waivers() {
    let bench = Bench::new();
    let mut set = bench.set(0);
    let other = build("amd64", "other").0.manifest;
    for who in 0..3 {
        bench.fleet.observe(&mut set, who, &other);
    }
    let folder = bench.fleet.keep("evidence", &bench.with_first(set));
    let waiver = |image: &str, expires: &str| {
        format!(
            "[[waiver]]\nimage = \"{image}\"\noutcomes = [\"diverged\"]\nreason = \"issue 9\"\n\
             owner = \"release@example\"\nexpires = \"{expires}\"\n"
        )
    };
    let index = format!("oci:demo/hello@{}", bench.image.index.digest);
    let manifest = format!("oci:demo/hello@{}", bench.image.platforms[0].descriptor.digest);
    let of_arm64 = format!("oci:demo/hello@{}", bench.image.platforms[1].descriptor.digest);
    let arm64 = "[[override]]\nrepositories = [\"oci:*\"]\nplatforms = [\"linux/arm64\"]\n\
                 mode = \"warn\"\n";
    let amd64 = arm64.replace("arm64", "amd64");
    let cases = [
        ("[gate]\nmode = \"observe\"\n".to_owned(), Admission::Admit, false),
        ("[gate]\nmode = \"warn\"\n".to_owned(), Admission::Warn, false),
        ("[gate]\nmode = \"delay\"\ndelay_until = \"2099-01-01\"\n".into(), Admission::Warn, false),
        ("[gate]\nmode = \"delay\"\ndelay_until = \"2001-01-01\"\n".into(), Admission::Deny, true),
        ("[gate]\nmode = \"enforce\"\n".to_owned(), Admission::Deny, true),
        (arm64.to_owned(), Admission::Deny, true),
        (amd64.replace("linux/amd64", "Linux/x86_64/v1"), Admission::Warn, false),
        (amd64, Admission::Warn, false),
        (waiver(&index, "2099-01-01"), Admission::Warn, true),
        (waiver(&manifest, "2099-01-01"), Admission::Warn, true),
        (waiver("oci:demo/*", "2099-01-01"), Admission::Warn, true),
        (waiver(&index, "2026-01-01"), Admission::Deny, true),
        (waiver(&of_arm64, "2099-01-01"), Admission::Deny, true),
        (waiver("registry.example/demo/*", "2099-01-01"), Admission::Deny, true),
        ("[gate]\nregressions_only = true\n".to_owned(), Admission::Warn, true),
    ];
    for (more, admission, enforced) in cases {
        let policy = bench.fleet.policy(&more);
        let report = run(&policy, &bench.reference, &[path(&folder)]).await.report;
        let ruling = &report.ruling;
        assert_eq!((ruling.decision, ruling.enforced), (admission, enforced), "{more}");
        assert_eq!((ruling.outcome, report.outcome_exit), (Outcome::Diverged, 10), "{more}");
        assert_eq!(report.exit, if admission.admits() { 0 } else { 10 }, "{more}");
        let waived = more.contains("waiver") && admission == Admission::Warn;
        assert_eq!(ruling.waiver.is_some(), waived, "{more}");
        assert_eq!(ruling.reason.contains("release@example (issue 9)"), waived, "{more}");
    }
}

#[tokio::test]
async fn regressions_are_known_from_earlier_images_in_the_folder() {
    let bench = Bench::new();
    let policy = bench.fleet.policy("[gate]\nregressions_only = true\n");
    let new = publish(&bench.fleet.path("layout"), "demo/hello", "new", "new");
    let image = bench.reference.replace(":latest", ":new");
    let mut sets: Vec<_> =
        (0..2).map(|which| bench.fleet.set(Source::Layout, "demo/hello", &new, which)).collect();
    let folder = bench.fleet.keep("evidence", &sets);
    let report = run(&policy, &image, &[path(&folder)]).await.report;
    assert_eq!((report.ruling.decision, report.outcome_exit), (Admission::Warn, 11));
    // The image before was reproduced: this one is a regression.
    sets.extend(bench.reproduced());
    bench.fleet.keep("evidence", &sets);
    let report = run(&policy, &image, &[path(&folder)]).await.report;
    assert_eq!((report.ruling.decision, report.exit), (Admission::Deny, 11));
    // In a bundle it is known, too. Sources that are asked about this image alone do not know what
    // was before, and soften nothing: the image itself, a file about it, a layout.
    let bundle = bench.fleet.path("bundle.json");
    std::fs::write(&bundle, gate::collect::file::bundle(&sets[..2]).unwrap()).unwrap();
    let report = run(&policy, &image, &[path(&bundle)]).await.report;
    assert_eq!(report.ruling.decision, Admission::Warn, "{}", report.ruling.reason);
    let amd64 = new.platforms[0].descriptor.digest;
    let layout = bench.fleet.path("layout");
    let one = format!("oci:{}:demo/hello@{amd64}", layout.display());
    let named = folder.join(gate::collect::file::name_of(&sets[0]));
    for (image, evidence) in
        [(&image, vec![]), (&image, vec![path(&layout)]), (&one, vec![path(&named)])]
    {
        let report = run(&policy, image, &evidence).await.report;
        assert_eq!((report.ruling.decision, report.exit), (Admission::Deny, 11), "{evidence:?}");
        assert!(report.ruling.reason.contains("not known"), "{}", report.ruling.reason);
    }
}

#[tokio::test]
async fn demands_that_cannot_be_checked_are_refused_by_name() {
    let bench = Bench::new();
    let folder = bench.fleet.keep("evidence", &bench.reproduced());
    let log = "[log]\norigin = \"log.example\"\nkey = \"coordinator\"\ninclusion = \"required\"\n";
    let scan = "[log]\norigin = \"log.example\"\nkey = \"coordinator\"\nfull_scan = \"required\"\n";
    for (more, name) in [(log, "log.inclusion"), (scan, "log.full_scan")] {
        // Not even a gate that lets everything unknown pass skips what its policy demands.
        let policy = bench.fleet.policy(&format!("[gate]\nunknown = \"pass\"\n{more}"));
        let error = try_run(&policy, &bench.reference, &[path(&folder)], NOON, false).await;
        let error = error.unwrap_err();
        assert!(matches!(error, GateError::Policy(_)) && error.to_string().contains(name));
    }
    let quorum = "reproduced = 3\ndissent_sources = [\"https://acme.example/evidence\"]\n";
    let policy = bench.fleet.policy_with(quorum, "");
    let error = try_run(&policy, &bench.reference, &[path(&folder)], NOON, false).await;
    assert!(error.unwrap_err().to_string().contains("quorum.dissent_sources"));
}

#[tokio::test]
async fn every_entry_counts_the_same_platform_twice_too() {
    let bench = Bench::new();
    let policy = bench.fleet.policy("");
    let layout = bench.fleet.path("layout");
    let writer = LayoutWriter::create(&layout).unwrap();
    let (second, layer) = build("amd64", "a second one");
    writer.put_blob(&layer).unwrap();
    writer.put_blob(&second.config).unwrap();
    writer.put_manifest(media::OCI_MANIFEST, &second.manifest).unwrap();
    // Dressed as an attestation manifest, which runtimes would still run.
    let mut dressed = second.descriptor.to_json();
    dressed["annotations"] = serde_json::json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": bench.image.platforms[0].descriptor.digest,
    });
    let mut hidden = dressed.clone();
    hidden["platform"] = serde_json::json!({"os": "unknown", "architecture": "unknown"});
    let first = bench.image.platforms[0].descriptor.to_json();
    for (entry, platform) in [(dressed, "linux/amd64"), (hidden, "linux/amd64")] {
        let bytes = index(&[first.clone(), entry]);
        let descriptor = writer.put_manifest(media::OCI_INDEX, &bytes).unwrap();
        let (repository, tag) = ("demo/hello".parse().unwrap(), "twice".parse().unwrap());
        writer.tag(&repository, &tag, &descriptor).unwrap();
        let folder = bench.fleet.keep("evidence", &bench.reproduced());
        let image = bench.reference.replace(":latest", ":twice");
        let report = run(&policy, &image, &[path(folder)]).await.report;
        assert_eq!((report.platforms.len(), report.exit), (2, 11));
        assert_eq!(report.platforms[0].ruling.outcome, Outcome::Reproduced);
        assert_eq!(report.platforms[1].ruling.outcome, Outcome::Inconclusive);
        assert_eq!(report.platforms[1].platform.to_string(), platform);
        assert_eq!(report.platforms[1].entry, Some(2));
        assert_eq!(report.ruling.decision, Admission::Deny);
    }
}
