//! One difference between two images, and the closed list of kinds.
//!
//! Invariant: events have a total order that depends on nothing but their content, and every text
//! in them is bounded ([`shown`]); a longer one is cut and carries its digest, so that two values
//! that differ never read alike. They must never hold anything of the machine that compared.

use super::cause::Cause;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Which document or stream an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The image manifest.
    Manifest,
    /// The image configuration.
    Config,
    /// One layer as a whole.
    Layer,
    /// One entry of a layer's tar, or of the merged tree.
    Entry,
}

impl Scope {
    /// The word as it is written in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Config => "config",
            Self::Layer => "layer",
            Self::Entry => "entry",
        }
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $weight:ident;)+) => {
        /// What differs. Written as its dotted text.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Kind { $($(#[$doc])* #[serde(rename = $text)] $name,)+ }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The kind as it is written in results.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// How much it matters to somebody who looks at a few events only.
            pub(super) const fn weight(self) -> Weight {
                match self { $(Self::$name => Weight::$weight),+ }
            }
        }
    };
}

/// The order in which events are shown, and kept when there are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Weight {
    /// What a container may do.
    Security,
    /// What it holds.
    Content,
    /// How it is described.
    Metadata,
    /// How it is written down.
    Encoding,
}

kinds! {
    /// The digests differ, and no detector says why.
    ManifestDigest = "manifest.digest", Content;
    /// The manifest is none, or two parsers would read it differently.
    ManifestInvalid = "manifest.invalid", Content;
    /// A media type in the manifest.
    ManifestMediaType = "manifest.media_type", Content;
    /// An annotation of the manifest or of a descriptor.
    ManifestAnnotation = "manifest.annotation", Metadata;
    /// How many layers there are.
    ManifestLayerCount = "manifest.layer_count", Content;
    /// `subject`.
    ManifestSubject = "manifest.subject", Metadata;
    /// `artifactType`.
    ManifestArtifactType = "manifest.artifact_type", Metadata;
    /// A field of a descriptor: `urls`, `data`, `platform`, a size that lies.
    ManifestDescriptor = "manifest.descriptor", Content;
    /// A field of the manifest that image-spec does not have.
    ManifestUnknownField = "manifest.unknown_field", Content;
    /// The same fields, written with other bytes.
    ManifestJsonBytes = "manifest.json_bytes", Encoding;

    /// The configuration is none, or two parsers would read it differently.
    ConfigInvalid = "config.invalid", Content;
    /// `created`.
    ConfigCreated = "config.created", Metadata;
    /// `author`.
    ConfigAuthor = "config.author", Metadata;
    /// An environment variable.
    ConfigEnv = "config.env", Security;
    /// `Cmd`, `Shell`, `Healthcheck`, `OnBuild`, `ArgsEscaped`.
    ConfigCmd = "config.cmd", Security;
    /// `Entrypoint`.
    ConfigEntrypoint = "config.entrypoint", Security;
    /// `User`.
    ConfigUser = "config.user", Security;
    /// `WorkingDir`.
    ConfigWorkdir = "config.workdir", Content;
    /// A label.
    ConfigLabels = "config.labels", Metadata;
    /// `ExposedPorts`.
    ConfigExposed = "config.exposed", Content;
    /// `Volumes`.
    ConfigVolumes = "config.volumes", Content;
    /// `StopSignal`, `StopTimeout`.
    ConfigStopSignal = "config.stop_signal", Content;
    /// `architecture`, `os`, `variant`.
    ConfigArch = "config.arch", Content;
    /// `os.version`, `os.features`.
    ConfigOsVersion = "config.os_version", Content;
    /// A field that image-spec does not have.
    ConfigUnknownField = "config.unknown_field", Content;
    /// The same fields, written with other bytes.
    ConfigJsonBytes = "config.json_bytes", Encoding;
    /// How many layers the configuration states.
    ConfigDiffIdCount = "config.diff_id_count", Content;

    /// How many entries the history has.
    HistoryCount = "history.count", Metadata;
    /// `created` of a history entry.
    HistoryCreated = "history.created", Metadata;
    /// `created_by` or `author`.
    HistoryCreatedBy = "history.created_by", Metadata;
    /// `comment`.
    HistoryComment = "history.comment", Metadata;
    /// `empty_layer`.
    HistoryEmptyLayer = "history.empty_layer", Metadata;
    /// A field that image-spec does not have.
    HistoryUnknownField = "history.unknown_field", Metadata;

    /// Another compression, or none.
    LayerCompressionAlgo = "layer.compression_algo", Encoding;
    /// What the gzip header says beside the content.
    LayerGzipHeader = "layer.gzip_header", Encoding;
    /// The same content compressed by another engine or at another level.
    LayerGzipLevelOrEngine = "layer.gzip_level_or_engine", Encoding;
    /// Bytes after the gzip stream, or a second member.
    LayerGzipTrailing = "layer.gzip_trailing", Content;
    /// Frames of Zstandard beside the one that holds the layer.
    LayerZstdFrame = "layer.zstd_frame", Content;
    /// The blob cannot be unpacked, or is not what its descriptor or diffID says.
    LayerBroken = "layer.broken", Content;
    /// The layers are split otherwise, or one is only on one side.
    LayerSplit = "layer.layer_split", Metadata;
    /// A whiteout.
    LayerWhiteout = "layer.whiteout", Content;

    /// The entries come in another order.
    TarOrder = "tar.order", Encoding;
    /// ustar, pax or gnu.
    TarFormat = "tar.format", Encoding;
    /// A PAX record that is no field of its own.
    TarPaxRecord = "tar.pax_record", Encoding;
    /// Bytes of a header that no field shows.
    TarHeaderBytes = "tar.header_bytes", Encoding;
    /// What follows the last entry.
    TarEofBlocks = "tar.eof_blocks", Encoding;
    /// Something that two readers could take differently; see the values.
    TarUnusual = "tar.unusual", Content;
    /// File type bits inside the mode field.
    TarModeTypeBits = "tar.mode_type_bits", Encoding;
    /// Permission bits, setuid, setgid, sticky.
    TarMode = "tar.mode", Content;
    /// The owner.
    TarUid = "tar.uid", Content;
    /// The group.
    TarGid = "tar.gid", Content;
    /// The owner's name.
    TarUname = "tar.uname", Metadata;
    /// The group's name.
    TarGname = "tar.gname", Metadata;
    /// The modification time.
    TarMtime = "tar.mtime", Metadata;
    /// The access time.
    TarAtime = "tar.atime", Metadata;
    /// The change time.
    TarCtime = "tar.ctime", Metadata;
    /// Device numbers.
    TarDevno = "tar.devno", Content;
    /// What the entry is.
    TarTypeflag = "tar.typeflag", Content;
    /// Where a link leads.
    TarLinkname = "tar.linkname", Content;
    /// A hard link here, a file of its own there.
    TarHardlinkVsCopy = "tar.hardlink_vs_copy", Metadata;
    /// An extended attribute.
    TarXattr = "tar.xattr", Content;

    /// Only the published image has it.
    FileAdded = "file.added", Content;
    /// Only the rebuilt image has it.
    FileRemoved = "file.removed", Content;
    /// The bytes of a file.
    FileContent = "file.content", Content;
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where two contents first differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Bytes {
    /// Size on the published side.
    pub a_size: u64,
    /// Size on the rebuilt side.
    pub b_size: u64,
    /// The first offset at which they differ; none if it lies beyond what was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// How many bytes were compared from the beginning.
    pub compared: u64,
}

/// One difference. `a` is the published image, `b` the rebuilt one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Which document or stream.
    pub scope: Scope,
    /// Which layer, counted from 0 in the published image (in the rebuilt one for what is only
    /// there).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
    /// A path below the root, or a JSON pointer (RFC 6901).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What differs.
    pub kind: Kind,
    /// In the published image; none: not there.
    pub a: Option<String>,
    /// In the rebuilt image; none: not there.
    pub b: Option<String>,
    /// For contents: where they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
    /// What this changes for a container, in words, where it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<String>,
    /// Why it may differ, the likeliest first.
    #[serde(rename = "cause")]
    pub causes: Vec<Cause>,
}

