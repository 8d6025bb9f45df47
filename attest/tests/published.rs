//! The published cases, as far as statements decide them: every case of the fixtures gives
//! recipes, a gap or `untrusted`, under the policy of the fixtures' README.
//!
//! What only a rebuild can find (altered bytes, a withdrawn package, a field that the builder does
//! not know) must come out here as a recipe that names exactly what was attested.

use attest::{
    Digest, GapCode, Platform, Repository, Subject,
    evidence::{EvidenceKind, RawEvidence},
    policy::{Policy, Source},
    recipe::{Derivation, Recipe, Tier, derive},
    trust::{Signers, Trust, judge_evidence},
};
use serde_json::Value;
use std::{collections::BTreeMap, fs, path::PathBuf};

/// The fixtures' layout: only what this test needs of one.
struct Layout {
    root: PathBuf,
    tags: BTreeMap<String, Digest>,
}

impl Layout {
    fn open() -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/published");
        let index = json(&fs::read(root.join("index.json")).unwrap());
        let tags = index["manifests"].as_array().unwrap().iter().map(|entry| {
            let name = &entry["annotations"]["org.opencontainers.image.ref.name"];
            (name.as_str().unwrap().to_owned(), digest(&entry["digest"]))
        });
        Self { tags: tags.collect(), root }
    }

    fn blob(&self, digest: &Digest) -> Vec<u8> {
        let bytes = fs::read(self.root.join("blobs/sha256").join(digest.hex())).unwrap();
        assert_eq!(Digest::of(&bytes), *digest);
        bytes
    }

    /// What is attached to a digest in a repository, by the tags that cosign left.
    fn evidence(&self, repository: &Repository, on: Digest) -> Vec<RawEvidence> {
        let mut manifests = Vec::new();
        if let Some(index) = self.tags.get(&format!("{repository}:{}", on.fallback_tag())) {
            let index = json(&self.blob(index));
            manifests.extend(
                index["manifests"].as_array().unwrap().iter().map(|m| digest(&m["digest"])),
            );
        }
        manifests.extend(self.tags.get(&format!("{repository}:{}.att", on.fallback_tag())));
        let mut found = Vec::new();
        for manifest in manifests {
            for layer in json(&self.blob(&manifest))["layers"].as_array().unwrap() {
                let kind = match layer["mediaType"].as_str().unwrap() {
                    "application/vnd.dsse.envelope.v1+json" => EvidenceKind::DsseEnvelope,
                    _ => EvidenceKind::SigstoreBundle,
                };
                let bytes = self.blob(&digest(&layer["digest"]));
                let uri = format!("oci://{repository}@{manifest}");
                found.push(RawEvidence::new(kind, bytes, uri, on));
            }
        }
        found
    }

    fn policy(&self) -> Policy {
        let key = fs::read(self.root.join("packages/assay-test-6a1f.rsa.pub")).unwrap();
        let text = format!(
            r#"
            [[publisher]]
            repositories = ["oci:*"]
            key = "keys/publisher.pub"
            transparency = "none"

            [[package_repository]]
            url = "https://packages.assay.test/*"
            keys = "discovery"
            pins = ["{}"]
            complete = true

            [[mirror]]
            prefix = "https://packages.assay.test/"
            url = "file:///packages/"
            complete = true
            "#,
            Digest::of(&key)
        );
        Policy::parse(&text, &|path| fs::read(self.root.join(path)).map_err(|e| e.to_string()))
            .unwrap()
    }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn digest(value: &Value) -> Digest {
    value.as_str().unwrap().parse().unwrap()
}

/// One platform of one case, derived.
struct Derived {
    case: String,
    place: String,
    expect: String,
    gap: Option<String>,
    trust: Trust,
    derivation: Derivation,
}

