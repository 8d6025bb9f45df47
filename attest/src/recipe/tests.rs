//! Statements of a trusted publisher that agree, contradict, mislead or say nothing.

use super::*;
use crate::{
    Gap, GapCode, Subject,
    provenance::{PROVENANCE_V1, PROVENANCE_V02},
    statement::{Statement, StatementSubject},
    trust::{IgnoredStatement, Trust, TrustedStatement},
};
use proptest::prelude::*;

fn image() -> Digest {
    Digest::of(b"image")
}

fn index() -> Digest {
    Digest::of(b"index")
}

fn subject() -> Subject {
    let repository = "r.example/app".parse().unwrap();
    Subject { repository, digest: image(), platform: Platform::linux("amd64") }
}

fn stated(on: Digest, predicate_type: &str, predicate: Value) -> TrustedStatement {
    let statement =
        Statement::new(vec![StatementSubject::new("x", &on)], predicate_type, predicate);
    let signed = Digest::of(&serde_json::to_vec(&statement).unwrap());
    TrustedStatement {
        statement,
        evidence: Digest::of(signed.raw()),
        signed,
        signer: "key sha256:aa".into(),
        verified: true,
        attached_to: on,
        uri: "oci://r.example/app".into(),
        twice: None,
    }
}

fn config() -> Value {
    json!({"archs": ["amd64"], "cmd": "", "layering": null,
           "contents": {"packages": ["a=1-r0", "b=2-r0@edge"]}})
}

fn configuration(edit: impl Fn(&mut Value)) -> TrustedStatement {
    let mut value = config();
    edit(&mut value);
    stated(image(), APKO_CONFIGURATION, value)
}

fn provenance(edit: impl Fn(&mut Value)) -> TrustedStatement {
    let mut value = json!({
        "buildDefinition": {"buildType": APKO_BUILD_TYPE, "externalParameters": {},
                            "internalParameters": {"a": "1-r0", "b": "2-r0"}},
        "runDetails": {"builder": {"id": "https://b.example", "version": {"apko": "1.2.39+1"}},
                       "metadata": {"invocationId": format!("r.example/app@{}", image())}},
    });
    edit(&mut value);
    stated(image(), PROVENANCE_V1, value)
}

fn from(trusted: Vec<TrustedStatement>) -> Derivation {
    derive(&subject(), Some(&index()), &Trust { trusted, ignored: vec![] })
}

type Found = (Vec<Recipe>, Vec<String>, Vec<Gap>);

fn recipes(trusted: Vec<TrustedStatement>) -> Found {
    match from(trusted) {
        Derivation::Recipes { recipes, contradictions, gaps } => (recipes, contradictions, gaps),
        other => panic!("{other:?}"),
    }
}

fn gaps(trusted: Vec<TrustedStatement>) -> Vec<Gap> {
    match from(trusted) {
        Derivation::NotRebuildable(gaps) => gaps,
        other => panic!("{other:?}"),
    }
}

/// The one gap that this gives, by code, with this in its detail.
fn one_gap(trusted: Vec<TrustedStatement>, code: GapCode, say: &str) {
    let found = gaps(trusted);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].code, code, "{found:?}");
    assert!(found[0].detail.contains(say), "{found:?}");
}

