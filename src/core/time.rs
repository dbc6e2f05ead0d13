//! Timestamps, in their only form on the wire and in the store.

use std::cell::Cell;
use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::Offset;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time, in UTC, with microsecond precision.
///
/// Written as RFC 3339 with six decimals and `+00:00`, for example `2026-11-22T08:15:30.000125+00:00`. Not `Z`, because
/// Python's `datetime.fromisoformat` refuses it before 3.11; always six decimals, so that texts sort as times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// 1970-01-01 00:00:00 UTC.
    #[cfg(test)]
    pub const EPOCH: Self = Self(jiff::Timestamp::UNIX_EPOCH);

    /// Returns the current time of the system clock, which can be set back: never use it to order events.
    #[inline]
    pub fn now() -> Self {
        let now = jiff::Timestamp::now();
        // Truncated to the stored precision, so that a record equals itself after a round trip through the store.
        Self(jiff::Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now))
    }

    /// Returns the time `seconds` later; the last representable time if that is out of range.
    pub fn plus_seconds(self, seconds: u64) -> Self {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(jiff::Timestamp::MAX))
    }

    /// Returns the time `age` earlier; the first representable time if that is out of range.
    pub fn minus(self, age: std::time::Duration) -> Self {
        Self(self.0.saturating_sub(age).unwrap_or(jiff::Timestamp::MIN))
    }

    /// Returns the whole milliseconds since 1970-01-01 UTC.
    pub fn unix_millis(self) -> i64 {
        self.0.as_millisecond()
    }

    /// Returns the microseconds since 1970-01-01 UTC.
    pub fn unix_micros(self) -> i64 {
        self.0.as_microsecond()
    }

    /// Returns the time `micros` microseconds after 1970-01-01 UTC; the nearest representable time if that is out of range.
    pub fn from_unix_micros(micros: i64) -> Self {
        let edge = if micros < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        Self(jiff::Timestamp::from_microsecond(micros).unwrap_or(edge))
    }

    /// Returns the whole seconds since 1970-01-01 UTC.
    pub fn unix_seconds(self) -> i64 {
        self.0.as_second()
    }

    /// Returns the calendar fields at an offset of `hours` from UTC.
    pub fn civil(self, hours: i8) -> DateTime {
        Offset::constant(hours).to_datetime(self.0)
    }

    /// Returns the start of the hour that contains this time.
    pub fn hour_start(self) -> Self {
        let seconds = self.0.as_second();
        Self(jiff::Timestamp::from_second(seconds - seconds.rem_euclid(3600)).unwrap_or(self.0))
    }
}

/// Writes `value` as exactly `width` decimal digits.
#[inline]
fn digits(out: &mut [u8], mut value: u32) {
    for byte in out.iter_mut().rev() {
        *byte = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// The length of the usual text of a timestamp, in bytes.
const TEXT_BYTES: usize = 32;

thread_local! {
    /// The second whose text a thread wrote last, and that text: of many timestamps in a row only the decimals differ.
    static LAST_SECOND: Cell<(i64, [u8; TEXT_BYTES])> = const { Cell::new((0, *b"1970-01-01T00:00:00.000000+00:00")) };
}

impl Timestamp {
    /// Calls `with` with the text.
    // Written by hand because every event has a timestamp: a general formatter costs more than the rest of a pong.
    #[inline]
    pub fn with_text<T>(self, with: impl FnOnce(&str) -> T) -> T {
        let micros = self.0.as_microsecond();
        let second = micros.div_euclid(1_000_000);
        let (last, mut text) = LAST_SECOND.get();
        if last != second {
            let t = self.civil(0);
            if !(0..=9999).contains(&t.year()) {
                return with(&self.0.to_string()); // outside RFC 3339's years; jiff writes a signed six-digit year
            }
            digits(&mut text[0..4], t.year().unsigned_abs().into());
            digits(&mut text[5..7], t.month().unsigned_abs().into());
            digits(&mut text[8..10], t.day().unsigned_abs().into());
            digits(&mut text[11..13], t.hour().unsigned_abs().into());
            digits(&mut text[14..16], t.minute().unsigned_abs().into());
            digits(&mut text[17..19], t.second().unsigned_abs().into());
            LAST_SECOND.set((second, text));
        }
        digits(&mut text[20..26], u32::try_from(micros.rem_euclid(1_000_000)).unwrap_or_default());
        with(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.write_str(text))
    }
}

impl std::str::FromStr for Timestamp {
    type Err = jiff::Error;

    /// Parses RFC 3339, with or without seconds.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_text(|text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let wrong = |_| serde::de::Error::custom("must be a date and time with an offset, such as 2026-01-31T12:00:00Z");
        text.parse().map(Self).map_err(wrong)
    }
}

/// Returns whether `text` is an ISO 8601 date-time, with or without an offset (the guide's Python client sends none).
pub fn is_iso_datetime(text: &str) -> bool {
    // A date without a time is refused, and so is a zone name in brackets, which is an addition of RFC 9557 to ISO 8601.
    let has_time = matches!(text.as_bytes().get(10), Some(b'T' | b't' | b' '));
    has_time && !text.contains('[') && (text.parse::<DateTime>().is_ok() || text.parse::<jiff::Timestamp>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64, nanos: i32) -> Timestamp {
        Timestamp(jiff::Timestamp::new(seconds, nanos).unwrap())
    }

    #[test]
    fn display_has_six_decimals_and_a_numeric_offset() {
        assert_eq!(at(0, 0).to_string(), "1970-01-01T00:00:00.000000+00:00");
        assert_eq!(at(1_795_335_330, 125_999).to_string(), "2026-11-22T08:15:30.000125+00:00");
        assert_eq!(at(951_782_400, 999_999_999).to_string(), "2000-02-29T00:00:00.999999+00:00");
        for micros in [-1, 999_999, 1_000_000, -1, -1_000_000, -1_000_001, 0, i64::MAX / 1_000] {
            let t = Timestamp::from_unix_micros(micros);
            let expected = t.civil(0).strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string();
            assert_eq!((t.to_string(), t.to_string()), (expected.clone(), expected), "{micros}");
        }
    }

    #[test]
    fn json_round_trip_keeps_microseconds() {
        let t = at(1_795_335_330, 125_000);
        let json = serde_json::to_string(&t).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), t);
    }

    #[test]
    fn arithmetic_saturates() {
        assert!(at(0, 0).plus_seconds(u64::MAX) > at(0, 0));
        assert_eq!(at(7_199, 5).hour_start(), at(3_600, 0));
        assert_eq!(at(10, 0).minus(std::time::Duration::from_secs(4)), at(6, 0));
    }

    #[test]
    fn iso_datetime_of_the_guides_clients_is_accepted_and_others_refused() {
        let good = [
            "2024-01-01T12:00:00.000Z",
            "2024-01-01T12:00:00.123456",
            "2024-01-01 12:00:00",
            "2024-01-01T12:00",
            "2024-01-01T12:00:00+08:00",
        ];
        for text in good {
            assert!(is_iso_datetime(text), "{text}");
        }
        for text in
            ["", "yesterday", "2024-01-01", "12:00:00", "2024-13-01T00:00:00", "2024-01-01T12:00:00[Asia/Shanghai]", "1700000000"]
        {
            assert!(!is_iso_datetime(text), "{text}");
        }
    }
}