fn derive_all(signers: Signers<'_>, layout: &Layout) -> Vec<Derived> {
    let cases = json(&fs::read(layout.root.join("cases.json")).unwrap());
    let mut all = Vec::new();
    for (case, value) in cases.as_object().unwrap() {
        let repository: Repository = format!("demo/{case}").parse().unwrap();
        let index = digest(&value["index"]);
        for (place, platform) in value["platforms"].as_object().unwrap() {
            let name = place.split('#').next().unwrap();
            let subject = Subject {
                repository: repository.clone(),
                digest: digest(&platform["manifest"]),
                platform: name.parse::<Platform>().unwrap(),
            };
            let mut evidence = layout.evidence(&repository, subject.digest);
            evidence.extend(layout.evidence(&repository, index));
            let trust = judge_evidence(signers, &repository, &evidence);
            let derivation = derive(&subject, Some(&index), &trust);
            let (case, place) = (case.clone(), place.clone());
            let expect = platform["expect"].as_str().unwrap().to_owned();
            let gap = platform["gap"].as_str().map(str::to_owned);
            all.push(Derived { case, place, expect, gap, trust, derivation });
        }
    }
    all
}

fn recipes<'a>(all: &'a [Derived], case: &str, place: &str) -> (&'a [Recipe], &'a [String]) {
    let found = all.iter().find(|d| d.case == case && d.place == place).unwrap();
    match &found.derivation {
        Derivation::Recipes { recipes, contradictions, gaps } => {
            assert!(gaps.is_empty(), "{case}: {gaps:?}");
            (recipes, contradictions)
        }
        other => panic!("{case} {place}: {other:?}"),
    }
}

/// Gaps that the builder's code finds in a recipe, or in its inputs: not here.
const FOUND_LATER: [&str; 2] = ["unsupported-field", "material-gone"];

#[test]
fn all_cases_give_what_they_are_to_give() {
    let layout = Layout::open();
    let policy = layout.policy();
    let all = derive_all(Signers::Policy(&policy, Source::Layout), &layout);
    let names: std::collections::BTreeSet<&str> = all.iter().map(|d| d.case.as_str()).collect();
    assert_eq!((names.len(), all.len()), (36, 47));
    let (mut with_recipe, mut gaps, mut untrusted) = (0, 0, 0);
    for Derived { case, place, expect, gap, trust, derivation } in &all {
        let at = format!("{case} {place}");
        match (expect.as_str(), gap.as_deref()) {
            ("untrusted", _) => {
                untrusted += 1;
                assert!(matches!(derivation, Derivation::Untrusted { .. }), "{at} {derivation:?}");
                assert!(trust.trusted.is_empty() && trust.ignored.len() == 4, "{at}");
            }
            ("not-rebuildable", Some(code)) if !FOUND_LATER.contains(&code) => {
                gaps += 1;
                let Derivation::NotRebuildable(found) = derivation else {
                    panic!("{at}: {derivation:?}")
                };
                assert_eq!(found.len(), 1, "{at} {found:?}");
                assert_eq!(found[0].code.as_str(), code, "{at}");
            }
            _ => {
                with_recipe += 1;
                let (recipes, contradictions) = recipes(&all, case, place);
                let count = if case == "two-recipes" { 2 } else { 1 };
                assert_eq!((recipes.len(), contradictions.len()), (count, count - 1), "{at}");
                for recipe in recipes {
                    assert_eq!(recipe.tier, Tier::Attested);
                    assert!(recipe.version.is_some() && !recipe.packages.is_empty(), "{at}");
                    assert!(recipe.signer.starts_with("key sha256:9e13226503a4"), "{at}");
                    assert_eq!(recipe.evidence.len(), 2, "{at}");
                }
            }
        }
    }
    assert_eq!((with_recipe, gaps, untrusted), (42, 4, 1));
}

#[test]
fn what_recipes_say() {
    let layout = Layout::open();
    let policy = layout.policy();
    let all = derive_all(Signers::Policy(&policy, Source::Layout), &layout);
    let version = |case| recipes(&all, case, "linux/amd64").0[0].version.clone().unwrap();
    assert_eq!(version("hello"), "1.2.39+1");
    assert_eq!(version("gzip-e2"), "0.30.22");
    assert_eq!(version("apko-1.1.14"), "1.1.14");

    // The same statements by bundle, by legacy tag and by both: one recipe each, other bytes.
    for case in ["hello", "hello-both", "hello-legacy"] {
        assert_eq!(recipes(&all, case, "linux/amd64").0.len(), 1);
    }
    // The field that no builder knows is in the recipe: refused later, by name.
    let unknown = &recipes(&all, "unknown-field", "linux/amd64").0[0];
    assert!(unknown.config.get("teleport").is_some());

    // Two recipes: the good one is exactly the one of `hello`; the place of contradiction is named.
    let (two, contradictions) = recipes(&all, "two-recipes", "linux/amd64");
    let hello = &recipes(&all, "hello", "linux/amd64").0[0];
    assert!(two.iter().any(|recipe| recipe.digest() == hello.digest()));
    assert!(two.windows(2).all(|pair| pair[0].digest() < pair[1].digest()));
    assert!(contradictions[0].contains("entrypoint.command"), "{contradictions:?}");
    let arm = &recipes(&all, "hello", "linux/arm64").0[0];
    assert_ne!(arm.digest(), hello.digest());

    // The stranger is listed, with the reason, and changes nothing.
    let beside = all.iter().find(|d| d.case == "stranger-beside").unwrap();
    assert_eq!(recipes(&all, "stranger-beside", "linux/amd64").0[0].digest(), hello.digest());
    assert_eq!(beside.trust.ignored.len(), 1);
    let ignored = &beside.trust.ignored[0];
    assert!(ignored.signer.starts_with("unverified hint sha256:aeb3d200dacca5de"), "{ignored:?}");
}

