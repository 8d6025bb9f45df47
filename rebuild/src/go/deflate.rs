//! The deflate encoder behind apko's layers: klauspost/compress, level 5, as pgzip drives it.
//!
//! Invariant: for a window, a dictionary length and a [`Variant`] there is one output, the bytes of
//! the Go encoder, whatever was encoded before with the same [`Encoder`]. It must never choose
//! differently because of time, memory or threads. The format is RFC 1951; which of its many valid
//! streams comes out is decided by the files below: `matcher`, `tables` (which repetitions are
//! found), `tokens` (what was found), `blocks` (which block type, which Huffman tables).

mod bits;
mod blocks;
mod estimate;
mod frequencies;
mod header;
mod huffman;
mod matcher;
mod symbols;
mod tables;
mod tokens;

use self::{blocks::BlockWriter, matcher::Matcher, tokens::Tokens};

/// Input is fed to the encoder in chunks of this many bytes, each of which becomes a deflate block:
/// the most that a stored block can hold.
const CHUNK: usize = 65_535;
/// A last chunk below this many bytes is not searched for repetitions.
const SEARCHED_MIN: usize = 128;
/// A last chunk up to this many bytes is stored.
const STORED_MAX: usize = 32;

/// Which release of the encoder: they differ in when a block's table is trimmed and in how often
/// the end-of-block symbol is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Variant {
    /// Releases 1.15.10 to 1.18.0: apko 0.10.0 to 0.30.17.
    E1,
    /// Release 1.18.1: apko 0.30.18 to 0.30.27.
    E2,
    /// Release 1.18.2 and later: apko from 0.30.28 on.
    E3,
}

/// The encoder's tables, kept between blocks to spare their allocation; no block depends on
/// another.
#[derive(Debug)]
pub struct Encoder {
    matcher: Matcher,
    tokens: Tokens,
    writer: BlockWriter,
}

impl Encoder {
    /// An encoder: about 450 KiB of tables and buffers.
    pub fn new(variant: Variant) -> Self {
        Self { matcher: Matcher::new(), tokens: Tokens::new(), writer: BlockWriter::new(variant) }
    }

    /// Encodes `window[dictionary..]`, with what stands before it as preset dictionary, into `out`
    /// (its former contents are dropped). The output ends with an empty stored block, so that it
    /// ends at a byte; if `last`, the final empty block follows.
    ///
    /// `dictionary` must not exceed the window's length.
    pub fn encode(&mut self, window: &[u8], dictionary: usize, last: bool, out: &mut Vec<u8>) {
        self.writer.start(std::mem::take(out));
        self.matcher.start();
        self.tokens.clear();
        if dictionary > 0 && dictionary < window.len() {
            self.matcher.run(&window[..dictionary], 0, &mut self.tokens);
            self.tokens.clear();
        }
        let mut start = dictionary;
        while start < window.len() {
            let end = window.len().min(start + CHUNK);
            self.chunk(&window[..end], start, end == window.len());
            start = end;
        }
        self.writer.stored(&[]);
        if last {
            self.writer.last();
        }
        *out = self.writer.finish();
    }

    /// Encodes `window[start..]` as one block; `sync` when nothing follows before the flush.
    fn chunk(&mut self, window: &[u8], start: usize, sync: bool) {
        let input = &window[start..];
        if sync && input.len() < SEARCHED_MIN {
            if input.len() <= STORED_MAX {
                self.writer.stored(input);
            } else {
                self.writer.huffman_only(input, sync);
            }
            return;
        }
        self.matcher.run(window, start, &mut self.tokens);
        if self.tokens.count() == 0 {
            self.writer.stored(input);
        } else if self.tokens.count() > input.len() - (input.len() >> 4) {
            self.writer.huffman_only(input, sync);
        } else {
            self.writer.dynamic(&mut self.tokens, input, sync);
        }
        self.tokens.clear();
    }
}
