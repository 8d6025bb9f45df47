//! Real processes, each ended in its own way: none outlives its job, and only what the build itself
//! did is said about the image.

use super::*;
use attest::Platform;
use std::path::Path;

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
        alpine_releases: None,
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

/// A folder as jobs have one: below the worker's, under its real name.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().canonicalize().unwrap().join("job");
    std::fs::create_dir(&work).unwrap();
    (dir, work)
}

/// A pipe into which a script says that it began.
fn make_pipe(work: &Path) {
    let made = std::process::Command::new("mkfifo").arg(work.join("started")).status();
    assert!(made.unwrap().success());
}

/// Comes back when something was said into the pipe.
async fn started(work: &Path) {
    let pipe = work.join("started");
    let said = tokio::task::spawn_blocking(move || std::fs::read(pipe)).await;
    assert_eq!(said.unwrap().unwrap(), b"\n");
}

async fn run(script: &str, cap_ms: u64) -> Result<Draft, ChildError> {
    let (_dir, work) = folder();
    let cap = Duration::from_millis(cap_ms);
    execute(&shell(script), &order(work), cap).await
}

/// This test program again, as a child that runs one of the tests below.
fn this_test(name: &str) -> Launcher {
    let name = format!("daemon::child::tests::{name}");
    let arguments = ["--exact", &name, "--ignored", "--nocapture"].map(OsString::from).to_vec();
    Launcher { program: std::env::current_exe().unwrap(), arguments }
}

#[test]
#[ignore = "a child of the test about memory, not a test"]
fn hungry_child() {
    if std::env::var_os(cage::MARK).is_none() {
        return;
    }
    confine_self(64).unwrap();
    let mut kept = Vec::new();
    for _ in 0..64 {
        kept.push(vec![1u8; 64 << 20]);
    }
    assert!(kept.is_empty(), "4 GiB of memory within a limit of 64 MiB");
}

fn is_memory(draft: &Result<Draft, ChildError>) -> bool {
    let outcome = draft.as_ref().ok().and_then(|draft| draft.outcome.as_ref());
    matches!(outcome, Some(Outcome::LimitExceeded { limit, .. }) if limit == "memory")
}

#[tokio::test]
async fn memory_is_limited_for_one_process_and_for_all_together() {
    let (_dir, work) = folder();
    let cap = Duration::from_secs(120);
    let draft = execute(&this_test("hungry_child"), &order(work), cap).await;
    assert!(is_memory(&draft), "{draft:?}");
    // Each of these stays within the limit of a process; together they do not.
    let script = "cat >/dev/null; for i in 1 2 3 4 5 6; do \
                  (head -c 33554432 /dev/zero; sleep 600) | tail -c 40000000 & done; wait";
    let draft = run(script, 120_000).await;
    assert!(is_memory(&draft), "{draft:?}");
}

#[tokio::test]
async fn nothing_of_a_job_outlives_it() {
    // Grandchildren that ignore SIGTERM, one of them in a session of its own; the parent is done.
    let script = "cat >/dev/null; trap '' TERM; (trap '' TERM; sleep 600) & \
                  setsid sh -c 'trap \"\" TERM; sleep 600' & kill -TERM $$; exit 0";
    let (_dir, work) = folder();
    let cap = Duration::from_secs(60);
    let order = order(work.clone());
    let draft = execute(&shell(script), &order, cap).await;
    assert!(matches!(draft, Err(ChildError::Nonsense(_))), "it printed no draft: {draft:?}");
    assert!(Cage::new(&work, 1).is_empty());
    let endless = execute(&shell("setsid sleep 600 & sleep 600"), &order, cap / 300).await;
    let endless = endless.unwrap();
    assert!(matches!(endless.outcome, Some(Outcome::Timeout { .. })));
    assert!(Cage::new(&work, 1).is_empty());
    // A task that is dropped in the middle kills, too.
    make_pipe(&work);
    let launcher = shell("echo > started; setsid sleep 600 & sleep 600");
    let dropped = tokio::spawn({
        let order = order.clone();
        async move { execute(&launcher, &order, cap).await }
    });
    started(&work).await;
    dropped.abort();
    let _ = dropped.await;
    assert!(Cage::new(&work, 1).end().await);
}

