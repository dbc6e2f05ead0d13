//! The environment: variables of this program, and systemd's credentials. A variable that only resembles a setting is refused,
//! because it would silently have no effect.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::ConfigError;
use super::default_file::documented;
use crate::core::text::secret_in;

/// The prefix of variables that set a setting; the section and the key follow, joined by `__`.
pub(super) const SETTING_PREFIX: &str = "QY_LTY__";
/// The variable that names the configuration file where no flag does.
pub(super) const CONFIG_FILE: &str = "QY_LTY_CONFIG";
/// The variable that names the directory of systemd's credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
/// The prefix of all variables of this program, in any letter case.
const PREFIX: &str = "QY_LTY_";
/// The prefix of variables that hold handlers' secrets.
const HANDLER_PREFIX: &str = "QY_LTY_HANDLER_";
/// The variables that are not settings.
const OTHER_VARIABLES: [&str; 5] =
    [CONFIG_FILE, "QY_LTY_ADMIN_PASSWORD", "QY_LTY_BENCH_TOKEN", "QY_LTY_CHAT_KEY", "QY_LTY_QWEATHER_KEY"];

/// The environment variables that concern this program.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// Keeps the relevant ones of `variables`.
    pub(super) fn new(variables: impl Iterator<Item = (String, OsString)>) -> Self {
        Self(variables.filter(|(name, _)| has_prefix(name) || name == CREDENTIALS_DIRECTORY).collect())
    }

    /// Returns the value of a variable that is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(name).filter(|value| !value.is_empty()).map(OsString::as_os_str)
    }

    /// Returns all variables, in the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_os_str()))
    }

    /// Returns the secret in `file` in systemd's credentials directory; `None` when there is none, or it is blank.
    ///
    /// # Errors
    /// [`ConfigError::Secret`] when the file exists and can't be read.
    pub(super) fn credential(&self, file: &str) -> Result<Option<String>, ConfigError> {
        let Some(directory) = self.get(CREDENTIALS_DIRECTORY) else { return Ok(None) };
        match std::fs::read_to_string(Path::new(directory).join(file)) {
            Ok(text) => Ok(Some(secret_in(&text)).filter(|secret| !secret.trim().is_empty()).map(str::to_owned)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ConfigError::Secret(format!("failed to read the systemd credential {file}: {error}"))),
        }
    }
}

/// Returns whether `name` begins like the variables of this program.
fn has_prefix(name: &str) -> bool {
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Checks that `name`, which is not a setting's, is a known variable.
///
/// # Errors
/// The problem, with the nearest valid name.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    let handler_secret = name.starts_with(HANDLER_PREFIX) && name.len() > HANDLER_PREFIX.len();
    if !has_prefix(name) || OTHER_VARIABLES.contains(&name) || handler_secret {
        return Ok(());
    }
    let settings = documented().into_iter().map(|key| format!("{SETTING_PREFIX}{}", key.to_ascii_uppercase().replace('.', "__")));
    let names = settings.filter(|key| !key.contains("__HANDLER__")).chain(OTHER_VARIABLES.map(str::to_owned));
    // Most often an underscore is missing, or the name is in lower case.
    let normalize = |name: &str| name.to_ascii_uppercase().replace("__", "_");
    let given = normalize(name);
    let distance = |candidate: &str| {
        let candidate = normalize(candidate);
        (!candidate.starts_with(&given), strsim::damerau_levenshtein(&given, &candidate))
    };
    let nearest = names.map(|candidate| (distance(&candidate), candidate)).min();
    let nearest = nearest.filter(|((_, distance), candidate)| *distance <= candidate.len().max(name.len()) / 2);
    Err(nearest.map_or_else(|| "unknown variable".into(), |(_, name)| format!("unknown variable; did you mean {name}?")))
}
