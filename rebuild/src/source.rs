//! Where bytes come from and where unpacked package data goes, as traits.
//!
//! Invariant: what a [`RandomAccess`] holds never changes after it was made, so readers on several
//! threads see the same bytes. This file opens no file by itself: the caller hands them in.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    sync::Arc,
};

/// Immutable bytes that can be read at any offset, from several threads at once.
pub trait RandomAccess: Send + Sync {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// True when there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`; an `UnexpectedEof` error when fewer bytes are there.
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

impl RandomAccess for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let slice = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buf.len())?))
            .ok_or_else(|| past_the_end(offset, buf.len(), Vec::len(self) as u64))?;
        buf.copy_from_slice(slice);
        Ok(())
    }
}

fn past_the_end(offset: u64, wanted: usize, len: u64) -> io::Error {
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("expected {wanted} bytes at offset {offset}, found {len} bytes in all"),
    )
}

/// A file that the caller opened and that nobody writes any more.
#[derive(Debug)]
pub struct FileBytes {
    file: File,
    len: u64,
}

impl FileBytes {
    /// Takes the file at its present length.
    pub fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, len })
    }
}

impl RandomAccess for FileBytes {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buf, offset)
    }
}

/// Makes room for the uncompressed data of one package at a time.
pub trait Spool: Send + Sync {
    /// A new, empty place.
    fn create(&self) -> io::Result<Box<dyn SpoolFile>>;
}

/// One place being filled. Dropped without [`SpoolFile::seal`], it leaves nothing behind.
pub trait SpoolFile: Write + Send {
    /// Ends the writing and hands the bytes out for reading.
    fn seal(self: Box<Self>) -> io::Result<Arc<dyn RandomAccess>>;
}

/// Keeps package data in memory: for tests and for small images.
#[derive(Debug, Clone, Copy, Default)]
pub struct MemorySpool;

impl Spool for MemorySpool {
    fn create(&self) -> io::Result<Box<dyn SpoolFile>> {
        Ok(Box::new(MemoryFile(Vec::new())))
    }
}

struct MemoryFile(Vec<u8>);

impl Write for MemoryFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpoolFile for MemoryFile {
    fn seal(self: Box<Self>) -> io::Result<Arc<dyn RandomAccess>> {
        Ok(Arc::new(self.0))
    }
}
