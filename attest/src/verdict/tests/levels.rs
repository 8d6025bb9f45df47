//! Levels, tiers, hints, affiliations: how strong a match is, computed by the judge.

use super::fleet::*;
use crate::{
    Digest, Level,
    observation::{
        Compared, Hint, LayerHygieneFact, Outcome, Searched,
        strategy::{manifest_bytes, output_of},
    },
    recipe::Tier,
    verdict::VerdictOutcome,
};

fn level_of(change: impl Fn(&mut crate::observation::Observation)) -> Level {
    let mut fleet = Fleet::new(1, 1);
    fleet.observe_with(0, 1, recompressed(), |o, _| change(o));
    fleet.judge().outcome.level()
}

fn rebuilt(edit: impl Fn(&mut serde_json::Value)) -> Outcome {
    let Outcome::Output(output) = recompressed() else { unreachable!() };
    let mut value = serde_json::from_slice(&output.manifest_bytes).unwrap();
    edit(&mut value);
    Outcome::Output(output_of(serde_json::to_vec(&value).unwrap()))
}

#[test]
fn config_means_that_only_compression_differs() {
    assert_eq!(level_of(|_| ()), Level::Config);
    let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
    assert_eq!(
        level_of(|o| o.outcome = rebuilt(|v| v["layers"][0]["mediaType"] = zstd.into())),
        Level::Config
    );
    type Edit = fn(&mut serde_json::Value);
    let edits: [(&str, Edit); 9] = [
        ("an annotation", |v| v["annotations"] = serde_json::json!({"a": "b"})),
        ("a layer's annotation", |v| v["layers"][0]["annotations"] = serde_json::json!({})),
        ("urls", |v| v["layers"][1]["urls"] = serde_json::json!(["https://x.example"])),
        ("another family of media types", |v| {
            v["layers"][0]["mediaType"] =
                "application/vnd.docker.image.rootfs.diff.tar.gzip".into();
        }),
        ("no layer at all", |v| v["layers"][0]["mediaType"] = "text/plain".into()),
        ("the configuration's size", |v| v["config"]["size"] = 8.into()),
        ("the configuration's data", |v| v["config"]["data"] = "e30=".into()),
        ("the schema version as a float", |v| v["schemaVersion"] = 2.0.into()),
        ("a subject", |v| v["subject"] = serde_json::json!({})),
    ];
    for (what, edit) in edits {
        assert_eq!(level_of(|o| o.outcome = rebuilt(edit)), Level::None, "{what}");
    }
}

#[test]
fn layers_of_a_kind_that_is_not_known_have_no_compression_to_differ_in() {
    let of_kind = |manifest: Vec<u8>, kind: &str| {
        let text = String::from_utf8(manifest).unwrap();
        text.replace("application/vnd.oci.image.layer.v1.tar+gzip", kind).into_bytes()
    };
    for (kind, level) in [
        ("application/vnd.oci.image.layer.v1.tar", Level::Config),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", Level::Config),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", Level::None),
        ("application/vnd.example.layer", Level::None),
    ] {
        let mut fleet = Fleet::new(1, 1);
        fleet.set.manifest = of_kind(published(), kind);
        fleet.set.subject.digest = Digest::of(&fleet.set.manifest);
        let digest = fleet.set.subject.digest;
        fleet.set.publisher = vec![stated(&keys().publisher, &digest, configuration("a=1"))];
        fleet.derive();
        let Outcome::Output(output) = recompressed() else { unreachable!() };
        let rebuilt = of_kind(output.manifest_bytes, kind);
        fleet.observe(0, 1, Outcome::Output(output_of(rebuilt)));
        assert_eq!(fleet.judge().outcome.level(), level, "{kind}");
    }
}

