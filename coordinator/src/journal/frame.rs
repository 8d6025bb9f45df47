//! The bytes of the journal, version 1: segment headers and frames (docs/JOURNAL.md).
//!
//! Invariant: what `decode` accepts is exactly what `encode` writes, field by field; every length is
//! checked against its limit before it is used. It must never read past the slice it was given, and
//! never accept a frame whose checksum, padding or reserved bytes are wrong.

use super::record::{Kind, NewRecord, Stored};
use attest::{Digest, id::JournalPosition, time::Timestamp};
use sha2::{Digest as _, Sha256};

/// The version of the format that this code writes.
pub const VERSION: u32 = 1;
/// The first eight bytes of every segment.
pub const MAGIC: &[u8; 8] = b"assayjrn";
/// Bytes of a segment header.
pub const SEGMENT_HEADER_BYTES: usize = 96;
/// Bytes of a frame before its body.
pub const FRAME_HEADER_BYTES: usize = 104;
/// Longest body: 4 MiB, what one gRPC message may carry and a manifest may weigh.
pub const BODY_BYTES_MAX: usize = 4 << 20;
/// Frames start at multiples of eight, so that recovery has to try one offset in eight.
pub const ALIGNMENT: usize = 8;

const FLAG_PUBLIC: u16 = 1;
const FLAG_CONTINUED: u16 = 1 << 1;
const FLAGS_KNOWN: u16 = FLAG_PUBLIC | FLAG_CONTINUED;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum FormatError {
    #[error("expected a segment that begins with \"assayjrn\", found other bytes")]
    Magic,
    #[error("expected journal format version 1, found {0}")]
    Version(u32),
    #[error("expected {expected} bytes, found {found}")]
    Short { expected: usize, found: usize },
    #[error("expected checksum {expected:08x}, found {found:08x}")]
    Checksum { expected: u32, found: u32 },
    #[error("expected a body of at most 4194304 bytes, found a length of {0}")]
    Length(u32),
    #[error("expected reserved bytes, flags and padding to be zero, found {0:#x}")]
    Reserved(u64),
    #[error("expected a time within the years 0000 to 9999, found {0} seconds since 1970")]
    Time(i64),
}

/// The first bytes of a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Random, the same in all segments of one journal.
    pub journal: [u8; 16],
    /// The position of the segment's first record.
    pub first: u64,
    /// The chain's value before that record.
    pub chain: Digest,
}

impl SegmentHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&(SEGMENT_HEADER_BYTES as u32).to_le_bytes());
        out[16..32].copy_from_slice(&self.journal);
        out[32..40].copy_from_slice(&self.first.to_le_bytes());
        out[40..72].copy_from_slice(self.chain.raw());
        let sum = crc32c::crc32c(&out[..92]);
        out[92..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Reads a header; the magic and the version come first, so that a file of another program or
    /// of a later version is called that and not "damaged".
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let header: &[u8; SEGMENT_HEADER_BYTES] = bytes
            .first_chunk()
            .ok_or(FormatError::Short { expected: SEGMENT_HEADER_BYTES, found: bytes.len() })?;
        if &take::<8>(header, 0) != MAGIC {
            return Err(FormatError::Magic);
        }
        let version = u32::from_le_bytes(take(header, 8));
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        let (expected, found) =
            (crc32c::crc32c(&header[..92]), u32::from_le_bytes(take(header, 92)));
        if expected != found {
            return Err(FormatError::Checksum { expected, found });
        }
        let reserved = take::<20>(header, 72).iter().fold(0u64, |sum, b| sum | u64::from(*b));
        let length = u32::from_le_bytes(take(header, 12));
        if reserved != 0 || length as usize != SEGMENT_HEADER_BYTES {
            return Err(FormatError::Reserved(reserved | u64::from(length)));
        }
        Ok(Self {
            journal: take(header, 16),
            first: u64::from_le_bytes(take(header, 32)),
            chain: Digest::from_raw(take(header, 40)),
        })
    }
}

/// The chain's value before the first record of a journal.
pub fn chain_start(journal: &[u8; 16]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(b"assay journal v1\0");
    hash.update(journal);
    Digest::from_raw(hash.finalize().into())
}

/// Bytes that a frame with a body of this length takes, padding included.
pub const fn frame_bytes(body: usize) -> usize {
    (FRAME_HEADER_BYTES + body).next_multiple_of(ALIGNMENT)
}

/// Where a frame stands: what the writer knows beside the record itself.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The record's number.
    pub position: u64,
    /// How many records were known to be durable when the frame was written. Recovery tells by it
    /// whether a hole lies in a batch that nobody was told about, or in one that was acknowledged.
    pub durable: u64,
    /// The wall clock.
    pub time: Timestamp,
    /// Whether the next record belongs to the same group.
    pub continued: bool,
    /// The chain's value before.
    pub previous: Digest,
}

