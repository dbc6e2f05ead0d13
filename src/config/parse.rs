//! TOML text: its settings, the problems of those that can't be used, and the lines on which they stand.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, ValueDeserializer};
use toml::{Spanned, Table, Value};

use super::Config;
use super::explain::explain;
use super::validate::{InvalidSetting, SettingPath};

/// The most problems that are looked for.
const MAX_PROBLEMS: usize = 100;

/// The name of the blocks of custom message types, the only list of tables.
const BLOCKS: &str = "handler";

/// The required keys of such a block, with values that are accepted: the other keys are read beside them.
const REQUIRED_IN_BLOCK: [(&str, &str); 2] = [("type", "x"), ("url", "http://x")];

impl Config {
    /// Parses and validates TOML text.
    ///
    /// # Errors
    /// The line of the first problem, counted from 1, and the problem.
    pub(crate) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let parsed = parse(text);
        if let Some(problem) = parsed.problems.first() {
            return Err(problem.clone());
        }
        let config = Self::from_table(&parsed.table).map_err(|error| (1, explain(error.message(), None)))?;
        let problems = config.validate();
        match problems.iter().map(|invalid| parsed.locate(text, invalid)).min() {
            None => Ok(config),
            Some(first) => Err(first),
        }
    }

    /// Reads settings whose places in a text are not known. By way of text: a second deserializer, that of tables, would take 100 KB of the
    /// program.
    pub(super) fn from_table(table: &Table) -> Result<Self, toml::de::Error> {
        toml::from_str(&table.to_string())
    }
}

/// The content of a text.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The settings that can be used.
    pub(super) table: Table,
    /// The problems of the others, with their lines, counted from 1; in the order of the lines.
    pub(super) problems: Vec<(usize, String)>,
    /// The others, by `section.key`.
    pub(super) unusable: BTreeSet<String>,
    /// True where the text is not TOML: nothing of it can be used.
    pub(super) broken: bool,
    /// The places in the text of the blocks that can be used.
    blocks: Vec<usize>,
}

impl Parsed {
    /// Returns the line and the text of a problem with the values of the settings.
    pub(super) fn locate(&self, text: &str, invalid: &InvalidSetting) -> (usize, String) {
        let (path, message) = invalid.report(|path| line_of(text, self.in_text(path)).is_some());
        (nearest_line(text, self.in_text(path)), message)
    }

    /// Returns a path with the place of its block in the text.
    fn in_text(&self, path: SettingPath) -> SettingPath {
        SettingPath { block: self.blocks.get(path.block).copied().unwrap_or(path.block), ..path }
    }
}

/// Parses TOML text, setting by setting, so that one that can't be used does not hide the next. Values are not validated.
pub(super) fn parse(text: &str) -> Parsed {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut found = Parsed { broken: !errors.is_empty(), ..Parsed::default() };
    if found.broken {
        found.problems.extend(errors.iter().map(|error| problem(text, error, None)));
    } else {
        let mut reader = Reader { text, path: Vec::new(), found };
        reader.section(document.get_ref());
        found = reader.found;
    }
    found.problems.sort_by_key(|(line, _)| *line);
    if found.broken {
        found.problems.dedup_by_key(|(line, _)| *line); // the parser goes on, and may stumble over the same again
    }
    found
}

/// Returns the line of an error, counted from 1, and its words; those of a broken text name the key on the line.
fn problem(text: &str, error: &toml::de::Error, key: Option<&str>) -> (usize, String) {
    let line = error.span().map_or(1, |span| line_at(text, span.start));
    (line, explain(error.message(), key.or_else(|| key_on(text, line))))
}

/// A key in the text.
type Key<'i> = Spanned<Cow<'i, str>>;

/// Reads the settings of a text.
struct Reader<'i> {
    text: &'i str,
    /// The sections around the present one.
    path: Vec<Key<'i>>,
    found: Parsed,
}

impl<'i> Reader<'i> {
    /// Reads the settings of a section, and the sections in it.
    fn section(&mut self, table: &DeTable<'i>) {
        for (key, value) in table {
            if self.found.problems.len() >= MAX_PROBLEMS {
                return;
            }
            self.path.push(key.clone());
            match value.get_ref() {
                DeValue::Table(inner) => {
                    let empty = Spanned::new(value.span(), DeValue::Table(DeTable::new()));
                    if self.accepts(empty) {
                        self.insert(Table::new().into());
                        self.section(inner);
                    }
                }
                DeValue::Array(blocks) if self.path.len() == 1 && name_of(key) == BLOCKS && blocks.iter().all(is_table) => {
                    self.blocks(key, blocks);
                }
                _ => self.setting(value),
            }
            self.path.pop();
        }
    }

