//! Layouts that lie, lack, link out or block: each ends with its own named error.

use attest::Digest;
use oci::{
    Descriptor, Error, ErrorKind, EvidenceKind, Image, ImageReference, ImageSource, SourceOptions,
    discover_image, media,
};
use serde_json::{Value, json};
use std::{fs, os::unix::fs::symlink, path::Path};
use tempfile::TempDir;

/// A layout under construction, written by hand so that it can be wrong.
pub struct Folder {
    pub dir: TempDir,
    entries: Vec<Value>,
}

impl Folder {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let mut folder = Self { dir, entries: Vec::new() };
        folder.write_index();
        folder
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let descriptor = Descriptor::of(media_type, bytes);
        fs::write(self.blob_path(&descriptor.digest), bytes).unwrap();
        descriptor
    }

    pub fn blob_path(&self, digest: &Digest) -> std::path::PathBuf {
        self.path().join("blobs/sha256").join(digest.hex())
    }

    pub fn json(&self, media_type: &str, value: &Value) -> Descriptor {
        self.blob(media_type, &serde_json::to_vec(value).unwrap())
    }

    pub fn tag(&mut self, name: &str, descriptor: &Descriptor) {
        let mut value = descriptor.to_json();
        value["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        self.entries.push(value);
        self.write_index();
    }

    pub fn write_index(&mut self) {
        let index = json!({ "schemaVersion": 2, "manifests": self.entries });
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
    }

    /// An image of one platform with one layer.
    pub fn image(&self, architecture: &str) -> Descriptor {
        let config = json!({ "os": "linux", "architecture": architecture });
        let config = self.json(media::IMAGE_CONFIG, &config);
        let layer = self.blob("application/vnd.oci.image.layer.v1.tar", architecture.as_bytes());
        self.manifest(json!({}), &config, &[layer])
    }

    pub fn manifest(&self, extra: Value, config: &Descriptor, layers: &[Descriptor]) -> Descriptor {
        let layers: Vec<Value> = layers.iter().map(Descriptor::to_json).collect();
        let mut value = json!({
            "schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
            "config": config.to_json(), "layers": layers,
        });
        value.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        self.json(media::OCI_MANIFEST, &value)
    }

    pub fn index(&self, entries: &[Value]) -> Descriptor {
        let value =
            json!({ "schemaVersion": 2, "mediaType": media::OCI_INDEX, "manifests": entries });
        self.json(media::OCI_INDEX, &value)
    }

    pub fn reference(&self, rest: &str) -> ImageReference {
        format!("oci:{}{rest}", self.path().display()).parse().unwrap()
    }

    pub fn open(&self) -> Result<ImageSource, Error> {
        ImageSource::open(&self.reference(":x:y"), &SourceOptions::default())
    }

    pub async fn read(&self, rest: &str) -> Result<Image, Error> {
        Image::read(&self.open()?, &self.reference(rest)).await
    }
}

fn with_platform(descriptor: &Descriptor, platform: Value, annotations: Value) -> Value {
    let mut value = descriptor.to_json();
    value["platform"] = platform;
    value["annotations"] = annotations;
    value
}

