//! The layers: defaults, file, environment, flags, in rising order, and where each value comes from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Deserialize;
use toml::{Table, Value};

use super::explain::explain;
use super::validate::Complaint;
use super::{Config, ConfigError, credentials, env, line_at, line_near, line_of, typed};

/// What names of settings in the environment begin with; behind it stand section and key, with `__` between them.
pub(super) const PREFIX: &str = "QY_LTY__";
/// Names the file where no flag does.
pub(super) const FILE: &str = "QY_LTY_CONFIG";
/// How large the file may be, in bytes; the default one, which says everything, has some 10,000.
const MOST_BYTES: u64 = 1 << 20;

/// How deep settings lie: `weather.qweather.host`. What is deeper is not even looked for: it would be, by recursion.
const DEPTH: usize = 3;

/// Where a value comes from. Prints as what one would look for: `config.toml:7`, a variable, a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A line of the file, from 1.
    File(PathBuf, usize),
    /// A variable of the environment.
    Variable(String),
    /// A flag, with the key where that is part of it.
    Flag(String),
    /// One of systemd's credentials.
    Credential(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
            Self::Credential(name) => write!(f, "the credential {name}"),
        }
    }
}

/// A setting given as a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    name: String,
    key: String,
    value: String,
    /// The value is text, whatever it looks like.
    literal: bool,
}

impl Flag {
    /// A flag `name` of its own for `key`, such as `--listen`; its value is taken as it stands.
    pub fn short(name: &str, key: &str, value: String) -> Self {
        Self { name: name.into(), key: key.into(), value, literal: true }
    }

    /// `SECTION.KEY=VALUE`, as `--set` has it.
    ///
    /// # Errors
    /// Where it has no such form.
    pub fn set(text: &str) -> Result<Self, ConfigError> {
        let parts = text.split_once('=').map(|(key, value)| (key.trim(), value));
        let (key, value) = parts.filter(|(key, _)| !key.is_empty()).ok_or_else(|| ConfigError::Setting {
            by: format!("--set {text}"),
            what: "must be SECTION.KEY=VALUE, such as limits.ping_seconds=20".into(),
        })?;
        Ok(Self { name: format!("--set {key}"), key: key.into(), value: value.into(), literal: false })
    }
}

/// All layers, as often as one likes to read them: the file and the credentials are read anew each time.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    file: Option<PathBuf>,
    /// Those of ours.
    variables: BTreeMap<String, OsString>,
    flags: Vec<Flag>,
}

/// What the layers make together.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Where those come from that some layer names, by `section.key`; all `[[handler]]` blocks are `handler`.
    pub sources: BTreeMap<String, Source>,
}

/// A setting of the environment or of a flag, its value read as what its key wants.
struct Setting {
    by: Source,
    path: Vec<String>,
    value: Value,
}

impl Layers {
    /// Those of this process: `file`, or the one that the environment names, the environment and `flags`.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        let named = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self::new(file, named, flags)
    }

    /// The same with another environment.
    pub fn new(file: Option<PathBuf>, variables: impl Iterator<Item = (String, OsString)>, flags: Vec<Flag>) -> Self {
        let ours = |name: &str| env::looks_like_ours(name) || name == credentials::DIRECTORY;
        let variables: BTreeMap<_, _> = variables.filter(|(name, _)| ours(name)).collect();
        let file = file.or_else(|| variables.get(FILE).filter(|path| !path.is_empty()).map(PathBuf::from));
        Self { file, variables, flags }
    }

    /// The file, where there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// A variable that is set to something.
    pub(super) fn variable(&self, name: &str) -> Option<&OsString> {
        self.variables.get(name).filter(|value| !value.is_empty())
    }

    /// The same with this file, where none is named.
    pub fn or_file(self, path: &Path) -> Self {
        Self { file: self.file.or_else(|| Some(path.into())), ..self }
    }

    /// Reads all of them. Blocks.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub fn read(&self) -> Result<Loaded, ConfigError> {
        let (loaded, missing) = self.look()?;
        match missing.into_iter().next() {
            None => Ok(loaded),
            Some(what) => Err(ConfigError::Secret(what)),
        }
    }

    /// The same where it is only looked at: also tells which secrets are missing. Those of a service are often not to be had
    /// where a person looks.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn look(&self) -> Result<(Loaded, Vec<String>), ConfigError> {
        let mut loaded = self.merge()?;
        let missing = credentials::fill(&mut loaded, self);
        Ok((loaded, missing))
    }

    /// The same without upstreams, whose secrets are often not to be had where a command is run, and which commands never call.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_for_commands(&self) -> Result<Config, ConfigError> {
        let (chat, weather, handler) = Default::default();
        Ok(Config { chat, weather, handler, ..self.merge()?.config })
    }

    fn merge(&self) -> Result<Loaded, ConfigError> {
        let (text, path) = match &self.file {
            Some(path) => (text_of(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?, path),
            None => (String::new(), &PathBuf::new()),
        };
        let refused = |(line, what)| ConfigError::Refused { path: path.clone(), line, what };
        typed(&text).map_err(refused)?;
        let file: Table = text.parse().map_err(|error: toml::de::Error| refused((1, error.message().to_owned())))?;
        let mut sources = lines(&text).into_iter().map(|(key, line)| (key, Source::File(path.clone(), line))).collect();
        let settings = self.settings()?;
        let mut table = file.clone();
        for setting in &settings {
            insert(&mut table, &setting.path, setting.value.clone());
            BTreeMap::insert(&mut sources, setting.path.join("."), setting.by.clone());
        }
        let config: Config = table.try_into().map_err(|error: toml::de::Error| refused((1, explain(error.message(), None))))?;
        if let Some(complaint) = config.impossible() {
            return Err(match blame(file, settings, &complaint) {
                Some(Setting { by, path, .. }) => {
                    let (_, what) = complaint.to(|place| path.join(".") == place.to_string());
                    ConfigError::Setting { by: by.to_string(), what }
                }
                None => {
                    let (place, what) = complaint.to(|place| line_of(&text, place).is_some());
                    refused((line_near(&text, place), what))
                }
            });
        }
        Ok(Loaded { config, sources })
    }

    /// What the environment and the flags set, in rising order.
    fn settings(&self) -> Result<Vec<Setting>, ConfigError> {
        let mut settings = Vec::new();
        for (name, value) in &self.variables {
            let Some(key) = name.strip_prefix(PREFIX) else {
                env::known(name).map_err(|what| ConfigError::Setting { by: name.clone(), what })?;
                continue;
            };
            let not_text = || ConfigError::Setting { by: name.clone(), what: "is not UTF-8".into() };
            let path = key.to_ascii_lowercase().split("__").map(str::to_owned).collect();
            settings.push(setting(Source::Variable(name.clone()), path, value.to_str().ok_or_else(not_text)?, false)?);
        }
        for flag in &self.flags {
            let path = flag.key.split('.').map(str::to_owned).collect();
            settings.push(setting(Source::Flag(flag.name.clone()), path, &flag.value, flag.literal)?);
        }
        Ok(settings)
    }
}

