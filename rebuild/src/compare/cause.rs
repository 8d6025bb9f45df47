//! Why two images may differ: the taxonomy, and the rules that need nothing but names and values.
//!
//! Rules that look into files are in `content` and `packages`, those about places in `paths`.
//!
//! Invariant: a cause is a classification of a difference, with a confidence; no level and no
//! verdict ever depends on one. The list only grows; a change of meaning raises
//! [`CAUSES_VERSION`], so that history can be labelled again.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Version of the taxonomy: of [`CauseCode`] and of what its codes mean.
pub const CAUSES_VERSION: u32 = 1;

/// How sure a detector is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// It follows from the bytes that were compared.
    Certain,
    /// What is known of such files says so.
    Likely,
    /// It would fit.
    Possible,
}

impl Confidence {
    /// The word as it is written in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Certain => "certain",
            Self::Likely => "likely",
            Self::Possible => "possible",
        }
    }
}

/// The families of causes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// Whom a container believes: keys, certificates, repositories.
    Trust,
    /// What it may do.
    Security,
    /// Other inputs went into the build.
    Inputs,
    /// The build does not give the same twice.
    Nondeterminism,
    /// The same content, written down otherwise.
    Encoding,
    /// What the image says of itself.
    Description,
}

impl Class {
    /// The word as it is written in results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Security => "security",
            Self::Inputs => "inputs",
            Self::Nondeterminism => "nondeterminism",
            Self::Encoding => "encoding",
            Self::Description => "description",
        }
    }
}

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $class:ident;)+) => {
        /// Why something may differ. Written as its dotted text.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum CauseCode { $($(#[$doc])* #[serde(rename = $text)] $name,)+ }

        impl CauseCode {
            /// Every code, in the order of the list.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The code as it is written in results.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// The family it belongs to.
            pub const fn class(self) -> Class {
                match self { $(Self::$name => Class::$class),+ }
            }
        }
    };
}

