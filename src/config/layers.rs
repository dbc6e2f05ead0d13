//! The layers of the configuration (defaults, file, environment, flags, in rising precedence) and the source of each value.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Deserialize;
use toml::{Table, Value};

use super::env::{CONFIG_FILE, Environment, SETTING_PREFIX, check_name};
use super::explain::explain;
use super::parse::{deserialize, line_of, lines, nearest_line};
use super::source::{Source, Sources};
use super::validate::InvalidSetting;
use super::{Config, ConfigError, credentials};

/// The maximum size of the file, in bytes; the default file, which sets everything, has some 10,000.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The maximum depth of a setting: `weather.qweather.host`. Deeper paths are refused before they are looked up, because the
/// look-up is recursive.
const MAX_DEPTH: usize = 3;

/// A setting given as a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    name: String,
    key: String,
    value: String,
    /// The value is text, even if it parses as TOML.
    literal: bool,
}

impl Flag {
    /// Creates the dedicated flag `name`, such as `--listen`, for the setting `key`; its value is taken literally.
    pub fn dedicated(name: &str, key: &str, value: String) -> Self {
        Self { name: name.into(), key: key.into(), value, literal: true }
    }

    /// Parses `SECTION.KEY=VALUE`, the argument of `--set`.
    ///
    /// # Errors
    /// [`ConfigError::InvalidOverride`] when the text does not have this form.
    pub fn set(text: &str) -> Result<Self, ConfigError> {
        let parts = text.split_once('=').map(|(key, value)| (key.trim(), value));
        let (key, value) = parts.filter(|(key, _)| !key.is_empty()).ok_or_else(|| ConfigError::InvalidOverride {
            origin: format!("--set {text}"),
            message: "must be SECTION.KEY=VALUE, such as limits.ping_seconds=20".into(),
        })?;
        Ok(Self { name: format!("--set {key}"), key: key.into(), value: value.into(), literal: false })
    }
}

/// All layers. They can be read any number of times; each time the file and the credentials are read afresh.
#[derive(Debug, Clone, Default)]
pub struct Layers {
    file: Option<PathBuf>,
    environment: Environment,
    flags: Vec<Flag>,
}

/// The merged configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// The sources of the values that some layer sets, by `section.key`; all `[[handler]]` blocks are the one entry `handler`.
    pub sources: Sources,
}

/// A setting from the environment or a flag, its value converted to the type of its key.
struct Override {
    source: Source,
    path: Vec<String>,
    value: Value,
}

impl Layers {
    /// Creates the layers of this process: `file`, or the file that the environment names, the environment and `flags`.
    pub fn from_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Self::new(file, variables, flags)
    }

    /// Creates layers with the given environment.
    pub fn new(file: Option<PathBuf>, variables: impl Iterator<Item = (String, OsString)>, flags: Vec<Flag>) -> Self {
        let environment = Environment::new(variables);
        let file = file.or_else(|| environment.get(CONFIG_FILE).map(PathBuf::from));
        Self { file, environment, flags }
    }

    /// Returns the path of the file, if one is named.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Uses the file `path` if no file is named.
    pub fn with_fallback_file(self, path: &Path) -> Self {
        Self { file: self.file.or_else(|| Some(path.into())), ..self }
    }

    /// Returns the text of `file` in systemd's credentials directory; `None` when there is none, or it is blank.
    ///
    /// # Errors
    /// [`ConfigError::Secret`] when the file exists and can't be read.
    pub fn credential(&self, file: &str) -> Result<Option<String>, ConfigError> {
        self.environment.credential(file)
    }

    /// Reads and merges all layers. Blocks.
    ///
    /// # Errors
    /// The first problem, with its location.
    pub fn read(&self) -> Result<Loaded, ConfigError> {
        let (loaded, missing) = self.read_lenient()?;
        match missing.into_iter().next() {
            None => Ok(loaded),
            Some(message) => Err(ConfigError::Secret(message)),
        }
    }

    /// Reads and merges all layers for display, and returns a message for each missing secret instead of failing: the secrets of
    /// a service are often not accessible to the person who inspects its configuration.
    ///
    /// # Errors
    /// As [`read`](Self::read), except for missing secrets.
    pub fn read_lenient(&self) -> Result<(Loaded, Vec<String>), ConfigError> {
        let Loaded { mut config, mut sources } = self.merge()?;
        let missing = credentials::fill(&mut config, &mut sources, &self.environment);
        Ok((Loaded { config, sources }, missing))
    }

    /// Reads and merges all layers without the upstreams: commands never call these, and their secrets are often not accessible
    /// where a command runs.
    ///
    /// # Errors
    /// As [`read`](Self::read), except for missing secrets.
    pub fn read_without_upstreams(&self) -> Result<Config, ConfigError> {
        let (chat, weather, handler) = Default::default();
        Ok(Config { chat, weather, handler, ..self.merge()?.config })
    }

    fn merge(&self) -> Result<Loaded, ConfigError> {
        let (text, path) = match &self.file {
            Some(path) => (read_file(path).map_err(|source| ConfigError::Read { path: path.clone(), source })?, path),
            None => (String::new(), &PathBuf::new()),
        };
        let invalid = |(line, message)| ConfigError::Invalid { path: path.clone(), line, message };
        deserialize(&text).map_err(invalid)?;
        let file: Table = text.parse().map_err(|error: toml::de::Error| invalid((1, error.message().to_owned())))?;
        let mut sources: Sources = lines(&text).into_iter().map(|(key, line)| (key, Source::File(path.clone(), line))).collect();
        let overrides = self.overrides()?;
        let mut table = file.clone();
        for Override { source, path, value } in &overrides {
            insert(&mut table, path, value.clone());
            sources.insert(path.join("."), source.clone());
        }
        let config: Config = table.try_into().map_err(|error: toml::de::Error| invalid((1, explain(error.message(), None))))?;
        let Err(problem) = config.validate() else { return Ok(Loaded { config, sources }) };
        Err(match cause(file, overrides, &problem) {
            Some(Override { source, path, .. }) => {
                let (_, message) = problem.report(|setting| path.join(".") == setting.to_string());
                ConfigError::InvalidOverride { origin: source.to_string(), message }
            }
            None => {
                let (setting, message) = problem.report(|setting| line_of(&text, setting).is_some());
                invalid((nearest_line(&text, setting), message))
            }
        })
    }

    /// Returns the settings of the environment and the flags, in rising precedence.
    fn overrides(&self) -> Result<Vec<Override>, ConfigError> {
        let mut overrides = Vec::new();
        for (name, value) in self.environment.iter() {
            let invalid = |message: String| ConfigError::InvalidOverride { origin: name.into(), message };
            let Some(key) = name.strip_prefix(SETTING_PREFIX) else {
                check_name(name).map_err(invalid)?;
                continue;
            };
            let path = key.to_ascii_lowercase().split("__").map(str::to_owned).collect();
            let value = value.to_str().ok_or_else(|| invalid("not valid UTF-8".into()))?;
            overrides.push(parse_override(Source::Variable(name.into()), path, value, false)?);
        }
        for flag in &self.flags {
            let path = flag.key.split('.').map(str::to_owned).collect();
            overrides.push(parse_override(Source::Flag(flag.name.clone()), path, &flag.value, flag.literal)?);
        }
        Ok(overrides)
    }
}

