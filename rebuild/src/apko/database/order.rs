//! The order of files in a record, from 0.30.5 on.
//!
//! Invariant: entries are never changed, only ordered and dropped: an entry whose ancestors are not
//! all listed as directories is left out.

use super::{stable::sort_stable, without_slash};
use crate::{apk::package::Entry, go::tar::Kind};
use std::{cmp::Ordering, collections::HashSet};

/// The entries in the order of the record, without orphans.
pub(super) fn sorted<'a>(entries: &[&'a Entry]) -> Vec<&'a Entry> {
    let directories: HashSet<&[u8]> = entries
        .iter()
        .filter(|entry| is_directory(entry))
        .map(|entry| without_slash(&entry.header.name))
        .collect();
    let mut sorted = entries.to_vec();
    sort_stable(&mut sorted, compare);
    sorted.retain(|entry| has_all_ancestors(without_slash(&entry.header.name), &directories));
    sorted
}

fn is_directory(entry: &Entry) -> bool {
    entry.header.kind == Kind::Directory
}

fn has_all_ancestors(name: &[u8], directories: &HashSet<&[u8]>) -> bool {
    let slashes = name.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| name.get(..at).unwrap_or_default()).all(|d| directories.contains(d))
}

/// Component by component; where one path ends, files stand before directories. A directory and
/// what lies in it compare equal, so this is no order in the strict sense: the sort has to be Go's.
fn compare(one: &&Entry, other: &&Entry) -> Ordering {
    let mut left = without_slash(&one.header.name).split(|b| *b == b'/').peekable();
    let mut right = without_slash(&other.header.name).split(|b| *b == b'/').peekable();
    if without_slash(&one.header.name) == without_slash(&other.header.name) {
        return Ordering::Equal;
    }
    loop {
        let (Some(a), Some(b)) = (left.next(), right.next()) else { return Ordering::Equal };
        let (more_left, more_right) = (left.peek().is_some(), right.peek().is_some());
        if more_left && more_right {
            match a.cmp(b) {
                Ordering::Equal => continue,
                different => return different,
            }
        }
        let in_left = more_left || is_directory(one);
        let in_right = more_right || is_directory(other);
        return in_left.cmp(&in_right).then_with(|| a.cmp(b));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::tar::Header;

    fn entry(name: &str) -> Entry {
        let kind = if name.ends_with('/') { Kind::Directory } else { Kind::Regular };
        Entry { header: Header::new(kind, name), checksum: None, offset: 0 }
    }

    #[test]
    fn files_before_directories_and_no_orphans() {
        let names = ["etc/", "etc/b/", "etc/b/x", "etc/a", "usr/", "lost/x", "root", "etc/z"];
        let entries: Vec<Entry> = names.iter().map(|name| entry(name)).collect();
        let sorted = sorted(&entries.iter().collect::<Vec<_>>());
        let names: Vec<String> = sorted
            .iter()
            .map(|entry| String::from_utf8_lossy(&entry.header.name).into_owned())
            .collect();
        assert_eq!(names, ["root", "etc/", "etc/a", "etc/z", "etc/b/", "etc/b/x", "usr/"]);
    }
}
