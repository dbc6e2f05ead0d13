//! The log: lines on standard error, in which nothing from outside can forge a line or move the cursor, or entries of the
//! journal. What has to be read by people or programs goes to standard output instead.

mod journald;

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};

use anyhow::{Context, anyhow};
use tracing::field::Field;
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{self, Writer};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use self::journald::Journal;
use crate::config::{LogConfig, LogFormat, log_filter};
use crate::core::text::is_invisible;

/// Says what is logged, over the configuration.
const ASKED: &str = "RUST_LOG";

/// A filter that can be changed, and whatever writes what it lets through.
type Filtered = Layered<reload::Layer<Targets, Registry>, Registry>;
type Output = Box<dyn Layer<Filtered> + Send + Sync>;

/// The running log.
pub struct Log {
    filter: reload::Handle<Targets, Registry>,
    /// What the configuration says.
    configured: String,
    /// `RUST_LOG` says what is logged, whatever the configuration says.
    asked: bool,
}

/// Starts it.
pub fn start(config: &LogConfig) -> anyhow::Result<Log> {
    let asked = std::env::var(ASKED).ok().filter(|text| !text.is_empty());
    let (asked_for, wrong) = match asked.as_deref().map(log_filter) {
        None => (None, None),
        Some(Ok(filter)) => (Some(filter), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let obeyed = asked_for.is_some();
    let (filter, handle) = reload::Layer::new(asked_for.map_or_else(|| configured(&config.filter), Ok)?);
    let (output, trouble) = output(config.format)?;
    tracing_subscriber::registry().with(filter).with(output).try_init().context("the log could not be started")?;
    if let Some(error) = wrong {
        tracing::warn!(%error, usual = config.filter, "RUST_LOG can't be read; the usual is logged");
    }
    if let Some(error) = trouble {
        tracing::warn!(%error, "the journal can't be reached; the log goes to standard error");
    }
    Ok(Log { filter: handle, configured: config.filter.clone(), asked: obeyed })
}

impl Log {
    /// From now on logs what `filter` says.
    pub fn filter(&mut self, filter: &str) -> anyhow::Result<()> {
        if self.configured == filter {
            return Ok(());
        }
        filter.clone_into(&mut self.configured);
        if self.asked {
            tracing::warn!("RUST_LOG comes before log.filter, and stays");
            return Ok(());
        }
        Ok(self.filter.reload(configured(filter)?)?)
    }
}

fn configured(filter: &str) -> anyhow::Result<Targets> {
    log_filter(filter).map_err(|error| anyhow!("log.filter {error}"))
}

/// Who writes; and why it is not the journal, where it should have been.
fn output(format: LogFormat) -> anyhow::Result<(Output, Option<io::Error>)> {
    match format {
        LogFormat::Text => Ok((text(), None)),
        LogFormat::Json => Ok((json(), None)),
        LogFormat::Journald => Ok((journal().context("the journal can't be reached (log.format)")?, None)),
        LogFormat::Auto if !std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is_stderr(&stream)) => Ok((text(), None)),
        LogFormat::Auto => Ok(journal().map_or_else(|error| (text(), Some(error)), |journal| (journal, None))),
    }
}

/// Lines for people.
fn text() -> Output {
    let colours = io::stderr().is_terminal();
    Box::new(tracing_subscriber::fmt::layer().fmt_fields(fields()).with_writer(io::stderr).with_ansi(colours))
}

/// One object a line: `timestamp`, `level`, `target`, `message`, and the fields beside them.
fn json() -> Output {
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false).with_span_list(false);
    Box::new(lines.with_writer(|| Plain(io::stderr())))
}

/// Entries of systemd's journal.
fn journal() -> io::Result<Output> {
    Ok(Box::new(Journal::open()?))
}

/// Whether `stream`, as systemd gives it in `JOURNAL_STREAM`, is standard error: device and inode of what it has connected there.
/// Else somebody has redirected it since, and wants to read it where it goes.
fn is_stderr(stream: &str) -> bool {
    let numbers = stream.split_once(':').and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    let found = rustix::fs::fstat(io::stderr()).ok().map(|stat| (stat.st_dev, stat.st_ino));
    numbers.is_some() && numbers == found
}

/// Escapes, within JSON, the characters that it may hold as they are although they command terminals, break lines elsewhere or
/// turn the reading direction. None of them occurs outside of its strings.
struct Plain<W>(W);

impl<W: io::Write> io::Write for Plain<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let bad = |c: char| c == '\u{7f}' || (!c.is_ascii() && (c.is_control() || is_invisible(c)));
        if !text.contains(bad) {
            return self.0.write_all(line).map(|()| line.len());
        }
        let mut plain = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            match bad(c) {
                true => plain.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}"))),
                false => plain.push(c),
            }
        }
        self.0.write_all(plain.as_bytes()).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
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
pub struct Escaped<'a, W>(pub &'a mut W);

impl<W: fmt::Write> fmt::Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if c.is_control() || is_invisible(c) { write!(self.0, "{}", c.escape_unicode())? } else { self.0.write_char(c)? }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert!(!text.trim_end().chars().any(|c| c.is_control() || is_invisible(c)), "{text:?}");
        assert!(text.contains("said a\\u{d}\\u{a}INFO forged\\u{1b}[2J\\u{202e}b\\u{2028}c"), "{text}");
        assert!(text.contains("number=5"), "{text}");
    }

    #[test]
    fn nothing_from_outside_makes_an_object() {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines = tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(move || Plain(writer.clone()));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), || {
            let bad = "a\r\n{\"forged\":1}\u{1b}[2J\u{202e}b\u{2028}c\u{9b}d\u{7f}\u{e0041}é";
            tracing::warn!(target: "audit", plain = bad, shown = %bad, debug = ?bad, number = 5, "said {bad}");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(text.ends_with('\n') && text.lines().count() == 1, "{text}");
        assert!(!text.trim_end().chars().any(|c| c.is_control() || is_invisible(c)), "{text:?}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["target"], &line["number"]), (&"WARN".into(), &"audit".into(), &5.into()));
        assert!(line["message"].as_str().unwrap().ends_with("\u{2028}c\u{9b}d\u{7f}\u{e0041}é"), "{line}");
        assert!(line["timestamp"].is_string() && line["plain"].as_str().unwrap().starts_with("a\r\n{\"forged\""));
        assert!(line.get("forged").is_none());
    }

    #[test]
    fn the_journal_is_where_systemd_says() {
        let stat = rustix::fs::fstat(io::stderr()).unwrap();
        assert!(is_stderr(&format!("{}:{}", stat.st_dev, stat.st_ino)));
        for other in ["", ":", "8:x", &format!("{}:{}", stat.st_dev, stat.st_ino + 1), &format!("{}", stat.st_ino)] {
            assert!(!is_stderr(other), "{other}");
        }
    }
}
