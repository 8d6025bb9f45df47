//! Unpacked package data on disk, in files without a name.
//!
//! Invariant: a spooled file was unlinked before its first byte was written, so a killed worker
//! leaves nothing behind and nobody else can read or change it.

use rebuild::source::{FileBytes, RandomAccess, Spool, SpoolFile};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
    sync::Arc,
};

/// Pieces of this size, as a package is read in, go to the file without another copy.
const BUFFER_BYTES: usize = 64 << 10;

/// Makes unnamed files in a folder.
#[derive(Debug, Clone)]
pub struct FileSpool {
    folder: PathBuf,
}

impl FileSpool {
    /// The folder should be on a disk, not in memory: layers may be gigabytes.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }
}

impl Spool for FileSpool {
    fn create(&self) -> io::Result<Box<dyn SpoolFile>> {
        let file = tempfile::tempfile_in(&self.folder)?;
        Ok(Box::new(Unnamed(BufWriter::with_capacity(BUFFER_BYTES, file))))
    }
}

struct Unnamed(BufWriter<File>);

impl Write for Unnamed {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl SpoolFile for Unnamed {
    fn seal(self: Box<Self>) -> io::Result<Arc<dyn RandomAccess>> {
        let file = self.0.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok(Arc::new(FileBytes::new(file)?))
    }
}
