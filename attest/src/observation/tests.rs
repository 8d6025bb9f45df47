//! Observations: what was signed is read back, and everything else is refused.

use super::{strategy::*, *};
use crate::{Gap, GapCode, dsse::IN_TOTO};
use base64::{Engine, engine::general_purpose::STANDARD};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

/// One OUTPUT observation, the same each time.
pub(super) fn sample() -> Observation {
    let mut runner = TestRunner::deterministic();
    let mut sample = observation().new_tree(&mut runner).unwrap().current();
    let layers = [(Digest::of(b"layer"), 12)];
    sample.outcome = Outcome::Output(output_of(manifest_bytes(&Digest::of(b"config"), &layers)));
    sample
}

fn refused(payload: &str, payload_type: &str) -> String {
    Observation::decode(payload_type, payload.as_bytes()).unwrap_err().to_string()
}

#[test]
fn the_subject_is_what_was_built() {
    let observation = sample();
    let (payload_type, payload) = observation.encode().unwrap();
    assert_eq!(payload_type, IN_TOTO);
    let statement = crate::statement::Statement::parse(&payload).unwrap();
    let built = observation.output().unwrap().manifest;
    assert!(statement.is_about(&built) && !statement.is_about(&observation.subject.digest));
    assert_eq!(statement.subject.len(), 1);
    let definition = &statement.predicate["buildDefinition"];
    assert_eq!(definition["buildType"], BUILD_TYPE);
    assert_eq!(
        definition["externalParameters"]["target"],
        format!("oci://{}@{}", observation.subject.repository, observation.subject.digest)
    );
}

#[test]
fn only_the_workers_own_key_signs() {
    let key = SigningKey::generate().unwrap();
    let mut observation = sample();
    assert!(matches!(observation.sign(&key), Err(ObservationError::OtherKey { .. })));
    observation.worker = WorkerId(key.public().id());
    let envelope = observation.sign(&key).unwrap();
    envelope.verify(key.public()).unwrap();
    assert_eq!(*Observation::read(&envelope).unwrap(), observation);
    // Two signatures of one observation are one observation.
    let again = observation.sign(&key).unwrap();
    assert_ne!(envelope, again);
    assert_eq!(envelope.observation_id(), again.observation_id());
}

#[test]
fn claims_apart_from_the_bytes_are_refused() {
    let good = sample();
    let text = String::from_utf8(good.encode().unwrap().1).unwrap();
    let output = good.output().unwrap();
    let other = Digest::of(b"published");
    let swapped = |from: &Digest| text.replace(&from.hex(), &other.hex());
    for payload in [
        swapped(&output.manifest),
        swapped(&output.config),
        swapped(&output.layers[0].blob.unwrap()),
        text.replace("\"size\":12", "\"size\":13"),
        // The statement's subject alone.
        text.replace(
            &format!("{{\"sha256\":\"{}\"}}", output.manifest.hex()),
            &format!("{{\"sha256\":\"{}\"}}", other.hex()),
        ),
        // A second subject.
        text.replace(
            "\"subject\":[",
            &format!(
                "\"subject\":[{{\"digest\":{{\"sha256\":\"{}\"}},\"name\":\"x\"}},",
                other.hex()
            ),
        ),
    ] {
        assert_ne!(payload, text);
        refused(&payload, IN_TOTO);
    }
    let Outcome::Output(mut output) = good.outcome.clone() else { unreachable!() };
    output.manifest_bytes.push(b' ');
    let bad = Observation { outcome: Outcome::Output(output), ..good };
    assert!(matches!(bad.encode(), Err(ObservationError::Output { field: "manifest", .. })));
}

#[test]
fn unknown_fields_and_other_spellings_are_refused() {
    let text = String::from_utf8(sample().encode().unwrap().1).unwrap();
    for (from, to) in [
        ("{\"_type\"", "{\"extra\":1,\"_type\""),
        ("\"buildDefinition\":{", "\"buildDefinition\":{\"extra\":1,"),
        ("\"externalParameters\":{", "\"externalParameters\":{\"extra\":1,"),
        ("\"internalParameters\":{", "\"internalParameters\":{\"extra\":1,"),
        ("\"assay_output\":{", "\"assay_output\":{\"extra\":1,"),
        ("\"environment\":{", "\"environment\":{\"extra\":1,"),
        ("\"predicate\":{", "\"predicate\":{\"assay_extra\":1,"),
        ("\"predicate\":{", "\"predicate\": {"),
        ("urn:assay:rebuild:v1", "urn:assay:rebuild:v2"),
        ("slsa.dev/provenance/v1", "slsa.dev/provenance/v0.2"),
        ("urn:assay:lease:", "urn:assay:lease:0"),
        ("oci://", "docker://"),
    ] {
        let wrong = text.replacen(from, to, 1);
        assert_ne!(wrong, text, "{from}");
        refused(&wrong, IN_TOTO);
    }
    refused(&text, OUTCOME_TYPE);
    refused(&text, "application/json");
    assert!(refused(&text.replacen("{\"_type", "{ \"_type", 1), IN_TOTO).contains("byte 1 on"));
}

