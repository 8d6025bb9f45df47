//! What is known, as tables for research: pages of rows with a cursor that stays valid.
//!
//! Invariant: a row follows from the journal (and, where the column says so, from the newest
//! verdict); a cursor is a position of the journal and a number within its rows, so it survives a
//! restart and a new index. A page is bounded in rows, in bytes and in records that are looked at;
//! a page without rows is not the end, an empty next cursor is. Nothing here is an answer to a gate.

pub mod columns;
mod observed;
mod steps;

pub use columns::{Column, Table, UnknownTable, markdown};

use super::{
    Core,
    evidence::{SubmittedImage, about_image},
    watch::look::{TagEvent, TagRecord, about_tags},
};
use crate::{
    journal::{Kind, Stored},
    queue::Job,
    store::{HistoryEvent, HistoryRow, StoreError},
};
use attest::{
    Digest, Repository,
    id::{JobId, JournalPosition},
    verdict::Finding,
};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    str::FromStr,
};

/// Most rows of one page.
pub const ROWS_MAX: usize = 1000;
/// Bytes of one page, above which no further row is begun: far below a message's 32 MiB.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Records of the journal that one page looks at: some tens of milliseconds.
const SCAN_MAX: usize = 10_000;
/// Records that are read at a time.
const SCAN_RECORDS: usize = 200;
/// Jobs and verdicts that one page remembers.
const REMEMBERED_MAX: usize = 1000;

/// Where an export goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cursor {
    /// The record whose rows come next.
    pub position: u64,
    /// How many of its rows were given already.
    pub rows: u32,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rows {
            0 => write!(f, "{}", self.position),
            rows => write!(f, "{}.{rows}", self.position),
        }
    }
}

/// Not a cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a cursor that an export gave, found {0:?}")]
pub struct CursorError(String);

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let bad = || CursorError(text.chars().take(64).collect());
        let (position, rows) = text.split_once('.').unwrap_or((text, "0"));
        let position = position.parse().map_err(|_| bad())?;
        Ok(Self { position, rows: rows.parse().map_err(|_| bad())? })
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which table.
    pub table: Table,
    /// Of which repository; none: all.
    pub repository: Option<Repository>,
    /// Of which images of it, an index with its platforms; empty: all.
    pub digests: BTreeSet<Digest>,
    /// From where on.
    pub from: Cursor,
    /// How many rows at most.
    pub rows_max: usize,
}

/// Rows, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// One JSON object each.
    pub rows: Vec<Vec<u8>>,
    /// Where this page ended: an export of later goes on here.
    pub end: Cursor,
    /// True where there was nothing more.
    pub done: bool,
}

/// A row of a table: every column, `null` until it is set.
pub(super) struct Row(Map<String, Value>);

impl Row {
    fn new(table: Table) -> Self {
        let mut map = Map::new();
        map.insert("schema".to_owned(), table.schema().into());
        map.extend(table.columns().iter().map(|c| (c.name.to_owned(), Value::Null)));
        Self(map)
    }

    fn set(&mut self, column: &str, value: impl Into<Value>) {
        debug_assert!(self.0.contains_key(column), "no column {column}");
        self.0.insert(column.to_owned(), value.into());
    }

    fn text(&mut self, column: &str, value: impl fmt::Display) {
        self.set(column, value.to_string());
    }

    fn maybe(&mut self, column: &str, value: Option<impl fmt::Display>) {
        if let Some(value) = value {
            self.text(column, value);
        }
    }

    #[cfg(test)]
    fn get(&self, column: &str) -> &Value {
        &self.0[column]
    }
}

/// What a page remembers while it is made.
pub(super) struct Reading<'a> {
    core: &'a Core,
    asked: &'a Asked,
    jobs: HashMap<JobId, Option<Job>>,
    findings: HashMap<JobId, Option<Finding>>,
    /// The first position that the index had not followed when the page was begun: what is behind it
    /// lacks its job, or its neighbours, and is for the next page.
    indexed: u64,
    /// Submissions of an image in their order: where, and under which tag.
    submissions: HashMap<Digest, Vec<(JournalPosition, Option<String>)>>,
}

