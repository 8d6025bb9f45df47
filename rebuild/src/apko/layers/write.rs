//! Writing layers: tar, hash, and, if the blob is wanted too, gzip and another hash.
//!
//! Invariant: content streams from the packages through buffers of a fixed size; the bytes depend
//! on the plan alone, not on the number of threads. With [`Depth::DiffIds`] nothing is compressed.

use super::{Entry, Form, LayerPlan, Planner, hash::Hashing};
use crate::{
    apko::{
        error::AssembleError,
        fs::{Backing, tree::shown},
    },
    go::{
        gzip::{Encoders, PgzipWriter},
        tar::{TarError, Writer},
    },
};
use attest::Digest;
use std::{
    io::{self, Write},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Layers from this size on are hashed on a thread of their own.
const THREADED_BYTES_MIN: u64 = 4 << 20;
/// Layers that are compressed at once: each has blocks of its own in memory for every thread.
const COMPRESSED_AT_ONCE_MAX: usize = 2;
/// Threads of the encoder, for all layers: with 14 each layer has up to 16 blocks of 2.5 MiB in
/// memory, two layers 80 MiB.
const ENCODER_THREADS_MAX: usize = 14;

/// How far to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Hash the uncompressed layers; enough for the image configuration.
    DiffIds,
    /// Compress and hash them; enough for the manifest.
    Blobs,
}

/// Where layers go. A sink that keeps nothing is [`Discard`].
pub trait LayerSink: Sync {
    /// Takes the compressed bytes of a layer.
    fn compressed(&self, layer: usize) -> io::Result<Box<dyn Write + Send + '_>>;

    /// Takes the uncompressed bytes of a layer, if they are wanted.
    fn uncompressed(&self, _layer: usize) -> io::Result<Option<Box<dyn Write + Send + '_>>> {
        Ok(None)
    }

    /// Is told what a layer became, after all its bytes were taken.
    fn finished(&self, _layer: usize, _written: &WrittenLayer) -> io::Result<()> {
        Ok(())
    }
}

/// Keeps nothing but the digests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

impl LayerSink for Discard {
    fn compressed(&self, _layer: usize) -> io::Result<Box<dyn Write + Send + '_>> {
        Ok(Box::new(io::sink()))
    }
}

/// A compressed layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// What a layer became.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenLayer {
    /// The digest of the uncompressed stream.
    pub diff_id: Digest,
    /// Its size in bytes.
    pub uncompressed_size: u64,
    /// The compressed layer, if it was made.
    pub blob: Option<Blob>,
}

/// Where the uncompressed stream goes: to nobody, to the sink, to the encoder.
struct Branches<'s> {
    uncompressed: Option<Box<dyn Write + Send + 's>>,
    encoder: Option<PgzipWriter<Hashing<Box<dyn Write + Send + 's>>>>,
}

impl Write for Branches<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Some(to) = &mut self.uncompressed {
            to.write_all(buf)?;
        }
        if let Some(encoder) = &mut self.encoder {
            encoder.write_all(buf)?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many layers at once, and how many threads for each.
fn shares(depth: Depth, threads: usize, layers: usize) -> (usize, usize) {
    let threads = threads.max(1);
    match depth {
        Depth::DiffIds => (threads.min(layers), threads),
        Depth::Blobs => {
            (threads.min(layers).min(COMPRESSED_AT_ONCE_MAX), threads.min(ENCODER_THREADS_MAX))
        }
    }
}

/// Writes all layers, the largest first, on several threads; the result is in layer order.
pub fn write_layers(
    planner: &Planner<'_>,
    plans: &[LayerPlan],
    depth: Depth,
    threads: usize,
    sink: &dyn LayerSink,
) -> Result<Vec<WrittenLayer>, AssembleError> {
    let (at_once, encoder_threads) = shares(depth, threads, plans.len());
    let encoders = Arc::new(Encoders::new(planner.behaviour.gzip(), encoder_threads));
    let encoders = (depth == Depth::Blobs).then_some(encoders);
    let way = Way { encoders, threaded: encoder_threads > 1, sink };
    let mut order: Vec<usize> = (0..plans.len()).collect();
    order.sort_by_cached_key(|layer| std::cmp::Reverse(planner.size(&plans[*layer])));
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<Result<WrittenLayer, AssembleError>>>> =
        plans.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        while let Some(layer) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            let written = write_layer(planner, &plans[*layer], *layer, &way);
            if written.is_err() {
                // Nobody needs the rest.
                next.store(order.len(), Ordering::Relaxed);
            }
            *results[*layer].lock().unwrap_or_else(PoisonError::into_inner) = Some(written);
        }
    };
    let spawned = std::thread::scope(|scope| {
        for _ in 1..at_once {
            let thread = std::thread::Builder::new().name("layer".to_owned());
            if let Err(error) = thread.spawn_scoped(scope, work) {
                // Nobody needs what the others write.
                next.store(order.len(), Ordering::Relaxed);
                return Err(error);
            }
        }
        work();
        Ok(())
    });
    spawned.map_err(|source| AssembleError::Io { doing: "starting threads".into(), source })?;
    let mut written = Vec::with_capacity(plans.len());
    let mut unfinished = false;
    for result in results {
        match result.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(result) => written.push(result?),
            None => unfinished = true,
        }
    }
    if unfinished {
        let source = io::Error::other("expected every layer to be written, found one that was not");
        return Err(AssembleError::Io { doing: "writing layers".into(), source });
    }
    Ok(written)
}

