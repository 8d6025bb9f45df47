//! The journal at work: one thread writes and syncs what many callers append, one follows.
//!
//! Group commit: whatever arrived while the last `fdatasync` ran is written together and synced
//! once. The order of every append is: frames, sync, the follower (the index), the caller's answer.
//!
//! Invariant: a caller is answered "appended" only after sync and follower. When an append is
//! refused for lack of room, every append that was decided before its caller could know of it is
//! refused too (`epoch`): it may rest on the one that was not made. A failed sync ends the journal
//! for good and calls `on_fatal`, which in a daemon ends the process.

use super::{
    disk::Disk,
    error::JournalError,
    figures::{GROUP_BOUNDS, SYNC_MICROS_BOUNDS, SyncFigures, Tally},
    log::{GROUP_BYTES_MAX, Group, Log},
    read::Reader,
    record::Stored,
};
use attest::id::JournalPosition;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel},
    },
    task::{Context, Poll},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

/// Bytes that go to the disk in one batch: 8 MiB, a few milliseconds of any disk.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// Bytes that may wait for the disk: 64 MiB, eight batches. Above it appends are refused.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// Batches that may wait for the follower: the writer is one ahead, not more.
const FOLLOWER_BATCHES_MAX: usize = 2;
/// How often what was acknowledged is put on record as the floor: once a second.
const FLOOR_INTERVAL: Duration = Duration::from_secs(1);

/// Is told every durable record, in order, before the callers are.
pub trait Follower: Send + 'static {
    /// These records are durable now.
    fn durable(&mut self, records: &[Stored]) -> Result<(), String>;

    /// The appends of this epoch that were not answered yet are refused, and the next one begins.
    /// Everything durable was shown before.
    fn refused(&mut self, epoch: u64);
}

/// A follower that does nothing.
pub struct NoFollower;

impl Follower for NoFollower {
    fn durable(&mut self, _: &[Stored]) -> Result<(), String> {
        Ok(())
    }

    fn refused(&mut self, _: u64) {}
}

/// Called once when the journal cannot go on. A daemon ends its process here.
pub type OnFatal = Box<dyn Fn(&JournalError) + Send + Sync>;

/// Where records of a group came to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The position of the first record, or of the next one if there was none.
    pub first: JournalPosition,
    /// How many there are.
    pub records: usize,
}

type Answer = Result<Appended, JournalError>;

/// Becomes the answer to an append. Dropping it does not take the append back.
pub struct Ticket(oneshot::Receiver<Answer>);

impl Ticket {
    /// Waits on this thread. Not for async code.
    pub fn wait(self) -> Answer {
        self.0.blocking_recv().unwrap_or(Err(JournalError::Closed))
    }

    fn ready(answer: Answer) -> Self {
        let (sender, receiver) = oneshot::channel();
        let _ = sender.send(answer);
        Self(receiver)
    }
}

impl Future for Ticket {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        Pin::new(&mut self.0).poll(context).map(|got| got.unwrap_or(Err(JournalError::Closed)))
    }
}

enum Command {
    Append { group: Group, bytes: usize, epoch: u64, reply: oneshot::Sender<Answer> },
    RaiseFloor { reply: oneshot::Sender<Answer> },
}

enum Done {
    Batch { groups: Vec<(Vec<Stored>, oneshot::Sender<Answer>)>, refused: Option<Refused> },
    Fatal { error: JournalError, replies: Vec<oneshot::Sender<Answer>> },
}

struct Refused {
    replies: Vec<(oneshot::Sender<Answer>, JournalError)>,
    /// Set when the appends of the current epoch must not be made any more.
    ended: Option<u64>,
}

struct State {
    waiting_bytes: AtomicUsize,
    /// As the follower has seen it: appends are decided under this epoch.
    epoch: AtomicU64,
    fatal: OnceLock<JournalError>,
    micros: Tally,
    groups: Tally,
    /// Nanoseconds and number of the syncs so far, for metrics.
    sync_nanos: AtomicU64,
    syncs: AtomicU64,
}

