//! The one mapping from what went wrong to a gRPC status.
//!
//! Invariant: a status says whether trying again can help. It must never carry a secret, and never
//! call a failure of the server the caller's fault.

use std::time::Duration;
use tonic::{Code, Status, metadata::MetadataValue};

/// Metadata key of the seconds to wait before trying again.
pub const RETRY_AFTER: &str = "retry-after-seconds";

/// A message that does not say what it should.
pub fn malformed(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

/// Nothing by that name here.
pub fn missing(what: impl std::fmt::Display) -> Status {
    Status::not_found(what.to_string())
}

/// The caller may not do this.
pub fn refused(why: impl std::fmt::Display) -> Status {
    Status::permission_denied(why.to_string())
}

/// The state of the thing does not allow it (a stale fence, an ended lease).
pub fn precondition(why: impl std::fmt::Display) -> Status {
    Status::failed_precondition(why.to_string())
}

/// Too much at once; the caller is told when to come again.
pub fn exhausted(why: impl std::fmt::Display, retry_after: Duration) -> Status {
    let mut status = Status::resource_exhausted(why.to_string());
    let seconds = MetadataValue::from(retry_after.as_secs().max(1));
    status.metadata_mut().insert(RETRY_AFTER, seconds);
    status
}

/// Something else is away: a registry, a disk. Trying later can help.
pub fn unavailable(why: impl std::fmt::Display) -> Status {
    Status::unavailable(why.to_string())
}

/// How long the server asked to wait, if it did.
pub fn retry_after(status: &Status) -> Option<Duration> {
    let text = status.metadata().get(RETRY_AFTER)?.to_str().ok()?;
    text.parse().ok().map(Duration::from_secs)
}

/// True when the same call may succeed later without anything being changed.
pub fn is_transient(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_time_travels() {
        let status = exhausted("queue is full", Duration::from_secs(7));
        assert_eq!(retry_after(&status), Some(Duration::from_secs(7)));
        assert!(is_transient(&status) && !is_transient(&malformed("x")));
    }
}