    /// Reads one setting.
    fn setting(&mut self, value: &Spanned<DeValue<'i>>) {
        if self.accepts(value.clone())
            && let Ok(value) = Value::deserialize(ValueDeserializer::from(value.clone()))
        {
            self.insert(value);
        }
    }

    /// Reads the blocks, each key by itself.
    fn blocks(&mut self, name: &Key<'i>, blocks: &[Spanned<DeValue<'i>>]) {
        let mut usable = Vec::new();
        for (n, block) in blocks.iter().enumerate() {
            let DeValue::Table(table) = block.get_ref() else { continue };
            let before = self.found.problems.len();
            for (key, value) in table {
                let mut probe = DeTable::new();
                for (required, example) in REQUIRED_IN_BLOCK {
                    probe.insert(unplaced(required.into()), unplaced(DeValue::String(example.into())));
                }
                probe.remove(name_of(key));
                probe.insert(key.clone(), value.clone());
                self.try_block(name, Spanned::new(block.span(), DeValue::Table(probe)), Some(name_of(key)));
            }
            if self.found.problems.len() == before {
                self.try_block(name, block.clone(), None); // something may be missing
            }
            if self.found.problems.len() == before
                && let Ok(value) = Value::deserialize(ValueDeserializer::from(block.clone()))
            {
                usable.push(value);
                self.found.blocks.push(n);
            }
        }
        self.insert(Value::Array(usable));
    }

    /// Notes the problem of a block, if it has one; `key` is the one that is tried.
    fn try_block(&mut self, name: &Key<'i>, block: Spanned<DeValue<'i>>, key: Option<&str>) {
        let (mut root, mut blocks, span) = (DeTable::new(), DeArray::new(), block.span());
        blocks.push(block);
        root.insert(name.clone(), Spanned::new(span, DeValue::Array(blocks)));
        if let Err(error) = Config::deserialize(Deserializer::from(unplaced(root))) {
            self.found.problems.push(problem(self.text, &error, key));
        }
    }

    /// Returns whether the setting at the present path accepts `value`, and notes the problem where not.
    fn accepts(&mut self, value: Spanned<DeValue<'i>>) -> bool {
        let nested = self.path.iter().rev().fold(value, |value, key| {
            let mut table = DeTable::new();
            let span = value.span();
            table.insert(key.clone(), value);
            Spanned::new(span, DeValue::Table(table))
        });
        let DeValue::Table(root) = nested.into_inner() else { return false };
        let Err(error) = Config::deserialize(Deserializer::from(unplaced(root))) else { return true };
        let key = self.path.last().map(|key| name_of(key).to_owned());
        self.found.problems.push(problem(self.text, &error, key.as_deref()));
        self.found.unusable.insert(self.names().join("."));
        false
    }

    /// Inserts the value of the setting, or the section, at the present path.
    fn insert(&mut self, value: Value) {
        let names = self.names();
        insert(&mut self.found.table, &names, value);
    }

    fn names(&self) -> Vec<String> {
        self.path.iter().map(|key| name_of(key).to_owned()).collect()
    }
}

/// Returns the name of a key.
fn name_of<'k>(key: &'k Key<'_>) -> &'k str {
    key.get_ref()
}

/// Returns whether a value is a table.
fn is_table(value: &Spanned<DeValue<'_>>) -> bool {
    value.get_ref().is_table()
}

/// Returns something that does not stand in the text.
fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// Inserts `value` at `path`, and creates the sections on the way.
pub(super) fn insert(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => drop(table.insert(key.clone(), value)),
        [section, rest @ ..] => {
            let inner = table.entry(section.clone()).or_insert_with(|| Table::new().into());
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// Returns the line, counted from 1, that holds byte `offset`.
fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&b| b == b'\n').count() + 1
}

/// Returns the line on which a setting is set; `None` when the text does not set it.
fn line_of(text: &str, path: SettingPath) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let value = section_of(&table, path)?.get_ref().get(path.key)?;
    Some(line_at(text, value.span().start))
}

/// Returns the line on which a setting is set, else the line of its section, else 1.
fn nearest_line(text: &str, path: SettingPath) -> usize {
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
