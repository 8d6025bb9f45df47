//! The contract, run against memory and against files with sled; and what only files can do wrong.

use super::contract::{Backend, PlainNotary, TestClock, run};
use super::*;
use crate::journal::{MemoryDisk, Options};
use crate::queue::Limits;
use std::sync::Arc;

struct Memory(MemoryDisk);

fn never_fatal() -> crate::journal::OnFatal {
    Box::new(|error| panic!("the journal must not end here: {error}"))
}

fn options() -> Options {
    // Small segments, so that rotation is part of every test.
    Options { segment_bytes: 16 << 10, ahead_bytes: 4 << 10, ..Options::new([7; 16]) }
}

impl Backend for Memory {
    type S = MemoryStore;

    fn open(&self, clock: Arc<TestClock>) -> MemoryStore {
        let (limits, notary) = (Limits::default(), Arc::new(PlainNotary));
        in_memory(self.0.clone(), options(), limits, notary, clock, never_fatal()).unwrap().store
    }

    fn lose_index(&self) {}
}

struct Files(tempfile::TempDir);

impl Backend for Files {
    type S = FileStore;

    fn open(&self, around: Arc<TestClock>) -> FileStore {
        let limits = Limits::default();
        let parts =
            Parts { limits, notary: Arc::new(PlainNotary), around, on_fatal: never_fatal() };
        open(self.0.path(), options(), parts, |_, _| {}).unwrap().store
    }

    fn lose_index(&self) {
        std::fs::remove_dir_all(self.0.path().join(INDEX_FOLDER)).unwrap();
    }
}

#[test]
fn memory_keeps_the_contract() {
    run(|| Memory(MemoryDisk::default()));
}

#[test]
fn files_and_sled_keep_the_contract() {
    run(|| Files(tempfile::tempdir().unwrap()));
}
