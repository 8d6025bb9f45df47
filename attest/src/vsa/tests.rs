//! Attestations: exact, PASSED only, and never more than was found.

use super::*;
use crate::{
    observation::{Hint, Observation},
    verdict::{Judgement, tests::fleet::*},
};
use serde_json::{Value, json};

fn verifier() -> Verifier {
    Verifier {
        id: "https://fleet.example/assay".into(),
        version: "0.1.0".into(),
        policy_uri: "https://fleet.example/policy".into(),
    }
}

fn vsa(judgement: &Judgement) -> Vsa {
    Vsa::of_image(&judgement.reproduced().unwrap(), &verifier(), time(NOON)).unwrap()
}

fn reproduced(operators: usize) -> Fleet {
    let mut fleet = Fleet::new(operators, operators as u32);
    for who in 0..operators {
        fleet.observe(who, 1, same());
    }
    fleet
}

#[test]
fn the_predicate_is_exact() {
    let fleet = reproduced(2);
    let judgement = fleet.judge();
    let vsa = vsa(&judgement);
    let envelope = vsa.sign(&keys().coordinator).unwrap();
    assert_eq!((envelope.payload_type.as_str(), envelope.signatures.len()), (IN_TOTO, 1));
    assert_eq!(envelope.signatures[0].keyid, None);
    envelope.verify(keys().coordinator.public()).unwrap();
    let statement = Statement::parse(&envelope.payload).unwrap();
    let digest = fleet.set.subject.digest;
    assert_eq!(statement.predicate_type, VSA_V1);
    assert_eq!(statement.subject, [StatementSubject::new("registry.example/demo/hello", &digest)]);
    let predicate = &statement.predicate;
    let mut inputs: Vec<Value> = Vec::new();
    let evidence = &fleet.set.publisher[0];
    inputs.push(json!({"uri": evidence.uri, "digest": {"sha256": evidence.digest.hex()}}));
    let mut ids: Vec<_> =
        fleet.set.observations.iter().map(|f| f.envelope.observation_id().0).collect();
    ids.sort_unstable();
    let urn = |kind: &str, digest: &Digest| {
        let uri = format!("urn:assay:{kind}:{digest}");
        json!({"uri": uri, "digest": {"sha256": digest.hex()}})
    };
    inputs.extend(ids.iter().map(|id| urn("observation", id)));
    inputs.extend(judgement.records.iter().map(|record| urn("record", record)));
    let expected = json!({
        "verifier": {"id": "https://fleet.example/assay", "version": {"assay": "0.1.0"}},
        "timeVerified": "2023-11-14T22:13:20Z",
        "resourceUri": format!("oci://registry.example/demo/hello@{digest}"),
        "policy": {
            "uri": "https://fleet.example/policy",
            "digest": {"sha256": fleet.policy.digest().hex()},
        },
        "inputAttestations": inputs,
        "verificationResult": "PASSED",
        "verifiedLevels":
            ["SLSA_BUILD_REPRODUCED", "ASSAY_LEVEL_MANIFEST", "ASSAY_REPRODUCED_2_OF_2"],
        "slsaVersion": "1.2",
    });
    assert_eq!(predicate, &expected);
    assert_eq!(vsa.resource_uri(), predicate["resourceUri"]);
}

#[test]
fn nothing_but_reproduced_is_attested() {
    let mut fleet = Fleet::new(3, 2);
    assert!(fleet.judge().reproduced().is_none());
    fleet.observe(0, 1, other(1));
    assert!(fleet.judge().reproduced().is_none());
    fleet.observe(1, 1, other(1));
    assert_eq!(fleet.outcome(), "diverged");
    assert!(fleet.judge().reproduced().is_none());
    fleet.set.publisher.clear();
    assert!(fleet.judge().reproduced().is_none());
}

