//! One process per job: a crash, a full memory or an endless loop is an outcome, not a dead worker.
//!
//! The parent starts this same program with `worker execute`, writes an [`Order`] to its standard
//! input and reads a [`Draft`] from its standard output. The child is in a [`Cage`], dies with its
//! parent, limits its own memory before it reads anything foreign, and holds no key.
//! Invariant: when [`execute`] returns, no process of the job is left running; where one would not
//! go, nothing is said about the image. Memory is limited for each process by itself, and for all
//! of them together by a cgroup or, without one, by looking. What the child prints is read to its
//! end, so that it never waits for a full pipe, and kept within bounds; what is not in the right form
//! is never trusted. A limit is said to be exceeded only where
//! this worker, the process itself or the kernel for this job's own limit found it: a build that
//! somebody else killed, or that ends with [`NOT_RUN`], is a [`ChildError`], and the lease is given
//! back.

use super::{
    cage::{self, Cage},
    observe::Draft,
};
use crate::pipeline::apko::NO_THREAD;
use attest::{Digest, Subject, observation::Outcome};
use nix::{
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::Signal,
    },
    unistd::getppid,
};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

/// Largest draft: an explanation of 1,000 events is about 1 MB.
const DRAFT_BYTES_MAX: u64 = 16 << 20;
/// How much of what the child says on standard error is kept: the last of it.
const STDERR_BYTES_MAX: usize = 64 << 10;
/// How much is read from a pipe at once: what a pipe holds.
const READ_BYTES: usize = 64 << 10;

/// How often the memory of all processes is looked at where no cgroup limits it.
const LOOK: Duration = Duration::from_millis(500);
/// The variable that names the worker's process to its child.
const PARENT: &str = "ASSAY_WORKER_PID";

/// The exit code of a child that built nothing, or could not say what: it could not read its order,
/// had no threads, could not write its report. The number is EX_TEMPFAIL of sysexits.h. A build
/// runs no foreign code, so nothing in an image can bring it about.
pub const NOT_RUN: u8 = 75;

/// The exit code of a Rust program that panicked.
const PANICKED: i32 = 101;

/// What the child is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The published image.
    pub subject: Subject,
    /// The index in which it was found.
    pub index: Option<Digest>,
    /// The worker's policy file.
    pub policy: PathBuf,
    /// Where Alpine's release list is.
    pub alpine_releases: Option<String>,
    /// The content store.
    pub store: PathBuf,
    /// Bound of the content store, MiB.
    pub store_mib_max: u64,
    /// A folder of this job's own; the parent removes it.
    pub work: PathBuf,
    /// Memory, MiB.
    pub memory_mib_max: u64,
    /// Threads.
    pub threads: usize,
}

/// How the child is started.
#[derive(Debug, Clone)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl Launcher {
    /// This program, `worker execute`.
    pub fn this_program() -> std::io::Result<Self> {
        let arguments = ["worker", "execute"].map(OsString::from).to_vec();
        Ok(Self { program: std::env::current_exe()?, arguments })
    }
}

/// Ties the child's life to the worker's: the first thing that it does. False if the worker is gone
/// already.
pub fn bind_to_worker() -> Result<bool, nix::Error> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let expected = std::env::var(PARENT).ok().and_then(|pid| pid.parse::<i32>().ok());
    Ok(expected.is_none_or(|pid| getppid().as_raw() == pid))
}

/// The limits that the child puts on itself, before anything foreign is read.
pub fn confine_self(memory_mib_max: u64) -> Result<(), nix::Error> {
    let bytes = memory_mib_max.saturating_mul(1 << 20);
    // Address space, because it is what a process can limit for itself. Threads reserve stacks that
    // they never touch: an allowance for those is on top.
    let stacks = 1 << 30;
    setrlimit(Resource::RLIMIT_AS, bytes + stacks, bytes + stacks)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}

/// Why a job could not be run here. It says nothing about the image.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// No process.
    #[error("expected to start the build: {0}")]
    Start(std::io::Error),
    /// Its pipes broke.
    #[error("expected to talk to the build: {0}")]
    Talk(std::io::Error),
    /// A signal ended it that a program does not bring on itself, and this worker did not send.
    #[error(
        "expected the build to end by itself, found that signal {0} ended it: somebody on this \
         machine sent it, or the machine ran out of memory"
    )]
    Killed(i32),
    /// It says itself that it could not do its work here.
    #[error("expected the build to begin and to report: {0}")]
    NotRun(String),
    /// It prints more than a draft can be.
    #[error("expected a draft of at most {DRAFT_BYTES_MAX} bytes from the build, found more")]
    TooLong,
    /// It ended well and said nothing that can be read.
    #[error("expected a draft from the build: {0}")]
    Nonsense(serde_json::Error),
    /// Processes that SIGKILL does not end.
    #[error("expected to end every process of the build, found some that stay")]
    Stays,
}

/// Signals that a program brings on itself, by a fault or by giving up. Every other one that ended
/// it was sent by somebody.
const OWN_SIGNALS: [Signal; 7] = [
    Signal::SIGILL,
    Signal::SIGTRAP,
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGSEGV,
    Signal::SIGSYS,
];

