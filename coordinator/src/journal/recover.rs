//! Reads one segment's bytes and says where the good part ends and what the rest is.
//!
//! Invariant: pure: bytes in, findings out. A tail is called torn (and may be cut) only if nothing
//! in it was ever acknowledged: every frame says how many records were durable when it was written,
//! so a readable frame behind the hole that counts the hole as durable proves damage. It must never
//! call damage torn, and never cut inside a group.

use super::frame::{
    self, ALIGNMENT, FRAME_HEADER_BYTES, FormatError, Frame, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use super::{error::JournalError, record::Stored};
use attest::Digest;

/// Bytes that may be hashed in search of frames behind a hole: 1 GiB, about 100 ms of CRC32C.
/// Honest tails have one batch (at most 24 MiB); above the limit the answer is "damaged".
const SEARCH_BYTES_MAX: usize = 1 << 30;
/// A position behind a hole may be at most this far ahead: more than fit into any segment.
const SEARCH_POSITIONS_MAX: u64 = u32::MAX as u64 / FRAME_HEADER_BYTES as u64;

/// What a segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// Where each record's frame begins.
    pub offsets: Vec<u32>,
    /// The position after the last complete group.
    pub next: u64,
    /// The chain's value there.
    pub chain: Digest,
    /// The byte after the last complete group.
    pub end: usize,
    /// The largest durable count that a good frame names.
    pub durable: u64,
    /// What follows.
    pub tail: Tail,
}

/// What follows the last complete group of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// Nothing, or zeros written ahead.
    Clean,
    /// An append that was never acknowledged.
    Torn {
        /// Bytes up to the end of the file that are not the journal's.
        bytes: usize,
        /// Readable records among them.
        records: usize,
    },
    /// Something that was acknowledged cannot be read.
    Damaged {
        /// The position that should stand there.
        position: u64,
        /// The byte.
        offset: usize,
        /// What was expected and found.
        why: String,
    },
}

/// A torn tail that was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub segment: String,
    /// The byte at which it was cut.
    pub offset: u64,
    /// How many bytes were cut.
    pub bytes: u64,
    /// How many of them were readable records behind a hole, or of an incomplete group.
    pub records: usize,
}

/// A good frame counted more records as durable than can be read.
pub(super) fn unreadable_tail(scan: &Scan) -> JournalError {
    let promise = "a later record of the journal itself".into();
    JournalError::BelowFloor { end: scan.next, floor: scan.durable, promise }
}

/// Scans a whole segment file and shows each record of a complete group to `see`.
///
/// `last` says whether the segment is the journal's last: only there can a tail be torn.
pub fn scan(
    bytes: &[u8],
    header: &SegmentHeader,
    last: bool,
    mut see: impl FnMut(&Stored),
) -> Scan {
    let mut scan = Scan {
        offsets: Vec::new(),
        next: header.first,
        chain: header.chain,
        end: SEGMENT_HEADER_BYTES.min(bytes.len()),
        durable: 0,
        tail: Tail::Clean,
    };
    // Frames of the group that is being read: they count only when its last one is there.
    let mut group: Vec<(u32, Frame)> = Vec::new();
    let mut at = scan.end;
    let stop = loop {
        let position = scan.next + group.len() as u64;
        let previous = group.last().map_or(scan.chain, |(_, frame)| frame.stored.chain);
        match frame_at(bytes, at, position, &previous) {
            Ok(found) => {
                let offset = u32::try_from(at).unwrap_or(u32::MAX);
                at += found.bytes;
                let complete = !found.stored.continued;
                group.push((offset, found));
                if complete {
                    close_group(&mut scan, &mut group, at, &mut see);
                }
            }
            Err(why) => break Stop { at, position, why },
        }
    };
    let rest_empty = bytes.get(stop.at..).is_none_or(|rest| rest.iter().all(|b| *b == 0));
    if rest_empty && group.is_empty() {
        return scan;
    }
    let damaged = |why: String| Tail::Damaged { position: stop.position, offset: stop.at, why };
    scan.tail = if !last {
        damaged(stop.why)
    } else {
        match frames_behind(bytes, stop.at, stop.position) {
            None => damaged(format!("{}; too much follows to tell a torn tail", stop.why)),
            Some(behind) if behind.durable > scan.next => damaged(stop.why),
            Some(behind) => {
                Tail::Torn { bytes: bytes.len() - scan.end, records: behind.records + group.len() }
            }
        }
    };
    scan
}

