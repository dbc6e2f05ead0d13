//! Untrusted text: characters that can mislead its reader, lengths, misspelt names.

use icu_properties::CodePointSetData;
use icu_properties::props::Emoji;

use super::names::is_ignorable;

/// The longest name, serial or model, and the longest name of anything else that users name, in characters.
const MAX_TEXT_CHARS: usize = 100;

/// A text from a request that is too short, too long, or hides its content.
#[derive(Debug, thiserror::Error)]
#[error("{field} must have {min} to {max} characters, no control or invisible ones{}", remedy(*.hidden))]
pub struct TextError {
    field: String,
    min: usize,
    max: usize,
    hidden: Option<char>,
}

/// Returns the part of an error that names a character.
fn remedy(hidden: Option<char>) -> String {
    hidden.map(|c| format!("; remove U+{:04X}", u32::from(c))).unwrap_or_default()
}

/// Checks a text of at least `min` characters, where one is given; `field` names it in the error. Where something is required,
/// something must be visible.
///
/// # Errors
/// [`TextError`].
pub fn check_text(field: &str, text: Option<&str>, min: usize) -> Result<(), TextError> {
    let Some(text) = text else { return Ok(()) };
    let hidden = hidden_character(text);
    let long_enough = text.chars().count() >= min && (min == 0 || text.chars().any(|c| !is_blank(c)));
    if hidden.is_none() && long_enough && text.chars().count() <= MAX_TEXT_CHARS {
        return Ok(());
    }
    Err(TextError { field: field.to_owned(), min, max: MAX_TEXT_CHARS, hidden })
}

/// Returns the secret in a text from a variable, a file or standard input: its first line that is not empty, without its end and
/// without a byte order mark, as editors and `echo` add them. Blanks are a part of it. Every secret from outside is read by this, so that
/// one means the same wherever it is given.
pub fn secret_in(text: &str) -> &str {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.split(['\r', '\n']).find(|line| !line.is_empty()).unwrap_or_default()
}

/// Returns the name among `names` that is most similar to `given`, where one is similar at all.
pub fn nearest<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.into_iter().map(|name| (strsim::damerau_levenshtein(given, name), name)).min();
    near.filter(|&(distance, name)| distance <= name.len().max(given.len()) / 2).map(|(_, name)| name)
}

/// Returns whether `c` is invisible but may change the appearance of a text: `Default_Ignorable_Code_Point` of Unicode (zero-width
/// characters, direction marks, fillers, variation selectors, tags), noncharacters, line and paragraph separators, and the marks of
/// interlinear annotations. Control characters are not included; see [`char::is_control`].
pub fn is_invisible(c: char) -> bool {
    !c.is_ascii() && (is_ignorable(c) || matches!(c, '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}'))
}

/// Returns whether `c` takes place and shows nothing.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\u{2800}'
}

/// Returns the first character of `text` that nobody sees; `None` where the text can be shown. Within a sequence of emoji, as phones
/// type it, variation selectors and joiners are a part of what is seen: `❤️`, `👩‍💻`, `1️⃣`.
pub fn hidden_character(text: &str) -> Option<char> {
    let is_emoji = |c: char| !c.is_ascii() && CodePointSetData::new::<Emoji>().contains(c);
    let (mut before, mut emoji) = ('\0', false); // whether what is before `c` ends an emoji
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let next = rest.peek().copied();
        emoji = match c {
            '\u{fe0f}' | '\u{fe0e}' if is_emoji(before) => true,
            '\u{fe0f}' if next == Some('\u{20e3}') && matches!(before, '0'..='9' | '#' | '*') => false,
            '\u{200d}' if emoji && next.is_some_and(is_emoji) => false,
            _ if c.is_control() || is_invisible(c) => return Some(c),
            _ => is_emoji(c),
        };
        before = c;
    }
    None
}

