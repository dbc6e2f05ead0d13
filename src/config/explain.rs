//! Plain-language forms of the errors of serde and the TOML parser.

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
    match nearest(unknown, names) {
        Some(name) => format!("unknown key \"{unknown}\"; did you mean \"{name}\"?"),
        None if rest.contains("`server`") => format!("unknown key \"{unknown}\"; keys belong in a section, such as [server]"),
        None => format!("unknown key \"{unknown}\""),
    }
}

/// Describes the accepted values in place of Rust's types and parsers; `None` when `message` names neither.
fn plain(message: &str) -> Option<String> {
    if message == "invalid socket address syntax" {
        return Some("must be an address and port, such as 127.0.0.1:8000".into());
    }
    if let Some(rest) = message.strip_prefix("unknown variant `") {
        let (given, known) = rest.rsplit_once("`, expected ")?;
        let known: Vec<_> = known.split('`').skip(1).step_by(2).collect();
        let hint = nearest(given, known.iter().copied()).map(|name| format!("; did you mean \"{name}\"?")).unwrap_or_default();
        return Some(format!("must be \"{}\", not \"{given}\"{hint}", known.join("\" or \"")));
    }
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "))?;
    let (given, expected) = rest.rsplit_once(", expected ")?;
    let expected = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a string" | "path string" | "string or table" => "a string",
        "a sequence" => "a list, such as [\"a\", \"b\"]",
        "socket address" => "an address and port, such as \"127.0.0.1:8000\"",
        other if other.starts_with("struct ") || other == "a map" => "a section",
        _ => return None,
    };
    let given = given.replace('`', "");
    let article = if given.starts_with("integer") { "the" } else { "a" };
    Some(match given.split_once(' ') {
        Some(("string" | "integer" | "boolean", _)) => format!("must be {expected}, not the {given}"),
        _ if given == "map" => format!("must be {expected}, not a section"),
        _ => format!("must be {expected}, not {article} {given}"),
    })
}