/// Reads the file. Refuses anything but a regular file of at most [`MAX_FILE_BYTES`], without blocking on a pipe that has no
/// writer and without reading an endless device.
fn read_file(path: &Path) -> io::Result<String> {
    let invalid = |message: String| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    if !file.metadata()?.is_file() {
        return invalid("not a regular file".into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return invalid(format!("larger than {MAX_FILE_BYTES} bytes, the limit for a configuration file"));
    }
    String::from_utf8(bytes).or_else(|_| invalid("not valid UTF-8".into()))
}

/// Parses a value as TOML if it is TOML and its key accepts the result, else takes it as plain text.
fn parse_override(source: Source, path: Vec<String>, text: &str, literal: bool) -> Result<Override, ConfigError> {
    let invalid = |message: String| ConfigError::InvalidOverride { origin: source.to_string(), message };
    if path.first().is_some_and(|section| section == "handler") {
        return Err(invalid("handlers can only be set in the file, as [[handler]] blocks".into()));
    }
    if path.len() > MAX_DEPTH {
        return Err(invalid("not a setting: names have at most three parts, such as weather.qweather.host".into()));
    }
    let accepts = |value: &Value| {
        let mut table = Table::new();
        insert(&mut table, &path, value.clone());
        Config::deserialize(table).map(drop).map_err(|error| explain(error.message(), None))
    };
    let parsed = toml::de::ValueDeserializer::parse(text).ok().and_then(|value| Value::deserialize(value).ok());
    // A table would replace a whole section at once.
    let parsed = parsed.filter(|value| !literal && !value.is_table());
    let plain = Value::String(text.to_owned());
    let value = match (parsed.as_ref().map(|value| (value, accepts(value))), accepts(&plain)) {
        (Some((value, Ok(()))), _) => value.clone(),
        (_, Ok(())) => plain,
        (Some((_, Err(message))), _) | (None, Err(message)) if path.len() > 1 || message.starts_with("unknown key") => {
            return Err(invalid(message));
        }
        _ => return Err(invalid("is a section, not a setting: settings have names such as limits.ping_seconds".into())),
    };
    Ok(Override { source, path, value })
}

/// Inserts `value` at `path`, and creates the sections on the way.
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

/// Returns the override that introduces `problem`, applying one after the other; `None` when the file has it already.
fn cause(mut table: Table, overrides: Vec<Override>, problem: &InvalidSetting) -> Option<Override> {
    let has_problem = |table: &Table| {
        let config: Option<Config> = table.clone().try_into().ok();
        config.and_then(|config| config.validate().err()).as_ref() == Some(problem)
    };
    let (mut cause, mut before) = (None, has_problem(&table));
    for item in overrides {
        insert(&mut table, &item.path, item.value.clone());
        let now = has_problem(&table);
        if now && !before {
            cause = Some(item);
        }
        before = now;
    }
    cause
}
