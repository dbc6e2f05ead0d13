//! `[chat]`, `[weather]` and `[[handler]]`: the sources of the companion's answers.

use serde::{Deserialize, Serialize};

use super::{Secret, units};

/// `[chat]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChatConfig {
    /// The responder to `chat_message`.
    pub responder: Responder,
    /// The base URL of the OpenAI-compatible API, without `/chat/completions`: `http://127.0.0.1:11434/v1` is Ollama's.
    pub url: String,
    /// The model's name in that API.
    pub model: String,
    /// The API key, if required; also read from `QY_LTY_CHAT_KEY`.
    pub key: Option<Secret>,
    /// The system prompt.
    pub system: String,
    /// Previous questions and answers of the user that are sent along; 0: none.
    pub turns: usize,
    /// The maximum length of an answer, in the model's tokens.
    pub max_tokens: Option<u32>,
    /// The sampling temperature, 0 to 2.
    pub temperature: Option<f64>,
    /// Timeout for a whole answer, in seconds. Not 0.
    #[serde(deserialize_with = "units::seconds")]
    pub timeout_seconds: u32,
    /// Timeout for the next part of an answer, in seconds. Not 0.
    #[serde(deserialize_with = "units::seconds")]
    pub idle_seconds: u32,
    /// Concurrent calls; further ones wait. Not 0.
    pub concurrency: usize,
    /// Questions of one user a minute; 0: unlimited.
    pub per_minute: u32,
    /// Answers with the built-in responder, marked as such, when the model fails.
    pub fallback: bool,
}

impl Default for ChatConfig {
    fn default() -> Self {
        Self {
            responder: Responder::Builtin,
            url: "http://127.0.0.1:11434/v1".into(),
            model: String::new(),
            key: None,
            system: String::new(),
            turns: 10,
            max_tokens: None,
            temperature: None,
            timeout_seconds: 60,
            idle_seconds: 20,
            concurrency: 64,
            per_minute: 30,
            fallback: false,
        }
    }
}

impl ChatConfig {
    /// Returns whether chat messages are answered by a model.
    pub fn uses_model(&self) -> bool {
        self.responder == Responder::Openai
    }
}

/// The responder to `chat_message`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Responder {
    /// The guide's responder, which repeats the message.
    #[default]
    Builtin,
    /// A model behind the chat completions API.
    Openai,
}

/// `[weather]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeatherConfig {
    /// Answers with the simulated climate when no other source does.
    pub simulated: bool,
    /// Seconds after which an observation of a weather station is ignored.
    #[serde(deserialize_with = "units::seconds")]
    pub stale_seconds: u64,
    /// `[weather.qweather]`
    pub qweather: Option<QWeatherConfig>,
}

impl Default for WeatherConfig {
    fn default() -> Self {
        Self { simulated: true, stale_seconds: 7200, qweather: None }
    }
}

/// `[weather.qweather]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct QWeatherConfig {
    /// The account's API host, for example `abc123.re.qweatherapi.com`. Not empty.
    #[serde(default)]
    pub host: String,
    /// The account's API key; also read from `QY_LTY_QWEATHER_KEY`.
    #[serde(default)]
    pub key: Secret,
}

/// `[[handler]]`: a custom message type.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HandlerConfig {
    /// The message type: 1 to 55 letters, digits, `_`, `-`, `.`; no built-in type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The URL that messages are posted to.
    pub url: String,
    /// The key that signs the requests; also read from `QY_LTY_HANDLER_` and the type in capitals.
    #[serde(default)]
    pub secret: Secret,
    /// Timeout for an answer, in seconds. Not 0.
    #[serde(default = "default_timeout_seconds", deserialize_with = "units::seconds")]
    pub timeout_seconds: u32,
    /// Concurrent calls; further ones are refused. Not 0.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// The maximum size of an answer, in bytes.
    #[serde(default = "default_max_bytes", deserialize_with = "units::bytes")]
    pub max_bytes: usize,
}

fn default_timeout_seconds() -> u32 {
    10
}

fn default_concurrency() -> usize {
    16
}

fn default_max_bytes() -> usize {
    65_536
}

/// Types that a `[[handler]]` can't have: those that the server answers itself, and those with which an answer could be mistaken for
/// one of the server's events.
const UNAVAILABLE_TYPES: &[&str] = &[
    "chat_message",
    "chat_reset",
    "chat_cancel",
    "chat_cancelled",
    "weather",
    "sing",
    "dance",
    "ping",
    "ack",
    "chat",
    "chat_delta",
    "connection_status",
    "disconnect",
    "error",
    "pong",
    "delivery_status",
    "presence",
];
/// The upper bound of `chat.concurrency` and `handler.concurrency`.
pub(super) const MAX_CONCURRENT_CALLS: usize = 4096;
/// The upper bound of `handler.max_bytes`.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// The upper bound of `chat.turns`.
pub(super) const MAX_TURNS: usize = 100;

/// Returns the problems in `handlers`: the index of the block, the key and the message of each.
pub(super) fn invalid_handlers(handlers: &[HandlerConfig]) -> Vec<(usize, &'static str, &'static str)> {
    let duplicate = |n: usize| handlers[..n].iter().any(|earlier| earlier.kind == handlers[n].kind);
    let invalid = |n: usize| invalid_type(&handlers[n].kind, duplicate(n)).into_iter().chain(invalid_call(&handlers[n]));
    (0..handlers.len()).flat_map(|n| invalid(n).map(move |(key, message)| (n, key, message))).collect()
}

fn invalid_type(kind: &str, duplicate: bool) -> Option<(&'static str, &'static str)> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let message = if !(1..=55).contains(&kind.len()) || !kind.chars().all(allowed) {
        "must be 1 to 55 letters, digits, _, - or ."
    } else if UNAVAILABLE_TYPES.contains(&kind) {
        "must not be a built-in message type"
    } else if duplicate {
        "must be unique: an earlier [[handler]] block has the same type"
    } else {
        return None;
    };
    Some(("type", message))
}

fn invalid_call(handler: &HandlerConfig) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
    let checks = [
        (is_url(&handler.url), "url", "must begin with http:// or https://"),
        (
            !has_userinfo(&handler.url),
            "url",
            "must not contain a user name or a password: requests are signed with the block's secret",
        ),
        (handler.timeout_seconds > 0, "timeout_seconds", "must be at least 1"),
        ((1..=MAX_CONCURRENT_CALLS).contains(&handler.concurrency), "concurrency", "must be 1 to 4096"),
        (handler.max_bytes <= MAX_ANSWER_BYTES, "max_bytes", "must be at most 1048576"),
    ];
    checks.into_iter().filter(|check| !check.0).map(|(_, key, message)| (key, message))
}

/// Returns whether `text`, a URL or a host, contains a user name or a password, as `http://name:password@host` does: listings of
/// the settings would show these secrets.
pub(super) fn has_userinfo(text: &str) -> bool {
    let url = reqwest::Url::parse(text).ok().filter(reqwest::Url::has_host);
    let url = url.or_else(|| reqwest::Url::parse(&format!("https://{text}")).ok());
    url.is_some_and(|url| !url.username().is_empty() || url.password().is_some())
}

/// Returns whether `text` is an `http` or `https` URL with a host.
pub(super) fn is_url(text: &str) -> bool {
    reqwest::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Returns whether `host` is a host name, or a URL as [`is_url`] accepts it.
pub(super) fn is_host(host: &str) -> bool {
    is_url(host) || (!host.contains("://") && is_url(&format!("https://{host}")))
}