/// How much the journal has synced: the fsync latency of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncTotals {
    /// Syncs so far.
    pub syncs: u64,
    /// Nanoseconds spent in them.
    pub nanoseconds: u64,
}

/// A journal in a directory, with its writing threads.
pub struct FileJournal<D: Disk> {
    commands: Mutex<Option<Sender<Command>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    state: Arc<State>,
    reader: Reader<D>,
}

impl<D: Disk> FileJournal<D> {
    /// Starts the threads. `on_fatal` is called from one of them.
    pub fn start(log: Log<D>, follower: impl Follower, on_fatal: OnFatal) -> std::io::Result<Self> {
        let reader = log.reader();
        let state = Arc::new(State {
            waiting_bytes: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
            fatal: OnceLock::new(),
            micros: Tally::new(&SYNC_MICROS_BOUNDS),
            groups: Tally::new(&GROUP_BOUNDS),
            sync_nanos: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
        });
        let (commands, receiver) = channel();
        let (done, finished) = sync_channel(FOLLOWER_BATCHES_MAX);
        let writer = Writer { log, state: state.clone(), epoch: 0, floor_at: Instant::now() };
        let mut follow = Follow { follower, state: state.clone(), on_fatal };
        let writing = std::thread::Builder::new()
            .name("journal-writer".into())
            .spawn(move || writer.run(&receiver, |work| done.send(work).is_ok()))?;
        let following =
            std::thread::Builder::new().name("journal-follower".into()).spawn(move || {
                let ended = catch_unwind(AssertUnwindSafe(|| {
                    while let Ok(work) = finished.recv() {
                        follow.take(work);
                    }
                }));
                if ended.is_err() {
                    let why = "the index gave up while it followed";
                    follow.end(&JournalError::Fatal(why.into()), Vec::new());
                }
            })?;
        Ok(Self {
            commands: Mutex::new(Some(commands)),
            threads: Mutex::new(vec![writing, following]),
            state,
            reader,
        })
    }

    /// Appends a group that was decided under `epoch` (see [`FileJournal::epoch`]); the ticket is
    /// answered when it is durable and followed. A group of no records waits for all before it.
    pub fn append(&self, group: Group, epoch: u64) -> Ticket {
        let bytes = group.bytes();
        if let Some(error) = self.state.fatal.get() {
            return Ticket::ready(Err(error.clone()));
        }
        self.send(|reply| Command::Append { group, bytes, epoch, reply }, bytes)
    }

    /// Can anything be appended now? Asked before anything is decided: a group that is too long is
    /// refused by the writer only, because what was decided with it must then be taken back.
    pub fn ready(&self) -> Result<(), JournalError> {
        if let Some(error) = self.state.fatal.get() {
            return Err(error.clone());
        }
        let found = self.state.waiting_bytes.load(Ordering::Relaxed);
        let limit = WAITING_BYTES_MAX - GROUP_BYTES_MAX;
        if found > limit {
            return Err(JournalError::Overloaded { limit, found });
        }
        Ok(())
    }

    /// Puts on record that others were promised everything durable now, for instance by a tree
    /// head. The coordinator will not start again on a journal that ends before it.
    pub fn raise_floor(&self) -> Ticket {
        self.send(|reply| Command::RaiseFloor { reply }, 0)
    }

    /// The epoch under which appends are decided. It ends when one is refused after the decision.
    pub fn epoch(&self) -> u64 {
        self.state.epoch.load(Ordering::Acquire)
    }

    /// Reads durable records.
    pub fn reader(&self) -> Reader<D> {
        self.reader.clone()
    }

    /// Syncs so far, and the time they took.
    pub fn sync_totals(&self) -> SyncTotals {
        SyncTotals {
            syncs: self.state.syncs.load(Ordering::Relaxed),
            nanoseconds: self.state.sync_nanos.load(Ordering::Relaxed),
        }
    }

