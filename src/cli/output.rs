//! The output of commands: tables and sentences for people, JSON for programs.

use std::io::{self, Write};

use anyhow::Context;
use serde_json::Value;

use super::people;
pub(super) use super::people::{bytes, count};
use super::people::{duration, padded, whole_time, width};
use crate::core::text::visible;
use crate::core::time::Timestamp;

/// Writes to standard output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
}

/// The reader of standard output has closed it, as `head` does. It ends a command and is no failure.
#[derive(Debug, thiserror::Error)]
#[error("standard output was closed")]
pub(super) struct ReaderClosed;

/// The server has made the change, and its reply can't be read: no failure either.
#[derive(Debug, thiserror::Error)]
#[error("done, but the server's reply can't be read; see what it has with the command that lists it")]
pub(super) struct ReplyUnreadable;

/// Writes a note to standard error, where that can be written to.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "qy-lty: {text}");
}

/// Notes that what has been done can't be shown.
pub(super) fn done_although(shown: anyhow::Result<()>) {
    if let Err(error) = shown
        && !error.is::<ReaderClosed>()
    {
        note(&format!("done, but the result can't be shown: {error:#}"));
    }
}

/// A column of a table: its title, and the name of its field.
pub(super) type Column = (&'static str, &'static str);

impl Output {
    /// For programs where `json`, else for people.
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Reports whether the output is JSON.
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// Writes the result of a command that has changed something: `data` for programs, `text` for people. Where that can't be written,
    /// the change has been made all the same: a note on standard error says so, and the command has not failed, or it would be
    /// repeated.
    pub(super) fn done(self, data: &Value, text: &str) -> anyhow::Result<()> {
        let line = if self.json { data.to_string() } else { text.split('\n').map(visible).collect::<Vec<_>>().join("\n") };
        done_although(self.line(&line));
        Ok(())
    }

    /// Writes a list of objects; `none` is the text for people where it is empty.
    pub(super) fn table(self, rows: &[Value], columns: &[Column], none: &str) -> anyhow::Result<()> {
        if self.json {
            return self.line(&Value::from(rows.to_vec()).to_string());
        }
        if rows.is_empty() {
            return self.line(none);
        }
        let now = Timestamp::now();
        let cells = rows.iter().map(|row| columns.iter().map(|(_, field)| cell(field, &row[*field], now)).collect::<Vec<_>>());
        let titles = columns.iter().map(|(title, _)| (*title).to_owned()).collect::<Vec<_>>();
        let all: Vec<Vec<String>> = std::iter::once(titles).chain(cells).collect();
        let widths: Vec<usize> = (0..columns.len()).map(|n| all.iter().map(|row| width(&row[n])).max().unwrap_or(0)).collect();
        for row in all {
            let cells = row.iter().zip(&widths).map(|(cell, width)| padded(cell, *width));
            self.line(cells.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    /// Writes an object, a field a line; fields that are null are left out.
    pub(super) fn fields(self, object: &Value, fields: &[Column]) -> anyhow::Result<()> {
        if self.json {
            return self.line(&object.to_string());
        }
        let (columns, now) = (fields.iter().map(|(title, _)| width(title)).max().unwrap_or(0), Timestamp::now());
        for (title, field) in fields.iter().filter(|(_, field)| !object[*field].is_null()) {
            let value = match time(field, &object[*field]) {
                Some(time) => whole_time(time, now),
                None => cell(field, &object[*field], now),
            };
            self.line(&format!("{}  {value}", padded(title, columns)))?;
        }
        Ok(())
    }

    /// Writes one line, unchanged.
    pub(super) fn line(self, line: &str) -> anyhow::Result<()> {
        self.text(&format!("{line}\n"))
    }

    /// Writes text, unchanged.
    pub(super) fn text(self, text: &str) -> anyhow::Result<()> {
        match io::stdout().lock().write_all(text.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ReaderClosed.into()),
            outcome => outcome.context("failed to write to standard output"),
        }
    }
}

/// Returns the time in a field, where the field is one of a time.
fn time(field: &str, value: &Value) -> Option<Timestamp> {
    let named = field.ends_with("_at") || matches!(field, "at" | "oldest" | "last_seen" | "last_connected");
    value.as_str().filter(|_| named)?.parse().ok()
}

/// Formats the value of a field for people: times by their distance from `now`, sizes with units.
fn cell(field: &str, value: &Value, now: Timestamp) -> String {
    match value.as_u64() {
        Some(size) if field == "bytes" || field.ends_with("_bytes") => bytes(size),
        Some(seconds) if field.ends_with("_seconds") => duration(seconds),
        _ => time(field, value).map_or_else(|| text(value), |time| people::distance(time, now)),
    }
}

/// Formats a value for people. Control characters, which could move the cursor, and characters that nobody would see are escaped.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) => visible(text),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_formatted_for_people() {
        assert_eq!(text(&json!([1, 2])), "1, 2");
        assert_eq!(
            (text(&json!(null)), text(&json!(true)), text(&json!("a\u{1b}[2J"))),
            ("-".into(), "yes".into(), "a\\u{1b}[2J".into())
        );
    }

    #[test]
    fn times_and_sizes_are_formatted_by_the_name_of_their_field() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let cell = |field: &str, value: Value| cell(field, &value, now);
        assert_eq!(cell("created_at", json!("2026-01-31T11:57:00.000000+00:00")), "3 min ago");
        assert_eq!(cell("last_seen", json!("2026-01-31T11:57:00Z")), "3 min ago");
        assert_eq!(cell("name", json!("2026-01-31T11:57:00Z")), "2026-01-31T11:57:00Z", "a name is no time");
        assert_eq!((cell("oldest", json!(null)), cell("at", json!("never"))), ("-".into(), "never".into()));
        assert_eq!(
            (cell("bytes", json!(1536)), cell("store_bytes", json!(5)), cell("id", json!(1536))),
            ("1.5 KiB".into(), "5 B".into(), "1536".into())
        );
        assert_eq!(cell("uptime_seconds", json!(12_000)), "3 h 20 min");
    }
}
