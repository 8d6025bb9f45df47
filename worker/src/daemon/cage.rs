//! What holds all processes of one job, so that "the job is over" means that none of them is left.
//!
//! Three holds, the strongest that the machine gives: a cgroup v2 of the job's own (kill is atomic,
//! memory is limited as a whole), a mark in the environment that children inherit (finds those that
//! left the process group), and the process group. The mark is the job's folder, so that a worker
//! that starts again finds what a killed one left.
//! Invariant: [`Cage::end`] gives true only when no process of the job was found any more. It must
//! never touch a process without the mark of this very folder, nor a cgroup that it did not make.

use attest::Digest;
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use std::{
    ffi::OsStr,
    fs,
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// The variable whose value is the job's folder.
pub const MARK: &str = "ASSAY_JOB";
/// Largest environment that is looked at: an exec allows more, ours has a few KiB.
const ENVIRON_BYTES_MAX: u64 = 256 << 10;
/// Tries to end everything, with this pause: 10 s, far beyond what a SIGKILL takes.
const ROUNDS_MAX: u32 = 200;
const PAUSE: Duration = Duration::from_millis(50);
/// Cgroups of earlier jobs that a sweep looks at.
const GROUPS_MAX: usize = 4096;

/// The processes of one job.
#[derive(Debug)]
pub struct Cage {
    work: PathBuf,
    group: Option<PathBuf>,
    leader: Option<Pid>,
}

impl Cage {
    /// A cage for the job of this folder. Without a writable cgroup it has none, and says so in
    /// [`Cage::limits_memory`].
    pub fn new(work: &Path, memory_mib_max: u64) -> Self {
        let made = base().and_then(|base| {
            let group = base.join(group_name(work)?);
            fs::create_dir(&group).ok()?;
            if !group.join("cgroup.kill").exists() {
                let _ = fs::remove_dir(&group);
                return None;
            }
            Some(group)
        });
        if let Some(group) = &made {
            // Each is there only where the memory controller was delegated.
            let bytes = memory_mib_max.saturating_mul(1 << 20).to_string();
            for (file, value) in [
                ("memory.max", bytes.as_str()),
                ("memory.swap.max", "0"),
                ("memory.oom.group", "1"),
            ] {
                let _ = fs::write(group.join(file), value);
            }
        }
        Self { work: work.to_owned(), group: made, leader: None }
    }

    /// The first process, before it does anything.
    pub fn take(&mut self, pid: Option<u32>) {
        self.leader = pid.and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        if let (Some(group), Some(pid)) = (&self.group, self.leader)
            && fs::write(group.join("cgroup.procs"), pid.to_string()).is_err()
        {
            let _ = fs::remove_dir(group);
            self.group = None;
        }
    }

    /// True where the kernel limits the memory of all processes together.
    pub fn limits_memory(&self) -> bool {
        self.group.as_ref().is_some_and(|group| group.join("memory.max").exists())
    }

    /// True if the kernel ended a process of the job because this job's own limit was reached.
    pub fn ran_out_of_memory(&self) -> bool {
        let Some(group) = &self.group else { return false };
        limit_was_hit(&fs::read_to_string(group.join("memory.events")).unwrap_or_default())
    }

    /// Bytes of memory that the job's processes have, shared pages counted once.
    pub fn resident_bytes(&self) -> u64 {
        self.processes().into_iter().map(resident).sum()
    }

    /// Kills what is there now.
    pub fn kill(&self) {
        if let Some(group) = &self.group {
            let _ = fs::write(group.join("cgroup.kill"), "1");
        }
        if let Some(leader) = self.leader {
            // Already gone: nothing to kill.
            let _ = killpg(leader, Signal::SIGKILL);
        }
        for pid in self.processes() {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    /// Kills until nothing is left; false if something would not go.
    pub async fn end(&self) -> bool {
        for _ in 0..ROUNDS_MAX {
            self.kill();
            if self.is_empty() {
                return true;
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.is_empty()
    }

    /// True if no process of the job was found.
    pub fn is_empty(&self) -> bool {
        let grouped = self.group.as_ref().is_some_and(|group| {
            fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|pids| !pids.is_empty())
        });
        !grouped && self.processes().is_empty()
    }

    fn processes(&self) -> Vec<Pid> {
        marked(|value| value == self.work.as_os_str().as_bytes())
    }
}

/// `memory.events` (Linux, cgroup-v2.rst): `oom_kill` counts processes that any killer ended, that
/// of the whole machine or of a group above too; `oom` counts how often this group, or one below,
/// was at its own limit. Only together they say that the job took too much.
fn limit_was_hit(events: &str) -> bool {
    let count = |name: &str| {
        let line = events.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|n| n.trim().parse().ok()).unwrap_or(0u64)
    };
    count("oom") > 0 && count("oom_kill") > 0
}

impl Drop for Cage {
    fn drop(&mut self) {
        self.kill();
        if let Some(group) = &self.group {
            // Fails while a killed process is still going; the next start sweeps it.
            let _ = fs::remove_dir(group);
        }
    }
}

/// Ends what jobs of an earlier process left below this folder. Gives how many processes it killed,
/// or none if some would not go.
pub fn sweep(folder: &Path) -> Option<usize> {
    let below = [folder.as_os_str().as_bytes(), b"/"].concat();
    let mut killed = 0;
    for _ in 0..ROUNDS_MAX {
        let left = marked(|value| value.starts_with(&below));
        if left.is_empty() {
            remove_groups(folder);
            return Some(killed);
        }
        for pid in left {
            killed += usize::from(kill(pid, Signal::SIGKILL).is_ok());
        }
        std::thread::sleep(PAUSE);
    }
    None
}

fn remove_groups(folder: &Path) {
    let (Some(base), Some(prefix)) = (base(), prefix(folder)) else { return };
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.flatten().take(GROUPS_MAX) {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = fs::write(entry.path().join("cgroup.kill"), "1");
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The cgroup under which jobs get theirs: this process's own, or the one above where a service
/// manager put this process into a group `worker` of a delegated subtree.
fn base() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point))
    })?;
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let own = mount.join(own);
    let base = match own.file_name() {
        Some(name) if name == "worker" => own.parent()?.to_owned(),
        _ => own,
    };
    let controllers = fs::read_to_string(base.join("cgroup.controllers")).ok()?;
    if controllers.split_whitespace().any(|name| name == "memory") {
        let _ = fs::write(base.join("cgroup.subtree_control"), "+memory");
    }
    Some(base)
}