impl Event {
    /// An event without layer, path or causes.
    pub(super) fn new(scope: Scope, kind: Kind) -> Self {
        Self {
            scope,
            layer: None,
            path: None,
            kind,
            a: None,
            b: None,
            bytes: None,
            security: None,
            causes: Vec::new(),
        }
    }

    pub(super) fn at(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    pub(super) fn in_layer(mut self, layer: usize) -> Self {
        self.layer = Some(u32::try_from(layer).unwrap_or(u32::MAX));
        self
    }

    pub(super) fn values(mut self, a: Option<String>, b: Option<String>) -> Self {
        (self.a, self.b) = (a, b);
        self
    }

    /// The weight with which it is kept and shown.
    pub(super) fn weight(&self) -> Weight {
        if self.security.is_some() { Weight::Security } else { self.kind.weight() }
    }
}

/// How much of a foreign text an event holds.
const SHOWN_CHARACTERS: usize = 300;

/// A text cut to size. One that was cut ends with its length and digest.
pub(super) fn shown(text: &str) -> String {
    if text.chars().nth(SHOWN_CHARACTERS).is_none() {
        return text.to_owned();
    }
    let head: String = text.chars().take(SHOWN_CHARACTERS / 2).collect();
    format!("{head}… ({} bytes, {})", text.len(), attest::Digest::of(text.as_bytes()))
}

/// Bytes as text: what is not UTF-8 becomes `\xNN`, a backslash `\\`.
pub(super) fn shown_bytes(bytes: &[u8]) -> String {
    shown(&lossless(bytes))
}

/// The same without cutting, for names that must stay whole.
pub(super) fn lossless(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                other => text.push(other),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// `sha256:… (N bytes)`.
pub(super) fn shown_content(digest: &[u8; 32], size: u64) -> String {
    format!("{} ({size} bytes)", attest::Digest::from_raw(*digest))
}

/// A short name for long binary values: their size and digest.
pub(super) fn shown_value(value: &[u8]) -> String {
    if value.len() <= 64 {
        return hex::encode(value);
    }
    format!("{} bytes, sha256:{}", value.len(), hex::encode(Sha256::digest(value)))
}
