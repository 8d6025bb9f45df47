//! One process per job: a crash, a full memory or an endless loop is an outcome, not a dead worker.
//!
//! The parent starts this same program with `worker execute`, writes an [`Order`] to its standard
//! input and reads a [`Draft`] from its standard output. The child is its own process group, dies
//! with its parent, limits its own memory before it reads anything foreign, and holds no key.
//! Invariant: when [`execute`] returns, nothing of the process group is left running. What the child
//! prints is bounded; what it does not print in the right form is a failed build, never trusted.

use super::observe::Draft;
use attest::{Digest, Subject, observation::Outcome};
use nix::{
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::{Signal, killpg},
    },
    unistd::Pid,
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
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
};

/// Largest draft: an explanation of 1,000 events is about 1 MB.
const DRAFT_BYTES_MAX: u64 = 16 << 20;
/// How much of what the child says on standard error is kept.
const STDERR_BYTES_MAX: u64 = 64 << 10;

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

/// The limits that the child puts on itself, before anything foreign is read.
pub fn confine_self(memory_mib_max: u64) -> Result<(), nix::Error> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    let bytes = memory_mib_max.saturating_mul(1 << 20);
    // Address space, because it is what a process can limit for itself. Threads reserve stacks that
    // they never touch: an allowance for those is on top.
    let stacks = 1 << 30;
    setrlimit(Resource::RLIMIT_AS, bytes + stacks, bytes + stacks)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}

/// Runs one job to its end, or to the cap.
pub async fn execute(launcher: &Launcher, order: &Order, cap: Duration) -> Draft {
    let mut child = match start(launcher, order) {
        Ok(child) => child,
        Err(error) => {
            return Draft::failed(None, Some(format!("expected to start the build: {error}")));
        }
    };
    let group = ProcessGroup(child.id());
    let talk = tokio::time::timeout(cap, converse(&mut child, order)).await;
    drop(group);
    match talk {
        Ok(Ok(told)) => read_draft(told, order),
        Ok(Err(error)) => {
            Draft::failed(None, Some(format!("expected to talk to the build: {error}")))
        }
        Err(_) => {
            let _ = child.wait().await;
            Draft::failed(Some(Outcome::Timeout { limit_seconds: cap.as_secs() }), None)
        }
    }
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
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command.spawn()
}

async fn converse(child: &mut Child, order: &Order) -> std::io::Result<Told> {
    let missing = || std::io::Error::other("a pipe is missing");
    let mut input = child.stdin.take().ok_or_else(missing)?;
    let output = child.stdout.take().ok_or_else(missing)?;
    let errors = child.stderr.take().ok_or_else(missing)?;
    let write = async {
        let sent = input.write_all(&serde_json::to_vec(order)?).await;
        drop(input);
        // A child that died before it read everything shows in its status.
        sent.or_else(|e| match e.kind() {
            std::io::ErrorKind::BrokenPipe => Ok(()),
            _ => Err(e),
        })
    };
    let (mut draft, mut said) = (Vec::new(), Vec::new());
    let (mut output, mut errors) =
        (output.take(DRAFT_BYTES_MAX + 1), errors.take(STDERR_BYTES_MAX));
    let (sent, read, heard) =
        tokio::join!(write, output.read_to_end(&mut draft), errors.read_to_end(&mut said));
    sent?;
    read?;
    heard?;
    let status = child.wait().await?;
    Ok(Told { status, draft, said: String::from_utf8_lossy(&said).into_owned() })
}

fn read_draft(told: Told, order: &Order) -> Draft {
    if told.status.success() && told.draft.len() as u64 <= DRAFT_BYTES_MAX {
        return serde_json::from_slice(&told.draft).unwrap_or_else(|error| {
            Draft::failed(None, Some(format!("expected a draft from the build: {error}")))
        });
    }
    let last = told.said.lines().last().unwrap_or_default();
    let last: String = last.chars().filter(|c| !c.is_control()).take(300).collect();
    let out_of_memory = told.said.contains("memory allocation of")
        || told.status.signal() == Some(Signal::SIGKILL as i32);
    let outcome = if out_of_memory {
        Outcome::LimitExceeded {
            limit: "memory".to_owned(),
            detail: format!("expected at most {} MiB; {last}", order.memory_mib_max),
        }
    } else {
        let class = match told.status.signal() {
            Some(signal) => format!("crash-signal-{signal}"),
            None => format!("crash-exit-{}", told.status.code().unwrap_or(-1).unsigned_abs()),
        };
        let detail = if last.is_empty() { "it said nothing".to_owned() } else { last };
        Outcome::BuildFailed { class, detail }
    };
    Draft::failed(Some(outcome), None)
}

/// Kills what is left of the group when it goes out of scope.
struct ProcessGroup(Option<u32>);

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(id) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // Already gone: nothing to kill.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use attest::Platform;

    fn order(work: PathBuf) -> Order {
        let subject = Subject {
            repository: "demo/hello".parse().unwrap(),
            digest: Digest::of(b"m"),
            platform: Platform::linux("amd64"),
        };
        Order {
            subject,
            index: None,
            policy: "p".into(),
            store: "s".into(),
            store_mib_max: 1,
            work,
            memory_mib_max: 64,
            threads: 1,
        }
    }

    fn shell(script: &str) -> Launcher {
        Launcher { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] }
    }

    async fn run(script: &str, cap_ms: u64) -> Draft {
        let dir = tempfile::tempdir().unwrap();
        let cap = Duration::from_millis(cap_ms);
        execute(&shell(script), &order(dir.path().to_owned()), cap).await
    }

    #[tokio::test]
    async fn what_happens_to_a_child_is_an_outcome() {
        let outcome = |draft: Draft| draft.outcome;
        let crash = outcome(run("cat >/dev/null; kill -SEGV $$", 60_000).await);
        assert!(
            matches!(crash, Some(Outcome::BuildFailed { ref class, .. }) if class == "crash-signal-11")
        );
        let exit = outcome(run("cat >/dev/null; echo why >&2; exit 3", 60_000).await);
        assert!(matches!(exit, Some(Outcome::BuildFailed { ref detail, .. }) if detail == "why"));
        let memory = outcome(
            run("echo 'memory allocation of 9 bytes failed' >&2; kill -ABRT $$", 60_000).await,
        );
        assert!(matches!(memory, Some(Outcome::LimitExceeded { .. })));
        let endless = outcome(run("sleep 600 & sleep 600", 200).await);
        assert!(matches!(endless, Some(Outcome::Timeout { .. })));
        assert!(outcome(run("cat >/dev/null; echo nonsense", 60_000).await).is_none());
    }
}