fn prefix(folder: &Path) -> Option<String> {
    let hex = Digest::of(folder.as_os_str().as_bytes()).hex();
    Some(format!("assay-{}-", hex.get(..16)?))
}

fn group_name(work: &Path) -> Option<String> {
    let own = Digest::of(work.as_os_str().as_bytes()).hex();
    Some(format!("{}{}", prefix(work.parent()?)?, own.get(..16)?))
}

/// Living processes whose environment has the mark with a value that is wanted. A zombie has no
/// environment any more.
fn marked(wanted: impl Fn(&[u8]) -> bool) -> Vec<Pid> {
    let own = Pid::this();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.map(Pid::from_raw)
        .filter(|pid| *pid != own)
        .filter(|pid| {
            let environ = read(format!("/proc/{pid}/environ"));
            environ.split(|byte| *byte == 0).any(|entry| {
                let value = entry.strip_prefix(MARK.as_bytes()).and_then(|e| e.strip_prefix(b"="));
                value.is_some_and(&wanted)
            })
        })
        .filter(|pid| kill(*pid, None) != Err(Errno::ESRCH))
        .collect()
}

fn resident(pid: Pid) -> u64 {
    let text = String::from_utf8_lossy(&read(format!("/proc/{pid}/smaps_rollup"))).into_owned();
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("Pss:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    });
    kib.unwrap_or(0) << 10
}

fn read(path: impl AsRef<OsStr>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(Path::new(path.as_ref())) {
        // A process that ends meanwhile gives nothing, or less.
        let _ = file.take(ENVIRON_BYTES_MAX).read_to_end(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_jobs_own_limit_is_said_of_the_job() {
        let events = |oom: u64, kills: u64| {
            format!("low 0\nhigh 0\nmax 7\noom {oom}\noom_kill {kills}\noom_group_kill 0\n")
        };
        assert!(limit_was_hit(&events(1, 3)));
        // Ended for the memory of the machine, or of a group above.
        assert!(!limit_was_hit(&events(0, 1)));
        // At its limit, and the kernel found room.
        assert!(!limit_was_hit(&events(2, 0)));
        assert!(!limit_was_hit(""));
    }
}