    /// How the syncs are spread.
    pub fn sync_figures(&self) -> SyncFigures {
        SyncFigures { micros: self.state.micros.spread(), groups: self.state.groups.spread() }
    }

    /// Finishes what was appended and stops. Later appends are refused.
    pub fn close(&self) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A thread that panicked has nothing more to finish.
            let _ = thread.join();
        }
    }

    fn send(
        &self,
        command: impl FnOnce(oneshot::Sender<Answer>) -> Command,
        bytes: usize,
    ) -> Ticket {
        let (reply, receiver) = oneshot::channel();
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(sender) = commands.as_ref() else {
            return Ticket::ready(Err(JournalError::Closed));
        };
        self.state.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        // A receiver that is gone drops the reply, and the ticket says `Closed`.
        let _ = sender.send(command(reply));
        Ticket(receiver)
    }
}

impl<D: Disk> Drop for FileJournal<D> {
    fn drop(&mut self) {
        self.close();
    }
}

struct Writer<D: Disk> {
    log: Log<D>,
    state: Arc<State>,
    epoch: u64,
    floor_at: Instant,
}

/// One append on its way through the writer.
type Waiting = (Group, oneshot::Sender<Answer>);

impl<D: Disk> Writer<D> {
    fn run(mut self, commands: &Receiver<Command>, done: impl Fn(Done) -> bool) {
        let mut floor_due = false;
        loop {
            let first = match commands.recv_timeout(FLOOR_INTERVAL) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let Some(first) = first else {
                // Idle: the floor catches up, off everybody's way.
                if std::mem::take(&mut floor_due) {
                    self.floor_for_receipts();
                }
                continue;
            };
            let mut batch = Batch::default();
            batch.take(first, self.epoch);
            while batch.bytes < BATCH_BYTES_MAX {
                match commands.try_recv() {
                    Ok(command) => batch.take(command, self.epoch),
                    Err(_) => break,
                }
            }
            self.state.waiting_bytes.fetch_sub(batch.bytes, Ordering::Relaxed);
            let work = self.commit(batch);
            let fatal = matches!(work, Done::Fatal { .. });
            if !done(work) {
                return;
            }
            if fatal {
                drain(commands, &self.state);
                return;
            }
            floor_due = true;
            if self.floor_at.elapsed() >= FLOOR_INTERVAL {
                floor_due = false;
                self.floor_for_receipts();
            }
        }
        self.floor_for_receipts();
    }

    /// Best effort: a floor that is not written promises less, never more.
    fn floor_for_receipts(&mut self) {
        self.floor_at = Instant::now();
        if self.state.fatal.get().is_none()
            && let Err(error) = self.log.raise_floor()
        {
            tracing::warn!(error = %error, "the floor of the journal could not be recorded");
        }
    }

    fn commit(&mut self, batch: Batch) -> Done {
        let Batch { groups, mut refused, floors, .. } = batch;
        let (groups, mut replies): (Vec<Group>, Vec<_>) = groups.into_iter().unzip();
        let written = self.log.write(groups);
        let fatal = |error: &JournalError| {
            !matches!(error, JournalError::NoSpace | JournalError::TooLong { .. })
        };
        if let Some(error) = written.failed.as_ref().filter(|error| fatal(error)) {
            replies.extend(refused.into_iter().map(|(reply, _)| reply).chain(floors));
            return Done::Fatal { error: error.clone(), replies };
        }
        let started = Instant::now();
        if let Err(error) = self.log.sync() {
            replies.extend(refused.into_iter().map(|(reply, _)| reply).chain(floors));
            return Done::Fatal { error, replies };
        }
        let nanos = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.state.sync_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.state.syncs.fetch_add(1, Ordering::Relaxed);
        self.state.micros.count(nanos / 1000);
        self.state.groups.count(written.groups.len() as u64);
        let rest = replies.split_off(written.groups.len());
        let mut ended = None;
        if let Some(error) = written.failed {
            self.epoch += 1;
            ended = Some(self.epoch);
            let after = match error {
                JournalError::TooLong { .. } => JournalError::Superseded,
                _ => error.clone(),
            };
            let reasons = std::iter::once(error).chain(std::iter::repeat(after));
            refused.extend(rest.into_iter().zip(reasons));
        }
        for reply in floors {
            let end = self.log.next();
            let raised = self.log.raise_floor().map(|()| Appended { first: end, records: 0 });
            // Answered here: it depends on nothing that the follower does.
            let _ = reply.send(raised);
        }
        let refused =
            (!refused.is_empty() || ended.is_some()).then_some(Refused { replies: refused, ended });
        Done::Batch { groups: written.groups.into_iter().zip(replies).collect(), refused }
    }
}

