//! Seconds since 1970 to RFC 3339 text and back, as Go writes and reads it. No clock.
//!
//! Invariant: `parse(&format(t)?)? == t` for every second of the years 0 to 9999, and every other
//! second is an error, as is a date that does not exist. The calendar is the proleptic Gregorian
//! one; leap seconds do not exist, as in Go.

/// The first second of year 0 and the last of year 9999: Go's JSON and RFC 3339 end there.
const SECOND_MIN: i64 = -62_167_219_200;
const SECOND_MAX: i64 = 253_402_300_799;

const SECONDS_IN_DAY: i64 = 86_400;
/// Days in 400 years: 400 * 365 + 97 leap days.
const DAYS_IN_ERA: i64 = 146_097;
/// Days from 1 March of year 0 to 1 January 1970.
const DAYS_TO_EPOCH: i64 = 719_468;

/// Why a time could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    /// Beyond what RFC 3339 can say.
    #[error("expected a time in the years 0 to 9999, found {seconds} seconds since 1970")]
    OutOfRange {
        /// Seconds since 1970.
        seconds: i64,
    },
    /// Not the text of a time.
    #[error("expected a time such as 2006-01-02T15:04:05Z or …+07:00, found {found:?}")]
    Malformed {
        /// The text, or its beginning.
        found: String,
    },
    /// No such day, hour, minute, second or offset.
    #[error("expected a time that exists, found {found:?}")]
    NoSuchTime {
        /// The text.
        found: String,
    },
}

/// `YYYY-MM-DDTHH:MM:SSZ`, as Go formats a whole second in UTC with `time.RFC3339`.
pub fn format(seconds: i64) -> Result<String, TimeError> {
    if !(SECOND_MIN..=SECOND_MAX).contains(&seconds) {
        return Err(TimeError::OutOfRange { seconds });
    }
    let (year, month, day) = date_of(seconds.div_euclid(SECONDS_IN_DAY));
    let second = seconds.rem_euclid(SECONDS_IN_DAY);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    Ok(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

/// Reads RFC 3339 with `Z` or a numeric offset. A fraction of a second is accepted when it is zero:
/// Go would keep it, and nothing here could.
pub fn parse(text: &str) -> Result<i64, TimeError> {
    let malformed = || TimeError::Malformed { found: text.chars().take(64).collect() };
    let absent = || TimeError::NoSuchTime { found: text.to_owned() };
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', rest @ ..] = text.as_bytes() else {
        return Err(malformed());
    };
    let [h1, h2, b':', n1, n2, b':', s1, s2, zone @ ..] = rest else {
        return Err(malformed());
    };
    let pair = |high: &u8, low: &u8| Some(digit(*high)? * 10 + digit(*low)?);
    let numbers = || {
        let year = pair(y1, y2)? * 100 + pair(y3, y4)?;
        Some([year, pair(m1, m2)?, pair(d1, d2)?, pair(h1, h2)?, pair(n1, n2)?, pair(s1, s2)?])
    };
    let [year, month, day, hour, minute, second] = numbers().ok_or_else(malformed)?;
    let offset = match without_fraction(zone).ok_or_else(malformed)? {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', n1, n2] => {
            let hours = pair(h1, h2).ok_or_else(malformed)?;
            let minutes = pair(n1, n2).ok_or_else(malformed)?;
            if hours > 24 || minutes > 60 {
                return Err(absent());
            }
            (hours * 3600 + minutes * 60) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return Err(malformed()),
    };
    let exists = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !exists {
        return Err(absent());
    }
    let days = days_before(year, month, day);
    let seconds = days * SECONDS_IN_DAY + hour * 3600 + minute * 60 + second - offset;
    if !(SECOND_MIN..=SECOND_MAX).contains(&seconds) {
        return Err(TimeError::OutOfRange { seconds });
    }
    Ok(seconds)
}

fn digit(byte: u8) -> Option<i64> {
    byte.is_ascii_digit().then(|| i64::from(byte - b'0'))
}

/// Takes `.000…` off; a fraction that is not zero is no match.
fn without_fraction(zone: &[u8]) -> Option<&[u8]> {
    let [b'.', digits @ ..] = zone else { return Some(zone) };
    let zeros = digits.iter().take_while(|&&byte| byte == b'0').count();
    (zeros > 0).then(|| &digits[zeros..])
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970 to a date. Years are counted from March, so that a leap day ends one.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_IN_ERA + day_of_era - DAYS_TO_EPOCH
}

/// The date of a day counted from 1970: the inverse of [`days_before`].
fn date_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + DAYS_TO_EPOCH;
    let era = shifted.div_euclid(DAYS_IN_ERA);
    let day_of_era = shifted.rem_euclid(DAYS_IN_ERA);
    let leaps = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
    let year_of_era = (day_of_era - leaps) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}