/// Runs one job to its end, or to the cap.
pub async fn execute(
    launcher: &Launcher,
    order: &Order,
    cap: Duration,
) -> Result<Draft, ChildError> {
    let mut cage = Cage::new(&order.work, order.memory_mib_max);
    let mut child = start(launcher, order).map_err(ChildError::Start)?;
    cage.take(child.id());
    let ended = tokio::select! {
        talk = converse(&mut child, &cage, order) => Ended::Talked(talk),
        () = outgrown(&cage, order) => Ended::Outgrown,
        () = tokio::time::sleep(cap) => Ended::Late,
    };
    let starved = cage.ran_out_of_memory();
    let gone = cage.end().await;
    let _ = child.wait().await;
    if !gone {
        return Err(ChildError::Stays);
    }
    match ended {
        Ended::Talked(Ok(told)) if starved && !told.status.success() => {
            Ok(out_of_memory(order, ""))
        }
        Ended::Talked(Ok(told)) => read_draft(told, order),
        Ended::Talked(Err(error)) => Err(error),
        Ended::Outgrown => Ok(out_of_memory(order, "")),
        Ended::Late => {
            Ok(Draft::failed(Some(Outcome::Timeout { limit_seconds: cap.as_secs() }), None))
        }
    }
}

/// How a conversation with a child came to its end.
enum Ended {
    Talked(Result<Told, ChildError>),
    Outgrown,
    Late,
}

/// Comes back when the job's processes have more memory together than the order allows.
async fn outgrown(cage: &Cage, order: &Order) {
    let most = order.memory_mib_max.saturating_mul(1 << 20);
    loop {
        tokio::time::sleep(LOOK).await;
        if !cage.limits_memory() && cage.resident_bytes() > most {
            return;
        }
    }
}

fn out_of_memory(order: &Order, last: &str) -> Draft {
    let detail = format!("expected at most {} MiB; {last}", order.memory_mib_max);
    let detail = detail.trim_end_matches("; ").to_owned();
    let limit = "memory".to_owned();
    Draft::failed(Some(Outcome::LimitExceeded { limit, detail }), None)
}

struct Told {
    status: ExitStatus,
    draft: Vec<u8>,
    said: String,
}

fn start(launcher: &Launcher, order: &Order) -> std::io::Result<Child> {
    let mut command = Command::new(&launcher.program);
    command
        .args(&launcher.arguments)
        .current_dir(&order.work)
        .env("TMPDIR", &order.work)
        // The allocator of this program would take 1 GiB of address space at a time, which counts.
        .env("MIMALLOC_ARENA_RESERVE", "64M")
        .env(cage::MARK, &order.work)
        .env(PARENT, std::process::id().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command.spawn()
}

async fn converse(child: &mut Child, cage: &Cage, order: &Order) -> Result<Told, ChildError> {
    let missing = || ChildError::Talk(std::io::Error::other("a pipe is missing"));
    let mut input = child.stdin.take().ok_or_else(missing)?;
    let output = child.stdout.take().ok_or_else(missing)?;
    let errors = child.stderr.take().ok_or_else(missing)?;
    let write = async {
        let order = serde_json::to_vec(order).map_err(|error| ChildError::Talk(error.into()))?;
        let sent = input.write_all(&order).await;
        drop(input);
        // A child that died before it read everything shows in its status.
        sent.or_else(|e| match e.kind() {
            std::io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(ChildError::Talk(e)),
        })
    };
    let wait = async {
        let status = child.wait().await;
        // Others may hold the pipes open: what they say is not the child's answer.
        cage.kill();
        status.map_err(ChildError::Talk)
    };
    // The first error ends it: whoever called ends the child then.
    let ((), draft, said, status) = tokio::try_join!(write, whole(output), last_of(errors), wait)?;
    Ok(Told { status, draft, said: String::from_utf8_lossy(&said).into_owned() })
}

/// Everything that a draft may be.
async fn whole(pipe: impl AsyncRead + Unpin) -> Result<Vec<u8>, ChildError> {
    let mut draft = Vec::new();
    let read = pipe.take(DRAFT_BYTES_MAX + 1).read_to_end(&mut draft).await;
    read.map_err(ChildError::Talk)?;
    if draft.len() as u64 > DRAFT_BYTES_MAX {
        return Err(ChildError::TooLong);
    }
    Ok(draft)
}

/// Reads to the end; the last of it.
async fn last_of(mut pipe: impl AsyncRead + Unpin) -> Result<Vec<u8>, ChildError> {
    let (mut kept, mut part) = (Vec::new(), vec![0; READ_BYTES]);
    loop {
        let read = pipe.read(&mut part).await.map_err(ChildError::Talk)?;
        if read == 0 {
            return Ok(kept);
        }
        kept.extend_from_slice(part.get(..read).unwrap_or_default());
        kept.drain(..kept.len().saturating_sub(STDERR_BYTES_MAX));
    }
}

fn read_draft(told: Told, order: &Order) -> Result<Draft, ChildError> {
    if told.status.success() {
        return serde_json::from_slice(&told.draft).map_err(ChildError::Nonsense);
    }
    let last = told.said.lines().last().unwrap_or_default();
    let last: String = last.chars().filter(|c| !c.is_control()).take(300).collect();
    let signal = told.status.signal();
    // What Rust says and does when its limit (`confine_self`) leaves no memory.
    let gave_up = signal == Some(Signal::SIGABRT as i32);
    if gave_up && told.said.contains("memory allocation of") {
        return Ok(out_of_memory(order, &last));
    }
    let class = match signal {
        Some(signal) if OWN_SIGNALS.iter().all(|own| *own as i32 != signal) => {
            return Err(ChildError::Killed(signal));
        }
        Some(signal) => format!("crash-signal-{signal}"),
        None if told.status.code() == Some(i32::from(NOT_RUN)) => {
            return Err(ChildError::NotRun(last));
        }
        None if told.status.code() == Some(PANICKED) && told.said.contains(NO_THREAD) => {
            return Err(ChildError::NotRun(last));
        }
        None => format!("crash-exit-{}", told.status.code().unwrap_or(-1).unsigned_abs()),
    };
    let detail = if last.is_empty() { "it said nothing".to_owned() } else { last };
    Ok(Draft::failed(Some(Outcome::BuildFailed { class, detail }), None))
}

#[cfg(test)]
mod tests;