impl Reading<'_> {
    fn job(&mut self, id: &JobId) -> Result<Option<Job>, StoreError> {
        if let Some(known) = self.jobs.get(id) {
            return Ok(known.clone());
        }
        let job = self.core.store.job(id)?;
        if self.jobs.len() < REMEMBERED_MAX {
            self.jobs.insert(*id, job.clone());
        }
        Ok(job)
    }

    /// Repository, image and platform of a job.
    fn subject(&mut self, row: &mut Row, id: &JobId) -> Result<(), StoreError> {
        if let Some(job) = self.job(id)? {
            row.text("image_repository", &job.spec.subject.repository);
            row.text("manifest_digest", job.spec.subject.digest);
            row.text("platform", &job.spec.subject.platform);
        }
        Ok(())
    }

    /// What a verdict says, for one that did not settle its job; none if nobody of ours signed it.
    fn outcome_at(&self, position: JournalPosition) -> Result<Option<String>, StoreError> {
        let stored = self.core.store.record(position)?;
        let record = stored.and_then(|stored| self.core.signers.verdict(&stored.body).ok());
        Ok(record.map(|record| record.finding.outcome.as_str().to_owned()))
    }

    fn wants(&self, repository: &Repository, digest: &Digest) -> bool {
        self.asked.repository.as_ref().is_none_or(|wanted| wanted == repository)
            && (self.asked.digests.is_empty() || self.asked.digests.contains(digest))
    }
}

/// Collects rows until the page is full.
struct Filling {
    rows: Vec<Vec<u8>>,
    bytes: usize,
    at: Cursor,
    rows_max: usize,
}

impl Filling {
    /// Takes the rows of one record; false when the page is full in their middle.
    fn take(&mut self, position: u64, rows: Vec<Row>) -> bool {
        let given = if position == self.at.position { self.at.rows } else { 0 };
        self.at = Cursor { position, rows: given };
        for row in rows.into_iter().skip(given as usize) {
            if self.rows.len() >= self.rows_max || self.bytes >= PAGE_BYTES_MAX {
                return false;
            }
            let bytes = serde_json::to_vec(&row.0).unwrap_or_default();
            self.bytes += bytes.len();
            self.rows.push(bytes);
            self.at.rows += 1;
        }
        self.at = Cursor { position: position + 1, rows: 0 };
        true
    }
}

/// An image as everybody names it: with the platforms of the index that the digest is of, if it is
/// one that was submitted.
pub fn with_platforms(
    core: &Core,
    repository: &Repository,
    digest: Digest,
) -> Result<BTreeSet<Digest>, StoreError> {
    let mut digests = BTreeSet::from([digest]);
    let submitted = core.store.newest_about(Kind::EVIDENCE, &about_image(repository, &digest))?;
    let image = submitted.and_then(|s| serde_json::from_slice::<SubmittedImage>(&s.body).ok());
    for platform in image.into_iter().flat_map(|image| image.jobs) {
        if let Some(job) = core.store.job(&platform.job)? {
            digests.insert(job.spec.subject.digest);
        }
    }
    Ok(digests)
}

/// One page.
pub fn page(core: &Core, asked: &Asked) -> Result<Page, StoreError> {
    page_before(core, asked, core.store.disk_figures().indexed.0)
}

/// The same of an index that followed so far.
fn page_before(core: &Core, asked: &Asked, indexed: u64) -> Result<Page, StoreError> {
    let (jobs, findings, submissions) = Default::default();
    let mut reading = Reading { core, asked, jobs, findings, indexed, submissions };
    let rows_max = asked.rows_max.clamp(1, ROWS_MAX);
    let mut filling = Filling { rows: Vec::new(), bytes: 0, at: asked.from, rows_max };
    let done = match asked.table {
        Table::Transitions | Table::Verdicts => scan(&mut reading, &mut filling)?,
        Table::Tags if asked.repository.is_none() => scan(&mut reading, &mut filling)?,
        _ => merged(&mut reading, &mut filling)?,
    };
    Ok(Page { rows: filling.rows, end: filling.at, done })
}

