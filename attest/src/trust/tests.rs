//! An attacker beside the image: what must not count, and must be listed with its reason.

use super::*;
use crate::{key::SigningKey, statement::StatementSubject};
use proptest::prelude::*;
use serde_json::{Value, json};

struct World {
    publisher: SigningKey,
    stranger: SigningKey,
    policy: Policy,
    repository: Repository,
    image: Digest,
}

impl World {
    fn new() -> Self {
        Self::with("transparency = \"none\"")
    }

    fn with(more: &str) -> Self {
        let publisher = SigningKey::generate().unwrap();
        let text =
            format!("[[publisher]]\nrepositories = [\"r.example/*\"]\nkey = \"p.pub\"\n{more}");
        let pem = publisher.public().to_pem();
        let policy = Policy::parse(&text, &|_| Ok(pem.clone().into_bytes())).unwrap();
        Self {
            publisher,
            stranger: SigningKey::generate().unwrap(),
            policy,
            repository: "r.example/app".parse().unwrap(),
            image: Digest::of(b"image"),
        }
    }

    fn envelope(&self, key: &SigningKey, about: &[Digest]) -> Envelope {
        let subject = about.iter().map(|d| StatementSubject::new("x", d)).collect();
        let statement = Statement::new(subject, "https://x.test/v1", json!({"a": 1}));
        Envelope::sign(key, IN_TOTO, serde_json::to_vec(&statement).unwrap()).unwrap()
    }

    fn attached(&self, kind: EvidenceKind, bytes: Vec<u8>) -> RawEvidence {
        RawEvidence::new(kind, bytes, "oci://r.example/app@x".into(), self.image)
    }

    fn dsse(&self, envelope: &Envelope) -> RawEvidence {
        self.attached(EvidenceKind::DsseEnvelope, envelope.to_json())
    }

    fn bundle(&self, envelope: &Envelope, material: Value) -> RawEvidence {
        let bundle = json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": material,
            "dsseEnvelope": envelope.to_value(),
        });
        self.attached(EvidenceKind::SigstoreBundle, bundle.to_string().into_bytes())
    }

    fn judge(&self, evidence: &[RawEvidence]) -> Trust {
        judge_evidence(Signers::Policy(&self.policy, Source::Registry), &self.repository, evidence)
    }

    /// The reason for which the only piece is ignored.
    fn reason(&self, piece: RawEvidence) -> String {
        let trust = self.judge(&[piece]);
        assert!(trust.trusted.is_empty(), "{trust:?}");
        assert_eq!(trust.ignored.len(), 1);
        trust.ignored[0].reason.clone()
    }
}

fn hint(key: &SigningKey) -> Value {
    json!({"publicKey": {"hint": key.public().bundle_hint()}})
}

#[test]
fn a_statement_counts_by_its_signature_alone() {
    let world = World::new();
    let envelope = world.envelope(&world.publisher, &[world.image]);
    let name = format!("key {}", world.publisher.public().id());
    // The hint and the keyid lie, or there are log entries nobody asked for: the key decides.
    let mut lying = envelope.clone();
    lying.signatures[0].keyid = Some(world.stranger.public().bundle_hint());
    let mut logged = hint(&world.stranger);
    logged["tlogEntries"] = json!([{"logIndex": "1", "inclusionProof": {"rootHash": "AA=="}}]);
    for piece in [
        world.dsse(&envelope),
        world.dsse(&lying),
        world.bundle(&envelope, hint(&world.publisher)),
        world.bundle(&envelope, hint(&world.stranger)),
        world.bundle(&envelope, json!({"publicKey": {}})),
        world.bundle(&envelope, logged),
    ] {
        let trust = world.judge(std::slice::from_ref(&piece));
        assert_eq!((trust.trusted.len(), trust.ignored.len()), (1, 0), "{trust:?}");
        let counted = &trust.trusted[0];
        assert_eq!((&counted.signer, counted.verified), (&name, true));
        assert_eq!((counted.evidence, counted.signed), (piece.digest, envelope.signed_digest()));
        assert_eq!((counted.attached_to, counted.twice.as_ref()), (world.image, None));
    }
}

