//! Rows that are not what they should be, and lists that are longer than a page.

use super::pieces::{PIECE_BYTES, read_pieces, write_pieces};
use super::*;
use crate::journal::{Group, Kind, Log, MemoryDisk, NewRecord, Options};
use crate::queue::{Change, Class, Route, Tenant, Transition};
use crate::store::{
    MemoryTables, SledTables,
    contract::spec,
    rows::key,
    tables::{Row, Rows, TableError, Writes},
};
use attest::id::{JournalPosition, LeaseId};

fn open(tables: MemoryTables) -> Result<Index<MemoryTables>, IndexError> {
    Index::open(tables, &[7; 16], Digest::of(b"start"))
}

fn keeps_long_jobs(tables: &impl Tables) {
    let (id, other) = (JobId(Digest::of(b"job")), JobId(Digest::of(b"other")));
    let p = PIECE_BYTES;
    for bytes in [10, p, p + 1, 3 * p, 2 * p, 3 * p, 10] {
        let before = read_pieces(tables, &id).unwrap().map_or(0, |(_, pieces)| pieces);
        let text: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
        let mut writes = Writes::new();
        write_pieces(&mut writes, &id, &text, before).unwrap();
        write_pieces(&mut writes, &other, b"{}", 1).unwrap();
        tables.commit(&writes).unwrap();
        assert!(read_pieces(tables, &id).unwrap().unwrap().0 == text, "{bytes} bytes");
        assert_eq!(read_pieces(tables, &other).unwrap().unwrap(), (b"{}".to_vec(), 1));
    }
    assert_eq!(read_pieces(tables, &JobId(Digest::of(b"?"))).unwrap(), None);
}

#[test]
fn a_job_longer_than_a_row_is_kept() {
    keeps_long_jobs(&MemoryTables::default());
    let dir = tempfile::tempdir().unwrap();
    keeps_long_jobs(&SledTables::open(&dir.path().join("index")).unwrap());
}

/// An index that followed one announcement.
fn followed() -> Index<MemoryTables> {
    let (mut log, _) = Log::open(MemoryDisk::default(), Options::new([7; 16])).unwrap();
    let spec = spec("a", 1);
    let (job, tenant, class) = (spec.id, Tenant("ci".into()), Class::Push);
    let change = Change::Announced { spec, tenant, class, rank: 0 };
    let step = Transition { at: Millis(1), job, change };
    let records = vec![NewRecord::new(Kind::TRANSITION, job.0, step.to_json())];
    let time = attest::time::Timestamp::from_unix(1_800_000_000).unwrap();
    assert!(log.write(vec![Group { records, time }]).failed.is_none());
    log.sync().unwrap();
    let index = open(MemoryTables::default()).unwrap();
    let all: Vec<Stored> = log.reader().from(JournalPosition(0)).map(Result::unwrap).collect();
    index.follow(&all).unwrap();
    index
}

#[test]
fn rows_without_a_word_on_how_far_they_go_are_doubted() {
    assert_eq!(open(MemoryTables::default()).unwrap().reached().next, 0);
    let tables = MemoryTables::default();
    tables.commit(&Writes::from([(b"x".to_vec(), Some(b"1".to_vec()))])).unwrap();
    assert!(matches!(open(tables), Err(IndexError::Doubt(_))));
}

#[test]
fn a_position_is_eight_bytes_and_nothing_else() {
    let index = followed();
    let id = LeaseId([3; 16]);
    assert_eq!(index.lease(&id).unwrap(), None);
    for (bytes, good) in [(7, false), (8, true), (9, false), (0, false)] {
        let row = (key(b'l', &[&id.0]), Some(vec![0; bytes]));
        index.tables().commit(&Writes::from([row])).unwrap();
        assert_eq!(index.lease(&id).is_ok(), good, "{bytes} bytes");
    }
}

#[test]
fn an_image_names_its_jobs() {
    let (index, spec) = (followed(), spec("a", 1));
    let (repository, digest) = (&spec.subject.repository, &spec.subject.digest);
    assert_eq!(index.jobs_of(repository, digest).unwrap(), [spec.id]);
    assert_eq!(index.jobs_of(repository, &Digest::of(b"another")).unwrap(), []);
    let elsewhere = "registry.example/demo/other".parse().unwrap();
    assert_eq!(index.jobs_of(&elsewhere, digest).unwrap(), []);
}