#[test]
fn other_outcomes_are_no_statements() {
    let gaps = vec![Gap::new(GapCode::UnsupportedField, "contents.foo")];
    let observation = Observation { outcome: Outcome::RecipeInvalid { gaps }, ..sample() };
    let (payload_type, payload) = observation.encode().unwrap();
    assert_eq!(payload_type, OUTCOME_TYPE);
    assert_eq!(Observation::decode(payload_type, &payload).unwrap(), observation);
    let text = String::from_utf8(payload).unwrap();
    refused(&text.replace("assay/outcome/v1", "assay/verdict/v1"), OUTCOME_TYPE);
    refused(&text.replace("unsupported-field", "unsupported-thing"), OUTCOME_TYPE);
    // An OUTPUT must not hide in the form that is no statement.
    let output = serde_json::to_value(sample().outcome).unwrap().to_string();
    let start = text.find("\"result\":").unwrap();
    let end = text.find(",\"schema\":").unwrap();
    let hidden = format!("{}\"result\":{output}{}", &text[..start], &text[end..]);
    assert!(refused(&hidden, OUTCOME_TYPE).contains("payloadType"), "{hidden}");
}

#[test]
fn bounds() {
    let with = |change: &dyn Fn(&mut Observation)| {
        let mut observation = sample();
        change(&mut observation);
        observation.encode().map(|_| ())
    };
    assert!(with(&|o| o.tag = Some("a\nb".into())).is_err());
    assert!(with(&|o| o.environment.kernel = "x".repeat(4097)).is_err());
    assert!(with(&|o| o.recipe = None).is_err());
    assert!(with(&|o| o.recipe = Some(Digest::of(b"another"))).is_err());
    assert!(with(&|o| o.recipes_tried = vec![Digest::of(b"a"); 5]).is_err());
    assert!(with(&|o| o.outcome = Outcome::RecipeInvalid { gaps: vec![] }).is_err());
    assert!(with(&|o| o.fence = Fence(u64::MAX)).is_err());
    assert!(with(&|o| o.operator_uri = "acme".into()).is_err());
    let dirty = LayerHygieneFact { clean: false, why: vec![] };
    assert!(with(&|o| o.hygiene = vec![dirty.clone()]).is_err());
    let material = Material {
        uri: "https://packages.example/x.apk".into(),
        digest: Digest::of(b"x"),
        from: None,
        verified_by: "index-signature".into(),
    };
    assert!(with(&|o| o.materials = vec![material.clone(); check::MATERIALS_MAX]).is_ok());
    assert!(with(&|o| o.materials = vec![material.clone(); check::MATERIALS_MAX + 1]).is_err());
    let huge = vec![b'1'; PAYLOAD_BYTES_MAX + 1];
    assert!(matches!(Observation::decode(IN_TOTO, &huge), Err(ObservationError::TooLarge(_))));
    assert_eq!(one_line("  a\nb\u{2028}c\t ", 4), "a b ");
    assert_eq!(one_line("éé", 3), "é");
}

#[test]
fn a_manifest_of_another_shape_is_refused() {
    let text = String::from_utf8(sample().encode().unwrap().1).unwrap();
    let bytes = sample().output().unwrap().manifest_bytes.clone();
    let other = STANDARD.encode(b"{}");
    let wrong = text.replace(&STANDARD.encode(&bytes), &other);
    assert_ne!(wrong, text);
    refused(&wrong, IN_TOTO);
}

proptest! {
    #[test]
    fn what_is_signed_is_read_back(observation in observation()) {
        let (payload_type, payload) = observation.encode().unwrap();
        let read = Observation::decode(payload_type, &payload).unwrap();
        prop_assert_eq!(&read, &observation);
        prop_assert_eq!(wire::observed_at(&payload), Some(read.observed_at));
        prop_assert_eq!(read.encode().unwrap().1, payload);
    }

    #[test]
    fn one_changed_byte_never_gives_the_same_observation(
        observation in observation(), at: prop::sample::Index, byte: u8,
    ) {
        let (payload_type, mut payload) = observation.encode().unwrap();
        let at = at.index(payload.len());
        prop_assume!(payload[at] != byte);
        payload[at] = byte;
        if let Ok(read) = Observation::decode(payload_type, &payload) {
            prop_assert_ne!(&read, &observation);
            prop_assert_eq!(read.encode().unwrap().1, payload);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Observation::decode(IN_TOTO, &bytes).is_err());
        prop_assert!(Observation::decode(OUTCOME_TYPE, &bytes).is_err());
    }
}