#[test]
fn a_configuration_and_its_provenance() {
    let (found, contradictions, gaps) = recipes(vec![configuration(|_| ()), provenance(|_| ())]);
    assert!(contradictions.is_empty() && gaps.is_empty());
    let recipe = &found[0];
    assert_eq!((found.len(), recipe.version.as_deref()), (1, Some("1.2.39+1")));
    assert_eq!((recipe.tier, recipe.config.clone()), (Tier::Attested, config()));
    assert_eq!(recipe.packages["b"], "2-r0");
    assert_eq!(recipe.evidence.len(), 2);
    let read: Recipe = serde_json::from_slice(&serde_json::to_vec(recipe).unwrap()).unwrap();
    assert_eq!((&read, read.digest()), (recipe, recipe.digest()));

    // Without a provenance: still attested, the version is for the builder to find.
    let (alone, _, gaps) = recipes(vec![configuration(|_| ())]);
    assert!(gaps.is_empty());
    assert_eq!((alone[0].version.clone(), alone[0].tier), (None, Tier::Attested));
    assert_ne!(alone[0].digest(), recipe.digest());
    // A provenance of the image's release by something else does not make it another recipe.
    let workflow = provenance(|v| v["buildDefinition"]["buildType"] = "https://w.example".into());
    let (beside, _, gaps) = recipes(vec![configuration(|_| ()), workflow.clone()]);
    assert!(gaps.is_empty() && beside == alone);

    one_gap(vec![provenance(|_| ())], GapCode::NoRecipe, "no image configuration is attested");
    one_gap(vec![workflow], GapCode::UnsupportedBuildType, "https://w.example");
    let v02 = json!({"builder": {"id": "x"}, "buildType": "https://mobyproject.org/buildkit@v1"});
    let v02 = stated(image(), PROVENANCE_V02, v02);
    one_gap(vec![v02], GapCode::UnsupportedBuildType, "mobyproject.org");
    let sbom = stated(image(), "https://spdx.dev/Document", json!({}));
    one_gap(vec![sbom], GapCode::NoRecipe, "hold no recipe");
}

#[test]
fn what_is_on_the_index_is_never_a_platforms_recipe() {
    let on_index = stated(index(), APKO_CONFIGURATION, config());
    let sbom = stated(image(), "https://spdx.dev/Document", json!({}));
    one_gap(vec![on_index.clone()], GapCode::IndexOnlyRecipe, "share");
    one_gap(vec![on_index.clone(), sbom.clone()], GapCode::IndexOnlyRecipe, "share");
    let index_sbom = stated(index(), "https://spdx.dev/Document", json!({}));
    one_gap(vec![index_sbom, sbom], GapCode::NoRecipe, "hold no recipe");
    let found = gaps(vec![on_index.clone(), configuration(|v| v["archs"] = json!(["arm64"]))]);
    let codes: Vec<GapCode> = found.iter().map(|gap| gap.code).collect();
    assert_eq!(codes, [GapCode::IndexOnlyRecipe, GapCode::Platform]);

    // A stranger's statement on the platform does not make it untrusted; without the index it does.
    let ignored = vec![IgnoredStatement {
        signer: "nobody\u{7}".into(),
        reason: "unsigned".into(),
        evidence: image(),
        attached_to: image(),
    }];
    let trust = Trust { trusted: vec![on_index], ignored: ignored.clone() };
    let derived = derive(&subject(), Some(&index()), &trust);
    assert!(matches!(derived, Derivation::NotRebuildable(_)));
    let Derivation::Untrusted { reason } = derive(&subject(), None, &trust) else { panic!() };
    assert!(reason.contains("nobody: unsigned"), "{reason}");
    // What concerns another image is not looked at.
    let mut elsewhere = ignored;
    elsewhere[0].attached_to = Digest::of(b"another platform");
    let trust = Trust { trusted: vec![], ignored: elsewhere };
    let derived = derive(&subject(), Some(&index()), &trust);
    let Derivation::NotRebuildable(gaps) = derived else { panic!("{derived:?}") };
    assert_eq!(gaps[0].code, GapCode::NoRecipe);
}

