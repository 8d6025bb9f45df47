//! Whatever is in memory, on its way and below: readers see what was committed.

use super::*;
use crate::store::MemoryTables;
use proptest::prelude::*;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Tables whose commits say that they began, and wait until they may go on.
struct Gated {
    rows: MemoryTables,
    began: Mutex<Sender<()>>,
    /// What each commit comes to.
    go_on: Mutex<Receiver<Result<(), TableError>>>,
}

struct Gate {
    began: Receiver<()>,
    go_on: Sender<Result<(), TableError>>,
}

fn gated() -> (Gated, Gate) {
    let (began, has_begun) = channel();
    let (go_on, may_go_on) = channel();
    let (began, waits) = (Mutex::new(began), Mutex::new(may_go_on));
    let tables = Gated { rows: MemoryTables::default(), began, go_on: waits };
    (tables, Gate { began: has_begun, go_on })
}

impl Tables for Gated {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        self.rows.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        self.rows.range(from, to, limit)
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Row>, TableError> {
        self.rows.last(from, to)
    }

    fn commit(&self, writes: &Writes) -> Result<(), TableError> {
        // Where the gate is gone, whatever is left is written.
        let _ = self.began.lock().unwrap().send(());
        self.go_on.lock().unwrap().recv().unwrap_or(Ok(()))?;
        self.rows.commit(writes)
    }
}

fn behind<T: Tables>(below: T) -> WriteBehind<T> {
    WriteBehind::waiting(below, Duration::ZERO).unwrap()
}

/// Few keys, so that they meet.
fn writes() -> impl Strategy<Value = Writes> {
    let row = ("[a-d]{1,2}", prop::option::of("[0-9]{0,2}"));
    let bytes =
        |(key, value): (String, Option<String>)| (key.into_bytes(), value.map(String::into_bytes));
    prop::collection::vec(row, 0..12).prop_map(move |rows| rows.into_iter().map(bytes).collect())
}

fn all_agree(tables: &impl Tables, model: &MemoryTables) -> Result<(), TestCaseError> {
    let keys = ["a", "aa", "ab", "b", "bc", "c", "cd", "d", "dd", "e"].map(str::as_bytes);
    for (i, from) in keys.iter().enumerate() {
        prop_assert_eq!(tables.get(from).unwrap(), model.get(from).unwrap());
        for to in &keys[i..] {
            let (ours, theirs) = (tables.last(from, to), model.last(from, to));
            prop_assert_eq!(ours.unwrap(), theirs.unwrap());
            for limit in [0, 1, 2, 3, usize::MAX] {
                let ours = tables.range(from, to, limit).unwrap();
                prop_assert_eq!(ours, model.range(from, to, limit).unwrap(), "limit {}", limit);
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn rows_in_memory_on_their_way_and_below_are_one(
        below in writes(), on_the_way in writes(), open in prop::collection::vec(writes(), 0..3),
    ) {
        prop_assume!(!on_the_way.is_empty());
        let model = MemoryTables::default();
        let (tables, gate) = gated();
        for rows in [&tables.rows, &model] {
            rows.commit(&below).unwrap();
        }
        let tables = behind(tables);
        tables.commit(&on_the_way).unwrap();
        model.commit(&on_the_way).unwrap();
        gate.began.recv().unwrap();
        for rows in &open {
            tables.commit(rows).unwrap();
            model.commit(rows).unwrap();
        }
        all_agree(&tables, &model)?;
        // Nothing of what waits is below yet.
        let expected = MemoryTables::default();
        expected.commit(&below).unwrap();
        all_agree(&tables.inner.below.rows, &expected)?;
        drop(gate);
        let inner = Arc::clone(&tables.inner);
        drop(tables);
        all_agree(&inner.below.rows, &model)?;
    }
}

#[test]
fn what_waits_goes_below_as_one_commit() {
    let (tables, gate) = gated();
    let tables = behind(tables);
    let row = |key: &str, value: &str| -> Writes {
        [(key.as_bytes().to_vec(), Some(value.as_bytes().to_vec()))].into()
    };
    tables.commit(&row("a", "1")).unwrap();
    gate.began.recv().unwrap();
    tables.commit(&row("b", "1")).unwrap();
    tables.commit(&row("c", "1")).unwrap();
    tables.commit(&row("b", "2")).unwrap();
    gate.go_on.send(Ok(())).unwrap();
    gate.began.recv().unwrap();
    let below = &tables.inner.below.rows;
    assert_eq!(below.range(b"a", b"z", 9).unwrap().len(), 1, "the second commit has not begun");
    gate.go_on.send(Ok(())).unwrap();
    let inner = Arc::clone(&tables.inner);
    drop(tables);
    let rows = inner.below.rows.range(b"a", b"z", 9).unwrap();
    let expected = [("a", "1"), ("b", "2"), ("c", "1")];
    assert_eq!(rows, expected.map(|(k, v)| (k.as_bytes().to_vec(), v.as_bytes().to_vec())));
    assert!(gate.began.try_recv().is_err(), "two commits below, not four");
}

#[test]
fn after_a_failure_below_nothing_is_taken_and_nothing_is_forgotten() {
    let (tables, gate) = gated();
    let tables = behind(tables);
    let row = |key: &[u8]| -> Writes { [(key.to_vec(), Some(vec![1]))].into() };
    tables.commit(&row(b"a")).unwrap();
    gate.began.recv().unwrap();
    tables.commit(&row(b"b")).unwrap();
    assert!(tables.check().is_ok());
    gate.go_on.send(Err(TableError::new("write", "no room"))).unwrap();
    let mut memory = tables.inner.lock();
    while memory.failed.is_none() {
        memory = tables.inner.went.wait(memory).unwrap();
    }
    drop(memory);
    let refused = tables.commit(&row(b"c")).unwrap_err();
    assert_eq!(refused.to_string(), "the index could not write: no room");
    assert_eq!(tables.check().unwrap_err().to_string(), refused.to_string());
    let seen = tables.range(b"a", b"z", 9).unwrap();
    assert_eq!(seen, [(b"a".to_vec(), vec![1]), (b"b".to_vec(), vec![1])]);
    assert_eq!(tables.inner.below.rows.range(b"a", b"z", 9).unwrap(), []);
}

#[test]
fn memory_is_not_ahead_without_end() {
    let (tables, gate) = gated();
    let tables = behind(tables);
    let rows = |from: usize, count: usize| -> Writes {
        (from..from + count).map(|n| (n.to_be_bytes().to_vec(), Some(Vec::new()))).collect()
    };
    tables.commit(&rows(0, 1)).unwrap();
    gate.began.recv().unwrap();
    tables.commit(&rows(1, SEAL_ROWS * SEALS_MAX)).unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| tables.commit(&rows(SEAL_ROWS * SEALS_MAX + 1, 1)));
        // It gets room when the first commit below has ended and the rest was sealed.
        assert_eq!(tables.inner.lock().open.len(), SEAL_ROWS * SEALS_MAX);
        gate.go_on.send(Ok(())).unwrap();
        gate.began.recv().unwrap();
        waits.join().unwrap().unwrap();
        assert!(tables.inner.lock().open.len() == 1 || tables.inner.lock().open.is_empty());
        drop(gate);
    });
}
