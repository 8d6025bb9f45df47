//! Gzip members (RFC 1952) as a layer stream: header field by field, body by `flate2`, trailer
//! checked here.
//!
//! Invariant: every byte of the blob belongs to a header, a body, a trailer or to what was noted as
//! lying outside; CRC32 and ISIZE are computed here over what was unpacked. Several members are
//! unpacked one after the other, as Go's and zlib's readers do, and noted.

use super::{
    compression::GzipHeader,
    error::CompareError,
    tap::Tap,
    unclean::{Unclean, UncleanCode, note},
};
use flate2::{Crc, Decompress, FlushDecompress, Status};

const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0b1110_0000;

/// How much of a name or comment is quoted.
const QUOTED_BYTES: usize = 80;

enum State {
    Header,
    Body,
    Ended,
}

/// The members of one blob.
pub(super) struct GzipStream {
    state: State,
    inflate: Decompress,
    crc: Crc,
    members: u64,
    size: u32,
    header: Option<GzipHeader>,
}

impl Default for GzipStream {
    fn default() -> Self {
        Self {
            state: State::Header,
            inflate: Decompress::new(false),
            crc: Crc::new(),
            members: 0,
            size: 0,
            header: None,
        }
    }
}

impl GzipStream {
    /// The first member's header, once it was read.
    pub(super) fn header(&self) -> Option<GzipHeader> {
        self.header
    }

    /// Fills part of `out`; 0 at the end of all members or where the stream breaks.
    pub(super) fn pull(
        &mut self,
        tap: &mut Tap<'_>,
        out: &mut [u8],
        unclean: &mut Vec<Unclean>,
    ) -> Result<usize, CompareError> {
        loop {
            match self.state {
                State::Ended => return Ok(0),
                State::Header => {
                    self.state =
                        if self.read_header(tap, unclean)? { State::Body } else { State::Ended };
                }
                State::Body => {
                    let count = self.inflate_some(tap, out, unclean)?;
                    if count > 0 {
                        return Ok(count);
                    }
                }
            }
        }
    }

    /// Unpacks some bytes. 0 also where a member ended: the state says what comes next.
    fn inflate_some(
        &mut self,
        tap: &mut Tap<'_>,
        out: &mut [u8],
        unclean: &mut Vec<Unclean>,
    ) -> Result<usize, CompareError> {
        loop {
            let (read_before, written_before) = (self.inflate.total_in(), self.inflate.total_out());
            let input = tap.peek(1)?;
            let at_end = input.is_empty();
            let result = self.inflate.decompress(input, out, FlushDecompress::None);
            let read = (self.inflate.total_in() - read_before) as usize;
            let written = (self.inflate.total_out() - written_before) as usize;
            tap.consume(read);
            let produced = out.get(..written).unwrap_or_default();
            self.crc.update(produced);
            self.size = self.size.wrapping_add(written as u32);
            match result {
                Err(error) => {
                    let detail = format!("deflate data ends in an error: {error}");
                    note(unclean, UncleanCode::Malformed, detail);
                    self.state = State::Ended;
                }
                Ok(Status::StreamEnd) => self.end_member(tap, unclean)?,
                Ok(Status::Ok | Status::BufError) if written == 0 && at_end => {
                    note(unclean, UncleanCode::Truncated, "the deflate data has no end");
                    self.state = State::Ended;
                }
                Ok(_) if written == 0 && read > 0 => continue,
                Ok(_) if written == 0 => {
                    note(unclean, UncleanCode::Malformed, "the deflate data makes no progress");
                    self.state = State::Ended;
                }
                Ok(_) => {}
            }
            return Ok(written);
        }
    }

