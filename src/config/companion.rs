//! `[chat]`, `[weather]`, `[[handler]]`: where the companion's answers come from.

use serde::{Deserialize, Serialize};

use super::Secret;

/// `[chat]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChatConfig {
    /// Who answers.
    pub responder: Responder,
    /// Of the OpenAI-compatible API, up to and without `/chat/completions`: `http://127.0.0.1:11434/v1` is Ollama's.
    pub url: String,
    /// Its name there.
    pub model: String,
    /// The API's key, where it wants one; or in the environment, `QY_LTY_CHAT_KEY`.
    pub key: Option<Secret>,
    /// What the model is told before everything else.
    pub system: String,
    /// Questions and answers that it is reminded of, for each user; 0: none.
    pub turns: usize,
    /// The longest answer, in the model's tokens.
    pub max_tokens: Option<u32>,
    /// How freely it chooses its words, 0 to 2.
    pub temperature: Option<f64>,
    /// Seconds for a whole answer. Can't be 0.
    pub timeout_seconds: u32,
    /// Seconds that it may pause in the middle. Can't be 0.
    pub idle_seconds: u32,
    /// Answers that are under way at once; more wait. Can't be 0.
    pub concurrency: usize,
    /// Questions of one user a minute; 0: any number.
    pub per_minute: u32,
    /// Whether the built-in responder answers, marked so, when the model does not.
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
    /// Whether a model is asked.
    pub fn calls(&self) -> bool {
        self.responder == Responder::Openai
    }
}

/// Who answers `chat_message`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Responder {
    /// The guide's, which repeats what it heard.
    #[default]
    Builtin,
    /// A model behind the chat completions API.
    Openai,
}

/// `[weather]`
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeatherConfig {
    /// Whether the simulated climate answers where nothing else does.
    pub simulated: bool,
    /// Seconds that an observation of a weather station counts.
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
    /// Of the account, for example `abc123.re.qweatherapi.com`. Can't be empty.
    #[serde(default)]
    pub host: String,
    /// Of the account; or in the environment, `QY_LTY_QWEATHER_KEY`.
    #[serde(default)]
    pub key: Secret,
}

/// `[[handler]]`: a message type of one's own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HandlerConfig {
    /// The type: 1 to 55 letters, digits, `_`, `-`, `.`; none of the program's own.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it is posted.
    pub url: String,
    /// Signs what is posted; or in the environment, `QY_LTY_HANDLER_` and the type in capitals.
    #[serde(default)]
    pub secret: Secret,
    /// Seconds for an answer. Can't be 0.
    #[serde(default = "ten")]
    pub timeout_seconds: u32,
    /// Questions that are under way at once; more are refused. Can't be 0.
    #[serde(default = "sixteen")]
    pub concurrency: usize,
    /// The longest answer, in bytes.
    #[serde(default = "most_bytes")]
    pub max_bytes: usize,
}

fn ten() -> u32 {
    10
}

fn sixteen() -> usize {
    16
}

fn most_bytes() -> usize {
    65_536
}

/// Types that no `[[handler]]` can take: what the program answers itself, and what would make an answer look like one of its own.
const TAKEN: [&str; 15] = [
    "chat_message",
    "chat_reset",
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
/// The most answers under way, the longest answer and the longest memory that can be asked for.
pub(super) const MOST_AT_ONCE: usize = 4096;
const MOST_BYTES: usize = 1 << 20;
pub(super) const MOST_TURNS: usize = 100;

/// What is wrong with the handlers, if anything: with which, counted from 0, with which key, and what.
pub(super) fn wrong_handler(handlers: &[HandlerConfig]) -> Option<(usize, &'static str, &'static str)> {
    let taken = |n: usize| handlers[..n].iter().any(|earlier| earlier.kind == handlers[n].kind);
    let wrong = |n: usize| wrong_type(&handlers[n].kind, taken(n)).or_else(|| wrong_call(&handlers[n]));
    (0..handlers.len()).find_map(|n| wrong(n).map(|(key, what)| (n, key, what)))
}

fn wrong_type(kind: &str, taken: bool) -> Option<(&'static str, &'static str)> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let what = if !(1..=55).contains(&kind.len()) || !kind.chars().all(good) {
        "must be 1 to 55 letters, digits, _, - or ."
    } else if TAKEN.contains(&kind) {
        "must be none that the program answers itself"
    } else if taken {
        "must be another one in each block"
    } else {
        return None;
    };
    Some(("type", what))
}

fn wrong_call(handler: &HandlerConfig) -> Option<(&'static str, &'static str)> {
    let checks = [
        (is_url(&handler.url), "url", "must begin with http:// or https://"),
        (
            !names_somebody(&handler.url),
            "url",
            "must hold no name and no password: what is posted is signed with the block's secret",
        ),
        (handler.timeout_seconds > 0, "timeout_seconds", "must be at least 1"),
        ((1..=MOST_AT_ONCE).contains(&handler.concurrency), "concurrency", "must be 1 to 4096"),
        (handler.max_bytes <= MOST_BYTES, "max_bytes", "must be at most 1048576"),
    ];
    checks.into_iter().find(|check| !check.0).map(|(_, key, what)| (key, what))
}

/// Whether `text`, a URL or a host, holds a name or a password, as `http://name:password@host` does: these are secrets that
/// listings of the settings would show.
pub(super) fn names_somebody(text: &str) -> bool {
    let url = reqwest::Url::parse(text).ok().filter(reqwest::Url::has_host);
    let url = url.or_else(|| reqwest::Url::parse(&format!("https://{text}")).ok());
    url.is_some_and(|url| !url.username().is_empty() || url.password().is_some())
}

/// Whether `text` can be called.
pub(super) fn is_url(text: &str) -> bool {
    reqwest::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Whether `host`, with or without a scheme, can be called.
pub(super) fn is_host(host: &str) -> bool {
    is_url(host) || (!host.contains("://") && is_url(&format!("https://{host}")))
}
