//! What the index takes of memory while it is only written, in a process of its own.
//!
//! Invariant: the bound is far above what is needed and far below what a leak takes; nothing is timed.

use attest::Digest;
use coordinator::store::{SledTables, Tables};
use std::collections::BTreeMap;

const COMMITS: u32 = 30;
/// Of one commit.
const ROWS: u32 = 12_000;
/// What rows are drawn from.
const KEYS: u32 = 60_000;
/// Of 60 commits 114 are taken, 64 by the cache of sled; 1,064 where nothing was collected.
const MIB_MAX: u64 = 250;

/// Most memory that this process had, in MiB.
fn most_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn an_index_that_nobody_reads_does_not_keep_what_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let tables = SledTables::open(&dir.path().join("index")).unwrap();
    for commit in 0..COMMITS {
        let row = |n: u32| {
            let number = (commit * ROWS + n).wrapping_mul(7919) % KEYS;
            let key = Digest::of(&number.to_be_bytes());
            (key.raw().to_vec(), Some(vec![commit as u8; 100]))
        };
        tables.commit(&(0..ROWS).map(row).collect::<BTreeMap<_, _>>()).unwrap();
    }
    let most = most_mib();
    assert!(most < MIB_MAX, "{most} MiB for {COMMITS} commits of {ROWS} rows");
}
