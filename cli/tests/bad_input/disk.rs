//! Disks that fill up: everything is there whole or not at all, and a full disk is no verdict.

use crate::assert_error;
use crate::bench::{Bench, Run};
use serde_json::Value;
use std::{collections::BTreeSet, fs, path::Path};

/// The files below a folder, by name.
fn files(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path().to_str().unwrap().to_owned());
        }
    }
    found
}

/// Every file of a kept folder is whole: JSON parses, blobs have the digest of their name.
fn assert_whole(folder: &Path) {
    for name in files(folder) {
        let (path, bytes) = (Path::new(&name), fs::read(&name).unwrap());
        if path.parent().is_some_and(|p| p.ends_with("blobs/sha256")) {
            let hex = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(attest::Digest::of(&bytes).hex(), hex, "a blob that is not whole");
        } else if name.ends_with(".json") || name.ends_with("oci-layout") {
            serde_json::from_slice::<Value>(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        } else {
            panic!("{name} was left behind");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_while_results_are_kept_leaves_nothing_half_written() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    // A file that grows beyond the limit fails as on a full disk, in the middle of it.
    let script = "trap '' XFSZ; ulimit -f \"$1\"; shift; exec \"$0\" \"$@\"";
    let mut failed = 0;
    for blocks in ["0", "1", "4", "16"] {
        let keep = bench.path(&format!("kept-{blocks}"));
        let mut command = crate::bench::through_shell(bench.folder.path(), script);
        command.arg(blocks).args(["verify", &bench.image("hello"), "--policy", &policy]);
        command.args(["--format", "json", "--keep", keep.to_str().unwrap()]);
        let run = crate::bench::run(command).await;
        assert_error(&run, blocks, &[]);
        assert_whole(&keep);
        failed += 1;
    }
    assert_eq!(failed, 4);
    let keep = bench.path("kept");
    let run =
        bench.verify(&bench.image("hello"), &policy, &["--keep", keep.to_str().unwrap()]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_whole(&keep);
    assert!(files(&keep).iter().any(|name| name.ends_with("/report.json")));
    // Kept again over what is there; a damaged blob is replaced.
    let blob = files(&keep).into_iter().find(|name| name.contains("blobs/sha256")).unwrap();
    fs::write(&blob, b"damaged").unwrap();
    let run =
        bench.verify(&bench.image("hello"), &policy, &["--keep", keep.to_str().unwrap()]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_whole(&keep);
}

/// Runs a script in a mount namespace in which `$DISK` is a disk of this size.
async fn on_small_disk(bench: &Bench, size: &str, script: &str, arguments: &[&str]) -> Option<Run> {
    let disk = bench.path("disk");
    fs::create_dir_all(&disk).unwrap();
    let full = format!("mount -t tmpfs -o size={size} tmpfs \"$DISK\" || exit 99\n{script}");
    let mut command = tokio::process::Command::new("unshare");
    command.args(["-rm", "sh", "-c", &full, env!("CARGO_BIN_EXE_assay")]).args(arguments);
    command.env("DISK", &disk).env("HOME", bench.folder.path());
    match command.output().await {
        Ok(output) if output.status.code() != Some(99) => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            if err.contains("unshare failed") || err.contains("Operation not permitted") {
                crate::bench::unable(&format!("no mount namespace here: {err}"));
                return None;
            }
            Some(Run { code: output.status.code(), out, err })
        }
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            crate::bench::unable(&format!("no disk could be mounted: {why}"));
            None
        }
        Err(error) => {
            crate::bench::skipped(&format!("unshare(1) is not here: {error}"));
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_an_error_and_never_a_verdict() {
    let bench = Bench::start().await;
    let policy = bench.policy("policy.toml", "");
    let image = bench.image("web");
    let verify = ["verify", &image, "--policy", &policy, "--format", "json"];
    // The content store, the folder of temporary files, the folder of results.
    let stores = [
        ("16k", "\"$0\" \"$@\" --store \"$DISK/store\""),
        ("16k", "TMPDIR=\"$DISK\" \"$0\" \"$@\""),
        ("16k", "\"$0\" \"$@\" --keep \"$DISK/kept\""),
    ];
    for (size, script) in stores {
        // What is left on the disk afterwards is listed behind the result.
        let script = format!(
            "{script}; code=$?; find \"$DISK\" -name '*.new' -o -path '*staging/*' -type f >&2; \
             exit $code"
        );
        let Some(run) = on_small_disk(&bench, size, &script, &verify).await else { return };
        assert_error(&run, &script, &["No space left on device"]);
        assert!(!run.err.contains(".new\n") && !run.err.contains("staging/"), "{run:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_whole_or_not_at_all() {
    let bench = Bench::start().await;
    let script = "\"$0\" \"$@\" --dir \"$DISK\"; code=$?; ls -A \"$DISK\" >&2; exit $code";
    // One page for the folder itself: nothing fits.
    let fill = format!("head -c 1M /dev/zero > \"$DISK/full\" 2>/dev/null; {script}");
    let Some(run) = on_small_disk(&bench, "8k", &fill, &["operator", "keygen", "acme"]).await
    else {
        return;
    };
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains("No space left on device"), "{run:?}");
    assert!(!run.err.lines().any(|line| line == "acme.key"), "half a key was left: {run:?}");
}
