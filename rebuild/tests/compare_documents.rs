//! Manifests and configurations: which fields may differ at which level, and documents that two
//! parsers could read in two ways.

mod compare_images;

use attest::Level;
use compare_images::{
    GZIP, causes, config, file, gzip, image, kinds, manifest, of_blobs, run, tar, uncompressed,
    with_manifest,
};
use rebuild::compare::{CompareError, Comparison, LayerForm, MemoryImage, Options, compare};
use serde_json::{Value, json};

fn sample() -> Vec<u8> {
    tar(&[file("a", b"some content")])
}

fn honest() -> MemoryImage {
    image(&[&sample()])
}

/// A manifest with a change, against our uncompressed build of the same image.
fn changed(change: impl FnOnce(&mut Value)) -> Comparison {
    run(&with_manifest(&honest(), change), &uncompressed(&honest()))
}

#[test]
fn manifest_fields_that_we_did_not_produce() {
    let subject = json!({"mediaType": GZIP, "digest": attest::Digest::of(b"x"), "size": 1});
    let cases: Vec<(&str, &str, Level, Comparison)> = vec![
        ("manifest.annotation", "/annotations", Level::Rootfs, {
            changed(|m| m["annotations"] = json!({"org.example": "x"}))
        }),
        ("manifest.annotation", "/layers/0/annotations", Level::Rootfs, {
            changed(|m| m["layers"][0]["annotations"] = json!({"a": "b"}))
        }),
        ("manifest.annotation", "/config/annotations", Level::Rootfs, {
            changed(|m| m["config"]["annotations"] = json!({"a": "b"}))
        }),
        ("manifest.subject", "/subject", Level::Rootfs, changed(|m| m["subject"] = subject)),
        ("manifest.artifact_type", "/artifactType", Level::Rootfs, {
            changed(|m| m["artifactType"] = "application/x".into())
        }),
        ("manifest.descriptor", "/layers/0/urls", Level::Rootfs, {
            changed(|m| m["layers"][0]["urls"] = json!(["https://elsewhere.example/blob"]))
        }),
        ("manifest.descriptor", "/layers/0/data", Level::None, {
            changed(|m| m["layers"][0]["data"] = "QQ==".into())
        }),
        ("manifest.descriptor", "/config/data", Level::None, {
            changed(|m| m["config"]["data"] = "e30=".into())
        }),
        ("manifest.descriptor", "/layers/0/platform", Level::None, {
            changed(|m| m["layers"][0]["platform"] = json!({"os": "linux"}))
        }),
        ("manifest.unknown_field", "/Layers", Level::None, changed(|m| m["Layers"] = json!([]))),
        ("manifest.unknown_field", "/x~1y", Level::None, changed(|m| m["x/y"] = json!(null))),
        ("manifest.media_type", "/config/mediaType", Level::None, {
            changed(|m| m["config"]["mediaType"] = "application/json".into())
        }),
        ("manifest.media_type", "/mediaType", Level::None, {
            changed(|m| m["mediaType"] = "application/json".into())
        }),
        ("manifest.media_type", "/mediaType", Level::Rootfs, {
            changed(|m| {
                m["mediaType"] = "application/vnd.docker.distribution.manifest.v2+json".into()
            })
        }),
        ("manifest.media_type", "/mediaType", Level::Rootfs, {
            changed(|m| drop(m.as_object_mut().unwrap().remove("mediaType")))
        }),
    ];
    for (kind, path, level, found) in cases {
        assert_eq!(found.level, level, "{path}");
        let has = |e: &&rebuild::compare::Event| e.kind.as_str() == kind;
        let event = found.explanation.events.iter().find(has);
        let event = event.unwrap_or_else(|| panic!("{path}: {:?}", kinds(&found)));
        assert!(event.path.as_deref().unwrap().starts_with(path), "{path}: {event:?}");
    }
}

/// The same values written with other bytes are level `config`; a value that two parsers could
/// read differently is no manifest at all.
#[test]
fn bytes_of_a_manifest() {
    let honest = honest();
    let value: Value = serde_json::from_slice(&honest.manifest).unwrap();
    let with_bytes = |manifest: Vec<u8>| MemoryImage { manifest, ..honest.clone() };
    let pretty = with_bytes(serde_json::to_vec_pretty(&value).unwrap());
    // Ours compressed to the same blobs: the bytes of the JSON are all that is left.
    let found = run(&pretty, &honest);
    assert_eq!((found.level, kinds(&found)), (Level::Config, vec!["manifest.json_bytes"]));
    assert_eq!(causes(&found), ["encoding.json"]);
    assert_eq!(run(&pretty, &uncompressed(&honest)).level, Level::Config);
    let text = String::from_utf8(honest.manifest.clone()).unwrap();
    for bad in [
        text.replacen('{', "{\"config\":{},", 1),
        text.replacen("\"size\":", "\"size\":7,\"size\":", 1),
        text.replace("\"schemaVersion\":2", "\"schemaVersion\":2.0"),
        text.replace("\"schemaVersion\":2", "\"schemaVersion\":1"),
        text.replace("\"layers\":[", "\"layers\":[null,"),
        text.replace("\"layers\":[", "\"layers\":{},\"x\":["),
        text.replace("sha256:", "sha256:X"),
        text.replace("sha256:", "md5:"),
        format!("{text}{text}"),
        format!("{text},"),
        "[]".into(),
        String::new(),
        "null".into(),
        "\u{feff}{}".into(),
        "[".repeat(100_000),
    ] {
        let found = run(&with_bytes(bad.clone().into_bytes()), &honest);
        assert_eq!(found.level, Level::None, "{bad:.200}");
        assert_eq!(kinds(&found), ["manifest.invalid"], "{bad:.200}");
    }
    let found = run(&with_bytes(b"\xff\xfe".to_vec()), &honest);
    assert_eq!(kinds(&found), ["manifest.invalid"]);
}

