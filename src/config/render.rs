//! Output of the settings in force, as TOML and as JSON.

use std::collections::BTreeMap;

use serde_json::json;
use toml::Value;

use super::Loaded;
use super::default_file::documented;

impl Loaded {
    /// Returns the settings as TOML, in the order of the default file. Each value that is not a default is followed by its
    /// source.
    pub fn to_toml(&self) -> String {
        let (mut settings, mut text, mut open) = (self.config.flatten(), String::new(), String::new());
        let handlers = settings.remove("handler");
        let source = |key: &str| self.sources.get(key).map(|source| format!("  # {source}")).unwrap_or_default();
        for name in documented() {
            let (Some(value), Some((section, key))) = (settings.remove(&name), name.rsplit_once('.')) else { continue };
            if open != section {
                text += &format!("{}[{section}]\n", if open.is_empty() { "" } else { "\n" });
                section.clone_into(&mut open);
            }
            text += &format!("{key} = {}{}\n", literal(&value), source(&name));
        }
        let blocks = handlers.as_ref().and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table);
        for block in blocks {
            text += &format!("\n[[handler]]{}\n", source("handler"));
            text.extend(block.iter().map(|(key, value)| format!("{key} = {}\n", literal(value))));
        }
        text
    }

    /// Returns the settings as a JSON object: `config`, and `sources` by `section.key`.
    pub fn to_json(&self) -> serde_json::Value {
        let sources: BTreeMap<&str, String> =
            self.sources.iter().map(|(key, source)| (key.as_str(), source.to_string())).collect();
        json!({"config": self.config, "sources": sources})
    }
}

/// Formats a value on one line.
fn literal(value: &Value) -> String {
    match value {
        // A JSON string is a TOML string, except for DEL.
        Value::String(text) => json!(text).to_string().replace('\u{7f}', "\\u007f"),
        Value::Array(values) => format!("[{}]", values.iter().map(literal).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}
