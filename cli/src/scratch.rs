//! Folders for temporary files, which go away whatever ends the command.
//!
//! Invariant: a folder is removed when its owner is done, and what others wrote into it while it was
//! removed, once nothing runs any more ([`sweep`]). Ctrl-C and SIGTERM end a command as an error
//! would; a second one ends the process at once, with whatever lies there then.

use crate::exit::Outcome;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

/// Exit codes of a command that a signal ended, as shells have them.
const INTERRUPTED: u8 = 130;
const TERMINATED: u8 = 143;

/// How often a folder is emptied in which files still appear: a job that goes on makes one file a
/// layer, and its next one needs a folder that is gone by then.
const SWEEPS_MAX: usize = 16;

static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder for temporary files.
#[derive(Debug)]
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// A new one.
    pub fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("assay-").tempdir()?;
        remember(folder.path());
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Has [`sweep`] remove a folder that somebody else made and owns.
pub fn remember(folder: &Path) {
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).push(folder.to_owned());
}

/// Removes what is left of the folders: to be called when nothing runs any more, or nothing that
/// makes a folder. A thread that was not waited for may add a file while its folder is emptied.
pub fn sweep() {
    for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        for _ in 0..SWEEPS_MAX {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
                _ => break,
            }
        }
    }
}

/// Runs a command that has such folders, unless a signal ends it.
pub async fn until_signalled(command: impl Future<Output = Outcome>) -> Outcome {
    let (interrupt, terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (first, mut came) = mpsc::channel(1);
    // A task of its own: the command may keep its thread busy when the second one comes.
    let watching = tokio::spawn(watch(interrupt, terminate, first));
    tokio::select! {
        // Whatever the command came to in the meantime: who stopped it is told that it was stopped.
        biased;
        Some(code) = came.recv() => Ok(code),
        outcome = command => {
            watching.abort();
            outcome
        }
    }
}

async fn watch(mut interrupt: Signal, mut terminate: Signal, first: mpsc::Sender<u8>) {
    let mut asked = false;
    loop {
        let code = tokio::select! {
            _ = interrupt.recv() => INTERRUPTED,
            _ = terminate.recv() => TERMINATED,
        };
        if asked {
            std::process::exit(i32::from(code));
        }
        asked = true;
        // Not here: where nobody reads standard error, no second signal would be heard.
        tokio::task::spawn_blocking(|| crate::output::say("stopping; once more ends it at once"));
        let _ = first.try_send(code);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_somebody_else_is_swept_when_it_was_remembered() {
        let parent = tempfile::tempdir().unwrap();
        let (known, other) = (parent.path().join("known"), parent.path().join("other"));
        for folder in [&known, &other] {
            std::fs::create_dir(folder).unwrap();
            std::fs::write(folder.join("layer"), b"x").unwrap();
        }
        remember(&known);
        sweep();
        assert!(!known.exists() && other.exists());
    }
}