/// Rows of the index's history, with the tags of the repository among them where the table has
/// both.
fn merged(reading: &mut Reading<'_>, filling: &mut Filling) -> Result<bool, StoreError> {
    let (core, asked) = (reading.core, reading.asked);
    let from = JournalPosition(filling.at.position);
    let limit = filling.rows_max;
    let wants_tags = matches!(asked.table, Table::History | Table::Tags);
    let mut lists = Vec::new();
    match (&asked.repository, asked.table) {
        (_, Table::Tags) => {}
        (Some(repository), _) if asked.digests.is_empty() => {
            lists.push(core.store.history_of(repository, None, from, limit)?);
        }
        (Some(repository), _) => {
            for digest in &asked.digests {
                lists.push(core.store.history_of(repository, Some(digest), from, limit)?);
            }
        }
        (None, _) => lists.push(core.store.export(from, limit)?),
    }
    let tags = match &asked.repository {
        Some(repository) if wants_tags => {
            core.store.records_about(Kind::TAG_SEEN, &about_tags(repository), from, limit)?
        }
        _ => Vec::new(),
    };
    // Beyond the shortest of the lists that were cut something of the others could be missing.
    let full = |cut: bool, last: Option<u64>| last.filter(|_| cut);
    let mut ends = vec![full(tags.len() >= limit, tags.last().map(|stored| stored.position.0))];
    ends.extend(
        lists.iter().map(|list| full(list.len() >= limit, list.last().map(|row| row.position.0))),
    );
    let horizon = ends.into_iter().flatten().min();
    // What the index followed after the first of them was read: at the next page.
    let last = horizon.into_iter().chain(reading.indexed.checked_sub(1)).min();
    let mut found: Vec<Found> = lists.into_iter().flatten().map(Found::Row).collect();
    found.extend(tags.into_iter().map(Found::Record));
    found.sort_by_key(Found::position);
    for one in found {
        let position = one.position();
        if last.is_some_and(|last| position > last) {
            break;
        }
        let rows = match one {
            Found::Row(row) => of_history(reading, &row)?,
            Found::Record(stored) => of_tag(reading, &stored),
        };
        if !filling.take(position, rows) {
            return Ok(false);
        }
    }
    Ok(horizon.is_none())
}

enum Found {
    Row(HistoryRow),
    Record(Stored),
}

impl Found {
    fn position(&self) -> u64 {
        match self {
            Self::Row(row) => row.position.0,
            Self::Record(stored) => stored.position.0,
        }
    }
}

/// Rows of the journal itself, record by record.
fn scan(reading: &mut Reading<'_>, filling: &mut Filling) -> Result<bool, StoreError> {
    for _ in 0..SCAN_MAX / SCAN_RECORDS {
        let store = &reading.core.store;
        let mut records = store.records(JournalPosition(filling.at.position), SCAN_RECORDS)?;
        records.retain(|stored| stored.position.0 < reading.indexed);
        let end = records.len() < SCAN_RECORDS;
        for stored in records {
            let rows = match (stored.kind, reading.asked.table) {
                (Kind::TRANSITION, Table::Transitions) => steps::row(reading, &stored)?,
                (Kind::VERDICT, Table::Verdicts) => steps::verdict(reading, &stored)?,
                (Kind::TAG_SEEN, Table::Tags) => of_tag(reading, &stored),
                _ => Vec::new(),
            };
            if !filling.take(stored.position.0, rows) {
                return Ok(false);
            }
        }
        if end {
            return Ok(true);
        }
    }
    Ok(false)
}

fn of_history(reading: &mut Reading<'_>, row: &HistoryRow) -> Result<Vec<Row>, StoreError> {
    match (reading.asked.table, &row.event) {
        (Table::History, _) => history(reading, row),
        (Table::Observations, HistoryEvent::Observation { .. }) => observed::row(reading, row),
        (Table::Materials, HistoryEvent::Observation { .. }) => observed::materials(reading, row),
        (Table::Packages, HistoryEvent::Observation { .. }) => observed::packages(reading, row),
        (Table::Diffs, HistoryEvent::Observation { .. }) => observed::differences(reading, row),
        _ => Ok(Vec::new()),
    }
}