causes! {
    /// A key in a package manager's key folder that only one side trusts, or another key there.
    TrustKey = "trust.package_key", Trust;
    /// A certificate or certificate bundle.
    TrustCertificate = "trust.certificate", Trust;
    /// Where packages come from: etc/apk/repositories, apt sources.
    TrustRepositories = "trust.repositories", Trust;

    /// setuid, setgid or a file capability.
    SecurityPrivilege = "security.privilege", Security;
    /// Permission bits.
    SecurityPermission = "security.permission", Security;
    /// Owner or group.
    SecurityOwner = "security.owner", Security;
    /// A program, script or library.
    SecurityExecutable = "security.executable", Security;
    /// Accounts and who may become whom.
    SecurityAccount = "security.account", Security;
    /// What the dynamic loader does: ld.so.preload, ld.so.conf, LD_ variables.
    SecurityLoader = "security.loader", Security;
    /// An environment variable.
    SecurityEnvironment = "security.environment", Security;
    /// The user that the container runs as.
    SecurityUser = "security.user", Security;
    /// What the container runs.
    SecurityCommand = "security.command", Security;
    /// A device node.
    SecurityDevice = "security.device", Security;
    /// Bytes where no reader looks.
    SecurityHiddenBytes = "security.hidden_bytes", Security;
    /// Readers differ about what the layer holds.
    SecurityAmbiguous = "security.ambiguous_archive", Security;

    /// A package in another version.
    PackageVersion = "package.version_drift", Inputs;
    /// The same version of a package, built otherwise.
    PackageRebuilt = "package.rebuilt", Inputs;
    /// A package that the rebuild does not have.
    PackageUndeclared = "package.undeclared", Inputs;
    /// A package that only the rebuild has.
    PackageMissing = "package.missing", Inputs;
    /// The file is not what the image's own package database says.
    PackageFileAltered = "package.file_altered", Security;
    /// A file of no package of the database.
    PackageUnowned = "package.unowned_file", Inputs;
    /// The package database itself.
    PackageDatabase = "package.database", Inputs;

    /// Written anew by every build: logs.
    PathLog = "path.log_file", Nondeterminism;
    /// Caches of package managers and tools.
    PathCache = "path.cache_file", Nondeterminism;
    /// The linker's auxiliary cache: it holds inodes.
    PathLinkerCache = "path.linker_cache", Nondeterminism;
    /// A number drawn for this machine or image.
    PathMachineId = "path.machine_id", Nondeterminism;
    /// Compiled Python.
    PathBytecode = "path.python_bytecode", Nondeterminism;
    /// Temporary files.
    PathTemporary = "path.temporary", Nondeterminism;
    /// Written by the builder into the container: hosts, resolv.conf, hostname.
    PathBuilder = "path.builder_file", Nondeterminism;
    /// State of a tool that holds times.
    PathToolState = "path.tool_state", Nondeterminism;

    /// Times of tar entries.
    TimeEntry = "time.entry", Nondeterminism;
    /// Times in the configuration, history or annotations.
    TimeConfig = "time.config", Nondeterminism;
    /// A date in a text.
    TimeText = "time.text", Nondeterminism;

    /// The same lines in another order.
    OrderLines = "order.lines", Nondeterminism;
    /// The same JSON in another order.
    OrderJson = "order.json", Nondeterminism;
    /// The same entries in another order.
    OrderTar = "order.tar", Encoding;

    /// An identifier drawn at random.
    ContentRandomId = "content.random_id", Nondeterminism;
    /// The build ID of an ELF file.
    ContentBuildId = "content.elf_build_id", Nondeterminism;
    /// An ELF file of another machine type or class.
    ContentElfMachine = "content.elf_machine", Inputs;
    /// Machine code or data of an ELF file.
    ContentElf = "content.elf", Inputs;
    /// The header of compiled Python.
    ContentPycHeader = "content.pyc_header", Nondeterminism;
    /// Times of members of an ar archive.
    ContentArTime = "content.ar_mtime", Nondeterminism;
    /// Times of members of a ZIP archive, so of a JAR or wheel.
    ContentZipTime = "content.zip_mtime", Nondeterminism;
    /// The header of a gzip file.
    ContentGzipHeader = "content.gzip_embedded", Nondeterminism;
    /// An SQLite database.
    ContentSqlite = "content.sqlite", Nondeterminism;
    /// A few bytes at one place.
    ContentFewBytes = "content.few_bytes", Inputs;
    /// One side continues where the other ends.
    ContentAppended = "content.appended", Inputs;

    /// The gzip or Zstandard layer was written by another engine or at another level.
    EncodingRecompression = "encoding.recompression", Encoding;
    /// Free fields of the gzip header.
    EncodingGzipHeader = "encoding.gzip_header", Encoding;
    /// The layer's blob holds more than its tar.
    EncodingUnclean = "encoding.unclean_layer", Security;
    /// Another tar dialect.
    EncodingTarFormat = "encoding.tar_format", Encoding;
    /// The same files in other layers.
    EncodingLayerSplit = "encoding.layer_split", Encoding;
    /// The same JSON with other bytes.
    EncodingJson = "encoding.json", Encoding;

    /// Labels, annotations, authors, comments.
    DescriptionText = "description.text", Description;
    /// A field that the recipe's builder does not write.
    DescriptionUnknownField = "description.unknown_field", Description;
}

impl fmt::Display for CauseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One possible cause of one difference.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cause {
    /// How sure the detector is. First, so that causes sort by it.
    pub confidence: Confidence,
    /// Which.
    pub code: CauseCode,
    /// What it saw, in one line.
    pub detail: String,
}

impl Cause {
    pub(super) fn certain(code: CauseCode, detail: impl Into<String>) -> Self {
        Self { confidence: Confidence::Certain, code, detail: detail.into() }
    }

    pub(super) fn likely(code: CauseCode, detail: impl Into<String>) -> Self {
        Self { confidence: Confidence::Likely, code, detail: detail.into() }
    }

    pub(super) fn possible(code: CauseCode, detail: impl Into<String>) -> Self {
        Self { confidence: Confidence::Possible, code, detail: detail.into() }
    }
}
