//! Who wins a path that two packages bring, and that the report is right about what order decides.

use super::{make::Make, support::Case};
use rebuild::{
    apk::package::Package,
    apko::{
        AssembleError, Assembly, Behaviour, BuildTimes, Depth, Discard, ImageConfiguration, Rule,
        error::EntryProblem,
    },
    go::tar::Kind,
};
use std::sync::Arc;

fn assemble(packages: &[Arc<Package>]) -> Result<Assembly, AssembleError> {
    let config = ImageConfiguration::default();
    let case = Case {
        config: &config,
        architecture: "amd64",
        packages,
        keys: &[],
        times: BuildTimes::default(),
        behaviour: Behaviour::newest(),
    };
    case.assemble_to(&Discard, Depth::DiffIds, 1)
}

/// Whose content is in the image: `a` brings 1 MiB, `b` 2 MiB, the rest is far below one.
fn winner(first: &Make, second: &Make) -> Option<&'static str> {
    let made = [Make::base().done(), first.clone().done(), second.clone().done()];
    let assembly = assemble(&made).ok()?;
    match assembly.layers[0].written.uncompressed_size >> 20 {
        1 => Some("a"),
        2 => Some("b"),
        other => panic!("expected 1 or 2 MiB, found {other}"),
    }
}

fn pair(same_origin: bool, a_replaces: bool, b_replaces: bool) -> (Make, Make) {
    let mut a = Make::new("a").file("x", &vec![1; 1 << 20]);
    let mut b = Make::new("b").file("x", &vec![2; 2 << 20]);
    if same_origin {
        b.info.origin = "a".into();
    }
    if a_replaces {
        a.info.replaces = vec!["b".into()];
    }
    if b_replaces {
        b.info.replaces = vec!["a".into()];
    }
    (a, b)
}

#[test]
fn every_combination_of_origin_and_replaces() {
    for bits in 0..8 {
        let (a, b) = pair(bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
        let (forth, back) = (winner(&a, &b), winner(&b, &a));
        let made = [Make::base().done(), a.done(), b.done()];
        match assemble(&made) {
            Ok(assembly) => {
                let [conflict] = assembly.conflicts.as_slice() else { panic!("{bits}") };
                assert_eq!(conflict.path, b"x");
                assert_eq!((conflict.first.as_str(), conflict.second.as_str()), ("a", "b"));
                assert_eq!(conflict.order_matters, forth != back, "{bits}: {conflict:?}");
                assert_eq!(assembly.order_decided().count(), usize::from(forth != back));
                let kept = matches!(conflict.rule, Rule::FirstReplaces);
                assert_eq!(forth, Some(if kept { "a" } else { "b" }), "{bits}");
            }
            Err(AssembleError::Entry { problem: EntryProblem::Owned(owner), .. }) => {
                assert_eq!((bits, owner.as_str()), (0, "a-1-r0"));
            }
            Err(other) => panic!("{bits}: {other}"),
        }
    }
}

#[test]
fn same_content_matters_only_with_another_mode() {
    let file = |name: &str, mode| Make::new(name).with_mode(Kind::Regular, "x", mode);
    for (mode, matters) in [(0o644, false), (0o755, true), (0o4644, true)] {
        let made = [Make::base().done(), file("a", 0o644).done(), file("b", mode).done()];
        let assembly = assemble(&made).unwrap();
        let [conflict] = assembly.conflicts.as_slice() else { panic!() };
        assert_eq!((conflict.rule, conflict.order_matters), (Rule::SameContent, matters));
    }
}

#[test]
fn the_first_mode_of_a_directory_stays() {
    let folder = |name: &str, mode| Make::new(name).with_mode(Kind::Directory, "srv", mode);
    let made = [Make::base().done(), folder("a", 0o700).done(), folder("b", 0o777).done()];
    let assembly = assemble(&made).unwrap();
    let [conflict] = assembly.conflicts.as_slice() else { panic!() };
    assert_eq!((conflict.rule, conflict.order_matters), (Rule::DirectoryMode, true));
    // What the build made itself is no conflict, and neither is the same mode.
    let made = [Make::base().done(), folder("a", 0o700).done(), folder("b", 0o700).done()];
    assert!(assemble(&made).unwrap().conflicts.is_empty());
}

#[test]
fn files_of_the_build_are_not_replaced() {
    let made = [Make::base().directory("etc/apk").file("etc/apk/world", b"evil\n").done()];
    let error = assemble(&made).unwrap_err();
    assert!(matches!(error, AssembleError::Entry { problem: EntryProblem::Taken, .. }), "{error}");
    // The same bytes are no conflict: the build's file stays.
    let made = [Make::base().directory("etc/apk").file("etc/apk/arch", b"x86_64\n").done()];
    assert!(assemble(&made).unwrap().conflicts.is_empty());
}
