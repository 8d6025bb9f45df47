//! What people sign and what it means: digests, names, envelopes, statements, recipes,
//! observations, policies and verdicts.
//!
//! Invariant: everything here is a pure function of its arguments. No network, no files, no clock,
//! no async runtime; bytes that are hashed or signed are kept as bytes and never written again.
//! It must never decide anything from an unsigned byte, and never turn "unknown" into "good".

mod ambiguous_keys;
mod base64_text;
pub mod bundle;
pub mod bundle_write;
pub mod canonical;
pub mod digest;
pub mod dsse;
pub mod evidence;
pub mod evidence_set;
pub mod gap;
pub mod id;
pub mod image_manifest;
pub mod key;
pub mod level;
pub mod name;
pub mod observation;
pub mod policy;
pub mod provenance;
pub mod recipe;
pub mod record;
pub mod statement;
pub mod time;
pub mod trust;
pub mod verdict;
mod verified;
pub mod vsa;

pub use digest::Digest;
pub use gap::{Gap, GapCode};
pub use level::Level;
pub use name::{Platform, Repository, Subject};
