//! Trust: which of the statements found beside an image count, and why the others do not.
//!
//! Rules: a statement counts when it is a signed in-toto Statement, signed by a key that the
//! policy names for the image's repository, and one of its subjects is exactly the manifest or
//! index that it is attached to. Key hints and keyids decide nothing.
//! Invariant: a pure function of its arguments; the order and repetition of the evidence change
//! nothing; whatever does not count is listed with its reason, never dropped. It must never trust
//! a digest that it did not compute from the bytes in hand.

use crate::{
    Digest, Repository, ambiguous_keys,
    bundle::{Bundle, Material, readable_hint},
    dsse::{Envelope, IN_TOTO},
    evidence::{EvidenceKind, RawEvidence},
    policy::{Draft, FoundSigner, Policy, Publisher, SignerRule, Source},
    statement::Statement,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most pieces of evidence that are judged for one image: an `.att` manifest has at most 1,000
/// layers, an image with its index and four platforms rarely 30 pieces. What is beyond is ignored
/// by name; the pieces with the smallest digests are the ones that are judged.
pub const EVIDENCE_MAX: usize = 4096;
/// Longest reason, in characters: it may quote foreign text.
const REASON_CHARS_MAX: usize = 300;
/// How many foreign subjects a reason lists.
const SUBJECTS_SHOWN: usize = 3;

/// Whose signatures count.
#[derive(Debug, Clone, Copy)]
pub enum Signers<'a> {
    /// Those of the policy's publishers for this repository. The source says whether the image was
    /// read from a registry or a layout; it comes from the reference that was asked for, never
    /// from the evidence.
    Policy(&'a Policy, Source),
    /// Whoever signed. Signatures are not checked, because hints are not keys; not for gates.
    Any,
}

/// A statement that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct TrustedStatement {
    /// What is stated.
    pub statement: Statement,
    /// The blob that holds it; the smallest digest where several do.
    pub evidence: Digest,
    /// SHA-256 of the bytes that were signed (PAE).
    pub signed: Digest,
    /// `key sha256:…`, several joined by `, `; or `unverified hint …` under [`Signers::Any`].
    pub signer: String,
    /// False under [`Signers::Any`]: somebody says so, nobody checked who.
    pub verified: bool,
    /// The manifest or index that it is attached to, and about.
    pub attached_to: Digest,
    /// Where it was found.
    pub uri: String,
    /// The path of a key that stands twice in the payload: readers differ on what it says.
    pub twice: Option<String>,
}

/// A piece of evidence that does not count.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IgnoredStatement {
    /// How it names its signer; unverified.
    pub signer: String,
    /// Why it does not count, in one line.
    pub reason: String,
    /// The blob.
    pub evidence: Digest,
    /// What it is attached to.
    pub attached_to: Digest,
}

/// The evidence, judged. Both lists are sorted and without repetition.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trust {
    /// What counts.
    pub trusted: Vec<TrustedStatement>,
    /// What does not.
    pub ignored: Vec<IgnoredStatement>,
}

/// Judges the evidence of one image in one repository.
pub fn judge_evidence(
    signers: Signers<'_>,
    repository: &Repository,
    evidence: &[RawEvidence],
) -> Trust {
    let publishers: Vec<&Publisher> = match signers {
        Signers::Policy(policy, source) => policy.publishers_for(source, repository).collect(),
        Signers::Any => Vec::new(),
    };
    let mut pieces: Vec<(Digest, &RawEvidence)> =
        evidence.iter().map(|piece| (Digest::of(&piece.bytes), piece)).collect();
    pieces.sort_by(|(a, x), (b, y)| {
        (a, x.attached_to, x.kind, &x.uri, x.digest).cmp(&(
            b,
            y.attached_to,
            y.kind,
            &y.uri,
            y.digest,
        ))
    });
    pieces.dedup();

    let mut trusted: BTreeMap<(Digest, Digest), TrustedStatement> = BTreeMap::new();
    let mut signed_by: BTreeMap<(Digest, Digest), BTreeSet<String>> = BTreeMap::new();
    let mut ignored = BTreeSet::new();
    for (position, (digest, piece)) in pieces.iter().enumerate() {
        let judged = if position < EVIDENCE_MAX {
            let any = matches!(signers, Signers::Any);
            judge_piece(any, &publishers, *digest, piece)
        } else {
            Err(Ignored::new("unknown", format!("expected at most {EVIDENCE_MAX} pieces")))
        };
        match judged {
            Ok((statement, names)) => {
                // The pieces come in the order of their digests: the first one stays.
                let key = (statement.signed, statement.attached_to);
                signed_by.entry(key).or_default().extend(names);
                trusted.entry(key).or_insert(statement);
            }
            Err(Ignored { signer, reason }) => {
                let (evidence, attached_to) = (*digest, piece.attached_to);
                ignored.insert(IgnoredStatement { signer, reason, evidence, attached_to });
            }
        }
    }
    for (key, statement) in &mut trusted {
        if let Some(names) = signed_by.get(key) {
            statement.signer = names.iter().cloned().collect::<Vec<_>>().join(", ");
        }
    }
    Trust { trusted: trusted.into_values().collect(), ignored: ignored.into_iter().collect() }
}

/// Why a piece does not count, before it is known which piece.
struct Ignored {
    signer: String,
    reason: String,
}

impl Ignored {
    fn new(signer: impl Into<String>, reason: impl std::fmt::Display) -> Self {
        let reason = reason.to_string();
        let plain = reason.chars().filter(|c| !c.is_control()).take(REASON_CHARS_MAX).collect();
        Self { signer: signer.into(), reason: plain }
    }
}

