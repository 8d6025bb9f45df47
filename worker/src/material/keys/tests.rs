//! What keys of before may sign, and what images may hold.

use super::*;
use attest::policy::UrlPattern;

const OS: &str = "https://packages.example/os";
const EXTRAS: &str = "https://packages.example/extras";
const OTHER: &str = "https://other.example/os";

const KEY: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAxJZlr8q00RtW3BfTCaAw
B1q/NeNqpXcSXci2uXj6LCOchw6Bj5zjqAo6r6SLIa9fOVGc+HKO91f2HA+8pY94
j7houUaWr+NUiYoCHATbLPRXpoUk5F8r1TQeXQGoEi1fn0LueV0t+HQc1keihwH3
3dTd/Jw5bDPmAlcC/Bh7OB+9j9H4aQCkQBPb2uCedDSEfFoCIe/VzV8IOYV2lExR
lPjN8o5ywvssNsB4ElO0O1fDpuozopOqN7IrtNjrjH1+zzNvN1N5nwqS/MRlE1KB
UBktui8tjD4T5mFZFyb4sBt9lRC+YusYo2o8xnIy4Ow46EJ2c+z2cfZCvESArDcV
ZQIDAQAB
-----END PUBLIC KEY-----
";
const ANOTHER: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAsL3B7DThDc4NBeTB5OWV
kzqDhAUzJ/yAGE7L20FqLu+Exdt6RrvwlXNZqNHAIvYeI7VA1MEFaX7724Mu261d
s3VHo3K5QinS6T/xNkCb7s7/x4ENEXoR4ovcxvRPqErdYmlHhTaKDJgZ+KbVxeDV
Q0EllFkAHbnz16N5xIgkbpl2hnKIygLKQu0kDjSblUL8ZWTp6AgPWhTD8PsyKtk7
TWQlJ21vOletKRmHYfIRl6rLCd1Ffru9KQkCE97HH6XFz5cnZht3FnZyXwfs2oEb
LiSMqCxObScc+j3CS5bfxNQ+Zr5+NdCRGA+u+rpkCFipmWEERIHkYexq6YT74FZw
LwIDAQAB
-----END PUBLIC KEY-----
";

fn rule(url: &str) -> PackageRepository {
    PackageRepository {
        url: url.parse::<UrlPattern>().unwrap(),
        keys: KeySource::Discovery,
        pins: BTreeSet::new(),
        complete: true,
        jwks_hosts: BTreeSet::new(),
        archived: true,
    }
}

/// A rule for two of the repositories, and one for the third.
fn policy() -> Policy {
    let rules = ["https://packages.example/*", "https://other.example/*"];
    Policy { package_repositories: rules.map(rule).into(), ..Policy::default() }
}

fn given(name: &str, file: &str, last_seen: u64) -> ArchivedKey {
    ArchivedKey {
        name: name.into(),
        file: file.into(),
        uri: "https://packages.example/jwks.json".into(),
        from: "https://packages.example/jwks.json".into(),
        vouched: Vouched::OwnHost,
        first_seen: 1,
        last_seen,
    }
}

/// The keys of before of three repositories, from a store in which these are kept.
fn keys_of(kept: &[(&str, ArchivedKey)], mut keys: Keys) -> Keys {
    let folder = tempfile::tempdir().unwrap();
    let store = ContentStore::open(folder.path(), 1 << 20).unwrap();
    for (repository, key) in kept {
        store.keep_keys(repository, std::slice::from_ref(key)).unwrap();
    }
    let repositories = [OS, EXTRAS, OTHER].map(str::to_owned);
    keys.add_archived(&policy(), &store, &repositories, None).unwrap();
    keys
}

/// The file that may sign for a repository under this name.
fn signs(keys: &Keys, repository: &str, name: &str) -> Option<Vec<u8>> {
    let ring = keys.ring_of(&format!("{repository}/x86_64"));
    ring.get(name).map(|key| key.file().to_vec())
}

#[test]
fn a_key_of_before_signs_for_what_its_own_rule_covers() {
    let keys = keys_of(&[(OS, given("old.rsa.pub", KEY, 9))], Keys::default());
    let file = Some(KEY.as_bytes().to_vec());
    assert_eq!(signs(&keys, OS, "old.rsa.pub"), file);
    assert_eq!(signs(&keys, EXTRAS, "old.rsa.pub"), file, "the same rule");
    assert_eq!(signs(&keys, OTHER, "old.rsa.pub"), None, "another rule");
    assert!(keys.known.contains_key("old.rsa.pub"), "an image may hold it, as apko puts it there");
    assert_eq!(keys.ring.get("old.rsa.pub"), None);
}

#[test]
fn each_rule_lets_its_own_key_of_one_name_count() {
    let kept = [(OS, given("a.rsa.pub", KEY, 9)), (OTHER, given("a.rsa.pub", ANOTHER, 9))];
    let keys = keys_of(&kept, Keys::default());
    assert_eq!(signs(&keys, OS, "a.rsa.pub"), Some(KEY.as_bytes().to_vec()));
    assert_eq!(signs(&keys, OTHER, "a.rsa.pub"), Some(ANOTHER.as_bytes().to_vec()));
    // Of two of one rule the one that was seen last.
    let kept = [(OS, given("a.rsa.pub", KEY, 8)), (OS, given("a.rsa.pub", ANOTHER, 9))];
    let keys = keys_of(&kept, Keys::default());
    assert_eq!(signs(&keys, OS, "a.rsa.pub"), Some(ANOTHER.as_bytes().to_vec()));
}

#[test]
fn a_key_of_today_signs_for_all_and_none_of_before_has_its_name() {
    let mut today = Keys::default();
    let (from, by) = ("here".to_owned(), "listed");
    today.add("a.rsa.pub", ANOTHER.as_bytes(), OTHER, from, by, Given::Today).unwrap();
    let keys = keys_of(&[(OS, given("a.rsa.pub", KEY, 9))], today);
    for repository in [OS, EXTRAS, OTHER] {
        assert_eq!(signs(&keys, repository, "a.rsa.pub"), Some(ANOTHER.as_bytes().to_vec()));
    }
}
