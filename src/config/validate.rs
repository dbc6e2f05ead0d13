//! Checks for values with which no server can run, section by section.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::companion::{MAX_CONCURRENT_CALLS, MAX_TURNS, has_userinfo, invalid_handler, is_host, is_url};
use super::{Config, log_filter};

/// A setting with an impossible value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InvalidSetting {
    path: SettingPath,
    message: Cow<'static, str>,
    /// The setting with which this one conflicts, and the same problem in terms of that one: reported instead when only that one
    /// is set.
    conflict: Option<(SettingPath, &'static str)>,
}

/// The position of a setting in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SettingPath {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    /// The index of the block, where the section has several.
    pub(super) block: usize,
}

impl fmt::Display for SettingPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.section, self.key)
    }
}

type Check = Result<(), InvalidSetting>;

impl InvalidSetting {
    /// Returns the setting to report and the message. `is_set` returns whether a setting was set rather than left at
    /// its default.
    pub(super) fn report(&self, is_set: impl Fn(SettingPath) -> bool) -> (SettingPath, String) {
        match self.conflict {
            Some((path, message)) if !is_set(self.path) && is_set(path) => (path, format!("{path} {message}")),
            _ => (self.path, format!("{} {}", self.path, self.message)),
        }
    }

    fn conflicts_with(mut self, section: &'static str, key: &'static str, message: &'static str) -> Self {
        self.conflict = Some((SettingPath { section, key, block: 0 }, message));
        self
    }
}

/// Fails with a problem of `section.key` unless `valid`.
fn require(valid: bool, section: &'static str, key: &'static str, message: &'static str) -> Check {
    if valid {
        return Ok(());
    }
    Err(InvalidSetting { path: SettingPath { section, key, block: 0 }, message: message.into(), conflict: None })
}

impl Config {
    /// Checks that a server can run with these values.
    ///
    /// # Errors
    /// The first invalid setting.
    pub(super) fn validate(&self) -> Check {
        self.validate_handlers()?;
        self.validate_limits()?;
        self.validate_deadlines()?;
        self.validate_mailbox()?;
        self.validate_tls()?;
        self.validate_chat()?;
        self.validate_weather()?;
        self.validate_log()?;
        self.validate_storage()?;
        self.validate_server()?;
        self.validate_addresses()
    }

    fn validate_handlers(&self) -> Check {
        let Some((block, key, message)) = invalid_handler(&self.handler) else { return Ok(()) };
        let path = SettingPath { section: "handler", key, block };
        Err(InvalidSetting { path, message: message.into(), conflict: None })
    }

    fn validate_limits(&self) -> Check {
        let l = &self.limits;
        let bytes = |n: usize| n == 0 || n >= 1024;
        let check = |valid, key, message| require(valid, "limits", key, message);
        check((1..=1 << 20).contains(&l.group_buffer), "group_buffer", "must be 1 to 1048576")?;
        check(l.group_bytes != Some(0), "group_bytes", "must be at least 1")?;
        check(l.answer_bytes != Some(0), "answer_bytes", "must be at least 1")?;
        check(l.tokens_per_user > 0, "tokens_per_user", "must be at least 1")?;
        check(bytes(l.max_frame_bytes), "max_frame_bytes", "must be 0 or at least 1024")?;
        check(bytes(l.push_bytes), "push_bytes", "must be 0 or at least 1024")?;
        check(l.head_seconds > 0, "head_seconds", "must be at least 1")?;
        check(l.keep_alive_seconds > 0, "keep_alive_seconds", "must be at least 1")?;
        check(l.body_seconds > 0, "body_seconds", "must be at least 1")
    }

    fn validate_deadlines(&self) -> Check {
        let l = &self.limits;
        let valid = l.idle_seconds == 0 || (l.ping_seconds > 0 && l.idle_seconds > l.ping_seconds);
        let idle = "must be more than limits.ping_seconds, or 0 to disable it: otherwise every idle connection is closed";
        let ping = "must be at least 1 and less than limits.idle_seconds: otherwise every idle connection is closed";
        require(valid, "limits", "idle_seconds", idle).map_err(|e| e.conflicts_with("limits", "ping_seconds", ping))?;
        let valid = l.stalled_seconds == 0 || l.stalled_seconds > l.ping_seconds;
        let stalled = "must be more than limits.ping_seconds, or 0 to disable it: otherwise every idle connection is closed";
        let ping = "must be less than limits.stalled_seconds: otherwise every idle connection is closed";
        require(valid, "limits", "stalled_seconds", stalled).map_err(|e| e.conflicts_with("limits", "ping_seconds", ping))
    }

    fn validate_mailbox(&self) -> Check {
        let m = &self.mailbox;
        let check = |valid, key, message| require(valid, "mailbox", key, message);
        check(m.ttl > 0, "ttl", "must be at least 1")?;
        check(m.max_ttl >= m.ttl, "max_ttl", "must be at least mailbox.ttl")
            .map_err(|e| e.conflicts_with("mailbox", "ttl", "must be at most mailbox.max_ttl"))?;
        check(m.max_ttl <= u64::from(u32::MAX) / 2, "max_ttl", "must be at most 2147483647")
    }

