//! Which characters can do harm where text of strangers is shown.

/// Characters that can't be seen but change what a text looks like: soft hyphen, zero width, direction marks, line and paragraph
/// separators, the byte order mark. Control characters are apart: [`char::is_control`].
pub fn unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

/// Whether `text` is what it looks like: neither control nor unseen characters.
pub fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || unseen(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_is_not_plain() {
        assert!(is_plain("Ana's lamp 灯 №1 – ☃"));
        for bad in ["a\nb", "\u{1b}[2J", "a\u{202e}b", "\u{61c}", "\u{2028}", "\u{ad}", "\u{feff}x", "\u{85}"] {
            assert!(!is_plain(bad), "{bad:?}");
        }
    }
}
