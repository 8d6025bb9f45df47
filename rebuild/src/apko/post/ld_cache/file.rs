//! The bytes of the cache: glibc's format `glibc-ld.so.cache1.1`, little endian.
//!
//! 48 bytes of header, 24 per entry, then the paths, each ended by NUL, then zeros up to the next
//! multiple of 16, at least one. Invariant: no extensions; offsets count from the file's start.

use crate::apko::fs::path;

const MAGIC: &[u8; 20] = b"glibc-ld.so.cache1.1";
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 24;
const ALIGNMENT: usize = 16;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Library {
    /// Absolute path.
    pub(super) path: Vec<u8>,
    /// What the dynamic linker needs to know of it.
    pub(super) flags: u32,
}

impl Library {
    /// The file name, which is what the cache is searched for.
    pub(super) fn name(&self) -> &[u8] {
        path::base(&self.path)
    }
}

/// The file, or none if its offsets do not fit 32 bits.
pub(super) fn encode(libraries: &[Library]) -> Option<Vec<u8>> {
    let text: usize = libraries.iter().map(|library| library.path.len() + 1).sum();
    let strings = HEADER_BYTES + ENTRY_BYTES * libraries.len();
    u32::try_from(strings + text).ok()?;
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&u32::try_from(libraries.len()).ok()?.to_le_bytes());
    out.extend_from_slice(&u32::try_from(text).ok()?.to_le_bytes());
    // One byte of flags, three of padding, four of the extension's offset, twelve unused.
    out.resize(HEADER_BYTES, 0);
    let mut at = strings;
    for library in libraries {
        let name = at + library.path.len() - library.name().len();
        for number in [library.flags, u32::try_from(name).ok()?, u32::try_from(at).ok()?, 0] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&0_u64.to_le_bytes());
        at += library.path.len() + 1;
    }
    for library in libraries {
        out.extend_from_slice(&library.path);
        out.push(0);
    }
    out.resize((out.len() & !(ALIGNMENT - 1)) + ALIGNMENT, 0);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout() {
        let library = Library { path: b"/lib/libc.so.6".to_vec(), flags: 0x0303 };
        let file = encode(&[library]).unwrap();
        assert_eq!(file.len() % 16, 0);
        assert_eq!(&file[20..28], &[1, 0, 0, 0, 15, 0, 0, 0]);
        assert_eq!(&file[48..60], &[3, 3, 0, 0, 77, 0, 0, 0, 72, 0, 0, 0]);
        assert_eq!(&file[72..87], b"/lib/libc.so.6\0");
        assert_eq!(encode(&[]).unwrap().len(), 64);
    }
}
