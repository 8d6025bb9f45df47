//! The published images: every altered one against the unaltered image that its recipe builds.

mod compare_images;

use attest::Level;
use compare_images::{case, cases, causes, kinds, run, uncompressed};
use rebuild::compare::{Class, Comparison, Options, Searched, compare};
use serde_json::Value;

/// What a case must give against the unaltered image of the same platform.
struct Expected {
    case: &'static str,
    platform: &'static str,
    level: Level,
    kinds: &'static [&'static str],
    /// The path or pointer that differs; empty for layers.
    path: &'static str,
    causes: &'static [&'static str],
    /// Part of the only sentence of `security`; none when there must be no sentence.
    security: Option<&'static str>,
}

const AMD64: &str = "linux/amd64";

const TAMPERED: &[&str] =
    &["security.executable", "package.file_altered", "content.elf", "content.few_bytes"];

const ALTERED: &[Expected] = &[
    Expected {
        case: "tampered",
        platform: AMD64,
        level: Level::None,
        kinds: &["file.content"],
        path: "usr/bin/hello",
        causes: TAMPERED,
        security: Some("usr/bin/hello: another program"),
    },
    Expected {
        case: "hidden-platform",
        platform: AMD64,
        level: Level::None,
        kinds: &["file.content"],
        path: "usr/bin/hello",
        causes: TAMPERED,
        security: Some("usr/bin/hello: another program"),
    },
    Expected {
        case: "twice",
        platform: "linux/amd64#2",
        level: Level::None,
        kinds: &["file.content"],
        path: "usr/bin/hello",
        causes: TAMPERED,
        security: Some("usr/bin/hello: another program"),
    },
    Expected {
        case: "mixed",
        platform: "linux/arm64",
        level: Level::None,
        kinds: &["file.content"],
        path: "usr/bin/hello",
        causes: TAMPERED,
        security: Some("usr/bin/hello: another program"),
    },
    Expected {
        case: "mtime",
        platform: AMD64,
        level: Level::Rootfs,
        kinds: &["tar.mtime"],
        path: "usr/share",
        causes: &["time.entry"],
        security: None,
    },
    Expected {
        case: "owner",
        platform: AMD64,
        level: Level::None,
        kinds: &["tar.uid"],
        path: "usr/share/hello/README",
        causes: &["security.owner"],
        security: Some("owner 1000, in the rebuild 0"),
    },
    Expected {
        case: "setuid",
        platform: AMD64,
        level: Level::None,
        kinds: &["tar.mode"],
        path: "usr/bin/hello",
        causes: &["security.privilege"],
        security: Some("setuid"),
    },
    Expected {
        case: "env-added",
        platform: AMD64,
        level: Level::None,
        kinds: &["config.env"],
        path: "/config/Env/LD_PRELOAD",
        causes: &["security.loader"],
        security: Some("LD_PRELOAD=/usr/lib/x.so"),
    },
    Expected {
        case: "runs-as-root",
        platform: AMD64,
        level: Level::None,
        kinds: &["config.user"],
        path: "/config/User",
        causes: &["security.user"],
        security: Some("runs as root"),
    },
    Expected {
        case: "planted-key",
        platform: AMD64,
        level: Level::None,
        kinds: &["file.added"],
        path: "etc/apk/keys/aaa-extra.rsa.pub",
        causes: &["trust.package_key", "package.unowned_file"],
        security: Some("a key that the package manager trusts; only the published image has it"),
    },
    Expected {
        case: "gzip-name",
        platform: AMD64,
        level: Level::None,
        kinds: &["layer.gzip_header"],
        path: "",
        causes: &["encoding.unclean_layer"],
        security: None,
    },
    Expected {
        case: "gzip-trailing",
        platform: AMD64,
        level: Level::None,
        kinds: &["layer.gzip_trailing"],
        path: "",
        causes: &["encoding.unclean_layer"],
        security: None,
    },
    Expected {
        case: "gzip-two-members",
        platform: AMD64,
        level: Level::None,
        kinds: &["layer.gzip_trailing"],
        path: "",
        causes: &["encoding.unclean_layer"],
        security: None,
    },
    Expected {
        case: "recompressed",
        platform: AMD64,
        level: Level::Config,
        kinds: &["layer.gzip_level_or_engine"],
        path: "",
        causes: &["encoding.recompression"],
        security: None,
    },
];

