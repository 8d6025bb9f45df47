//! What lies in deploy/ is at least what its reader expects: YAML that parses and names what it
//! must, units that systemd understands and calls safe, a Containerfile that pulls nothing.

use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn yaml(name: &str) -> Value {
    let text = fs::read_to_string(deploy().join(name)).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn kyvernos_policies_are_about_our_attestation() {
    for (name, kind) in [
        ("kyverno/image-validating-policy.yaml", "ImageValidatingPolicy"),
        ("kyverno/cluster-policy.yaml", "ClusterPolicy"),
    ] {
        let policy = yaml(name);
        assert_eq!(policy["kind"], kind);
        let text = policy.to_string();
        for word in [
            attest::vsa::VSA_V1,
            attest::vsa::SLSA_BUILD_REPRODUCED,
            attest::vsa::ALL_PLATFORMS_REPRODUCED,
            "verificationResult",
            "verifier.id",
            "timeVerified",
        ] {
            assert!(text.contains(word), "{name} does not look at {word}");
        }
    }
    let rego = fs::read_to_string(deploy().join("cosign/reproduced.rego")).unwrap();
    for word in [attest::vsa::VSA_V1, attest::vsa::SLSA_BUILD_REPRODUCED, "default allow := false"]
    {
        assert!(rego.contains(word), "the rego policy does not look at {word}");
    }
}

#[test]
fn containers_pull_nothing_and_may_do_little() {
    let compose = yaml("container/compose.yaml");
    let services = compose["services"].as_object().unwrap();
    assert_eq!(services.len(), 2);
    for (name, service) in services {
        assert_eq!(service["image"], "localhost/assay:latest", "{name}");
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], serde_json::json!(["ALL"]), "{name}");
    }
    let file = fs::read_to_string(deploy().join("container/Containerfile")).unwrap();
    let from: Vec<&str> = file.lines().filter(|line| line.starts_with("FROM ")).collect();
    assert_eq!(from, ["FROM scratch"]);
}

/// The units as they would be installed: with a program that exists in place of ours.
fn units() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (file, installed) in [
        ("assay-coordinator.service", "assay-coordinator.service"),
        ("assay-worker@.service", "assay-worker@acme.service"),
    ] {
        let text = fs::read_to_string(deploy().join("systemd").join(file)).unwrap();
        assert!(text.contains("/usr/local/bin/assay "), "{file} runs something else");
        let text = text.replace("/usr/local/bin/assay ", "/bin/true ");
        fs::write(folder.path().join(installed), text).unwrap();
    }
    folder
}

#[test]
fn systemd_understands_the_units_and_calls_them_safe() {
    let found = harness::peer::installed("systemd-analyze");
    // Part of every machine with systemd; a machine without it has no use for the units.
    let Some(analyze) = found else {
        println_skipped("systemd-analyze is not installed");
        return;
    };
    let folder = units();
    for unit in ["assay-coordinator.service", "assay-worker@acme.service"] {
        let path = folder.path().join(unit);
        let verified = Command::new(&analyze).args(["verify", "--man=no"]).arg(&path).output();
        let verified = verified.unwrap();
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        // Other units of the machine are none of our business.
        let ours: Vec<&str> = said.lines().filter(|line| line.contains("assay-")).collect();
        assert!(verified.status.success() && ours.is_empty(), "{unit}: {said}");
        let security = Command::new(&analyze)
            .args(["security", "--offline=yes", "--no-pager", "--threshold=20"])
            .arg(&path)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&security.stdout).into_owned();
        assert!(security.status.success(), "{unit} is exposed to more than 2.0:\n{text}");
    }
}

// A person who reads the test's output has to see what was not tested.
#[allow(clippy::print_stdout)]
fn println_skipped(why: &str) {
    println!("skipped: {why}");
}
