//! Escaping, so that no text from outside ends a line, commands a terminal or turns the reading direction.

use std::fmt::{self, Write};

use crate::core::text::is_invisible;

/// Escapes control characters and characters that can't be seen, as `\u{…}`.
pub(super) struct Escaped<'a, W>(pub(super) &'a mut W);

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() || is_invisible(c) { write!(self.0, "{}", c.escape_unicode())? } else { self.0.write_char(c)? }
        }
        Ok(())
    }
}

/// Escapes, within JSON, the characters that JSON may hold as they are although they command terminals, break lines elsewhere or
/// turn the reading direction. None of them occurs outside of its strings.
pub(super) fn escape_json(text: String) -> String {
    let unsafe_to_show = |c: char| c == '\u{7f}' || (!c.is_ascii() && (c.is_control() || is_invisible(c)));
    if !text.contains(unsafe_to_show) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if unsafe_to_show(c) {
            escaped.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            escaped.push(c);
        }
    }
    escaped
}
