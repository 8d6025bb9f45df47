//! The few file operations that the journal needs, as a trait, so that a simulator can be the disk.
//!
//! Invariant: a name is a plain file name inside one directory, never a path. What was written is
//! durable only after `sync`; a name that was created, renamed or removed only after
//! `sync_directory`. `RealDisk` must never turn an error of `fdatasync` into a retry: the kernel
//! may have dropped the pages.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The name of the file whose lock says "a coordinator works here".
pub const LOCK_NAME: &str = "LOCK";

/// A directory of files.
pub trait Disk: Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;
    /// Held for as long as the directory belongs to this process.
    type Lock: Send + Sync + 'static;

    /// The names of the files, in no order.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Opens a file that exists, for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Creates a file; an error if it exists.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Renames, over what may be there.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes created, renamed and removed names durable.
    fn sync_directory(&self) -> io::Result<()>;
    /// Takes the directory; `WouldBlock` if another process has it.
    fn lock(&self) -> io::Result<Self::Lock>;
    /// Where it is, for messages.
    fn describe(&self) -> String;
}

/// An open file of a [`Disk`].
pub trait DiskFile: Send + Sync + 'static {
    /// Reads up to `buffer.len()` bytes at `offset`; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all bytes at `offset`, or fails with an unknown part written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// `fdatasync`: data, and the size if it changed.
    fn sync(&self) -> io::Result<()>;
    /// The size in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Cuts or extends (with zeros that take no room).
    fn set_size(&self, bytes: u64) -> io::Result<()>;
}

/// Reads until the buffer is full or the file ends; gives the bytes read.
pub(crate) fn read_full<F: DiskFile>(
    file: &F,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Writes a small file so that it is either there whole or not at all.
pub(crate) fn write_whole<D: Disk>(disk: &D, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = format!("{name}.tmp");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(&temporary)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    drop(file);
    disk.rename(&temporary, name)?;
    disk.sync_directory()
}

/// A directory of the operating system.
#[derive(Debug, Clone)]
pub struct RealDisk {
    root: PathBuf,
}

impl RealDisk {
    /// The directory, created (0700) if it is not there.
    pub fn new(root: &Path) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        // Nobody else's business: leases and workers' addresses are in the private records.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(root, mode)?;
        if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> io::Result<PathBuf> {
        if name.is_empty() || name.contains('/') || name.starts_with("..") {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "expected a plain file name"));
        }
        Ok(self.root.join(name))
    }
}

