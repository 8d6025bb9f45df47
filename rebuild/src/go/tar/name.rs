//! What happens to names: reduction to ASCII, the ustar split, the name of a pax header.
//!
//! Invariant: works on bytes, so a name that is no UTF-8 gives the bytes that Go gives.

use super::block::Block;

/// True when every byte is ASCII and not NUL: what a ustar field can hold.
pub(super) fn is_ascii(text: &[u8]) -> bool {
    text.iter().all(|&byte| byte != 0 && byte < 0x80)
}

/// The text without every byte that a ustar field cannot hold.
pub(super) fn ascii(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|&byte| byte != 0 && byte < 0x80).collect()
}

/// Divides a name that is too long for the name field into prefix and name, or says that it
/// cannot be: only ASCII, at a slash, 1..=155 and 1..=100 bytes.
pub(super) fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= Block::NAME.len() || !is_ascii(name) {
        return None;
    }
    let widest = Block::PREFIX.len() + 1;
    let searched = match name.len() {
        length if length > widest => widest,
        length if name.ends_with(b"/") => length - 1,
        length => length,
    };
    let slash = name[..searched].iter().rposition(|&byte| byte == b'/')?;
    let (prefix, rest) = (&name[..slash], &name[slash + 1..]);
    let fits = (1..=Block::PREFIX.len()).contains(&prefix.len())
        && (1..=Block::NAME.len()).contains(&rest.len());
    fits.then_some((prefix, rest))
}

/// The name of the extended header of `name`, before [`cut`].
pub(super) fn pax_header_name(name: &[u8]) -> Vec<u8> {
    let start = name.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let (directory, file) = name.split_at(start);
    let mut joined = directory.to_vec();
    if !joined.is_empty() {
        joined.push(b'/');
    }
    joined.extend_from_slice(b"PaxHeaders.0");
    if !file.is_empty() {
        joined.push(b'/');
        joined.extend_from_slice(file);
    }
    ascii(&clean(&joined))
}

/// The part of a special entry's name that is written.
pub(super) fn cut(name: &[u8]) -> &[u8] {
    let kept = &name[..name.len().min(Block::NAME.len())];
    let end = kept.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    &kept[..end]
}

/// Lexical cleaning as Go's `path.Clean`: no empty and `.` components, `..` resolved where it can
/// be, `..` at the root dropped, an empty result becomes `.`.
fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let mut kept: Vec<&[u8]> = Vec::new();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if kept.last().is_some_and(|last| *last != b"..") => {
                kept.pop();
            }
            b".." if rooted => {}
            other => kept.push(other),
        }
    }
    let joined = kept.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/".as_slice(), &joined].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}