#[test]
fn other_policies_and_other_places() {
    let layout = Layout::open();
    let policy = layout.policy();
    // The same bytes in a registry: a policy for layouts says nothing about them.
    for derived in derive_all(Signers::Policy(&policy, Source::Registry), &layout) {
        assert!(derived.trust.trusted.is_empty());
        match derived.derivation {
            Derivation::Untrusted { .. } => {}
            Derivation::NotRebuildable(gaps) => assert_eq!(gaps[0].code, GapCode::NoRecipe),
            other => panic!("{}: {other:?}", derived.case),
        }
    }
    // Whoever signed: the stranger's recipe is one too, and nothing of it is called attested.
    let all = derive_all(Signers::Any, &layout);
    let (found, _) = recipes(&all, "wrong-signer", "linux/amd64");
    assert_eq!((found.len(), found[0].tier), (1, Tier::Hinted));
    assert!(found[0].signer.starts_with("unverified hint sha256:aeb3d200dacca5de"));
    let hello = &recipes(&all, "hello", "linux/amd64").0[0];
    assert_eq!(found[0].digest(), hello.digest());

    // What `policy init` drafts from it parses, and trusts the key file that the person brings.
    let hello = all.iter().find(|d| d.case == "hello").unwrap();
    let repository: Repository = "demo/hello".parse().unwrap();
    let text = hello.trust.draft(Source::Layout, &repository).to_toml();
    assert!(text.contains("sha256:9e13226503a4") && text.contains("packages.assay.test/os/*"));
    let key = fs::read(layout.root.join("keys/publisher.pub")).unwrap();
    let drafted = Policy::parse(&text, &|_| Ok(key.clone())).unwrap();
    let all = derive_all(Signers::Policy(&drafted, Source::Layout), &layout);
    for Derived { case, trust, .. } in &all {
        assert_eq!(!trust.trusted.is_empty(), case == "hello", "{case}");
    }
}

#[test]
fn evidence_of_one_repository_never_helps_another() {
    // Many cases share their platform manifest: only what lies in the repository itself counts.
    let layout = Layout::open();
    let policy = layout.policy();
    let hello: Repository = "demo/hello".parse().unwrap();
    let other: Repository = "demo/no-attestation".parse().unwrap();
    let manifest: Digest =
        "sha256:89aca0476eb02af309026411cda5a9c567a13c72c1348310fb68233543ab116f".parse().unwrap();
    assert_eq!(layout.evidence(&hello, manifest).len(), 3);
    assert!(layout.evidence(&other, manifest).is_empty());
    // A policy for one repository does not take the other's statements either.
    let text = "[[publisher]]\nrepositories = [\"oci:demo/no-*\"]\nkey = \"keys/publisher.pub\"";
    let narrow =
        Policy::parse(text, &|path| fs::read(layout.root.join(path)).map_err(|e| e.to_string()))
            .unwrap();
    let evidence = layout.evidence(&hello, manifest);
    let trust = judge_evidence(Signers::Policy(&narrow, Source::Layout), &hello, &evidence);
    assert!(trust.trusted.is_empty() && trust.ignored.len() == 3);
    let trust = judge_evidence(Signers::Policy(&policy, Source::Layout), &hello, &evidence);
    assert_eq!((trust.trusted.len(), trust.ignored.len()), (3, 0));
}
