//! Links to busybox for each of its applets.
//!
//! The package lists them in `/etc/busybox-paths.d`; for packages before it did, apko has a table
//! by version, which lies here as [`TABLE`]: for each path one bit per version, in hexadecimal.
//! Invariant: an existing file or link stays; a link gets the mtime of busybox.

use super::Build;
use crate::apko::{
    behaviour::Capability,
    error::AssembleError,
    fs::{FsError, path},
};

const STEP: &str = "busybox links";
const BUSYBOX: &[u8] = b"/bin/busybox";
const TABLE: &str = include_str!("busybox-links.txt");
/// Links of one image; busybox has some 400 applets.
const LINKS_MAX: usize = 10_000;

impl Build<'_> {
    pub(super) fn busybox_links(&mut self) -> Result<(), AssembleError> {
        let in_step = AssembleError::in_step(STEP);
        let busybox = match self.tree.lookup(BUSYBOX) {
            Ok(id) => id,
            Err(FsError::NotFound(_)) => return Ok(()),
            Err(error) => return Err(in_step(error)),
        };
        let mtime = self.tree.node(busybox).mtime;
        let links = self.busybox_paths()?;
        for link in links {
            let (folder, _) = path::split(&link);
            if link.is_empty() || link == BUSYBOX || *folder == *b"." {
                continue;
            }
            let id = self.tree.make_directories(&folder, 0o755).map_err(&in_step)?;
            if self.behaviour.has(Capability::DirectoryTimes) {
                self.tree.node_mut(id).mtime = mtime;
            }
            match self.tree.make_symlink(BUSYBOX, &link) {
                Ok(_) => {}
                Err(FsError::Exists(_)) => self.may_stay(&link)?,
                Err(error) => return Err(in_step(error)),
            }
        }
        Ok(())
    }

    /// An existing link or regular file is fine, a directory is not.
    fn may_stay(&self, link: &[u8]) -> Result<(), AssembleError> {
        if self.tree.read_link(link).is_ok() {
            return Ok(());
        }
        let id = self.tree.lookup(link).map_err(AssembleError::in_step(STEP))?;
        if self.tree.node(id).is_regular() {
            return Ok(());
        }
        let shown = String::from_utf8_lossy(link);
        Err(AssembleError::step(STEP, format!("expected a file or link at {shown}, found none")))
    }

    /// The paths to link, from the package that brought busybox or from the table.
    fn busybox_paths(&mut self) -> Result<Vec<Vec<u8>>, AssembleError> {
        let packages = self.packages.0;
        let provides = |provided: &String| provided.contains("busybox");
        let owner = packages
            .iter()
            .find(|package| package.info.name == "busybox")
            .or_else(|| packages.iter().rfind(|package| package.info.provides.iter().any(provides)))
            .ok_or_else(|| {
                AssembleError::step(STEP, "expected a package that provides busybox, found none")
            })?;
        let list = format!("/etc/busybox-paths.d/{}", owner.info.name);
        if let Some((_, file)) = self.packages.read_path(self.tree, &list, STEP)? {
            let lines = file.iter().filter(|b| **b == b'\n').count();
            if lines > LINKS_MAX {
                let what = "links to busybox";
                let (limit, found) = (LINKS_MAX as u64, lines.to_string());
                return Err(AssembleError::Limit { what, limit, found });
            }
            return Ok(file.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect());
        }
        let release = release(&owner.info.version).ok_or_else(|| {
            let detail = format!(
                "expected a version like 1.36.1-r5 of {}, found {:?}",
                owner.info.name, owner.info.version
            );
            AssembleError::step(STEP, detail)
        })?;
        Ok(known_links(release))
    }
}

/// The `x.y.z` of a version `v?x.y.z(-word)?`.
fn release(version: &str) -> Option<&str> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let release = match version.split_once('-') {
        Some((release, word)) => {
            let is_word =
                !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            is_word.then_some(release)?
        }
        None => version,
    };
    let numbers =
        release.split('.').filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let three = numbers.count() == 3 && release.split('.').count() == 3;
    three.then_some(release)
}

/// The links of a release in the table, or those of the newest one there.
fn known_links(release: &str) -> Vec<Vec<u8>> {
    let mut lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    let versions: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let newest = versions.len().saturating_sub(1);
    let column = versions.iter().position(|version| *version == release).unwrap_or(newest);
    lines
        .filter_map(|line| line.split_once(' '))
        .filter(|(bits, _)| u32::from_str_radix(bits, 16).is_ok_and(|bits| bits >> column & 1 == 1))
        .map(|(_, path)| path.as_bytes().to_vec())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        for (version, expected) in [
            ("1.36.1-r5", Some("1.36.1")),
            ("v1.36.1", Some("1.36.1")),
            ("1.36.1-", None),
            ("1.36", None),
            ("1.36.1.2-r0", None),
            ("1.36.x-r0", None),
            ("1.36.1-r0-r1", None),
        ] {
            assert_eq!(release(version), expected, "{version}");
        }
    }

    #[test]
    fn the_table_has_a_default() {
        let newest = known_links("9.9.9");
        assert_eq!(newest, known_links("1.36.0"));
        assert!(newest.len() > 300 && newest.contains(&b"/bin/sh".to_vec()));
        assert_ne!(known_links("1.32.1"), newest);
    }
}
