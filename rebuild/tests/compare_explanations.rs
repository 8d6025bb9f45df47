//! Explanations as evidence: the same bytes on any machine, bounded, readable again, and harmless
//! on a terminal. And the causes that need more than one file.

mod compare_images;

use attest::{Digest, Level};
use compare_images::{
    File, case, causes, directory, file, image, kinds, link, run, tar, uncompressed,
};
use rebuild::compare::{
    CAUSES_VERSION, CauseCode, DETECTOR, Explanation, Kind, Limits, Options, UncleanCode, compare,
    render_text,
};
use serde_json::Value;

#[test]
fn the_same_bytes_whatever_the_threads() {
    let (a, b) = (case("web", "linux/amd64"), case("web-flat", "linux/amd64"));
    let expected = run(&a, &b).explanation.to_bytes().unwrap();
    for threads in [1, 2, 3, 8] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let found = pool.install(|| run(&a, &b));
        assert_eq!(found.explanation.to_bytes().unwrap(), expected, "{threads} threads");
        assert_eq!(found.explanation.digest().unwrap(), Digest::of(&expected));
    }
    let bare = run(&a, &uncompressed(&b)).explanation.to_bytes().unwrap();
    assert_eq!(bare, expected, "whether ours is compressed is no part of the explanation");
}

#[test]
fn stored_and_read_again() {
    let found = run(&case("tampered", "linux/amd64"), &case("hello", "linux/amd64"));
    let bytes = found.explanation.to_bytes().unwrap();
    let value: Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(value["schema"], "assay/explanation/v1");
    assert_eq!(value["detector"], DETECTOR);
    assert_eq!(value["causes_version"], CAUSES_VERSION);
    assert_eq!(value["level"], "none");
    assert_eq!(value["differences"], 1);
    assert_eq!(value["kinds"]["file.content"], 1);
    assert_eq!(value["events"][0]["scope"], "entry");
    assert_eq!(value["events"][0]["layer"], 0);
    assert_eq!(value["events"][0]["path"], "usr/bin/hello");
    assert_eq!(value["events"][0]["bytes"]["first"], 8228);
    let cause = &value["events"][0]["cause"][0];
    assert_eq!(cause["code"], "security.executable");
    assert_eq!(cause["confidence"], "certain");
    let read = Explanation::from_bytes(&bytes).unwrap();
    assert_eq!(read, found.explanation);
    assert_eq!(read.to_bytes().unwrap(), bytes);
    assert_eq!(render_text(&read), render_text(&found.explanation));
    let other = String::from_utf8(bytes).unwrap().replace("explanation/v1", "explanation/v2");
    assert!(Explanation::from_bytes(other.as_bytes()).is_err());
    assert!(Explanation::from_bytes(b"{}").is_err());
    let summary = found.summary().unwrap();
    assert_eq!(summary.digest, found.explanation.digest().unwrap());
    assert_eq!((summary.differences, summary.security.len()), (1, 1));
    let summary = serde_json::to_value(&summary).unwrap();
    assert!(summary["causes"].as_array().unwrap().contains(&"package.file_altered".into()));
}

#[test]
fn every_word_of_the_taxonomy_is_its_own() {
    let unique = |words: Vec<&str>| {
        let set: std::collections::BTreeSet<&str> = words.iter().copied().collect();
        assert_eq!(set.len(), words.len());
    };
    unique(Kind::ALL.iter().map(|kind| kind.as_str()).collect());
    unique(CauseCode::ALL.iter().map(|code| code.as_str()).collect());
    unique(UncleanCode::ALL.iter().map(|code| code.as_str()).collect());
    for kind in Kind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    for code in CauseCode::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
    }
    for code in UncleanCode::ALL {
        assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
    }
}

/// Of many differences those that matter most are kept, in any order of finding them.
#[test]
fn events_are_bounded_by_weight() {
    let names: Vec<String> = (0..500).map(|i| format!("data/{i:03}")).collect();
    let mut before = vec![directory("data/")];
    before.extend(names.iter().map(|name| file(name, b"x")));
    let mut after: Vec<File<'_>> = before.iter().map(|f| File { mtime: 9, ..f.clone() }).collect();
    after.push(File { mode: 0o4755, ..file("zz", b"\x7fELF") });
    let (a, b) = (image(&[&tar(&after)]), image(&[&tar(&before)]));
    let limits = Limits { events_max: 10, ..Limits::default() };
    let options = Options { limits, searched: vec![] };
    let found = compare(&a, &b, &options).unwrap().explanation;
    assert_eq!((found.differences, found.cut, found.events.len()), (502, 492, 10));
    assert_eq!(found.kinds[&Kind::TarMtime], 501);
    assert!(found.events.iter().any(|e| e.path.as_deref() == Some("zz")));
    assert_eq!(found.security.len(), 1);
    let text = render_text(&found);
    assert!(text.starts_with("level none: 502 differences\n"), "{text}");
    assert!(text.contains("and 492 more"), "{text}");
    let zz = text.lines().position(|line| line.contains(" zz")).unwrap();
    let data = text.lines().position(|line| line.contains(" data")).unwrap();
    assert!(zz < data, "{text}");
    // Without a bound nothing is cut, and the sentences have their own.
    let all = run(&a, &b).explanation;
    assert_eq!((all.cut, all.events.len()), (0, 502));
}

