//! Sets of evidence: one canonical form, bytes bound to digests, bounds.

use super::*;
use crate::{
    Platform, evidence::EvidenceKind, key::SigningKey, observation::strategy::manifest_bytes,
};
use proptest::prelude::*;
use serde_json::json;

fn set() -> EvidenceSet {
    let config = b"{}".to_vec();
    let manifest = manifest_bytes(&Digest::of(&config), &[]);
    let subject = Subject {
        repository: "demo/hello".parse().unwrap(),
        digest: Digest::of(&manifest),
        platform: Platform::linux("amd64"),
    };
    let index = json!({"manifests": [{"digest": subject.digest}]}).to_string().into_bytes();
    let key = SigningKey::generate().unwrap();
    let envelope = |text: &str| Envelope::sign(&key, "x", text.into()).unwrap();
    let filed = |text: &str, position: Option<u64>| Filed {
        envelope: envelope(text),
        position: position.map(JournalPosition),
    };
    let evidence = |text: &str| {
        let uri = "oci://demo/hello".to_owned();
        RawEvidence::new(EvidenceKind::DsseEnvelope, text.into(), uri, subject.digest)
    };
    EvidenceSet {
        index: Some(index),
        config: Some(config),
        publisher: vec![evidence("b"), evidence("a")],
        operators: vec![envelope("o")],
        workers: vec![envelope("w1"), envelope("w2")],
        leases: vec![envelope("l")],
        observations: vec![filed("o1", Some(2)), filed("o2", None)],
        verdicts: vec![envelope("v")],
        ..EvidenceSet::new(Source::Registry, subject.clone(), manifest)
    }
}

#[test]
fn order_and_repetition_do_not_matter() {
    let mut one = set();
    let bytes = one.to_canonical_json().unwrap();
    let read = EvidenceSet::parse(&bytes).unwrap();
    assert_eq!(read.to_canonical_json().unwrap(), bytes);
    let mut other = one.clone();
    other.publisher.reverse();
    other.workers.reverse();
    other.observations.reverse();
    let repeated = Filed { position: None, ..other.observations[1].clone() };
    other.observations.push(repeated);
    assert_eq!(other.to_canonical_json().unwrap(), bytes);
    assert_eq!(other.digest().unwrap(), Digest::of(&bytes));
    one.merge(other).unwrap();
    assert_eq!(one.to_canonical_json().unwrap(), bytes);
    let mut stranger = set();
    stranger.subject.platform = Platform::linux("arm64");
    assert!(matches!(one.merge(stranger), Err(EvidenceSetError::OtherSubject { .. })));
}

proptest! {
    /// Whoever unites sets, in whatever order and grouping: the bytes are the same.
    #[test]
    fn uniting_knows_no_order(
        parts in proptest::collection::vec((0usize..4, any::<u16>(), 0u64..4), 2..6),
        order in Just((0..6usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let whole = set();
        let another = |name: &str| {
            let index = json!({"manifests": [{"digest": whole.subject.digest}], "name": name});
            index.to_string().into_bytes()
        };
        let indexes = [
            None,
            whole.index.clone(),
            Some(another("1")),
            Some(another("2")),
        ];
        let sets: Vec<EvidenceSet> = parts
            .iter()
            .map(|(index, keeps, position)| {
                let mut part = whole.clone();
                part.index = indexes[*index].clone();
                let mut bits = *keeps;
                let mut keep = || { bits = bits.rotate_right(1); bits & 1 == 1 };
                if !keep() { part.config = None; }
                part.publisher.retain(|_| keep());
                part.workers.retain(|_| keep());
                part.leases.retain(|_| keep());
                part.observations.retain(|_| keep());
                for filed in &mut part.observations {
                    filed.position = (*position > 0).then_some(JournalPosition(*position));
                }
                part
            })
            .collect();
        let united = |sets: Vec<&EvidenceSet>| {
            let mut all = sets[0].clone();
            for set in &sets[1..] {
                all.merge((*set).clone()).unwrap();
            }
            all
        };
        let one = united(sets.iter().collect());
        let other = united(order.iter().filter_map(|at| sets.get(*at)).collect());
        prop_assert_eq!(one.to_canonical_json().unwrap(), other.to_canonical_json().unwrap());
        // In two groups, and with what is there already.
        let (left, right) = sets.split_at(1);
        let mut grouped = united(right.iter().collect());
        grouped.merge(united(left.iter().collect())).unwrap();
        grouped.merge(sets[sets.len() - 1].clone()).unwrap();
        prop_assert_eq!(grouped.to_canonical_json().unwrap(), one.to_canonical_json().unwrap());
    }
}

#[test]
fn bytes_must_be_those_that_are_named() {
    let with = |change: &dyn Fn(&mut EvidenceSet)| {
        let mut set = set();
        change(&mut set);
        let json = set.to_canonical_json().unwrap();
        EvidenceSet::parse(&json).unwrap_err()
    };
    let wrong = |error| matches!(error, EvidenceSetError::Bytes { .. });
    assert!(wrong(with(&|s| s.manifest.push(b' '))));
    assert!(wrong(with(&|s| s.config = Some(b"[]".to_vec()))));
    // Each piece of evidence checks itself when it is read.
    with(&|s| s.publisher[0].bytes.push(b' '));
    let mut unread = set();
    unread.publisher[0].bytes.push(b' ');
    assert!(wrong(unread.check().unwrap_err()));
    let foreign = json!({"manifests": [{"digest": Digest::of(b"x")}]}).to_string();
    let error = with(&|s| s.index = Some(foreign.clone().into_bytes()));
    assert!(matches!(error, EvidenceSetError::Index(_)));
}

#[test]
fn strict_and_bounded() {
    let text = String::from_utf8(set().to_canonical_json().unwrap()).unwrap();
    for wrong in [
        text.replacen('{', "{\"extra\":1,", 1),
        text.replace("assay/evidence/v1", "assay/evidence/v2"),
        text.replace("\"receipts\":[]", "\"receipts\":[{}]"),
        text.replace("\"receipts\":[],", ""),
        text.replace("\"registry\"", "\"moon\""),
    ] {
        assert_ne!(wrong, text);
        assert!(EvidenceSet::parse(wrong.as_bytes()).is_err());
    }
    let mut many = set();
    many.observations = vec![many.observations[0].clone(); ENTRIES_MAX + 1];
    assert!(matches!(many.check(), Err(EvidenceSetError::Count { .. })));
}

#[test]
fn a_set_about_another_image_is_noticed() {
    let set = set();
    let (repository, digest) = (set.subject.repository.clone(), set.subject.digest);
    set.is_for(Source::Registry, &repository, &digest).unwrap();
    set.is_for(Source::Layout, &repository, &digest).unwrap_err();
    set.is_for(Source::Registry, &"demo/other".parse().unwrap(), &digest).unwrap_err();
    set.is_for(Source::Registry, &repository, &Digest::of(b"x")).unwrap_err();
}
