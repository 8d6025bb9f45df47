//! Go's lexical path functions on bytes (`path.Clean`, `path.Split`, `path.Join`).
//!
//! Invariant: purely lexical, total functions: any bytes in, bytes out. They must never look at a
//! file system: in apko's tree a symlink is followed by name, never by a cleaned path.

use std::borrow::Cow;

/// True for names between single slashes, none of them `.` or `..`: [`clean`] changes nothing.
fn is_clean(path: &[u8]) -> bool {
    path.split(|b| *b == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
}

/// The shortest equivalent path, as Go's `path.Clean` gives it: `a//b/../c` is `a/c`, empty is `.`.
pub fn clean(path: &[u8]) -> Vec<u8> {
    if is_clean(path) {
        return path.to_vec();
    }
    let rooted = path.first() == Some(&b'/');
    let mut kept: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match kept.last() {
                Some(&last) if last != b".." => {
                    kept.pop();
                }
                _ if rooted => {}
                _ => kept.push(part),
            },
            _ => kept.push(part),
        }
    }
    let joined = kept.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// The directory and the last name of a cleaned path: `.` or `/` where there is no other directory.
pub fn split(path: &[u8]) -> (Cow<'_, [u8]>, Cow<'_, [u8]>) {
    if is_clean(path) {
        // Nearly all are: nothing needs to be copied.
        let (directory, name) = match path.iter().rposition(|b| *b == b'/') {
            None => (&b"."[..], path),
            Some(at) => (&path[..at], &path[at + 1..]),
        };
        return (directory.into(), name.into());
    }
    let (directory, name) = split_cleaned(clean(path));
    (directory.into(), name.into())
}

fn split_cleaned(cleaned: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    match cleaned.iter().rposition(|b| *b == b'/') {
        None => (b".".to_vec(), cleaned),
        Some(0) => (b"/".to_vec(), cleaned.get(1..).unwrap_or_default().to_vec()),
        Some(at) => {
            let (directory, rest) = cleaned.split_at(at);
            (directory.to_vec(), rest.get(1..).unwrap_or_default().to_vec())
        }
    }
}

/// The last name of a path; trailing slashes do not count (Go's `path.Base`).
pub fn base(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |at| at + 1);
    let trimmed = path.get(..end).unwrap_or_default();
    let start = trimmed.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    trimmed.get(start..).unwrap_or_default()
}

/// Two paths joined by a slash and cleaned.
pub fn join(left: &[u8], right: &[u8]) -> Vec<u8> {
    if left.is_empty() {
        return clean(right);
    }
    clean(&[left, b"/", right].concat())
}

/// The names between slashes, empty ones left out; nothing else is changed.
pub fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_is_that_of_go() {
        for (path, cleaned) in [
            ("", "."),
            (".", "."),
            ("/", "/"),
            ("//", "/"),
            ("a/b/../c", "a/c"),
            ("../a", "../a"),
            ("a/../../b", "../b"),
            ("/../a", "/a"),
            ("a//b/", "a/b"),
            ("./a/.", "a"),
            ("..", ".."),
        ] {
            assert_eq!(clean(path.as_bytes()), cleaned.as_bytes(), "{path}");
        }
    }

    #[test]
    fn splitting_and_base_names() {
        let text = |(a, b): (Cow<'_, [u8]>, Cow<'_, [u8]>)| {
            (String::from_utf8(a.into()).unwrap(), String::from_utf8(b.into()).unwrap())
        };
        assert_eq!(text(split(b"a/b/c")), ("a/b".into(), "c".into()));
        assert_eq!(text(split(b"/a")), ("/".into(), "a".into()));
        assert_eq!(text(split(b"a")), (".".into(), "a".into()));
        assert_eq!(text(split(b"a/")), (".".into(), "a".into()));
        assert_eq!(text(split(b"a/../b//c/.")), ("b".into(), "c".into()));
        assert_eq!(text(split(b"")), (".".into(), ".".into()));
        assert_eq!(base(b"a/b/"), b"b");
        assert_eq!(base(b"x"), b"x");
        assert_eq!(base(b"//"), b"");
        assert_eq!(join(b"usr/lib", b"../share"), b"usr/share");
        assert_eq!(join(b"", b"../share"), b"../share");
    }
}