/// Appends one frame to `out`, and gives the chain's value after it.
pub fn encode(record: &NewRecord, place: &Place, out: &mut Vec<u8>) -> Digest {
    debug_assert!(record.body.len() <= BODY_BYTES_MAX);
    let start = out.len();
    let mut header = [0u8; FRAME_HEADER_BYTES];
    let flags =
        u16::from(record.public) * FLAG_PUBLIC + u16::from(place.continued) * FLAG_CONTINUED;
    header[..4].copy_from_slice(&(record.body.len() as u32).to_le_bytes());
    header[8..16].copy_from_slice(&place.position.to_le_bytes());
    header[16..24].copy_from_slice(&place.durable.to_le_bytes());
    header[24..32].copy_from_slice(&place.time.unix().to_le_bytes());
    header[32..34].copy_from_slice(&record.kind.0.to_le_bytes());
    header[34..36].copy_from_slice(&flags.to_le_bytes());
    header[40..72].copy_from_slice(record.about.raw());
    header[72..104].copy_from_slice(place.previous.raw());
    let sum = checksum(&header, &record.body);
    header[4..8].copy_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(&record.body);
    out.resize(start + frame_bytes(record.body.len()), 0);
    chain(&header, &record.body)
}

/// One frame as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The record, with the chain's value after it.
    pub stored: Stored,
    /// The chain's value before it, as the frame says.
    pub previous: Digest,
    /// How many records were known to be durable when it was written.
    pub durable: u64,
    /// Bytes it takes, padding included.
    pub bytes: usize,
}

/// The length of the body that a frame header claims, within the limit.
pub fn body_length(header: &[u8; FRAME_HEADER_BYTES]) -> Result<usize, FormatError> {
    let length = u32::from_le_bytes(take(header, 0));
    if length as usize > BODY_BYTES_MAX {
        return Err(FormatError::Length(length));
    }
    Ok(length as usize)
}

/// The position and the durable count that a frame header claims; nothing is checked.
pub fn claims(header: &[u8; FRAME_HEADER_BYTES]) -> (u64, u64) {
    (u64::from_le_bytes(take(header, 8)), u64::from_le_bytes(take(header, 16)))
}

/// Reads the frame at the beginning of `bytes`; what follows it is ignored.
pub fn decode(bytes: &[u8]) -> Result<Frame, FormatError> {
    let short = |expected| FormatError::Short { expected, found: bytes.len() };
    let header: &[u8; FRAME_HEADER_BYTES] = bytes.first_chunk().ok_or(short(FRAME_HEADER_BYTES))?;
    let length = body_length(header)?;
    let total = frame_bytes(length);
    let whole = bytes.get(..total).ok_or(short(total))?;
    let (body, padding) = whole[FRAME_HEADER_BYTES..].split_at(length);
    let (expected, found) = (checksum(header, body), u32::from_le_bytes(take(header, 4)));
    if expected != found {
        return Err(FormatError::Checksum { expected, found });
    }
    let flags = u16::from_le_bytes(take(header, 34));
    let reserved = u64::from(flags & !FLAGS_KNOWN)
        | u64::from(u32::from_le_bytes(take(header, 36))) << 16
        | padding.iter().fold(0u64, |sum, b| sum | u64::from(*b)) << 48;
    if reserved != 0 {
        return Err(FormatError::Reserved(reserved));
    }
    let seconds = i64::from_le_bytes(take(header, 24));
    let (position, durable) = claims(header);
    Ok(Frame {
        stored: Stored {
            position: JournalPosition(position),
            time: Timestamp::from_unix(seconds).map_err(|_| FormatError::Time(seconds))?,
            kind: Kind(u16::from_le_bytes(take(header, 32))),
            public: flags & FLAG_PUBLIC != 0,
            continued: flags & FLAG_CONTINUED != 0,
            about: Digest::from_raw(take(header, 40)),
            body: body.to_vec(),
            chain: chain(header, body),
        },
        previous: Digest::from_raw(take(header, 72)),
        durable,
        bytes: total,
    })
}

fn checksum(header: &[u8; FRAME_HEADER_BYTES], body: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&header[..4]);
    crc32c::crc32c_append(crc32c::crc32c_append(sum, &header[8..]), body)
}

/// The checksum and the durable count are left out: they say how the frame was written, not what.
fn chain(header: &[u8; FRAME_HEADER_BYTES], body: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(&header[..4]);
    hash.update(&header[8..16]);
    hash.update(&header[24..]);
    hash.update(body);
    Digest::from_raw(hash.finalize().into())
}

