//! Lines of text: time, level, target, message, the fields of the spans, the fields of the event.

use std::fmt::{self, Write};

use jiff::Timestamp;
use tracing::Level;

use super::escape::Escaped;
use super::record::{Record, Sink};

/// Writes records as lines of text, each with one call of `write`.
pub(super) struct TextLines<F> {
    /// Receives a whole line, its end included.
    pub(super) write: F,
    /// Colours the level and dims time and target.
    pub(super) colours: bool,
}

impl<F: Fn(&str) + Send + Sync + 'static> Sink for TextLines<F> {
    fn write(&self, record: &Record) {
        let mut line = String::with_capacity(128);
        // Writing to a string does not fail.
        let _ = self.format(&mut line, record, Timestamp::now());
        (self.write)(&line);
    }
}

impl<F> TextLines<F> {
    fn format(&self, line: &mut String, record: &Record, now: Timestamp) -> fmt::Result {
        let (level, target) = (record.metadata.level(), record.metadata.target());
        if self.colours {
            let colour = colour(*level);
            write!(line, "\x1b[2m{now:.6}\x1b[0m \x1b[{colour}m{level:>5}\x1b[0m \x1b[2m{target}:\x1b[0m")?;
        } else {
            write!(line, "{now:.6} {level:>5} {target}:")?;
        }
        if let Some(message) = &record.message {
            line.push(' ');
            Escaped(line).write_str(message)?;
        }
        write_fields(line, record)?;
        line.push('\n');
        Ok(())
    }
}

/// Appends ` name=value` for each field, escaped.
pub(super) fn write_fields(line: &mut String, record: &Record) -> fmt::Result {
    record.fields.iter().try_for_each(|(name, value)| write!(Escaped(line), " {name}={value}"))
}

/// The number of a level's colour (ECMA-48, `SGR`).
fn colour(level: Level) -> u8 {
    match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::text::is_invisible;
    use crate::log::tests::{BAD, Kept, logged};

    fn lines(colours: bool, events: impl FnOnce()) -> String {
        let kept = Kept::default();
        let write = kept.clone();
        logged(TextLines { write: move |line: &str| write.push(line), colours }, events);
        kept.take()
    }

    #[test]
    fn text_with_control_characters_stays_on_one_line() {
        let text = lines(false, || {
            let _span = tracing::info_span!("request", path = BAD, peer = %BAD).entered();
            tracing::info!(plain = BAD, shown = %BAD, debug = ?BAD, number = 5, "received {BAD}");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.trim_end().chars().any(|c| c.is_control() || is_invisible(c)), "{text:?}");
        let shown = "a\\u{d}\\u{a}{\"forged\":1}\\u{1b}[2J\\u{202e}b\\u{2028}c";
        assert!(text.contains(&format!("received {shown}")) && text.contains(&format!(" peer={shown}")), "{text}");
        assert!(text.contains("number=5"), "{text}");
    }

    #[test]
    fn span_fields_stand_before_those_of_the_event() {
        let text = lines(false, || {
            let outer = tracing::info_span!("conn", conn = 7, user = tracing::field::Empty).entered();
            outer.record("user", 3);
            let _inner = tracing::info_span!("request", request = "a b", kind = "inner").entered();
            tracing::warn!(target: "audit", kind = "event", "done");
            tracing::info!(parent: None, alone = true, "apart");
            tracing::info!(device = 4);
        });
        let lines: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap()).collect();
        assert_eq!(lines[0].1, " WARN audit: done conn=7 user=3 request=\"a b\" kind=\"event\"");
        assert!(lines[0].0.parse::<Timestamp>().is_ok() && lines[0].0.len() == "2026-01-02T03:04:05.000006Z".len());
        assert_eq!(lines[1].1, " INFO qy_lty::log::text::tests: apart alone=true");
        assert_eq!(lines[2].1, " INFO qy_lty::log::text::tests: conn=7 user=3 request=\"a b\" kind=\"inner\" device=4");
    }

    #[test]
    fn colours_are_written_where_they_are_wanted_only() {
        let line = || tracing::error!("failed");
        assert!(lines(true, line).contains("\x1b[31mERROR\x1b[0m \x1b[2mqy_lty::log::text::tests:\x1b[0m failed\n"));
        assert!(!lines(false, line).contains('\x1b'));
    }
}
