//! The gzip container of klauspost/pgzip: what apko wraps its layers in (RFC 1952).
//!
//! Invariant: the bytes depend on the data and the [`Variant`] alone, not on the number of threads
//! and not on how the data was cut into writes. Memory is bounded by a few blocks for each thread.
//!
//! The data is cut into blocks of 1 MiB that are encoded one by one, each with the end of the block
//! before it as dictionary:
//! `1f 8b 08 00 00 09 6e 88 00 ff | block | … | last block | CRC-32 | length modulo 2^32`.

mod pool;

use std::{
    io::{self, Write},
    sync::Arc,
};

use flate2::Crc;

pub use self::pool::Encoders;
use self::pool::{Block, Pool};
pub use super::deflate::Variant;

/// No flags; the time is Go's zero time, cut to 32 bits; unknown operating system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 0x08, 0x00, 0x00, 0x09, 0x6e, 0x88, 0x00, 0xff];

/// Bytes of data in a block: 1 MiB.
const BLOCK_BYTES: usize = 1 << 20;
/// How much of a block the next one may refer to.
const DICTIONARY_BYTES: usize = 16_384;

/// A gzip stream being written.
#[derive(Debug)]
pub struct PgzipWriter<W: Write> {
    out: W,
    pool: Pool,
    /// The block being filled, its dictionary in front.
    block: Block,
    checksum: Crc,
    header_written: bool,
}

impl<W: Write> PgzipWriter<W> {
    /// Writes to `out`, encoding on up to `threads` threads; with 0 or 1 on the calling thread.
    /// Threads are started when there is more than one block.
    pub fn new(out: W, variant: Variant, threads: usize) -> Self {
        Self::on(out, &Arc::new(Encoders::new(variant, threads)))
    }

    /// Writes to `out`, encoding on threads that other streams may use as well.
    pub fn on(out: W, encoders: &Arc<Encoders>) -> Self {
        let mut pool = Pool::new(Arc::clone(encoders));
        let block = pool.block();
        Self { out, pool, block, checksum: Crc::new(), header_written: false }
    }

    /// Writes everything that is left and the trailer.
    pub fn finish(mut self) -> io::Result<W> {
        let mut block = std::mem::take(&mut self.block);
        block.last = true;
        self.submit(block)?;
        while let Some(done) = self.pool.oldest() {
            self.emit(done?)?;
        }
        let mut trailer = [0; 8];
        trailer[..4].copy_from_slice(&self.checksum.sum().to_le_bytes());
        trailer[4..].copy_from_slice(&self.checksum.amount().to_le_bytes());
        self.out.write_all(&trailer)?;
        Ok(self.out)
    }

    /// Hands a block to the pool, and first writes what is ready if the pool is full.
    fn submit(&mut self, block: Block) -> io::Result<()> {
        while self.pool.is_full() {
            let Some(done) = self.pool.oldest() else { break };
            self.emit(done?)?;
        }
        self.pool.submit(block)
    }

    fn emit(&mut self, block: Block) -> io::Result<()> {
        if !self.header_written {
            self.out.write_all(&HEADER)?;
            self.header_written = true;
        }
        self.out.write_all(&block.encoded)?;
        self.checksum.combine(&block.checksum);
        self.pool.recycle(block);
        Ok(())
    }
}

impl<W: Write> Write for PgzipWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = BLOCK_BYTES - self.block.data().len();
        let taken = data.len().min(room);
        self.block.window.extend_from_slice(&data[..taken]);
        if taken == room {
            // A full block goes at once, so data of whole blocks ends with an empty one.
            let mut next = self.pool.block();
            let window = &self.block.window;
            next.window.extend_from_slice(&window[window.len() - DICTIONARY_BYTES..]);
            next.dictionary = DICTIONARY_BYTES;
            let full = std::mem::replace(&mut self.block, next);
            self.submit(full)?;
        }
        Ok(taken)
    }

    /// Does nothing: a flush in the middle would change the bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The whole gzip stream of `data`, on the calling thread.
pub fn pgzip(data: &[u8], variant: Variant) -> Vec<u8> {
    let mut writer = PgzipWriter::new(Vec::new(), variant, 1);
    // Writing to a Vec cannot fail, and without threads nothing else can.
    match writer.write_all(data).and_then(|()| writer.finish()) {
        Ok(bytes) => bytes,
        Err(error) => unreachable!("a write to memory failed: {error}"),
    }
}
