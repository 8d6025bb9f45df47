//! One 512-byte tar header block: POSIX.1-1988 "ustar" and GNU (tar(5), "POSIX ustar Archives",
//! "GNU Tar Archives").
//!
//! Invariant: a block is read in one way only, or refused. A field that two readers could
//! understand differently (bytes behind a NUL, signed sums, negative numbers, unknown magic) is an
//! error here, never a guess.

use super::TarProblem;

/// Length of a tar block.
pub(super) const BLOCK: usize = 512;

/// One block.
pub(super) type Block = [u8; BLOCK];

/// Are all bytes zero? All are looked at, many at once.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte) == 0
}

/// Which of the two header layouts a block has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Ustar,
    Gnu,
}

/// The fields of one block, before extensions are applied.
pub(super) struct RawHeader {
    pub(super) layout: Layout,
    pub(super) type_flag: u8,
    /// With the ustar prefix in front.
    pub(super) name: Text,
    pub(super) link_name: Text,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: i64,
    pub(super) user_name: Vec<u8>,
    pub(super) group_name: Vec<u8>,
    pub(super) device_major: u64,
    pub(super) device_minor: u64,
}

/// A string field. Go's writer leaves bytes behind the NUL where a PAX record has the real value,
/// so such a field is an error only where no record replaces it.
pub(super) struct Text {
    value: Vec<u8>,
    residue: bool,
}

impl Text {
    fn of(field: &[u8]) -> Self {
        let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
        let (value, rest) = field.split_at(end);
        Self { value: value.to_vec(), residue: !is_zero(rest) }
    }

    /// The value as it stands, for errors.
    pub(super) fn shown(&self) -> Vec<u8> {
        self.value.clone()
    }

    /// The value, where nothing replaces it.
    pub(super) fn strict(self, field: &'static str) -> Result<Vec<u8>, TarProblem> {
        if self.residue {
            return Err(TarProblem::BytesBehindNul { field });
        }
        Ok(self.value)
    }

    /// The value up to its NUL, of a field that says nothing for this kind of entry.
    pub(super) fn cut(self) -> Vec<u8> {
        self.value
    }
}

impl RawHeader {
    /// Reads a block that is not all zero.
    pub(super) fn parse(block: &Block) -> Result<Self, TarProblem> {
        check_sum(block)?;
        let layout = layout(block)?;
        let wide = layout == Layout::Gnu;
        let mut name = Text::of(&block[0..100]);
        match layout {
            Layout::Ustar => prepend_prefix(block, &mut name)?,
            Layout::Gnu => check_gnu_tail(block)?,
        }
        let mode = number("mode", &block[100..108], wide)?;
        let mtime = number("mtime", &block[136..148], wide)?;
        Ok(Self {
            layout,
            type_flag: block[156],
            name,
            link_name: Text::of(&block[157..257]),
            mode: u32::try_from(mode).map_err(|_| TarProblem::Number { field: "mode" })?,
            uid: number("uid", &block[108..116], wide)?,
            gid: number("gid", &block[116..124], wide)?,
            size: number("size", &block[124..136], wide)?,
            mtime: i64::try_from(mtime).map_err(|_| TarProblem::Number { field: "mtime" })?,
            user_name: Text::of(&block[265..297]).strict("uname")?,
            group_name: Text::of(&block[297..329]).strict("gname")?,
            device_major: number("devmajor", &block[329..337], wide)?,
            device_minor: number("devminor", &block[337..345], wide)?,
        })
    }
}

fn layout(block: &Block) -> Result<Layout, TarProblem> {
    match &block[257..265] {
        b"ustar\x0000" if block[500..512] == [0; 12] => Ok(Layout::Ustar),
        b"ustar  \0" => Ok(Layout::Gnu),
        _ => Err(TarProblem::Magic),
    }
}

fn prepend_prefix(block: &Block, name: &mut Text) -> Result<(), TarProblem> {
    let prefix = Text::of(&block[345..500]).strict("prefix")?;
    if !prefix.is_empty() {
        let mut whole = prefix;
        whole.push(b'/');
        whole.append(&mut name.value);
        name.value = whole;
    }
    Ok(())
}

/// Access and change time may be there (`--incremental`); anything behind them belongs to sparse
/// or multi-volume archives, or to a ustar prefix under the wrong magic.
fn check_gnu_tail(block: &Block) -> Result<(), TarProblem> {
    number("atime", &block[345..357], true)?;
    number("ctime", &block[357..369], true)?;
    if !is_zero(&block[369..512]) {
        return Err(TarProblem::Sparse);
    }
    Ok(())
}

/// The sum of all bytes, the checksum field counted as spaces; unsigned, as POSIX has it.
fn check_sum(block: &Block) -> Result<(), TarProblem> {
    let sum = |bytes: &[u8]| bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>();
    let computed = sum(&block[0..148]) + 8 * u32::from(b' ') + sum(&block[156..512]);
    let computed = u64::from(computed);
    let stored = number("checksum", &block[148..156], false)?;
    if stored != computed {
        return Err(TarProblem::HeaderChecksum { stored, computed });
    }
    Ok(())
}

/// Octal digits, padded by spaces before and by NUL or spaces behind; an empty field is zero.
/// GNU's base 256 (first bit set) is taken only in GNU headers, and only where not negative.
fn number(field: &'static str, bytes: &[u8], wide: bool) -> Result<u64, TarProblem> {
    let bad = || TarProblem::Number { field };
    let (first, rest) = bytes.split_first().ok_or_else(bad)?;
    if first & 0x80 != 0 {
        if !wide || *first != 0x80 {
            return Err(bad());
        }
        return rest.iter().try_fold(0u64, |value, &byte| {
            Ok(value.checked_mul(256).ok_or_else(bad)? | u64::from(byte))
        });
    }
    let start = bytes.iter().position(|&byte| byte != b' ').unwrap_or(bytes.len());
    let mut value = 0u64;
    let mut digits = bytes[start..].iter();
    for &byte in digits.by_ref() {
        match byte {
            // At most 12 digits of 3 bits each: no overflow.
            b'0'..=b'7' => value = value << 3 | u64::from(byte - b'0'),
            b' ' | 0 => break,
            _ => return Err(bad()),
        }
    }
    if digits.any(|&byte| byte != b' ' && byte != 0) {
        return Err(bad());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_reading() {
        let octal = |bytes: &[u8]| number("size", bytes, false).ok();
        assert_eq!(octal(b"0000644\0"), Some(0o644));
        assert_eq!(octal(b"   644 \0"), Some(0o644));
        assert_eq!(octal(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(octal(b"77777777"), Some(0o77777777));
        for bad in
            [&b"0000648\0"[..], b"644\x00644\0", b"-0000001", b"0x644\0\0\0", b"64 4\0\0\0\0"]
        {
            assert_eq!(octal(bad), None, "{bad:?}");
        }
        let wide = |bytes: &[u8]| number("size", bytes, true).ok();
        assert_eq!(wide(b"\x80\0\0\0\0\0\x01\0"), Some(256));
        assert_eq!(octal(b"\x80\0\0\0\0\0\x01\0"), None, "base 256 under ustar magic");
        assert_eq!(wide(b"\xff\xff\xff\xff\xff\xff\xff\xff"), None, "negative");
        assert_eq!(wide(b"\x80\0\0\x01\0\0\0\0\0\0\0\0"), None, "over 64 bits");
    }
}
