//! The fault scenarios of `tests/faults`, each a few seconds long, with the built binaries.
//!
//! The figures of docs/RELIABILITY.md come from `tests/faults/run`, which does the same at full
//! size. Without a C compiler or the `assay` binary a scenario is skipped, and fails where
//! ASSAY_REQUIRE_PEERS=1 says that everything must be there.

// Skips and figures are for whoever reads the output.
#![allow(clippy::print_stdout)]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn assay() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_BIN_EXE_faults")).with_file_name("assay");
    found(beside.is_file().then_some(beside), "the assay binary beside the tests (build -p assay)")
}

fn found<T>(what: Option<T>, name: &str) -> Option<T> {
    if what.is_none() {
        let required = std::env::var_os("ASSAY_REQUIRE_PEERS").is_some_and(|v| v == "1");
        assert!(!required, "expected {name}, found none");
        println!("skipped: expected {name}, found none");
    }
    what
}

fn scenario(name: &str, arguments: &[&str]) {
    let Some(assay) = assay() else { return };
    let output = Command::new(env!("CARGO_BIN_EXE_faults"))
        .args([name, "--assay"])
        .arg(assay)
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    println!("{said}");
}

#[test]
fn power_goes_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let shim = dir.path().join("powercut.so");
    let built = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-o"])
        .args([shim.as_path(), &Path::new(env!("CARGO_MANIFEST_DIR")).join("faults/powercut.c")])
        .arg("-lpthread")
        .status();
    let built = built.ok().filter(std::process::ExitStatus::success);
    if found(built, "a C compiler").is_none() {
        return;
    }
    let shim = shim.to_str().unwrap();
    scenario("eio", &["--shim", shim, "--times", "2"]);
    scenario(
        "powercut",
        &["--shim", shim, "--cuts", "4", "--records", "500", "--journals", "1", "--settle", "0"],
    );
}

#[test]
fn killed_processes_lose_nothing() {
    scenario("kills", &["--kills", "12", "--settle", "0"]);
}

#[test]
fn a_full_disk_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(dir.path())
        .output()
        .ok()
        .filter(|output| output.status.success());
    if mounted.is_none() {
        // A right, not a program: nobody can install it, so it is never required.
        println!("skipped: expected the right to mount a tmpfs, found none");
        return;
    }
    let _ = Command::new("umount").arg(dir.path()).status();
    scenario("full", &["--settle", "0"]);
}

#[test]
fn a_restored_coordinator_gets_the_results_that_it_lost() {
    scenario("restore", &[]);
}

#[test]
fn a_registry_that_dies_becomes_no_verdict() {
    scenario("registry", &["--deaths", "2", "--images", "3"]);
}
