//! Segment files: their names, their creation, and the list of offsets beside a closed one.
//!
//! Invariant: a segment appears under its name only when its header is durable, so a file with a
//! segment's name and no good header is damage, never a crash. Offset files are hints: whoever
//! uses one checks the frame it points to.

use super::{
    disk::{Disk, DiskFile, read_full},
    error::JournalError,
    frame::SegmentHeader,
};

/// Largest segment file that is read: one segment as large as the options allow, and one group.
pub(super) const SEGMENT_FILE_BYTES_MAX: u64 = 2 << 30;

/// `00000000000000000042.journal` begins with record 42.
pub(super) fn name(first: u64) -> String {
    format!("{first:020}.journal")
}

/// `00000000000000000042.offsets`: four bytes (little endian) for each record.
pub(super) fn offsets_name(first: u64) -> String {
    format!("{first:020}.offsets")
}

/// The first positions of the segments among these names, in order.
pub(super) fn firsts(names: &[String]) -> Vec<u64> {
    let mut firsts: Vec<u64> = names
        .iter()
        .filter_map(|name| name.strip_suffix(".journal"))
        .filter(|digits| digits.len() == 20)
        .filter_map(|digits| digits.parse().ok())
        .collect();
    firsts.sort_unstable();
    firsts
}

/// Creates a segment: header and `ahead` zeros, synced, then named, then the directory synced.
pub(super) fn create<D: Disk>(
    disk: &D,
    header: &SegmentHeader,
    ahead: usize,
) -> Result<D::File, JournalError> {
    let (name, temporary) = (name(header.first), "segment.tmp");
    let io = |action| move |error| JournalError::io(action, temporary, &error);
    match disk.remove(temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(JournalError::io("remove", temporary, &error));
        }
        _ => {}
    }
    let file = disk.create(temporary).map_err(io("create"))?;
    let mut bytes = header.encode().to_vec();
    bytes.resize(bytes.len() + ahead, 0);
    let filled = file.write_at(&bytes, 0).and_then(|()| file.sync());
    if let Err(error) = filled {
        // Gives the room back when the disk is full; a leftover is swept at the next start.
        let _ = disk.remove(temporary);
        return Err(JournalError::io("write", temporary, &error));
    }
    disk.rename(temporary, &name).map_err(|error| JournalError::io("rename", &name, &error))?;
    disk.sync_directory().map_err(|error| JournalError::Io {
        action: "sync the directory of",
        name: name.clone(),
        why: error.to_string(),
    })?;
    Ok(file)
}

/// All bytes of a segment file.
pub(super) fn read_all<D: Disk>(file: &D::File, name: &str) -> Result<Vec<u8>, JournalError> {
    let io = |error| JournalError::io("read", name, &error);
    let size = file.size().map_err(io)?;
    if size > SEGMENT_FILE_BYTES_MAX {
        return Err(JournalError::Files {
            expected: format!("a segment of at most {SEGMENT_FILE_BYTES_MAX} bytes"),
            found: format!("{name} with {size} bytes"),
        });
    }
    let mut bytes = vec![0; size as usize];
    let read = read_full(file, &mut bytes, 0).map_err(io)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Writes the offsets of a closed segment. Not synced: they can be made again.
pub(super) fn write_offsets<D: Disk>(disk: &D, first: u64, offsets: &[u32]) -> std::io::Result<()> {
    let name = offsets_name(first);
    let _ = disk.remove(&name);
    let bytes: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_le_bytes()).collect();
    disk.create(&name)?.write_at(&bytes, 0)
}

/// What an offsets file says about the record with this index; not to be trusted.
pub(super) fn hinted_offset<F: DiskFile>(offsets: &F, index: u64) -> Option<u64> {
    let mut bytes = [0; 4];
    let read = read_full(offsets, &mut bytes, index * 4).ok()?;
    (read == 4).then(|| u64::from(u32::from_le_bytes(bytes)))
}

/// A segment whole, with its header, which must be of the record that the name says.
pub(super) fn load<D: Disk>(
    disk: &D,
    first: u64,
) -> Result<(D::File, Vec<u8>, SegmentHeader), JournalError> {
    let name = name(first);
    let file = disk.open(&name).map_err(|error| JournalError::io("open", &name, &error))?;
    let bytes = read_all::<D>(&file, &name)?;
    let damaged = |why: String| JournalError::Damaged {
        position: first,
        segment: name.clone(),
        offset: 0,
        why,
    };
    let header = SegmentHeader::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
    if header.first != first {
        return Err(damaged(format!("expected first record {first}, found {}", header.first)));
    }
    Ok((file, bytes, header))
}
