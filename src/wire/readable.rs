//! The JSON that every ordinary parser reads: stricter than RFC 8259, which leaves some texts to the reader.
//!
//! A value that is passed on as it was written ([`RawValue`](serde_json::value::RawValue)) is only skipped on the way in, and reaches
//! parsers of all kinds on the way out: those of Python, JavaScript, Go, Rust, Java, C#. serde_json's skipping accepts texts that some of
//! them refuse, and these are refused here, before anything is stored. `docs/protocol.md` has the rule for people.

use std::fmt;

/// The most arrays and objects within each other. C#'s `System.Text.Json` reads 64, the least of the common parsers (serde_json 127,
/// Python about 1000, Go 10,000); an answer that lists messages has up to three around each.
pub const MAX_DEPTH: usize = 60;
/// The digits that an integer may have without a look at its size: the largest 64-bit float is 1.8e308.
const SAFE_DIGITS: usize = 308;
/// The longest piece of a text that an error quotes, in bytes.
const MAX_QUOTED_BYTES: usize = 24;

/// JSON that ordinary parsers can't read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// A `\u` escape for half a character beyond U+FFFF, at this byte (RFC 8259 section 8.2).
    LoneSurrogate(String, usize),
    /// A number whose size no 64-bit float has, at this byte (RFC 8259 section 6).
    NumberOutOfRange(String, usize),
    /// More than [`MAX_DEPTH`] arrays and objects within each other, at this byte (RFC 8259 section 9).
    TooDeep(usize),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoneSurrogate(escape, at) => {
                write!(f, "{escape} at byte {at} is half of a surrogate pair; send both halves, or the character itself")
            }
            Self::NumberOutOfRange(number, at) => {
                write!(f, "the number {number} at byte {at} is out of the range of a 64-bit float; send it as a string")
            }
            Self::TooDeep(at) => {
                write!(f, "more than {MAX_DEPTH} arrays and objects are within each other at byte {at}; send less depth")
            }
        }
    }
}

impl std::error::Error for Unreadable {}

/// Checks JSON whose values are not passed on: only for halves of characters, which are wrong wherever they stand.
///
/// # Errors
/// [`Unreadable::LoneSurrogate`].
pub fn check_escapes(text: &str) -> Result<(), Unreadable> {
    let (bytes, mut at) = (text.as_bytes(), 0);
    // In JSON, a backslash stands only in strings.
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        at = skip_escape(text, at + found)?;
    }
    Ok(())
}

/// Checks JSON for what ordinary parsers can't read, in one pass. A text that is no JSON at all may pass: whoever parses it reports
/// that.
///
/// # Errors
/// The first such place.
pub fn check_readable(text: &str) -> Result<(), Unreadable> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = skip_string(text, at)?,
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(Unreadable::TooDeep(at));
                }
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            b'0'..=b'9' => at = skip_number(text, at)?,
            _ => at += 1,
        }
    }
    Ok(())
}

/// Returns the place after the string that begins at `at`.
fn skip_string(text: &str, at: usize) -> Result<usize, Unreadable> {
    let bytes = text.as_bytes();
    let mut at = at + 1;
    loop {
        let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) else { return Ok(bytes.len()) };
        at += found;
        if bytes[at] == b'"' {
            return Ok(at + 1);
        }
        at = skip_escape(text, at)?;
    }
}

/// Returns the place after the escape that begins at `at`.
fn skip_escape(text: &str, at: usize) -> Result<usize, Unreadable> {
    let bytes = text.as_bytes();
    match escaped_unit(bytes, at) {
        // The first half, which the second must follow.
        Some(0xD800..=0xDBFF) if matches!(escaped_unit(bytes, at + 6), Some(0xDC00..=0xDFFF)) => Ok(at + 12),
        Some(0xD800..=0xDFFF) => Err(Unreadable::LoneSurrogate(text[at..at + 6].to_owned(), at)),
        Some(_) => Ok(at + 6),
        None => Ok(at + 2), // another escape
    }
}

/// Returns the UTF-16 code unit of the escape `\uXXXX` at `at`; `None` where there is none.
fn escaped_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)? as u16))
}