#[test]
fn sentences_are_bounded() {
    let names: Vec<String> = (0..300).map(|i| format!("bin/{i:03}")).collect();
    let programs: Vec<File<'_>> =
        names.iter().map(|name| File { mode: 0o755, ..file(name, b"#!x") }).collect();
    let found = run(&image(&[&tar(&programs)]), &image(&[&tar(&[])])).explanation;
    assert_eq!((found.security.len(), found.security_cut), (100, 200));
    assert!(render_text(&found).contains("and 290 more"));
}

/// Names and values of a hostile image: long, binary, steering.
#[test]
fn hostile_names_and_values() {
    let long = "n".repeat(5000);
    let pax = [("path", long.as_str())];
    let steering = "a\u{1b}]0;owned\u{7}\u{202e}b\nc";
    let files = [File { pax: &pax, ..file("x", b"") }, file(steering, b"")];
    let mut bytes = tar(&files);
    // A name that is not UTF-8.
    let mut raw = compare_images::header(&file("name", b""));
    raw[0..4].copy_from_slice(b"\xff\xfe\\n");
    compare_images::checksum(&mut raw);
    bytes.splice(0..0, raw);
    let found = run(&image(&[&bytes]), &image(&[&tar(&[])])).explanation;
    let paths: Vec<&str> = found.events.iter().filter_map(|e| e.path.as_deref()).collect();
    assert!(paths.contains(&"\\xff\\xfe\\\\n"), "{paths:?}");
    assert!(paths.iter().any(|path| path.contains("5000 bytes, sha256:")), "{paths:?}");
    assert!(found.to_bytes().unwrap().len() < 10_000);
    let text = render_text(&found);
    assert!(text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')), "{text:?}");
}

const DATABASE: &str = "usr/lib/apk/db/installed";

fn database(packages: &[(&str, &str, &[&str])]) -> String {
    let mut text = String::new();
    for (name, version, files) in packages {
        text += &format!("C:Q1{name}{version}\nP:{name}\nV:{version}\n");
        for path in *files {
            let (folder, file) = path.rsplit_once('/').unwrap();
            text += &format!("F:{folder}\nR:{file}\n");
        }
        text.push('\n');
    }
    text
}

#[test]
fn a_package_that_the_recipe_does_not_have() {
    let ours = database(&[("base", "1", &["etc/base"])]);
    let theirs = database(&[("base", "1", &["etc/base"]), ("evil", "2", &["usr/bin/evil"])]);
    let base = [file("etc/base", b""), file(DATABASE, ours.as_bytes())];
    let more = [
        file("etc/base", b""),
        File { mode: 0o755, ..file("usr/bin/evil", b"\x7fELF") },
        file("usr/bin/stray", b""),
        file(DATABASE, theirs.as_bytes()),
    ];
    let found = run(&image(&[&tar(&more)]), &image(&[&tar(&base)])).explanation;
    let codes = |path: &str| -> Vec<&str> {
        let event = found.events.iter().find(|e| e.path.as_deref() == Some(path)).unwrap();
        event.causes.iter().map(|cause| cause.code.as_str()).collect()
    };
    assert!(codes(DATABASE).contains(&"package.undeclared"));
    assert_eq!(codes("usr/bin/evil"), ["package.undeclared"]);
    assert_eq!(codes("usr/bin/stray"), ["package.unowned_file"]);
    // The other way round.
    let found = run(&image(&[&tar(&base)]), &image(&[&tar(&more)]));
    assert!(causes(&found).contains(&"package.missing"));
    assert!(!causes(&found).contains(&"package.undeclared"));
}

/// The database lies in a layer that is equal on both sides, and still explains.
#[test]
fn a_database_in_another_layer() {
    let ours = database(&[("base", "1", &["usr/bin/base"])]);
    let lower = tar(&[file(DATABASE, ours.as_bytes())]);
    let upper = |data: &[u8]| tar(&[File { mode: 0o755, ..file("usr/bin/other", data) }]);
    let found = run(&image(&[&lower, &upper(b"#!a")]), &image(&[&lower, &tar(&[])]));
    assert_eq!(kinds(&found), ["file.added"]);
    assert_eq!(causes(&found), ["package.unowned_file"]);
    assert_eq!(found.explanation.events[0].layer, Some(1));
}

/// A database that is larger than what is kept of a file explains nothing, rather than half.
#[test]
fn a_database_that_is_too_large() {
    let ours = database(&[("base", "1", &["usr/bin/base", "usr/bin/other"])]);
    let files = [file(DATABASE, ours.as_bytes()), file("usr/bin/other", b"")];
    let (a, b) = (image(&[&tar(&files)]), image(&[&tar(&files[..1])]));
    for (bytes, expected) in [(1000, 0), (30, 0)] {
        let limits = Limits { capture_file_bytes_max: bytes, ..Limits::default() };
        let found = compare(&a, &b, &Options { limits, searched: vec![] }).unwrap();
        assert_eq!(kinds(&found), ["file.added"]);
        let unowned = causes(&found).iter().filter(|c| **c == "package.unowned_file").count();
        assert_eq!(unowned, expected, "{bytes}");
    }
    let stray = [file(DATABASE, ours.as_bytes()), file("usr/bin/stray", b"")];
    let a = image(&[&tar(&stray)]);
    for (bytes, expected) in [(1000, 1), (30, 0)] {
        let limits = Limits { capture_file_bytes_max: bytes, ..Limits::default() };
        let found = compare(&a, &b, &Options { limits, searched: vec![] }).unwrap();
        let unowned = causes(&found).iter().filter(|c| **c == "package.unowned_file").count();
        assert_eq!(unowned, expected, "{bytes}");
    }
}

#[test]
fn dpkg_databases() {
    let status = |version: &str| {
        format!("Package: libc6\nStatus: install ok installed\nVersion: {version}\n\n")
    };
    let image_of = |text: &str| image(&[&tar(&[file("var/lib/dpkg/status", text.as_bytes())])]);
    let found = run(&image_of(&status("2.36-9")), &image_of(&status("2.36-10")));
    assert!(causes(&found).contains(&"package.version_drift"));
    assert_eq!(found.level, Level::None);
}

/// Causes by content and place, each in a whole comparison.
#[test]
fn causes_of_contents() {
    let cases: Vec<(&str, &[u8], &[u8], &str)> = vec![
        ("etc/list", b"a\nb\nc\n", b"c\na\nb\n", "order.lines"),
        ("etc/x.json", br#"{"a":[1],"b":2}"#, br#"{"b":2, "a":[1]}"#, "order.json"),
        ("etc/built", b"built 2026-01-01 00:00", b"built 2025-06-30 23:10", "time.text"),
        ("var/log/build.log", b"x", b"yy", "path.log_file"),
        ("etc/machine-id", b"aa", b"bb", "path.machine_id"),
        ("var/cache/ldconfig/aux-cache", b"1", b"2", "path.linker_cache"),
        ("etc/apk/keys/k.rsa.pub", b"1", b"2", "trust.package_key"),
        ("etc/passwd", b"root:x:0:0", b"root:x:1:0", "security.account"),
        ("etc/ld.so.preload", b"/a", b"/b", "security.loader"),
        ("usr/lib/libx.so.1", b"1", b"2", "security.executable"),
        ("usr/share/doc", b"abc", b"abcdef", "content.appended"),
        ("usr/share/bin", b"\0abc", b"\0abd", "content.few_bytes"),
    ];
    for (path, a, b, code) in cases {
        let (a, b) = (image(&[&tar(&[file(path, a)])]), image(&[&tar(&[file(path, b)])]));
        let found = run(&a, &b);
        assert!(causes(&found).contains(&code), "{path}: {:?}", causes(&found));
        let sensitive = code.starts_with("trust.") || code.starts_with("security.");
        assert_eq!(!found.explanation.security.is_empty(), sensitive, "{path}");
    }
}

/// What was captured is bounded: a difference beyond the bound is not located, and not guessed.
#[test]
fn large_files() {
    let mut data = vec![0u8; 100_000];
    let a = tar(&[file("big", &data), file("small", b"a")]);
    data[90_000] = 1;
    let b = tar(&[file("big", &data), file("small", b"b")]);
    let (a, b) = (image(&[&a]), image(&[&b]));
    let event = |limits: Limits| {
        let options = Options { limits, searched: vec![] };
        compare(&a, &b, &options).unwrap().explanation.events[0].bytes.unwrap()
    };
    assert_eq!(event(Limits::default()).first, Some(90_000));
    let small = event(Limits { capture_file_bytes_max: 1000, ..Limits::default() });
    assert_eq!((small.first, small.compared, small.a_size), (None, 1000, 100_000));
    let small = event(Limits { capture_bytes_max: 50, ..Limits::default() });
    assert_eq!((small.first, small.compared), (None, 50));
}

#[test]
fn whiteouts_are_named() {
    let lower = tar(&[file("a", b"1")]);
    let a = image(&[&lower, &tar(&[file(".wh.a", b"")])]);
    let b = image(&[&lower, &tar(&[link("b", b'2', "a")])]);
    let found = run(&a, &b);
    assert_eq!(found.level, Level::None);
    assert!(kinds(&found).contains(&"layer.whiteout"), "{:?}", kinds(&found));
}
