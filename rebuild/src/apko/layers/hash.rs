//! The digest of a stream, taken on a thread of its own while the stream is being made.
//!
//! Invariant: the digest is that of the bytes in their order, whatever the threads do; at most
//! [`BUFFERS`] buffers are in flight for each stream, so memory does not grow with it. A thread that
//! ended early is an error, never another digest.

use attest::Digest;
use sha2::{Digest as _, Sha256};
use std::{
    io::{self, Write},
    mem,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{Builder, JoinHandle},
};

/// Bytes handed over at a time.
const BUFFER_BYTES: usize = 64 << 10;
/// Buffers of one stream: one being filled, one being hashed, six between.
const BUFFERS: usize = 8;

/// Hashes and counts what passes, here or on a thread.
pub(super) struct Hashing<W> {
    to: W,
    bytes: u64,
    hasher: Hasher,
}

enum Hasher {
    Here(Sha256),
    Thread(Box<Thread>),
}

struct Thread {
    full: SyncSender<Vec<u8>>,
    empty: Receiver<Vec<u8>>,
    /// Buffers that were made; no more than [`BUFFERS`] are.
    made: usize,
    current: Vec<u8>,
    running: JoinHandle<Sha256>,
}

impl<W: Write> Hashing<W> {
    /// Hashes on the calling thread.
    pub(super) fn new(to: W) -> Self {
        Self { to, bytes: 0, hasher: Hasher::Here(Sha256::new()) }
    }

    /// Hashes on a thread of its own.
    pub(super) fn on_thread(to: W) -> io::Result<Self> {
        let (full, hashed) = sync_channel::<Vec<u8>>(BUFFERS);
        let (back, empty) = sync_channel(BUFFERS);
        let running = Builder::new().name("layer-hash".to_owned()).spawn(move || {
            let mut sha256 = Sha256::new();
            for mut buffer in hashed {
                sha256.update(&buffer);
                buffer.clear();
                // Nobody takes it back where the stream was given up.
                let _ = back.send(buffer);
            }
            sha256
        })?;
        let current = Vec::with_capacity(BUFFER_BYTES);
        let thread = Thread { full, empty, made: 1, current, running };
        Ok(Self { to, bytes: 0, hasher: Hasher::Thread(Box::new(thread)) })
    }

    /// Where the stream went, its digest and its length.
    pub(super) fn finish(self) -> io::Result<(W, Digest, u64)> {
        let sha256 = match self.hasher {
            Hasher::Here(sha256) => sha256,
            Hasher::Thread(thread) => thread.finish()?,
        };
        Ok((self.to, Digest::from_raw(sha256.finalize().into()), self.bytes))
    }
}

impl Thread {
    fn update(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = BUFFER_BYTES - self.current.len();
            let (part, rest) = bytes.split_at(room.min(bytes.len()));
            self.current.extend_from_slice(part);
            bytes = rest;
            if self.current.len() == BUFFER_BYTES {
                let next = self.next_buffer()?;
                let full = mem::replace(&mut self.current, next);
                self.full.send(full).map_err(|_| ended())?;
            }
        }
        Ok(())
    }

    fn next_buffer(&mut self) -> io::Result<Vec<u8>> {
        if self.made < BUFFERS {
            self.made += 1;
            return Ok(Vec::with_capacity(BUFFER_BYTES));
        }
        self.empty.recv().map_err(|_| ended())
    }

    fn finish(self) -> io::Result<Sha256> {
        let Self { full, current, running, empty, .. } = self;
        full.send(current).map_err(|_| ended())?;
        drop((full, empty));
        running.join().map_err(|_| ended())
    }
}

fn ended() -> io::Error {
    io::Error::other("a hashing thread ended early")
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.to.write_all(buf)?;
        self.bytes += buf.len() as u64;
        match &mut self.hasher {
            Hasher::Here(sha256) => sha256.update(buf),
            Hasher::Thread(thread) => thread.update(buf)?,
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_here_and_on_a_thread() {
        let data: Vec<u8> = (0..5 * BUFFER_BYTES + 77).map(|i| ((i * i) >> 7) as u8).collect();
        for piece in [1000, BUFFER_BYTES - 1, BUFFER_BYTES, 3 * BUFFER_BYTES] {
            for cut in [0, 1, BUFFER_BYTES, 2 * BUFFER_BYTES, data.len()] {
                let data = &data[..cut];
                let mut here = Hashing::new(Vec::new());
                let mut there = Hashing::on_thread(Vec::new()).unwrap();
                for part in data.chunks(piece) {
                    here.write_all(part).unwrap();
                    there.write_all(part).unwrap();
                }
                let expected = (data.to_vec(), Digest::of(data), data.len() as u64);
                assert_eq!(here.finish().unwrap(), expected);
                assert_eq!(there.finish().unwrap(), expected);
            }
        }
        // Given up in the middle: the thread ends by itself.
        let mut given_up = Hashing::on_thread(io::sink()).unwrap();
        given_up.write_all(&data).unwrap();
        drop(given_up);
    }
}