#[test]
fn another_digest_algorithm_is_unsupported() {
    let sha512 = format!("sha512:{}", "0".repeat(128));
    let published = with_manifest(&honest(), |m| m["layers"][0]["digest"] = sha512.into());
    let error = compare(&published, &honest(), &Options::default()).unwrap_err();
    assert!(matches!(error, CompareError::Unsupported { .. }), "{error}");
    assert!(error.gap().is_some());
}

/// A configuration with a change, in an image that is otherwise what ours is.
fn configured(change: impl FnOnce(&mut Value)) -> Comparison {
    let tar = sample();
    let base = json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
        "author": "us", "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "apko"}],
        "config": {"User": "65532", "Env": ["PATH=/bin", "A=1"], "Cmd": ["/bin/x"],
                   "Labels": {"a": "b", "time": "2026-01-01T00:00:00Z"}},
        "rootfs": config(&[&tar])["rootfs"],
    });
    let mut other = base.clone();
    change(&mut other);
    let blobs = || vec![(GZIP, gzip(&tar))];
    let found = run(&of_blobs(&other, blobs()), &of_blobs(&base, blobs()));
    let bare = run(&of_blobs(&other, blobs()), &uncompressed(&of_blobs(&base, blobs())));
    assert_eq!(found.level, bare.level);
    assert_eq!(found.explanation, bare.explanation);
    found
}

/// Kind, pointer, level, whether `security` says something, the change.
type Case = (&'static str, &'static str, Level, bool, fn(&mut Value));

fn check_fields(cases: Vec<Case>) {
    for (kind, path, level, security, change) in cases {
        let found = configured(change);
        assert_eq!(found.level, level, "{path}");
        assert_eq!(kinds(&found), [kind], "{path}");
        assert_eq!(found.explanation.events[0].path.as_deref(), Some(path));
        assert_eq!(!found.explanation.security.is_empty(), security, "{path}");
    }
}

#[test]
fn configuration_fields() {
    let cases: Vec<Case> = vec![
        ("config.created", "/created", Level::Rootfs, false, |c| {
            c["created"] = "2026-02-01T00:00:00Z".into()
        }),
        ("config.author", "/author", Level::Rootfs, false, |c| c["author"] = "them".into()),
        ("history.created", "/history/0/created", Level::Rootfs, false, |c| {
            c["history"][0]["created"] = "2026-02-01T00:00:00Z".into()
        }),
        ("history.created_by", "/history/0/created_by", Level::Rootfs, false, |c| {
            c["history"][0]["created_by"] = "x".into()
        }),
        ("history.comment", "/history/0/comment", Level::Rootfs, false, |c| {
            c["history"][0]["comment"] = "x".into()
        }),
        ("history.empty_layer", "/history/0/empty_layer", Level::Rootfs, false, |c| {
            c["history"][0]["empty_layer"] = true.into()
        }),
        ("history.count", "/history", Level::Rootfs, false, |c| c["history"] = json!([])),
        ("config.arch", "/architecture", Level::None, false, |c| {
            c["architecture"] = "arm64".into()
        }),
        ("config.arch", "/variant", Level::None, false, |c| c["variant"] = "v8".into()),
        ("config.os_version", "/os.version", Level::None, false, |c| c["os.version"] = "1".into()),
        ("config.user", "/config/User", Level::None, true, |c| c["config"]["User"] = "0".into()),
        ("config.cmd", "/config/Cmd", Level::None, true, |c| c["config"]["Cmd"] = json!(["sh"])),
        ("config.cmd", "/config/Healthcheck", Level::None, true, |c| {
            c["config"]["Healthcheck"] = json!({"Test": ["CMD", "x"]})
        }),
        ("config.cmd", "/config/OnBuild", Level::None, true, |c| {
            c["config"]["OnBuild"] = json!(["RUN x"])
        }),
        ("config.entrypoint", "/config/Entrypoint", Level::None, true, |c| {
            c["config"]["Entrypoint"] = json!(["/bin/sh", "-c"])
        }),
    ];
    check_fields(cases);
}