fn check(expected: &Expected, found: &Comparison) {
    let name = expected.case;
    assert_eq!(found.level, expected.level, "{name}");
    assert_eq!(kinds(found), expected.kinds, "{name}");
    let explanation = &found.explanation;
    for event in &explanation.events {
        assert_eq!(event.path.as_deref().unwrap_or_default(), expected.path, "{name}");
    }
    match expected.security {
        Some(part) => {
            assert_eq!(explanation.security.len(), 1, "{name}: {:?}", explanation.security);
            assert!(explanation.security[0].contains(part), "{name}: {:?}", explanation.security);
        }
        None => assert!(explanation.security.is_empty(), "{name}: {:?}", explanation.security),
    }
}

#[test]
fn every_altered_image_is_found_and_explained() {
    for expected in ALTERED {
        let published = case(expected.case, expected.platform);
        let base = case("hello", expected.platform.trim_end_matches("#2"));
        let found = run(&published, &base);
        check(expected, &found);
        assert_eq!(causes(&found), expected.causes, "{}", expected.case);
        // Without compressing, and without reading a compressed layer of ours.
        let bare = run(&published, &uncompressed(&base));
        check(expected, &bare);
        assert_eq!(bare.published, found.published);
        let stated = &cases()[expected.case]["platforms"][expected.platform]["level"];
        assert_eq!(stated.as_str().unwrap(), expected.level.as_str(), "{}", expected.case);
    }
}

/// No altered image of the fixtures is left out above: the others are altered in their evidence.
#[test]
fn the_table_has_every_altered_image() {
    let cases = cases();
    let hello: Vec<&Value> =
        cases["hello"]["platforms"].as_object().unwrap().values().map(|p| &p["manifest"]).collect();
    for (name, case) in cases.as_object().unwrap() {
        let altered = case["builder"].as_str().unwrap().starts_with("altered");
        for (platform, entry) in case["platforms"].as_object().unwrap() {
            if altered && !hello.contains(&&entry["manifest"]) {
                let listed = |e: &Expected| e.case == name && e.platform == platform;
                assert!(ALTERED.iter().any(listed), "{name} {platform}");
            }
        }
    }
}

#[test]
fn tampering_is_located_to_the_byte() {
    let found = run(&case("tampered", AMD64), &case("hello", AMD64));
    let event = &found.explanation.events[0];
    let bytes = event.bytes.unwrap();
    assert_eq!((bytes.first, bytes.a_size, bytes.b_size), (Some(8228), 11728, 11728));
    assert_eq!(event.layer, Some(0));
    let layer = &found.explanation.layers[0];
    assert_eq!(layer.layer, 0);
    let first = layer.first.as_ref().unwrap();
    assert_eq!(first.path, "usr/bin/hello");
    assert_eq!(first.a_offset, first.b_offset);
}

#[test]
fn an_extra_key_is_of_class_trust() {
    let found = run(&case("planted-key", AMD64), &case("hello", AMD64));
    assert!(found.explanation.causes.iter().any(|cause| cause.class() == Class::Trust));
    assert!(found.explanation.only_adds_below("etc/apk/keys"));
    assert!(found.explanation.only_adds_below("etc"));
    assert!(!found.explanation.only_adds_below("etc/apk/key"));
    let tampered = run(&case("tampered", AMD64), &case("hello", AMD64));
    assert!(!tampered.explanation.only_adds_below("usr"));
    let both = run(&case("planted-key", AMD64), &case("tampered", AMD64));
    assert!(!both.explanation.only_adds_below("etc/apk/keys"));
    let removed = run(&case("hello", AMD64), &case("planted-key", AMD64));
    assert!(!removed.explanation.only_adds_below("etc/apk/keys"));
}

