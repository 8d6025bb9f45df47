//! What of docs/STYLE.md a machine can check.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Files are around 150 lines, rarely past 450, never past this.
const LINES_MAX: usize = 700;

fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    let crates = [
        "attest",
        "oci",
        "gate",
        "rebuild",
        "proto",
        "coordinator",
        "worker",
        "cli",
        "tests",
        "benches",
        "fuzz/targets",
    ];
    for name in crates {
        walk(&root.join(name), &mut found);
    }
    assert!(found.len() > 100, "found only {} files", found.len());
    found
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("fixtures") && !path.ends_with("target") {
            walk(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_fits_its_room() {
    let mut wrong = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        let shown = path.display();
        if !text.starts_with("//!") {
            wrong.push(format!("{shown}: expected `//!` first: what it is, its invariant"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            wrong.push(format!("{shown}: expected at most {LINES_MAX} lines, found {lines}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_open() {
    // Put together so that this file does not name them itself.
    let holes = [["TO", "DO"], ["FIX", "ME"], ["to", "do!("], ["unimple", "mented!("]];
    let mut wrong = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        for hole in &holes {
            if text.contains(&hole.concat()) {
                wrong.push(format!("{}: {}", path.display(), hole.concat()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