impl Disk for RealDisk {
    type File = File;
    type Lock = File;

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path(name)?)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).open(self.path(name)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from)?, self.path(to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name)?)
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.root)?.sync_all()
    }

    fn lock(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.path(LOCK_NAME)?)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn describe(&self) -> String {
        self.root.display().to_string()
    }
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// A file that answers reads as it is told.
    struct Told(Mutex<Vec<io::Result<usize>>>);

    impl DiskFile for Told {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let answer = self.0.lock().unwrap().pop().expect("no further read");
            let read = answer?.min(buffer.len());
            buffer[..read].fill(offset as u8);
            Ok(read)
        }
        fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            unreachable!()
        }
        fn sync(&self) -> io::Result<()> {
            unreachable!()
        }
        fn size(&self) -> io::Result<u64> {
            unreachable!()
        }
        fn set_size(&self, _: u64) -> io::Result<()> {
            unreachable!()
        }
    }

    fn read(mut answers: Vec<io::Result<usize>>) -> (io::Result<usize>, [u8; 4]) {
        answers.reverse();
        let (file, mut buffer) = (Told(Mutex::new(answers)), [99; 4]);
        let read = read_full(&file, &mut buffer, 10);
        assert!(file.0.lock().unwrap().is_empty());
        (read, buffer)
    }

    #[test]
    fn reads_go_on_until_the_buffer_is_full_or_the_file_ends() {
        let interrupted = || Err(io::ErrorKind::Interrupted.into());
        let (all, bytes) = read(vec![interrupted(), Ok(1), Ok(2), interrupted(), Ok(9)]);
        assert_eq!((all.unwrap(), bytes), (4, [10, 11, 11, 13]));
        let (short, bytes) = read(vec![Ok(3), Ok(0)]);
        assert_eq!((short.unwrap(), bytes), (3, [10, 10, 10, 99]));
        let (failed, _) = read(vec![Ok(3), Err(io::ErrorKind::PermissionDenied.into())]);
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn a_real_directory_does_what_it_is_asked_to() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("journal");
        let disk = RealDisk::new(&root).unwrap();
        assert_eq!((disk.root(), disk.describe()), (&*root, root.display().to_string()));
        for name in ["", "a/b", "/a", "..", "../a"] {
            let refused = disk.create(name).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
        let file = disk.create("a").unwrap();
        DiskFile::write_at(&file, b"hello", 2).unwrap();
        file.set_size(4).unwrap();
        assert_eq!(
            (file.size().unwrap(), fs::read(root.join("a")).unwrap()),
            (4, b"\0\0he".into())
        );
        fs::create_dir(root.join("folder")).unwrap();
        disk.rename("a", "b").unwrap();
        assert_eq!(disk.names().unwrap(), ["b"]);
        disk.remove("b").unwrap();
        assert_eq!(disk.names().unwrap(), Vec::<String>::new());
        assert_eq!(disk.remove("b").unwrap_err().kind(), io::ErrorKind::NotFound);
        let lock = disk.lock().unwrap();
        assert_eq!(disk.lock().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        disk.lock().unwrap();
    }

    #[test]
    fn syncs_that_cannot_be_made_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(&folder.path().join("journal")).unwrap();
        disk.sync_directory().unwrap();
        fs::remove_dir(disk.root()).unwrap();
        assert!(disk.sync_directory().is_err());
        // What stands for no file on a disk cannot be synced.
        let (_reader, writer) = io::pipe().unwrap();
        let pipe = File::from(std::os::fd::OwnedFd::from(writer));
        assert!(DiskFile::sync(&pipe).is_err());
    }

    #[test]
    fn a_small_file_replaces_what_was_there_and_what_a_crash_left() {
        let folder = tempfile::tempdir().unwrap();
        let disk = RealDisk::new(folder.path()).unwrap();
        let left = disk.create("a.tmp").unwrap();
        DiskFile::write_at(&left, b"half of something longer", 0).unwrap();
        for text in [b"one", b"two"] {
            write_whole(&disk, "a", text).unwrap();
            assert_eq!(fs::read(folder.path().join("a")).unwrap(), text);
        }
        assert_eq!(disk.names().unwrap(), ["a"]);
        // In the way is something that cannot be removed: the error is that one.
        fs::create_dir(folder.path().join("b.tmp")).unwrap();
        let error = write_whole(&disk, "b", b"x").unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
        // So with a segment.
        fs::create_dir(folder.path().join("segment.tmp")).unwrap();
        let options = || crate::journal::Options::new([7; 16]);
        let error = crate::journal::Log::open(disk.clone(), options()).err().unwrap().to_string();
        assert!(error.contains("remove") && error.contains("segment.tmp"), "{error}");
        fs::remove_dir(folder.path().join("segment.tmp")).unwrap();
        // A segment that is larger than any is not read.
        drop(crate::journal::Log::open(disk.clone(), options()).unwrap());
        let name = crate::journal::segment::name(0);
        disk.open(&name)
            .unwrap()
            .set_size(crate::journal::segment::SEGMENT_FILE_BYTES_MAX + 1)
            .unwrap();
        let error = crate::journal::Log::open(disk.clone(), options()).err().unwrap();
        assert!(matches!(error, crate::journal::JournalError::Files { .. }), "{error}");
        // A floor that cannot be opened is no floor that is not there.
        fs::create_dir(folder.path().join(crate::journal::floor::FLOOR_NAME)).unwrap();
        assert!(crate::journal::floor::read(&disk).is_err());
    }
}
