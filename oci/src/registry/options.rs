//! How places are opened: what a client of registries is told. A layout needs nothing of it.
//!
//! Invariant: the default speaks to public addresses over HTTPS only.

use super::{credentials::Credentials, http::Timing};
use crate::network::NetworkPolicy;

/// How sources are opened.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// Which hosts may be spoken to beyond public ones over HTTPS.
    pub network: NetworkPolicy,
    /// Where credentials for registries come from.
    pub credentials: Credentials,
    /// Timeouts and attempts.
    pub timing: Timing,
}
