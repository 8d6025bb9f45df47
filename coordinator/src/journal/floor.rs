//! The small file that says how far the journal must reach: what tree heads and receipts promised.
//!
//! Invariant: the file is replaced whole and synced, and only ever rises. A coordinator whose
//! journal ends below it must not start. A floor that cannot be read must never be taken for none.
//!
//! One line of text: `assay-floor v1 POSITION CHAIN CRC32C`, the checksum over what stands before.

use super::{
    disk::{Disk, read_full, write_whole},
    error::{Floor, JournalError},
};
use attest::{Digest, id::JournalPosition};

/// The file's name.
pub(crate) const FLOOR_NAME: &str = "FLOOR";
/// `assay-floor v1 ` + 20 digits + 71 of the digest + 8 of the sum + spaces and newline = 117.
const FLOOR_BYTES_MAX: usize = 256;

/// The recorded floor; none if there never was one.
pub(crate) fn read<D: Disk>(disk: &D) -> Result<Option<Floor>, JournalError> {
    let file = match disk.open(FLOOR_NAME) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(JournalError::io("open", FLOOR_NAME, &error)),
    };
    let mut bytes = vec![0; FLOOR_BYTES_MAX];
    let read = read_full(&file, &mut bytes, 0)
        .map_err(|error| JournalError::io("read", FLOOR_NAME, &error))?;
    bytes.truncate(read);
    parse(&bytes).map(Some).ok_or_else(|| JournalError::Files {
        expected: "a file FLOOR with one line `assay-floor v1 POSITION CHAIN CRC32C`".into(),
        found: String::from_utf8_lossy(&bytes).chars().take(120).collect(),
    })
}

/// Replaces the recorded floor.
pub(crate) fn write<D: Disk>(
    disk: &D,
    position: JournalPosition,
    chain: &Digest,
) -> Result<(), JournalError> {
    let text = format!("assay-floor v1 {position} {chain}");
    let line = format!("{text} {:08x}\n", crc32c::crc32c(text.as_bytes()));
    write_whole(disk, FLOOR_NAME, line.as_bytes())
        .map_err(|error| JournalError::io("write", FLOOR_NAME, &error))
}

fn parse(bytes: &[u8]) -> Option<Floor> {
    let line = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let (text, sum) = line.rsplit_once(' ')?;
    if format!("{:08x}", crc32c::crc32c(text.as_bytes())) != sum {
        return None;
    }
    let (position, chain) = text.strip_prefix("assay-floor v1 ")?.split_once(' ')?;
    Some(Floor {
        position: JournalPosition(position.parse().ok()?),
        chain: Some(chain.parse().ok()?),
        promise: "the file FLOOR (receipts or tree heads given out)".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{disk::DiskFile, memory::MemoryDisk};

    #[test]
    fn a_floor_that_cannot_be_read_is_an_error_not_none() {
        let disk = MemoryDisk::default();
        assert!(read(&disk).unwrap().is_none());
        write(&disk, JournalPosition(7), &Digest::of(b"c")).unwrap();
        assert_eq!(read(&disk).unwrap().unwrap().position, JournalPosition(7));
        let file = disk.open(FLOOR_NAME).unwrap();
        for at in 0..file.size().unwrap() {
            let mut byte = [0];
            file.read_at(&mut byte, at).unwrap();
            file.write_at(&[byte[0] ^ 1], at).unwrap();
            assert!(matches!(read(&disk), Err(JournalError::Files { .. })), "byte {at}");
            file.write_at(&byte, at).unwrap();
        }
    }
}
