//! The journal's bytes: frames, segment headers, and recovery of a damaged file.

use attest::{Digest, time::Timestamp};
use coordinator::journal::{
    Disk, DiskFile, Group, Kind, Log, MemoryDisk, NewRecord, Options, Stored,
    frame::{self, Place, SEGMENT_HEADER_BYTES, SegmentHeader},
};

const SEGMENT: &str = "00000000000000000000.journal";

fn raw_bytes(bytes: &[u8]) {
    if let Ok(header) = SegmentHeader::decode(bytes) {
        assert_eq!(header.encode(), bytes[..SEGMENT_HEADER_BYTES]);
    }
    let Ok(found) = frame::decode(bytes) else { return };
    let record = NewRecord {
        kind: found.stored.kind,
        public: found.stored.public,
        about: found.stored.about,
        body: found.stored.body.clone(),
    };
    let place = Place {
        position: found.stored.position.0,
        durable: found.durable,
        time: found.stored.time,
        continued: found.stored.continued,
        previous: found.previous,
    };
    let mut again = Vec::new();
    let chain = frame::encode(&record, &place, &mut again);
    assert_eq!((again.as_slice(), chain), (&bytes[..found.bytes], found.stored.chain));
}

fn options() -> Options {
    Options { ahead_bytes: 4096, ..Options::new(*b"sixteen bytes id") }
}

/// One record that was written, and what was acknowledged before it.
struct Written {
    stored: Stored,
    group: usize,
    durable: usize,
}

/// A journal of these bodies.
fn write(disk: &MemoryDisk, bodies: &[u8], sync_every: usize) -> Vec<Written> {
    let (mut log, _) = Log::open(disk.clone(), options()).expect("an empty directory");
    let (mut written, mut durable) = (Vec::new(), 0);
    for (group, body) in bodies.split(|b| *b == 0xff).take(64).enumerate() {
        let pieces = 1 + body.first().map_or(0, |b| usize::from(b % 3));
        let record = || NewRecord::new(Kind(group as u16), Digest::of(body), body);
        let records = std::iter::repeat_with(record).take(pieces).collect();
        let time = Timestamp::from_unix(1_700_000_000).expect("a time");
        let done = log.write(vec![Group { records, time }]);
        let stored = done.groups.into_iter().flatten();
        written.extend(stored.map(|stored| Written { stored, group, durable }));
        if group % sync_every == 0 && log.sync().is_ok() {
            durable = written.len();
        }
    }
    written
}

/// Raw bytes as a frame; then a good journal of bodies, damaged at a place that the bytes say: it
/// opens with a part of what was written and in its order, or it does not open. What a later
/// record proves as acknowledged is never cut.
pub fn journal(bytes: &[u8]) {
    raw_bytes(bytes);
    let Some((head, bodies)) = bytes.split_at_checked(8) else { return };
    let disk = MemoryDisk::default();
    let written = write(&disk, bodies, 1 + usize::from(head[0] % 5));
    let file = disk.open(SEGMENT).expect("the first segment");
    let size = file.size().expect("memory") as usize;
    let number = |at: usize| usize::from(u16::from_le_bytes([head[at], head[at + 1]]));
    let (mut changed, mut cut) = (false, false);
    if head[1] & 1 == 1 {
        let at = (number(2) % size) as u64;
        let mut old = [0];
        file.read_at(&mut old, at).expect("memory");
        changed = old[0] != head[4];
        file.write_at(&head[4..5], at).expect("memory");
    }
    if head[1] & 2 == 2 {
        file.set_size((number(5) % size) as u64).expect("memory");
        cut = true;
    }
    let (log, recovery) = match Log::open(disk, options()) {
        Ok(opened) => opened,
        Err(error) => {
            assert!(changed || cut, "an unharmed journal: {error}");
            return;
        }
    };
    let end = recovery.end.0 as usize;
    assert!(end <= written.len(), "records that nobody wrote");
    assert!(changed || cut || end == written.len(), "an unharmed journal lost records");
    if let Some(lost) = written.get(end).filter(|_| !cut) {
        let proof = written.iter().filter(|later| later.group > lost.group);
        let durable = proof.map(|later| later.durable).max().unwrap_or(0);
        assert!(durable <= end, "cut at {end}, but {durable} were acknowledged");
    }
    for expected in &written[..end] {
        let found = log.reader().read(expected.stored.position).expect("a good record");
        assert_eq!(found.as_ref(), Some(&expected.stored));
    }
}
