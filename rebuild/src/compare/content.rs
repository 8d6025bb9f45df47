//! What two contents of one file tell about why they differ.
//!
//! Formats that are looked into: ELF (System V ABI), `.pyc` (PEP 552), ar, ZIP (APPNOTE 4.3),
//! gzip (RFC 1952), SQLite, JSON, text. Only headers; nothing is unpacked or run.
//!
//! Invariant: `certain` is said only of complete contents, and only when the named reason accounts
//! for every differing byte. Every loop is bounded by the captured bytes.

use super::{
    capture::Captured,
    cause::{Cause, CauseCode},
    event::Bytes,
    json,
};

/// Where two contents first differ.
pub(super) fn first_difference(a: &Captured, b: &Captured) -> Bytes {
    let compared = a.bytes.len().min(b.bytes.len());
    let first = a.bytes.iter().zip(&b.bytes).position(|(x, y)| x != y).map(|i| i as u64);
    // One ends where the other goes on.
    let ends = (a.is_complete() || b.is_complete()) && a.size != b.size;
    let end = ends.then_some(a.size.min(b.size)).filter(|end| *end == compared as u64);
    Bytes { a_size: a.size, b_size: b.size, first: first.or(end), compared: compared as u64 }
}

/// Why they may differ.
pub(super) fn causes(path: &str, a: &Captured, b: &Captured) -> Vec<Cause> {
    let (x, y) = (a.bytes.as_slice(), b.bytes.as_slice());
    if !a.is_complete() || !b.is_complete() {
        return by_magic(x, y).into_iter().collect();
    }
    let mut found = Vec::new();
    found.extend(binary_format(path, x, y));
    let texts = std::str::from_utf8(x).ok().zip(std::str::from_utf8(y).ok());
    if let Some((x, y)) = texts.filter(|_| !a.bytes.contains(&0) && !b.bytes.contains(&0)) {
        found.extend(text(x, y));
    }
    if found.is_empty() {
        found.extend(by_magic(x, y));
    }
    if x.len() != y.len() && (x.starts_with(y) || y.starts_with(x)) {
        let more = x.len().abs_diff(y.len());
        let detail = format!("{more} bytes more at the end of one side");
        found.push(Cause::certain(CauseCode::ContentAppended, detail));
    }
    found.extend(few_bytes(x, y));
    found
}

/// The span in which two contents of the same size differ, and in how many bytes.
fn span(a: &[u8], b: &[u8]) -> Option<(usize, usize, usize)> {
    if a.len() != b.len() {
        return None;
    }
    let differs = |(x, y): (&u8, &u8)| x != y;
    let first = a.iter().zip(b).position(differs)?;
    let last = a.iter().zip(b).rposition(differs)?;
    let count = a.iter().zip(b).filter(|(x, y)| x != y).count();
    Some((first, last, count))
}

/// The longest run of differing bytes that an identifier explains: a UUID as text.
const FEW_BYTES: usize = 36;

fn few_bytes(a: &[u8], b: &[u8]) -> Option<Cause> {
    let (first, last, count) = span(a, b)?;
    if last - first >= FEW_BYTES {
        return None;
    }
    let hexadecimal = |bytes: &[u8]| {
        // An identifier begins before the first byte that happens to differ.
        let from = first.saturating_sub(FEW_BYTES);
        let window = bytes.get(from..(last + FEW_BYTES).min(bytes.len())).unwrap_or_default();
        let at = first - from;
        let digit = |b: &u8| b.is_ascii_hexdigit() || *b == b'-';
        let before = window.iter().take(at).rev().take_while(|b| digit(b)).count();
        let after = window.iter().skip(at).take_while(|b| digit(b)).count();
        after > last - first && before + after >= 16
    };
    if hexadecimal(a) && hexadecimal(b) {
        let detail = format!("{count} characters of an identifier at byte {first}");
        return Some(Cause::possible(CauseCode::ContentRandomId, detail));
    }
    let detail = format!("{count} differing bytes from byte {first} to byte {last}");
    Some(Cause::certain(CauseCode::ContentFewBytes, detail))
}