/// After the end of the journal everything is refused with the reason.
fn drain(commands: &Receiver<Command>, state: &State) {
    while let Ok(command) = commands.recv() {
        let error = state.fatal.get().cloned().unwrap_or(JournalError::Closed);
        let (Command::Append { reply, .. } | Command::RaiseFloor { reply }) = command;
        let _ = reply.send(Err(error));
    }
}

#[derive(Default)]
struct Batch {
    groups: Vec<Waiting>,
    refused: Vec<(oneshot::Sender<Answer>, JournalError)>,
    floors: Vec<oneshot::Sender<Answer>>,
    bytes: usize,
}

impl Batch {
    fn take(&mut self, command: Command, current: u64) {
        match command {
            Command::Append { group, bytes, epoch, reply } => {
                self.bytes += bytes;
                if epoch == current {
                    self.groups.push((group, reply));
                } else {
                    self.refused.push((reply, JournalError::Superseded));
                }
            }
            Command::RaiseFloor { reply } => self.floors.push(reply),
        }
    }
}

struct Follow<F: Follower> {
    follower: F,
    state: Arc<State>,
    on_fatal: OnFatal,
}

impl<F: Follower> Follow<F> {
    fn take(&mut self, work: Done) {
        match work {
            Done::Batch { groups, refused } => self.batch(groups, refused),
            Done::Fatal { error, replies } => self.end(&error, replies),
        }
    }

    fn batch(
        &mut self,
        groups: Vec<(Vec<Stored>, oneshot::Sender<Answer>)>,
        refused: Option<Refused>,
    ) {
        let mut records = Vec::with_capacity(groups.len());
        let mut answers = Vec::with_capacity(groups.len());
        for (group, reply) in groups {
            answers.push((group.first().map(|stored| stored.position), group.len(), reply));
            records.extend(group);
        }
        if self.state.fatal.get().is_none()
            && let Err(why) = self.follower.durable(&records)
        {
            self.end(&JournalError::Fatal(format!("the index could not follow: {why}")), vec![]);
        }
        if let Some(error) = self.state.fatal.get() {
            for (_, _, reply) in answers {
                let _ = reply.send(Err(error.clone()));
            }
            return;
        }
        let mut next = records.last().map_or(JournalPosition(0), |last| last.position.next());
        for (first, count, reply) in answers.into_iter().rev() {
            next = first.unwrap_or(next);
            let _ = reply.send(Ok(Appended { first: next, records: count }));
        }
        if let Some(Refused { replies, ended }) = refused {
            if let Some(epoch) = ended {
                self.follower.refused(epoch);
                self.state.epoch.store(epoch, Ordering::Release);
            }
            for (reply, error) in replies {
                let _ = reply.send(Err(error));
            }
        }
    }

    fn end(&mut self, error: &JournalError, replies: Vec<oneshot::Sender<Answer>>) {
        let error = JournalError::Fatal(error.to_string());
        if self.state.fatal.set(error.clone()).is_ok() {
            (self.on_fatal)(&error);
        }
        for reply in replies {
            let _ = reply.send(Err(error.clone()));
        }
    }
}
