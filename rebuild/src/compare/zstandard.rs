//! Zstandard frames (RFC 8878) as a layer stream: frame headers are read here, blocks by `zstd`.
//!
//! Invariant: the window that the decoder must keep is checked before it starts. Several frames
//! are unpacked one after the other and skippable ones are passed over, as decoders do, and noted.

use super::{
    error::CompareError,
    tap::Tap,
    unclean::{Unclean, UncleanCode, note},
};
use zstd::stream::raw::{DParameter, Decoder, Operation};

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Magic, descriptor, window, dictionary ID, content size at their longest.
const HEADER_BYTES_MAX: usize = 4 + 1 + 1 + 4 + 8;

enum State {
    Between,
    Frame(Decoder<'static>),
    Ended,
}

/// The frames of one blob.
pub(super) struct ZstdStream {
    state: State,
    frames: u64,
    skippable: u64,
}

impl Default for ZstdStream {
    fn default() -> Self {
        Self { state: State::Between, frames: 0, skippable: 0 }
    }
}

impl ZstdStream {
    /// Fills part of `out`; 0 at the end of all frames or where the stream breaks.
    pub(super) fn pull(
        &mut self,
        tap: &mut Tap<'_>,
        out: &mut [u8],
        unclean: &mut Vec<Unclean>,
    ) -> Result<usize, CompareError> {
        loop {
            match &mut self.state {
                State::Ended => return Ok(0),
                State::Between => self.state = self.next_frame(tap, unclean)?,
                State::Frame(decoder) => {
                    let input = tap.peek(1)?;
                    let at_end = input.is_empty();
                    let status = match decoder.run_on_buffers(input, out) {
                        Ok(status) => status,
                        Err(error) => {
                            let detail = format!("the frame ends in an error: {error}");
                            note(unclean, UncleanCode::Malformed, detail);
                            self.state = State::Ended;
                            return Ok(0);
                        }
                    };
                    tap.consume(status.bytes_read);
                    let idle = status.bytes_read == 0 && status.bytes_written == 0;
                    if status.remaining == 0 {
                        self.state = State::Between;
                    } else if idle {
                        let (code, what) = match at_end {
                            true => (UncleanCode::Truncated, "the frame has no end"),
                            false => (UncleanCode::Malformed, "the frame makes no progress"),
                        };
                        note(unclean, code, what);
                        self.state = State::Ended;
                    }
                    if status.bytes_written > 0 {
                        return Ok(status.bytes_written);
                    }
                }
            }
        }
    }

    fn next_frame(
        &mut self,
        tap: &mut Tap<'_>,
        unclean: &mut Vec<Unclean>,
    ) -> Result<State, CompareError> {
        let offset = tap.offset();
        let head = tap.peek(HEADER_BYTES_MAX)?;
        match *head {
            [] => {
                if self.frames == 0 {
                    note(unclean, UncleanCode::Truncated, "no frame holds data");
                }
                Ok(State::Ended)
            }
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => self.skip_frame(tap, offset, unclean),
            [a, b, c, d, ..] if [a, b, c, d] == MAGIC => {
                let header = FrameHeader::read(head);
                self.frames += 1;
                if self.frames == 2 {
                    let detail = format!("a second frame at byte {offset}");
                    note(unclean, UncleanCode::SeveralMembers, detail);
                }
                if header.dictionary {
                    note(unclean, UncleanCode::Dictionary, "the frame needs a dictionary");
                }
                let (side, limit) = (tap.side(), tap.zstd_window_bytes_max);
                if header.window_bytes > limit {
                    let what = "bytes in the window of a Zstandard frame";
                    return Err(CompareError::Limit { side, what, limit });
                }
                match new_decoder(limit) {
                    Ok(decoder) => Ok(State::Frame(decoder)),
                    Err(source) => {
                        let what = "Zstandard frame (no memory for its decoder)".to_owned();
                        Err(CompareError::Read { side, what, source })
                    }
                }
            }
            _ => {
                let left = tap.drain()?;
                let detail = format!("{left} bytes after the frames, from byte {offset}");
                note(unclean, UncleanCode::TrailingBytes, detail);
                Ok(State::Ended)
            }
        }
    }

    fn skip_frame(
        &mut self,
        tap: &mut Tap<'_>,
        offset: u64,
        unclean: &mut Vec<Unclean>,
    ) -> Result<State, CompareError> {
        let Some([_, _, _, _, s0, s1, s2, s3]) = tap.peek(8)?.first_chunk::<8>().copied() else {
            note(unclean, UncleanCode::Truncated, "a skippable frame has no length");
            tap.drain()?;
            return Ok(State::Ended);
        };
        tap.consume(8);
        let size = u32::from_le_bytes([s0, s1, s2, s3]);
        self.skippable += 1;
        if self.skippable == 1 {
            let detail = format!("a skippable frame of {size} bytes at byte {offset}");
            note(unclean, UncleanCode::SkippableFrame, detail);
        }
        let mut left = u64::from(size);
        while left > 0 {
            let available = tap.peek(1)?.len();
            if available == 0 {
                note(unclean, UncleanCode::Truncated, "a skippable frame has no end");
                return Ok(State::Ended);
            }
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(available);
            tap.consume(step);
            left -= step as u64;
        }
        Ok(State::Between)
    }
}

fn new_decoder(window_bytes_max: u64) -> std::io::Result<Decoder<'static>> {
    let mut decoder = Decoder::new()?;
    // The decoder refuses logs below 10 and above 31.
    let log = window_bytes_max.max(1 << 10).ilog2().min(31);
    decoder.set_parameter(DParameter::WindowLogMax(log))?;
    Ok(decoder)
}

/// RFC 8878, 3.1.1.1.
struct FrameHeader {
    dictionary: bool,
    window_bytes: u64,
}

impl FrameHeader {
    /// Fields that are not there read as zero: the decoder then says that the frame is cut.
    fn read(head: &[u8]) -> Self {
        let at = |index: usize| head.get(index).copied().unwrap_or(0);
        let descriptor = at(4);
        let single_segment = descriptor & 0b0010_0000 != 0;
        let dictionary_bytes = [0usize, 1, 2, 4][usize::from(descriptor & 0b11)];
        let size_bytes = match (descriptor >> 6, single_segment) {
            (0, false) => 0,
            (0, true) => 1,
            (1, _) => 2,
            (2, _) => 4,
            _ => 8,
        };
        let window_bytes = if single_segment {
            let start = 5 + dictionary_bytes;
            let mut size = 0u64;
            for index in (0..size_bytes).rev() {
                size = size << 8 | u64::from(at(start + index));
            }
            // Two bytes count from 256 (3.1.1.1.4).
            if size_bytes == 2 { size + 256 } else { size }
        } else {
            let (exponent, mantissa) = (at(5) >> 3, at(5) & 0b111);
            let base = 1u64 << (10 + exponent);
            base + base / 8 * u64::from(mantissa)
        };
        Self { dictionary: dictionary_bytes > 0, window_bytes }
    }
}
