//! The commented default file, and the settings that it documents.

/// Every setting with its description and its default.
#[cfg(feature = "cluster")]
pub const DEFAULT: &str = concat!(include_str!("default.toml"), include_str!("default_cluster.toml"));
/// Every setting with its description and its default.
#[cfg(not(feature = "cluster"))]
pub const DEFAULT: &str = include_str!("default.toml");

/// Returns the settings of the default file as `section.key`, in file order, including those without a default.
pub(super) fn documented() -> Vec<String> {
    let (mut section, mut names) = ("", Vec::new());
    for line in DEFAULT.lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim_matches(['[', ']']);
        } else if let Some(key) = key_of(line) {
            names.push(format!("{section}.{key}"));
        }
    }
    names
}

/// Returns the key that a line, without its leading `# `, sets.
pub(super) fn key_of(line: &str) -> Option<&str> {
    let (key, _) = line.split_once(" = ")?;
    key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then_some(key)
}
