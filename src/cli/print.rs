//! What commands print: tables and sentences for people, JSON for programs.

use std::io::{self, Write};

use serde_json::Value;

/// Prints to standard output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Printer {
    json: bool,
}

/// Whoever reads what is printed has read enough, as `head` does: an end, and no failure.
#[derive(Debug, thiserror::Error)]
#[error("nobody reads any more")]
pub(super) struct Enough;

/// A column of a table: its title, and the field that it shows.
pub(super) type Column = (&'static str, &'static str);

impl Printer {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a program reads it.
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// `data` for programs, `text` for people.
    pub(super) fn done(self, data: &Value, text: &str) -> anyhow::Result<()> {
        self.line(&if self.json { data.to_string() } else { text.to_owned() })
    }

    /// A list of objects.
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

    /// An object, a field a line.
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

    /// One line, as it is.
    pub(super) fn line(self, line: &str) -> anyhow::Result<()> {
        match writeln!(io::stdout().lock(), "{line}") {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Enough.into()),
            other => Ok(other?),
        }
    }
}

/// A value as people read it. Names are not what they look like where they could move the cursor.
fn text(value: &Value) -> String {
    let shown = match value {
        Value::Null => "-".into(),
        Value::Bool(true) => "yes".into(),
        Value::Bool(false) => "no".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    };
    shown.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Bytes as people read them.
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_for_people() {
        assert_eq!(text(&json!([1, 2])), "1,2");
        assert_eq!(
            (text(&json!(null)), text(&json!(true)), text(&json!("a\u{1b}[2J"))),
            ("-".into(), "yes".into(), "a\u{fffd}[2J".into())
        );
        assert_eq!((bytes(5), bytes(1536), bytes(3 << 30)), ("5 B".into(), "1.5 KiB".into(), "3.0 GiB".into()));
    }
}
