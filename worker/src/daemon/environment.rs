//! The facts of the environment that an observation records.
//!
//! Invariant: read from the system each time, never configured; what cannot be read is empty, which
//! means "not known" and counts as equal to nothing where diversity is asked for.

use attest::observation::Environment;
use std::{fs, path::Path};

/// Reads the facts, with the file system of the work folder.
pub fn read(work: &Path) -> Environment {
    Environment {
        worker_version: env!("CARGO_PKG_VERSION").to_owned(),
        rebuilder: concat!("assay-apko ", env!("CARGO_PKG_VERSION")).to_owned(),
        kernel: kernel(),
        cpu: cpu_field(&["model name", "Hardware"]),
        cpu_vendor: cpu_field(&["vendor_id", "CPU implementer"]),
        filesystem: filesystem(work),
        umask: umask(),
        timezone: std::env::var("TZ").unwrap_or_default(),
        locale: ["LC_ALL", "LANG"].iter().find_map(|n| std::env::var(n).ok()).unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(0, |n| n.get() as u32),
        architecture: architecture().to_owned(),
    }
}

/// This machine's architecture in Go's words.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

fn line_of(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next().unwrap_or_default().trim().chars().take(200).collect()
}

fn kernel() -> String {
    let (name, release) =
        (line_of("/proc/sys/kernel/ostype"), line_of("/proc/sys/kernel/osrelease"));
    format!("{name} {release}").trim().to_owned()
}

fn cpu_field(names: &[&str]) -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let (_, value) = text.lines().find(|l| l.starts_with(name))?.split_once(':')?;
        Some(value.trim().chars().take(200).collect())
    };
    names.iter().find_map(|name| field(name)).unwrap_or_default()
}

/// The type of the longest mount point above the folder.
fn filesystem(folder: &Path) -> String {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let above = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (_, point, kind) = (fields.next()?, fields.next()?, fields.next()?);
        folder.starts_with(point).then(|| (point.len(), kind.to_owned()))
    });
    above.max_by_key(|(length, _)| *length).map(|(_, kind)| kind).unwrap_or_default()
}

/// The machine's memory, MiB, where the system says it.
pub fn memory_mib() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib >> 10)
}

fn umask() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    value.map(|v| v.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_machine_has_facts() {
        let facts = super::read(std::path::Path::new("."));
        assert!(facts.kernel.starts_with("Linux "), "{facts:?}");
        assert!(!facts.filesystem.is_empty() && facts.cpus > 0, "{facts:?}");
        assert!(super::memory_mib().is_some_and(|mib| mib > 0));
    }
}
