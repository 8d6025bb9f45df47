//! The order of files in a record before 0.30.5 (and in 0.30.4): folder by folder.
//!
//! Invariant: in each folder files come first, then directories with what is in them. Entries of
//! the root are listed only if they are directories with children in this package, but for 0.30.3.

use super::without_slash;
use crate::{apk::package::Entry, apko::error::AssembleError, go::tar::Kind};
use std::collections::HashMap;

/// Lines of one record. A directory that a package lists twice brings its children twice, which
/// doubles with every level.
const LINES_MAX: usize = 1 << 22;

/// The entries in the order of the record.
pub(super) fn ordered<'a>(
    entries: &[&'a Entry],
    from_root: bool,
) -> Result<Vec<&'a Entry>, AssembleError> {
    let mut children: HashMap<&[u8], Vec<&'a [u8]>> = HashMap::new();
    let mut by_name: HashMap<&[u8], &'a Entry> = HashMap::new();
    for entry in entries {
        let name = without_slash(&entry.header.name);
        children.entry(folder(name)).or_default().push(name);
        by_name.insert(name, entry);
    }
    let is_file =
        |name: &&&[u8]| by_name.get(**name).is_some_and(|e| e.header.kind != Kind::Directory);
    let root = children.get(b"".as_slice()).cloned().unwrap_or_default();
    let start = if from_root && root.iter().any(|name| is_file(&name)) {
        root
    } else {
        let top = |name: &&&[u8]| !name.is_empty() && !name.contains(&b'/');
        children.keys().filter(top).copied().collect()
    };
    let mut ordered = Vec::with_capacity(entries.len());
    // Names still to come, the next one last: a directory puts its children on top.
    let mut stack = Vec::new();
    push_folder(&mut stack, start, &by_name);
    while let Some(name) = stack.pop() {
        let Some(entry) = by_name.get(name) else { continue };
        ordered.push(*entry);
        if ordered.len() > LINES_MAX {
            let what = "entries of an installed-database record";
            let limit = LINES_MAX as u64;
            return Err(AssembleError::Limit { what, limit, found: "more".into() });
        }
        if entry.header.kind == Kind::Directory
            && let Some(names) = children.get(name)
        {
            push_folder(&mut stack, names.clone(), &by_name);
        }
    }
    Ok(ordered)
}

/// The folder of a name, empty for the root.
fn folder(name: &[u8]) -> &[u8] {
    let slash = name.iter().rposition(|b| *b == b'/').unwrap_or(0);
    name.get(..slash).unwrap_or_default()
}

fn push_folder<'a>(
    stack: &mut Vec<&'a [u8]>,
    mut names: Vec<&'a [u8]>,
    by_name: &HashMap<&[u8], &'a Entry>,
) {
    let is_directory =
        |name: &[u8]| by_name.get(name).is_some_and(|e| e.header.kind == Kind::Directory);
    names.sort_unstable_by_key(|name| (is_directory(name), *name));
    stack.extend(names.into_iter().rev());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::go::tar::Header;

    fn names(from_root: bool) -> Vec<String> {
        let entries: Vec<Entry> = ["a", "empty/", "usr/", "usr/b/", "usr/b/x", "usr/z"]
            .iter()
            .map(|name| {
                let kind = if name.ends_with('/') { Kind::Directory } else { Kind::Regular };
                Entry { header: Header::new(kind, *name), checksum: None, offset: 0 }
            })
            .collect();
        ordered(&entries.iter().collect::<Vec<_>>(), from_root)
            .unwrap()
            .iter()
            .map(|entry| String::from_utf8_lossy(&entry.header.name).into_owned())
            .collect()
    }

    #[test]
    fn root_entries_by_version() {
        assert_eq!(names(false), ["usr/", "usr/z", "usr/b/", "usr/b/x"]);
        assert_eq!(names(true), ["a", "empty/", "usr/", "usr/z", "usr/b/", "usr/b/x"]);
    }
}
