//! The threads that a build shares.
//!
//! Invariant: they are started before they are needed, so that a machine that gives none is an error
//! of this machine. Started by the first use, they would be a panic in the middle of a build.

use std::{error::Error, io};

/// Starts the threads that packages are read, and images compared, on. The first call of a process
/// says how many there are; another finds them running.
pub fn start(threads: usize) -> io::Result<()> {
    let built = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).build_global();
    match built {
        // Only what the system said has a source: anything else is that they run.
        Err(error) if error.source().is_some() => Err(io::Error::other(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::start;
    use std::process::Command;

    /// Bytes of a thread's stack that no address space has: the system gives no thread at all, and says
    /// so as where there are too many. The child's test then runs where it is called.
    const TOO_LARGE: &str = "140737488355328";

    #[test]
    #[ignore = "a child of the test about threads, not a test"]
    fn without_threads() {
        if std::env::var_os("ASSAY_TEST_CHILD").is_some() {
            start(2).unwrap_err();
        }
    }

    #[test]
    fn a_machine_that_gives_no_threads_is_an_error_and_no_panic() {
        let this = std::env::current_exe().unwrap();
        let child = Command::new(this)
            .args(["threads::tests::without_threads", "--exact", "--ignored", "--nocapture"])
            .env("ASSAY_TEST_CHILD", "1")
            .env("RUST_MIN_STACK", TOO_LARGE)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("1 passed"), "{child:?}");
        start(1).unwrap();
        start(2).unwrap();
    }
}
