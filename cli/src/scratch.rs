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

static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A folder for temporary files.
#[derive(Debug)]
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// A new one.
    pub fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("assay-").tempdir()?;
        let path = folder.path().to_owned();
        FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).push(path);
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Removes what is left of the folders: to be called when nothing runs any more.
pub fn sweep() {
    for folder in FOLDERS.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        let _ = std::fs::remove_dir_all(folder);
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
        outcome = command => {
            watching.abort();
            outcome
        }
        Some(code) = came.recv() => Ok(code),
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
        crate::output::say("stopping; once more ends it at once");
        let _ = first.try_send(code);
    }
}