/// Returns the place after the number that begins at `at`, without its sign.
fn skip_number(text: &str, at: usize) -> Result<usize, Unreadable> {
    let (mut length, mut exponent) = (0, false);
    for byte in &text.as_bytes()[at..] {
        match byte {
            b'0'..=b'9' | b'.' | b'+' | b'-' => {}
            b'e' | b'E' => exponent = true,
            _ => break,
        }
        length += 1;
    }
    // Most numbers are short and have no exponent.
    let number = &text[at..at + length];
    if (exponent || length > SAFE_DIGITS) && number.parse::<f64>().is_ok_and(f64::is_infinite) {
        let quoted = if length > MAX_QUOTED_BYTES { format!("{}…", &number[..MAX_QUOTED_BYTES]) } else { number.to_owned() };
        return Err(Unreadable::NumberOutOfRange(quoted, at));
    }
    Ok(at + length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::value::RawValue;

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn what_some_parsers_refuse_is_refused() {
        for (text, place) in [
            (r#""\ud83d""#, r"\ud83d at byte 1"),
            (r#""\uDe00""#, r"\uDe00 at byte 1"),
            (r#"{"a":["x\ude00\ud83d"]}"#, r"\ude00 at byte 8"),
            (r#""\ud83d\ud83d\ude00""#, r"\ud83d at byte 1"),
            (r#""\ud83d \ude00""#, r"\ud83d at byte 1"),
            (r#""\ud83d\n""#, r"\ud83d at byte 1"),
            (r#""\ud83d\\ude00""#, r"\ud83d at byte 1"),
            (r#"{"\udfff":1}"#, r"\udfff at byte 2"),
            (r#""\\\ud83d""#, r"\ud83d at byte 3"),
            ("1e400", "number 1e400 at byte 0"),
            ("[-1E+309]", "number 1E+309 at byte 2"),
            ("1.8e308", "number 1.8e308 at byte 0"),
            (&format!("[{}]", "9".repeat(400)), "number 999999999999999999999999… at byte 1"),
            (&nested(61), "at byte 60"),
            (&format!("{}1{}", r#"{"a":"#.repeat(61), "}".repeat(61)), "at byte 300"),
        ] {
            let error = check_readable(text).unwrap_err().to_string();
            assert!(error.contains(place), "{text}: {error}");
        }
    }

    #[test]
    fn what_all_parsers_read_passes() {
        for text in [
            r#""\ud83d\ude00""#,
            r#""\uD83D\uDE00\ud83d\ude00""#,
            r#""\\ud83d""#,
            r#""\"\\\\ud83d""#,
            r#""\u0000\uffff\ud7ff\ue000""#,
            r#"{"a":"1e400","b":"[[["}"#,
            "\"😀\"",
            "1e308",
            "-1.7976931348623157e308",
            "1e-400",
            "0e999999999999",
            "18446744073709551616",
            &"9".repeat(308),
            &format!("0.{}", "1".repeat(2000)),
            &nested(60),
            &format!("[{}]", vec![nested(59); 9].join(",")),
            "",
        ] {
            assert_eq!(check_readable(text), Ok(()), "{text}");
        }
    }

    proptest! {
        /// Together with the syntax, which is checked anyway, it is as strict as reading every value.
        #[test]
        fn text_that_passes_both_checks_is_read_whole(pieces in prop::collection::vec(prop::sample::select(vec![
            "\"", "\\", "\\u", "d83d", "de00", "\\ud83d", "\\ude00", "\\u0041", "{", "}", "[", "]", "[[[[", "]]]]", ",", ":", "1", "e", "999", "-", ".",
            "1e400", "\"a\":", "true", " ", "é", "😀",
        ]), 0..12)) {
            let text = pieces.concat();
            prop_assert_eq!(is_read_whole(&text), passes(&text), "{}", text);
        }

        #[test]
        fn strings_of_any_escapes_pass_where_they_are_read(units in prop::collection::vec(prop_oneof![0xD700_u16..0xE100, any::<u16>()], 0..6)) {
            let text = format!("{{\"a\":\"{}\"}}", units.iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>());
            prop_assert_eq!(is_read_whole(&text), passes(&text), "{}", text);
            prop_assert_eq!(is_read_whole(&text), check_escapes(&text).is_ok(), "{}", text);
        }
    }

    fn passes(text: &str) -> bool {
        check_readable(text).is_ok() && serde_json::from_str::<&RawValue>(text).is_ok()
    }

    fn is_read_whole(text: &str) -> bool {
        serde_json::from_str::<Value>(text).is_ok()
    }
}
