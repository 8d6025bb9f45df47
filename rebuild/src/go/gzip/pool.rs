//! Encodes blocks on several threads and hands them back in order.
//!
//! Invariant: the blocks of a stream come out in the order they went in, and no more are in flight
//! than [`Pool::is_full`] allows. A thread that ends early is an error, never a missing block.
//! Buffers go round: a block that was written is filled again.

use std::{
    collections::VecDeque,
    io,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use flate2::Crc;

use super::{BLOCK_BYTES, DICTIONARY_BYTES};
use crate::go::deflate::{Encoder, Variant};

/// Blocks of one stream in flight beside one for each thread, at about 2.5 MiB each.
const BLOCKS_WAITING: usize = 2;

/// One block on its way: raw first, then encoded.
#[derive(Debug, Default)]
pub(super) struct Block {
    /// Dictionary and data.
    pub(super) window: Vec<u8>,
    /// How much of the window is dictionary.
    pub(super) dictionary: usize,
    /// The stream ends here.
    pub(super) last: bool,
    /// The deflate blocks.
    pub(super) encoded: Vec<u8>,
    /// Of the data.
    pub(super) checksum: Crc,
}

impl Block {
    /// The part of the window that this block stands for.
    pub(super) fn data(&self) -> &[u8] {
        &self.window[self.dictionary..]
    }

    fn encode(&mut self, encoder: &mut Encoder) {
        self.checksum = Crc::new();
        self.checksum.update(&self.window[self.dictionary..]);
        encoder.encode(&self.window, self.dictionary, self.last, &mut self.encoded);
    }
}

/// A block and the way back for it.
type Task = (Block, Sender<Block>);

/// Threads that encode the blocks of any number of streams, in the order they come. They start
/// when a stream has more than one block, and end with the last stream.
#[derive(Debug)]
pub struct Encoders {
    variant: Variant,
    threads: NonZeroUsize,
    tasks: Option<Sender<Task>>,
    source: Arc<Mutex<Receiver<Task>>>,
    running: Mutex<Vec<JoinHandle<()>>>,
}

impl Encoders {
    /// Up to so many threads; with 0 or 1 every stream encodes where it is written.
    pub fn new(variant: Variant, threads: usize) -> Self {
        let (tasks, source) = channel();
        Self {
            variant,
            threads: NonZeroUsize::new(threads).unwrap_or(NonZeroUsize::MIN),
            tasks: Some(tasks),
            source: Arc::new(Mutex::new(source)),
            running: Mutex::new(Vec::new()),
        }
    }

    fn running(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn submit(&self, task: Task) -> io::Result<()> {
        let mut running = self.running();
        if running.len() < self.threads.get() {
            let (variant, source) = (self.variant, Arc::clone(&self.source));
            let thread = std::thread::Builder::new().name("pgzip".to_owned());
            running.push(thread.spawn(move || serve(variant, &source))?);
        }
        drop(running);
        let lost = || io::Error::other("all compression threads ended early");
        let tasks = self.tasks.as_ref().ok_or_else(lost)?;
        tasks.send(task).map_err(|_| lost())
    }
}

impl Drop for Encoders {
    fn drop(&mut self) {
        self.tasks = None;
        for thread in self.running().drain(..) {
            // A panic in it was reported as an error of the block that caused it.
            let _ = thread.join();
        }
    }
}

/// The blocks of one stream.
#[derive(Debug)]
pub(super) struct Pool {
    encoders: Arc<Encoders>,
    /// For blocks encoded on the calling thread.
    encoder: Option<Encoder>,
    in_flight: VecDeque<Receiver<Block>>,
    spare: Vec<Block>,
}

impl Pool {
    pub(super) fn new(encoders: Arc<Encoders>) -> Self {
        Self { encoders, encoder: None, in_flight: VecDeque::new(), spare: Vec::new() }
    }

    /// An empty block.
    pub(super) fn block(&mut self) -> Block {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes back the buffers of a block that was written.
    pub(super) fn recycle(&mut self, mut block: Block) {
        block.window.clear();
        block.dictionary = 0;
        block.last = false;
        self.spare.push(block);
    }

    /// True when the oldest block must be taken before another may come.
    pub(super) fn is_full(&self) -> bool {
        let most = match self.encoders.threads.get() {
            1 => 1,
            threads => threads.saturating_add(BLOCKS_WAITING),
        };
        self.in_flight.len() >= most
    }

    /// Waits for the block that was submitted first; nothing when none is in flight.
    pub(super) fn oldest(&mut self) -> Option<io::Result<Block>> {
        let block = self.in_flight.pop_front()?;
        Some(block.recv().map_err(|_| io::Error::other("a compression thread ended early")))
    }

    /// Encodes a block, here or on a thread. A stream of one block needs no thread.
    pub(super) fn submit(&mut self, mut block: Block) -> io::Result<()> {
        let (way_back, done) = channel();
        self.in_flight.push_back(done);
        let only = block.last && block.dictionary == 0;
        if only || self.encoders.threads == NonZeroUsize::MIN {
            let variant = self.encoders.variant;
            let encoder = self.encoder.get_or_insert_with(|| Encoder::new(variant));
            block.encode(encoder);
            // The receiver was queued some lines above.
            let _ = way_back.send(block);
            return Ok(());
        }
        self.encoders.submit((block, way_back))
    }
}

/// What each thread does: block after block, until there will be no more.
fn serve(variant: Variant, source: &Mutex<Receiver<Task>>) {
    let mut encoder = Encoder::new(variant);
    loop {
        let task = match source.lock() {
            Ok(source) => source.recv(),
            Err(_) => return,
        };
        let Ok((mut block, way_back)) = task else { return };
        block.encode(&mut encoder);
        // Nobody waits where the stream was given up; others may go on.
        let _ = way_back.send(block);
    }
}

/// What a block's buffers hold at the most, for the arithmetic of the memory in use.
const _: () = assert!(BLOCK_BYTES + DICTIONARY_BYTES <= 1 << 21);
