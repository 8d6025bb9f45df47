//! What a recipe says that cannot be followed: a gap, or another recipe that accuses nobody.

use crate::fixture::{policy, published, workshop};
use crate::{ALL_HINTS, said, tried};
use attest::{GapCode, recipe::Recipe};
use serde_json::{Value, json};
use worker::pipeline::{attempt::Answer, progress::Silent, verify::attempts};

#[tokio::test(flavor = "multi_thread")]
async fn a_recipe_that_builds_something_else_accuses_nobody_while_another_cannot_be_tried() {
    let work = tempfile::tempdir().unwrap();
    let workshop = workshop(work.path(), policy(true, Some(ALL_HINTS)));
    let (image, recipe) = published(&workshop, "tampered").await;
    let alone = [recipe.clone()];
    let best = attempts(&workshop, &image, &alone, None, &Silent).await.unwrap();
    assert_eq!(said(&best), "diverged");
    let newer = Recipe { version: Some("9.9.9".into()), ..recipe.clone() };
    let mut withdrawn = recipe.clone();
    withdrawn.config["contents"]["packages"]
        .as_array_mut()
        .unwrap()
        .push(json!("no-such-package=1.0-r0"));
    for (other, expected) in [(newer, "gap unsupported-version"), (withdrawn, "InputGone")] {
        for recipes in [[recipe.clone(), other.clone()], [other.clone(), recipe.clone()]] {
            let best = attempts(&workshop, &image, &recipes, None, &Silent).await.unwrap();
            assert!(said(&best).starts_with(expected), "{expected}: {}", said(&best));
        }
    }
    // A match is proof whatever the other says.
    let (image, recipe) = published(&workshop, "hello").await;
    let newer = Recipe { version: Some("9.9.9".into()), ..recipe.clone() };
    let best = attempts(&workshop, &image, &[newer, recipe], None, &Silent).await.unwrap();
    assert_eq!(said(&best), "reproduced");
}

/// Every object of a configuration, as a path of keys.
fn objects(value: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(map) => {
            found.push(path.clone());
            for (key, inner) in map {
                path.push(key.clone());
                objects(inner, path, found);
                path.pop();
            }
        }
        Value::Array(items) => {
            for (i, inner) in items.iter().enumerate() {
                path.push(i.to_string());
                objects(inner, path, found);
                path.pop();
            }
        }
        _ => {}
    }
}

/// Free-form tables, in which any key means something to apko already.
const FREE_FORM: [&str; 2] = ["annotations", "environment"];

#[tokio::test(flavor = "multi_thread")]
async fn a_field_or_version_that_is_not_known_is_a_gap_never_a_divergence() {
    let work = tempfile::tempdir().unwrap();
    let workshop = workshop(work.path(), policy(true, None));
    let mut fields = 0;
    for case in ["tampered", "web", "services", "vcs", "web-flat"] {
        let (image, recipe) = published(&workshop, case).await;
        let mut places = Vec::new();
        objects(&recipe.config, &mut Vec::new(), &mut places);
        for place in places {
            if place.last().is_some_and(|key| FREE_FORM.contains(&key.as_str())) {
                continue;
            }
            let mut recipe = recipe.clone();
            let pointer: String = place.iter().map(|key| format!("/{key}")).collect();
            recipe.config.pointer_mut(&pointer).unwrap()["a-field-of-tomorrow"] = json!(true);
            let answer = said(&tried(&workshop, &image, &recipe).await);
            assert_eq!(answer, "gap unsupported-field", "{case}: {pointer:?}");
            fields += 1;
        }
    }
    assert!(fields > 10, "{fields} places");
    let (image, recipe) = published(&workshop, "tampered").await;
    for version in ["0.12.9", "1.2.40", "2.0.0", "1.2.39+2", "1.2.39-rc1", "latest", ""] {
        let recipe = Recipe { version: Some(version.into()), ..recipe.clone() };
        let answer = said(&tried(&workshop, &image, &recipe).await);
        assert_eq!(answer, "gap unsupported-version", "{version:?}");
    }
    // No version at all: they are tried, and none that fits is no accusation.
    let recipe = Recipe { version: None, ..recipe };
    let attempt = tried(&workshop, &image, &recipe).await;
    let Answer::RecipeInvalid(gaps) = &attempt.answer else { panic!("{}", said(&attempt)) };
    assert_eq!(gaps[0].code, GapCode::BuilderVersion);
}

#[tokio::test(flavor = "multi_thread")]
async fn repositories_with_a_pin_are_read_and_those_of_a_machine_are_a_gap() {
    let work = tempfile::tempdir().unwrap();
    let workshop = workshop(work.path(), policy(true, None));
    let (image, recipe) = published(&workshop, "web").await;
    for (address, expected) in [
        // The image's own list of repositories differs then, and nothing else is in the way.
        ("@edge https://packages.assay.test/extras", "diverged"),
        ("/srv/packages", "gap local-context"),
        ("file:///srv/packages", "gap local-context"),
        ("@edge", "gap local-context"),
    ] {
        let mut recipe = recipe.clone();
        let repositories = &mut recipe.config["contents"]["repositories"];
        let list = repositories.as_array_mut().unwrap();
        list.retain(|one| !one.as_str().unwrap().ends_with("extras"));
        list.push(json!(address));
        assert_eq!(said(&tried(&workshop, &image, &recipe).await), expected, "{address}");
    }
}