fn judge_piece(
    any: bool,
    publishers: &[&Publisher],
    digest: Digest,
    piece: &RawEvidence,
) -> Result<(TrustedStatement, Vec<String>), Ignored> {
    if digest != piece.digest {
        let reason = format!("expected bytes of digest {}, found {digest}", piece.digest);
        return Err(Ignored::new("unknown", reason));
    }
    let (envelope, claimed) = open(piece)?;
    let names =
        if any { vec![claimed.clone()] } else { who_signed(publishers, &envelope, &claimed)? };
    if envelope.payload_type != IN_TOTO {
        let found = &envelope.payload_type;
        let reason = format!("expected a payload of type {IN_TOTO}, found {found:?}");
        return Err(Ignored::new(claimed, reason));
    }
    let statement = Statement::parse(&envelope.payload)
        .map_err(|error| Ignored::new(names.join(", "), error))?;
    if !statement.is_about(&piece.attached_to) {
        return Err(Ignored::new(names.join(", "), about_another(&statement, piece)));
    }
    let judged = TrustedStatement {
        twice: ambiguous_keys::twice(&envelope.payload),
        statement,
        evidence: digest,
        signed: envelope.signed_digest(),
        signer: String::new(),
        verified: !any,
        attached_to: piece.attached_to,
        uri: piece.uri.clone(),
    };
    Ok((judged, names))
}

/// The envelope of a piece, and how the piece names its signer.
fn open(piece: &RawEvidence) -> Result<(Envelope, String), Ignored> {
    match piece.kind {
        EvidenceKind::UnsignedStatement => {
            Err(Ignored::new("nobody", "the statement is not signed"))
        }
        EvidenceKind::DsseEnvelope => {
            let envelope =
                Envelope::parse(&piece.bytes).map_err(|error| Ignored::new("unknown", error))?;
            let keyids: Vec<String> = envelope
                .signatures
                .iter()
                .filter_map(|s| s.keyid.as_deref())
                .map(readable_hint)
                .filter(|keyid| !keyid.is_empty())
                .collect();
            let claimed = claimed(keyids.first().map(String::as_str));
            Ok((envelope, claimed))
        }
        EvidenceKind::SigstoreBundle => {
            let bundle =
                Bundle::parse(&piece.bytes).map_err(|error| Ignored::new("unknown", error))?;
            match bundle.material {
                Material::PublicKey { hint } => {
                    let hint = hint.as_deref().map(readable_hint);
                    Ok((bundle.envelope, claimed(hint.as_deref())))
                }
                Material::Certificate => Err(Ignored::new(
                    "a certificate",
                    "keyless is not supported in this version: the certificate was not checked",
                )),
            }
        }
    }
}

fn claimed(hint: Option<&str>) -> String {
    match hint {
        Some(hint) => format!("unverified hint {hint}"),
        None => "unverified, without a hint".to_owned(),
    }
}

/// The publishers whose key made one of the signatures.
fn who_signed(
    publishers: &[&Publisher],
    envelope: &Envelope,
    claimed: &str,
) -> Result<Vec<String>, Ignored> {
    let mut names = BTreeSet::new();
    let mut unsupported = None;
    for publisher in publishers {
        let SignerRule::Key(key) = &publisher.signer else { continue };
        let name = format!("key {}", key.id());
        if names.contains(&name) || envelope.verify(key).is_err() {
            continue;
        }
        match publisher.unsupported() {
            None => {
                names.insert(name);
            }
            Some(what) => {
                let reason = format!("the policy asks for {what}, which cannot be checked yet");
                unsupported = Some(Ignored::new(name, reason));
            }
        }
    }
    if !names.is_empty() {
        return Ok(names.into_iter().collect());
    }
    Err(unsupported.unwrap_or_else(|| {
        let reason = if publishers.is_empty() {
            "the policy names no publisher for this repository"
        } else {
            "no key of the policy's publishers for this repository made the signature"
        };
        Ignored::new(claimed, reason)
    }))
}

fn about_another(statement: &Statement, piece: &RawEvidence) -> String {
    let found: Vec<String> = statement
        .subject
        .iter()
        .take(SUBJECTS_SHOWN)
        .map(|s| s.sha256().map_or_else(|| "no sha256".to_owned(), |digest| digest.to_string()))
        .collect();
    format!(
        "expected a statement about {}, to which it is attached, found one about {}",
        piece.attached_to,
        found.join(", ")
    )
}

impl Trust {
    /// What was found, as the start of a policy (`assay policy init`): meant for a judgement under
    /// [`Signers::Any`]. `package_repositories` come from the unverified configurations.
    pub fn draft(&self, source: Source, repository: &Repository) -> Draft {
        let mut signers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let mut urls = BTreeSet::new();
        for found in &self.trusted {
            let statement = &found.statement;
            signers.entry(&found.signer).or_default().insert(&statement.predicate_type);
            for list in ["repositories", "build_repositories", "runtime_repositories"] {
                let listed = statement.predicate.pointer(&format!("/contents/{list}"));
                let listed = listed.and_then(|value| value.as_array());
                urls.extend(listed.into_iter().flatten().filter_map(|url| url.as_str()));
            }
        }
        let signers = signers.into_iter().map(|(name, statements)| FoundSigner {
            name: name.to_owned(),
            statements: statements.into_iter().map(str::to_owned).collect(),
        });
        Draft {
            source,
            repository: repository.clone(),
            signers: signers.collect(),
            package_repositories: urls.into_iter().map(str::to_owned).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
