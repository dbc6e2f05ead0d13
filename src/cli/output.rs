//! The output of commands: tables and sentences for people, JSON for programs.

use std::io::{self, Write};

use anyhow::Context;
use serde_json::Value;

use crate::core::text::visible;

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
        let cells = rows.iter().map(|row| columns.iter().map(|(_, field)| text(&row[*field])).collect::<Vec<_>>());
        let titles = columns.iter().map(|(title, _)| (*title).to_owned()).collect::<Vec<_>>();
        let all: Vec<Vec<String>> = std::iter::once(titles).chain(cells).collect();
        let widths: Vec<usize> =
            (0..columns.len()).map(|n| all.iter().map(|row| row[n].chars().count()).max().unwrap_or(0)).collect();
        for row in all {
            let padded = row.iter().zip(&widths).map(|(cell, width)| {
                let blanks = width - cell.chars().count();
                format!("{cell}{}", " ".repeat(blanks))
            });
            self.line(padded.collect::<Vec<_>>().join("  ").trim_end())?;
        }
        Ok(())
    }

    /// Writes an object, a field a line; fields that are null are left out.
    pub(super) fn fields(self, object: &Value, fields: &[Column]) -> anyhow::Result<()> {
        if self.json {
            return self.line(&object.to_string());
        }
        let width = fields.iter().map(|(title, _)| title.chars().count()).max().unwrap_or(0);
        for (title, field) in fields.iter().filter(|(_, field)| !object[*field].is_null()) {
            self.line(&format!("{title:width$}  {}", text(&object[*field])))?;
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

/// Formats a value for people. Control characters, which could move the cursor, and characters that nobody would see are escaped.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) => visible(text),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// Formats a number of bytes for people.
pub(super) fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut size = count as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{size:.1} {}", units[unit]) }
}

/// Formats a number of things for people: `1 message`, `2 messages`.
pub(super) fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_formatted_for_people() {
        assert_eq!(text(&json!([1, 2])), "1,2");
        assert_eq!(
            (text(&json!(null)), text(&json!(true)), text(&json!("a\u{1b}[2J"))),
            ("-".into(), "yes".into(), "a\\u{1b}[2J".into())
        );
        assert_eq!((bytes(5), bytes(1536), bytes(3 << 30)), ("5 B".into(), "1.5 KiB".into(), "3.0 GiB".into()));
        assert_eq!((count(0, "x"), count(1, "x"), count(2, "x")), ("0 xs".into(), "1 x".into(), "2 xs".into()));
    }
}
