//! Every seed, every kept input (`fuzz/corpus`) and every input that once failed
//! (`fuzz/regressions`) through its target: what cargo-fuzz runs, without cargo-fuzz.

use std::{fs, path::Path};

fn kept(folder: &str, name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join(name);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| fs::read(entry.path()).unwrap()).collect()
}

#[test]
fn every_kept_input() {
    for target in targets::ALL {
        let seeds = targets::seeds::of(target.name);
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        for input in [seeds, kept("corpus", target.name), kept("regressions", target.name)].concat()
        {
            (target.run)(&input);
        }
    }
}

/// A little of what a fuzzer does: prefixes, and bytes changed at a few places.
#[test]
fn seeds_cut_and_changed() {
    for target in targets::ALL {
        for seed in targets::seeds::of(target.name).iter().take(6) {
            for part in 1..6 {
                (target.run)(&seed[..seed.len() * part / 6]);
                let mut changed = seed.clone();
                let at = seed.len() * part / 6;
                if let Some(byte) = changed.get_mut(at) {
                    *byte ^= 1 << part;
                }
                (target.run)(&changed);
            }
        }
    }
}

#[test]
fn every_target_has_a_binary() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz_targets");
    let mut found: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, targets::ALL.iter().map(|target| target.name).collect::<Vec<_>>());
}
