//! The only code that talks to a registry or reads an OCI layout.
//!
//! Invariant: every byte that leaves this crate was bounded, and compared with the digest it was
//! asked by; "could not fetch" is an error and never "there is none". Nothing here judges: what
//! the bytes mean is decided in `attest`.
//! It must never talk to a private address that the policy does not name, send credentials to
//! another host than the registry's, or write outside the folder it was given.

pub mod attached;
pub mod blob;
pub mod copy;
pub mod destination;
pub mod discover;
pub mod error;
pub mod image;
pub mod json;
pub mod layout;
pub mod manifest;
pub mod media;
pub mod network;
mod printable;
pub mod push;
pub mod reference;
pub mod registry;
pub mod resolved;
pub mod serve;
pub mod source;
mod whole_file;

pub use attest::evidence::{EvidenceKind, RawEvidence};
pub use copy::Copy;
pub use destination::Destination;
pub use discover::{Discovery, Problem, discover, discover_image};
pub use error::{Error, ErrorKind};
pub use image::{AttestationManifest, Image, IndexEntry};
pub use layout::{Layout, writer::LayoutWriter};
pub use manifest::{Descriptor, Index, Manifest};
pub use network::{HostException, NetworkPolicy};
pub use push::{
    BundlePush, Place, Pushed, Withdrawn, preflight, push_bundle, push_envelope, withdraw_bundles,
};
pub use reference::{ImageReference, LayoutTarget, Tag, Target};
pub use registry::fetch;
pub use registry::{Credentials, Deleted, Registry, SourceOptions, Tags, Timing};
pub use resolved::Resolved;
pub use source::ImageSource;