/// Writes `text` so that everything in it can be seen: control and invisible characters as `\u{…}`.
pub fn visible(text: &str) -> String {
    let escaped = |c: char| c.is_control() || is_invisible(c);
    if hidden_character(text).is_none() {
        return text.to_owned();
    }
    text.chars().map(|c| if escaped(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_a_line_without_its_end() {
        for text in ["a b", "a b\n", "a b\r\n", "a b\r", "\u{feff}a b\n", "a b\n\n\n", "\n\r\na b", "a b\nsecond line\n"] {
            assert_eq!(secret_in(text), "a b", "{text:?}");
        }
        for (text, secret) in [(" a \n", " a "), ("a\t\n", "a\t"), ("a\u{feff}\n", "a\u{feff}"), (" \n", " ")] {
            assert_eq!(secret_in(text), secret, "blanks are a part of it: {text:?}");
        }
        for text in ["", "\n", "\r\n\r\n", "\u{feff}", "\u{feff}\n"] {
            assert_eq!(secret_in(text), "", "{text:?}");
        }
    }

    #[test]
    fn no_text_has_a_character_that_nobody_sees() {
        for good in [
            "Ana's lamp 灯 №1 – ☃",
            "❤\u{fe0f}",
            "👩\u{200d}💻 x",
            "👩🏽\u{200d}❤\u{fe0f}\u{200d}👩",
            "1\u{fe0f}\u{20e3}",
            "🇩🇪",
            "👍🏽",
        ] {
            assert!(check_text("name", Some(good), 1).is_ok(), "{good:?}");
            assert_eq!(visible(good), good);
        }
        let hidden = [
            "a\nb",
            "\u{1b}[2J",
            "a\u{202e}b",
            "\u{61c}",
            "\u{2028}",
            "\u{ad}",
            "\u{feff}x",
            "\u{85}",
            "a\u{3164}",
            "\u{115f}",
            "\u{ffa0}",
            "a\u{fe0f}",
            "1\u{fe0f}",
            "👩\u{200d}",
            "👩\u{200d}a",
            "a\u{200d}💻",
            "❤\u{fe0f}\u{fe0f}",
            "\u{1f3f4}\u{e0067}\u{e007f}",
            "\u{e0100}",
            "\u{34f}",
            "\u{17b4}",
            "\u{180b}",
            "\u{1d173}",
            "\u{fff9}",
            "\u{ffff}",
            "می\u{200c}خواهم",
        ];
        for bad in hidden {
            let error = check_text("name", Some(bad), 1).unwrap_err().to_string();
            assert!(error.starts_with("name must have 1 to 100 characters") && error.contains("; remove U+"), "{bad:?}: {error}");
            assert!(!visible(bad).chars().any(|c| c.is_control() || is_invisible(c)), "{bad:?}");
        }
        for nothing in ["", " ", "\u{a0}\u{3000}", "\u{2800}", &"x".repeat(101)] {
            assert!(check_text("name", Some(nothing), 1).is_err(), "{nothing:?}");
        }
        assert!(check_text("model", Some(""), 0).is_ok() && check_text("model", None, 1).is_ok());
    }

    #[test]
    fn every_ignorable_character_is_invisible_and_alone_refused() {
        // The ranges of DerivedCoreProperties.txt, by which the property is known to be what is meant.
        let ranges = [
            0xad..=0xad,
            0x34f..=0x34f,
            0x61c..=0x61c,
            0x115f..=0x1160,
            0x17b4..=0x17b5,
            0x180b..=0x180f,
            0x200b..=0x200f,
            0x202a..=0x202e,
            0x2060..=0x206f,
            0x3164..=0x3164,
            0xfe00..=0xfe0f,
            0xfeff..=0xfeff,
            0xffa0..=0xffa0,
            0xfff0..=0xfff8,
            0x1bca0..=0x1bca3,
            0x1d173..=0x1d17a,
            0xe0000..=0xe0fff_u32,
        ];
        for c in ranges.into_iter().flatten().filter_map(char::from_u32) {
            assert!(is_invisible(c) && check_text("x", Some(&format!("a{c}b")), 1).is_err(), "{c:?}");
        }
    }
}
