//! One 512-byte tar header block and its fields.
//!
//! Invariant: a value is written in full or the caller was asked before; the only silent cuts are
//! those that Go makes (a long text in a pax or GNU block, a number that a pax record carries).

use std::ops::Range;

/// Everything in a tar stream comes in blocks of this many bytes.
pub(super) const BLOCK_SIZE: usize = 512;

/// Where a field lies in the block.
pub(super) type Field = Range<usize>;

/// Magic and version: which layout the block claims.
#[derive(Clone, Copy, Debug)]
pub(super) enum Magic {
    /// POSIX, for ustar and pax.
    Ustar,
    /// GNU tar.
    Gnu,
}

/// A header block being filled.
pub(super) struct Block([u8; BLOCK_SIZE]);

impl Block {
    pub(super) const NAME: Field = 0..100;
    pub(super) const MODE: Field = 100..108;
    pub(super) const UID: Field = 108..116;
    pub(super) const GID: Field = 116..124;
    pub(super) const SIZE: Field = 124..136;
    pub(super) const MTIME: Field = 136..148;
    const CHECKSUM: Field = 148..156;
    const FLAG: usize = 156;
    pub(super) const LINK_NAME: Field = 157..257;
    const MAGIC: Field = 257..265;
    pub(super) const USER_NAME: Field = 265..297;
    pub(super) const GROUP_NAME: Field = 297..329;
    pub(super) const MAJOR: Field = 329..337;
    pub(super) const MINOR: Field = 337..345;
    pub(super) const PREFIX: Field = 345..500;

    /// An empty block with a type flag.
    pub(super) fn new(flag: u8) -> Self {
        let mut block = [0; BLOCK_SIZE];
        block[Self::FLAG] = flag;
        Self(block)
    }

    /// Writes a text, cut to the field. Where the cut would leave a slash at the end, Go ends the
    /// text before the slashes with a NUL, and leaves what follows it.
    pub(super) fn text(&mut self, field: Field, text: &[u8]) {
        let width = field.len();
        let kept = &text[..text.len().min(width)];
        let target = &mut self.0[field];
        target[..kept.len()].copy_from_slice(kept);
        if text.len() > width && target[width - 1] == b'/' {
            let before = &target[..width - 1];
            let end = before.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
            target[end] = 0;
        }
    }

    /// Writes zero-padded octal digits and a NUL. The number was checked to fit.
    pub(super) fn octal(&mut self, field: Field, number: i64) {
        debug_assert!(fits_octal(field.len(), number));
        self.octal_or_zero(field, number);
    }

    /// As [`Block::octal`], or zero when the number does not fit (a pax record carries it).
    pub(super) fn octal_or_zero(&mut self, field: Field, number: i64) {
        let number = if fits_octal(field.len(), number) { number } else { 0 };
        let width = field.len() - 1;
        let digits = format!("{number:0width$o}");
        self.text(field, digits.as_bytes());
    }

    /// Octal when it fits, else GNU's big-endian two's complement with the top bit set.
    pub(super) fn numeric(&mut self, field: Field, number: i64) {
        if fits_octal(field.len(), number) {
            return self.octal_or_zero(field, number);
        }
        let sign = if number < 0 { 0xff } else { 0 };
        let target = &mut self.0[field];
        target.fill(sign);
        let bytes = number.to_be_bytes();
        let kept = bytes.len().min(target.len());
        let start = target.len() - kept;
        target[start..].copy_from_slice(&bytes[bytes.len() - kept..]);
        target[0] |= 0x80;
    }

    /// Adds magic and checksum: six octal digits, NUL, space, over the block with the checksum
    /// field taken as spaces.
    pub(super) fn sealed(mut self, magic: Magic) -> [u8; BLOCK_SIZE] {
        self.0[Self::MAGIC].copy_from_slice(match magic {
            Magic::Ustar => b"ustar\x0000",
            Magic::Gnu => b"ustar  \0",
        });
        self.0[Self::CHECKSUM].fill(b' ');
        let sum: u32 = self.0.iter().map(|&byte| u32::from(byte)).sum();
        let digits = format!("{sum:06o}\0 ");
        self.0[Self::CHECKSUM].copy_from_slice(digits.as_bytes());
        self.0
    }
}

/// Does the number fit into a field of this width as octal digits and a NUL?
pub(super) fn fits_octal(width: usize, number: i64) -> bool {
    let bits = (width - 1) * 3;
    number >= 0 && (bits >= 63 || number < 1 << bits)
}

/// Does the number fit as GNU's binary form, with the first byte left for the mark?
pub(super) fn fits_binary(width: usize, number: i64) -> bool {
    let bits = (width - 1) * 8;
    bits >= 63 || (-(1 << bits) <= number && number < 1 << bits)
}