#[test]
fn slsa_is_said_only_of_exact_levels_and_independent_operators() {
    // One operator alone.
    let judgement = reproduced(1).judge();
    assert_eq!(
        vsa(&judgement).verified_levels(),
        ["ASSAY_LEVEL_MANIFEST", "ASSAY_REPRODUCED_1_OF_1"]
    );
    // Two, one of them the publisher's own.
    let mut fleet = reproduced(2);
    fleet.policy.operators[0].affiliations = vec!["registry.example".into()];
    assert_eq!(
        vsa(&fleet.judge()).verified_levels(),
        ["ASSAY_LEVEL_MANIFEST", "ASSAY_REPRODUCED_2_OF_2"]
    );
    // Three, one of them the publisher's own: two are enough for SLSA, not for a policy of three.
    let mut fleet = reproduced(3);
    fleet.policy.operators[0].affiliations = vec!["registry.example".into()];
    assert!(!vsa(&fleet.judge()).verified_levels().contains(&SLSA_BUILD_REPRODUCED.to_owned()));
    fleet.quorum().reproduced = 2;
    assert_eq!(vsa(&fleet.judge()).verified_levels()[0], SLSA_BUILD_REPRODUCED);
    // The configuration only, with hints.
    let mut fleet = Fleet::new(2, 2);
    for who in 0..2 {
        fleet.observe_with(who, 1, recompressed(), |o, _| {
            o.hints = vec![Hint { name: "install-order".into(), decided: vec!["etc/conf".into()] }];
        });
    }
    fleet.quorum().hints.insert("install-order-conflicts".into());
    assert_eq!(
        vsa(&fleet.judge()).verified_levels(),
        [
            "ASSAY_CONFIG_REPRODUCED",
            "ASSAY_LEVEL_CONFIG",
            "ASSAY_REPRODUCED_2_OF_2",
            "ASSAY_HINT_INSTALL_ORDER",
            "ASSAY_HINT_INSTALL_ORDER_CONFLICTS",
        ]
    );
    // Found by search: still the published bytes.
    let mut fleet = reproduced(2);
    fleet.set.observations.clear();
    fleet.set.leases.clear();
    for who in 0..2 {
        let gzip = crate::observation::Searched { flag: "gzip".into(), value: "E3".into() };
        fleet.observe_with(who, 1, same(), |o, _| o.searched = vec![gzip]);
    }
    assert_eq!(
        vsa(&fleet.judge()).verified_levels()[..2],
        [SLSA_BUILD_REPRODUCED, "ASSAY_LEVEL_MANIFEST_RECOMPRESSED"]
    );
}

#[test]
fn the_other_form_has_no_slsa_word() {
    let judgement = reproduced(2).judge();
    let vsa = vsa(&judgement);
    let plain = vsa.without_slsa_levels();
    assert_eq!(
        plain.verified_levels(),
        ["ASSAY_REPRODUCED", "ASSAY_LEVEL_MANIFEST", "ASSAY_REPRODUCED_2_OF_2"]
    );
    let text = String::from_utf8(plain.sign(&keys().coordinator).unwrap().payload).unwrap();
    assert!(!text.contains("SLSA_"));
    assert_eq!(plain.subject(), vsa.subject());
}

#[test]
fn dissent_that_was_answered_is_among_the_inputs() {
    let mut fleet = Fleet::new(8, 1);
    let dissent = fleet.observe(7, 1, other(1));
    for who in 0..3 {
        fleet.observe(who, 2, same());
    }
    let text = vsa(&fleet.judge()).statement().predicate.to_string();
    assert!(text.contains(&format!("urn:assay:observation:{dissent}")));
    assert!(text.contains("ASSAY_REPRODUCED_3_OF_4"));
}

#[test]
fn who_attests_must_be_a_uri() {
    let judgement = reproduced(1).judge();
    let reproduced = judgement.reproduced().unwrap();
    for bad in ["", "fleet", "https://a b", "1x:y", "x:", &format!("x:{}", "y".repeat(2048))] {
        let verifier = Verifier { id: bad.to_owned(), ..verifier() };
        assert!(Vsa::of_image(&reproduced, &verifier, time(NOON)).is_err(), "{bad}");
    }
}

/// The fleet's image with another platform, judged.
fn judged(platform: &str) -> Judgement {
    let mut fleet = Fleet::new(2, 2);
    fleet.set.subject.platform = platform.parse().unwrap();
    let mut config = configuration("a=1");
    config["archs"] = json!([fleet.set.subject.platform.architecture]);
    fleet.set.manifest = published();
    // White space after the JSON makes it another manifest.
    fleet.set.manifest.extend(platform.bytes().map(|b| if b % 2 == 0 { b' ' } else { b'\n' }));
    fleet.set.subject.digest = Digest::of(&fleet.set.manifest);
    fleet.set.publisher = vec![stated(&keys().publisher, &fleet.set.subject.digest, config)];
    fleet.derive();
    let bytes = fleet.set.manifest.clone();
    for who in 0..2 {
        let output = crate::observation::strategy::output_of(bytes.clone());
        fleet.observe(who, 1, crate::observation::Outcome::Output(output));
    }
    fleet.judge()
}

fn entry(digest: &Digest, os: &str, architecture: &str) -> Value {
    json!({"digest": digest, "platform": {"os": os, "architecture": architecture}})
}