struct Stop {
    at: usize,
    position: u64,
    why: String,
}

fn close_group(
    scan: &mut Scan,
    group: &mut Vec<(u32, Frame)>,
    end: usize,
    see: &mut impl FnMut(&Stored),
) {
    for (offset, frame) in group.drain(..) {
        scan.offsets.push(offset);
        scan.next += 1;
        scan.chain = frame.stored.chain;
        scan.durable = scan.durable.max(frame.durable);
        see(&frame.stored);
    }
    scan.end = end;
}

/// The frame at `at`, which must continue the chain.
pub(super) fn frame_at(
    bytes: &[u8],
    at: usize,
    position: u64,
    previous: &Digest,
) -> Result<Frame, String> {
    let rest = bytes.get(at..).unwrap_or_default();
    let found = frame::decode(rest).map_err(|error: FormatError| error.to_string())?;
    if found.stored.position.0 != position {
        return Err(format!("expected record {position}, found {}", found.stored.position));
    }
    if found.previous != *previous {
        return Err(format!("expected the chain {previous}, found {}", found.previous));
    }
    Ok(found)
}

/// How many records behind a hole can be read by themselves.
pub(super) fn readable_behind(bytes: &[u8], hole: usize, position: u64) -> u64 {
    frames_behind(bytes, hole, position).map_or(0, |behind| behind.records as u64)
}

struct Behind {
    records: usize,
    durable: u64,
}

