//! The origins of configured values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

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
pub type Sources = BTreeMap<String, Source>;

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
            Self::Credential(name) => write!(f, "credential {name}"),
        }
    }
}

impl Source {
    /// Returns the name of the layer.
    pub(super) fn layer(&self) -> &'static str {
        match self {
            Self::File(..) => "file",
            Self::Variable(_) | Self::Credential(_) => "environment",
            Self::Flag(_) => "flag",
        }
    }
}

/// The origins of the settings that a server runs with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The file, where one was read.
    pub file: Option<PathBuf>,
    /// The sources of the values that are not defaults.
    pub(super) sources: Sources,
    /// Settings that were changed since, and take effect after a restart.
    pub(super) pending: BTreeSet<String>,
}

impl Provenance {
    /// The origins of settings that have just been read from `file`, if any, and the other layers.
    pub fn new(file: Option<&Path>, sources: Sources) -> Self {
        Self { file: file.map(Path::to_owned), sources, pending: BTreeSet::new() }
    }

    /// Notes that `section.key` was taken from the environment variable `name`.
    pub fn set_by_variable(&mut self, key: &str, name: &str) {
        self.sources.insert(key.into(), Source::Variable(name.into()));
    }

    /// Returns the origins after a reload from `new`: settings that wait for a `restart` are in force as they were.
    #[must_use]
    pub fn reloaded(&self, mut new: Self, restart: &[String]) -> Self {
        for key in restart {
            match self.sources.get(key) {
                Some(source) => drop(new.sources.insert(key.clone(), source.clone())),
                None => drop(new.sources.remove(key)),
            }
        }
        new.pending = restart.iter().cloned().collect();
        new
    }
}
