//! The demonstration with the built binary: a real coordinator, five real workers, one of them
//! dishonest; then gates in fresh processes.

use std::process::Command;

fn assay(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_assay")).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_fleet_finds_out_and_a_fresh_process_agrees() {
    let folder = tempfile::tempdir().unwrap();
    let keep = folder.path().to_str().unwrap();
    let (code, out, said) = assay(&["demo", "--keep", keep]);
    assert_eq!(code, Some(0), "{out}\n{said}");
    assert!(out.contains("Alone against them: mallory"), "{out}");
    // The same evidence with one operator's name bound to another key decides otherwise.
    let policy = std::fs::read_to_string(folder.path().join("gate.toml")).unwrap();
    let other = policy.replace("keys/acme.pub", "keys/other.pub");
    let key = attest::key::SigningKey::generate().unwrap();
    std::fs::write(folder.path().join("keys/other.pub"), key.public().to_pem()).unwrap();
    std::fs::write(folder.path().join("other.toml"), other).unwrap();
    let evidence = folder.path().join("evidence");
    let set = std::fs::read(evidence.join("hello-linux-arm64.json")).unwrap();
    let set = attest::evidence_set::EvidenceSet::parse(&set).unwrap();
    let root = set.index_digest().unwrap();
    let image = format!("{}@{root}", set.subject.repository);
    let check = |policy: &str| {
        let policy = folder.path().join(policy);
        let arguments = ["gate", "check", &image, "--offline", "--strict-exit", "--policy"];
        let rest = [policy.to_str().unwrap(), "--evidence", evidence.to_str().unwrap()];
        assay(&[&arguments[..], &rest[..]].concat())
    };
    let (code, out, said) = check("gate.toml");
    assert_eq!(code, Some(0), "{out}\n{said}");
    // acme's observations do not count any more; where it was one of the three, two are too few.
    let counted = out.contains("acme");
    let (code, out, said) = check("other.toml");
    assert!(code == Some(11) || (!counted && code == Some(0)), "{code:?} {out}\n{said}");
}

#[test]
fn exit_codes_of_bad_calls() {
    let (code, _, said) = assay(&["verify", "registry.example/app:1", "--policy", "/nowhere"]);
    assert_eq!(code, Some(16), "{said}");
    let (code, _, said) = assay(&["verify", "not a reference", "--any-signer"]);
    assert_eq!(code, Some(2), "{said}");
    let (code, _, said) = assay(&["coordinator", "check-config", "/nowhere"]);
    assert_eq!(code, Some(1), "{said}");
}