/// Looks for readable frames behind a hole. None when the search would cost too much.
fn frames_behind(bytes: &[u8], hole: usize, position: u64) -> Option<Behind> {
    let mut behind = Behind { records: 0, durable: 0 };
    let mut hashed = 0;
    let mut at = (hole + 1).next_multiple_of(ALIGNMENT);
    while let Some(rest) = bytes.get(at..).filter(|rest| rest.len() >= FRAME_HEADER_BYTES) {
        let Some(header) = rest.first_chunk() else { break };
        let (found, _) = frame::claims(header);
        let near = found > position && found - position <= SEARCH_POSITIONS_MAX;
        if near && let Ok(length) = frame::body_length(header) {
            hashed += length;
            if hashed > SEARCH_BYTES_MAX {
                return None;
            }
            if let Ok(frame) = frame::decode(rest) {
                behind.records += 1;
                behind.durable = behind.durable.max(frame.durable);
                at += frame.bytes;
                continue;
            }
        }
        at += ALIGNMENT;
    }
    Some(behind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{
        frame::{Place, encode},
        record::{Kind, NewRecord},
    };
    use attest::time::Timestamp;

    /// Groups of records, each synced before the next was written.
    fn segment(groups: &[usize]) -> (Vec<u8>, SegmentHeader, Vec<usize>) {
        let header = SegmentHeader { journal: [1; 16], first: 10, chain: Digest::of(b"start") };
        let mut bytes = header.encode().to_vec();
        let (mut chain, mut position, mut ends) = (header.chain, header.first, Vec::new());
        for records in groups {
            let durable = position;
            for i in 0..*records {
                let body = format!("record {position}").into_bytes();
                let record = NewRecord::new(Kind::TAG_SEEN, Digest::of(b"r"), body);
                let place = Place {
                    position,
                    durable,
                    time: Timestamp::default(),
                    continued: i + 1 < *records,
                    previous: chain,
                };
                chain = encode(&record, &place, &mut bytes);
                position += 1;
            }
            ends.push(bytes.len());
        }
        (bytes, header, ends)
    }

    #[test]
    fn every_cut_of_the_last_group_is_a_torn_tail() {
        let (bytes, header, ends) = segment(&[1, 2, 3]);
        for cut in ends[1]..ends[2] {
            let found = scan(&bytes[..cut], &header, true, |_| {});
            assert_eq!((found.next, found.end), (13, ends[1]), "cut at {cut}");
            let clean = cut == ends[1];
            assert_eq!(found.tail == Tail::Clean, clean, "cut at {cut}: {:?}", found.tail);
            assert!(!matches!(found.tail, Tail::Damaged { .. }), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_before_the_last_group_is_damage_and_in_it_is_torn() {
        let (bytes, header, ends) = segment(&[1, 2, 3, 1]);
        for at in SEGMENT_HEADER_BYTES..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            let found = scan(&bad, &header, true, |_| {});
            if at < ends[2] {
                assert!(matches!(found.tail, Tail::Damaged { .. }), "byte {at}: {:?}", found.tail);
            } else {
                assert!(matches!(found.tail, Tail::Torn { .. }), "byte {at}: {:?}", found.tail);
            }
        }
    }

    #[test]
    fn a_lost_page_in_a_batch_that_nobody_was_told_about_is_torn() {
        // Three groups written in one batch: all name the same durable count.
        let (mut bytes, header, _) = segment(&[2]);
        let (mut chain, synced, mut starts) = (Digest::of(b""), 12, Vec::new());
        scan(&bytes, &header, true, |stored| chain = stored.chain);
        for position in 12..15u64 {
            starts.push(bytes.len());
            let record = NewRecord::new(Kind::TAG_SEEN, Digest::of(b"r"), vec![7; 50]);
            let (time, continued) = (Timestamp::default(), false);
            let place = Place { position, durable: synced, time, continued, previous: chain };
            chain = encode(&record, &place, &mut bytes);
        }
        bytes[starts[0]..starts[1]].fill(0);
        let found = scan(&bytes, &header, true, |_| {});
        assert_eq!(found.next, 12);
        assert!(matches!(found.tail, Tail::Torn { records: 2, .. }), "{:?}", found.tail);
        // The same hole in a segment that another one follows was synced before.
        let found = scan(&bytes, &header, false, |_| {});
        assert!(matches!(found.tail, Tail::Damaged { position: 12, .. }));
    }

    /// The tail of a journal of one record (position 10) that goes on with a hole and these bytes.
    fn behind_a_hole(behind: &[u8]) -> Tail {
        let (mut bytes, header, _) = segment(&[1]);
        bytes.extend([0xff; ALIGNMENT]);
        bytes.extend(behind);
        let found = scan(&bytes, &header, true, |_| {});
        assert_eq!(found.next, 11);
        found.tail
    }

    #[test]
    fn what_costs_too_much_to_search_is_never_called_torn() {
        // Headers that claim the longest body: 256 of them are the gibibyte that may be hashed.
        let claims = |count: u64| {
            let mut bytes = Vec::new();
            for position in 12..12 + count {
                let mut header = [0; FRAME_HEADER_BYTES];
                header[..4].copy_from_slice(&4_194_304u32.to_le_bytes());
                header[8..16].copy_from_slice(&position.to_le_bytes());
                bytes.extend(header);
            }
            behind_a_hole(&bytes)
        };
        let torn = claims(256);
        assert!(matches!(torn, Tail::Torn { records: 0, .. }), "{torn:?}");
        let Tail::Damaged { position: 11, why, .. } = claims(257) else { panic!("torn") };
        assert!(why.ends_with("too much follows to tell a torn tail"), "{why}");
    }

    #[test]
    fn only_a_frame_that_can_stand_behind_the_hole_proves_anything() {
        let furthest = u64::from(u32::MAX) / 104;
        for (ahead, proves) in [(0, false), (1, true), (furthest, true), (furthest + 1, false)] {
            let mut bytes = Vec::new();
            let record = NewRecord::new(Kind::TAG_SEEN, Digest::of(b"r"), vec![7; 50]);
            // It says that the record in the hole was durable.
            let (time, continued, previous) = (Timestamp::default(), false, Digest::of(b"p"));
            let place = Place { position: 11 + ahead, durable: 12, time, continued, previous };
            encode(&record, &place, &mut bytes);
            let tail = behind_a_hole(&bytes);
            let damaged = matches!(tail, Tail::Damaged { position: 11, .. });
            assert_eq!(damaged, proves, "{ahead} ahead: {tail:?}");
        }
    }

    #[test]
    fn zeros_written_ahead_are_clean() {
        let (mut bytes, header, ends) = segment(&[1, 1]);
        bytes.resize(bytes.len() + 5000, 0);
        let mut seen = Vec::new();
        let found = scan(&bytes, &header, true, |stored| seen.push(stored.position.0));
        assert_eq!((found.tail, found.end, seen), (Tail::Clean, ends[1], vec![10, 11]));
    }
}
