//! Patterns of `include` lines, as Go's `path.Match` and `fs.Glob` read them.
//!
//! `*` any run without a slash, `?` one character, `[a-z]` and `[^a-z]` classes, `\` takes the next
//! character as it is. Invariant: matching ends after at most pattern × name steps.

use crate::apko::fs::{FileTree, path};

/// Paths that one pattern may give.
const MATCHES_MAX: usize = 10_000;

/// A pattern that is not one: an open class, or a backslash at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a well-formed pattern")]
pub(super) struct BadPattern;

/// Existing paths that match, in byte order folder by folder.
pub(super) fn paths(tree: &FileTree, pattern: &[u8]) -> Result<Vec<Vec<u8>>, BadPattern> {
    let mut found: Vec<Vec<u8>> = vec![Vec::new()];
    for part in path::components(pattern) {
        matches(part, b"")?;
        let special = part.iter().any(|b| matches!(b, b'*' | b'?' | b'[' | b'\\'));
        let mut next = Vec::new();
        for folder in &found {
            if !special {
                next.push(below(folder, part));
                continue;
            }
            let Ok(id) = tree.lookup(folder) else { continue };
            for name in tree.node(id).children().into_iter().flat_map(|names| names.keys()) {
                if next.len() < MATCHES_MAX && matches(part, name)? {
                    next.push(below(folder, name));
                }
            }
        }
        found = next;
    }
    found.retain(|path| !path.is_empty() && tree.exists(path));
    Ok(found)
}

fn below(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

/// True if a whole name matches.
pub(super) fn matches(pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern> {
    let tokens = tokens(pattern)?;
    let name: Vec<u32> = characters(name);
    // Which positions of the name the tokens so far can end at.
    let mut reached = vec![false; name.len() + 1];
    if let Some(start) = reached.first_mut() {
        *start = true;
    }
    for token in &tokens {
        let mut next = vec![false; reached.len()];
        let mut run = false;
        for (at, slot) in next.iter_mut().enumerate() {
            let here = reached.get(at).copied().unwrap_or_default();
            *slot = match token {
                Token::Any => {
                    run |= here;
                    run
                }
                one => {
                    let before = at.checked_sub(1);
                    before.is_some_and(|before| {
                        reached.get(before).copied().unwrap_or_default()
                            && name.get(before).is_some_and(|c| one.takes(*c))
                    })
                }
            };
        }
        reached = next;
    }
    Ok(reached.last().copied().unwrap_or_default())
}

enum Token {
    Any,
    One,
    Literal(u32),
    Class { ranges: Vec<(u32, u32)>, negated: bool },
}

impl Token {
    fn takes(&self, character: u32) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Literal(literal) => *literal == character,
            Self::Class { ranges, negated } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&character)) != *negated
            }
        }
    }
}

/// Characters as numbers; a byte that is no UTF-8 counts as one character of its own.
fn characters(text: &[u8]) -> Vec<u32> {
    text.utf8_chunks()
        .flat_map(|chunk| {
            let valid = chunk.valid().chars().map(u32::from);
            valid.chain(chunk.invalid().iter().map(|byte| 0x11_0000 + u32::from(*byte)))
        })
        .collect()
}

fn tokens(pattern: &[u8]) -> Result<Vec<Token>, BadPattern> {
    let characters = characters(pattern);
    let mut rest = characters.iter().copied().peekable();
    let mut tokens = Vec::new();
    let is = |c: u32, wanted: char| c == u32::from(wanted);
    while let Some(c) = rest.next() {
        tokens.push(match char::from_u32(c) {
            Some('*') => Token::Any,
            Some('?') => Token::One,
            Some('\\') => Token::Literal(rest.next().ok_or(BadPattern)?),
            Some('[') => {
                let negated = rest.next_if(|c| is(*c, '^')).is_some();
                let mut ranges = Vec::new();
                while ranges.is_empty() || rest.next_if(|c| is(*c, ']')).is_none() {
                    let low = class_character(&mut rest)?;
                    let dash = rest.next_if(|c| is(*c, '-')).is_some();
                    let high = if dash { class_character(&mut rest)? } else { low };
                    ranges.push((low, high));
                }
                Token::Class { ranges, negated }
            }
            _ => Token::Literal(c),
        });
    }
    Ok(tokens)
}

fn class_character(rest: &mut impl Iterator<Item = u32>) -> Result<u32, BadPattern> {
    let c = rest.next().ok_or(BadPattern)?;
    match char::from_u32(c) {
        Some('-' | ']') => Err(BadPattern),
        Some('\\') => rest.next().ok_or(BadPattern),
        _ => Ok(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", Ok(true)),
            ("*.conf", "a.conf.bak", Ok(false)),
            ("a?c", "abc", Ok(true)),
            ("[a-c]x", "bx", Ok(true)),
            ("[^a-c]x", "bx", Ok(false)),
            ("\\*", "*", Ok(true)),
            ("*a*b*c", "xaybzc", Ok(true)),
            ("", "", Ok(true)),
            ("[", "x", Err(BadPattern)),
            ("[]", "x", Err(BadPattern)),
            ("[a-]", "x", Err(BadPattern)),
            ("\\", "x", Err(BadPattern)),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
        let stars = "*a".repeat(500);
        assert_eq!(matches(stars.as_bytes(), &vec![b'a'; 499]), Ok(false));
    }

    #[test]
    fn over_a_tree() {
        let mut tree = FileTree::new();
        tree.make_directories(b"etc/ld.so.conf.d", 0o755).unwrap();
        for name in ["b.conf", "a.conf", "c.txt"] {
            let path = format!("etc/ld.so.conf.d/{name}");
            tree.write(path.as_bytes(), Vec::new(), 0o644).unwrap();
        }
        let found = paths(&tree, b"etc/*.d/*.conf").unwrap();
        assert_eq!(
            found,
            [b"etc/ld.so.conf.d/a.conf".to_vec(), b"etc/ld.so.conf.d/b.conf".to_vec()]
        );
        assert!(paths(&tree, b"etc/none.conf").unwrap().is_empty());
        assert_eq!(paths(&tree, b"etc/ld.so.conf.d/c.txt").unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn any_pattern(pattern in proptest::collection::vec(any::<u8>(), 0..40),
                       name in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = matches(&pattern, &name);
        }
    }
}