#[test]
fn a_configuration_must_be_this_platforms_own() {
    for (archs, ok) in [
        (json!(["amd64"]), true),
        (json!(["x86_64"]), true),
        (json!(["arm64"]), false),
        (json!(["amd64", "arm64"]), false),
        (json!(["amd64", 1]), false),
        (json!([]), false),
        (json!(null), false),
        (json!("amd64"), false),
    ] {
        let statement = configuration(|v| v["archs"] = archs.clone());
        match from(vec![statement, provenance(|_| ())]) {
            Derivation::Recipes { .. } => assert!(ok, "{archs}"),
            Derivation::NotRebuildable(gaps) => {
                assert!(!ok && gaps[0].code == GapCode::Platform, "{archs} {gaps:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    for (platform, arch, ok) in [
        ("linux/arm64", "aarch64", true),
        ("linux/arm64/v8", "arm64", true),
        ("linux/arm/v7", "armv7", true),
        ("linux/arm/v7", "arm/v7", true),
        ("linux/arm/v6", "armhf", true),
        ("linux/arm/v6", "armv7", false),
        ("linux/386", "x86", true),
        ("windows/amd64", "amd64", false),
    ] {
        let subject = Subject { platform: platform.parse().unwrap(), ..subject() };
        let trusted = vec![configuration(|v| v["archs"] = json!([arch]))];
        let derived = derive(&subject, None, &Trust { trusted, ignored: vec![] });
        assert_eq!(matches!(derived, Derivation::Recipes { .. }), ok, "{platform} {arch}");
    }
}

#[test]
fn a_recipe_never_contains_its_own_result() {
    for own in [image(), index()] {
        for material in [
            json!({"uri": "pkg:oci/base", "digest": {"sha256": own.hex()}}),
            json!({"uri": format!("docker://r.example/app@{own}")}),
        ] {
            let dependencies = json!([{"uri": "x"}, material]);
            let provenance = provenance(|v| {
                v["buildDefinition"]["resolvedDependencies"] = dependencies.clone();
            });
            let found = vec![configuration(|_| ()), provenance];
            one_gap(found, GapCode::SelfReference, "as a material");
        }
        let base = format!("r.example/app@{own}");
        let config = configuration(|v| v["contents"]["baseimage"] = json!({"image": base}));
        one_gap(vec![config, configuration(|_| ())], GapCode::SelfReference, "it is to build");
    }
}

#[test]
fn what_is_not_understood_is_beside_the_recipe() {
    let field = GapCode::UnsupportedField;
    for (code, say, edit) in [
        (
            field,
            "externalParameters.image",
            &(|v: &mut Value| v["buildDefinition"]["externalParameters"] = json!({"image": 1}))
                as &dyn Fn(&mut Value),
        ),
        (field, "externalParameters", &|v| {
            v["buildDefinition"]["externalParameters"] = json!([]);
        }),
        (field, "internalParameters.a", &|v| {
            v["buildDefinition"]["internalParameters"] = json!({"a": 1});
        }),
        (field, "internalParameters", &|v| v["buildDefinition"]["internalParameters"] = json!("")),
        (field, "SLSA provenance v1", &|v| v["runDetails"] = json!(null)),
        (GapCode::BuilderVersion, "a version of apko", &|v| {
            v["runDetails"]["builder"]["version"]["apko"] = json!(1.2);
        }),
        (GapCode::BuilderVersion, "a version of apko", &|v| {
            v["runDetails"]["builder"]["version"]["apko"] = json!("1\n2");
        }),
        (GapCode::BuilderVersion, "found one of sha256:", &|v| {
            let other = format!("r.example/app@{}", Digest::of(b"other"));
            v["runDetails"]["metadata"]["invocationId"] = other.into();
        }),
    ] {
        let (found, _, gaps) = recipes(vec![configuration(|_| ()), provenance(edit)]);
        assert_eq!((found.len(), found[0].version.clone()), (1, None), "{say}");
        assert_eq!((gaps.len(), gaps[0].code), (1, code), "{gaps:?}");
        assert!(gaps[0].detail.contains(say), "{gaps:?}");
        // Beside a provenance that is understood, the recipe is whole and the gap stays.
        let all = vec![configuration(|_| ()), provenance(edit), provenance(|_| ())];
        let (found, _, gaps) = recipes(all);
        assert_eq!((found[0].version.as_deref(), gaps.len()), (Some("1.2.39+1"), 1));
    }
    for id in [json!(format!("r.example/app@{}", index())), json!("run 7"), json!("sha256:00")] {
        let named = provenance(|v| v["runDetails"]["metadata"]["invocationId"] = id.clone());
        let (found, _, gaps) = recipes(vec![configuration(|_| ()), named]);
        assert!(gaps.is_empty() && found[0].version.is_some(), "{id}");
    }
    for version in [json!(null), json!("")] {
        let none = provenance(|v| v["runDetails"]["builder"]["version"]["apko"] = version.clone());
        let (found, _, gaps) = recipes(vec![configuration(|_| ()), none]);
        assert!(gaps.is_empty() && found[0].version.is_none());
    }
}

#[test]
fn a_configuration_without_one_meaning_is_a_gap() {
    let field = GapCode::UnsupportedField;
    one_gap(vec![configuration(|v| v["a"] = json!({"b": [1.5]}))], field, "a.b[0]");
    one_gap(vec![configuration(|v| v["a"] = json!(u64::MAX))], field, "a is a number");
    one_gap(vec![configuration(|v| v["é"] = json!(1))], field, "é");
    let long = "x".repeat(CONFIGURATION_BYTES_MAX);
    one_gap(vec![configuration(|v| v["cmd"] = json!(long))], GapCode::Limit, "at most 1048576");
    let mut twice = configuration(|_| ());
    twice.twice = Some("predicate.cmd".into());
    one_gap(vec![twice.clone()], field, "predicate.cmd stands twice");
    // Beside a good one: the good one is tried, and a mismatch will not be an accusation.
    let (found, _, gaps) = recipes(vec![configuration(|_| ()), twice]);
    assert_eq!((found.len(), gaps.len()), (1, 1));
    // Fields that nobody here knows are kept as they are.
    let odd = json!({"x": [null, -1, "\u{1b}", {"y": {}}], "z": false});
    let (found, _, gaps) = recipes(vec![configuration(|v| v["teleport"] = odd.clone())]);
    assert_eq!((&found[0].config["teleport"], gaps.len()), (&odd, 0));
}

#[test]
fn contradictions_are_listed_and_every_recipe_is_tried() {
    // Packages: the provenance that agrees is the configuration's; without one, each is tried.
    let other = |v: &mut Value| {
        v["buildDefinition"]["internalParameters"] = json!({"a": "9-r0", "c": "1-r0"});
        v["runDetails"]["builder"]["version"]["apko"] = json!("1.0.0");
    };
    let all = vec![configuration(|_| ()), provenance(other), provenance(|_| ())];
    let (found, contradictions, _) = recipes(all);
    assert_eq!((found.len(), found[0].version.as_deref()), (1, Some("1.2.39+1")));
    assert!(contradictions[0].contains("builder versions: 1.0.0, 1.2.39+1"), "{contradictions:?}");
    let (found, contradictions, gaps) = recipes(vec![configuration(|_| ()), provenance(other)]);
    assert!(found.len() == 1 && gaps.is_empty());
    for say in ["has a 1-r0, the provenance 9-r0", "lacks b 2-r0", "configuration lacks c"] {
        assert!(contradictions[0].contains(say), "{contradictions:?}");
    }
    // A configuration that is not locked leaves it to the builder what else comes with it.
    let loose = configuration(|v| v["contents"]["packages"] = json!(["a", "c>1"]));
    assert!(recipes(vec![loose, provenance(other)]).1.is_empty());

    // Two versions: two recipes.
    let second = provenance(|v| v["runDetails"]["builder"]["version"]["apko"] = json!("1.2.38"));
    let (found, _, _) = recipes(vec![configuration(|_| ()), provenance(|_| ()), second]);
    assert_eq!(found.len(), 2);

    // More than four: four are tried, the others are listed, and a mismatch proves nothing.
    let many = |n: usize| {
        let command = |k: usize| configuration(move |v| v["cmd"] = json!(format!("c{k}")));
        recipes((0..n).map(command).chain([provenance(|_| ())]).collect())
    };
    let (found, contradictions, gaps) = many(4);
    assert_eq!((found.len(), contradictions.len(), gaps.len()), (4, 1, 0));
    assert!(contradictions[0].contains("4 configurations are attested; they differ in cmd"));
    let (found, contradictions, gaps) = many(5);
    assert_eq!((found.len(), contradictions.len(), gaps.len()), (4, 2, 1));
    assert!(gaps[0].code == GapCode::Limit && contradictions[1].contains("not tried: sha256:"));
    assert!(found.windows(2).all(|pair| pair[0].digest() < pair[1].digest()));
    let (found, _, gaps) = many(40);
    assert_eq!((found.len(), gaps.len()), (4, 2));
}

#[test]
fn a_digest_is_of_content_only() {
    let recipe = recipes(vec![configuration(|_| ()), provenance(|_| ())]).0.remove(0);
    let mut other = vec![configuration(|_| ()), provenance(|_| ())];
    for statement in &mut other {
        statement.signer = "key sha256:bb".into();
        statement.verified = false;
        statement.evidence = Digest::of(b"elsewhere");
        statement.uri = "oci://other".into();
        // Statement v0.1 around the same predicate.
        statement.statement.statement_type = crate::statement::STATEMENT_V0_1.into();
    }
    let again = recipes(other).0.remove(0);
    assert_ne!(again, recipe);
    assert_eq!((again.tier, again.digest()), (Tier::Hinted, recipe.digest()));
    let changes: [&dyn Fn(&mut Recipe); 6] = [
        &|r| r.version = None,
        &|r| r.build_type.push('x'),
        &|r| r.builder_id.push('x'),
        &|r| r.platform = Platform::linux("arm64"),
        &|r| r.config["cmd"] = json!(null),
        &|r| {
            r.packages.remove("a");
        },
    ];
    for change in changes {
        let mut changed = recipe.clone();
        change(&mut changed);
        assert_ne!(changed.digest(), recipe.digest());
    }
}

/// JSON with the words of both statements in it.
fn words() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(json!("amd64")),
        Just(json!(APKO_BUILD_TYPE)),
        Just(json!(format!("x@{}", image()))),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,6}".prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "archs",
        "contents",
        "packages",
        "buildDefinition",
        "runDetails",
        "buildType",
        "builder",
        "id",
        "version",
        "apko",
        "metadata",
        "invocationId",
        "internalParameters",
        "é",
        "externalParameters",
        "resolvedDependencies",
        "uri",
        "digest",
        "sha256",
    ]);
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(|map| {
                Value::Object(map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

fn statements() -> impl Strategy<Value = Vec<TrustedStatement>> {
    let kinds = prop::sample::select(vec![APKO_CONFIGURATION, PROVENANCE_V1, PROVENANCE_V02, "x"]);
    let one = prop_oneof![
        2 => (any::<bool>(), kinds, words()).prop_map(|(platform, kind, predicate)| {
            stated(if platform { image() } else { index() }, kind, predicate)
        }),
        1 => "[a-c]{0,2}".prop_map(|cmd| configuration(move |v| v["cmd"] = json!(cmd))),
        1 => "[0-9]{0,1}".prop_map(|version| {
            provenance(move |v| v["runDetails"]["builder"]["version"]["apko"] = json!(version))
        }),
    ];
    prop::collection::vec(one, 0..10)
}

proptest! {
    #[test]
    fn any_statements_have_an_answer_whatever_their_order(
        statements in statements(),
        seed in any::<u64>(),
    ) {
        let derived = from(statements.clone());
        match &derived {
            Derivation::Recipes { recipes, .. } => {
                prop_assert!((1..=RECIPES_MAX).contains(&recipes.len()));
                prop_assert!(recipes.windows(2).all(|pair| pair[0].digest() < pair[1].digest()));
                for recipe in recipes {
                    prop_assert!(canonical::to_vec(&recipe.config).is_ok());
                    prop_assert_eq!(recipe.canonical_bytes()[0], 0x7b);
                }
            }
            Derivation::NotRebuildable(gaps) => prop_assert!(!gaps.is_empty()),
            Derivation::Untrusted { .. } => prop_assert!(false, "nothing was ignored"),
        }
        let mut shuffled = statements.clone();
        let count = shuffled.len().max(1);
        for position in 0..shuffled.len() {
            shuffled.swap(position, (seed as usize).wrapping_mul(position + 7) % count);
        }
        shuffled.extend(statements.first().cloned());
        prop_assert_eq!(derived, from(shuffled));
    }
}
