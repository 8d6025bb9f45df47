//! What people sign, and what is kept of it: envelopes, bundles, statements, provenance, records,
//! evidence sets, policies, explanations.

use attest::{
    bundle::{Bundle, readable_hint},
    dsse::{Envelope, Signature},
    evidence_set::EvidenceSet,
    image_manifest::ImageManifest,
    observation::{OUTCOME_TYPE, Observation, PROVENANCE_V1},
    policy::Policy,
    provenance::Provenance,
    record::{JobAnnounce, KeyRevocation, Lease, OperatorRecord, Receipt, Record, WorkerRecord},
    statement::Statement,
};
use rebuild::compare::{Explanation, render_text};

/// An envelope: written again, it says the same.
pub fn dsse(bytes: &[u8]) {
    let Ok(envelope) = Envelope::parse(bytes) else { return };
    let again = Envelope::parse(&envelope.to_json()).expect("an envelope that we wrote");
    assert_eq!(again, envelope);
    assert_eq!(again.signed_digest(), envelope.signed_digest());
}

/// A Sigstore bundle.
pub fn bundle(bytes: &[u8]) {
    if let Ok(bundle) = Bundle::parse(bytes) {
        assert_eq!(bundle.envelope.signatures.len(), 1);
    }
    let _ = readable_hint(&String::from_utf8_lossy(bytes));
}

/// An in-toto statement.
pub fn statement(bytes: &[u8]) {
    let Ok(statement) = Statement::parse(bytes) else { return };
    let again = serde_json::to_vec(&statement).expect("JSON that was read");
    assert_eq!(Statement::parse(&again).ok().as_ref(), Some(&statement));
}

/// A provenance predicate, as each version that there is.
pub fn provenance(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    for version in ["v1", "v0.2", "v0.1"] {
        let predicate_type = format!("https://slsa.dev/provenance/{version}");
        let once = Provenance::parse(&predicate_type, &value);
        let again = Provenance::parse(&predicate_type, &value);
        assert_eq!(once.is_ok(), again.is_ok());
    }
}

fn record<R: Record>(payload: &[u8]) {
    let signatures = vec![Signature { keyid: None, bytes: vec![0; 8] }];
    let payload_type = R::payload_type();
    let envelope = Envelope { payload_type, payload: payload.to_vec(), signatures };
    if let Ok(record) = R::read_unverified(&envelope) {
        assert_eq!(record.encode().ok().as_deref(), Some(payload));
    }
}

/// The payload of a record or an observation: what is accepted has one spelling.
pub fn records(bytes: &[u8]) {
    record::<OperatorRecord>(bytes);
    record::<WorkerRecord>(bytes);
    record::<JobAnnounce>(bytes);
    record::<Lease>(bytes);
    record::<Receipt>(bytes);
    record::<KeyRevocation>(bytes);
    for payload_type in [OUTCOME_TYPE, "application/vnd.in-toto+json", PROVENANCE_V1] {
        if let Ok(observation) = Observation::decode(payload_type, bytes) {
            let (same_type, same) = observation.encode().expect("what was decoded");
            assert_eq!((same_type, same.as_slice()), (payload_type, bytes));
        }
    }
}

/// A file of evidence: its canonical form is a set with the same canonical form.
pub fn evidence_set(bytes: &[u8]) {
    let _ = ImageManifest::parse(bytes);
    let Ok(set) = EvidenceSet::parse(bytes) else { return };
    let canonical = set.to_canonical_json().expect("a set that was checked");
    let again = EvidenceSet::parse(&canonical).expect("a set that we wrote");
    assert_eq!(again.to_canonical_json().ok(), Some(canonical));
}

/// A policy: its meaning has one digest, its explanation ends.
pub fn policy(bytes: &[u8]) {
    const KEY: &[u8] = include_bytes!("../../../tests/fixtures/published/keys/publisher.pub");
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = |name: &str| match name {
        "missing" => Err("expected a file, found none".to_owned()),
        _ => Ok(KEY.to_vec()),
    };
    if let Ok(policy) = Policy::parse(text, &read) {
        let again = Policy::parse(text, &read).expect("the same text");
        assert_eq!(policy.digest(), again.digest());
        assert!(!policy.explain().is_empty());
    }
}

/// A stored explanation: written again, it is the same.
pub fn explanation(bytes: &[u8]) {
    let Ok(explanation) = Explanation::from_bytes(bytes) else { return };
    let _ = render_text(&explanation);
    if let Ok(written) = explanation.to_bytes() {
        assert_eq!(Explanation::from_bytes(&written).ok().as_ref(), Some(&explanation));
    }
}
