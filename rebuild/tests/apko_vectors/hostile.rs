//! Packages and configurations that mean harm: an error that names package and entry, bounded time
//! and memory, never a panic.

use super::{
    make::Make,
    support::{Case, config},
};
use attest::GapCode;
use rebuild::{
    apk::package::Package,
    apko::{
        AssembleError, Assembly, Behaviour, BuildTimes, Depth, Discard, ImageConfiguration,
        error::EntryProblem, fs::FsError,
    },
    go::tar::{Header, Kind},
};
use std::sync::Arc;

fn try_with(
    config: &ImageConfiguration,
    packages: &[Arc<Package>],
    version: &str,
) -> Result<Assembly, AssembleError> {
    let behaviour = Behaviour::of(version).unwrap();
    let times = BuildTimes::default();
    let case = Case { config, architecture: "amd64", packages, keys: &[], times, behaviour };
    case.assemble_to(&Discard, Depth::DiffIds, 1)
}

fn error(packages: &[Make]) -> AssembleError {
    let packages: Vec<_> = packages.iter().cloned().map(Make::done).collect();
    try_with(&ImageConfiguration::default(), &packages, "1.2.39+1").unwrap_err()
}

/// The problem of an entry; the error must name package and entry.
fn problem(make: Make, entry: &str) -> EntryProblem {
    match error(&[make]) {
        AssembleError::Entry { package, entry: found, problem } => {
            assert_eq!((package.as_str(), found.as_str()), ("bad-1-r0", entry));
            problem
        }
        other => panic!("expected an error of an entry, found {other}"),
    }
}

#[test]
fn names_that_lead_elsewhere() {
    for name in [
        "/etc/x", "../x", "etc/../x", "a/..", "./x", "etc//x", "x\0y", "", "/", "etc/./x", "..",
        "a/.",
    ] {
        if name.starts_with('.') && !name.contains('/') {
            continue; // left out at the start of a package, as apko does
        }
        let made = Make::new("bad").file("n", b"").file(name, b"");
        assert!(matches!(problem(made, name), EntryProblem::Name(_)), "{name:?}");
        let made = Make::new("bad").file("x", b"").with_mode(Kind::Directory, name, 0o755);
        assert!(matches!(problem(made, name), EntryProblem::Name(_)), "{name:?}");
    }
    let linked = Make::new("bad").file("x", b"").link(Kind::HardLink, "y", "../x");
    assert!(matches!(problem(linked, "y"), EntryProblem::Name(_)));
    let long = "a/".repeat(2049);
    let error = error(&[Make::new("bad").directory(&long)]);
    assert_eq!(error.gap().unwrap().code, GapCode::Limit);
}

#[test]
fn kinds_and_checksums() {
    for kind in [Kind::CharDevice, Kind::BlockDevice, Kind::Fifo] {
        let made = Make::new("bad").with_mode(kind, "x", 0o666);
        assert!(matches!(problem(made, "x"), EntryProblem::Kind(_)));
    }
    let made = Make::new("bad").file("x", b"1").unchecked();
    assert!(matches!(problem(made, "x"), EntryProblem::ChecksumMissing));
}

#[test]
fn hard_links_to_nothing_to_themselves_to_directories() {
    let tree = |make, entry: &str| match problem(make, entry) {
        EntryProblem::Tree(error) => error,
        other => panic!("expected an error of the tree, found {other}"),
    };
    let link = |target| Make::new("bad").directory("d").link(Kind::HardLink, "x", target);
    assert!(matches!(tree(link("nothing"), "x"), FsError::NotFound(_)));
    assert!(matches!(tree(link("x"), "x"), FsError::NotFound(_)));
    assert!(matches!(tree(link("d"), "x"), FsError::IsDirectory(_)));
    let taken = Make::new("bad").file("x", b"").file("y", b"").link(Kind::HardLink, "x", "y");
    assert!(matches!(tree(taken, "x"), FsError::Exists(_)));
}

#[test]
fn links_that_never_end() {
    let looped = Make::new("bad")
        .link(Kind::Symlink, "a", "b")
        .link(Kind::Symlink, "b", "a")
        .file("a/x", b"");
    assert!(matches!(problem(looped, "a/x"), EntryProblem::Tree(FsError::Links(_))));
    // Each link leads twice through the one before: 2^30 steps, were they all taken.
    let mut bomb = Make::new("bad").directory("l0");
    bomb = bomb.link(Kind::Symlink, "l0/l0", ".").link(Kind::Symlink, "l1", "l0/l0/l0");
    for level in 2..=30 {
        let target = format!("l{0}/../l{0}", level - 1);
        bomb = bomb.link(Kind::Symlink, &format!("l{level}"), &target.replace("/..", ""));
    }
    let bomb = bomb.file("l30/x", b"");
    assert!(matches!(
        problem(bomb, "l30/x"),
        EntryProblem::Tree(FsError::Links(_) | FsError::NotFound(_))
    ));
}

