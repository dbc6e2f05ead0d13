//! Untrusted text: characters that can mislead its reader, lengths, misspelt names.

/// The longest name, serial or model, and the longest name of anything else that users name, in characters.
const MAX_TEXT_CHARS: usize = 100;

/// A text from a request that is too short, too long, or hides its content.
#[derive(Debug, thiserror::Error)]
#[error("{field} must have {min} to {MAX_TEXT_CHARS} characters, no control or invisible ones")]
pub struct TextError {
    field: String,
    min: usize,
}

/// Checks a text of at least `min` characters, where one is given; `field` names it in the error.
///
/// # Errors
/// [`TextError`].
pub fn check_text(field: &str, text: Option<&str>, min: usize) -> Result<(), TextError> {
    match text {
        Some(text) if !(min..=MAX_TEXT_CHARS).contains(&text.chars().count()) || !is_plain(text) => {
            Err(TextError { field: field.to_owned(), min })
        }
        _ => Ok(()),
    }
}

/// Returns the name among `names` that is most similar to `given`, where one is similar at all.
pub fn nearest<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.into_iter().map(|name| (strsim::damerau_levenshtein(given, name), name)).min();
    near.filter(|&(distance, name)| distance <= name.len().max(given.len()) / 2).map(|(_, name)| name)
}

/// Returns whether `c` is invisible but changes the appearance of a text: soft hyphen, zero-width characters, direction marks, line
/// and paragraph separators, the byte order mark. Control characters are not included; see [`char::is_control`].
pub fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

/// Returns whether `text` contains neither control nor invisible characters.
pub fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || is_invisible(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_control_or_invisible_characters_is_not_plain() {
        assert!(is_plain("Ana's lamp 灯 №1 – ☃"));
        for bad in ["a\nb", "\u{1b}[2J", "a\u{202e}b", "\u{61c}", "\u{2028}", "\u{ad}", "\u{feff}x", "\u{85}"] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }
}
