//! `assay worker doctor`: is this worker fit to work? Each check says what it found and what to do.
//!
//! Invariant: doctor changes nothing and signs nothing.

use super::{config::Loaded, connect, environment, identity::Identity};
use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Free space below which builds are likely to fail.
const FREE_BYTES_MIN: u64 = 2 << 30;

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// True if it is as it should be.
    pub good: bool,
    /// What was found, and what to do.
    pub detail: String,
}

impl Check {
    fn of(name: &'static str, result: Result<String, String>) -> Self {
        match result {
            Ok(detail) => Self { name, good: true, detail },
            Err(detail) => Self { name, good: false, detail },
        }
    }
}

/// Looks at configuration, key, disk, clock and coordinator.
pub async fn examine(folder: &Path) -> Vec<Check> {
    let mut checks = Vec::new();
    let loaded = match Loaded::read(folder) {
        Ok(loaded) => loaded,
        Err(error) => {
            checks.push(Check::of("configuration", Err(error.to_string())));
            return checks;
        }
    };
    let said = format!("{} and its policy are readable", folder.join("worker.toml").display());
    checks.push(Check::of("configuration", Ok(said)));
    let identity = Identity::load(&loaded.key_path());
    let key = identity.as_ref().map(|i| format!("worker {}", i.worker()));
    checks.push(Check::of("key", key.map_err(ToString::to_string)));
    checks.push(Check::of("disk", disk(&loaded)));
    let facts = environment::read(folder);
    let said =
        format!("{}, {}, {} CPUs, {}", facts.kernel, facts.cpu, facts.cpus, facts.filesystem);
    checks.push(Check::of("environment", Ok(said)));
    if let Ok(identity) = identity {
        checks.push(Check::of("coordinator", coordinator(&loaded, &identity).await));
    }
    checks
}

fn disk(loaded: &Loaded) -> Result<String, String> {
    let stat = nix::sys::statvfs::statvfs(&loaded.folder).map_err(|e| e.to_string())?;
    let free = stat.blocks_available() as u64 * stat.fragment_size() as u64;
    let said = format!("{} MiB free for store and work folder", free >> 20);
    if free >= FREE_BYTES_MIN {
        Ok(said)
    } else {
        Err(format!("{said}; expected at least {} MiB", FREE_BYTES_MIN >> 20))
    }
}

async fn coordinator(loaded: &Loaded, identity: &Identity) -> Result<String, String> {
    let (mut client, _) = connect::client(loaded, identity).map_err(|e| e.to_string())?;
    let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let request = proto::v1::SyncRequest {
        worker_version: env!("CARGO_PKG_VERSION").to_owned(),
        draining: true,
        worker_time: clock,
        ..Default::default()
    };
    let call = tokio::time::timeout(Duration::from_secs(15), client.sync(request)).await;
    let answer = call.map_err(|_| "no answer within 15 s".to_owned())?;
    let answer = answer.map_err(|status| match status.code() {
        tonic::Code::PermissionDenied | tonic::Code::Unauthenticated => format!(
            "it does not know this worker: {}; its operator enrols it with `assay operator \
             enroll-worker`",
            status.message()
        ),
        _ => connect::chain(&status),
    })?;
    let skew = answer.into_inner().coordinator_time - clock;
    if skew.abs() > 300 {
        return Err(format!("clocks differ by {skew} s; set this machine's clock"));
    }
    Ok(format!("{} answers, clocks differ by {skew} s", loaded.config.coordinator))
}