#[test]
fn configuration_fields_of_the_runtime() {
    let cases: Vec<Case> = vec![
        ("config.workdir", "/config/WorkingDir", Level::None, false, |c| {
            c["config"]["WorkingDir"] = "/tmp".into()
        }),
        ("config.labels", "/config/Labels/a", Level::None, false, |c| {
            c["config"]["Labels"]["a"] = "c".into()
        }),
        ("config.volumes", "/config/Volumes", Level::None, false, |c| {
            c["config"]["Volumes"] = json!({"/x": {}})
        }),
        ("config.exposed", "/config/ExposedPorts", Level::None, false, |c| {
            c["config"]["ExposedPorts"] = json!({"80/tcp": {}})
        }),
        ("config.stop_signal", "/config/StopSignal", Level::None, false, |c| {
            c["config"]["StopSignal"] = "SIGKILL".into()
        }),
        ("config.unknown_field", "/Config", Level::None, false, |c| c["Config"] = json!({})),
        ("config.unknown_field", "/config/user", Level::None, false, |c| {
            c["config"]["user"] = "0".into()
        }),
        ("config.unknown_field", "/rootfs/type", Level::None, false, |c| {
            c["rootfs"]["type"] = "x".into()
        }),
        ("config.env", "/config/Env/A", Level::None, true, |c| {
            c["config"]["Env"][1] = "A=2".into()
        }),
        ("config.env", "/config/Env/B", Level::None, true, |c| {
            c["config"]["Env"].as_array_mut().unwrap().insert(0, "B=".into())
        }),
        ("config.env", "/config/Env/PATH", Level::None, true, |c| {
            c["config"]["Env"].as_array_mut().unwrap().push("PATH=/evil".into())
        }),
        ("config.env", "/config/Env", Level::None, false, |c| {
            c["config"]["Env"] = json!(["A=1", "PATH=/bin"])
        }),
        ("config.env", "/config/Env", Level::None, false, |c| c["config"]["Env"] = "A=1".into()),
    ];
    check_fields(cases);
}

/// A configuration that is equal as JSON and not as bytes is not level `config`: the image ID
/// differs.
#[test]
fn bytes_of_a_configuration() {
    let tar = sample();
    let honest = honest();
    let with_config = |bytes: Vec<u8>| {
        let blob = gzip(&tar);
        let manifest = manifest(&bytes, &[(GZIP, &blob)]);
        let manifest = serde_json::to_vec(&manifest).unwrap();
        MemoryImage { manifest, config: bytes, layers: vec![blob], form: LayerForm::Blob }
    };
    let value: Value = serde_json::from_slice(&honest.config).unwrap();
    let found = run(&with_config(serde_json::to_vec_pretty(&value).unwrap()), &honest);
    assert_eq!((found.level, kinds(&found)), (Level::Rootfs, vec!["config.json_bytes"]));
    let text = String::from_utf8(honest.config.clone()).unwrap();
    for bad in [
        text.replacen("\"User\":", "\"User\":\"0\",\"User\":", 1),
        text.replacen("\"os\":", "\"x\":1.5,\"os\":", 1),
        text.replace("diff_ids", "diff_IDs"),
        text.replace("sha256:", "sha512:"),
        String::new(),
        "{}".into(),
    ] {
        let found = run(&with_config(bad.clone().into_bytes()), &honest);
        assert_eq!(found.level, Level::None, "{bad}");
        assert!(kinds(&found).contains(&"config.invalid"), "{bad}");
    }
    // More or fewer diffIDs than layers.
    for diff_ids in
        [json!([]), json!([value["rootfs"]["diff_ids"][0], value["rootfs"]["diff_ids"][0]])]
    {
        let mut other = value.clone();
        other["rootfs"]["diff_ids"] = diff_ids;
        let found = run(&with_config(serde_json::to_vec(&other).unwrap()), &honest);
        assert_eq!(found.level, Level::None);
        assert!(kinds(&found).contains(&"config.diff_id_count"), "{:?}", kinds(&found));
    }
}

/// Our own image must be right: a defect of ours is an error, never a verdict about theirs.
#[test]
fn our_image_must_be_right() {
    let honest = honest();
    let broken = |manifest: &[u8], config: &[u8]| MemoryImage {
        manifest: manifest.to_vec(),
        config: config.to_vec(),
        ..honest.clone()
    };
    let fewer = with_manifest(&honest, |m| m["layers"] = json!([]));
    for ours in [
        broken(b"{", &honest.config),
        broken(&honest.manifest, b"{"),
        broken(&fewer.manifest, &honest.config),
    ] {
        let error = compare(&honest, &ours, &Options::default()).unwrap_err();
        let ours = matches!(error, CompareError::Rebuilt(_) | CompareError::WrongBytes { .. });
        assert!(ours, "{error}");
        assert_eq!(error.gap(), None);
    }
}
