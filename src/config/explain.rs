//! Plain-language forms of the errors of serde and the TOML parser.

use super::default_file::documented;
use crate::core::mismatch::{Format, Mismatch};
use crate::core::text::nearest;

/// Rewrites an error message of serde: names the key and, for an unknown key, the nearest valid name.
pub(super) fn explain(message: &str, key: Option<&str>) -> String {
    let message = message.trim().lines().collect::<Vec<_>>().join("; ");
    let Some(rest) = message.strip_prefix("unknown field `") else {
        let message = plain(&message).unwrap_or(message);
        return key.map_or(message.clone(), |key| format!("{key}: {message}"));
    };
    let mut names = rest.split('`').step_by(2);
    let unknown = names.next().unwrap_or_default();
    let is_outside = rest.contains("`server`");
    let is_key = || documented().iter().any(|name| name.rsplit('.').next() == Some(unknown));
    match nearest(unknown, names) {
        Some(name) if !(is_outside && is_key()) => format!("unknown key \"{unknown}\"; did you mean \"{name}\"?"),
        _ if is_outside => format!("unknown key \"{unknown}\"; keys belong in a section, such as [server]"),
        _ => format!("unknown key \"{unknown}\""),
    }
}

/// Describes the accepted values in place of Rust's types and parsers; `None` when `message` names neither.
fn plain(message: &str) -> Option<String> {
    let Mismatch { given, expected, names } = Mismatch::parse(message, Format::Toml)?;
    let expected = expected?;
    if !names.is_empty() {
        let hint = nearest(given, names).map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default();
        return Some(format!("must be {expected}, not \"{given}\"{hint}"));
    }
    let given = given.replace('`', "");
    let article = if given.starts_with("integer") { "the" } else { "a" };
    Some(match given.split_once(' ') {
        Some(("string" | "integer" | "boolean", _)) => format!("must be {expected}, not the {given}"),
        _ if given == "map" => format!("must be {expected}, not a section"),
        _ => format!("must be {expected}, not {article} {given}"),
    })
}
