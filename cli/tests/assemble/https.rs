//! A repository over HTTPS, keys by discovery: the same bytes as from a mirror of it on disk.

use super::{
    server::HttpsServer,
    support::{Call, published},
};
use std::{fs, sync::Arc};

/// A list like Alpine's: one branch, the fixtures' key, and one that was deprecated long ago and is
/// not there any more.
fn release_list(here: &str) -> String {
    let key = |name: &str| format!("{here}/{name}");
    let good = serde_json::json!({"url": key("assay-test-6a1f.rsa.pub")});
    let old = serde_json::json!({"url": key("old.rsa.pub"), "deprecated_since": "2020-01-31"});
    let keys = serde_json::json!({"x86_64": [old, good], "aarch64": [good]});
    let edge = serde_json::json!({"rel_branch": "edge", "keys": {"x86_64": [old]}});
    let branch = serde_json::json!({"rel_branch": "v3.20", "keys": keys});
    serde_json::json!({"release_branches": [edge, branch]}).to_string()
}

/// The fixtures' packages over HTTPS.
fn serve() -> HttpsServer {
    let server = HttpsServer::new();
    let (here, folder) = (server.address.clone(), published().join("packages"));
    server.serve(Arc::new(move |path| {
        let body = match path {
            "os/apk-configuration" => {
                Some(format!("{{\"jwks_uri\":\"{here}/jwks.json\"}}").into_bytes())
            }
            "releases.json" => Some(release_list(&here).into_bytes()),
            "alpine/v3.20/os/apk-configuration" => None,
            other => {
                let other = other.strip_prefix("alpine/v3.20/").unwrap_or(other);
                fs::read(folder.join(other)).ok()
            }
        };
        body.map_or((404, Vec::new()), |body| (200, body))
    }));
    server
}

#[test]
fn keys_of_alpines_release_list() {
    let working = tempfile::tempdir().unwrap();
    let server = serve();
    let (here, host) = (&server.address, &server.host);
    fs::write(working.path().join("ca.pem"), &server.ca).unwrap();
    let yaml = fs::read_to_string(published().join("configs/hello.yaml")).unwrap();
    let yaml = yaml.replace("https://packages.assay.test", &format!("{here}/alpine/v3.20"));
    fs::write(working.path().join("a.yaml"), yaml).unwrap();
    let registry = format!("[[registry]]\nhost = \"{host}\"\nca = \"ca.pem\"\n");
    fs::write(working.path().join("https.toml"), &registry).unwrap();
    let call = || Call::new(working.path(), "a.yaml").args(&["--policy", "https.toml"]);
    let list = format!("{here}/releases.json");
    let made = call().args(&["--alpine-releases", &list]).run();
    let index = made.index().unwrap();
    assert!(made.out.contains("named by Alpine's release list, both over TLS"), "{}", made.out);
    assert!(!made.out.contains("old.rsa.pub"), "{}", made.out);
    // The key is in the image as if it were in the keyring, apart from what names the keyring.
    let key = working.path().join("assay-test-6a1f.rsa.pub");
    fs::copy(published().join("packages/assay-test-6a1f.rsa.pub"), &key).unwrap();
    let key = key.to_str().unwrap();
    assert_ne!(call().args(&["--keyring", key]).run().index().unwrap(), index);
    // Without the list nobody vouches for the index, and a remark says what apko would do.
    let without = call().run();
    assert_eq!(without.code, Some(14), "{}", without.said);
    assert!(without.said.contains("--alpine-releases"), "{}", without.said);
    // A list from a mirror vouches for nothing; a pinned key needs no list that does.
    let served = tempfile::tempdir().unwrap();
    fs::write(served.path().join("releases.json"), release_list(here)).unwrap();
    let mirror = format!("{here}/={}", served.path().display());
    let mirrored = || call().args(&["--alpine-releases", &list, "--mirror", &mirror]);
    let unproven = mirrored().run();
    assert_eq!(unproven.code, Some(14), "{}", unproven.said);
    assert!(unproven.said.contains("release list"), "{}", unproven.said);
    let pins = format!(
        "{registry}\n[[package_repository]]\nurl = \"{here}/*\"\nkeys = \"discovery\"\n\
         pins = [\"{}\"]\ncomplete = true\n",
        attest::Digest::of(&fs::read(key).unwrap())
    );
    fs::write(working.path().join("https.toml"), pins).unwrap();
    assert_eq!(mirrored().run().index().unwrap(), index);
    // What is not such a list ends the build, as a list that is not there does.
    for (name, code) in [("jwks.json", 1), ("nothing.json", 2)] {
        let list = format!("{here}/{name}");
        let run = call().args(&["--alpine-releases", &list]).run();
        assert_eq!(run.code, Some(code), "{name}: {}", run.said);
    }
}

