//! Values that serde refuses, in plain words: serde names the types of Rust.

/// The format that a value is written in, with its own words for types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON: objects.
    Json,
    /// TOML: sections; integers end at 2⁶³ - 1.
    Toml,
}

/// A value of the wrong type or outside its range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch<'a> {
    /// The given value as serde writes it, such as ``integer `5` ``; of an unknown name, the name alone.
    pub given: &'a str,
    /// The accepted values, such as `true or false`; `None` where this module has no words for the type.
    pub expected: Option<String>,
    /// The accepted names, where only some names are.
    pub names: Vec<&'a str>,
}

impl<'a> Mismatch<'a> {
    /// Parses an error message of serde; `None` where it is about something else than a value.
    pub fn parse(message: &'a str, format: Format) -> Option<Self> {
        // The accepted values stand last: the given one may contain the same words.
        let halves = |rest: &'a str| rest.rsplit_once(", expected ").unwrap_or((rest, ""));
        if let Some(rest) = message.strip_prefix("unknown variant ") {
            let (given, expected) = halves(rest);
            let names: Vec<_> = expected.split('`').skip(1).step_by(2).collect();
            let expected = (!names.is_empty()).then(|| format!("\"{}\"", names.join("\" or \"")));
            return Some(Self { given: given.trim_matches('`'), expected, names });
        }
        let (given, expected) = match message.strip_prefix("invalid length ") {
            // A list for a struct: serde reads its elements as the fields.
            Some(rest) => ("sequence", halves(rest).1),
            None => halves(message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?),
        };
        // A quantity has its words already.
        let own = expected.starts_with(OWN_WORDS).then_some(expected);
        Some(Self { given, expected: own.or_else(|| words(expected, format)).map(str::to_owned), names: Vec::new() })
    }
}

/// The beginning of expectations that are written for people.
const OWN_WORDS: &str = "a whole number of ";

/// Returns the words for a type, as serde names it.
fn words(expected: &str, format: Format) -> Option<&'static str> {
    Some(match (expected, format) {
        ("u8", _) => "a whole number from 0 to 255",
        ("u16", _) => "a whole number from 0 to 65535",
        ("u32", _) => "a whole number from 0 to 4294967295",
        ("u64" | "usize", Format::Json) => "a whole number from 0 to 18446744073709551615",
        ("u64" | "usize", Format::Toml) => "a whole number from 0",
        ("i8" | "i16" | "i32" | "i64" | "isize", _) => "a whole number",
        ("f32" | "f64", _) => "a number",
        ("a boolean", _) => "true or false",
        ("a string" | "path string" | "string or table", _) => "a string",
        ("a sequence", Format::Json) => "a list",
        ("a sequence", Format::Toml) => "a list, such as [\"a\", \"b\"]",
        ("socket address", _) => "an address and port, such as \"127.0.0.1:8000\", \"localhost:8000\" or \":8000\"",
        (other, _) if other != "a map" && !other.starts_with("struct ") => return None,
        (_, Format::Json) => "an object",
        (_, Format::Toml) => "a section",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_of_serde_is_split_into_given_and_accepted_values() {
        for (message, given, expected) in [
            ("invalid type: string \"a, expected b\", expected a boolean", "string \"a, expected b\"", Some("true or false")),
            ("invalid value: integer `-5`, expected u64", "integer `-5`", Some("a whole number from 0 to 18446744073709551615")),
            ("invalid length 0, expected struct Entry with 3 elements", "sequence", Some("an object")),
            ("invalid type: null, expected struct Entry", "null", Some("an object")),
            ("invalid type: null, expected unit", "null", None),
            ("invalid type: null", "null", None),
            ("unknown variant `a`, expected `b` or `c`", "a", Some("\"b\" or \"c\"")),
            ("unknown variant `a`, expected one of `b`, `c`, `d`", "a", Some("\"b\" or \"c\" or \"d\"")),
            ("unknown variant `a`, there are no variants", "a`, there are no variants", None),
        ] {
            let mismatch = Mismatch::parse(message, Format::Json).unwrap();
            assert_eq!((mismatch.given, mismatch.expected.as_deref()), (given, expected), "{message}");
        }
        assert_eq!(Mismatch::parse("missing field `name`", Format::Json), None);
    }
}
