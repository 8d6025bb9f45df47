//! Every field that apko's configuration has: supported, or refused by name; never ignored.
//!
//! Invariant: the list is apko's (all versions from 0.13.0 on), not Assay's. A supported field
//! changes what the configuration says; docs/SUPPORT.md names each.

use attest::GapCode;
use rebuild::apko::{Behaviour, ConfigError, ImageConfiguration};
use serde_json::{Value, json};

/// What becomes of a field that is set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It does what it does in apko.
    Supported,
    /// `unsupported-field` with the field's name.
    Refused,
    /// Supported in a file; in an attestation refused by name, because what it names is elsewhere.
    InFilesOnly,
}
use Fate::{InFilesOnly, Refused, Supported};

/// Each field with a configuration that sets it and (almost) nothing else.
fn fields() -> Vec<(&'static str, Value, Fate)> {
    let contents = |key: &str, value: Value| json!({"contents": {key: value}});
    let entrypoint = |key: &str, value: Value| json!({"entrypoint": {key: value}});
    let user = |key: &str, value: Value| {
        let mut user = json!({"username": "u", "uid": 7});
        user[key] = value;
        json!({"accounts": {"users": [user]}})
    };
    let group = |key: &str, value: Value| {
        let mut group = json!({"groupname": "g", "gid": 7});
        group[key] = value;
        json!({"accounts": {"groups": [group]}})
    };
    let path = |key: &str, value: Value| {
        let mut change = json!({"path": "/x", "type": "directory"});
        change[key] = value;
        json!({"paths": [change]})
    };
    let certificate = |key: &str, value: Value| {
        let mut one = json!({"name": "n", "content": "c"});
        one[key] = value;
        json!({"certificates": {"additional": [one]}})
    };
    let runtime_key = |key: &str, value: Value| {
        let mut one = json!({"name": "n", "content": "c"});
        one[key] = value;
        contents("runtime_keyring", json!([one]))
    };
    vec![
        ("contents.build_repositories", contents("build_repositories", json!(["b"])), Supported),
        (
            "contents.runtime_repositories",
            contents("runtime_repositories", json!(["r"])),
            Supported,
        ),
        ("contents.repositories", contents("repositories", json!(["r"])), Supported),
        ("contents.keyring", contents("keyring", json!(["k"])), Supported),
        ("contents.runtime_keyring[].name", runtime_key("name", json!("other")), Supported),
        ("contents.runtime_keyring[].content", runtime_key("content", json!("o")), Supported),
        ("contents.packages", contents("packages", json!(["p"])), Supported),
        ("contents.baseimage.image", contents("baseimage", json!({"image": "i"})), Refused),
        ("contents.baseimage.apkindex", contents("baseimage", json!({"apkindex": "i"})), Refused),
        ("entrypoint.type", entrypoint("type", json!("service-bundle")), Supported),
        ("entrypoint.command", entrypoint("command", json!("c")), Supported),
        ("entrypoint.shell-fragment", entrypoint("shell-fragment", json!("f")), Supported),
        ("entrypoint.services", entrypoint("services", json!({"s": "run"})), Supported),
        ("cmd", json!({"cmd": "c"}), Supported),
        ("stop-signal", json!({"stop-signal": "SIGQUIT"}), Supported),
        ("work-dir", json!({"work-dir": "/w"}), Supported),
        ("accounts.run-as", json!({"accounts": {"run-as": "u"}}), Supported),
        ("accounts.users[].username", user("username", json!("v")), Supported),
        ("accounts.users[].uid", user("uid", json!(8)), Supported),
        ("accounts.users[].gid", user("gid", json!(8)), Supported),
        ("accounts.users[].shell", user("shell", json!("/s")), Supported),
        ("accounts.users[].homedir", user("homedir", json!("/h")), Supported),
        ("accounts.groups[].groupname", group("groupname", json!("h")), Supported),
        ("accounts.groups[].gid", group("gid", json!(8)), Supported),
        ("accounts.groups[].members", group("members", json!(["m"])), Supported),
        ("archs", json!({"archs": ["arm64"]}), Supported),
        ("environment", json!({"environment": {"A": "b"}}), Supported),
        ("paths[].path", path("path", json!("/y")), Supported),
        ("paths[].type", path("type", json!("empty-file")), Supported),
        ("paths[].uid", path("uid", json!(0)), Supported),
        ("paths[].gid", path("gid", json!(0)), Supported),
        ("paths[].permissions", path("permissions", json!(0o755)), Supported),
        ("paths[].source", path("source", json!("/s")), Supported),
        ("paths[].recursive", path("recursive", json!(true)), Supported),
        ("vcs-url", json!({"vcs-url": "u@c"}), Supported),
        ("annotations", json!({"annotations": {"a": "b"}}), Supported),
        ("include", json!({"include": "other.yaml"}), InFilesOnly),
        ("volumes", json!({"volumes": ["/v"]}), Supported),
        ("layering.strategy", json!({"layering": {"strategy": "origin"}}), Supported),
        ("layering.budget", json!({"layering": {"strategy": "origin", "budget": 3}}), Supported),
        ("certificates.additional[].name", certificate("name", json!("m")), Supported),
        ("certificates.additional[].content", certificate("content", json!("d")), Supported),
        ("certificates.providers", json!({"certificates": {"providers": ["p"]}}), Supported),
        ("format", json!({"format": "erofs"}), Refused),
        ("os-release.id", json!({"os-release": {"id": "x"}}), Refused),
        ("os-release.name", json!({"os-release": {"name": "x"}}), Refused),
        ("os-release.pretty-name", json!({"os-release": {"pretty-name": "x"}}), Refused),
        ("os-release.version-id", json!({"os-release": {"version-id": "x"}}), Refused),
        ("os-release.home-url", json!({"os-release": {"home-url": "x"}}), Refused),
        ("os-release.bug-report-url", json!({"os-release": {"bug-report-url": "x"}}), Refused),
        (
            "options",
            json!({"options": {"dev": {"contents": {"packages": {"add": ["x"]}}}}}),
            Refused,
        ),
    ]
}

