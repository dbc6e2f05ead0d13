//! The log: lines on standard error, in which nothing from outside can forge a line or move the cursor.

use std::fmt::{self, Write as _};
use std::io::IsTerminal;

use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{self, Writer};

use crate::wire::text::unseen;

/// What is logged unless `RUST_LOG` says otherwise: our own words and the audit trail, and only warnings of others.
const LOG: &str = "warn,qy_lty=info,audit=info";

/// Starts it. What has to be read by people or programs goes to standard output; logs go to standard error.
pub(super) fn start() {
    let asked = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|text| !text.is_empty());
    let filter = asked.as_deref().map(EnvFilter::try_new);
    let wrong = matches!(filter, Some(Err(_)));
    let filter = filter.and_then(Result::ok).unwrap_or_else(|| EnvFilter::new(LOG));
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    log.fmt_fields(fields()).init();
    if wrong {
        tracing::warn!(RUST_LOG = asked, usual = LOG, "RUST_LOG can't be read; the usual is logged");
    }
}

/// Writes fields as `name=value` and the message as it is, every value escaped.
fn fields() -> impl for<'w> FormatFields<'w> + Send + Sync + 'static {
    format::debug_fn(|out: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        if field.name() != "message" {
            write!(out, "{}=", field.name())?;
        }
        write!(Escaped(out), "{value:?}")
    })
    .delimited(" ")
}

/// Escapes what could end the line, command the terminal, or turn the reading direction.
struct Escaped<'a, W>(&'a mut W);

impl<W: fmt::Write> fmt::Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() || unseen(c) { write!(self.0, "{}", c.escape_unicode())? } else { self.0.write_char(c)? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_from_outside_makes_a_line() {
        let kept = Kept::default();
        let writer = kept.clone();
        let log = tracing_subscriber::fmt().fmt_fields(fields()).with_ansi(false).without_time();
        tracing::subscriber::with_default(log.with_writer(move || writer.clone()).finish(), || {
            let bad = "a\r\nINFO forged\x1b[2J\u{202e}b\u{2028}c";
            tracing::info!(plain = bad, shown = %bad, debug = ?bad, number = 5, "said {bad}");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(!text.trim_end().chars().any(|c| c.is_control() || unseen(c)), "{text:?}");
        assert!(text.contains("said a\\u{d}\\u{a}INFO forged\\u{1b}[2J\\u{202e}b\\u{2028}c"), "{text}");
        assert!(text.contains("number=5"), "{text}");
    }
}
