//! The origins of configured values.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// The origin of a value. Displays in a form that can be searched for: `config.toml:7`, a variable, a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A line of the file, counted from 1.
    File(PathBuf, usize),
    /// An environment variable.
    Variable(String),
    /// A flag, with the key where that is part of it.
    Flag(String),
    /// A systemd credential.
    Credential(String),
}

/// Origins by `section.key`; all `[[handler]]` blocks are the one entry `handler`.
pub(super) type Sources = BTreeMap<String, Source>;

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
            Self::Credential(name) => write!(f, "credential {name}"),
        }
    }
}
