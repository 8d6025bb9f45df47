//! Policies that are and are not: the file of the command line's contract, each refusal with its
//! line, the digest field by field, drafts.

use super::*;
use crate::key::SigningKey;
use proptest::prelude::*;
use std::collections::BTreeMap;

const FULL: &str = r#"
[[publisher]]
repositories = ["registry.example/demo/*", "oci:*"]
key = "publisher.pub"
transparency = "none"

[[publisher]]
repositories = ["registry.example/keyless/*"]
identity = "https://github.com/acme/*"
issuer = "https://token.actions.githubusercontent.com"

[[package_repository]]
url = "https://packages.assay.test/*"
keys = "discovery"
pins = ["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]
complete = true
jwks_hosts = ["keys.assay.test"]
archived = true

[[package_repository]]
url = "https://other.assay.test/os/*"
keys = ["keys/other-1.rsa.pub"]

[[registry]]
host = "127.0.0.1:5000"
plain_http = true

[[mirror]]
prefix = "https://packages.assay.test/"
url = "file:///srv/mirror/"
complete = true

[[operator]]
name = "acme"
root_key = "acme.pub"
affiliations = ["publisher.example"]
[[operator]]
name = "globex"
root_key = "globex.pub"
[[operator]]
name = "initech"
root_key = "initech.pub"

[quorum]
operators = ["acme", "globex", "initech"]
reproduced = 2
level = "config"
tier = "attested"
hints = ["epoch", "install-order", "key-set"]
dissent_sources = []
diversity = []

[coordinator]
key = "coordinator.pub"

[log]
origin = "log.fleet.example"
key = "log.pub"
inclusion = "required"
witnesses = "witnesses.policy"
full_scan = "none"

[gate]
mode = "enforce"
unknown = "fail"
max_age = "30d"
delay_until = "2027-01-01"
regressions_only = false

[[override]]
repositories = ["registry.example/legacy/*"]
platforms = ["linux/arm64"]
mode = "warn"

[[waiver]]
image = "r.example/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
outcomes = ["diverged"]
reason = "issue 123"
owner = "release@example"
expires = "2027-01-31"
"#;

/// A key for every name, the same one each time.
struct Keys(BTreeMap<String, Vec<u8>>);

impl Keys {
    fn new() -> Self {
        let names = ["publisher", "acme", "globex", "initech", "coordinator", "log", "publisher-2"];
        let mut files: BTreeMap<String, Vec<u8>> = names
            .iter()
            .map(|name| {
                let pem = SigningKey::generate().unwrap().public().to_pem();
                (format!("{name}.pub"), pem.into_bytes())
            })
            .collect();
        files.insert("keys/other-1.rsa.pub".into(), b"an RSA key".to_vec());
        files.insert("witnesses.policy".into(), b"quorum none".to_vec());
        files.insert("not-a-key".into(), vec![0xff]);
        Self(files)
    }

    fn parse(&self, text: &str) -> Result<Policy, PolicyError> {
        Policy::parse(text, &|path| self.0.get(path).cloned().ok_or("no such file".to_owned()))
    }
}

fn repository(text: &str) -> Repository {
    text.parse().unwrap()
}

#[test]
fn the_whole_file_is_read() {
    let policy = Keys::new().parse(FULL).unwrap();
    let quorum = policy.quorum.as_ref().unwrap();
    assert_eq!((quorum.operators.len(), quorum.reproduced), (3, 2));
    assert_eq!((quorum.level, quorum.tier), (Level::Config, Tier::Attested));
    assert_eq!(policy.gate.max_age_seconds, Some(30 * 86_400));
    assert_eq!(policy.gate.delay_until.unwrap().to_string(), "2027-01-01T00:00:00Z");
    assert_eq!(policy.publishers[1].transparency, Transparency::Rekor);
    assert_eq!(
        policy.package_repositories[1].keys,
        KeySource::Files(vec![("other-1.rsa.pub".into(), b"an RSA key".to_vec())])
    );
    assert_eq!(
        policy.mirrors[0].locate("https://packages.assay.test/os/a.apk").unwrap(),
        "file:///srv/mirror/os/a.apk"
    );
    assert_eq!(policy.mirrors[0].locate("https://packages.assay.test.evil/os/a.apk"), None);

    let demo = repository("registry.example/demo/hello");
    assert_eq!(policy.publishers_for(Source::Registry, &demo).count(), 1);
    assert_eq!(policy.publishers_for(Source::Layout, &repository("demo/hello")).count(), 1);
    assert_eq!(policy.publishers_for(Source::Registry, &repository("demo/hello")).count(), 0);

    let legacy = repository("registry.example/legacy/x");
    let mode =
        |platform| policy.gate_for(Source::Registry, &legacy, &Platform::linux(platform)).mode;
    assert_eq!((mode("arm64"), mode("amd64")), (Mode::Warn, Mode::Enforce));

    let (app, digest) = (repository("r.example/app"), Digest::of(b""));
    let digests = [digest];
    let waiver = policy.waivers_for(Source::Registry, &app, &digests).next().unwrap();
    assert!(waiver.counts("diverged", "2027-01-30T23:59:59Z".parse().unwrap()));
    assert!(!waiver.counts("diverged", "2027-01-31T00:00:00Z".parse().unwrap()));
    assert!(!waiver.counts("untrusted", "2027-01-01T00:00:00Z".parse().unwrap()));
    assert_eq!(policy.waivers_for(Source::Layout, &app, &digests).count(), 0);
    assert_eq!(policy.waivers_for(Source::Registry, &app, &[Digest::of(b"x")]).count(), 0);
}

#[test]
fn what_cannot_be_checked_is_named() {
    let keys = Keys::new();
    let policy = keys.parse(FULL).unwrap();
    let demo = repository("registry.example/demo/hello");
    let found = policy.unsupported(Source::Registry, &demo);
    assert_eq!(found, ["log.inclusion = \"required\"", "log.witnesses"]);
    let keyless = policy.unsupported(Source::Registry, &repository("registry.example/keyless/a"));
    assert!(keyless[0].starts_with("publisher.identity"), "{keyless:?}");
    let error = policy.refuse_unsupported(Source::Registry, &demo).unwrap_err();
    assert!(error.to_string().contains("log.inclusion") && error.hint().is_some());
    // Who rebuilds without counting operators needs no log.
    policy.refuse_unsupported_publishers(Source::Registry, &demo).unwrap();
    let keyless = repository("registry.example/keyless/a");
    assert!(policy.refuse_unsupported_publishers(Source::Registry, &keyless).is_err());
    for (from, to, what) in [
        ("full_scan = \"none\"", "full_scan = \"monitor\"", "log.full_scan"),
        ("dissent_sources = []", "dissent_sources = [\"https://a.example\"]", "dissent_sources"),
        ("transparency = \"none\"", "transparency = \"rekor\"", "publisher.transparency"),
    ] {
        let policy = keys.parse(&FULL.replacen(from, to, 1)).unwrap();
        let found = policy.unsupported(Source::Registry, &demo).join(", ");
        assert!(found.contains(what), "{what}: {found}");
    }
    let plain = FULL.replace("\"required\"", "\"none\"").replace("witnesses =", "#");
    keys.parse(&plain).unwrap().refuse_unsupported(Source::Registry, &demo).unwrap();
}

#[test]
fn refusals_name_line_expected_and_found() {
    let keys = Keys::new();
    let same = "[[operator]]\nname = \"globex\"\nroot_key = \"globex.pub\"";
    for (from, to, say) in [
        ("mode = \"enforce\"", "mood = \"enforce\"", "unknown field `mood`"),
        ("[gate]", "[gates]", "unknown field `gates`"),
        ("mode = \"enforce\"", "mode = \"hope\"", "observe, warn, delay or enforce"),
        ("unknown = \"fail\"", "unknown = \"\"", "pass, warn or fail"),
        ("max_age = \"30d\"", "max_age = \"30\"", "a duration like"),
        ("max_age = \"30d\"", "max_age = \"99999999999999999999w\"", "a duration like"),
        ("max_age = \"30d\"", "max_age = \"0d\"", "a duration like"),
        ("max_age = \"30d\"", "max_age = \"3µ\"", "a duration like"),
        ("delay_until = \"2027-01-01\"", "delay_until = \"2027-13-01\"", "a date like"),
        ("reproduced = 2", "reproduced = 0", "1 to 3"),
        ("reproduced = 2", "reproduced = 4", "1 to 3"),
        ("reproduced = 2", "reproduced = -1", "invalid value"),
        ("\"initech\"]", "\"umbrella\"]", "acme, globex, initech"),
        ("\"initech\"]", "\"acme\"]", "each operator once"),
        ("name = \"initech\"", "name = \"acme\"", "each operator once"),
        (same, "[[operator]]\nname = \"globex\"\nroot_key = \"acme.pub\"", "a key of its own"),
        (same, "[[operator]]\nname = \"globex\"\nroot_key = \"publisher.pub\"", "a key of its"),
        ("key = \"coordinator.pub\"", "key = \"acme.pub\"", "neither a publisher's"),
        ("level = \"config\"", "level = \"rootfs\"", "manifest-recompressed or config"),
        ("level = \"config\"", "level = \"none\"", "manifest-recompressed or config"),
        ("tier = \"attested\"", "tier = \"best\"", "attested, hinted or inferred"),
        ("hints = [\"epoch\"", "hints = [\"epoc\"", "install-order-conflicts"),
        ("diversity = []", "diversity = [\"moon\"]", "kernel"),
        ("key = \"publisher.pub\"", "key = \"absent.pub\"", "no such file"),
        ("key = \"publisher.pub\"", "key = \"not-a-key\"", "expected PEM"),
        ("key = \"publisher.pub\"", "key = \"witnesses.policy\"", "expected a PEM block"),
        ("key = \"publisher.pub\"\n", "", "either key, or identity"),
        ("issuer = ", "transparency = ", "either key, or identity"),
        ("transparency = \"none\"", "transparency = \"maybe\"", "none, rekor or any"),
        ("[\"registry.example/demo/*\", \"oci:*\"]", "[]", "repositories with an entry"),
        ("\"oci:*\"", "\"Oci:*\"", "a pattern like"),
        ("\"https://packages.assay.test/*\"", "\"https://*\"", "with the whole host"),
        ("pins = [\"sha256:", "pins = [\"sha256:00", "64 hex digits"),
        ("pins = [", "#", "pins or key files"),
        ("[\"keys.assay.test\"]", "[\"https://keys.assay.test\"]", "without scheme or path"),
        ("[\"keys.assay.test\"]", "[\"\"]", "without scheme or path"),
        ("[\"keys.assay.test\"]", "[\"keys.assay.test:443\"]", "that is not 443"),
        ("archived = true", "archived = \"1y\"", "expected a boolean"),
        ("keys = \"discovery\"", "keys = [\"keys/other-1.rsa.pub\"]", "jwks_hosts or archived"),
        ("keys = \"discovery\"", "keys = \"guess\"", "\"discovery\" or a list of files"),
        ("prefix = \"https://packages.assay.test/\"", "prefix = \"https://p.test\"", "ends with /"),
        ("host = \"127.0.0.1:5000\"", "host = \"http://x/\"", "without scheme"),
        ("origin = \"log.fleet.example\"\n", "", "origin and key"),
        ("outcomes = [\"diverged\"]", "outcomes = [\"reproduced\"]", "one of diverged"),
        ("reason = \"issue 123\"", "reason = \" \"", "not empty"),
        ("expires = \"2027-01-31\"\n", "", "missing field `expires`"),
        ("image = \"r.example/app@", "image = \"r.example/*@", "an image like"),
        ("platforms = [\"linux/arm64\"]", "platforms = [\"arm64\"]", "a platform like"),
    ] {
        assert!(FULL.contains(from), "{from}");
        let text = FULL.replacen(from, to, 1);
        match keys.parse(&text) {
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains(say), "{from} -> {to}: {message}");
                assert!(message.starts_with("line "), "{message}");
            }
            Ok(_) => panic!("{from} -> {to} was accepted"),
        }
    }
}

