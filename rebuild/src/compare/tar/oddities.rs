//! What two readers of a tar could take differently, or what no reader shows.
//!
//! Invariant: every finding is counted, the first ones are kept in full; one that is not harmless makes
//! the layer ambiguous, whatever else is found. It must never end the reading.

/// Something that two readers could take differently, or that no reader shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::compare) enum OddityKind {
    /// The same path again in one layer: later entries win.
    DuplicatePath,
    /// `..` in a name, or a whiteout of it.
    PathEscape,
    /// A name that begins with `/`.
    PathAbsolute,
    /// `//`, `/./`, an empty name, a NUL in it, a file that ends with `/`.
    PathNotCanonical,
    /// The parent of the entry is no directory.
    ThroughLink,
    /// A type without content has a size.
    SizeWithoutContent,
    /// The PAX size and the header's differ.
    SizeConflict,
    /// A PAX key twice, or a value that hides a NUL.
    AmbiguousPax,
    /// Extension headers that repeat or contradict each other.
    StackedExtensions,
    /// A global PAX header: some readers apply it, Go does not.
    GlobalPax,
    /// A sparse file.
    Sparse,
    /// A type that is not in the standards.
    UnknownType,
    /// Padding or unused header bytes that are not zero.
    HiddenBytes,
    /// One zero block that is not the end.
    LoneZeroBlock,
    /// Bytes other than zero after the end.
    BytesAfterEnd,
    /// The stream ends without the two zero blocks.
    NoEndMarker,
    /// A hard link to a file that is not there.
    DanglingHardLink,
    /// A whiteout beside the path that it removes, or of no path.
    AmbiguousWhiteout,
    /// Not a tar from here on.
    Broken,
}

impl OddityKind {
    /// The words for it.
    pub(in crate::compare) const fn as_str(self) -> &'static str {
        match self {
            Self::DuplicatePath => "the path stands more than once",
            Self::PathEscape => "the name holds ..",
            Self::PathAbsolute => "the name is absolute",
            Self::PathNotCanonical => "the name can be read in two ways",
            Self::ThroughLink => "the parent is no directory",
            Self::SizeWithoutContent => "a type without content has a size",
            Self::SizeConflict => "two sizes for one entry",
            Self::AmbiguousPax => "PAX records that can be read in two ways",
            Self::StackedExtensions => "extension headers that repeat or contradict",
            Self::GlobalPax => "a global PAX header",
            Self::Sparse => "a sparse file",
            Self::UnknownType => "an unknown entry type",
            Self::HiddenBytes => "padding or unused header bytes are not zero",
            Self::LoneZeroBlock => "a single zero block between entries",
            Self::BytesAfterEnd => "bytes after the end of the archive",
            Self::NoEndMarker => "the archive has no end marker",
            Self::DanglingHardLink => "a hard link to nothing",
            Self::AmbiguousWhiteout => "a whiteout that can be read in two ways",
            Self::Broken => "not a tar from here on",
        }
    }

    /// True where runtimes agree on the resulting files all the same.
    pub(in crate::compare) const fn is_harmless(self) -> bool {
        matches!(self, Self::DuplicatePath | Self::NoEndMarker)
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::compare) struct Oddity {
    pub kind: OddityKind,
    pub path: Vec<u8>,
    pub detail: String,
}

/// Findings of one layer: the first ones in full, all of them counted.
#[derive(Debug, Clone, Default)]
pub(in crate::compare) struct Oddities {
    pub list: Vec<Oddity>,
    pub count: u64,
    /// True when one of them is not harmless.
    pub ambiguous: bool,
}

impl Oddities {
    const KEPT_MAX: usize = 256;

    pub(in crate::compare) fn add(
        &mut self,
        kind: OddityKind,
        path: &[u8],
        detail: impl Into<String>,
    ) {
        self.count += 1;
        self.ambiguous |= !kind.is_harmless();
        if self.list.len() < Self::KEPT_MAX {
            self.list.push(Oddity { kind, path: path.to_vec(), detail: detail.into() });
        }
    }
}
