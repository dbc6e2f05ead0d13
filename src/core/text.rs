//! Characters that can mislead the reader of untrusted text.

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