#[test]
fn an_index_is_attested_when_every_entry_is_covered() {
    let (amd64, arm64) = (judged("linux/amd64"), judged("linux/arm64"));
    assert_ne!(amd64.subject.digest, arm64.subject.digest);
    let images = [amd64.reproduced().unwrap(), arm64.reproduced().unwrap()];
    let (one, two) = (amd64.subject.digest, arm64.subject.digest);
    let layer = json!({"mediaType": "application/vnd.in-toto+json", "digest": one, "size": 1});
    let attestation =
        |layers: Value| json!({"config": layer, "layers": layers}).to_string().into_bytes();
    let good = attestation(json!([layer]));
    let mark = |bytes: &[u8], os: &str, kind: &str| {
        let mut entry = entry(&Digest::of(bytes), os, os);
        entry["annotations"] = json!({"vnd.docker.reference.type": kind});
        entry
    };
    let attest = |entries: Vec<Value>, images: &[Reproduced<'_>], manifests: &[Vec<u8>]| {
        let bytes = json!({"manifests": entries}).to_string().into_bytes();
        let index =
            IndexImage { bytes: &bytes, reproduced: images, attestation_manifests: manifests };
        Vsa::of_index(&index, &verifier(), time(NOON))
    };
    let both = || vec![entry(&one, "linux", "amd64"), entry(&two, "linux", "arm64")];
    let with = |more: Value| [both(), vec![more]].concat();

    let vsa = attest(both(), &images, &[]).unwrap();
    assert_eq!(
        vsa.verified_levels(),
        [ALL_PLATFORMS_REPRODUCED, "ASSAY_LEVEL_MANIFEST", "ASSAY_REPRODUCED_2_OF_2"]
    );
    let index = Digest::of(&json!({"manifests": both()}).to_string().into_bytes());
    assert_eq!(vsa.subject(), &index);
    assert_eq!(vsa.statement().predicate["inputAttestations"].as_array().unwrap().len(), 12);

    let kind = "attestation-manifest";
    let manifests = [good.clone()];
    attest(with(mark(&good, "unknown", kind)), &images, &manifests).unwrap();
    let image_layer = attestation(json!([{"mediaType":
        "application/vnd.oci.image.layer.v1.tar+gzip", "digest": one, "size": 1}]));
    let no_layer = attestation(json!([]));
    for (what, entries, manifests) in [
        ("not annotated", with(mark(&good, "unknown", "other")), vec![good.clone()]),
        ("a platform that runs", with(mark(&good, "linux", kind)), vec![good.clone()]),
        ("not fetched", with(mark(&good, "unknown", kind)), vec![]),
        ("an image", with(mark(&image_layer, "unknown", kind)), vec![image_layer.clone()]),
        ("nothing in it", with(mark(&no_layer, "unknown", kind)), vec![no_layer.clone()]),
        ("not judged", with(entry(&Digest::of(b"x"), "linux", "riscv64")), vec![]),
        ("the same platform twice", with(entry(&Digest::of(b"x"), "linux", "amd64")), vec![]),
        ("judged for another", vec![entry(&one, "linux", "arm64"), both()[1].clone()], vec![]),
    ] {
        let error = attest(entries, &images, &manifests).unwrap_err();
        assert!(matches!(error, VsaError::Index(IndexError::Uncovered { .. })), "{what}: {error}");
    }
    // An image without a platform in its descriptor was judged by its digest.
    attest(vec![json!({"digest": one}), both()[1].clone()], &images, &[]).unwrap();
    assert!(matches!(
        attest(vec![both()[0].clone()], &images, &[]),
        Err(VsaError::Index(IndexError::Unlisted { .. }))
    ));
    assert!(matches!(attest(both(), &[], &[]), Err(VsaError::Index(IndexError::Empty))));
    // Of two repositories, under two policies: nothing.
    let mut fleet = reproduced(2);
    fleet.quorum().reproduced = 1;
    let another = fleet.judge();
    let mixed = [images[0], another.reproduced().unwrap()];
    assert!(matches!(attest(both(), &mixed, &[]), Err(VsaError::Index(IndexError::Mixed))));
}

#[test]
fn other_outcomes_are_signed_but_are_no_statements() {
    let mut fleet = Fleet::new(3, 2);
    fleet.observe(0, 1, other(1));
    fleet.observe(1, 1, other(1));
    for _ in 0..2 {
        let judgement = fleet.judge();
        let envelope = VerdictRecord::sign(&judgement, time(NOON), &keys().coordinator).unwrap();
        assert_eq!(envelope.payload_type, "application/vnd.assay.outcome+json");
        assert!(Statement::parse(&envelope.payload).is_err());
        assert!(Observation::read(&envelope).is_err());
        let read = VerdictRecord::open(&envelope, keys().coordinator.public()).unwrap();
        assert_eq!((&read.finding, read.judged_at), (&*judgement, time(NOON)));
        assert!(VerdictRecord::open(&envelope, keys().stranger.public()).is_err());
        let text = String::from_utf8(envelope.payload.clone()).unwrap();
        for wrong in [
            text.replacen('{', "{\"extra\":1,", 1),
            text.replacen('{', "{ ", 1),
            text.replace("assay/verdict/v1", "assay/outcome/v1"),
            text.replace("assay/judgement/v1", "assay/judgement/v2"),
        ] {
            let key = &keys().coordinator;
            let envelope = Envelope::sign(key, &envelope.payload_type, wrong.into()).unwrap();
            assert!(VerdictRecord::open(&envelope, key.public()).is_err());
        }
        // The same for an image that was never observed.
        fleet.set.publisher.clear();
    }
    // An observation is no verdict, though it has the same payload type.
    let mut fleet = Fleet::new(1, 1);
    fleet.observe(0, 1, failed("linker"));
    let envelope = &fleet.set.observations[0].envelope;
    let error = VerdictRecord::open(envelope, keys().workers[0].public()).unwrap_err();
    assert!(matches!(error, VerdictRecordError::Schema { .. }), "{error}");
}