#[test]
fn a_refusal_has_its_line_and_limits_hold() {
    let keys = Keys::new();
    let error = keys.parse(&FULL.replacen("\"enforce\"", "\"hope\"", 1)).unwrap_err();
    let line = FULL.lines().position(|l| l.starts_with("mode = \"enforce\"")).unwrap() + 1;
    assert!(matches!(error, PolicyError::Value { line: l, key: "gate.mode", .. } if l == line));
    let without_date = FULL.replace("delay_until = \"2027-01-01\"\n", "");
    for delayed in [
        without_date.replacen("mode = \"enforce\"", "mode = \"delay\"", 1),
        without_date.replacen("mode = \"warn\"", "mode = \"delay\"", 1),
    ] {
        assert!(keys.parse(&delayed).unwrap_err().to_string().contains("delay_until"));
    }
    assert!(matches!(
        keys.parse(&"#".repeat(POLICY_BYTES_MAX + 1)),
        Err(PolicyError::TooLarge { .. })
    ));
    let many = "[[registry]]\nhost = \"a\"\n".repeat(LIST_ENTRIES_MAX + 1);
    assert!(matches!(keys.parse(&many), Err(PolicyError::TooMany { key: "registry", .. })));
}

#[test]
fn same_meaning_same_digest_and_no_other() {
    let keys = Keys::new();
    let base = keys.parse(FULL).unwrap().digest();
    let moved = Keys(
        keys.0.iter().map(|(path, bytes)| (format!("elsewhere/{path}"), bytes.clone())).collect(),
    );
    let text = FULL
        .replace(".pub\"\n", ".pub\" # here\n")
        .replace("key = \"", "key = \"elsewhere/")
        .replace("[\"keys/other", "[\"elsewhere/keys/other")
        .replace("witnesses = \"", "witnesses = \"elsewhere/")
        .replace("[\"acme\", \"globex\", \"initech\"]", "[\"initech\", \"globex\", \"acme\"]")
        .replace("[\"epoch\", \"install-order\"", "[\"install-order\", \"epoch\"")
        .replace("\"30d\"", "\"720h\"");
    assert_eq!(moved.parse(&text).unwrap().digest(), base);

    for (from, to) in [
        ("\"oci:*\"", "\"oci:demo/*\""),
        ("transparency = \"none\"", "transparency = \"any\""),
        ("key = \"publisher.pub\"", "key = \"publisher-2.pub\""),
        ("github.com/acme", "github.com/acne"),
        ("issuer = \"https://token", "issuer = \"https://t0ken"),
        ("packages.assay.test/*", "packages.assay.test/os/*"),
        (
            "pins = [",
            "pins = [\"sha256:0000000000000000000000000000000000000000000000000000000000000000\", ",
        ),
        ("complete = true", "complete = false"),
        ("jwks_hosts = [\"keys.assay.test\"]", ""),
        ("jwks_hosts = [\"keys.assay.test\"]", "jwks_hosts = [\"keys.assay.test:8443\"]"),
        ("archived = true", ""),
        ("host = \"127.0.0.1:5000\"", "host = \"127.0.0.1:5001\""),
        ("plain_http = true", "plain_http = false"),
        ("url = \"file:///srv/mirror/\"", "url = \"file:///srv/other/\""),
        ("name = \"acme\"", "name = \"acme-2\""),
        ("root_key = \"acme.pub\"", "root_key = \"log.pub\""),
        ("\"publisher.example\"", "\"p.example\""),
        ("reproduced = 2", "reproduced = 3"),
        ("level = \"config\"", "level = \"manifest\""),
        ("tier = \"attested\"", "tier = \"hinted\""),
        ("\"key-set\"", "\"install-order-conflicts\""),
        ("dissent_sources = []", "dissent_sources = [\"https://a.example\"]"),
        ("diversity = []", "diversity = [\"kernel\"]"),
        ("key = \"coordinator.pub\"", "key = \"publisher-2.pub\""),
        ("origin = \"log", "origin = \"log2"),
        ("key = \"log.pub\"", "key = \"coordinator.pub\""),
        ("inclusion = \"required\"", "inclusion = \"none\""),
        ("witnesses = \"witnesses.policy\"\n", ""),
        ("full_scan = \"none\"", "full_scan = \"required\""),
        ("mode = \"enforce\"", "mode = \"observe\""),
        ("unknown = \"fail\"", "unknown = \"warn\""),
        ("max_age = \"30d\"", "max_age = \"31d\""),
        ("delay_until = \"2027-01-01\"", "delay_until = \"2027-01-02\""),
        ("regressions_only = false", "regressions_only = true"),
        ("registry.example/legacy/*", "registry.example/*"),
        ("[\"linux/arm64\"]", "[]"),
        ("mode = \"warn\"", "mode = \"observe\""),
        ("r.example/app@", "r.example/app2@"),
        ("outcomes = [\"diverged\"]", "outcomes = [\"flaky\"]"),
        ("issue 123", "issue 124"),
        ("release@example", "someone@example"),
        ("2027-01-31", "2027-02-01"),
    ] {
        assert!(FULL.contains(from), "{from}");
        let mut text = FULL.replacen(from, to, 1);
        if from == "name = \"acme\"" {
            text = text.replacen("operators = [\"acme\"", "operators = [\"acme-2\"", 1);
        }
        let policy = keys.parse(&text).unwrap_or_else(|error| panic!("{from}: {error}"));
        assert_ne!(policy.digest(), base, "{from} -> {to}");
    }
}