    fn end_member(
        &mut self,
        tap: &mut Tap<'_>,
        unclean: &mut Vec<Unclean>,
    ) -> Result<(), CompareError> {
        self.state = State::Ended;
        let Some(trailer) = tap.peek(8)?.first_chunk::<8>().copied() else {
            note(unclean, UncleanCode::Truncated, "the last 8 bytes of the member are not there");
            return Ok(());
        };
        tap.consume(8);
        let [c0, c1, c2, c3, s0, s1, s2, s3] = trailer;
        let (crc, size) =
            (u32::from_le_bytes([c0, c1, c2, c3]), u32::from_le_bytes([s0, s1, s2, s3]));
        if crc != self.crc.sum() {
            let detail = format!("expected CRC32 {:08x}, found {crc:08x}", self.crc.sum());
            note(unclean, UncleanCode::WrongChecksum, detail);
        }
        if size != self.size {
            let detail = format!("expected ISIZE {}, found {size}", self.size);
            note(unclean, UncleanCode::WrongSize, detail);
        }
        let next = tap.peek(2)?;
        if next.is_empty() {
            return Ok(());
        }
        if next.starts_with(&[0x1f, 0x8b]) {
            if self.members == 1 {
                let detail = format!("a second gzip member at byte {}", tap.offset());
                note(unclean, UncleanCode::SeveralMembers, detail);
            }
            self.inflate.reset(false);
            self.crc.reset();
            self.size = 0;
            self.state = State::Header;
            return Ok(());
        }
        let offset = tap.offset();
        let left = tap.drain()?;
        let detail = format!("{left} bytes after the gzip stream, from byte {offset}");
        note(unclean, UncleanCode::TrailingBytes, detail);
        Ok(())
    }

    /// False where there is no usable header.
    fn read_header(
        &mut self,
        tap: &mut Tap<'_>,
        unclean: &mut Vec<Unclean>,
    ) -> Result<bool, CompareError> {
        let Some(fixed) = tap.peek(10)?.first_chunk::<10>().copied() else {
            note(unclean, UncleanCode::Truncated, "the gzip header has no end");
            return Ok(false);
        };
        tap.consume(10);
        self.members += 1;
        let [_, _, method, flags, t0, t1, t2, t3, extra_flags, os] = fixed;
        if method != 8 {
            let detail = format!("expected compression method 8, found {method}");
            note(unclean, UncleanCode::Malformed, detail);
            return Ok(false);
        }
        let mtime = u32::from_le_bytes([t0, t1, t2, t3]);
        self.header.get_or_insert(GzipHeader { flags, mtime, extra_flags, os });
        if flags & RESERVED != 0 {
            let detail = format!("reserved bits of FLG {flags:#04x} are set");
            note(unclean, UncleanCode::ReservedFlags, detail);
        }
        if flags & FEXTRA != 0 && !skip_extra(tap, unclean)? {
            return Ok(false);
        }
        if flags & FNAME != 0 && !skip_text(tap, UncleanCode::FileName, unclean)? {
            return Ok(false);
        }
        if flags & FCOMMENT != 0 && !skip_text(tap, UncleanCode::Comment, unclean)? {
            return Ok(false);
        }
        if flags & FHCRC != 0 {
            note(unclean, UncleanCode::HeaderChecksum, "the header has a checksum of its own");
            tap.peek(2)?;
            tap.consume(2);
        }
        Ok(true)
    }
}

fn skip_extra(tap: &mut Tap<'_>, unclean: &mut Vec<Unclean>) -> Result<bool, CompareError> {
    let (Some(low), Some(high)) = (tap.byte()?, tap.byte()?) else {
        note(unclean, UncleanCode::Truncated, "the extra field has no length");
        return Ok(false);
    };
    let length = u16::from_le_bytes([low, high]);
    note(unclean, UncleanCode::ExtraField, format!("an extra field of {length} bytes"));
    for _ in 0..length {
        if tap.byte()?.is_none() {
            note(unclean, UncleanCode::Truncated, "the extra field has no end");
            return Ok(false);
        }
    }
    Ok(true)
}

/// Skips a text that ends with NUL. Its length is bounded by the blob's.
fn skip_text(
    tap: &mut Tap<'_>,
    code: UncleanCode,
    unclean: &mut Vec<Unclean>,
) -> Result<bool, CompareError> {
    let mut quoted = Vec::new();
    let mut length = 0u64;
    loop {
        match tap.byte()? {
            None => {
                note(unclean, UncleanCode::Truncated, "a text in the gzip header has no end");
                return Ok(false);
            }
            Some(0) => break,
            Some(byte) => {
                length += 1;
                if quoted.len() < QUOTED_BYTES {
                    quoted.push(byte);
                }
            }
        }
    }
    // RFC 1952 says ISO 8859-1: each byte is the character of the same number.
    let quoted: String = quoted.into_iter().map(char::from).collect();
    note(unclean, code, format!("{length} bytes: {quoted:?}"));
    Ok(true)
}