/// What is the same for all layers.
struct Way<'s> {
    /// The encoder's threads, if blobs are wanted.
    encoders: Option<Arc<Encoders>>,
    /// There is more than one thread.
    threaded: bool,
    sink: &'s dyn LayerSink,
}

fn write_layer(
    planner: &Planner<'_>,
    plan: &LayerPlan,
    layer: usize,
    way: &Way<'_>,
) -> Result<WrittenLayer, AssembleError> {
    let io = |source| AssembleError::Io { doing: format!("writing layer {layer}"), source };
    let sink = way.sink;
    let encoder = match &way.encoders {
        None => None,
        Some(encoders) => {
            let to = Hashing::new(sink.compressed(layer).map_err(io)?);
            Some(PgzipWriter::on(to, encoders))
        }
    };
    let branches = Branches { uncompressed: sink.uncompressed(layer).map_err(io)?, encoder };
    // Making the stream and hashing it are about the same work: a large layer is no reason for
    // one core to do both.
    let large = way.threaded && planner.size(plan) >= THREADED_BYTES_MIN;
    let hashing =
        if large { Hashing::on_thread(branches).map_err(io)? } else { Hashing::new(branches) };
    let mut writer = Writer::new(hashing);
    for entry in &plan.entries {
        write_entry(planner, entry, &mut writer)?;
    }
    let stream = writer.finish().map_err(|error| tar_error(b"", error))?;
    let (mut branches, diff_id, uncompressed_size) = stream.finish().map_err(io)?;
    if let Some(to) = &mut branches.uncompressed {
        to.flush().map_err(io)?;
    }
    let blob = match branches.encoder {
        None => None,
        Some(encoder) => {
            let mut to = encoder.finish().map_err(io)?;
            to.flush().map_err(io)?;
            let (_, digest, size) = to.finish().map_err(io)?;
            Some(Blob { digest, size })
        }
    };
    let written = WrittenLayer { diff_id, uncompressed_size, blob };
    drop(branches.uncompressed);
    sink.finished(layer, &written).map_err(io)?;
    Ok(written)
}

fn write_entry<W: Write>(
    planner: &Planner<'_>,
    entry: &Entry,
    writer: &mut Writer<Hashing<W>>,
) -> Result<(), AssembleError> {
    let header = planner.header(entry);
    let tar = |error| tar_error(&entry.path, error);
    writer.header(&header).map_err(tar)?;
    let node = planner.tree.node(entry.node);
    match &entry.form {
        Form::HardLink(_) => Ok(()),
        Form::Database(bytes) => writer.data(bytes).map_err(tar),
        Form::Node if !node.is_regular() => Ok(()),
        Form::Node => match node.reads_backing() {
            None => writer.data(&node.data).map_err(tar),
            Some(backing) => write_content(planner, entry, backing, header.size, writer),
        },
    }
}

/// The content of a package's file, read to where it is hashed.
fn write_content<W: Write>(
    planner: &Planner<'_>,
    entry: &Entry,
    backing: Backing,
    size: u64,
    writer: &mut Writer<Hashing<W>>,
) -> Result<(), AssembleError> {
    let package = planner.packages.package(backing);
    let mut offset = planner.packages.entry(backing).offset;
    let mut unread = false;
    let read = |part: &mut [u8]| {
        let read = package.data.read_exact_at(offset, part);
        unread = read.is_err();
        offset += part.len() as u64;
        read
    };
    match writer.data_by(size, |to| to.fill(size, read)) {
        Err(TarError::Io(source)) if unread => Err(AssembleError::Io {
            doing: format!("reading {} of {}", shown(&entry.path), package.label()),
            source,
        }),
        written => written.map_err(|error| tar_error(&entry.path, error)),
    }
}

fn tar_error(path: &[u8], error: TarError) -> AssembleError {
    match error {
        TarError::Io(source) => {
            AssembleError::Io { doing: format!("writing {} to a layer", shown(path)), source }
        }
        source => AssembleError::Tar { entry: shown(path), source },
    }
}
