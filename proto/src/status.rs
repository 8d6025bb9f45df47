//! The one mapping from what went wrong to a gRPC status.
//!
//! Invariant: a status says whether trying again can help. It must never carry a secret, and never
//! call a failure of the server the caller's fault.

use prost::Message;
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

/// Too much at once; the caller is told when to come again: in our own metadata, and as
/// `google.rpc.RetryInfo` in the status' details, which other gRPC clients read.
pub fn exhausted(why: impl std::fmt::Display, retry_after: Duration) -> Status {
    let seconds = retry_after.as_secs().max(1);
    let message = why.to_string();
    let details = retry_details(&message, seconds).into();
    let mut status = Status::with_details(Code::ResourceExhausted, message, details);
    status.metadata_mut().insert(RETRY_AFTER, MetadataValue::from(seconds));
    status
}

/// `google.rpc.Status` with one detail, as gRPC sends it in `grpc-status-details-bin`.
#[derive(Clone, PartialEq, Message)]
struct RichStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<prost_types::Duration>,
}

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

fn retry_details(message: &str, seconds: u64) -> Vec<u8> {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let retry_delay = Some(prost_types::Duration { seconds, nanos: 0 });
    let info = RetryInfo { retry_delay }.encode_to_vec();
    let details = vec![prost_types::Any { type_url: RETRY_INFO.to_owned(), value: info }];
    let code = Code::ResourceExhausted as i32;
    RichStatus { code, message: message.to_owned(), details }.encode_to_vec()
}

fn retry_info(status: &Status) -> Option<Duration> {
    let rich = RichStatus::decode(status.details()).ok()?;
    let info = rich.details.iter().find(|detail| detail.type_url == RETRY_INFO)?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    let (seconds, nanos) = (u64::try_from(delay.seconds).ok()?, u32::try_from(delay.nanos).ok()?);
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

/// Something else is away: a registry, a disk. Trying later can help.
pub fn unavailable(why: impl std::fmt::Display) -> Status {
    Status::unavailable(why.to_string())
}

/// Longest wait that a server's answer can impose: an hour. A larger one is not believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// How long the server asked to wait, if it did.
pub fn retry_after(status: &Status) -> Option<Duration> {
    let own = status.metadata().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let own = own.and_then(|text| text.parse().ok()).map(Duration::from_secs);
    own.or_else(|| retry_info(status)).map(|wait| wait.min(RETRY_AFTER_MAX))
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

    #[test]
    fn waiting_time_is_read_from_the_standard_detail_alone_and_is_bounded() {
        let ours = exhausted("queue is full", Duration::from_secs(90));
        let details = ours.details().to_vec().into();
        let foreign = Status::with_details(Code::ResourceExhausted, "busy", details);
        assert!(foreign.metadata().get(RETRY_AFTER).is_none());
        assert_eq!(retry_after(&foreign), Some(Duration::from_secs(90)));
        let long = exhausted("go away", Duration::from_secs(1 << 40));
        assert_eq!(retry_after(&long), Some(RETRY_AFTER_MAX));
        let garbage = Status::with_details(Code::Unavailable, "", vec![0xff; 9].into());
        assert_eq!(retry_after(&garbage), None);
    }
}