#[tokio::test]
async fn wrong_bytes_sizes_and_missing_files_have_their_own_errors() {
    let mut folder = Folder::new();
    let image = folder.image("amd64");
    folder.tag("x:y", &image);
    folder.read(":x:y").await.unwrap();

    let bytes = fs::read(folder.blob_path(&image.digest)).unwrap();
    let mut other = bytes.clone();
    *other.last_mut().unwrap() = b' ';
    fs::write(folder.blob_path(&image.digest), &other).unwrap();
    assert_eq!(folder.read(":x:y").await.unwrap_err().kind(), ErrorKind::WrongDigest);
    fs::write(folder.blob_path(&image.digest), &bytes[1..]).unwrap();
    assert_eq!(folder.read(":x:y").await.unwrap_err().kind(), ErrorKind::WrongSize);
    fs::remove_file(folder.blob_path(&image.digest)).unwrap();
    assert_eq!(folder.read(":x:y").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn links_that_lead_out_pipes_and_folders_are_refused() {
    let mut folder = Folder::new();
    let image = folder.image("amd64");
    folder.tag("x:y", &image);
    let outside = tempfile::tempdir().unwrap();
    let path = folder.blob_path(&image.digest);
    let moved = outside.path().join("manifest");
    fs::rename(&path, &moved).unwrap();
    symlink(&moved, &path).unwrap();
    let error = folder.read(":x:y").await.unwrap_err();
    assert!(error.to_string().contains("a link that leads out"), "{error}");

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = folder.read(":x:y").await.unwrap_err();
    assert!(error.to_string().contains("a regular file"), "{error}");

    fs::remove_dir(&path).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    let error = folder.read(":x:y").await.unwrap_err();
    assert!(error.to_string().contains("a regular file"), "{error}");

    // A link that stays inside is how some build tools lay out blobs.
    fs::remove_file(&path).unwrap();
    fs::rename(&moved, folder.path().join("elsewhere")).unwrap();
    symlink(folder.path().join("elsewhere"), &path).unwrap();
    folder.read(":x:y").await.unwrap();
}

#[tokio::test]
async fn no_layout_and_broken_layouts() {
    let nothing: ImageReference = "oci:/nowhere/at/all:x:y".parse().unwrap();
    let error = ImageSource::open(&nothing, &SourceOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);

    let folder = Folder::new();
    let index = folder.path().join("index.json");
    fs::write(&index, "{").unwrap();
    assert_eq!(folder.open().unwrap_err().kind(), ErrorKind::Malformed);
    fs::write(&index, " ".repeat(media::INDEX_JSON_BYTES_MAX as usize + 1)).unwrap();
    assert_eq!(folder.open().unwrap_err().kind(), ErrorKind::TooLarge);
    fs::remove_file(&index).unwrap();
    assert_eq!(folder.open().unwrap_err().kind(), ErrorKind::NotFound);
    fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"9"}"#).unwrap();
    assert!(folder.open().unwrap_err().to_string().contains("1.0.0"));
}

#[tokio::test]
async fn one_name_for_two_images_is_refused() {
    let mut folder = Folder::new();
    let (one, two) = (folder.image("amd64"), folder.image("arm64"));
    folder.tag("x:y", &one);
    folder.tag("x:y", &one);
    folder.read(":x:y").await.unwrap();
    folder.tag("x:y", &two);
    let error = folder.read(":x:y").await.unwrap_err();
    assert!(error.to_string().contains("one entry named x:y"), "{error}");
}

#[tokio::test]
async fn names_without_a_colon_and_entries_without_a_name() {
    let mut folder = Folder::new();
    let image = folder.image("amd64");
    folder.tag("latest", &image);
    let found = folder.read(":latest").await.unwrap();
    assert_eq!(found.repository().as_str(), "latest");
    let by_digest = folder.read(&format!("@{}", image.digest)).await.unwrap();
    assert_eq!(by_digest.repository().as_str(), "latest");

    let mut folder = Folder::new();
    let image = folder.image("amd64");
    folder.entries.push(image.to_json());
    folder.write_index();
    let found = folder.read(&format!("@{}", image.digest)).await.unwrap();
    assert_eq!(found.repository().as_str(), "unnamed");
}

#[tokio::test]
async fn an_index_in_an_index_and_strange_entries_are_refused() {
    let mut folder = Folder::new();
    let inner = folder.index(&[]);
    let outer = folder.index(&[inner.to_json()]);
    folder.tag("x:y", &outer);
    let error = folder.read(":x:y").await.unwrap_err();
    assert!(matches!(error, Error::IndexInIndex { position: 0, .. }), "{error}");

    let strange = folder.blob("application/vnd.docker.distribution.manifest.v1+json", b"{}");
    let index = folder.index(&[strange.to_json()]);
    folder.tag("x:z", &index);
    assert_eq!(folder.read(":x:z").await.unwrap_err().kind(), ErrorKind::Malformed);
}

#[tokio::test]
async fn only_true_attestation_manifests_are_left_out() {
    let mut folder = Folder::new();
    let image = folder.image("amd64");
    let config =
        folder.json(media::IMAGE_CONFIG, &json!({"os":"unknown","architecture":"unknown"}));
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v0.1", "subject": [],
        "predicateType": "https://slsa.dev/provenance/v0.2", "predicate": {},
    });
    let statement = folder.json(media::IN_TOTO, &statement);
    let script = folder.json(media::IN_TOTO, &json!({ "_type": "a layer in disguise" }));
    let truthful = folder.manifest(json!({}), &config, std::slice::from_ref(&statement));
    let disguised = folder.manifest(json!({}), &config, &[statement, script]);
    let empty = folder.manifest(json!({}), &config, &[]);

    let unknown = || json!({"os":"unknown","architecture":"unknown"});
    let marks = || {
        json!({"vnd.docker.reference.type":"attestation-manifest",
               "vnd.docker.reference.digest": image.digest.to_string()})
    };
    let amd64 = || json!({"os":"linux","architecture":"amd64"});
    let entries = [
        with_platform(&image, amd64(), json!({})),
        with_platform(&truthful, unknown(), marks()), // the only one to be left out
        with_platform(&disguised, unknown(), marks()),
        with_platform(&empty, unknown(), marks()),
        with_platform(&truthful, unknown(), json!({})),
        with_platform(&truthful, amd64(), marks()),
        with_platform(&image, Value::Null, marks()),
    ];
    let index = folder.index(&entries);
    folder.tag("x:y", &index);
    let found = folder.read(":x:y").await.unwrap();
    let judged: Vec<(usize, String)> =
        found.entries.iter().map(|e| (e.position, e.platform.to_string())).collect();
    let expected = [
        (0, "linux/amd64"),
        (2, "unknown/unknown"),
        (3, "unknown/unknown"),
        (4, "unknown/unknown"),
        (5, "linux/amd64"),
        (6, "linux/amd64"),
    ];
    assert_eq!(judged, expected.map(|(at, text)| (at, text.to_owned())));
    assert_eq!(found.attestations.len(), 1);

    // Entries 4 and 5 are the left-out manifest once more, now to be judged: what is attached to
    // them is looked for, although the manifest was read as evidence before.
    let empty = folder.blob(media::EMPTY, b"{}");
    let bundle = folder.blob(media::BUNDLE_V03, b"{}");
    let about = json!({ "artifactType": media::BUNDLE_V03, "subject": truthful.to_json() });
    let referrer = folder.manifest(about, &empty, &[bundle]);
    folder.tag("x:referrer", &referrer);
    let discovery = discover_image(&folder.open().unwrap(), &found).await.unwrap();
    assert_eq!(discovery.problems, []);
    assert_eq!(discovery.evidence.len(), 2);
    assert_eq!(discovery.evidence[1].attached_to, truthful.digest);
    let [evidence] = &discovery.evidence[..1] else { panic!("{:?}", discovery.evidence) };
    assert_eq!(evidence.kind, EvidenceKind::UnsignedStatement);
    assert_eq!(evidence.attached_to, image.digest);
}

