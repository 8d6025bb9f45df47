//! The contract, run against memory and against files with sled; and what only files can do wrong.

use super::contract::{Backend, PlainNotary, TestClock, run};
use super::*;
use crate::journal::{Log, MemoryDisk, Options};
use crate::queue::Limits;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

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

/// Jobs, offers and records of other kinds, so that every table has rows.
fn work(store: &FileStore) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for n in 0..40u32 {
            let event = Event::Announce {
                spec: contract::spec(&format!("image {n}"), 2),
                tenant: crate::queue::Tenant(format!("tenant-{}", n % 3)),
                class: crate::queue::Class::Push,
            };
            store.act(event, nothing()).await.unwrap();
            let about = Digest::of(&n.to_le_bytes());
            let tag = NewRecord::new(Kind::TAG_SEEN, about, vec![7; 200]);
            store.append(vec![tag.clone(), tag]).await.unwrap();
        }
        let report = contract::report(1, vec![]);
        store.act(Event::Sync(report), nothing()).await.unwrap();
        store.settle().await.unwrap();
    });
}

fn all_rows(store: &FileStore) -> Rows {
    store.index().tables().range(&[0], &[255], usize::MAX).unwrap()
}

fn open_at(folder: &std::path::Path) -> Opened<FileStore> {
    let limits = Limits::default();
    let around = Arc::new(TestClock::default());
    let parts = Parts { limits, notary: Arc::new(PlainNotary), around, on_fatal: never_fatal() };
    open(folder, options(), parts, |_, _| {}).unwrap()
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files_below(&path)),
            path => found.push(path),
        }
    }
    found.sort();
    found
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    for path in files_below(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&path, &target).unwrap();
    }
}

/// Whatever happens to the index's files: the answers are those of the journal.
#[test]
fn an_index_with_damaged_files_is_made_again() {
    let whole = tempfile::tempdir().unwrap();
    let store = open_at(whole.path()).store;
    work(&store);
    let expected = all_rows(&store);
    drop(store);
    assert!(expected.len() > 100);
    assert!(!whole.path().join("index.open").exists(), "closed cleanly: no mark");
    let count = files_below(&whole.path().join(INDEX_FOLDER)).len();
    assert!(count > 0);
    for file in 0..count {
        for how in ["delete", "empty", "half", "garbage", "flip"] {
            let dir = tempfile::tempdir().unwrap();
            copy_folder(whole.path(), dir.path());
            let path = files_below(&dir.path().join(INDEX_FOLDER)).swap_remove(file);
            let mut bytes = std::fs::read(&path).unwrap();
            match how {
                "delete" => std::fs::remove_file(&path).unwrap(),
                "empty" => bytes.clear(),
                "half" => bytes.truncate(bytes.len() / 2),
                "garbage" => bytes.fill(0xa5),
                _ => bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x10),
            }
            if how != "delete" {
                std::fs::write(&path, bytes).unwrap();
            }
            let opened = open_at(dir.path());
            assert!(all_rows(&opened.store) == expected, "{how} of {}", path.display());
        }
    }
}

#[test]
fn an_index_that_the_end_of_the_machine_found_open_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_at(dir.path()).store;
    work(&store);
    let expected = all_rows(&store);
    drop(store);
    // As it lies there after power came back: marked as open by another boot.
    std::fs::write(dir.path().join("index.open"), "another boot").unwrap();
    let opened = open_at(dir.path());
    assert!(opened.reindexed.unwrap().contains("when the machine went down"));
    assert!(dir.path().join("index.doubted").is_dir(), "kept aside");
    assert!(all_rows(&opened.store) == expected);
    drop(opened.store);
    // A killed process leaves a mark of this boot: nothing is lost, nothing is made again.
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").unwrap();
    std::fs::write(dir.path().join("index.open"), boot).unwrap();
    assert_eq!(open_at(dir.path()).reindexed, None);
}

#[test]
fn an_index_of_another_journal_or_ahead_of_it_is_made_again() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open_at(one.path()).store;
    work(&store);
    let expected = all_rows(&store);
    drop(store);
    drop(open_at(other.path()));
    // Ahead: the other journal has no records, and the same identity.
    copy_folder(&one.path().join(INDEX_FOLDER), &other.path().join(INDEX_FOLDER));
    let opened = open_at(other.path());
    let why = opened.reindexed.unwrap();
    assert!(why.contains("the journal at 0"), "{why}");
    drop(opened.store);
    let again = reindex(one.path(), options(), |_, _| {}).unwrap();
    let opened = open_at(one.path());
    assert_eq!((opened.reindexed, opened.store.end()), (None, again.end));
    assert!(all_rows(&opened.store) == expected);
}

/// Tables that fail when they are told to, as sled does after its disk was full.
struct Failing(MemoryTables, Arc<AtomicBool>);

impl Failing {
    fn ask(&self) -> Result<&MemoryTables, TableError> {
        match self.1.load(Ordering::Relaxed) {
            true => Err(TableError::new("read", "no room")),
            false => Ok(&self.0),
        }
    }
}

impl Tables for Failing {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        self.ask()?.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        self.ask()?.range(from, to, limit)
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Row>, TableError> {
        self.ask()?.last(from, to)
    }

    fn commit(&self, writes: &Writes) -> Result<(), TableError> {
        self.ask()?.commit(writes)
    }
}

#[test]
fn a_queue_that_cannot_be_made_again_ends_the_process() {
    let (log, _) = Log::open(MemoryDisk::default(), options()).unwrap();
    let (reader, fails) = (log.reader(), Arc::new(AtomicBool::new(false)));
    let start = reader.chain_at(JournalPosition(0)).unwrap().unwrap();
    let tables = Failing(MemoryTables::default(), Arc::clone(&fails));
    let index = Index::open(tables, &reader.journal(), start).unwrap();
    let (say, heard) = std::sync::mpsc::channel();
    let parts = Parts {
        limits: Limits::default(),
        notary: Arc::new(PlainNotary),
        around: Arc::new(TestClock::default()),
        on_fatal: Box::new(move |error| say.send(error.to_string()).unwrap()),
    };
    let store = Embedded::start(log, index, parts).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let event = Event::Announce {
            spec: contract::spec("image", 2),
            tenant: crate::queue::Tenant("ci".into()),
            class: crate::queue::Class::Push,
        };
        // Longer than a group may be: the decision is taken back.
        let long = NewRecord::new(Kind::ANNOUNCE, Digest::of(b"about"), vec![0; 4 << 20]);
        let attach: Attach = Box::new(move |_| vec![long; 5]);
        let refused = store.act(event, attach).await.unwrap_err();
        assert!(matches!(refused, StoreError::Journal(JournalError::TooLong { .. })), "{refused}");
        fails.store(true, Ordering::Relaxed);
        let failed = store.act(Event::Tick, nothing()).await.unwrap_err();
        assert!(matches!(failed, StoreError::Index(_)), "{failed}");
    });
    let why = heard.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
    assert!(why.contains("no room"), "{why}");
}
