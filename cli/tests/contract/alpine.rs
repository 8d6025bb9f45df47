//! Images whose repository's keys come from Alpine's release list only: `verify` and the process
//! in which a worker builds, with a real server over TLS, one that works and ones that do not.
//!
//! Invariant: without the list nobody vouches for the packages (gap `keys`); a list that cannot be
//! used is an error and says nothing; neither is ever a pass or a divergence.

use super::bench::{Bench, Run, command, fixtures, https::HttpsServer};
use attest::{
    Digest, Platform, Subject,
    dsse::{Envelope, IN_TOTO},
    evidence::RawEvidence,
    key::SigningKey,
    statement::{Statement, StatementSubject},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use oci::{ImageSource, LayoutWriter, SourceOptions, media};
use serde_json::{Value, json};
use std::{
    fs,
    process::Stdio,
    sync::{Arc, Mutex},
};
use tokio::io::AsyncWriteExt as _;

/// The key that signs the fixtures' packages, and the same under the name of an older one.
const KEY: &str = "assay-test-6a1f.rsa.pub";
const OLD: &str = "assay-test-0000.rsa.pub";

/// A server of Alpine's shape, whose release list and keys answer as they are told.
struct Site {
    server: HttpsServer,
    list: Arc<Mutex<(u16, Vec<u8>)>>,
}

impl Site {
    fn start() -> Self {
        let (server, list) = (HttpsServer::new(), Arc::new(Mutex::new((404, Vec::new()))));
        let (packages, told) = (fixtures().join("packages"), Arc::clone(&list));
        server.serve(Arc::new(move |path| {
            if path == "releases.json" || path == "copy.json" {
                return told.lock().unwrap().clone();
            }
            let file = match path {
                OLD => Some(KEY),
                "html.rsa.pub" => return (200, b"<html>sign in first</html>".to_vec()),
                "broken.rsa.pub" => return (500, Vec::new()),
                path => path.strip_prefix("alpine/v3.20/").or((path == KEY).then_some(path)),
            };
            // Alpine's servers have no discovery of their own.
            let file = file.filter(|file| !file.ends_with("apk-configuration"));
            let body = file.and_then(|file| fs::read(packages.join(file)).ok());
            body.map_or((404, Vec::new()), |body| (200, body))
        }));
        Self { server, list }
    }

    fn releases(&self) -> String {
        format!("{}/releases.json", self.server.address)
    }

    fn answers(&self, status: u16, body: impl Into<Vec<u8>>) {
        *self.list.lock().unwrap() = (status, body.into());
    }

    /// The list names these keys for the fixtures' branch; `-name` is one that is deprecated.
    fn names(&self, keys: &[&str]) {
        let keys: Vec<Value> = keys
            .iter()
            .map(|name| {
                let since = name.starts_with('-').then_some("2020-01-31");
                let name = name.trim_start_matches('-');
                json!({"url": format!("{}/{name}", self.server.address), "deprecated_since": since})
            })
            .collect();
        let branch = json!({"rel_branch": "v3.20", "keys": {"x86_64": keys}});
        self.answers(200, json!({"release_branches": [branch]}).to_string());
    }
}

/// What the publisher of the fixtures says about `hello` for amd64, and that image's digest.
async fn statements() -> (Vec<Value>, String) {
    let cases = super::bench::case("hello");
    let manifest = cases["platforms"]["linux/amd64"]["manifest"].as_str().unwrap().to_owned();
    let reference = format!("oci:{}:demo/hello:latest", fixtures().display()).parse().unwrap();
    let source = ImageSource::open(&reference, &SourceOptions::default()).unwrap();
    let (repository, digest) = ("demo/hello".parse().unwrap(), manifest.parse().unwrap());
    let found = oci::discover(&source, &repository, &digest).await.unwrap();
    let statement = |evidence: &RawEvidence| {
        let blob: Value = serde_json::from_slice(&evidence.bytes).unwrap();
        let payload = blob["dsseEnvelope"]["payload"].as_str().or(blob["payload"].as_str());
        serde_json::from_slice(&STANDARD.decode(payload.unwrap()).unwrap()).unwrap()
    };
    let all = found.evidence.iter().map(statement);
    let all = all.filter(|s: &Value| s["predicateType"] != "https://spdx.dev/Document");
    (all.collect(), manifest)
}

/// A bench with a publisher of its own, and the site.
struct Stage {
    bench: Bench,
    site: Site,
    publisher: SigningKey,
}

impl Stage {
    async fn start() -> Self {
        let stage = Self {
            bench: Bench::start().await,
            site: Site::start(),
            publisher: SigningKey::generate().unwrap(),
        };
        let pem = stage.publisher.public().to_pem();
        fs::write(stage.bench.path("own.pub"), pem).unwrap();
        fs::write(stage.bench.path("ca.pem"), &stage.site.server.ca).unwrap();
        stage
    }

    /// A policy that leaves the keys to discovery. `complete`: no other key may be in an image.
    fn policy(&self, complete: bool) -> String {
        self.policy_that(&format!("complete-{complete}"), &format!("complete = {complete}\n"))
    }

    /// The same with these words about the repository.
    fn policy_that(&self, name: &str, words: &str) -> String {
        let complete = words.contains("complete = true");
        let (here, host) = (&self.site.server.address, &self.site.server.host);
        let registry = self.bench.registry.host();
        // A list that is said to be complete names something: a key that is nowhere.
        let pins = if complete { Digest::of(b"another key").to_string() } else { String::new() };
        let pins = if complete { format!("pins = [\"{pins}\"]\n") } else { pins };
        let text = format!(
            "[[publisher]]\nrepositories = [\"{registry}/demo/*\"]\nkey = \"own.pub\"\n\
             transparency = \"none\"\n\n[[package_repository]]\nurl = \"{here}/*\"\n\
             keys = \"discovery\"\n{words}{pins}\n\
             [[registry]]\nhost = \"{host}\"\nca = \"ca.pem\"\n\n\
             [[registry]]\nhost = \"{registry}\"\nplain_http = true\n"
        );
        let path = self.bench.path(&format!("{name}.toml"));
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Builds `hello` from the site's packages, with the keys that its list names now, and
    /// publishes it with signed statements. Its name and its digest.
    async fn publish(&self, name: &str) -> (String, Digest) {
        let repository = format!("{}/alpine/v3.20", self.site.server.address);
        let text =
            |value: &Value| value.to_string().replace("https://packages.assay.test", &repository);
        let (statements, hello) = statements().await;
        assert_eq!(statements.len(), 2);
        let kind = "https://apko.dev/image-configuration";
        let configuration = statements.iter().find(|s| s["predicateType"] == kind).unwrap();
        let config = self.bench.path("config.json");
        fs::write(&config, text(&configuration["predicate"])).unwrap();
        let output = self.bench.path(&format!("{name}-layout"));
        let policy = self.policy(false);
        let words = ["assemble", config.to_str().unwrap(), "--policy", &policy, "--format", "json"];
        let (to, list) = (output.to_str().unwrap(), self.site.releases());
        let more = ["--as", "apko=1.2.39+1", "--output", to, "--alpine-releases", &list];
        let made = self.bench.assay(&[&words[..], &more].concat()).await;
        assert_eq!(made.code, Some(0), "{made:?}");
        let made = made.json();
        let digest: Digest = made["platforms"][0]["manifest"].as_str().unwrap().parse().unwrap();
        let layout = LayoutWriter::create(self.bench.path(&format!("{name}-published"))).unwrap();
        let mut manifest = Vec::new();
        for blob in fs::read_dir(output.join("blobs/sha256")).unwrap() {
            let bytes = fs::read(blob.unwrap().path()).unwrap();
            if layout.put_blob(&bytes).unwrap() == digest {
                manifest = bytes;
            }
        }
        let repository = format!("demo/{name}").parse().unwrap();
        let image = layout.put_manifest(media::OCI_MANIFEST, &manifest).unwrap();
        layout.tag(&repository, &"latest".parse().unwrap(), &image).unwrap();
        let envelopes = statements.iter().map(|statement| {
            let about = vec![StatementSubject::new(name, &digest)];
            // The provenance names the image of its run.
            let predicate = text(&statement["predicate"]).replace(&hello, &digest.to_string());
            let predicate = serde_json::from_str(&predicate).unwrap();
            let kind = statement["predicateType"].as_str().unwrap();
            let signed = serde_json::to_vec(&Statement::new(about, kind, predicate)).unwrap();
            Envelope::sign(&self.publisher, IN_TOTO, signed).unwrap().to_json()
        });
        let layers: Vec<Value> = envelopes
            .map(|envelope| {
                let digest = layout.put_blob(&envelope).unwrap();
                json!({"mediaType": media::DSSE, "digest": digest, "size": envelope.len()})
            })
            .collect();
        let empty = layout.put_blob(b"{}").unwrap();
        let config_type = "application/vnd.oci.image.config.v1+json";
        let attached = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST, "layers": layers,
            "config": {"mediaType": config_type, "digest": empty, "size": 2},
        });
        let attached = attached.to_string();
        let attached = layout.put_manifest(media::OCI_MANIFEST, attached.as_bytes()).unwrap();
        let tag = format!("{}.att", digest.to_string().replace(':', "-"));
        layout.tag(&repository, &tag.parse().unwrap(), &attached).unwrap();
        self.bench.registry.load_layout(layout.path());
        (self.bench.image(name), digest)
    }

    async fn verify(&self, image: &str, complete: bool, more: &[&str]) -> Run {
        self.bench.verify(image, &self.policy(complete), more).await
    }

    async fn with_list(&self, image: &str, complete: bool) -> Run {
        self.verify(image, complete, &["--alpine-releases", &self.site.releases()]).await
    }

    /// What the building process of a worker answers to an order: its exit and its draft.
    async fn execute(&self, name: &str, digest: Digest, list: Option<String>) -> (Run, Value) {
        let work = self.bench.path("job");
        fs::create_dir_all(&work).unwrap();
        let order = worker::daemon::child::Order {
            subject: Subject {
                repository: format!("{}/demo/{name}", self.bench.registry.host()).parse().unwrap(),
                digest,
                platform: Platform::linux("amd64"),
            },
            index: None,
            policy: self.policy(false).into(),
            alpine_releases: list,
            store: self.bench.path("worker-store"),
            store_mib_max: 64,
            work: work.clone(),
            // The least that a worker may give, see `worker doctor`.
            memory_mib_max: 192,
            threads: 1,
        };
        let mut command = command(self.bench.folder.path());
        // As a worker starts it.
        command.env("MIMALLOC_ARENA_RESERVE", "64M");
        command.args(["worker", "execute"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(&serde_json::to_vec(&order).unwrap()).await.unwrap();
        drop(input);
        let output = child.wait_with_output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let run = Run { code: output.status.code(), out, err };
        let draft = run.json();
        (run, draft)
    }
}

fn outcome(run: &Run) -> (Option<i32>, String, String) {
    let json = run.json();
    let platform = &json["platforms"][0];
    let gap = platform["recipe"]["gaps"][0]["code"].as_str().unwrap_or_default().to_owned();
    (run.code, platform["outcome"].as_str().unwrap_or_default().to_owned(), gap)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_only_the_release_list_names() {
    let stage = Stage::start().await;
    stage.site.names(&["-old.rsa.pub", KEY]);
    let (image, digest) = stage.publish("listed").await;
    let store = stage.bench.path("store");
    let list = stage.site.releases();
    let kept = ["--alpine-releases", list.as_str(), "--store", store.to_str().unwrap()];
    for complete in [false, true] {
        let run = stage.verify(&image, complete, &kept).await;
        assert_eq!(outcome(&run), (Some(0), "reproduced".into(), String::new()), "{run:?}");
        let json = run.json();
        let platform = &json["platforms"][0];
        assert_eq!(
            (&platform["level"], &platform["recipe"]["hints"]),
            (&json!("manifest"), &json!([]))
        );
        let materials = platform["materials"].as_array().unwrap();
        let vouched = |text: &str| {
            materials.iter().find(|m| m["verified_by"].as_str().is_some_and(|by| by.contains(text)))
        };
        let key = vouched("named by Alpine's release list, both over TLS").unwrap();
        // Key and list are in the store, with where they came from.
        for material in [key, vouched("at the address that was given").unwrap()] {
            let hex = material["sha256"].as_str().unwrap().trim_start_matches("sha256:");
            assert!(store.join("blobs").join(&hex[..2]).join(hex).exists());
            let record = fs::read(store.join("records").join(format!("{hex}.json"))).unwrap();
            let record: Value = serde_json::from_slice(&record).unwrap();
            assert_eq!((&record["uri"], &record["from"]), (&material["uri"], &material["from"]));
            assert!(record["stored_at"].as_u64().is_some_and(|at| at > 0));
        }
    }
    // Without the list nobody vouches for the packages.
    let run = stage.verify(&image, true, &[]).await;
    assert_eq!(outcome(&run), (Some(14), "not-rebuildable".into(), "keys".into()), "{run:?}");
    // Nor where it did not come over TLS, or names no key for this branch.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("releases.json"), &stage.site.list.lock().unwrap().1).unwrap();
    let mirror = format!("{}/={}", stage.site.server.address, folder.path().display());
    let mirrored = ["--alpine-releases", list.as_str(), "--mirror", &mirror];
    let run = stage.verify(&image, true, &mirrored).await;
    assert_eq!(outcome(&run), (Some(14), "not-rebuildable".into(), "keys".into()), "{run:?}");
    let run = stage.verify(&image, true, &["--alpine-releases", "http://example.com/r"]).await;
    assert_eq!(run.code, Some(2), "{run:?}");

    // The process in which a worker builds: the same three answers.
    let (_, draft) = stage.execute("listed", digest, Some(list.clone())).await;
    assert_eq!(draft["compared"]["level"], "manifest", "{draft}");
    let (_, draft) = stage.execute("listed", digest, None).await;
    let said = draft["outcome"].to_string();
    assert!(said.contains("\"keys\"") && draft["compared"].is_null(), "{draft}");
    stage.site.answers(503, "");
    let (run, draft) = stage.execute("listed", digest, Some(list)).await;
    assert_eq!((run.code, &draft["outcome"]), (Some(0), &Value::Null), "{draft}");
    assert!(draft["problem"].as_str().unwrap().contains("releases.json"), "{draft}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_cannot_be_used_says_nothing() {
    let stage = Stage::start().await;
    stage.site.names(&[KEY]);
    let (image, _) = stage.publish("silent").await;
    let many: Vec<String> = (0..65).map(|n| format!("{n}.rsa.pub")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let site = &stage.site;
    let faults: [(&str, &dyn Fn()); 9] = [
        ("not there", &|| site.answers(404, "")),
        ("down", &|| site.answers(503, "")),
        ("no list", &|| site.answers(200, "<html>sign in first</html>")),
        ("another list", &|| site.answers(200, "{\"release_branches\": 3}")),
        ("too large", &|| site.answers(200, vec![b' '; (8 << 20) + 1])),
        ("too many keys", &|| site.names(&many)),
        ("a key that is gone", &|| site.names(&[KEY, "nowhere.rsa.pub"])),
        ("a key that is none", &|| site.names(&[KEY, "html.rsa.pub"])),
        ("a key that cannot be read", &|| site.names(&[KEY, "broken.rsa.pub"])),
    ];
    for (fault, begin) in faults {
        begin();
        let run = stage.with_list(&image, true).await;
        assert_eq!(outcome(&run), (Some(1), "error".into(), String::new()), "{fault}: {run:?}");
    }
    // A list for other branches names nothing: then it is as without one.
    let other = json!({"release_branches": [{"rel_branch": "edge", "keys": {}}]});
    site.answers(200, other.to_string());
    let run = stage.with_list(&image, true).await;
    assert_eq!(outcome(&run), (Some(14), "not-rebuildable".into(), "keys".into()), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_list_calls_deprecated_is_a_gap_and_a_planted_one_a_divergence() {
    let stage = Stage::start().await;
    stage.site.names(&[OLD, KEY]);
    let (image, _) = stage.publish("older").await;
    let run = stage.with_list(&image, true).await;
    assert_eq!(outcome(&run), (Some(0), "reproduced".into(), String::new()), "{run:?}");
    // Given when the image was made, deprecated since.
    stage.site.names(&[&format!("-{OLD}"), KEY]);
    let run = stage.with_list(&image, true).await;
    assert_eq!(outcome(&run), (Some(14), "not-rebuildable".into(), "keys".into()), "{run:?}");
    // Never named by anybody.
    stage.site.names(&[KEY]);
    let run = stage.with_list(&image, true).await;
    assert_eq!(outcome(&run), (Some(10), "diverged".into(), String::new()), "{run:?}");
    // Where the policy does not call the list complete, nothing can be said.
    let run = stage.with_list(&image, false).await;
    assert_eq!(outcome(&run), (Some(14), "not-rebuildable".into(), "keys".into()), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_counted_once_counts_from_the_archive_where_the_policy_says_so() {
    let stage = Stage::start().await;
    stage.site.names(&[OLD, KEY]);
    let (older, _) = stage.publish("older").await;
    let archived = stage.policy_that("archived", "complete = true\narchived = true\n");
    let path = |name: &str| stage.bench.path(name).to_str().unwrap().to_owned();
    let list = stage.site.releases();
    let verify = async |image: &str, policy: &str, store: &str, listed: bool| {
        let kept = ["--store", store];
        let more = [&kept[..], &["--alpine-releases", &list]].concat();
        let run = stage.bench.verify(image, policy, if listed { &more } else { &kept }).await;
        (outcome(&run), run)
    };
    let reproduced = (Some(0), "reproduced".to_owned(), String::new());
    let gap = (Some(14), "not-rebuildable".to_owned(), "keys".to_owned());
    let (kept, fresh) = (path("kept"), path("fresh"));
    // On the day when both count the store keeps both, whatever the policy says.
    let (said, run) = verify(&older, &stage.policy(true), &kept, true).await;
    assert_eq!(said, reproduced, "{run:?}");
    // Later one is deprecated. Only who kept it, and lets it count, can rebuild the image.
    stage.site.names(&[&format!("-{OLD}"), KEY]);
    let (said, run) = verify(&older, &archived, &kept, true).await;
    assert_eq!(said, reproduced, "{run:?}");
    let materials = run.json()["platforms"][0]["materials"].to_string();
    assert!(materials.contains("archived: named by Alpine's release list"), "{materials}");
    // That the image told to take it is a hint.
    assert_eq!(run.json()["platforms"][0]["recipe"]["hints"][0]["name"], "key-set");
    for (policy, store) in [(&stage.policy(true), &kept), (&archived, &fresh)] {
        let (said, run) = verify(&older, policy, store, true).await;
        assert_eq!(said, gap, "{run:?}");
    }
    // A new image does not have it: that is no hint, as nobody would put it there today.
    let (newer, _) = stage.publish("newer").await;
    let (said, run) = verify(&newer, &archived, &kept, true).await;
    assert_eq!(said, reproduced, "{run:?}");
    assert_eq!(run.json()["platforms"][0]["recipe"]["hints"], json!([]));
    // What counted by one list counts neither without one nor by another.
    let (said, run) = verify(&older, &archived, &kept, false).await;
    assert_eq!(said, gap, "{run:?}");
    let copy = format!("{}/copy.json", stage.site.server.address);
    let other = ["--store", &kept, "--alpine-releases", &copy];
    let run = stage.bench.verify(&older, &archived, &other).await;
    assert_eq!(outcome(&run), gap, "{run:?}");
    // The fresh store saw the other key only: what was never given is a planted one.
    stage.site.names(&[KEY]);
    let (said, run) = verify(&older, &archived, &fresh, true).await;
    assert_eq!(said, (Some(10), "diverged".into(), String::new()), "{run:?}");
    // An archive that cannot be read says nothing about the image.
    let file = fs::read_dir(stage.bench.path("kept").join("keys")).unwrap().flatten();
    let file = file.map(|entry| entry.path()).find(|p| p.extension().is_some_and(|e| e == "json"));
    fs::write(file.unwrap(), b"{}").unwrap();
    let (said, run) = verify(&older, &archived, &kept, true).await;
    assert_eq!(said, (Some(1), "error".into(), String::new()), "{run:?}");
}
