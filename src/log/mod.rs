//! The log: lines on standard error, in which no text from outside can forge a line or move the cursor, or entries of systemd's
//! journal. Output that people or programs must read goes to standard output instead.

mod bounded;
mod escape;
mod journald;
mod json;
mod record;
mod text;

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use self::bounded::Bounded;
use self::journald::Journal;
use self::json::JsonLines;
use self::record::{Records, Sink};
use self::text::TextLines;
use crate::config::{LogConfig, LogFormat, log_filter};

/// The environment variable whose filter overrides the configuration's.
const FILTER_VARIABLE: &str = "RUST_LOG";

/// The running log.
pub struct Log {
    filter: reload::Handle<Targets, Registry>,
    /// The configuration's filter, in force unless [`overridden`](Self::overridden).
    configured: String,
    /// `RUST_LOG` is in force, whatever the configuration holds.
    overridden: bool,
    bounded: Arc<Bounded>,
}

/// Starts the log of this process.
///
/// # Errors
/// A filter that can't be parsed, a journal that was asked for and can't be reached, or a log that runs already.
pub fn start(config: &LogConfig) -> anyhow::Result<Log> {
    let variable = std::env::var(FILTER_VARIABLE).ok().filter(|text| !text.is_empty());
    let (override_filter, invalid) = match variable.as_deref().map(log_filter) {
        None => (None, None),
        Some(Ok(filter)) => (Some(filter), None),
        Some(Err(error)) => (None, Some(error)),
    };
    let overridden = override_filter.is_some();
    let (filter, handle) = reload::Layer::new(override_filter.map_or_else(|| parse(&config.filter), Ok)?);
    let (bounded, unreachable) = output(config)?;
    tracing_subscriber::registry().with(filter).with(Records(bounded.clone())).try_init().context("failed to start the log")?;
    if let Some(error) = invalid {
        tracing::warn!(%error, filter = config.filter, "RUST_LOG is invalid and was ignored; log.filter is in force");
    }
    if let Some(error) = unreachable {
        tracing::warn!(%error, "failed to reach the journal; logging to standard error");
    }
    Ok(Log { filter: handle, configured: config.filter.clone(), overridden, bounded })
}

impl Log {
    /// Writes the number of lines that were left out in the minutes that are over. To be called every few seconds.
    pub fn sweep(&self) {
        self.bounded.sweep();
    }

    /// Applies a changed configuration. Does nothing but report it where `RUST_LOG` overrides the filter.
    ///
    /// # Errors
    /// A filter that can't be parsed.
    pub fn reload(&mut self, config: &LogConfig) -> anyhow::Result<()> {
        self.bounded.set(config);
        let filter = &config.filter;
        if self.configured == *filter {
            return Ok(());
        }
        filter.clone_into(&mut self.configured);
        if self.overridden {
            tracing::warn!("log.filter has changed, but RUST_LOG overrides it and stays in force");
            return Ok(());
        }
        Ok(self.filter.reload(parse(filter)?)?)
    }
}

/// Writes the number of lines that were left out since.
impl Drop for Log {
    fn drop(&mut self) {
        self.bounded.flush();
    }
}

fn parse(filter: &str) -> anyhow::Result<Targets> {
    log_filter(filter).map_err(|error| anyhow!("log.filter {error}"))
}

/// Returns the output of the configuration, and the error where it is standard error because the journal can't be reached.
fn output(config: &LogConfig) -> anyhow::Result<(Arc<Bounded>, Option<io::Error>)> {
    let of = |sink| Bounded::new(sink, config, Instant::now);
    match config.format {
        LogFormat::Text => Ok((of(text()), None)),
        LogFormat::Json => Ok((of(Box::new(JsonLines { write: to_stderr })), None)),
        LogFormat::Journald => Ok((of(journal().context("failed to reach the journal (log.format)")?), None)),
        LogFormat::Auto if !std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is_stderr(&stream)) => Ok((of(text()), None)),
        LogFormat::Auto => Ok(journal().map_or_else(|error| (of(text()), Some(error)), |journal| (of(journal), None))),
    }
}

fn text() -> Box<dyn Sink> {
    let colours = io::stderr().is_terminal() && colours_allowed(|name| std::env::var_os(name));
    Box::new(TextLines { write: to_stderr, colours })
}

fn journal() -> io::Result<Box<dyn Sink>> {
    Ok(Box::new(Journal::open()?))
}

fn to_stderr(line: &str) {
    let _ = io::stderr().lock().write_all(line.as_bytes());
}

/// Reports whether the environment allows colours on a terminal: not with a non-empty `NO_COLOR` (no-color.org), `CLICOLOR=0`
/// (bixense.com/clicolors), or a terminal that has none.
pub fn colours_allowed<T: AsRef<OsStr>>(variable: impl Fn(&str) -> Option<T>) -> bool {
    let is = |name: &str, value: &str| variable(name).is_some_and(|found| found.as_ref() == value);
    let no_color = variable("NO_COLOR").is_some_and(|value| !value.as_ref().is_empty());
    !no_color && !is("CLICOLOR", "0") && !is("TERM", "dumb")
}

/// Reports whether `stream`, the `DEVICE:INODE` in systemd's `JOURNAL_STREAM`, is standard error. Otherwise standard error has been
/// redirected since, to be read where it goes.
fn is_stderr(stream: &str) -> bool {
    let numbers = stream.split_once(':').and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    let found = rustix::fs::fstat(io::stderr()).ok().map(|stat| (stat.st_dev, stat.st_ino));
    numbers.is_some() && numbers == found
}

#[cfg(test)]
mod tests {
    use super::record::Sink;
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    /// A text that would break a line, an object or a terminal.
    pub(super) const BAD: &str = "a\r\n{\"forged\":1}\u{1b}[2J\u{202e}b\u{2028}c";

    /// Collects lines.
    #[derive(Clone, Default)]
    pub(super) struct Kept(Arc<Mutex<String>>);

    impl Kept {
        pub(super) fn push(&self, line: &str) {
            self.0.lock().push_str(line);
        }

        pub(super) fn take(&self) -> String {
            std::mem::take(&mut self.0.lock())
        }
    }

    /// Logs the events of `events` to `sink`.
    pub(super) fn logged(sink: impl Sink, events: impl FnOnce()) {
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Records(sink)), events);
    }

    #[test]
    fn journal_stream_of_standard_error_is_recognised() {
        let stat = rustix::fs::fstat(io::stderr()).unwrap();
        assert!(is_stderr(&format!("{}:{}", stat.st_dev, stat.st_ino)));
        for other in ["", ":", "8:x", &format!("{}:{}", stat.st_dev, stat.st_ino + 1), &format!("{}", stat.st_ino)] {
            assert!(!is_stderr(other), "{other}");
        }
    }

    #[test]
    fn colours_are_off_where_the_environment_forbids_them() {
        let allowed = |variables: &[(&str, &'static str)]| {
            colours_allowed(|name| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| *value))
        };
        assert!(allowed(&[]) && allowed(&[("NO_COLOR", ""), ("CLICOLOR", "1"), ("TERM", "xterm")]));
        for forbidden in [("NO_COLOR", "1"), ("NO_COLOR", "0"), ("CLICOLOR", "0"), ("TERM", "dumb")] {
            assert!(!allowed(&[forbidden]), "{forbidden:?}");
        }
    }
}
