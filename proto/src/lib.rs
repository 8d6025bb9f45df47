//! The gRPC contract (`assay/v1/*.proto`), its generated code, and the one place where messages
//! become domain types.
//!
//! Invariant: whatever comes out of [`convert`] is valid; nothing behind this boundary checks the
//! form of a digest, a name or a fence again. It must never drop a field that it does not know how
//! to check: a message that does not convert is refused with what was expected and found.

pub mod convert;
pub mod status;

/// Generated from `assay/v1/*.proto`.
#[allow(missing_docs, clippy::all, clippy::doc_markdown, unused_qualifications)]
pub mod v1 {
    tonic::include_proto!("assay.v1");
}

/// The descriptor set, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/assay_v1.bin"));

/// Largest gRPC message either side takes: an evidence set of one subject with 64 observations and
/// an SBOM in the publisher's evidence stays under 32 MiB.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;
