//! Inputs of a build: found by URI, proven, kept by digest.
//!
//! Invariant: nothing leaves this module as an input that was not verified by something the policy
//! trusts (an index signature by a discovered or pinned key, or the signature inside the package).
//! "Could not be reached" and "is gone" are different answers; a mirror changes where bytes come
//! from, never what is accepted. Nothing here ever reads the published image.

mod blocking;
mod key_archive;
pub mod keys;
mod largest_first;
pub mod listed;
mod own_folder;
pub mod packages;
pub mod place;
pub mod release_list;
pub mod spool;
mod staging;
pub mod store;
mod store_error;
pub mod unpacked;
mod unpacking;

pub use key_archive::{ArchivedKey, Vouched};
pub use keys::{DiscoveredKey, Given, Keys, OtherKeys, RefusedKey};
pub use largest_first::largest_first;
pub use packages::{Gathered, PackageProof, PackageRequest};
pub use place::{Found, Origins, Places};
pub use store::ContentStore;
pub use store_error::StoreError;

use attest::{Digest, Gap, GapCode};

/// One input, as it goes into reports and observations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// Where the recipe says it is.
    pub uri: String,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Where the bytes came from.
    pub from: String,
    /// What vouches for it.
    pub verified_by: String,
}

/// Why the inputs of a build could not be had.
#[derive(Debug, thiserror::Error)]
pub enum MaterialError {
    /// Withdrawn: a verified index lacks it and no complete source has the file.
    #[error("{uri} is gone: {looked_at}")]
    Gone {
        /// Where it should be.
        uri: String,
        /// Where it was looked for.
        looked_at: String,
    },
    /// Nothing can be said: a source did not answer.
    #[error("expected to read {uri}, found: {problem}")]
    Unavailable {
        /// Where it should be.
        uri: String,
        /// What stood in the way.
        problem: String,
    },
    /// Bytes came, and nothing that the policy trusts vouches for them.
    #[error("{uri} is not vouched for: {problem}")]
    Unproven {
        /// Where it was read.
        uri: String,
        /// Why not.
        problem: String,
    },
    /// The recipe asks for something that cannot be fetched at all.
    #[error("{0}")]
    Gap(Gap),
    /// A limit on foreign data.
    #[error("{uri}: {problem}")]
    Limit {
        /// What was read.
        uri: String,
        /// Which limit.
        problem: String,
    },
    /// The content store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl MaterialError {
    /// The gap that this means for a verdict; none where nothing can be said.
    pub fn gap(&self) -> Option<Gap> {
        match self {
            Self::Gone { .. } => Some(Gap::new(GapCode::MaterialGone, self.to_string())),
            Self::Unproven { .. } => Some(Gap::new(GapCode::Keys, self.to_string())),
            Self::Limit { .. } => Some(Gap::new(GapCode::Limit, self.to_string())),
            Self::Gap(gap) => Some(gap.clone()),
            Self::Unavailable { .. } | Self::Store(_) => None,
        }
    }

    /// What a person can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Gone { .. } => Some("give a mirror that still has it (--mirror PREFIX=URL)"),
            Self::Unavailable { .. } => {
                Some("check the network, or give a mirror (--mirror PREFIX=URL)")
            }
            Self::Unproven { .. } => {
                Some("pin the repository's keys in the policy's [[package_repository]]")
            }
            Self::Gap(_) | Self::Limit { .. } | Self::Store(_) => None,
        }
    }
}
