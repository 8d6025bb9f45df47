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
    /// What was not passed on yet, and room for more.
    current: Vec<u8>,
    filled: usize,
    hasher: Hasher,
}

enum Hasher {
    Here(Sha256),
    Thread(Thread),
}

struct Thread {
    /// Buffers, and how much of each counts.
    full: SyncSender<(Vec<u8>, usize)>,
    empty: Receiver<Vec<u8>>,
    /// Buffers that were made; no more than [`BUFFERS`] are.
    made: usize,
    running: JoinHandle<Sha256>,
}

impl<W: Write> Hashing<W> {
    /// Hashes on the calling thread.
    pub(super) fn new(to: W) -> Self {
        Self::by(to, Hasher::Here(Sha256::new()))
    }

    /// Hashes on a thread of its own.
    pub(super) fn on_thread(to: W) -> io::Result<Self> {
        let (full, hashed) = sync_channel::<(Vec<u8>, usize)>(BUFFERS);
        let (back, empty) = sync_channel(BUFFERS);
        let running = Builder::new().name("layer-hash".to_owned()).spawn(move || {
            let mut sha256 = Sha256::new();
            for (buffer, filled) in hashed {
                sha256.update(buffer.get(..filled).unwrap_or_default());
                // Nobody takes it back where the stream was given up.
                let _ = back.send(buffer);
            }
            sha256
        })?;
        Ok(Self::by(to, Hasher::Thread(Thread { full, empty, made: 1, running })))
    }

    fn by(to: W, hasher: Hasher) -> Self {
        Self { to, bytes: 0, current: vec![0; BUFFER_BYTES], filled: 0, hasher }
    }

    /// The next `count` bytes of the stream, which `read` puts where they are hashed: it is called
    /// until it has filled them all.
    pub(super) fn fill(
        &mut self,
        mut count: u64,
        mut read: impl FnMut(&mut [u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        while count > 0 {
            let room = &mut self.current[self.filled..];
            let part = usize::try_from(count).unwrap_or(usize::MAX).min(room.len());
            read(&mut room[..part])?;
            self.filled += part;
            count -= part as u64;
            if self.filled == BUFFER_BYTES {
                self.pass()?;
            }
        }
        Ok(())
    }

    /// Passes on what is in the buffer.
    fn pass(&mut self) -> io::Result<()> {
        let filled = mem::take(&mut self.filled);
        if filled == 0 {
            return Ok(());
        }
        let part = &self.current[..filled];
        self.to.write_all(part)?;
        self.bytes += filled as u64;
        match &mut self.hasher {
            Hasher::Here(sha256) => sha256.update(part),
            Hasher::Thread(thread) => {
                let next = thread.next_buffer()?;
                let full = mem::replace(&mut self.current, next);
                thread.full.send((full, filled)).map_err(|_| ended())?;
            }
        }
        Ok(())
    }

    /// Where the stream went, its digest and its length.
    pub(super) fn finish(mut self) -> io::Result<(W, Digest, u64)> {
        self.pass()?;
        let sha256 = match self.hasher {
            Hasher::Here(sha256) => sha256,
            Hasher::Thread(Thread { full, empty, running, .. }) => {
                drop((full, empty));
                running.join().map_err(|_| ended())?
            }
        };
        Ok((self.to, Digest::from_raw(sha256.finalize().into()), self.bytes))
    }
}

impl Thread {
    fn next_buffer(&mut self) -> io::Result<Vec<u8>> {
        if self.made < BUFFERS {
            self.made += 1;
            return Ok(vec![0; BUFFER_BYTES]);
        }
        self.empty.recv().map_err(|_| ended())
    }
}

fn ended() -> io::Error {
    io::Error::other("a hashing thread ended early")
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.len() >= BUFFER_BYTES {
            self.pass()?;
            if let Hasher::Here(sha256) = &mut self.hasher {
                self.to.write_all(buf)?;
                self.bytes += buf.len() as u64;
                sha256.update(buf);
                return Ok(buf.len());
            }
        }
        let mut rest = buf;
        self.fill(buf.len() as u64, |room| {
            let (part, behind) = rest.split_at(room.len());
            room.copy_from_slice(part);
            rest = behind;
            Ok(())
        })?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.pass()?;
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
