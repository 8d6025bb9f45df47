//! `assay worker doctor`: is this worker fit to work? Each check says what it found and what to do.
//!
//! Invariant: doctor changes nothing and signs nothing.

use super::{config::Loaded, connect, environment, identity::Identity};
use attest::{
    Digest,
    policy::{Policy, Publisher, Source},
};
use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A job of the smallest image is estimated at so much by the coordinator.
const MEMORY_MIB_MIN: u64 = 192;
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
            // A table has one line for it: what a parser drew over several is not for people here.
            Err(detail) => Self { name, good: false, detail: one_line(&detail) },
        }
    }
}

/// The lines of a message as one; the excerpt that TOML's reader draws between them is left out.
fn one_line(text: &str) -> String {
    let drawn = |line: &&str| {
        let line = line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit());
        line.trim_start().starts_with('|')
    };
    let lines = text.lines().filter(|line| !drawn(line)).map(str::trim);
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(": ")
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
    checks.push(Check::of("policy", policy(&loaded.policy)));
    checks.push(Check::of("disk", disk(&loaded)));
    checks.push(Check::of("memory", memory(&loaded)));
    let facts = environment::read(folder);
    let said =
        format!("{}, {}, {} CPUs, {}", facts.kernel, facts.cpu, facts.cpus, facts.filesystem);
    checks.push(Check::of("environment", Ok(said)));
    if let Ok(identity) = identity {
        let answer = coordinator(&loaded, &identity).await;
        let key = answer.as_ref().ok().and_then(|(_, key)| *key);
        checks.push(Check::of("coordinator", answer.map(|(said, _)| said)));
        checks.push(Check::of("coordinator key", coordinator_key(&loaded, key)));
    }
    checks
}

/// What the worker's policy lets it rebuild.
fn policy(policy: &Policy) -> Result<String, String> {
    if policy.publishers.is_empty() {
        let text = "no [[publisher]]: every recipe would be refused; add one (`assay policy init \
                    IMAGE` drafts it)";
        return Err(text.to_owned());
    }
    let mut unsupported: Vec<String> =
        policy.publishers.iter().filter_map(Publisher::unsupported).collect();
    // What is asked for all images alike.
    let common = Policy { publishers: Vec::new(), ..policy.clone() };
    if let Ok(any) = "any/image".parse() {
        unsupported.extend(common.unsupported(Source::Registry, &any));
    }
    if unsupported.is_empty() {
        return Ok(format!("{} publishers", policy.publishers.len()));
    }
    let found = unsupported.join(", ");
    Err(format!("{found} cannot be checked by this version, so nothing under it is ever good"))
}

/// What jobs may take, against what the machine has.
fn memory(loaded: &Loaded) -> Result<String, String> {
    let (slots, each) = (loaded.config.slots, loaded.config.memory_mib_max);
    let all = each.saturating_mul(u64::from(slots));
    let machine = environment::memory_mib();
    let has = machine.map_or(String::new(), |mib| format!(", the machine has {mib} MiB"));
    let said = format!("{slots} slots with {each} MiB each{has}");
    if each < MEMORY_MIB_MIN {
        Err(format!("{said}; expected memory_mib_max of {MEMORY_MIB_MIN} or more"))
    } else if machine.is_some_and(|mib| all > mib) {
        Err(format!("{said}; lower slots or memory_mib_max"))
    } else {
        Ok(said)
    }
}

/// Whether leases will be believed, and whether what is built under them will count.
fn coordinator_key(loaded: &Loaded, signs: Option<Digest>) -> Result<String, String> {
    let ours = loaded.coordinator_key.id();
    if let Some(signs) = signs.filter(|signs| *signs != ours) {
        return Err(format!(
            "it signs leases with {signs}, but `coordinator_key` is {ours}: every offer would be \
             refused; put its verdict.pub there"
        ));
    }
    if let Some(pinned) = &loaded.policy.coordinator
        && pinned.id() != ours
    {
        return Err(format!(
            "the policy's [coordinator] key is {}, but `coordinator_key` is {ours}: nothing built \
             under its leases would count by this policy",
            pinned.id()
        ));
    }
    Ok(match signs {
        Some(_) => format!("leases are signed by {ours}"),
        None => format!("{ours}; whether the coordinator signs with it is not known"),
    })
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

/// How it answers, and which key it says that it signs with.
async fn coordinator(
    loaded: &Loaded,
    identity: &Identity,
) -> Result<(String, Option<Digest>), String> {
    let (mut client, _) =
        connect::client(&loaded.config.coordinator, loaded.ca_pem.as_deref(), identity)
            .map_err(|e| e.to_string())?;
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
    let answer = answer.into_inner();
    let skew = answer.coordinator_time - clock;
    if skew.abs() > 300 {
        return Err(format!("clocks differ by {skew} s; set this machine's clock"));
    }
    let said = format!("{} answers, clocks differ by {skew} s", loaded.config.coordinator);
    Ok((said, answer.coordinator_key.parse().ok()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_parser_draws_becomes_one_line() {
        let drawn = "/w/worker.toml: TOML parse error at line 3, column 6\n  |\n3 | slots = \n  |         ^\nexpected a value\n";
        let line = "/w/worker.toml: TOML parse error at line 3, column 6: expected a value";
        assert_eq!(super::one_line(drawn), line);
    }
}
