//! One build told in three versions, and what is none.

use super::*;
use proptest::prelude::*;
use serde_json::json;

const BUILDER: &str = "https://builder.example/1";
const TYPE: &str = "https://builder.example/type@v1";

fn git() -> Material {
    let digest = BTreeMap::from([("sha1".to_owned(), "ab".repeat(20))]);
    Material { uri: "git+https://code.example/app".into(), digest }
}

#[test]
fn three_versions_of_one_build() {
    let source = json!({"uri": git().uri, "digest": git().digest});
    let v1 = json!({
        "buildDefinition": {
            "buildType": TYPE, "externalParameters": {"a": 1}, "internalParameters": {"b": "x"},
            "resolvedDependencies": [source], "new": true,
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"apko": "1.2.39"}, "builderDependencies": []},
            "metadata": {"invocationId": "run-1", "startedOn": "2026-01-01T00:00:00Z"},
        },
    });
    let v02 = json!({
        "builder": {"id": BUILDER}, "buildType": TYPE,
        "invocation": {"configSource": source, "parameters": {"a": 1}, "environment": {"b": "x"}},
        "metadata": {"buildInvocationId": "run-1"}, "materials": [source],
    });
    let v01 = json!({
        "builder": {"id": BUILDER},
        "recipe": {"type": TYPE, "definedInMaterial": 0, "arguments": {"a": 1},
                   "environment": {"b": "x"}},
        "metadata": {"buildInvocationId": "run-1"}, "materials": [source],
    });
    let read = [(PROVENANCE_V1, v1), (PROVENANCE_V02, v02), (PROVENANCE_V01, v01)]
        .map(|(predicate_type, predicate)| Provenance::parse(predicate_type, &predicate).unwrap());
    for provenance in &read {
        assert_eq!(provenance.build_type, TYPE);
        assert_eq!(provenance.builder_id, BUILDER);
        assert_eq!(provenance.external_parameters, json!({"a": 1}));
        assert_eq!(provenance.internal_parameters, json!({"b": "x"}));
        assert_eq!(provenance.materials, [git()]);
        assert_eq!(provenance.invocation_id.as_deref(), Some("run-1"));
    }
    assert_eq!(read[0].builder_version["apko"], "1.2.39");
    assert!(read[1].builder_version.is_empty() && read[2].builder_version.is_empty());
}

#[test]
fn what_may_be_missing_and_what_may_not() {
    let least = json!({"buildDefinition": {"buildType": TYPE, "resolvedDependencies": null},
                       "runDetails": {"builder": {"id": BUILDER, "version": null},
                                      "metadata": null}});
    let read = Provenance::parse(PROVENANCE_V1, &least).unwrap();
    assert!(read.external_parameters.is_null() && read.materials.is_empty());
    let v02 = json!({"builder": {"id": BUILDER}, "buildType": TYPE, "invocation": {
        "configSource": {"uri": "git+https://code.example/app", "entryPoint": "x"}}});
    assert_eq!(Provenance::parse(PROVENANCE_V02, &v02).unwrap().materials.len(), 1);

    for (predicate_type, bad) in [
        (PROVENANCE_V1, json!({})),
        (PROVENANCE_V1, json!({"buildDefinition": {"buildType": TYPE}})),
        (PROVENANCE_V1, v02.clone()),
        (PROVENANCE_V02, json!({"builder": {"id": BUILDER}})),
        (PROVENANCE_V01, json!({"builder": {"id": BUILDER}})),
        (PROVENANCE_V02, least.clone()),
    ] {
        let error = Provenance::parse(predicate_type, &bad).unwrap_err();
        assert!(matches!(error, ProvenanceError::Json { .. }), "{error}");
    }
    let error = Provenance::parse("https://slsa.dev/provenance/v2", &least).unwrap_err();
    assert!(matches!(error, ProvenanceError::PredicateType(_)) && !is_provenance("x"));
    for id in [String::new(), "x".repeat(IDENTITY_BYTES_MAX + 1)] {
        let mut bad = least.clone();
        bad["buildDefinition"]["buildType"] = id.clone().into();
        let error = Provenance::parse(PROVENANCE_V1, &bad).unwrap_err();
        assert!(matches!(error, ProvenanceError::Identity { field: "buildType", .. }));
    }
    let mut many = least;
    many["buildDefinition"]["resolvedDependencies"] = json!(vec![json!({}); MATERIALS_MAX + 1]);
    let error = Provenance::parse(PROVENANCE_V1, &many).unwrap_err();
    assert_eq!(error, ProvenanceError::Materials(MATERIALS_MAX + 1));
}

/// JSON with the words of provenance in it, so that the parser gets past its first field.
fn words() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "buildDefinition",
        "runDetails",
        "buildType",
        "builder",
        "id",
        "version",
        "metadata",
        "invocation",
        "recipe",
        "type",
        "materials",
        "resolvedDependencies",
        "uri",
        "digest",
        "configSource",
        "invocationId",
        "apko",
    ]);
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(|map| {
                Value::Object(map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_answered(value in words()) {
        for predicate_type in [PROVENANCE_V1, PROVENANCE_V02, PROVENANCE_V01, ""] {
            let _ = Provenance::parse(predicate_type, &value);
        }
    }
}