/// The text of a file. What is none, such as a pipe to which nobody writes, or has no end, is not waited for.
fn text_of(path: &Path) -> io::Result<String> {
    let wrong = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    let no_wait = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(no_wait).open(path)?;
    if !file.metadata()?.is_file() {
        return wrong("it is no regular file".into());
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return wrong(format!("it has more than {MOST_BYTES} bytes, and can be no configuration"));
    }
    String::from_utf8(bytes).or_else(|_| wrong("it is not UTF-8".into()))
}

/// Reads a value as TOML where it is some and the key wants it so, else as plain text.
fn setting(by: Source, path: Vec<String>, text: &str, literal: bool) -> Result<Setting, ConfigError> {
    let refused = |what: String| ConfigError::Setting { by: by.to_string(), what };
    if path.first().is_some_and(|section| section == "handler") {
        return Err(refused("handlers stand in the file only, as [[handler]]".into()));
    }
    if path.len() > DEPTH {
        return Err(refused("is no setting: the longest names have three parts, such as weather.qweather.host".into()));
    }
    let fits = |value: &Value| {
        let mut table = Table::new();
        insert(&mut table, &path, value.clone());
        Config::deserialize(table).map(drop).map_err(|error| explain(error.message(), None))
    };
    let parsed = toml::de::ValueDeserializer::parse(text).ok().and_then(|value| Value::deserialize(value).ok());
    // A table would replace all of a section at once.
    let parsed = parsed.filter(|value| !literal && !value.is_table());
    let plain = Value::String(text.to_owned());
    let value = match (parsed.as_ref().map(|value| (value, fits(value))), fits(&plain)) {
        (Some((value, Ok(()))), _) => value.clone(),
        (_, Ok(())) => plain,
        (Some((_, Err(what))), _) | (None, Err(what)) if path.len() > 1 || what.starts_with("unknown key") => {
            return Err(refused(what));
        }
        _ => return Err(refused("is a section; a setting has a key, too, such as limits.ping_seconds".into())),
    };
    Ok(Setting { by, path, value })
}

/// Puts `value` where `path` leads.
fn insert(table: &mut Table, path: &[String], value: Value) {
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

/// The setting since which `complaint` is true; `None`: it is the file's.
fn blame(mut table: Table, settings: Vec<Setting>, complaint: &Complaint) -> Option<Setting> {
    let wrong = |table: &Table| {
        let config: Option<Config> = table.clone().try_into().ok();
        config.and_then(|config| config.impossible()).as_ref() == Some(complaint)
    };
    let (mut since, mut was) = (None, wrong(&table));
    for setting in settings {
        insert(&mut table, &setting.path, setting.value.clone());
        let is = wrong(&table);
        if is && !was {
            since = Some(setting);
        }
        was = is;
    }
    since
}

/// On which line each key of `text` is set, by `section.key`.
fn lines(text: &str) -> BTreeMap<String, usize> {
    fn walk(text: &str, table: &toml::de::DeTable<'_>, prefix: &str, found: &mut BTreeMap<String, usize>) {
        for (key, value) in table {
            let name = if prefix.is_empty() { key.get_ref().to_string() } else { format!("{prefix}.{}", key.get_ref()) };
            match value.get_ref() {
                toml::de::DeValue::Table(inner) => walk(text, inner, &name, found),
                _ => drop(found.insert(name, line_at(text, key.span().start))),
            }
        }
    }
    let mut found = BTreeMap::new();
    if let Ok(table) = toml::de::DeTable::parse(text) {
        walk(text, table.get_ref(), "", &mut found);
    }
    found
}