#[test]
fn over_https_and_from_a_mirror_the_same_bytes() {
    let working = tempfile::tempdir().unwrap();
    let packages = published().join("packages");
    let server = serve();
    let (here, host) = (&server.address, &server.host);
    fs::write(working.path().join("ca.pem"), &server.ca).unwrap();
    let key = fs::read(packages.join("assay-test-6a1f.rsa.pub")).unwrap();
    fs::write(working.path().join("key.rsa.pub"), &key).unwrap();
    let yaml = fs::read_to_string(published().join("configs/hello.yaml")).unwrap();
    fs::write(working.path().join("a.yaml"), yaml.replace("https://packages.assay.test", here))
        .unwrap();
    let registry = format!("[[registry]]\nhost = \"{host}\"\nca = \"ca.pem\"\n");
    fs::write(working.path().join("https.toml"), &registry).unwrap();
    let call = || Call::new(working.path(), "a.yaml").args(&["--policy", "https.toml"]);
    let over_https = call().args(&["--store", "store"]).run();
    let index = over_https.index().unwrap();
    assert!(over_https.out.contains("discovered at its host over TLS"), "{}", over_https.out);
    // What the repository gave is kept for a day on which it does not.
    let keys = fs::read_dir(working.path().join("store/keys")).unwrap().flatten();
    let kept = keys.map(|entry| entry.path()).find(|path| path.extension().is_some());
    let kept: serde_json::Value = super::support::json(&kept.unwrap());
    assert_eq!(kept["repository"], format!("{here}/os"));
    assert_eq!(kept["keys"][0]["vouched"], "own-host");

    // Without the exception a private address is not spoken to: an error, not a verdict.
    let refused = Call::new(working.path(), "a.yaml").run();
    assert_eq!(refused.code, Some(1), "{}", refused.said);
    assert!(!refused.output.exists());

    // From a mirror the same, if the policy pins the key; else nothing vouches for it.
    let served = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(packages.join("jwks.json"), served.path().join("jwks.json"))
        .unwrap();
    fs::create_dir(served.path().join("os")).unwrap();
    let configuration = format!("{{\"jwks_uri\":\"{here}/jwks.json\"}}");
    fs::write(served.path().join("os/apk-configuration"), configuration).unwrap();
    for name in ["x86_64", "aarch64"] {
        let to = served.path().join("os").join(name);
        std::os::unix::fs::symlink(packages.join("os").join(name), to).unwrap();
    }
    let mirror = format!("{here}/={}", served.path().display());
    let pins = format!(
        "[[package_repository]]\nurl = \"{here}/*\"\nkeys = \"discovery\"\npins = [\"{}\"]\n\
         complete = true\n",
        attest::Digest::of(&key)
    );
    fs::write(working.path().join("pins.toml"), pins).unwrap();
    let call = || Call::new(working.path(), "a.yaml").args(&["--mirror", &mirror]);
    assert_eq!(call().args(&["--policy", "pins.toml"]).run().index().unwrap(), index);
    let unproven = call().run();
    assert_eq!(unproven.code, Some(14), "{}", unproven.said);
}

#[test]
fn keys_at_a_host_that_the_policy_lists() {
    let working = tempfile::tempdir().unwrap();
    let (server, elsewhere) = (HttpsServer::new(), serve());
    let (jwks, folder) = (format!("{}/jwks.json", elsewhere.address), published().join("packages"));
    let named = format!("{{\"jwks_uri\":\"{jwks}\"}}");
    let told = named.clone();
    server.serve(Arc::new(move |path| {
        let body = match path {
            "os/apk-configuration" => Some(told.clone().into_bytes()),
            other => fs::read(folder.join(other)).ok(),
        };
        body.map_or((404, Vec::new()), |body| (200, body))
    }));
    let yaml = fs::read_to_string(published().join("configs/hello.yaml")).unwrap();
    let yaml = yaml.replace("https://packages.assay.test", &server.address);
    fs::write(working.path().join("a.yaml"), yaml).unwrap();
    let mut registries = String::new();
    for (name, server) in [("one.pem", &server), ("two.pem", &elsewhere)] {
        fs::write(working.path().join(name), &server.ca).unwrap();
        let host = &server.host;
        registries.push_str(&format!("[[registry]]\nhost = \"{host}\"\nca = \"{name}\"\n\n"));
    }
    let with = |hosts: &str| {
        let text = format!(
            "{registries}[[package_repository]]\nurl = \"{}/*\"\nkeys = \"discovery\"\n\
             jwks_hosts = [{hosts}]\n",
            server.address
        );
        fs::write(working.path().join("policy.toml"), text).unwrap();
        Call::new(working.path(), "a.yaml").args(&["--policy", "policy.toml"])
    };
    // The repository names it, but nobody else does: its host could be anybody's.
    let name = elsewhere.host.split(':').next().unwrap();
    for hosts in ["", "\"keys.example\"", &format!("\"{name}\"")] {
        let refused = with(hosts).run();
        assert_eq!(refused.code, Some(14), "{hosts}: {}", refused.said);
        assert!(refused.said.contains("jwks.json"), "{}", refused.said);
    }
    let listed = format!("\"keys.example\", \"{}\"", elsewhere.host);
    // A mirror may not say where: others publish at that host, too.
    let mirror = working.path().join("mirror");
    fs::create_dir_all(mirror.join("os")).unwrap();
    fs::write(mirror.join("os/apk-configuration"), named).unwrap();
    for name in ["x86_64", "aarch64"] {
        let packages = published().join("packages/os").join(name);
        std::os::unix::fs::symlink(packages, mirror.join("os").join(name)).unwrap();
    }
    let mirror = format!("{}/={}", server.address, mirror.display());
    let refused = with(&listed).args(&["--mirror", &mirror]).run();
    assert_eq!(refused.code, Some(14), "{}", refused.said);
    let made = with(&listed).run();
    assert!(made.index().is_ok(), "{}", made.said);
    assert!(made.out.contains("over TLS at a host that the policy lists"), "{}", made.out);
}
