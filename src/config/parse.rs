//! TOML text and the lines on which its settings stand.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Config;
use super::explain::explain;
use super::validate::SettingPath;

impl Config {
    /// Parses and validates TOML text.
    ///
    /// # Errors
    /// The line, counted from 1, and the problem there.
    pub(crate) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let config = deserialize(text)?;
        config.validate().map_err(|invalid| {
            let (path, message) = invalid.report(|path| line_of(text, path).is_some());
            (nearest_line(text, path), message)
        })?;
        Ok(config)
    }
}

/// Deserializes TOML text without validating the values.
///
/// # Errors
/// The line, counted from 1, and the problem there.
pub(super) fn deserialize(text: &str) -> Result<Config, (usize, String)> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| line_at(text, span.start));
        (line, explain(error.message(), key_on(text, line)))
    })
}

/// Returns the line, counted from 1, that holds byte `offset`.
fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&b| b == b'\n').count() + 1
}

/// Returns the line on which a setting is set; `None` when the text does not set it.
pub(super) fn line_of(text: &str, path: SettingPath) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let value = section_of(&table, path)?.get_ref().get(path.key)?;
    Some(line_at(text, value.span().start))
}

/// Returns the line on which a setting is set, else the line of its section, else 1.
pub(super) fn nearest_line(text: &str, path: SettingPath) -> usize {
    let section = || {
        let table = DeTable::parse(text).ok()?;
        Some(line_at(text, section_of(&table, path)?.span().start))
    };
    line_of(text, path).or_else(section).unwrap_or(1)
}

fn section_of<'t, 'i>(table: &'t Spanned<DeTable<'i>>, path: SettingPath) -> Option<&'t Spanned<DeValue<'i>>> {
    let mut keys = path.section.split('.');
    let first = table.get_ref().get(keys.next()?)?;
    let section = keys.try_fold(first, |value, key| value.get_ref().get(key))?;
    if section.get_ref().is_array() { section.get_ref().get(path.block) } else { Some(section) }
}

/// Returns the key that is set on a line, if any.
fn key_on(text: &str, line: usize) -> Option<&str> {
    text.lines().nth(line - 1)?.split_once('=').map(|(key, _)| key.trim())
}

/// Returns the line, counted from 1, of every key that `text` sets, by `section.key`.
pub(super) fn lines(text: &str) -> BTreeMap<String, usize> {
    fn walk(text: &str, table: &DeTable<'_>, prefix: &str, lines: &mut BTreeMap<String, usize>) {
        for (key, value) in table {
            let name = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
            match value.get_ref() {
                DeValue::Table(inner) => walk(text, inner, &name, lines),
                _ => drop(lines.insert(name, line_at(text, key.span().start))),
            }
        }
    }
    let mut lines = BTreeMap::new();
    if let Ok(table) = DeTable::parse(text) {
        walk(text, table.get_ref(), "", &mut lines);
    }
    lines
}
