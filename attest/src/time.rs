//! Moments as whole seconds since 1970 (UTC), written as RFC 3339 with `Z`.
//!
//! Invariant: nothing here reads a clock; the caller brings the time. Years 0000 to 9999 only.

use crate::name::serde_as_text;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A moment, in seconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// A time could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected a time like 2026-11-23T12:00:00Z (RFC 3339, years 0000 to 9999), found {0:?}")]
pub struct TimeError(pub String);

impl Timestamp {
    /// From seconds since 1970; an error outside the years 0000 to 9999.
    pub fn from_unix(seconds: i64) -> Result<Self, TimeError> {
        let year = OffsetDateTime::from_unix_timestamp(seconds).map(OffsetDateTime::year);
        match year {
            Ok(0..=9999) => Ok(Self(seconds)),
            _ => Err(TimeError(seconds.to_string())),
        }
    }

    /// Seconds since 1970.
    pub const fn unix(self) -> i64 {
        self.0
    }

    /// Seconds from `earlier` to this moment; negative when `earlier` is later.
    pub const fn seconds_since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = OffsetDateTime::from_unix_timestamp(self.0).map_err(|_| fmt::Error)?;
        f.write_str(&moment.format(&Rfc3339).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Timestamp {
    type Err = TimeError;

    /// Fractions of a second are cut; any offset is accepted and turned into UTC.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let bad = || TimeError(text.chars().take(64).collect());
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| bad())?;
        Self::from_unix(moment.unix_timestamp()).map_err(|_| bad())
    }
}

serde_as_text!(Timestamp);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let t: Timestamp = "2026-01-01T11:06:40Z".parse().unwrap();
        assert_eq!(t.to_string(), "2026-01-01T11:06:40Z");
        assert_eq!("2026-01-01T12:06:40.9+01:00".parse::<Timestamp>().unwrap(), t);
        assert!("yesterday".parse::<Timestamp>().is_err());
        assert!(Timestamp::from_unix(i64::MAX).is_err());
    }
}
