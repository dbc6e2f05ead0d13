//! The layers of the configuration (defaults, file, environment, flags, in rising precedence) and the source of each value.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::Deserialize;
use toml::{Table, Value};

use super::env::{CONFIG_FILE, Environment, SETTING_PREFIX, check_name};
use super::explain::explain;
use super::parse::{Parsed, insert, lines, parse};
use super::source::{Source, Sources};
use super::validate::InvalidSetting;
use super::{Config, ConfigError, credentials};
use crate::data_dir::STORE_DIRECTORY;

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
    /// All problems, with their locations.
    pub fn read(&self) -> Result<Loaded, ConfigError> {
        let (loaded, missing) = self.read_lenient()?;
        if missing.is_empty() {
            return Ok(loaded);
        }
        Err(ConfigError::of(missing.into_iter().map(ConfigError::Secret).collect()))
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
        let file = parse(&text);
        let mut sources: Sources = lines(&text).into_iter().map(|(key, line)| (key, Source::File(path.clone(), line))).collect();
        let (overrides, mut above) = self.overrides();
        let mut table = file.table.clone();
        for Override { source, path, value } in &overrides {
            insert(&mut table, path, value.clone());
            sources.insert(path.join("."), source.clone());
        }
        let mut config = Config::from_table(&table).map_err(|error| invalid((1, explain(error.message(), None))))?;
        let mut in_file = file.problems.clone();
        for problem in impossible(&config, &file) {
            match cause(&file.table, &overrides, &problem) {
                Some(Override { source, path, .. }) => {
                    let (_, message) = problem.report(|setting| path.join(".") == setting.to_string());
                    above.push(ConfigError::InvalidOverride { origin: source.to_string(), message });
                }
                None => in_file.push(file.locate(&text, &problem)),
            }
        }
        in_file.sort_by_key(|(line, _)| *line);
        let mut problems: Vec<_> = in_file.into_iter().map(invalid).chain(above).collect();
        if problems.is_empty() {
            let written = config.server.data_dir.clone();
            place_paths(&mut config, &sources);
            problems.extend(moved_data(&written, &config, &sources));
        }
        if problems.is_empty() { Ok(Loaded { config, sources }) } else { Err(ConfigError::of(problems)) }
    }

    /// Returns the settings of the environment and the flags, in rising precedence, and the problems of those that can't be used.
    fn overrides(&self) -> (Vec<Override>, Vec<ConfigError>) {
        let (mut overrides, mut problems) = (Vec::new(), Vec::new());
        let mut note = |parsed: Result<Option<Override>, ConfigError>| match parsed {
            Ok(parsed) => overrides.extend(parsed),
            Err(problem) => problems.push(problem),
        };
        for (name, value) in self.environment.iter() {
            note(variable(name, value));
        }
        for flag in &self.flags {
            let path = flag.key.split('.').map(str::to_owned).collect();
            note(parse_override(Source::Flag(flag.name.clone()), path, &flag.value, flag.literal).map(Some));
        }
        (overrides, problems)
    }
}

/// Returns the problems with values that are known: a setting of the file that can't be used is at its default here.
fn impossible(config: &Config, file: &Parsed) -> Vec<InvalidSetting> {
    let mut found = if file.broken { Vec::new() } else { config.validate() };
    found.retain(|problem| !problem.concerns(|setting| file.unusable.contains(&setting.to_string())));
    found
}

/// Returns the setting of an environment variable; `None` where the variable is none of a setting.
fn variable(name: &str, value: &OsStr) -> Result<Option<Override>, ConfigError> {
    let invalid = |message: String| ConfigError::InvalidOverride { origin: name.into(), message };
    let Some(key) = name.strip_prefix(SETTING_PREFIX) else { return check_name(name).map(|()| None).map_err(invalid) };
    let path = key.to_ascii_lowercase().split("__").map(str::to_owned).collect();
    let value = value.to_str().ok_or_else(|| invalid("not valid UTF-8".into()))?;
    parse_override(Source::Variable(name.into()), path, value, false).map(Some)
}

/// Returns the directory of the file that sets `key`; `None` where something else sets it.
fn directory_of<'s>(sources: &'s Sources, key: &str) -> Option<&'s Path> {
    match sources.get(key) {
        Some(Source::File(file, _)) => file.parent(),
        _ => None,
    }
}

/// Counts relative paths from the directory of the file that sets them, so that they mean the same wherever a command is started.
fn place_paths(config: &mut Config, sources: &Sources) {
    let paths = [
        ("server.data_dir", Some(&mut config.server.data_dir)),
        ("tls.cert", config.tls.cert.as_mut()),
        ("tls.key", config.tls.key.as_mut()),
    ];
    #[cfg(feature = "cluster")]
    let paths =
        paths.into_iter().chain([("cluster.tls_ca", config.cluster.as_mut().and_then(|cluster| cluster.tls_ca.as_mut()))]);
    for (key, path) in paths {
        if let (Some(directory), Some(path)) = (directory_of(sources, key), path) {
            *path = directory.join(&*path);
        }
    }
}

/// Returns the problem of a data directory that versions to 0.2 counted from the working directory: there is data where these had it,
/// and none where it belongs now. A server would start without its accounts.
fn moved_data(written: &Path, config: &Config, sources: &Sources) -> Option<ConfigError> {
    let Some(Source::File(file, line)) = sources.get("server.data_dir") else { return None };
    let data = &config.server.data_dir;
    let has_store = |data: &Path| data.join(STORE_DIRECTORY).exists();
    let moved = written.is_relative() && absolute(written) != absolute(data) && has_store(written) && !has_store(data);
    moved.then(|| ConfigError::Invalid {
        path: file.clone(),
        line: *line,
        message: format!(
            "server.data_dir is relative to the directory of this file now: there is no data in {}, and there is in {}; move it \
             there, or set its whole path",
            absolute(data).display(),
            absolute(written).display()
        ),
    })
}

/// Returns the whole path.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
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
        Config::from_table(&table).map(drop).map_err(|error| explain(error.message(), None))
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

/// Returns the override that introduces `problem`, applying one after the other to the settings of the file; `None` when the file has it
/// already.
fn cause<'o>(file: &Table, overrides: &'o [Override], problem: &InvalidSetting) -> Option<&'o Override> {
    let has_problem = |table: &Table| {
        let config = Config::from_table(table).ok();
        config.is_some_and(|config| config.validate().contains(problem))
    };
    let mut table = file.clone();
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