/// The name of the outermost field that a gap must say.
fn said(field: &str) -> &str {
    match field.split_once('.') {
        Some(("contents", _)) => "contents.baseimage",
        Some((outer, _)) => outer,
        None => field,
    }
}

fn gaps(result: Result<ImageConfiguration, ConfigError>) -> Vec<String> {
    let error = result.expect_err("the field should be refused");
    let gaps = error.gaps();
    assert!(gaps.iter().all(|gap| gap.code == GapCode::UnsupportedField), "{error}");
    gaps.iter().map(|gap| gap.detail.clone()).collect()
}

fn attested(value: &Value) -> Result<ImageConfiguration, ConfigError> {
    ImageConfiguration::from_attested_json(value.to_string().as_bytes())
}

/// JSON is YAML: the same configuration as a file, beside one that it may include.
fn file(value: &Value) -> Result<ImageConfiguration, ConfigError> {
    let included = b"contents:\n  packages: [included]\narchs: [amd64]\n";
    ImageConfiguration::from_yaml(value.to_string().as_bytes(), &|_| Ok(included.to_vec()))
}

#[test]
fn each_is_supported_or_refused_by_name() {
    let newest = Behaviour::newest();
    for (field, value, fate) in fields() {
        if fate == Refused {
            for found in [gaps(attested(&value)), gaps(file(&value))] {
                assert!(found.iter().any(|gap| gap.contains(said(field))), "{field}: {found:?}");
            }
            continue;
        }
        if fate == InFilesOnly {
            assert!(gaps(attested(&value)).iter().any(|gap| gap.contains(field)), "{field}");
        } else {
            let config = attested(&value).unwrap_or_else(|error| panic!("{field}: {error}"));
            assert_ne!(config, ImageConfiguration::default(), "{field} is ignored");
            let written = config.to_apko_json(&newest);
            let empty = ImageConfiguration::default().to_apko_json(&newest);
            assert_ne!(written, empty, "{field} is not written to etc/apko.json");
        }
        let config = file(&value).unwrap_or_else(|error| panic!("{field}: {error}"));
        assert_ne!(config, file(&json!({})).unwrap(), "{field} is ignored in a file");
    }
}

/// A field that stands beside others is not only set: its own value counts.
#[test]
fn another_value_is_another_configuration() {
    for (field, value, fate) in fields() {
        let Some((outer, _)) = field.split_once("[]") else { continue };
        assert!(fate == Supported);
        let mut plain = value.clone();
        let list = plain.pointer_mut(&format!("/{}", outer.replace('.', "/"))).unwrap();
        let last = field.rsplit('.').next().unwrap();
        list[0].as_object_mut().unwrap().remove(last);
        let (with, without) = (attested(&value).unwrap(), attested(&plain));
        assert!(without.is_err() || without.unwrap() != with, "{field} is ignored");
    }
}

#[test]
fn unknown_fields_at_every_level_are_named() {
    let unknown = json!({
        "surprise-1": 1,
        "contents": {"surprise-2": 1, "runtime_keyring": [{"surprise-3": 1}]},
        "entrypoint": {"surprise-4": 1},
        "accounts": {"surprise-5": 1, "users": [{"surprise-6": 1}], "groups": [{"surprise-7": 1}]},
        "paths": [{"type": "directory", "surprise-8": 1}],
        "layering": {"surprise-9": 1},
        "certificates": {"surprise-10": 1, "additional": [{"surprise-11": null}]},
    });
    for found in [gaps(attested(&unknown)), gaps(file(&unknown))] {
        for number in 1..=11 {
            let name = format!("surprise-{number}");
            let named = |gap: &String| gap.split(['.', ':', ' ']).any(|part| part == name);
            assert!(found.iter().any(named), "{name} is not named: {found:?}");
        }
    }
}

#[test]
fn unset_values_of_refused_fields_say_nothing() {
    let unset = json!({"format": "", "os-release": null, "options": {},
        "contents": {"baseimage": {"image": "", "apkindex": ""}}});
    assert!(attested(&unset).is_ok());
}

#[test]
fn the_page_names_every_field() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SUPPORT.md");
    let page = std::fs::read_to_string(page).unwrap();
    for (field, _, fate) in fields() {
        let line = page.lines().find(|line| line.starts_with(&format!("| `{field}` |")));
        let line = line.unwrap_or_else(|| panic!("docs/SUPPORT.md does not name {field}"));
        let word = match fate {
            Supported => "| yes |",
            Refused => "| refused |",
            InFilesOnly => "| in files |",
        };
        assert!(line.contains(word), "{line}");
    }
}
