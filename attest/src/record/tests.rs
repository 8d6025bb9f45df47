//! Records: what was signed is read back; anything else is refused.

use super::*;
use crate::{Digest, Platform, Subject, id::*, time::Timestamp};
use proptest::prelude::*;

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds).unwrap()
}

fn lease(key: &SigningKey) -> Lease {
    Lease {
        job: JobId(Digest::of(b"job")),
        attempt: Attempt(1),
        slot: 2,
        worker: WorkerId(key.public().id()),
        lease: LeaseId([3; 16]),
        fence: Fence(4),
        issued_at: time(10),
        not_after: time(20),
        salt: None,
    }
}

#[test]
fn every_kind_round_trips_and_binds_its_kind() {
    let key = SigningKey::generate().unwrap();
    let valid = Validity { from: time(0), until: time(100) };
    let operator: OperatorId = "acme".parse().unwrap();
    fn check<R: Record + fmt::Debug>(record: &R, key: &SigningKey) -> Envelope {
        let envelope = record.sign(key).unwrap();
        let read = Envelope::parse(&envelope.to_json()).unwrap();
        assert_eq!(&R::open(&read, key.public()).unwrap(), record);
        assert_eq!(envelope.payload_type, format!("application/vnd.assay.{}+json", R::KIND));
        let stranger = SigningKey::generate().unwrap();
        assert!(R::open(&read, stranger.public()).is_err());
        envelope
    }
    let envelope = check(
        &OperatorRecord {
            operator: operator.clone(),
            root_key: key.public().clone(),
            organisation: "Acme".into(),
            affiliations: vec!["publisher.example".into()],
            contact: "ops@acme.example".into(),
            valid,
        },
        &key,
    );
    assert!(matches!(
        WorkerRecord::open(&envelope, key.public()),
        Err(RecordError::PayloadType { .. })
    ));
    check(
        &WorkerRecord {
            operator: operator.clone(),
            key: key.public().clone(),
            capabilities: Capabilities::default(),
            environment: EnvironmentClass::default(),
            valid,
        },
        &key,
    );
    check(
        &JobAnnounce {
            job: JobId(Digest::of(b"job")),
            subject: Subject {
                repository: "demo/hello".parse().unwrap(),
                digest: Digest::of(b"m"),
                platform: Platform::linux("amd64"),
            },
            index: Some(Digest::of(b"i")),
            recipes: vec![Digest::of(b"r")],
            evidence: vec![Digest::of(b"e")],
            rebuilder: "apko".into(),
            observations_wanted: 3,
            class: "gate".into(),
            attempt: Attempt(1),
            reopened_by: vec![ObservationId(Digest::of(b"o"))],
            announced_at: time(1),
            eligible_checkpoint: None,
            beacon_round: Some(7),
        },
        &key,
    );
    check(&lease(&key), &key);
    check(
        &Receipt {
            observation: ObservationId(Digest::of(b"o")),
            job: JobId(Digest::of(b"job")),
            lease: LeaseId([1; 16]),
            position: JournalPosition(5),
            received_at: time(5),
            log_index: None,
        },
        &key,
    );
    check(
        &KeyRevocation {
            operator,
            key: key.public().id(),
            compromised_since: Some(time(50)),
            reason: "laptop lost".into(),
            revoked_at: time(60),
        },
        &key,
    );
}

