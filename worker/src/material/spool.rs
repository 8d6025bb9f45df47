//! Unpacked package data on disk, in files without a name.
//!
//! Invariant: a spooled file was unlinked before its first byte was written, so a killed worker
//! leaves nothing behind and nobody else can read or change it. Closing such a file gives back all
//! its pages, which takes a tenth of the time it took to fill them: nobody waits for that.

use rebuild::source::{FileBytes, RandomAccess, Spool, SpoolFile};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::PathBuf,
    sync::{
        Arc, LazyLock,
        mpsc::{Sender, channel},
    },
    thread::Builder,
};

/// Pieces from this size on go to the file without another copy: nearly all do.
const BUFFER_BYTES: usize = 16 << 10;

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
        Ok(Arc::new(Spooled(Some(FileBytes::new(file)?))))
    }
}

/// A file that is all there. Only while it is being dropped it is none.
struct Spooled(Option<FileBytes>);

impl RandomAccess for Spooled {
    fn len(&self) -> u64 {
        self.0.as_ref().map_or(0, RandomAccess::len)
    }

    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let file = self.0.as_ref().ok_or(io::ErrorKind::NotFound)?;
        file.read_exact_at(offset, buf)
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        // Where there is no such thread, the file is closed here.
        if let (Some(closer), Some(file)) = (&*CLOSER, self.0.take()) {
            let _ = closer.send(file);
        }
    }
}

/// The way to the thread that closes files.
static CLOSER: LazyLock<Option<Sender<FileBytes>>> = LazyLock::new(|| {
    let (closer, files) = channel::<FileBytes>();
    let running = Builder::new().name("spool-close".to_owned()).spawn(move || {
        for file in files {
            drop(file);
        }
    });
    running.ok().map(|_| closer)
});
