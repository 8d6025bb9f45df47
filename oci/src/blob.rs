//! A blob as a stream that checks itself.
//!
//! Invariant: a reader that reached the end without an error has seen exactly the bytes that the
//! descriptor names. One byte too many ends the stream at once, so a server cannot send without
//! end. It must never hand out a file under its final name before the last byte was checked.

use crate::{
    error::Error,
    manifest::Descriptor,
    whole_file::{partial_path, sync_folder},
};
use attest::Digest;
use sha2::{Digest as _, Sha256};
use std::{
    io,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};

/// How much of an announced size is reserved before any byte came: 1 MiB.
const RESERVE_BYTES_MAX: u64 = 1 << 20;
/// Bytes copied at once.
const COPY_BYTES: usize = 128 << 10;

/// A blob's bytes, verified at the end.
pub struct BlobReader {
    inner: Pin<Box<dyn AsyncRead + Send>>,
    hasher: Sha256,
    expected: Digest,
    size: u64,
    seen: u64,
    what: String,
    done: bool,
}

impl std::fmt::Debug for BlobReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlobReader({}, {} of {} bytes)", self.what, self.seen, self.size)
    }
}

impl BlobReader {
    pub(crate) fn new(
        inner: impl AsyncRead + Send + 'static,
        descriptor: &Descriptor,
        what: String,
    ) -> Self {
        Self {
            inner: Box::pin(inner),
            hasher: Sha256::new(),
            expected: descriptor.digest,
            size: descriptor.size,
            seen: 0,
            what,
            done: false,
        }
    }

    /// The error of this crate inside an error of a read, if it is one.
    pub fn error_of(error: io::Error) -> Error {
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => Error::unavailable("a blob", error.to_string()),
        }
    }

    /// All bytes, in memory.
    pub async fn into_bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(self.size.min(RESERVE_BYTES_MAX) as usize);
        self.read_to_end(&mut bytes).await.map_err(Self::error_of)?;
        Ok(bytes)
    }

    /// All bytes into a new file, which gets its name when they are checked and on disk.
    pub async fn into_file(mut self, path: &Path) -> Result<(), Error> {
        let partial = partial_path(path);
        let result = self.write_to(&partial).await;
        let renamed = match result {
            Ok(()) => match tokio::fs::rename(&partial, path).await {
                Ok(()) => sync_folder(path),
                Err(error) => Err(error),
            }
            .map_err(|error| Error::io("write", path, error)),
            Err(error) => Err(error),
        };
        if renamed.is_err() {
            // Nothing half-written stays; if even this fails, the name still says `.partial`.
            let _ = tokio::fs::remove_file(&partial).await;
        }
        renamed
    }

    async fn write_to(&mut self, path: &Path) -> Result<(), Error> {
        let failed = |error| Error::io("write", path, error);
        let mut file = tokio::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .await
            .map_err(failed)?;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let read = self.read(&mut buffer).await.map_err(Self::error_of)?;
            let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else { break };
            file.write_all(chunk).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        file.sync_all().await.map_err(failed)
    }

    fn check_end(&self) -> Result<(), Error> {
        if self.seen < self.size {
            let (expected, found) = (self.size, self.seen);
            return Err(Error::Truncated { what: self.what.clone(), expected, found });
        }
        let found = Digest::from_raw(self.hasher.clone().finalize().into());
        if found != self.expected {
            let expected = self.expected;
            return Err(Error::WrongDigest { what: self.what.clone(), expected, found });
        }
        Ok(())
    }
}

impl AsyncRead for BlobReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.done || buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match this.inner.as_mut().poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {}
            other => return other,
        }
        let new = buffer.filled().get(before..).unwrap_or_default();
        if new.is_empty() {
            this.check_end().map_err(io::Error::other)?;
            this.done = true;
            return Poll::Ready(Ok(()));
        }
        this.seen = this.seen.saturating_add(new.len() as u64);
        if this.seen > this.size {
            buffer.set_filled(before); // an error hands out nothing
            return Poll::Ready(Err(io::Error::other(Error::WrongSize {
                what: this.what.clone(),
                expected: this.size,
                found: "more".into(),
            })));
        }
        this.hasher.update(new);
        Poll::Ready(Ok(()))
    }
}