/// All images of all cases: equal to themselves, and at level `config` when we did not compress,
/// unless the published blobs are not clean.
#[test]
fn every_image_against_itself() {
    let mut seen = std::collections::BTreeSet::new();
    for (name, entry) in cases().as_object().unwrap() {
        for (platform, expected) in entry["platforms"].as_object().unwrap() {
            if !seen.insert(expected["manifest"].as_str().unwrap().to_owned()) {
                continue;
            }
            let image = case(name, platform);
            let same = run(&image, &image);
            assert_eq!(same.level, Level::Manifest, "{name} {platform}");
            assert_eq!(same.explanation.differences, 0);
            let searched = vec![Searched { flag: "gzip".into(), value: "E3".into() }];
            let options = Options { searched, ..Options::default() };
            let same = compare(&image, &image, &options).unwrap();
            assert_eq!(same.level, Level::ManifestRecompressed);

            let bare = run(&image, &uncompressed(&image));
            let clean = !name.starts_with("gzip-") || name == "gzip-e2";
            let level = if clean { Level::Config } else { Level::None };
            assert_eq!(bare.level, level, "{name} {platform}: {:?}", kinds(&bare));
            let layers = expected["layers"].as_array().unwrap();
            assert_eq!(layers.len(), bare.published.layers.len());
            for (index, layer) in layers.iter().enumerate() {
                let found = &bare.published.layers[index];
                assert_eq!(found.blob.to_string(), layer["blob"].as_str().unwrap());
                let diff_id = found.diff_id.unwrap().to_string();
                assert_eq!(diff_id, layer["diff_id"].as_str().unwrap());
                assert_eq!(bare.hygiene[index].clean, clean);
                assert_eq!(bare.rebuilt.layers[index].diff_id, found.diff_id);
            }
        }
    }
    assert!(seen.len() > 25, "{}", seen.len());
}

/// The same packages, split into layers or not: nine layers against one differ in the files that
/// say how the image was made, and in nothing else.
#[test]
fn layers_split_otherwise() {
    for platform in [AMD64, "linux/arm64"] {
        let found = run(&case("web", platform), &case("web-flat", platform));
        assert_eq!(found.level, Level::None);
        let files: Vec<&str> = found
            .explanation
            .events
            .iter()
            .filter(|e| e.kind.as_str() == "file.content")
            .map(|e| e.path.as_deref().unwrap())
            .collect();
        assert_eq!(files, ["etc/apko.json"], "{platform}");
        assert!(kinds(&found).contains(&"layer.layer_split"));
    }
}

#[test]
fn package_drift_is_named() {
    let found = run(&case("withdrawn", AMD64), &case("hello", AMD64));
    assert_eq!(found.level, Level::None);
    let event = |path: &str| {
        let at = |e: &&rebuild::compare::Event| e.path.as_deref() == Some(path);
        found.explanation.events.iter().find(at).unwrap().causes.clone()
    };
    for path in ["usr/lib/apk/db/installed", "usr/bin/hello", "usr/share/hello/README"] {
        let causes = event(path);
        assert!(
            causes.iter().any(|c| c.code.as_str() == "package.version_drift"
                && c.detail == "hello: 2.12-r2, in the rebuild 2.12-r3"),
            "{path}: {causes:?}"
        );
    }
}

/// Every pair of published images of one platform: never a level for different images, always an
/// explanation, and the levels do not depend on whether ours is compressed.
#[test]
fn every_pair_of_images() {
    let mut images = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for (name, entry) in cases().as_object().unwrap() {
        for (platform, expected) in entry["platforms"].as_object().unwrap() {
            let new = seen.insert(expected["manifest"].as_str().unwrap().to_owned());
            let small = expected["layers"].as_array().unwrap().len() == 1;
            if new && small && platform.starts_with(AMD64) {
                let image = case(name, platform);
                let plain = image.manifest == case("hello", AMD64).manifest;
                images.push((if plain { "hello".to_owned() } else { name.clone() }, image));
            }
        }
    }
    let mut pairs = 0;
    for (name_a, a) in &images {
        for (name_b, b) in &images {
            if name_a == name_b {
                continue;
            }
            // Ours are never unclean: such an image cannot be the rebuilt one.
            if name_b.starts_with("gzip-") {
                continue;
            }
            let found = run(a, b);
            assert!(found.explanation.differences > 0, "{name_a} {name_b}");
            let fits = match (name_a.as_str(), name_b.as_str()) {
                ("recompressed", "hello") | ("hello", "recompressed") => Level::Config,
                ("mtime", "hello" | "recompressed") | ("hello" | "recompressed", "mtime") => {
                    Level::Rootfs
                }
                _ => Level::None,
            };
            assert_eq!(found.level, fits, "{name_a} {name_b}: {:?}", kinds(&found));
            assert_eq!(run(a, &uncompressed(b)).level, fits, "{name_a} {name_b}");
            pairs += 1;
        }
    }
    assert!(pairs > 200, "{pairs}");
}