#[test]
fn tenants_are_counted_over_more_than_a_page() {
    let index = followed();
    let row = |n: usize| {
        let tenant = format!("tenant-{n:06}");
        (key(b't', &[tenant.as_bytes()]), Some(1_u64.to_be_bytes().to_vec()))
    };
    let rows: Writes = (0..PAGE_MAX + 5).map(row).collect();
    index.tables().commit(&rows).unwrap();
    let totals = read_totals(index.tables()).unwrap();
    assert_eq!(totals.by_tenant.len(), PAGE_MAX + 6, "those, and the one that announced");
}

#[test]
fn waiting_jobs_are_found_by_their_route_the_earliest_first() {
    let index = followed();
    let (job, route) = (spec("a", 1).id, spec("a", 1).route());
    assert_eq!(index.waiting_routes(10).unwrap(), std::slice::from_ref(&route));
    assert_eq!(index.waiting(&route, 10).unwrap(), [job]);
    for other in [
        Route { architecture: "arm64".into(), ..route.clone() },
        Route { registry: String::new(), ..route.clone() },
        // The same text, cut elsewhere.
        Route { architecture: "amd64a".into(), rebuilder: "pko".into(), ..route.clone() },
        Route { memory_class: 1, ..route.clone() },
    ] {
        assert!(index.waiting(&other, 10).unwrap().is_empty(), "{other:?}");
    }
    assert!(index.waiting_routes(0).unwrap().is_empty());
    // A row of a job that is not there, or that lies among those of another route, is a doubt.
    for lost in [JobId(Digest::of(b"lost")), job] {
        let row = key(b'w', &[&[255; 16], &[0; 8], lost.0.raw()]);
        index.tables().commit(&Writes::from([(row.clone(), Some(Vec::new()))])).unwrap();
        assert!(matches!(index.waiting_routes(10), Err(IndexError::Doubt(_))));
        index.tables().commit(&Writes::from([(row, None)])).unwrap();
    }
}

/// Tables that count how often they are read.
#[derive(Default)]
struct Counted(MemoryTables, std::sync::atomic::AtomicUsize);

impl Tables for Counted {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, TableError> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.0.get(key)
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Rows, TableError> {
        self.0.range(from, to, limit)
    }

    fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<Row>, TableError> {
        self.0.last(from, to)
    }

    fn commit(&self, writes: &Writes) -> Result<(), TableError> {
        self.0.commit(writes)
    }
}

#[test]
fn a_job_that_is_new_is_not_looked_for_and_one_that_is_there_is_found() {
    let (first, second) = (followed(), spec("a", 1).id);
    let rows = first.tables().range(&[0], &[255], 10_000).unwrap();
    let writes: Writes = rows.into_iter().map(|(key, value)| (key, Some(value))).collect();
    // Of 2,500 jobs, on three pages, the tables have this one's state.
    let image = |n: u32| {
        let id = Digest::of(&n.to_be_bytes());
        (key(b'i', &[&[9; 16], Digest::of(b"m").raw(), id.raw()]), Some(Vec::new()))
    };
    let tables = Counted::default();
    tables.commit(&writes).unwrap();
    tables.commit(&(0..2500).map(image).collect()).unwrap();
    let index = Index::open(tables, &[7; 16], Digest::of(b"start")).unwrap();
    let looks = |id: &JobId| {
        let before = index.tables().1.load(std::sync::atomic::Ordering::Relaxed);
        let found = index.job(id).unwrap().is_some();
        (found, index.tables().1.load(std::sync::atomic::Ordering::Relaxed) - before)
    };
    let new = JobId(Digest::of(b"new"));
    assert_eq!((looks(&new), looks(&second)), ((false, 1), (true, 1)), "nothing was learned yet");
    let (mut behind, mut pages) = (None, 0);
    loop {
        behind = index.learn_jobs(behind.as_deref()).unwrap();
        pages += 1;
        if behind.is_none() {
            break;
        }
        assert_eq!((looks(&new), looks(&second)), ((false, 1), (true, 1)), "not all yet");
    }
    assert_eq!(pages, 3);
    assert_eq!((looks(&new), looks(&second)), ((false, 0), (true, 1)));
    let all = (0..2500).all(|n: u32| looks(&JobId(Digest::of(&n.to_be_bytes()))) == (false, 1));
    assert!(all, "a job of the tables is always looked for");
}
