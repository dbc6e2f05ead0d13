//! Errors of the load side, and refusals, which name the setting that causes them.

use std::io;

use serde_json::Value;

/// What went wrong between a load and its server. Prints as one sentence.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A limit of the server refused the request or the connection.
    #[error("{0}")]
    Refused(Refusal),
    /// The connection could not be made, or broke.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// The connection was closed by the server with that code; 1006 where it just ended.
    #[error("the server closed the connection with {code}{}", after(.reason))]
    Closed {
        /// The code (RFC 6455 section 7.4).
        code: u16,
        /// The reason in the close frame.
        reason: String,
    },
    /// An answer that is no success and no refusal.
    #[error("the server answered {what} with {status}: {text}")]
    Answer {
        /// The request.
        what: String,
        /// The HTTP status.
        status: u16,
        /// Its message.
        text: String,
    },
    /// The peer does not speak the protocol.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// Anything else, as a sentence.
    #[error("{0}")]
    Other(String),
}

fn after(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {reason}") }
}

impl LoadError {
    /// Returns a function that adds `what` was tried to the system's error.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }

    /// Returns the refusal that this is.
    pub fn refusal(&self) -> Option<&Refusal> {
        if let Self::Refused(refusal) = self { Some(refusal) } else { None }
    }
}

/// A refusal by a limit of the server, and the setting to change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// The HTTP status, or the close code of a WebSocket.
    pub status: u16,
    /// The setting, or settings, that allow more.
    pub setting: &'static str,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a limit of the server refused it ({}): raise {}", self.status, self.setting)
    }
}

/// What a client was doing when it was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// A REST call.
    Call,
    /// A log-in.
    LogIn,
    /// The handshake of a WebSocket.
    Handshake,
}

/// The settings behind refusals of handshakes.
const CONNECTS: &str = "limits.connects_per_minute, limits.connections_per_address and limits.connections_per_user";
/// The settings behind a full address or user.
const CONNECTIONS: &str = "limits.connections_per_address and limits.connections_per_user";
/// The settings behind refused messages on a connection.
const MESSAGES: &str = "limits.messages_per_minute and limits.user_messages_per_minute";

impl Refusal {
    /// Returns the refusal that an answer is; `None` where it is none of a limit.
    pub fn of_answer(doing: Doing, status: u16, body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let (code, message) = (body["code"].as_str().unwrap_or_default(), body["message"].as_str().unwrap_or_default());
        let setting = match (status, code, doing) {
            (429, _, Doing::Handshake) => CONNECTS,
            (429, _, Doing::LogIn) => "limits.logins_per_minute",
            (429, _, Doing::Call) => "limits.trusted_requests_per_minute and limits.requests_per_minute",
            (503, _, Doing::Handshake) => "limits.connections",
            (503, "busy", _) => "storage.memory_budget",
            (409, "limit_reached", _) if message.contains("token") => "limits.tokens_per_user",
            (409, "limit_reached", _) => "limits.devices_per_user",
            (413, ..) => "limits.push_bytes",
            (507, "mailbox_full", _) => "mailbox.messages and mailbox.bytes",
            (507, "sender_full", _) => "mailbox.sender_bytes",
            (507, "memory_low", _) => "storage.memory_budget",
            (507, "disk_low", _) => "storage.min_free_bytes",
            _ => return None,
        };
        Some(Self { status, setting })
    }

    /// Returns the refusal that a close code is; `None` where it is none of a limit.
    pub fn of_close(code: u16) -> Option<Self> {
        let setting = match code {
            1009 => "limits.max_frame_bytes",
            4008 => MESSAGES,
            4101 => CONNECTIONS,
            4104 => "mailbox.readers",
            _ => return None,
        };
        Some(Self { status: code, setting })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn refusals_name_settings_that_exist() {
        let known = serde_json::to_value(Config::default()).unwrap();
        let answers = [
            (Doing::Handshake, 429, ""),
            (Doing::LogIn, 429, ""),
            (Doing::Call, 429, ""),
            (Doing::Handshake, 503, ""),
            (Doing::Call, 503, r#"{"code":"busy"}"#),
            (Doing::Call, 409, r#"{"code":"limit_reached","message":"too many tokens"}"#),
            (Doing::Call, 409, r#"{"code":"limit_reached","message":"too many devices"}"#),
            (Doing::Call, 413, ""),
            (Doing::Call, 507, r#"{"code":"mailbox_full"}"#),
            (Doing::Call, 507, r#"{"code":"sender_full"}"#),
            (Doing::Call, 507, r#"{"code":"memory_low"}"#),
            (Doing::Call, 507, r#"{"code":"disk_low"}"#),
        ];
        let answers = answers.map(|(doing, status, body)| Refusal::of_answer(doing, status, body.as_bytes()).unwrap());
        let closes = [1009, 4008, 4101, 4104].map(|code| Refusal::of_close(code).unwrap());
        for refusal in answers.iter().chain(&closes) {
            for name in refusal.setting.split([',', ' ']).filter(|word| word.contains('.')) {
                let (section, key) = name.split_once('.').unwrap();
                assert!(known[section].as_object().unwrap().contains_key(key), "{name}");
            }
        }
        assert_eq!(Refusal::of_answer(Doing::Call, 404, b"{}"), None);
        assert_eq!(Refusal::of_answer(Doing::Call, 503, br#"{"code":"not_ready"}"#), None);
        assert_eq!(Refusal::of_close(1006), None);
    }
}