#[test]
fn deeper_than_any_name_through_links() {
    let deep = "d/".repeat(1000);
    let mut made = Make::new("bad");
    let mut below = deep.clone();
    for level in 0..4 {
        made = made.directory(&below).link(Kind::Symlink, &format!("link{level}"), &below);
        below = format!("link{level}/{deep}");
    }
    let error = error(&[made]);
    assert_eq!(error.gap().unwrap().code, GapCode::Limit, "{error}");
}

#[test]
fn attributes_that_no_header_holds() {
    let mut header = Header::new(Kind::Regular, "x");
    header.pax.insert(b"SCHILY.xattr.user.big".to_vec(), vec![b'a'; 2 << 20]);
    let error = error(&[Make::base(), Make::new("bad").entry(header, b"")]);
    assert!(matches!(error, AssembleError::Tar { .. }), "{error}");
    assert_eq!(error.gap().unwrap().code, GapCode::BuildFailed);
}

#[test]
fn a_package_twice() {
    let error = error(&[Make::base(), Make::base()]);
    assert!(matches!(error, AssembleError::PackageTwice(name) if name == "base"));
}

#[test]
fn what_the_build_reads_is_checked() {
    let cases: &[(&str, &[u8])] = &[
        ("etc/passwd", b"no colons\n"),
        ("etc/passwd", b"evil:x:1:1::../../x:/bin/sh\n"),
        ("etc/passwd", b"evil:x:99999999999:1::/x:/bin/sh\n"),
        ("etc/ld.so.conf", b"include /etc/ld.so.conf\n"),
        ("etc/ld.so.conf", b"include /etc/[\n"),
    ];
    for (name, content) in cases {
        let error = error(&[Make::new("bad").directory("etc").file(name, content)]);
        assert!(error.gap().is_some(), "{name}: {error}");
    }
    let paths = b"/bin/../../x\n/bin/ok\n";
    let busybox = Make::new("busybox")
        .directory("bin")
        .file("bin/busybox", b"#")
        .directory("etc")
        .directory("etc/busybox-paths.d")
        .file("etc/busybox-paths.d/busybox", paths);
    // The parent is cleaned, as apko does: `/x` outside of bin, never outside of the image.
    let made = [busybox.done()];
    assert!(try_with(&ImageConfiguration::default(), &made, "1.2.39+1").is_ok());
}

/// Before 0.30.5 a directory listed twice was written twice with all below it: 2^40 lines.
#[test]
fn records_that_double() {
    let mut made = Make::new("bad");
    let mut name = String::from("d");
    for _ in 0..40 {
        made = made.directory(&name).directory(&name);
        name.push_str("/d");
    }
    let packages = [made.done()];
    let config = ImageConfiguration::default();
    let error = try_with(&config, &packages, "0.20.1").unwrap_err();
    assert_eq!(error.gap().unwrap().code, GapCode::Limit);
    assert!(try_with(&config, &packages, "1.2.39+1").is_ok());
}

#[test]
fn paths_of_the_configuration() {
    let change = |json: &str| {
        let json = format!(r#"{{"paths":[{json}]}}"#);
        let packages = [Make::base().done()];
        try_with(&config(&json), &packages, "1.2.39+1")
    };
    for bad in [
        r#"{"path":"/no/where","type":"permissions","permissions":1}"#,
        r#"{"path":"/etc/passwd","type":"directory","permissions":1}"#,
        r#"{"path":"/usr/bin","type":"empty-file","permissions":1}"#,
        r#"{"path":"/etc/passwd","type":"symlink","source":"x"}"#,
        r#"{"path":"/x","type":"symlink","source":"nothing"}"#,
        r#"{"path":"/x","type":"hardlink","source":"/etc"}"#,
        r#"{"path":"/x","type":"hardlink","source":"/x"}"#,
    ] {
        let error = change(bad).unwrap_err();
        assert_eq!(error.gap().unwrap().code, GapCode::BuildFailed, "{bad}: {error}");
    }
    assert!(change(r#"{"path":"/x/y","type":"symlink","source":"/etc"}"#).is_ok());
}

#[test]
fn key_names_stay_in_their_folder() {
    let packages = [Make::base().done()];
    let config = ImageConfiguration::default();
    for name in ["../passwd", "a/b", "", "..", "a\0b"] {
        let keys = [(name.to_owned(), b"key".to_vec())];
        let case = Case {
            config: &config,
            architecture: "amd64",
            packages: &packages,
            keys: &keys,
            times: BuildTimes::default(),
            behaviour: Behaviour::newest(),
        };
        assert!(case.assemble_to(&Discard, Depth::DiffIds, 1).is_err(), "{name:?}");
    }
}
