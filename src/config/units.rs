//! Durations and sizes with units: `"90s"`, `"7d"`, `"16MB"`. A plain number is in the unit that the setting documents.

use std::fmt;

use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// A kind of quantity.
struct Quantity {
    /// The unit of plain numbers.
    plain: &'static str,
    /// The name of a text with a unit, with examples.
    forms: &'static str,
    /// The units, in lower case, with the number of plain units in each.
    units: &'static [(&'static str, u64)],
}

/// Durations in seconds.
static SECONDS: Quantity = Quantity {
    plain: "seconds",
    forms: "a duration such as \"90s\", \"15m\", \"12h\", \"7d\" or \"2w\"",
    units: &[("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)],
};

/// Durations in days.
static DAYS: Quantity = Quantity { plain: "days", forms: "a duration such as \"30d\" or \"4w\"", units: &[("d", 1), ("w", 7)] };

/// Sizes in bytes.
static BYTES: Quantity = Quantity {
    plain: "bytes",
    forms: "a size such as \"512KiB\", \"16MiB\", \"2GiB\" or, in powers of ten, \"16MB\"",
    units: &[
        ("b", 1),
        ("kb", 1000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
    ],
};

/// A text that is no quantity.
#[derive(Debug, PartialEq, Eq)]
enum Problem {
    /// It is written otherwise: no unit, an unknown one, a fraction, a sign.
    Form,
    /// It is more than can be counted.
    TooLarge,
}

impl Quantity {
    /// Parses a whole number and a unit, with blanks around them or not.
    fn parse(&self, text: &str) -> Result<u64, Problem> {
        let text = text.trim();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start().to_ascii_lowercase();
        let (_, factor) = self.units.iter().find(|(name, _)| *name == unit).ok_or(Problem::Form)?;
        if number.is_empty() {
            return Err(Problem::Form);
        }
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor)).ok_or(Problem::TooLarge)
    }

    /// Returns the error for a text that is more than `most`.
    fn too_large(&self, text: &str, most: u64) -> String {
        format!("\"{text}\" is too large: must be at most {most} {}", self.plain)
    }
}

/// Reads a quantity of at most `most`.
struct Reader {
    quantity: &'static Quantity,
    most: u64,
}

impl Visitor<'_> for Reader {
    type Value = u64;

    // In the words of the reply: see `core::mismatch`.
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = if self.most > u64::from(u32::MAX) { String::new() } else { format!(" up to {}", self.most) };
        write!(f, "a whole number of {}{bound}, or {}", self.quantity.plain, self.quantity.forms)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<u64, E> {
        let valid = u64::try_from(value).ok().filter(|&value| value <= self.most);
        valid.ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<u64, E> {
        if value <= self.most { Ok(value) } else { Err(E::invalid_value(Unexpected::Unsigned(value), &self)) }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
        match self.quantity.parse(text) {
            Ok(value) if value <= self.most => Ok(value),
            Err(Problem::Form) => Err(E::invalid_value(Unexpected::Str(text), &self)),
            Ok(_) | Err(Problem::TooLarge) => Err(E::custom(self.quantity.too_large(text, self.most))),
        }
    }
}

/// A type of settings that are quantities.
pub(super) trait Count: Sized {
    /// The largest number in it that TOML can write.
    const MOST: u64;
    /// Converts a number of at most [`MOST`](Self::MOST).
    fn of(number: u64) -> Self;
}

/// Implements [`Count`] for integers.
macro_rules! count {
    ($($type:ty, $most:expr);+) => {
        $(impl Count for $type {
            const MOST: u64 = $most;
            fn of(number: u64) -> Self {
                Self::try_from(number).unwrap_or(Self::MAX)
            }
        })+
    };
}

count! {
    u32, u32::MAX as u64;
    u64, i64::MAX as u64;
    usize, if usize::BITS < 64 { usize::MAX as u64 } else { i64::MAX as u64 }
}

impl<T: Count> Count for Option<T> {
    const MOST: u64 = T::MOST;
    fn of(number: u64) -> Self {
        Some(T::of(number))
    }
}

/// Reads a quantity.
fn read<'de, D: Deserializer<'de>, T: Count>(deserializer: D, quantity: &'static Quantity) -> Result<T, D::Error> {
    deserializer.deserialize_any(Reader { quantity, most: T::MOST }).map(T::of)
}

/// Reads a duration in seconds.
pub(super) fn seconds<'de, D: Deserializer<'de>, T: Count>(deserializer: D) -> Result<T, D::Error> {
    read(deserializer, &SECONDS)
}

/// Reads a duration in days.
pub(super) fn days<'de, D: Deserializer<'de>, T: Count>(deserializer: D) -> Result<T, D::Error> {
    read(deserializer, &DAYS)
}

/// Reads a size in bytes.
pub(super) fn bytes<'de, D: Deserializer<'de>, T: Count>(deserializer: D) -> Result<T, D::Error> {
    read(deserializer, &BYTES)
}

/// Parses a duration of the command line: a whole number of seconds, or a number with a unit.
///
/// # Errors
/// The accepted forms, or the largest value.
pub fn parse_seconds(text: &str) -> Result<u64, String> {
    if let Ok(seconds) = text.trim().parse() {
        return Ok(seconds);
    }
    SECONDS.parse(text).map_err(|problem| match problem {
        Problem::Form => format!("must be a whole number of seconds, or {}", SECONDS.forms),
        Problem::TooLarge => SECONDS.too_large(text, u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_unit_are_a_quantity() {
        for (text, seconds) in
            [("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600), (" 7 D ", 604_800), ("0s", 0)]
        {
            assert_eq!((SECONDS.parse(text), parse_seconds(text)), (Ok(seconds), Ok(seconds)), "{text}");
        }
        for (text, bytes) in [
            ("1B", 1),
            ("16MB", 16_000_000),
            ("16MiB", 16 << 20),
            ("16 mib", 16 << 20),
            ("64kB", 64_000),
            ("1GiB", 1 << 30),
            ("2TB", 2_000_000_000_000),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(BYTES.parse(text), Ok(bytes), "{text}");
        }
        assert_eq!((DAYS.parse("30d"), DAYS.parse("4w")), (Ok(30), Ok(28)));
        assert_eq!(parse_seconds("3600"), Ok(3600));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "s", "90", "1.5h", "1h30m", "-5s", "+5s", "5 s s", "5ms", "5y", "5MB", "٣s", "0x5s"] {
            assert_eq!(SECONDS.parse(text), Err(Problem::Form), "{text}");
        }
        for text in ["16", "16M", "16Mb/s", "1.5MB", "16Mi", "7d"] {
            assert_eq!(BYTES.parse(text), Err(Problem::Form), "{text}");
        }
        assert_eq!(DAYS.parse("48h"), Err(Problem::Form));
        for text in ["18446744073709551616s", "18446744073709551615w"] {
            assert_eq!(SECONDS.parse(text), Err(Problem::TooLarge), "{text}");
        }
        assert!(parse_seconds("soon").unwrap_err().contains("\"90s\""));
        assert!(parse_seconds("18446744073709551615w").unwrap_err().contains("too large"));
    }
}
