//! What somebody who hands out evidence can try: replays, damage, omissions.

use crate::{
    Bench,
    fleet::{build, publish},
    path, run,
};
use attest::{evidence_set::EvidenceSet, policy::Source};
use gate::{Admission, Outcome, collect::file};
use serde_json::Value;
use std::fs;

#[tokio::test]
async fn evidence_of_another_repository_helps_nobody() {
    let bench = Bench::new();
    let policy = bench.fleet.policy("");
    // The same bytes in another repository of the layout, and in a registry's of that name.
    publish(&bench.fleet.path("layout"), "demo/copy", "latest", "hello");
    let copy = bench.reference.replace("demo/hello", "demo/copy");
    let sets = bench.reproduced();
    let folder = bench.fleet.keep("evidence", &sets);
    let report = run(&policy, &copy, &[path(&folder)]).await.report;
    assert_eq!((report.ruling.outcome, report.exit), (Outcome::Inconclusive, 11));
    assert_eq!(report.digest, Some(bench.image.index.digest));

    // A file that is named has to be about the image.
    let file = folder.join(file::name_of(&sets[0]));
    let report = run(&policy, &copy, &[path(&file)]).await.report;
    assert_eq!((report.ruling.outcome, report.exit), (Outcome::Error, 1));
    assert!(report.ruling.reason.contains("expected evidence about oci:demo/copy@"));
    assert!(report.ruling.to_pass.contains("(repository, digest)"));

    // Renamed by whoever hands it out, and read from elsewhere than it was observed.
    for (repository, source) in [("demo/copy", Source::Layout), ("demo/hello", Source::Registry)] {
        let renamed = sets.iter().map(|set| {
            let mut set = set.clone();
            set.source = source;
            set.subject.repository = repository.parse().unwrap();
            set
        });
        let folder = bench.fleet.keep("renamed", &renamed.collect::<Vec<_>>());
        let report = run(&policy, &copy, &[path(&folder)]).await.report;
        assert_eq!(report.ruling.decision, Admission::Deny);
        assert_eq!(report.ruling.k, 0);
        if source == Source::Layout {
            let not = &report.ruling.not_counted;
            assert_eq!(not.len(), 3);
            assert!(not.iter().all(|n| n.why.starts_with("other-repository")), "{not:?}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}

#[tokio::test]
async fn a_hidden_dissent_shows_where_another_source_has_it() {
    let bench = Bench::new();
    let policy = bench.fleet.policy("");
    let mut sets = bench.reproduced();
    let without = bench.fleet.keep("without", &sets);
    let other = build("amd64", "other").0.manifest;
    bench.fleet.observe(&mut sets[0], 3, &other);
    let with = bench.fleet.keep("with", &sets);

    let verdict = async |evidence: &[_]| {
        let report = run(&policy, &bench.reference, evidence).await.report;
        (report.ruling.outcome, report.ruling.dissent.len())
    };
    // Signatures prove presence, never absence: a folder from which a dissent was taken out cannot
    // be told from one in which there never was one.
    assert_eq!(verdict(&[path(&without)]).await, (Outcome::Reproduced, 0));
    // Evidence only grows: whatever one source leaves out, another adds, in any order.
    assert_eq!(verdict(&[path(&without), path(&with)]).await, (Outcome::Disputed, 1));
    assert_eq!(verdict(&[path(&with), path(&without)]).await, (Outcome::Disputed, 1));
}

#[tokio::test]
async fn a_tag_that_moved_after_it_was_judged_is_another_image() {
    let bench = Bench::new();
    let policy = bench.fleet.policy("");
    let folder = bench.fleet.keep("evidence", &bench.reproduced());
    let judged = bench.image.index.digest;
    let report = run(&policy, &bench.reference, &[path(&folder)]).await.report;
    assert_eq!((report.ruling.outcome, report.digest), (Outcome::Reproduced, Some(judged)));
    let kept = publish(&bench.fleet.path("layout"), "demo/hello", "kept", "hello");
    assert_eq!(kept.index.digest, judged);
    let moved = publish(&bench.fleet.path("layout"), "demo/hello", "latest", "other");
    let report = run(&policy, &bench.reference, &[path(&folder)]).await.report;
    assert_eq!((report.ruling.outcome, report.exit), (Outcome::Inconclusive, 11));
    assert_eq!(report.digest, Some(moved.index.digest), "what was decided is what the tag names");
    assert_eq!((report.ruling.decision, report.ruling.k), (Admission::Deny, 0));
    // By digest the judged image is what it was.
    let report = run(&policy, &bench.by_digest(), &[path(&folder)]).await.report;
    assert_eq!((report.ruling.outcome, report.digest), (Outcome::Reproduced, Some(judged)));
}

#[tokio::test]
async fn damaged_evidence_is_an_error_and_never_less_evidence() {
    let bench = Bench::new();
    let policy = bench.fleet.policy("[gate]\nmode = \"observe\"\nunknown = \"pass\"\n");
    let sets = bench.reproduced();
    let folder = bench.fleet.keep("evidence", &sets);
    let name = folder.join(file::name_of(&sets[0]));
    let good = fs::read(&name).unwrap();
    let json: Value = serde_json::from_slice(&good).unwrap();
    let change = |path: &str, value: Value| {
        let mut json = json.clone();
        *json.pointer_mut(path).unwrap() = value;
        serde_json::to_vec(&json).unwrap()
    };
    let mut extra = json.clone();
    extra["comment"] = Value::from("trust me");
    let cases = [
        ("cut", good[..good.len() / 2].to_vec()),
        ("nothing", Vec::new()),
        ("no JSON", b"\x00\x01".to_vec()),
        ("another manifest", change("/manifest", Value::from("e30="))),
        ("another configuration", change("/config", Value::from("e30="))),
        ("another index", change("/index", Value::from("e30="))),
        ("no set", change("/subject", Value::Null)),
        ("other evidence", change("/publisher/0/bytes", Value::from("e30="))),
        ("a field that is not known", serde_json::to_vec(&extra).unwrap()),
    ];
    for (what, bytes) in cases {
        fs::write(&name, bytes).unwrap();
        let report = run(&policy, &bench.reference, &[path(&folder)]).await.report;
        assert_eq!((report.ruling.outcome, report.exit), (Outcome::Error, 1), "{what}");
        // Not even a gate that only observes says that it has looked.
        assert_eq!(report.ruling.decision, Admission::Deny, "{what}");
        let file = name.file_name().unwrap().to_str().unwrap();
        assert!(report.ruling.reason.contains(file), "{what}: {}", report.ruling.reason);
    }
    let missing = bench.fleet.path("missing");
    let report = run(&policy, &bench.reference, &[path(&missing)]).await.report;
    assert_eq!((report.ruling.outcome, report.exit), (Outcome::Error, 1));
}

#[tokio::test]
async fn changed_signatures_and_strangers_are_not_counted() {
    let bench = Bench::new();
    let policy = bench.fleet.policy("");
    let judged = async |sets: &[EvidenceSet]| {
        let folder = bench.fleet.keep("evidence", sets);
        run(&policy, &bench.reference, &[path(folder)]).await.report
    };
    let mut sets = bench.reproduced();
    sets[0].observations[0].envelope.payload.push(b' ');
    let report = judged(&sets).await;
    assert_eq!((report.ruling.outcome, report.ruling.k), (Outcome::Inconclusive, 2));
    // One operator's answer three times is one.
    let mut sets = bench.reproduced();
    sets[0].observations.clear();
    let manifest = bench.image.platforms[0].manifest.clone();
    for attempt in 1..4 {
        bench.fleet.observe_at(&mut sets[0], 0, attempt, &manifest, crate::NOON);
    }
    assert_eq!(judged(&sets).await.ruling.k, 1);
    // Operators that vouch for themselves under another root key.
    let mut sets = bench.reproduced();
    sets[0].workers.clear();
    let report = judged(&sets).await;
    assert_eq!((report.ruling.outcome, report.ruling.k), (Outcome::Inconclusive, 0));
    assert!(report.ruling.not_counted.iter().all(|n| n.why.starts_with("unvouched-worker")));
    // The publisher's statement signed by somebody else: no recipe, whoever rebuilt it.
    let fleet = &bench.fleet;
    let stranger = fleet.set_by(&fleet.stranger, Source::Layout, "demo/hello", &bench.image, 0);
    let mut sets = bench.reproduced();
    sets[0].publisher = stranger.publisher;
    let report = judged(&sets).await;
    assert_eq!((report.ruling.outcome, report.exit), (Outcome::Untrusted, 13));
}

#[tokio::test]
async fn folders_are_read_to_a_bound_and_other_json_is_passed_over() {
    let bench = Bench::new();
    let policy = bench.fleet.policy("");
    let folder = bench.fleet.keep("kept/evidence/demo", &bench.reproduced());
    let kept = bench.fleet.path("kept");
    // What `--keep` leaves beside evidence, and what is no evidence at all.
    for (name, text) in [
        ("report.json", r#"{"schema":"assay/verify/v1","platforms":[]}"#),
        ("explanation-linux-amd64.json", r#"{"schema":{"type":"object"}}"#),
        ("publisher-evidence.json", "[1,2]"),
        ("policy.toml", "not json"),
    ] {
        fs::write(kept.join(name), text).unwrap();
    }
    std::os::unix::fs::symlink(&kept, kept.join("loop")).unwrap();
    let report = run(&policy, &bench.reference, &[path(&kept)]).await.report;
    assert_eq!(report.ruling.outcome, Outcome::Reproduced, "{}", report.ruling.reason);
    let deep = folder.join("1/2/3/4");
    fs::create_dir_all(&deep).unwrap();
    let report = run(&policy, &bench.reference, &[path(&kept)]).await.report;
    assert_eq!(report.ruling.outcome, Outcome::Error);
    assert!(report.ruling.reason.contains("levels"), "{}", report.ruling.reason);
}

/// Half of a folder could be the half without the dissent: what is not looked at is an error.
#[tokio::test]
async fn nothing_in_a_folder_is_passed_over_because_it_cannot_be_read() {
    use std::os::unix::fs::symlink;
    let bench = Bench::new();
    let policy = bench.fleet.policy("[gate]\nmode = \"observe\"\nunknown = \"pass\"\n");
    let mut sets = bench.reproduced();
    let folder = bench.fleet.keep("evidence", &sets);
    let other = build("amd64", "other").0.manifest;
    bench.fleet.observe(&mut sets[0], 3, &other);
    let dissent = sets[0].to_canonical_json().unwrap();
    let away = bench.fleet.path("away");
    fs::create_dir_all(away.join("blobs")).unwrap();
    let outcome = async || {
        let report = run(&policy, &bench.reference, &[path(&folder)]).await.report;
        (report.ruling.outcome, report.ruling.reason.clone())
    };
    assert_eq!(outcome().await.0, Outcome::Reproduced);

    // Whatever the way to it, the dissent is seen.
    fs::write(away.join("dissent.json"), &dissent).unwrap();
    fs::write(away.join("blobs/dissent.JSON"), &dissent).unwrap();
    let places = ["dissent.JSON", "blobs/dissent.json", "a.json/dissent.Json"];
    for place in places {
        let place = folder.join(place);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, &dissent).unwrap();
        assert_eq!(outcome().await.0, Outcome::Disputed, "{}", place.display());
        fs::remove_file(&place).unwrap();
    }
    let link = folder.join("link");
    for target in [away.clone(), away.join("blobs")] {
        symlink(&target, &link).unwrap();
        assert_eq!(outcome().await.0, Outcome::Disputed, "{}", target.display());
        fs::remove_file(&link).unwrap();
    }
    symlink(away.join("dissent.json"), folder.join("link.json")).unwrap();
    assert_eq!(outcome().await.0, Outcome::Disputed);

    // What cannot be looked at, and what a newer version wrote.
    fs::remove_file(away.join("dissent.json")).unwrap();
    let (found, reason) = outcome().await;
    assert_eq!(found, Outcome::Error, "a link whose target is away");
    assert!(reason.contains("link.json"), "{reason}");
    fs::remove_file(folder.join("link.json")).unwrap();
    symlink(folder.join("no such folder"), &link).unwrap();
    assert_eq!(outcome().await.0, Outcome::Error, "a folder that is away");
    fs::remove_file(&link).unwrap();
    symlink("/dev/null", folder.join("link.json")).unwrap();
    assert_eq!(outcome().await.0, Outcome::Error, "no file");
    fs::remove_file(folder.join("link.json")).unwrap();
    for schema in ["assay/evidence/v2", "assay/bundle/v2", "assay/evidence/"] {
        fs::write(folder.join("new.json"), format!(r#"{{"schema":"{schema}"}}"#)).unwrap();
        let (found, reason) = outcome().await;
        assert_eq!(found, Outcome::Error, "{schema}");
        assert!(reason.contains(schema) && reason.contains("new.json"), "{reason}");
    }
    fs::remove_file(folder.join("new.json")).unwrap();
    // The blobs of a layout are what is attached, and may be many.
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(folder.join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    fs::write(folder.join("blobs/not.json"), "{").unwrap();
    assert_eq!(outcome().await.0, Outcome::Reproduced);
}

/// Which index a bare manifest is deployed from is not for whoever adds evidence to say: another
/// index hides what is attached to the first one, and which set comes first must not matter.
#[tokio::test]
async fn a_set_with_another_index_changes_no_verdict() {
    let bench = Bench::new();
    let policy = bench.fleet.policy("[gate]\nunknown = \"warn\"\n");
    // What a stranger attached to the index: untrusted.
    let mut set = bench.set(0);
    let index = bench.image.index.digest;
    let publisher = set.publisher.remove(0);
    let strangers = {
        let fleet = &bench.fleet;
        fleet.set_by(&fleet.stranger, Source::Layout, "demo/hello", &bench.image, 0).publisher
    };
    set.publisher = strangers
        .into_iter()
        .map(|mut piece| {
            piece.attached_to = index;
            piece
        })
        .collect();
    let named = |name: &str, set: &EvidenceSet| {
        let file = bench.fleet.path(name);
        fs::write(&file, set.to_canonical_json().unwrap()).unwrap();
        path(&file)
    };
    let ours = named("ours.json", &set);
    let amd64 = bench.image.platforms[0].descriptor.digest;
    let image = bench.by_digest().replace(&index.to_string(), &amd64.to_string());
    let report = run(&policy, &image, std::slice::from_ref(&ours)).await.report;
    assert_eq!((report.ruling.outcome, report.exit), (Outcome::Untrusted, 13));
    // A set of somebody's own, with an index of their own that lists the manifest.
    let mut own = set.clone();
    own.publisher.clear();
    own.index = Some(crate::fleet::index(&[bench.image.platforms[0].descriptor.to_json()]));
    let theirs = named("theirs.json", &own);
    let mut reasons = std::collections::BTreeSet::new();
    for evidence in [[ours.clone(), theirs.clone()], [theirs.clone(), ours.clone()]] {
        let report = run(&policy, &image, &evidence).await.report;
        assert_eq!((report.ruling.outcome, report.exit), (Outcome::Error, 1));
        assert!(report.ruling.to_pass.contains("digest of the index"), "{report:?}");
        for file in ["ours.json", "theirs.json"] {
            assert!(report.ruling.reason.contains(file), "{}", report.ruling.reason);
        }
        reasons.insert(report.ruling.reason);
    }
    assert_eq!(reasons.len(), 1, "whichever comes first");
    // United by somebody else already: what is attached to the other index still shows.
    let mut united = own.clone();
    united.publisher = set.publisher.clone();
    let report = run(&policy, &image, &[named("united.json", &united)]).await.report;
    assert_eq!((report.ruling.outcome, report.exit), (Outcome::Error, 1));
    // By the index nothing is open, in any order, and the publisher's own statement counts.
    set.publisher.push(publisher);
    let ours = named("ours.json", &set);
    let sets = [ours, theirs];
    let digests = async |evidence: &[_]| {
        let checked = run(&policy, &bench.by_digest(), evidence).await;
        let digests: Vec<_> = checked.sets.iter().map(|set| set.digest().unwrap()).collect();
        (digests, checked.report.platforms[0].ruling.clone())
    };
    let [a, b] = sets;
    let (one, other) = (digests(&[a.clone(), b.clone()]).await, digests(&[b, a]).await);
    assert_eq!(one, other);
    assert_eq!(one.1.outcome, Outcome::Inconclusive);
}
