//! Secrets of upstreams that no layer sets: taken from dedicated environment variables, or from systemd's credentials.

use super::env::Environment;
use super::source::{Source, Sources};
use super::{Config, Secret};
use crate::core::text::secret_in;

/// Fills in the secrets that `config` lacks; returns one message for each that is missing or can't be read.
pub(super) fn fill(config: &mut Config, sources: &mut Sources, environment: &Environment) -> Vec<String> {
    let mut problems = Vec::new();
    if config.chat.key.as_ref().is_none_or(Secret::is_empty) {
        config.chat.key = None;
        match find(environment, "QY_LTY_CHAT_KEY", "chat-key") {
            Ok(Some((secret, source))) => {
                config.chat.key = Some(secret);
                sources.insert("chat.key".into(), source);
            }
            Ok(None) => {}
            Err(unreadable) => problems.push(unreadable),
        }
    }
    if let Some(qweather) = &mut config.weather.qweather
        && qweather.key.is_empty()
    {
        let missing =
            "weather.qweather.key is missing: set it, QY_LTY_QWEATHER_KEY, or the systemd credential qweather-key".to_owned();
        match find(environment, "QY_LTY_QWEATHER_KEY", "qweather-key") {
            Ok(Some((secret, source))) => {
                qweather.key = secret;
                sources.insert("weather.qweather.key".into(), source);
            }
            Ok(None) => problems.push(missing),
            Err(unreadable) => problems.push(unreadable),
        }
    }
    #[cfg(feature = "cluster")]
    if let Some(cluster) = config.cluster.as_mut().filter(|cluster| cluster.user.is_some() && cluster.password.is_empty()) {
        match find(environment, "QY_LTY__CLUSTER__PASSWORD", "cluster-password") {
            Ok(Some((secret, source))) => {
                cluster.password = secret;
                sources.insert("cluster.password".into(), source);
            }
            Ok(None) => problems.push(
                "cluster.password is missing: set it, QY_LTY__CLUSTER__PASSWORD, or the systemd credential cluster-password"
                    .into(),
            ),
            Err(unreadable) => problems.push(unreadable),
        }
    }
    for handler in config.handler.iter_mut().filter(|handler| handler.secret.is_empty()) {
        let variable = format!("QY_LTY_HANDLER_{}", handler.kind.to_ascii_uppercase().replace(['-', '.'], "_"));
        let credential = format!("handler-{}", handler.kind);
        match find(environment, &variable, &credential) {
            Ok(Some((secret, _))) => handler.secret = secret,
            Ok(None) => problems.push(format!(
                "the secret of handler {} is missing: set secret in its block, {variable}, or the systemd credential {credential}",
                handler.kind
            )),
            Err(unreadable) => problems.push(unreadable),
        }
    }
    problems
}

/// Returns the secret in the environment variable `variable`, or else in the systemd credential `credential`.
fn find(environment: &Environment, variable: &str, credential: &str) -> Result<Option<(Secret, Source)>, String> {
    // Blanks around it are no part of a key: they could not be sent in a header.
    let key = |text: &str| Some(secret_in(text).trim()).filter(|key| !key.is_empty()).map(|key| Secret::from(key.to_owned()));
    if let Some(secret) = environment.get(variable).and_then(|text| key(text.to_str()?)) {
        return Ok(Some((secret, Source::Variable(variable.into()))));
    }
    let text = environment.credential(credential).map_err(|error| error.to_string())?;
    Ok(text.and_then(|text| key(&text)).map(|secret| (secret, Source::Credential(credential.into()))))
}