#[test]
fn config_needs_clean_layers() {
    let dirty = LayerHygieneFact { clean: false, why: vec!["bytes after the stream".into()] };
    assert_eq!(level_of(|o| o.hygiene[1] = dirty.clone()), Level::None);
    assert_eq!(level_of(|o| o.hygiene.truncate(1)), Level::None);
    assert_eq!(level_of(|o| o.hygiene.push(o.hygiene[0].clone())), Level::None);
    // The published manifest itself does not need them.
    let mut fleet = Fleet::new(1, 1);
    fleet.observe_with(0, 1, same(), |o, _| o.hygiene = vec![dirty.clone(); 2]);
    assert_eq!(fleet.judge().outcome.level(), Level::Manifest);
}

#[test]
fn diff_ids_are_compared_with_the_configuration_where_it_is_known() {
    let diff_ids = |ids: &[&[u8]]| {
        let ids: Vec<Digest> = ids.iter().map(|id| Digest::of(id)).collect();
        serde_json::to_vec(&serde_json::json!({"rootfs": {"diff_ids": ids}})).unwrap()
    };
    let claims = |config: Vec<u8>| {
        let manifest =
            |layer: &[u8]| manifest_bytes(&Digest::of(&config), &[(Digest::of(layer), 1)]);
        let mut fleet = Fleet::new(1, 1);
        fleet.set.manifest = manifest(b"published");
        fleet.set.subject.digest = Digest::of(&fleet.set.manifest);
        let digest = fleet.set.subject.digest;
        fleet.set.publisher = vec![stated(&keys().publisher, &digest, configuration("a=1"))];
        fleet.derive();
        let rebuilt = Outcome::Output(output_of(manifest(b"rebuilt")));
        fleet.set.config = Some(config);
        fleet.observe_with(0, 1, rebuilt, |o, _| o.hygiene.truncate(1));
        fleet.judge().outcome.level()
    };
    // `output_of` makes a diffID out of the blob's digest.
    assert_eq!(claims(diff_ids(&[Digest::of(b"rebuilt").raw()])), Level::Config);
    assert_eq!(claims(diff_ids(&[b"something else"])), Level::None);
    assert_eq!(claims(diff_ids(&[])), Level::None);
}

#[test]
fn what_was_found_by_search_is_recompressed() {
    let mut fleet = Fleet::new(2, 2);
    let gzip = Searched { flag: "gzip".into(), value: "go1.26".into() };
    fleet.observe_with(0, 1, same(), |o, _| o.searched = vec![gzip]);
    fleet.observe(1, 1, same());
    let judgement = fleet.judge();
    let level = Level::ManifestRecompressed;
    assert_eq!(judgement.outcome, VerdictOutcome::Reproduced { level }, "k reached no more");
    assert_eq!(judgement.counted[1].level, Level::Manifest);
    fleet.quorum().level = Level::Manifest;
    assert_eq!(fleet.outcome(), "inconclusive");
    assert_eq!(fleet.why("acme"), ["below-level"]);
    assert!(fleet.judge().not_counted[0].why.contains("gzip=go1.26"));
}

#[test]
fn the_level_is_what_k_reached_and_never_what_a_worker_says() {
    let mut fleet = Fleet::new(3, 2);
    fleet.observe(0, 1, same());
    fleet.observe(1, 1, recompressed());
    assert_eq!(fleet.judge().outcome.level(), Level::Config);
    fleet.observe(2, 1, same());
    assert_eq!(fleet.judge().outcome.level(), Level::Manifest);
    fleet.quorum().level = Level::Manifest;
    assert_eq!(fleet.judge().outcome.level(), Level::Manifest);
    assert_eq!(fleet.why("globex"), ["below-level"]);
    assert!(fleet.judge().dissent.is_empty(), "weaker than asked is not a difference");

    let mut liar = Fleet::new(1, 1);
    let level = Level::Manifest;
    let compared = Compared { level, layers_equal: 2, diff_ids_equal: 2, differences: 0 };
    liar.observe_with(0, 1, other(1), |o, _| o.compared = Some(compared));
    assert_eq!(liar.outcome(), "diverged");
}

