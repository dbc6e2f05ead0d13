//! Settings as people and programs read them: the commented default file, and what is in force.

use std::collections::BTreeMap;

use serde_json::json;
use toml::{Table, Value};

use super::{Config, Loaded};

/// Every setting with its meaning and its default.
pub const DEFAULT: &str = include_str!("default.toml");

impl Config {
    /// Every setting that has a value, by `section.key`, secrets hidden; all `[[handler]]` blocks are `handler`.
    pub(super) fn settings(&self) -> BTreeMap<String, Value> {
        fn walk(table: Table, prefix: &str, found: &mut BTreeMap<String, Value>) {
            for (key, value) in table {
                let name = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                match value {
                    Value::Table(inner) => walk(inner, &name, found),
                    value => drop(found.insert(name, value)),
                }
            }
        }
        let mut found = BTreeMap::new();
        if let Ok(table) = Table::try_from(self) {
            walk(table, "", &mut found);
        }
        found
    }
}

impl Loaded {
    /// As TOML, in the default file's order; behind each value that is not left to the default stands where it comes from.
    pub fn to_toml(&self) -> String {
        let (mut settings, mut text, mut open) = (self.config.settings(), String::new(), String::new());
        let handlers = settings.remove("handler");
        let from = |key: &str| self.sources.get(key).map(|source| format!("  # {source}")).unwrap_or_default();
        for name in documented() {
            let (Some(value), Some((section, key))) = (settings.remove(&name), name.rsplit_once('.')) else { continue };
            if open != section {
                text += &format!("{}[{section}]\n", if open.is_empty() { "" } else { "\n" });
                section.clone_into(&mut open);
            }
            text += &format!("{key} = {}{}\n", literal(&value), from(&name));
        }
        let blocks = handlers.as_ref().and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table);
        for block in blocks {
            text += &format!("\n[[handler]]{}\n", from("handler"));
            text.extend(block.iter().map(|(key, value)| format!("{key} = {}\n", literal(value))));
        }
        text
    }

    /// The same as an object: `config`, and `sources` by `section.key`.
    pub fn to_json(&self) -> serde_json::Value {
        let sources: BTreeMap<&str, String> = self.sources.iter().map(|(key, by)| (key.as_str(), by.to_string())).collect();
        json!({"config": self.config, "sources": sources})
    }
}

/// The settings of the default file in its order, those that have no default included: `section.key`.
pub(super) fn documented() -> Vec<String> {
    let (mut section, mut found) = ("", Vec::new());
    for line in DEFAULT.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim_matches(['[', ']']);
        } else if let Some(key) = key_of(line) {
            found.push(format!("{section}.{key}"));
        }
    }
    found
}

/// The key that a line without its `# ` sets.
pub(super) fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(" = ")?;
    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then_some(key)
}

/// A value on one line.
fn literal(value: &Value) -> String {
    match value {
        // JSON's strings are TOML's, but for DEL.
        Value::String(text) => json!(text).to_string().replace('\u{7f}', "\\u007f"),
        Value::Array(values) => format!("[{}]", values.iter().map(literal).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