#[tokio::test]
async fn broken_referrers_are_problems_not_silence() {
    let mut folder = Folder::new();
    let image = folder.image("amd64");
    folder.tag("x:y", &image);
    let empty = folder.blob(media::EMPTY, b"{}");
    let bundle = folder.blob(media::BUNDLE_V03, b"{\"a bundle\":1}");
    let other = folder.blob(media::BUNDLE_V03, b"{\"another\":1}");
    let about = |subject: &Descriptor| {
        let subject = subject.to_json();
        json!({ "artifactType": media::BUNDLE_V03, "subject": subject })
    };
    let good = folder.manifest(about(&image), &empty, std::slice::from_ref(&bundle));
    let twins = folder.manifest(about(&image), &empty, &[bundle.clone(), other.clone()]);
    let foreign = folder.manifest(about(&other), &empty, std::slice::from_ref(&bundle));
    let none = folder.manifest(json!({}), &empty, std::slice::from_ref(&bundle));
    let not_json = folder.blob(media::OCI_MANIFEST, b"not json");
    let gone = Descriptor::of(media::OCI_MANIFEST, b"deleted");
    let mut sbom = folder.manifest(json!({}), &empty, &[]);
    sbom.artifact_type = Some("application/spdx+json".into());
    // Old clients write the empty type for a bundle.
    let mut listed = good.clone();
    listed.artifact_type = Some(media::EMPTY.into());
    let all = [&listed, &twins, &foreign, &none, &not_json, &gone, &sbom];
    let referrers = folder.index(&all.map(Descriptor::to_json));
    folder.tag(&format!("x:{}", image.digest.fallback_tag()), &referrers);
    // By subject only, as a tagged entry of the same repository; and one of another repository.
    let late = folder.manifest(about(&image), &empty, std::slice::from_ref(&other));
    folder.tag("x:late", &late);
    let stranger = folder.blob(media::BUNDLE_V03, b"{\"a stranger\":1}");
    let stranger = folder.manifest(about(&image), &empty, &[stranger]);
    folder.tag("stranger:late", &stranger);

    let found = folder.read(":x:y").await.unwrap();
    let discovery = discover_image(&folder.open().unwrap(), &found).await.unwrap();
    let mut bytes: Vec<_> = discovery.evidence.iter().map(|e| e.digest).collect();
    bytes.sort();
    let mut expected = vec![bundle.digest, other.digest];
    expected.sort();
    assert_eq!(bytes, expected);
    let about = |descriptor: &Descriptor| {
        let uri = format!("oci://x@{}", descriptor.digest);
        discovery.problems.iter().find(|p| p.uri == uri).map(|p| p.message.clone()).unwrap()
    };
    assert!(about(&twins).contains("exactly one layer"));
    assert!(about(&foreign).contains("with subject"));
    assert!(about(&none).contains("found none"));
    assert!(about(&not_json).contains("JSON"));
    assert!(about(&gone).contains("found none"));
    assert_eq!(discovery.problems.len(), 5, "{:?}", discovery.problems);
}

#[tokio::test]
async fn a_referrers_tag_that_is_no_index_and_one_that_is_too_long() {
    let mut folder = Folder::new();
    let image = folder.image("amd64");
    folder.tag("x:y", &image);
    let tag = format!("x:{}", image.digest.fallback_tag());
    folder.tag(&tag, &image);
    let found = folder.read(":x:y").await.unwrap();
    let discovery = discover_image(&folder.open().unwrap(), &found).await.unwrap();
    assert_eq!(discovery.problems.len(), 1, "{:?}", discovery.problems);

    let mut folder = Folder::new();
    let image = folder.image("amd64");
    folder.tag("x:y", &image);
    let entries: Vec<Value> = (0..=media::REFERRERS_MAX)
        .map(|n| Descriptor::of(media::OCI_MANIFEST, n.to_string().as_bytes()).to_json())
        .collect();
    let referrers = folder.index(&entries);
    folder.tag(&tag, &referrers);
    let found = folder.read(":x:y").await.unwrap();
    let error = discover_image(&folder.open().unwrap(), &found).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
}
