//! What packages and repositories say about themselves: PKGINFO, indexes, installed databases.

use crate::build;
use rebuild::{
    apk::{
        index::{Index, IndexLimits},
        pkginfo::PackageInfo,
        resolver::{Repository, Resolver, Rules},
    },
    compare::{Options, compare, render_text},
};

/// The text of `.PKGINFO`.
pub fn pkginfo(bytes: &[u8]) {
    let Ok(info) = PackageInfo::parse(bytes) else { return };
    assert_eq!(PackageInfo::parse(bytes).ok().as_ref(), Some(&info));
    for text in [&info.name, &info.version] {
        assert!(!text.contains(['/', '\n', '\0']), "{text:?}");
    }
    // The others are lines of the installed database.
    for text in [&info.arch, &info.license, &info.origin, &info.description, &info.commit] {
        assert!(!text.contains('\n'), "{text:?}");
    }
}

fn index_of(text: &[u8]) -> Option<Index> {
    let (mut header, _) = build::file("APKINDEX", text);
    header.pax.clear();
    let file = build::gzip(&build::tar(&[(header, text)]));
    Index::read_without_signature(&file, &IndexLimits::default()).ok()
}

/// An index, as a file and as the text inside of one.
pub fn apk_index(bytes: &[u8]) {
    let _ = Index::read_without_signature(bytes, &IndexLimits::default());
    let Some(index) = index_of(bytes) else { return };
    for entry in &index.entries {
        let file = entry.file_name();
        assert!(!file.contains('/') && file.ends_with(".apk"), "{file:?}");
    }
}

/// A world (the first line) and an index: the same answer twice, with no package twice.
pub fn resolver(bytes: &[u8]) {
    let end = bytes.iter().position(|b| *b == b'\n').unwrap_or(bytes.len());
    let world = String::from_utf8_lossy(&bytes[..end]);
    let world: Vec<String> = world.split_whitespace().map(str::to_owned).collect();
    let Some(index) = index_of(bytes.get(end + 1..).unwrap_or_default()) else { return };
    let oldest = Rules {
        selected_packages_settle: false,
        shared_objects_below_releases: false,
        same_origin_same_version: false,
        versions_before_priority: false,
        unversioned_provides_stay: false,
    };
    for rules in [Rules::NEWEST, oldest] {
        let repositories = [Repository { pin: "", entries: &index.entries }];
        let resolver = Resolver::new(&repositories, rules);
        let (once, again) = (resolver.resolve(&world), resolver.resolve(&world));
        let (Ok(once), Ok(again)) = (&once, &again) else {
            assert_eq!(once.is_ok(), again.is_ok());
            continue;
        };
        assert_eq!(once, again);
        let mut names = once.names();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "a package twice");
    }
}

/// An installed database in an image that is compared with one that has another.
pub fn installed(bytes: &[u8]) {
    let layer = |database: &[u8]| {
        let (mut header, content) = build::file("usr/lib/apk/db/installed", database);
        header.pax.clear();
        let (mut evil, evil_content) = build::file("usr/bin/tool", database);
        evil.pax.clear();
        build::one_layer(build::tar(&[(evil, evil_content), (header, content)]))
    };
    let (published, rebuilt) = (layer(bytes), layer(b"P:a\nV:1-r0\nF:usr/bin\nR:tool\n\n"));
    let found = compare(&published, &rebuilt, &Options::default()).expect("two good images");
    let again = compare(&published, &rebuilt, &Options::default()).expect("two good images");
    assert_eq!(found.explanation, again.explanation);
    let _ = render_text(&found.explanation);
}