#[test]
fn another_spelling_is_refused_even_when_signed() {
    let key = SigningKey::generate().unwrap();
    let good = String::from_utf8(lease(&key).encode().unwrap()).unwrap();
    let wrong = [
        good.replacen('{', "{\"extra\":1,", 1),
        good.replacen('{', "{ ", 1),
        good.replace("\"fence\":4", "\"fence\":4.0"),
        good.replace("\"fence\":4", "\"fence\":4,\"fence\":5"),
        good.replace("assay/lease/v1", "assay/lease/v2"),
        good.replace("\"fence\":4", "\"fence\":9007199254740993"),
        good.replace("\"slot\":2,", ""),
        good.replace("\"slot\":2", "\"salt\":null,\"slot\":2"),
        good.replace("1970-01-01T00:00:20Z", "1970-01-01T00:00:09Z"),
        good.replace("1970-01-01T00:00:20Z", "1970-01-01T01:00:20+01:00"),
    ];
    for text in wrong {
        assert_ne!(text, good);
        let envelope = Envelope::sign(&key, &Lease::payload_type(), text.clone().into()).unwrap();
        assert!(Lease::open(&envelope, key.public()).is_err(), "{text}");
    }
    let mut envelope = Envelope::sign(&key, &Lease::payload_type(), good.into()).unwrap();
    assert_eq!(Lease::open(&envelope, key.public()).unwrap(), lease(&key));
    envelope.signatures.push(envelope.signatures[0].clone());
    assert!(matches!(
        Lease::open(&envelope, key.public()),
        Err(RecordError::Signatures { found: 2, .. })
    ));
}

#[test]
fn bounds_hold_on_both_sides() {
    let key = SigningKey::generate().unwrap();
    let mut revocation = KeyRevocation {
        operator: "acme".parse().unwrap(),
        key: Digest::of(b"k"),
        compromised_since: None,
        reason: "x".repeat(RECORD_TEXT_BYTES_MAX),
        revoked_at: time(0),
    };
    revocation.sign(&key).unwrap();
    revocation.reason.push('x');
    assert!(matches!(revocation.sign(&key), Err(RecordError::Field { field: "reason", .. })));
    revocation.reason = "two\nlines".into();
    assert!(revocation.sign(&key).is_err());
}

/// The quick reading takes the schema out by its spelling: nothing that imitates it gets through.
#[test]
fn a_schema_in_another_place_or_twice_is_refused() {
    let key = SigningKey::generate().unwrap();
    let good = String::from_utf8(lease(&key).encode().unwrap()).unwrap();
    let schema = "\"schema\":\"assay/lease/v1\"";
    assert!(good.contains(schema));
    let without = good.replace(&format!("{schema},"), "");
    let inside = |text: &str| format!("{}{text}}}", &without[..without.len() - 1]);
    for bad in [
        without.clone(),
        good.replace(schema, &format!("{schema},{schema}")),
        good.replace(schema, "\"schema\":\"assay/lease/v2\""),
        inside(&format!(",{schema}")),
        inside(&format!(",\"x\":{{{schema}}}")),
        inside(&format!(",\"x\":[{schema}]")),
        format!("{{{schema},{}", &without[1..]),
        schema.to_owned(),
    ] {
        let envelope =
            Envelope::sign(&key, &Lease::payload_type(), bad.clone().into_bytes()).unwrap();
        assert!(Lease::read_unverified(&envelope).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn arbitrary_payloads_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let payload_type = Lease::payload_type();
        let signatures = vec![crate::dsse::Signature { keyid: None, bytes: vec![] }];
        let envelope = Envelope { payload_type, payload: bytes, signatures };
        prop_assert!(Lease::read_unverified(&envelope).is_err());
    }

    #[test]
    fn leases_round_trip(attempt in 0u64..1 << 53, fence in 0u64..1 << 53, slot: u32,
        id: [u8; 16], salt in proptest::option::of(any::<[u8; 32]>()),
        issued in 0i64..1 << 33, length in 0i64..1 << 20) {
        let record = Lease {
            job: JobId(Digest::of(&id)),
            attempt: Attempt(attempt),
            slot,
            worker: WorkerId(Digest::of(&id)),
            lease: LeaseId(id),
            fence: Fence(fence),
            issued_at: time(issued),
            not_after: time(issued + length),
            salt: salt.map(Random32),
        };
        let payload = record.encode().unwrap();
        let signatures = vec![crate::dsse::Signature { keyid: None, bytes: vec![] }];
        let envelope = Envelope { payload_type: Lease::payload_type(), payload, signatures };
        prop_assert_eq!(Lease::read_unverified(&envelope).unwrap(), record);
    }
}
