//! Output of the settings in force, as TOML and as JSON.

use std::collections::BTreeMap;

use serde_json::json;
use toml::Value;

use super::Loaded;
use super::default_file::documented;
use super::secret::HIDDEN;

impl Loaded {
    /// Returns the settings as TOML, in the order of the default file. Each value that is not a default is followed by its
    /// source.
    pub fn to_toml(&self) -> String {
        let (mut settings, mut text, mut open) = (self.config.flatten(), String::new(), String::new());
        for (name, value) in &mut settings {
            hide_in_urls(name, value);
        }
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
        let mut config = json!(self.config);
        hide_in_json("", &mut config);
        json!({"config": config, "sources": sources})
    }
}

/// Hides the secrets in the URLs of a setting.
pub(super) fn hide_in_urls(name: &str, value: &mut Value) {
    match value {
        Value::String(text) => *text = without_secrets(name, text),
        Value::Array(values) => values.iter_mut().for_each(|value| hide_in_urls(name, value)),
        Value::Table(table) => table.iter_mut().for_each(|(key, value)| hide_in_urls(key, value)),
        _ => {}
    }
}

/// Hides the secrets in the URLs of a setting.
fn hide_in_json(name: &str, value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = without_secrets(name, text),
        serde_json::Value::Array(values) => values.iter_mut().for_each(|value| hide_in_json(name, value)),
        serde_json::Value::Object(fields) => fields.iter_mut().for_each(|(key, value)| hide_in_json(key, value)),
        _ => {}
    }
}

/// Returns a text without user name, password, query and fragment, where it is a URL. Settings whose names end in `url` or `host` are,
/// with or without a scheme; of others, those with one.
fn without_secrets(name: &str, text: &str) -> String {
    let is_url = name.ends_with("url") || name.ends_with("host") || (text.contains("://") && !text.contains(char::is_whitespace));
    if !is_url {
        return text.to_owned();
    }
    let (address, mark) = match text.find(['?', '#']) {
        Some(at) if at + 1 < text.len() => (&text[..at], &text[at..=at]),
        _ => (text, ""),
    };
    let (scheme, rest) = address.split_once("://").map_or(("", address), |(scheme, rest)| (&address[..scheme.len() + 3], rest));
    let end = rest.find('/').unwrap_or(rest.len());
    let shown = match rest[..end].rfind('@') {
        Some(at) => format!("{HIDDEN}{}", &rest[at..]),
        None => rest.to_owned(),
    };
    format!("{scheme}{shown}{mark}{}", if mark.is_empty() { "" } else { HIDDEN })
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
