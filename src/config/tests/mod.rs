//! Tests of the configuration, with the helpers that they share.

mod layers;
mod rendering;
mod validation;

use super::*;

/// Returns the error of an invalid file as `line: message`.
fn refused(text: &str) -> String {
    let (line, message) = Config::parse(text).unwrap_err();
    format!("{line}: {message}")
}

/// Loads layers of a file with `text`, some variables and some `--set` flags.
pub(super) fn layered(text: &str, variables: &[(&str, &str)], sets: &[&str]) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).into()));
    let flags = sets.iter().map(|set| Flag::set(set)).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let read = Layers::new(Some(path), variables, flags).read();
    read.map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

/// Returns the source of a setting, without the directory of the file; empty for a default.
fn source(loaded: &Loaded, key: &str) -> String {
    let text = loaded.sources.get(key).map(ToString::to_string).unwrap_or_default();
    text.rsplit_once('/').map_or(text.clone(), |(_, name)| name.to_owned())
}

/// Returns the default file with every commented-out setting set.
pub(super) fn uncommented() -> String {
    let bare = |line: &'static str| {
        let inner = line.strip_prefix("# ")?;
        (inner.starts_with('[') || default_file::key_of(inner).is_some()).then_some(inner)
    };
    DEFAULT.lines().map(|line| bare(line).unwrap_or(line)).collect::<Vec<_>>().join("\n")
}
