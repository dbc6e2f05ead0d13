//! Secrets of upstreams that no layer names: from variables of their own, or from systemd's credentials.

use std::path::Path;

use super::layers::{Layers, Loaded, Source};
use super::{ConfigError, Secret};

/// Names the directory of systemd's credentials.
pub(super) const DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Fills in what is missing; returns what can't be found, or not be read.
pub(super) fn fill(loaded: &mut Loaded, layers: &Layers) -> Vec<String> {
    let Loaded { config, sources } = loaded;
    let mut nowhere = Vec::new();
    if config.chat.key.as_ref().is_none_or(Secret::is_empty) {
        config.chat.key = None;
        match secret(layers, "QY_LTY_CHAT_KEY", "chat-key") {
            Ok(Some((secret, source))) => {
                config.chat.key = Some(secret);
                sources.insert("chat.key".into(), source);
            }
            Ok(None) => {}
            Err(unreadable) => nowhere.push(unreadable),
        }
    }
    if let Some(qweather) = &mut config.weather.qweather
        && qweather.key.is_empty()
    {
        let missing = "weather.qweather.key is missing (or QY_LTY_QWEATHER_KEY, or the credential qweather-key)";
        match secret(layers, "QY_LTY_QWEATHER_KEY", "qweather-key") {
            Ok(Some((secret, source))) => {
                qweather.key = secret;
                sources.insert("weather.qweather.key".into(), source);
            }
            Ok(None) => nowhere.push(missing.into()),
            Err(unreadable) => nowhere.push(unreadable),
        }
    }
    for handler in config.handler.iter_mut().filter(|handler| handler.secret.is_empty()) {
        let name = format!("QY_LTY_HANDLER_{}", handler.kind.to_ascii_uppercase().replace(['-', '.'], "_"));
        let credential = format!("handler-{}", handler.kind);
        let missing = || format!("the handler of {} needs a secret (or {name}, or the credential {credential})", handler.kind);
        match secret(layers, &name, &credential) {
            Ok(Some((secret, _))) => handler.secret = secret,
            Ok(None) => nowhere.push(missing()),
            Err(unreadable) => nowhere.push(unreadable),
        }
    }
    nowhere
}

/// A secret of the environment variable `name`, or of the file `credential` in systemd's directory for them.
fn secret(layers: &Layers, name: &str, credential: &str) -> Result<Option<(Secret, Source)>, String> {
    let usable = |text: &str| Some(text.trim()).filter(|text| !text.is_empty()).map(|text| Secret::from(text.to_owned()));
    if let Some(secret) = layers.variable(name).and_then(|text| usable(text.to_str()?)) {
        return Ok(Some((secret, Source::Variable(name.into()))));
    }
    let found = layers.credential(credential).map_err(|error| error.to_string())?;
    Ok(found.and_then(|text| usable(&text)).map(|secret| (secret, Source::Credential(credential.into()))))
}

impl Layers {
    /// What `file` holds in systemd's directory of credentials; `None` where there is none, or nothing in it.
    ///
    /// # Errors
    /// [`ConfigError::Secret`] where it is there and can't be read.
    pub fn credential(&self, file: &str) -> Result<Option<String>, ConfigError> {
        let Some(directory) = self.variable(DIRECTORY) else { return Ok(None) };
        match std::fs::read_to_string(Path::new(directory).join(file)) {
            Ok(text) => Ok(Some(text).filter(|text| !text.trim().is_empty())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ConfigError::Secret(format!("the credential {file} can't be read: {error}"))),
        }
    }
}