#[test]
fn explain_says_every_rule() {
    let keys = Keys::new();
    let text = keys.parse(FULL).unwrap().explain();
    for part in [
        "registry.example/demo/* and oci:*",
        "cannot check publisher.identity",
        "2 of 3 (acme, globex and initech)",
        "level config",
        "epoch, install-order and key-set",
        "affiliated with publisher.example",
        "cannot check the log",
        "denies what is not good",
        "30 d 0 h",
        "(linux/arm64) the mode is warn",
        "issue 123 (release@example)",
        "https://packages.assay.test/ are read from file:///srv/mirror/",
        "plain HTTP",
        "That list is complete",
        "A JWKS at keys.assay.test counts",
        "Keys that counted once",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let empty = keys.parse("").unwrap();
    assert_eq!(empty, Policy::default());
    let text = empty.explain();
    assert!(text.contains("Nobody's word") && text.contains("There is no quorum"), "{text}");
}

#[test]
fn a_draft_parses_and_trusts_one_key_file() {
    let keys = Keys::new();
    for (signers, repositories) in [(0, 0), (1, 1), (3, 2), (99, 99)] {
        let draft = Draft {
            source: Source::Layout,
            repository: repository("demo/hello"),
            signers: (0..signers)
                .map(|n| FoundSigner {
                    name: format!("key {n}\"\n[gate]\nmode = \"observe\"\u{7}"),
                    statements: vec!["https://slsa.dev/provenance/v1\n[x]".into()],
                })
                .collect(),
            package_repositories: (0..repositories)
                .map(|n| format!("https://packages-{n}.assay.test/os/"))
                .chain(["\"\n[gate]".to_owned()])
                .collect(),
        };
        let named = Keys(BTreeMap::from([
            ("publisher.pub".to_owned(), keys.0["acme.pub"].clone()),
            ("publisher-1.pub".to_owned(), keys.0["acme.pub"].clone()),
        ]));
        let text = draft.to_toml();
        let policy = named.parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(policy.publishers.len(), 1);
        assert_eq!(policy.package_repositories.len(), repositories.min(16));
        assert_eq!(policy.gate, GatePolicy::default());
        let hello = repository("demo/hello");
        assert_eq!(policy.publishers_for(Source::Layout, &hello).count(), 1);
        assert_eq!(policy.publishers_for(Source::Registry, &hello).count(), 0);
        policy.refuse_unsupported(Source::Layout, &hello).unwrap();
    }
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "(\\PC|\n){0,200}") {
        let _ = Policy::parse(&text, &|_| Err("none".into()));
    }

    #[test]
    fn a_damaged_policy_is_answered(at in 0usize..FULL.len(), byte in any::<u8>()) {
        let mut bytes = FULL.as_bytes().to_vec();
        bytes[at] = byte;
        if let Ok(text) = String::from_utf8(bytes) {
            let _ = Policy::parse(&text, &|_| Ok(b"no key".to_vec()));
        }
    }
}