fn text(a: &str, b: &str) -> Option<Cause> {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    if sorted(a) == sorted(b) {
        return Some(Cause::certain(CauseCode::OrderLines, "the same lines in another order"));
    }
    if let (Ok(x), Ok(y)) = (json::parse(a.as_bytes()), json::parse(b.as_bytes()))
        && x == y
    {
        return Some(Cause::certain(CauseCode::OrderJson, "the same JSON, written otherwise"));
    }
    if mask_dates(a) == mask_dates(b) {
        return Some(Cause::certain(CauseCode::TimeText, "equal but for dates and times"));
    }
    None
}

/// The text with the digits of dates and times made equal: a line's digits are masked where the
/// line has a year or a count of seconds since 1970 of this century's length.
fn mask_dates(text: &str) -> String {
    text.lines()
        .map(|line| {
            let runs: Vec<&str> =
                line.split(|c: char| !c.is_ascii_digit()).filter(|r| !r.is_empty()).collect();
            let year = |r: &&str| r.len() == 4 && (r.starts_with("19") || r.starts_with("20"));
            let seconds = |r: &&str| r.len() == 10 && r.starts_with('1');
            let compact = |r: &&str| matches!(r.len(), 8 | 14) && r.starts_with("20");
            if runs.iter().any(|r| year(r) || seconds(r) || compact(r)) {
                line.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
            } else {
                line.to_owned()
            }
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn binary_format(path: &str, a: &[u8], b: &[u8]) -> Option<Cause> {
    let both = |magic: &[u8]| a.starts_with(magic) && b.starts_with(magic);
    if both(b"\x7fELF") {
        return elf(a, b);
    }
    if both(b"!<arch>\n") && masked(a, ar_times) == masked(b, ar_times) {
        return Some(Cause::certain(CauseCode::ContentArTime, "equal but for times of members"));
    }
    if both(b"PK\x03\x04") && masked(a, zip_times) == masked(b, zip_times) {
        return Some(Cause::certain(CauseCode::ContentZipTime, "equal but for times of members"));
    }
    let (first, last, _) = span(a, b)?;
    if both(&[0x1f, 0x8b]) && first >= 4 && last < 10 {
        let detail = "equal but for the header's time, XFL or OS";
        return Some(Cause::certain(CauseCode::ContentGzipHeader, detail));
    }
    if path.ends_with(".pyc") && last < 16 {
        let detail = "equal but for the header: time or hash of the source";
        return Some(Cause::certain(CauseCode::ContentPycHeader, detail));
    }
    None
}

fn by_magic(a: &[u8], b: &[u8]) -> Option<Cause> {
    let both = |magic: &[u8]| a.starts_with(magic) && b.starts_with(magic);
    if both(b"SQLite format 3\0") {
        let detail = "pages of a database depend on the order of writes";
        return Some(Cause::likely(CauseCode::ContentSqlite, detail));
    }
    None
}

/// `e_ident` class and data, `e_machine` (System V ABI, ELF header); the note of the build ID.
fn elf(a: &[u8], b: &[u8]) -> Option<Cause> {
    let machine = |e: &[u8]| (e.get(4..6).map(<[u8]>::to_vec), e.get(18..20).map(<[u8]>::to_vec));
    if machine(a) != machine(b) {
        let detail = "for another machine";
        return Some(Cause::certain(CauseCode::ContentElfMachine, detail));
    }
    if let (Some((first, last, _)), Some(x), Some(y)) = (span(a, b), build_id(a), build_id(b))
        && x == y
        && first >= x.0
        && last < x.1
    {
        return Some(Cause::certain(CauseCode::ContentBuildId, "equal but for the build ID"));
    }
    Some(Cause::certain(CauseCode::ContentElf, "code or data differ"))
}

/// Where the description of a 20-byte `NT_GNU_BUILD_ID` note lies.
fn build_id(elf: &[u8]) -> Option<(usize, usize)> {
    const NOTE: &[u8] = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
    let at = elf.windows(NOTE.len()).position(|w| w == NOTE)? + NOTE.len();
    (elf.len() >= at + 20).then_some((at, at + 20))
}

fn masked(bytes: &[u8], places: fn(&[u8]) -> Vec<(usize, usize)>) -> Vec<u8> {
    let mut copy = bytes.to_vec();
    for (from, to) in places(bytes) {
        if let Some(slice) = copy.get_mut(from..to) {
            slice.fill(0);
        }
    }
    copy
}

/// ar: after the magic, headers of 60 bytes with a decimal time at 16..28 and a size at 48..58.
fn ar_times(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    let mut at = 8usize;
    while let Some(header) = bytes.get(at..at.saturating_add(60)) {
        places.push((at + 16, at + 28));
        let size = header.get(48..58).and_then(|s| std::str::from_utf8(s).ok());
        let Some(size) = size.and_then(|s| s.trim().parse::<usize>().ok()) else { break };
        // Members begin at even offsets.
        at = at.saturating_add(60).saturating_add(size).saturating_add(size % 2);
    }
    places
}

/// ZIP: the DOS time of local headers lies at 10..14, that of central ones at 12..16.
fn zip_times(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut places = Vec::new();
    for (at, window) in bytes.windows(4).enumerate() {
        match window {
            b"PK\x03\x04" => places.push((at + 10, at + 14)),
            b"PK\x01\x02" => places.push((at + 12, at + 16)),
            _ => {}
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Captured {
        Captured { bytes: bytes.to_vec(), size: bytes.len() as u64 }
    }

    fn codes(path: &str, a: &[u8], b: &[u8]) -> Vec<CauseCode> {
        causes(path, &whole(a), &whole(b)).into_iter().map(|c| c.code).collect()
    }

    #[test]
    fn reasons() {
        use CauseCode as C;
        assert_eq!(codes("x", b"a\nb\n", b"b\na\n")[0], C::OrderLines);
        assert_eq!(codes("x", br#"{"a":1,"b":2}"#, br#"{"b":2,"a":1}"#)[0], C::OrderJson);
        assert_eq!(codes("x", b"at 2026-01-02 03:04", b"at 2025-12-31 23:59")[0], C::TimeText);
        assert_eq!(codes("x", b"abc", b"abcdef"), [C::ContentAppended]);
        assert_eq!(codes("x", b"\0abc", b"\0abd"), [C::ContentFewBytes]);
        let id = |c: u8| [b"id=", [c; 32].as_slice(), b"\n"].concat();
        assert_eq!(codes("x", &id(b'a'), &id(b'b')), [C::ContentRandomId]);
        let pyc = |t: u8| [b"\xcb\x0d\r\n\0\0\0\0".as_slice(), &[t; 4], &[9; 40]].concat();
        assert_eq!(codes("a/x.pyc", &pyc(1), &pyc(2))[0], C::ContentPycHeader);
        let gz = |t: u8| [b"\x1f\x8b\x08\0".as_slice(), &[t; 4], &[9; 40]].concat();
        assert_eq!(codes("x.gz", &gz(1), &gz(2))[0], C::ContentGzipHeader);
        let ar = |t: &str| format!("!<arch>\n{:<16}{t:<12}{:<20}{:<10}`\nabcd", "m/", "0", 4);
        assert_eq!(codes("x.a", ar("12").as_bytes(), ar("345").as_bytes())[0], C::ContentArTime);
        let elf = |id: u8| {
            let note = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
            [b"\x7fELF".as_slice(), &[1; 60], note, &[id; 20], &[7; 30]].concat()
        };
        assert_eq!(codes("x", &elf(1), &elf(2))[0], C::ContentBuildId);
    }

    #[test]
    fn first_offsets() {
        let first = |a: &[u8], b: &[u8]| first_difference(&whole(a), &whole(b)).first;
        assert_eq!(first(b"abc", b"abd"), Some(2));
        assert_eq!(first(b"abc", b"ab"), Some(2));
        assert_eq!(first(b"abc", b"abc"), None);
        let cut = Captured { bytes: b"ab".to_vec(), size: 9 };
        assert_eq!(first_difference(&cut, &cut).first, None);
    }
}