/// `N` bytes from `at`; only called with offsets inside a header of fixed size.
fn take<const N: usize>(header: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(previous: Digest) -> Place {
        let time = Timestamp::from_unix(1_700_000_000).unwrap();
        Place { position: 7, durable: 3, time, continued: true, previous }
    }

    #[test]
    fn a_header_reads_as_written_and_names_what_is_wrong() {
        let header = SegmentHeader { journal: [9; 16], first: 42, chain: Digest::of(b"x") };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::decode(&bytes).unwrap(), header);
        for at in 0..bytes.len() {
            let mut bad = bytes;
            bad[at] ^= 1;
            let error = SegmentHeader::decode(&bad).unwrap_err();
            match at {
                0..8 => assert_eq!(error, FormatError::Magic),
                8..12 => assert!(matches!(error, FormatError::Version(_))),
                _ => assert!(matches!(error, FormatError::Checksum { .. }), "{at}: {error}"),
            }
        }
        let short = SegmentHeader::decode(&bytes[..95]).unwrap_err();
        assert_eq!(short, FormatError::Short { expected: 96, found: 95 });
    }

    #[test]
    fn reserved_bytes_of_a_header_are_zeros_under_a_right_checksum_too() {
        let header = SegmentHeader { journal: [9; 16], first: 42, chain: Digest::of(b"x") };
        let with = |changes: &[(usize, u8)]| {
            let mut bytes = header.encode();
            for (at, byte) in changes {
                bytes[*at] = *byte;
            }
            let sum = crc32c::crc32c(&bytes[..92]);
            bytes[92..].copy_from_slice(&sum.to_le_bytes());
            SegmentHeader::decode(&bytes)
        };
        assert_eq!(with(&[]).unwrap(), header);
        for at in 72..92 {
            assert_eq!(with(&[(at, 0x21)]).unwrap_err(), FormatError::Reserved(0x61));
        }
        // Two that cancel each other out are not none.
        assert_eq!(with(&[(72, 5), (91, 5)]).unwrap_err(), FormatError::Reserved(0x65));
        assert_eq!(with(&[(12, 97)]).unwrap_err(), FormatError::Reserved(97));
    }

    #[test]
    fn every_bit_of_a_frame_counts() {
        let record = NewRecord::new(Kind::OBSERVATION, Digest::of(b"job"), b"envelope".to_vec());
        let mut bytes = Vec::new();
        let chain = encode(&record, &place(Digest::of(b"before")), &mut bytes);
        let frame = decode(&bytes).unwrap();
        assert_eq!((frame.stored.chain, frame.bytes), (chain, bytes.len()));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn reserved_bits_and_padding_are_refused_though_the_checksum_fits() {
        let record = NewRecord::new(Kind::OBSERVATION, Digest::of(b"job"), b"ten bytes!".to_vec());
        let mut good = Vec::new();
        encode(&record, &place(Digest::of(b"before")), &mut good);
        let end = FRAME_HEADER_BYTES + record.body.len();
        let changed = |change: &dyn Fn(&mut [u8])| {
            let mut bytes = good.clone();
            change(&mut bytes);
            let sum = checksum(bytes.first_chunk().unwrap(), &bytes[FRAME_HEADER_BYTES..end]);
            bytes[4..8].copy_from_slice(&sum.to_le_bytes());
            decode(&bytes)
        };
        for bit in (34 * 8..40 * 8).chain(end * 8..good.len() * 8) {
            let found = changed(&|bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            let known = bit == 34 * 8 || bit == 34 * 8 + 1;
            let reserved = matches!(found, Err(FormatError::Reserved(_)));
            assert!(if known { found.is_ok() } else { reserved }, "bit {bit}: {found:?}");
        }
        // Six equal bytes do not take each other away.
        assert_eq!(good.len() - end, 6);
        let found = changed(&|bytes| bytes[end..].fill(0x81));
        assert!(matches!(found, Err(FormatError::Reserved(_))), "{found:?}");
    }

    #[test]
    fn a_body_may_have_four_mebibytes_and_no_byte_more() {
        let claims = |length: u32| {
            let mut header = [0; FRAME_HEADER_BYTES];
            header[..4].copy_from_slice(&length.to_le_bytes());
            body_length(&header)
        };
        assert_eq!(claims(4_194_304), Ok(4_194_304));
        assert_eq!(claims(4_194_305), Err(FormatError::Length(4_194_305)));
    }

    #[test]
    fn a_later_kind_is_kept() {
        let record =
            NewRecord { public: true, ..NewRecord::new(Kind(700), Digest::of(b""), *b"x") };
        let mut bytes = Vec::new();
        encode(&record, &place(Digest::of(b"before")), &mut bytes);
        let stored = decode(&bytes).unwrap().stored;
        assert_eq!((stored.kind, stored.public), (Kind(700), true));
    }

    proptest! {
        #[test]
        fn frames_round_trip(
            body in proptest::collection::vec(any::<u8>(), 0..300), kind: u16, public: bool,
        ) {
            let record =
                NewRecord { kind: Kind(kind), public, about: Digest::of(&body), body: body.clone() };
            let mut bytes = Vec::new();
            encode(&record, &place(Digest::of(b"p")), &mut bytes);
            prop_assert_eq!(bytes.len() % ALIGNMENT, 0);
            let stored = decode(&bytes).unwrap().stored;
            prop_assert_eq!((stored.kind, stored.public, stored.body), (Kind(kind), public, body));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
            let _ = SegmentHeader::decode(&bytes);
        }
    }
}