fn history(reading: &mut Reading<'_>, of: &HistoryRow) -> Result<Vec<Row>, StoreError> {
    let mut row = Row::new(Table::History);
    row.set("position", of.position.0);
    row.text("recorded_at", of.time);
    row.text("job", of.job);
    row.set("attempt", of.attempt.0);
    reading.subject(&mut row, &of.job)?;
    match &of.event {
        HistoryEvent::Verdict { outcome } => {
            row.set("kind", "verdict");
            let outcome = match outcome {
                Some(outcome) => Some(outcome.clone()),
                None => reading.outcome_at(of.position)?,
            };
            row.maybe("outcome", outcome);
            row.text("observed_at", of.time);
        }
        HistoryEvent::Observation {
            observation, operator, worker, outcome, role, class, ..
        } => {
            row.set("kind", "observation");
            row.text("obs_id", observation);
            row.text("operator", operator);
            row.text("worker", worker);
            row.set("outcome", outcome.as_str());
            row.set("failure_class", class.as_str());
            row.set("role", role.as_str());
            let at = observed::time(reading, of)?;
            row.text("observed_at", at.unwrap_or(of.time));
        }
    }
    Ok(vec![row])
}

/// A tag that was new or moved; that its image was submitted is no news.
fn of_tag(reading: &Reading<'_>, stored: &Stored) -> Vec<Row> {
    let Ok(record) = serde_json::from_slice::<TagRecord>(&stored.body) else { return Vec::new() };
    let about = [Some(record.digest), record.before];
    let wanted = about.iter().flatten().any(|d| reading.wants(&record.repository, d));
    if record.event != TagEvent::Seen || !wanted {
        return Vec::new();
    }
    let mut row = Row::new(reading.asked.table);
    row.set("position", stored.position.0);
    row.text("recorded_at", stored.time);
    row.text("image_repository", &record.repository);
    row.set("tag", record.tag.as_str());
    if reading.asked.table == Table::Tags {
        row.text("digest", record.digest);
        row.maybe("before", record.before);
    } else {
        row.set("kind", "tag");
        row.text("observed_at", stored.time);
        row.text("manifest_digest", record.digest);
        row.set("outcome", if record.before.is_some() { "moved" } else { "new" });
        row.maybe("tag_before", record.before);
    }
    vec![row]
}

/// Milliseconds as seconds with a fraction.
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_others_are_refused() {
        for cursor in [
            Cursor::default(),
            Cursor { position: 7, rows: 0 },
            Cursor { position: 1 << 40, rows: 9 },
        ] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for bad in ["", "x", "-1", "1.x", "1.2.3", "99999999999999999999"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_the_index_did_not_follow_yet_is_for_the_next_page() {
        let folder = tempfile::tempdir().unwrap();
        let core = crate::daemon::publish::tests::core(folder.path());
        for recipe in [b"1", b"2"] {
            crate::daemon::publish::tests::announce(&core, recipe, None).await;
        }
        let end = core.store.end().0;
        let rows = |from, indexed| {
            let repository = Some("registry.example/demo/hello".parse().unwrap());
            let (table, digests, rows_max) = (Table::Transitions, BTreeSet::new(), 10);
            let asked = Asked { table, repository, digests, from, rows_max };
            let page = page_before(&core, &asked, indexed).unwrap();
            (page.rows.len(), page.end)
        };
        assert_eq!(rows(Cursor::default(), end).0, 2);
        for indexed in 0..end {
            let (first, at) = rows(Cursor::default(), indexed);
            assert!(at.position <= indexed, "{at} is behind {indexed}");
            assert_eq!(first + rows(at, end).0, 2, "{indexed} of {end}");
        }
    }

    #[test]
    fn a_page_ends_within_a_record_and_goes_on_there() {
        let rows = || -> Vec<Row> {
            (0..5u64)
                .map(|n| {
                    let mut row = Row::new(Table::Materials);
                    row.set("n", n);
                    row
                })
                .collect()
        };
        let mut at = Cursor::default();
        let mut seen = Vec::new();
        for _ in 0..3 {
            let mut filling = Filling { rows: Vec::new(), bytes: 0, at, rows_max: 2 };
            let whole = filling.take(3, rows());
            at = filling.at;
            for row in filling.rows {
                seen.push(serde_json::from_slice::<Value>(&row).unwrap()["n"].as_u64().unwrap());
            }
            assert_eq!(whole, seen.len() == 5);
        }
        assert_eq!(seen, [0, 1, 2, 3, 4]);
        assert_eq!(at, Cursor { position: 4, rows: 0 });
        assert_eq!(Row::new(Table::Materials).get("uri"), &Value::Null);
    }
}