#[tokio::test]
async fn a_start_sweeps_what_a_killed_worker_left() {
    let (dir, work) = folder();
    make_pipe(&work);
    let mut command = std::process::Command::new("/bin/sh");
    let script = "sleep 600 & setsid sleep 600 & echo > \"$ASSAY_JOB/started\"; sleep 600";
    command.args(["-c", script]).env(cage::MARK, &work);
    let mut left = command.spawn().unwrap();
    started(&work).await;
    let killed = cage::sweep(&dir.path().canonicalize().unwrap());
    assert!(killed.is_some_and(|n| n >= 1), "{killed:?}");
    assert!(!left.wait().unwrap().success());
    assert!(Cage::new(&work, 1).is_empty());
}

#[tokio::test]
async fn what_happens_to_a_child_is_an_outcome() {
    let outcome = |draft: Result<Draft, ChildError>| draft.unwrap().outcome;
    let crash = outcome(run("cat >/dev/null; kill -SEGV $$", 60_000).await);
    assert!(
        matches!(crash, Some(Outcome::BuildFailed { ref class, .. }) if class == "crash-signal-11")
    );
    let exit = outcome(run("cat >/dev/null; echo why >&2; exit 3", 60_000).await);
    assert!(matches!(exit, Some(Outcome::BuildFailed { ref detail, .. }) if detail == "why"));
    let memory =
        outcome(run("echo 'memory allocation of 9 bytes failed' >&2; kill -ABRT $$", 60_000).await);
    assert!(matches!(memory, Some(Outcome::LimitExceeded { .. })));
    let endless = outcome(run("sleep 600 & sleep 600", 200).await);
    assert!(matches!(endless, Some(Outcome::Timeout { .. })));
    let nonsense = run("cat >/dev/null; echo nonsense", 60_000).await;
    assert!(matches!(nonsense, Err(ChildError::Nonsense(_))), "{nonsense:?}");
}

#[tokio::test]
async fn a_build_that_says_much_is_heard_to_its_end() {
    // More than is kept and than any pipe holds, before and after the order was read.
    let much = "head -c 4000000 /dev/zero | tr '\\0' 'x' >&2";
    let script = format!("{much}; cat >/dev/null; {much}; echo >&2; echo 'the end' >&2; exit 3");
    let draft = run(&script, 120_000).await.unwrap();
    let Some(Outcome::BuildFailed { detail, .. }) = draft.outcome else { panic!("{draft:?}") };
    assert_eq!(detail, "the end");
    // No draft is this long: an error as soon as it is, though the child goes on.
    let script = "cat >/dev/null; head -c 17000000 /dev/zero; sleep 600";
    let draft = run(script, 300_000).await;
    assert!(matches!(draft, Err(ChildError::TooLong)), "{draft:?}");
}

#[tokio::test]
async fn a_build_without_threads_says_nothing_about_the_image() {
    let script = "cat >/dev/null; echo \"thread 'main' panicked: OS can't spawn worker thread: \
                  Resource temporarily unavailable (os error 11)\" >&2; exit 101";
    let draft = run(script, 60_000).await;
    assert!(matches!(draft, Err(ChildError::NotRun(_))), "{draft:?}");
    let script =
        "cat >/dev/null; echo \"thread 'main' panicked: index out of bounds\" >&2; exit 101";
    let draft = run(script, 60_000).await.unwrap();
    assert!(matches!(draft.outcome, Some(Outcome::BuildFailed { .. })), "{draft:?}");
}

#[tokio::test]
async fn a_build_that_somebody_killed_says_nothing_about_the_image() {
    // Not INT and HUP: they are ignored where the tests run in the background or under nohup.
    for (signal, number) in [("KILL", 9), ("TERM", 15), ("USR1", 10)] {
        // What it said before does not matter.
        let script = format!(
            "cat >/dev/null; echo 'memory allocation of 9 bytes failed' >&2; kill -{signal} $$"
        );
        let draft = run(&script, 60_000).await;
        assert!(
            matches!(draft, Err(ChildError::Killed(found)) if found == number),
            "{signal}: {draft:?}"
        );
    }
    // Nor does one that could not begin, or could not say what came of it.
    let draft = run("cat >/dev/null; echo 'no threads' >&2; exit 75", 60_000).await;
    assert!(matches!(draft, Err(ChildError::NotRun(ref why)) if why == "no threads"), "{draft:?}");
    let (_dir, work) = folder();
    let nothing = Launcher { program: "/nonexistent/assay".into(), arguments: Vec::new() };
    let draft = execute(&nothing, &order(work), Duration::from_secs(60)).await;
    assert!(matches!(draft, Err(ChildError::Start(_))), "{draft:?}");
}
