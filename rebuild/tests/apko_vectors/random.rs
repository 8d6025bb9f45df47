//! Random packages under every behaviour: no panic, and the same result twice.

use super::{
    make::Make,
    support::{Case, config},
};
use proptest::prelude::*;
use rebuild::{
    apko::{AssembleError, Assembly, Behaviour, BuildTimes, Depth, Discard, ImageConfiguration},
    go::tar::{Header, Kind},
};

fn name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => prop::sample::select(vec!["etc", "usr", "lib", "bin", "a", "b", "dev", "null", "sv"]),
        2 => prop::sample::select(vec!["apk", "db", "passwd", "group", "busybox", "libx.so.1"]),
        1 => prop::sample::select(vec!["..", ".", "", "é", "installed", "ld.so.conf"]),
    ];
    prop::collection::vec(part, 1..5).prop_map(|parts| parts.join("/"))
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        Just(b"root:x:0:0:root:/root:/bin/sh\n".to_vec()),
        Just(b"/lib\n/usr/lib\ninclude /etc/*\n".to_vec()),
        Just(b"/bin/sh\n/usr/bin/a/b\n".to_vec()),
    ]
}

fn header() -> impl Strategy<Value = (Header, Vec<u8>)> {
    let kind = prop_oneof![
        4 => Just(Kind::Directory),
        4 => Just(Kind::Regular),
        3 => Just(Kind::Symlink),
        2 => Just(Kind::HardLink),
        1 => Just(Kind::Fifo),
    ];
    (kind, name(), name(), 0_u32..0o10000, content(), any::<bool>()).prop_map(
        |(kind, name, target, mode, content, attributes)| {
            let mut header = Header::new(kind.clone(), name);
            header.mode = mode;
            if matches!(kind, Kind::Symlink | Kind::HardLink) {
                header.link_name = target.into_bytes();
            }
            if attributes {
                header.pax.insert(b"SCHILY.xattr.user.a".to_vec(), b"b".to_vec());
            }
            let content = if kind == Kind::Regular { content } else { Vec::new() };
            (header, content)
        },
    )
}

fn packages() -> impl Strategy<Value = Vec<Make>> {
    let package = (prop::collection::vec(header(), 0..12), any::<[bool; 3]>());
    prop::collection::vec(package, 1..5).prop_map(|packages| {
        let made = packages.into_iter().enumerate().map(|(number, (entries, bits))| {
            let mut make = Make::new(&format!("p{number}"));
            if bits[0] {
                make.info.origin = "same".into();
            }
            if bits[1] {
                make.info.replaces = (0..5).map(|other| format!("p{other}")).collect();
            }
            if bits[2] {
                make.info.provides = vec!["busybox".into(), "merged-lib".into()];
            }
            entries.into_iter().fold(make, |make, (header, content)| make.entry(header, &content))
        });
        [Make::base()].into_iter().chain(made).collect()
    })
}

fn configuration() -> impl Strategy<Value = ImageConfiguration> {
    let kind =
        prop::sample::select(vec!["directory", "empty-file", "symlink", "hardlink", "permissions"]);
    let clean = "/(etc|usr|a|b|bin)(/(a|b|passwd)){0,2}";
    let change = (kind, clean, clean, any::<bool>(), prop::option::of(0_u32..3));
    let changes = prop::collection::vec(change, 0..4);
    (changes, prop::option::of(0_u32..4)).prop_map(|(changes, budget)| {
        let mut value = serde_json::json!({});
        value["paths"] = changes
            .into_iter()
            .map(|(kind, path, source, recursive, uid)| {
                serde_json::json!({"type": kind, "path": path, "source": source, "uid": uid,
                    "recursive": recursive, "permissions": 0o7755})
            })
            .collect();
        if let Some(budget) = budget {
            value["layering"] = serde_json::json!({"strategy": "origin", "budget": budget});
        }
        config(&value.to_string())
    })
}

fn outcome(
    config: &ImageConfiguration,
    packages: &[Make],
    behaviour: Behaviour,
    threads: usize,
) -> Result<Assembly, AssembleError> {
    let packages: Vec<_> = packages.iter().cloned().map(Make::done).collect();
    let times = BuildTimes::default();
    let case =
        Case { config, architecture: "amd64", packages: &packages, keys: &[], times, behaviour };
    case.assemble_to(&Discard, Depth::DiffIds, threads)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_packages(
        packages in packages(),
        config in configuration(),
        row in any::<prop::sample::Index>(),
    ) {
        let rows = Behaviour::rows();
        let behaviour = *row.get(&rows);
        let once = outcome(&config, &packages, behaviour, 1);
        let again = outcome(&config, &packages, behaviour, 3);
        match (once, again) {
            (Ok(once), Ok(again)) => prop_assert_eq!(once.config, again.config),
            (Err(once), Err(again)) => prop_assert_eq!(once.to_string(), again.to_string()),
            (once, again) => prop_assert!(false, "{once:?} and then {again:?}"),
        }
    }
}