    fn validate_tls(&self) -> Check {
        let t = &self.tls;
        let check = |valid, key, message| require(valid, "tls", key, message);
        let redirect = "requires a certificate: set tls.cert and tls.key, or tls.self_signed";
        check(t.cert.is_none() || t.key.is_some(), "cert", "requires tls.key")?;
        check(t.key.is_none() || t.cert.is_some(), "key", "requires tls.cert")?;
        check(t.cert.is_none() || !t.self_signed, "self_signed", "cannot be combined with tls.cert")?;
        check(t.names.is_empty() || t.self_signed, "names", "requires tls.self_signed")?;
        check(t.redirect.is_none() || t.enabled(), "redirect", redirect)
    }

    fn validate_chat(&self) -> Check {
        let c = &self.chat;
        let check = |valid, key, message| require(valid, "chat", key, message);
        let model = "must name the model when chat.responder is \"openai\"";
        let userinfo = "must not contain a user name or a password: put the key in chat.key, in QY_LTY_CHAT_KEY, or in the \
                        systemd credential chat-key";
        check(!c.uses_model() || !c.model.is_empty(), "model", model)
            .map_err(|e| e.conflicts_with("chat", "responder", "is \"openai\": chat.model must name the model"))?;
        check(is_url(&c.url), "url", "must begin with http:// or https://")?;
        check(!has_userinfo(&c.url), "url", userinfo)?;
        check(c.temperature.is_none_or(|t| (0.0..=2.0).contains(&t)), "temperature", "must be 0 to 2")?;
        check(c.timeout_seconds > 0, "timeout_seconds", "must be at least 1")?;
        check(c.idle_seconds > 0, "idle_seconds", "must be at least 1")?;
        check((1..=MAX_CONCURRENT_CALLS).contains(&c.concurrency), "concurrency", "must be 1 to 4096")?;
        check(c.turns <= MAX_TURNS, "turns", "must be at most 100")
    }

    fn validate_weather(&self) -> Check {
        let Some(qweather) = &self.weather.qweather else { return Ok(()) };
        let check = |valid, message| require(valid, "weather.qweather", "host", message);
        let userinfo = "must not contain a user name or a password: put the key in weather.qweather.key, in \
                        QY_LTY_QWEATHER_KEY, or in the systemd credential qweather-key";
        check(is_host(&qweather.host), "must be a host name")?;
        check(!has_userinfo(&qweather.host), userinfo)
    }

    fn validate_log(&self) -> Check {
        let path = SettingPath { section: "log", key: "filter", block: 0 };
        let invalid = |message: String| InvalidSetting { path, message: message.into(), conflict: None };
        log_filter(&self.log.filter).map(drop).map_err(|error| invalid(error.to_string()))
    }

    fn validate_storage(&self) -> Check {
        let s = &self.storage;
        let ratio = "must be 0 or at least 12: a fresh store occupies up to ten times the size of its content";
        require(s.memory_budget >= 48 << 20, "storage", "memory_budget", "must be at least 50331648 (48 MiB)")?;
        require(s.compact_ratio == 0 || s.compact_ratio >= 12, "storage", "compact_ratio", ratio)?;
        let entries = s.audit_entries == 0 || (100..=100_000).contains(&s.audit_entries);
        require(entries, "storage", "audit_entries", "must be 0, or 100 to 100000")
    }

    fn validate_server(&self) -> Check {
        let origins =
            "must contain origins such as \"https://app.example.com\": scheme, host and, unless it is the default, port";
        require(!self.server.data_dir.as_os_str().is_empty(), "server", "data_dir", "must name a directory")?;
        require(self.server.origins.iter().all(|o| is_origin(o)), "server", "origins", origins)?;
        let hosts = "must contain host names such as \"qy.example.com\" or \"*.example.com\", without scheme and port";
        require(self.server.hosts.iter().all(|host| is_host_name(host)), "server", "hosts", hosts)
    }

    /// Checks that no two listeners share an address. With port 0 each listener gets a free port.
    fn validate_addresses(&self) -> Check {
        let (main, redirect, metrics) = (self.server.listen, self.tls.redirect, self.metrics.listen);
        let distinct = |address: Option<SocketAddr>, other| address.is_none_or(|a| a.port() == 0 || Some(a) != other);
        let not_main = "must differ from server.listen";
        require(distinct(metrics, Some(main)), "metrics", "listen", not_main)
            .map_err(|e| e.conflicts_with("server", "listen", "must differ from metrics.listen"))?;
        require(distinct(redirect, Some(main)), "tls", "redirect", not_main)
            .map_err(|e| e.conflicts_with("server", "listen", "must differ from tls.redirect"))?;
        require(distinct(redirect, metrics), "tls", "redirect", "must differ from metrics.listen")
            .map_err(|e| e.conflicts_with("metrics", "listen", "must differ from tls.redirect"))
    }
}

/// Returns whether `text` is a host name, also with `*` as its first label, or an address.
fn is_host_name(text: &str) -> bool {
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let name = text.strip_prefix("*.").unwrap_or(text);
    name.strip_suffix('.').unwrap_or(name).split('.').all(is_label) || text.parse::<IpAddr>().is_ok()
}

/// Returns whether `text` has the form of an origin (RFC 6454 section 6.1), including those of packaged apps and of files.
fn is_origin(text: &str) -> bool {
    let valid_host = |host: &str| host.bytes().all(|b| b.is_ascii_graphic()) && !host.contains(['/', '?', '#', '@', '*']);
    let valid = |(scheme, host): (&str, &str)| !scheme.is_empty() && scheme.is_ascii() && !host.is_empty() && valid_host(host);
    matches!(text, "null" | "file://") || text.split_once("://").is_some_and(valid)
}