#[test]
fn hints_count_only_where_the_policy_allows_them() {
    let mut fleet = Fleet::new(2, 1);
    let hint = |name: &str, decided: &[&str]| Hint {
        name: name.into(),
        decided: decided.iter().map(|d| (*d).to_owned()).collect(),
    };
    fleet.observe_with(0, 1, same(), |o, _| o.hints = vec![hint("install-order", &["etc/conf"])]);
    assert_eq!(fleet.why("acme"), ["hint-not-allowed"]);
    assert_eq!(fleet.outcome(), "inconclusive");
    fleet.quorum().hints.insert("install-order-conflicts".into());
    assert_eq!(fleet.judge().hints, [hint("install-order", &["etc/conf"])]);
    assert_eq!(fleet.outcome(), "reproduced");
    fleet.quorum().hints.clear();
    assert_eq!(fleet.outcome(), "inconclusive");
    fleet.observe_with(1, 1, same(), |o, _| o.hints = vec![hint("moon-phase", &[])]);
    assert_eq!(fleet.why("globex"), ["hint-not-allowed"]);
}

#[test]
fn a_weaker_tier_does_not_count() {
    let mut fleet = Fleet::new(1, 1);
    fleet.observe(0, 1, same());
    let basis = crate::verdict::Basis {
        recipes: vec![(fleet.recipes[0], Tier::Hinted)],
        contradictions: vec![],
        gaps: vec![],
        evidence: vec![],
    };
    let judgement = crate::verdict::judge_and_needs_on(&fleet.policy, &fleet.set, basis).0;
    assert_eq!(judgement.outcome.as_str(), "inconclusive");
    assert!(judgement.not_counted[0].why.starts_with("below-tier"));
}

#[test]
fn affiliated_operators_count_but_are_not_independent() {
    let publisher = keys().publisher.public().id().to_string();
    let affiliations = [
        ("registry.example", 1),
        ("registry.example/demo", 1),
        ("registry.example/demo/", 1),
        ("registry.example/demo/hello", 1),
        (publisher.as_str(), 1),
        ("registry.example/dem", 2),
        ("registry.exampl", 2),
        ("publisher.example", 2),
    ];
    for (affiliation, independent) in affiliations {
        let mut fleet = Fleet::new(2, 2);
        fleet.observe(0, 1, same());
        fleet.observe(1, 1, same());
        fleet.policy.operators[0].affiliations = vec![affiliation.into()];
        let judgement = fleet.judge();
        assert_eq!((judgement.k, judgement.independent), (2, independent), "{affiliation}");
        // What an operator says of itself can only take away.
        fleet.policy.operators[0].affiliations.clear();
        fleet.set.operators = vec![operator_record(0, &[affiliation], forever())];
        assert_eq!(fleet.judge().independent, independent, "{affiliation}");
    }
    let mut fleet = Fleet::new(2, 2);
    fleet.observe(0, 1, same());
    fleet.observe(1, 1, recompressed());
    assert_eq!(fleet.judge().independent, 1, "only exact levels are counted here");
}

#[test]
fn an_affiliation_with_a_host_holds_on_each_of_its_ports_and_one_with_a_port_on_that_alone() {
    for (affiliation, independent) in [
        ("registry.example", 0),
        ("registry.example:5000", 0),
        ("registry.example:5000/demo", 0),
        ("registry.example:5001", 1),
        ("registry.example:50", 1),
        ("example", 1),
    ] {
        let mut fleet = Fleet::new(1, 1);
        fleet.set.subject.repository = "registry.example:5000/demo/hello".parse().unwrap();
        fleet.policy.publishers[0].repositories = vec!["registry.example:5000/*".parse().unwrap()];
        fleet.derive();
        fleet.observe(0, 1, same());
        fleet.policy.operators[0].affiliations = vec![affiliation.into()];
        let judgement = fleet.judge();
        assert_eq!((judgement.k, judgement.independent), (1, independent), "{affiliation}");
    }
}