#[test]
fn what_does_not_count_says_why() {
    let world = World::new();
    let (publisher, stranger) = (&world.publisher, &world.stranger);
    let good = world.envelope(publisher, &[world.image]);
    let other = Digest::of(b"another image");
    for (piece, say) in [
        (world.dsse(&world.envelope(stranger, &[world.image])), "no key of the policy"),
        // The stranger claims to be the publisher.
        (
            world.bundle(&world.envelope(stranger, &[world.image]), hint(publisher)),
            "no key of the policy",
        ),
        // A true statement of the publisher's about another image, attached here.
        (world.dsse(&world.envelope(publisher, &[other])), "expected a statement about"),
        (
            world.bundle(&good, json!({"certificate": {"rawBytes": "AA=="}})),
            "keyless is not supported",
        ),
        (world.attached(EvidenceKind::UnsignedStatement, good.payload.clone()), "not signed"),
        (world.attached(EvidenceKind::SigstoreBundle, good.to_json()), "Sigstore bundle"),
        (world.attached(EvidenceKind::DsseEnvelope, b"{\"payload\":".to_vec()), "DSSE envelope"),
        (world.attached(EvidenceKind::DsseEnvelope, vec![]), "DSSE envelope"),
        (
            world.dsse(&Envelope::sign(publisher, "text/plain", good.payload.clone()).unwrap()),
            "expected a payload of type",
        ),
        (
            world.dsse(&Envelope::sign(publisher, IN_TOTO, b"{}".to_vec()).unwrap()),
            "expected an in-toto Statement",
        ),
    ] {
        let reason = world.reason(piece);
        assert!(reason.contains(say), "{say}: {reason}");
        assert!(reason.chars().count() <= REASON_CHARS_MAX);
    }
    // Bytes that are not those that the evidence names.
    let mut swapped = world.dsse(&good);
    swapped.digest = Digest::of(b"other bytes");
    assert!(world.reason(swapped).contains("expected bytes of digest"));
    // The payload was altered after it was signed; the signature is of another payload.
    let mut altered = good.clone();
    altered.payload.push(b' ');
    assert!(world.reason(world.dsse(&altered)).contains("no key of the policy"));
    // Foreign text in a reason: no control characters, bounded.
    let nasty = json!({"_type": "\u{1b}[2J".repeat(500), "subject": [], "predicateType": "",
                       "predicate": {}});
    let envelope = Envelope::sign(publisher, IN_TOTO, nasty.to_string().into_bytes()).unwrap();
    let reason = world.reason(world.dsse(&envelope));
    assert!(reason.len() <= 4 * REASON_CHARS_MAX && !reason.contains('\u{1b}'), "{reason}");
    let key = "\n\u{7}".repeat(900);
    let nasty = json!({key: 1}).to_string().into_bytes();
    let envelope = Envelope::sign(publisher, IN_TOTO, nasty).unwrap();
    assert!(!world.reason(world.dsse(&envelope)).contains('\u{7}'));
}

#[test]
fn several_signatures_subjects_and_copies() {
    let world = World::new();
    let other = Digest::of(b"another image");
    // Two signatures, one of them the publisher's: an envelope may, a bundle may not.
    let mut envelope = world.envelope(&world.stranger, &[other, world.image]);
    let mine = world.envelope(&world.publisher, &[other, world.image]);
    assert_eq!(envelope.payload, mine.payload);
    envelope.signatures.extend(mine.signatures.clone());
    let trust = world.judge(&[world.dsse(&envelope)]);
    assert_eq!(trust.trusted[0].signer, format!("key {}", world.publisher.public().id()));
    let both = world.bundle(&envelope, hint(&world.publisher));
    assert!(world.reason(both).contains("exactly one signature"));

    // The same statement in a bundle and in an .att, signed twice (ECDSA differs): counts once.
    let again = world.envelope(&world.publisher, &[other, world.image]);
    assert_ne!(again.signatures, mine.signatures);
    let pieces = [
        world.bundle(&mine, hint(&world.publisher)),
        world.dsse(&mine),
        world.dsse(&again),
        world.dsse(&envelope),
    ];
    let trust = world.judge(&pieces);
    assert_eq!((trust.trusted.len(), trust.ignored.len()), (1, 0));
    let smallest = pieces.iter().map(|piece| piece.digest).min();
    assert_eq!(Some(trust.trusted[0].evidence), smallest);

    // The same statement attached to both images that it is about counts for each.
    let mut elsewhere = world.dsse(&mine);
    elsewhere.attached_to = other;
    let trust = world.judge(&[world.dsse(&mine), elsewhere]);
    assert_eq!(trust.trusted.len(), 2);
}

#[test]
fn a_key_that_stands_twice_is_named() {
    let world = World::new();
    let envelope = world.envelope(&world.publisher, &[world.image]);
    let payload = String::from_utf8(envelope.payload).unwrap();
    let payload = payload.replace("{\"a\":1}", "{\"a\":1,\"b\":{\"c\":1,\"c\":2}}");
    let envelope = Envelope::sign(&world.publisher, IN_TOTO, payload.into_bytes()).unwrap();
    let trust = world.judge(&[world.dsse(&envelope)]);
    assert_eq!(trust.trusted[0].twice.as_deref(), Some("predicate.b.c"));
}

#[test]
fn demands_of_the_policy_are_never_skipped() {
    for word in ["rekor", "any"] {
        let world = World::with(&format!("transparency = \"{word}\""));
        let piece = world.dsse(&world.envelope(&world.publisher, &[world.image]));
        let reason = world.reason(piece);
        assert!(reason.contains("publisher.transparency"), "{reason}");
    }
    let world = World::new();
    let piece = world.dsse(&world.envelope(&world.publisher, &[world.image]));
    // Another repository, or the same name in a layout: the policy names nobody.
    for (source, name) in [(Source::Registry, "r.evil/app"), (Source::Layout, "r.example/app")] {
        let signers = Signers::Policy(&world.policy, source);
        let trust = judge_evidence(signers, &name.parse().unwrap(), std::slice::from_ref(&piece));
        assert!(trust.trusted.is_empty());
        assert!(trust.ignored[0].reason.contains("names no publisher"));
    }
}

#[test]
fn whoever_signed() {
    let world = World::new();
    let envelope = world.envelope(&world.stranger, &[world.image]);
    let judge = |pieces: &[RawEvidence]| judge_evidence(Signers::Any, &world.repository, pieces);
    let trust = judge(&[world.bundle(&envelope, hint(&world.stranger))]);
    assert!(!trust.trusted[0].verified);
    let id = world.stranger.public().id();
    assert_eq!(trust.trusted[0].signer, format!("unverified hint {id}"));
    let trust = judge(&[world.dsse(&envelope)]);
    assert_eq!(trust.trusted[0].signer, "unverified, without a hint");
    // Even then: signed, and about this image.
    let about_another = world.envelope(&world.stranger, &[Digest::of(b"x")]);
    let unsigned = world.attached(EvidenceKind::UnsignedStatement, envelope.payload.clone());
    let trust = judge(&[world.dsse(&about_another), unsigned]);
    assert_eq!((trust.trusted.len(), trust.ignored.len()), (0, 2));
}

#[test]
fn a_flood_of_pieces_is_bounded_and_listed() {
    let world = World::new();
    let pieces: Vec<RawEvidence> = (0..EVIDENCE_MAX + 3)
        .map(|n| world.attached(EvidenceKind::DsseEnvelope, n.to_string().into_bytes()))
        .collect();
    let trust = world.judge(&pieces);
    assert_eq!(trust.ignored.len(), EVIDENCE_MAX + 3);
    let over = trust.ignored.iter().filter(|i| i.reason.contains("expected at most 4096")).count();
    assert_eq!(over, 3);
}

fn pieces(world: &World) -> Vec<RawEvidence> {
    let good = world.envelope(&world.publisher, &[world.image]);
    let mut elsewhere = world.dsse(&good);
    elsewhere.attached_to = Digest::of(b"index");
    vec![
        world.dsse(&good),
        world.bundle(&good, hint(&world.publisher)),
        world.bundle(&good, hint(&world.stranger)),
        world.dsse(&world.envelope(&world.publisher, &[world.image])),
        world.dsse(&world.envelope(&world.stranger, &[world.image])),
        world.dsse(&world.envelope(&world.publisher, &[Digest::of(b"x")])),
        world.attached(EvidenceKind::UnsignedStatement, good.payload.clone()),
        elsewhere,
    ]
}

proptest! {
    #[test]
    fn order_and_repetition_change_nothing(picks in prop::collection::vec(0usize..8, 0..24)) {
        let world = World::new();
        let all = pieces(&world);
        let mut once: Vec<usize> = picks.clone();
        once.sort_unstable();
        once.dedup();
        let take = |picks: &[usize]| picks.iter().map(|p| all[*p].clone()).collect::<Vec<_>>();
        let picked = world.judge(&take(&picks));
        prop_assert_eq!(&picked, &world.judge(&take(&once)));
        once.reverse();
        prop_assert_eq!(&picked, &world.judge(&take(&once)));
    }

    #[test]
    fn any_bytes_are_answered_and_listed(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        kind in 0..3,
    ) {
        let world = World::new();
        let kind = [
            EvidenceKind::SigstoreBundle,
            EvidenceKind::DsseEnvelope,
            EvidenceKind::UnsignedStatement,
        ][kind as usize];
        let piece = world.attached(kind, bytes);
        let trust = world.judge(std::slice::from_ref(&piece));
        prop_assert_eq!((trust.trusted.len(), trust.ignored.len()), (0, 1));
        prop_assert_eq!(trust.ignored[0].evidence, piece.digest);
    }

    #[test]
    fn a_changed_byte_never_says_something_else(at in 0usize..500, byte in any::<u8>()) {
        let world = World::new();
        let mut json = world.envelope(&world.publisher, &[world.image]).to_json();
        let at = at % json.len();
        json[at] = byte;
        let trust = world.judge(&[world.attached(EvidenceKind::DsseEnvelope, json)]);
        // The change hit a name nobody reads, or it is ignored; the statement is never another.
        for counted in trust.trusted {
            prop_assert_eq!(&counted.statement.predicate, &json!({"a": 1}));
            prop_assert!(counted.statement.is_about(&world.image));
        }
    }
}
