//! Checks for values with which no server can run, section by section.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::companion::{MAX_CONCURRENT_CALLS, MAX_TURNS, has_userinfo, invalid_handlers, is_host, is_url};
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

impl InvalidSetting {
    /// Returns whether the problem is one of the setting `section.key`, or of one that it conflicts with.
    pub(super) fn concerns(&self, is: impl Fn(SettingPath) -> bool) -> bool {
        is(self.path) || self.conflict.is_some_and(|(other, _)| is(other))
    }

    /// Returns the setting to report and the message. `is_set` returns whether a setting was set rather than left at
    /// its default.
    pub(super) fn report(&self, is_set: impl Fn(SettingPath) -> bool) -> (SettingPath, String) {
        match self.conflict {
            Some((path, message)) if !is_set(self.path) && is_set(path) => (path, format!("{path} {message}")),
            _ => (self.path, format!("{} {}", self.path, self.message)),
        }
    }
}

/// The problems that are found.
#[derive(Debug, Default)]
struct Found(Vec<InvalidSetting>);

/// A setting and its problem: the section, the key, the message.
type Named = (&'static str, &'static str, &'static str);

impl Found {
    /// Adds a problem, unless the setting has one already.
    fn add(&mut self, problem: InvalidSetting) {
        if !self.0.iter().any(|other| other.path == problem.path) {
            self.0.push(problem);
        }
    }

    /// Adds a problem of `section.key` unless `valid`.
    fn require(&mut self, valid: bool, section: &'static str, key: &'static str, message: &'static str) {
        if !valid {
            self.add(InvalidSetting { path: SettingPath { section, key, block: 0 }, message: message.into(), conflict: None });
        }
    }

    /// Adds a problem of the first setting, which conflicts with the second, unless `valid`.
    fn require_both(&mut self, valid: bool, (section, key, message): Named, (other, other_key, its): Named) {
        if !valid {
            let conflict = Some((SettingPath { section: other, key: other_key, block: 0 }, its));
            self.add(InvalidSetting { path: SettingPath { section, key, block: 0 }, message: message.into(), conflict });
        }
    }
}

impl Config {
    /// Returns the values with which no server can run, at most one problem for each setting.
    pub(super) fn validate(&self) -> Vec<InvalidSetting> {
        let mut found = Found::default();
        self.validate_handlers(&mut found);
        self.validate_limits(&mut found);
        self.validate_deadlines(&mut found);
        self.validate_mailbox(&mut found);
        self.validate_tls(&mut found);
        self.validate_chat(&mut found);
        self.validate_weather(&mut found);
        self.validate_log(&mut found);
        self.validate_storage(&mut found);
        self.validate_server(&mut found);
        self.validate_addresses(&mut found);
        #[cfg(feature = "cluster")]
        for (key, message) in self.cluster.iter().flat_map(super::ClusterConfig::problems) {
            found.require(false, "cluster", key, message);
        }
        found.0
    }

    fn validate_handlers(&self, found: &mut Found) {
        for (block, key, message) in invalid_handlers(&self.handler) {
            let path = SettingPath { section: "handler", key, block };
            found.add(InvalidSetting { path, message: message.into(), conflict: None });
        }
    }

    fn validate_limits(&self, found: &mut Found) {
        let l = &self.limits;
        let bytes = |n: usize| n == 0 || n >= 1024;
        let mut check = |valid, key, message| found.require(valid, "limits", key, message);
        check((1..=1 << 20).contains(&l.group_buffer), "group_buffer", "must be 1 to 1048576");
        check(l.group_bytes != Some(0), "group_bytes", "must be at least 1");
        check(l.answer_bytes != Some(0), "answer_bytes", "must be at least 1");
        check(l.tokens_per_user > 0, "tokens_per_user", "must be at least 1");
        check(bytes(l.max_frame_bytes), "max_frame_bytes", "must be 0 or at least 1024");
        check(bytes(l.push_bytes), "push_bytes", "must be 0 or at least 1024");
        check(l.head_seconds > 0, "head_seconds", "must be at least 1");
        check(l.keep_alive_seconds > 0, "keep_alive_seconds", "must be at least 1");
        check(l.body_seconds > 0, "body_seconds", "must be at least 1");
    }

    fn validate_deadlines(&self, found: &mut Found) {
        let l = &self.limits;
        let valid = l.idle_seconds == 0 || (l.ping_seconds > 0 && l.idle_seconds > l.ping_seconds);
        let idle = "must be more than limits.ping_seconds, or 0 to disable it: otherwise every idle connection is closed";
        let ping = "must be at least 1 and less than limits.idle_seconds: otherwise every idle connection is closed";
        found.require_both(valid, ("limits", "idle_seconds", idle), ("limits", "ping_seconds", ping));
        let valid = l.stalled_seconds == 0 || l.stalled_seconds > l.ping_seconds;
        let stalled = "must be more than limits.ping_seconds, or 0 to disable it: otherwise every idle connection is closed";
        let ping = "must be less than limits.stalled_seconds: otherwise every idle connection is closed";
        found.require_both(valid, ("limits", "stalled_seconds", stalled), ("limits", "ping_seconds", ping));
    }

    fn validate_mailbox(&self, found: &mut Found) {
        let m = &self.mailbox;
        let mut check = |valid, key, message| found.require(valid, "mailbox", key, message);
        check(m.ttl > 0, "ttl", "must be at least 1");
        check(m.max_ttl <= u64::from(u32::MAX) / 2, "max_ttl", "must be at most 2147483647");
        let (max_ttl, ttl) = ("must be at least mailbox.ttl", "must be at most mailbox.max_ttl");
        found.require_both(m.max_ttl >= m.ttl, ("mailbox", "max_ttl", max_ttl), ("mailbox", "ttl", ttl));
    }

    fn validate_tls(&self, found: &mut Found) {
        let t = &self.tls;
        let mut check = |valid, key, message| found.require(valid, "tls", key, message);
        let redirect = "requires a certificate: set tls.cert and tls.key, or tls.self_signed";
        check(t.cert.is_none() || t.key.is_some(), "cert", "requires tls.key");
        check(t.key.is_none() || t.cert.is_some(), "key", "requires tls.cert");
        check(t.cert.is_none() || !t.self_signed, "self_signed", "cannot be combined with tls.cert");
        check(t.names.is_empty() || t.self_signed, "names", "requires tls.self_signed");
        check(t.redirect.is_none() || t.enabled(), "redirect", redirect);
    }

    fn validate_chat(&self, found: &mut Found) {
        let c = &self.chat;
        let mut check = |valid, key, message| found.require(valid, "chat", key, message);
        let model = "must name the model when chat.responder is \"openai\"";
        let userinfo = "must not contain a user name or a password: put the key in chat.key, in QY_LTY_CHAT_KEY, or in the \
                        systemd credential chat-key";
        check(is_url(&c.url), "url", "must begin with http:// or https://");
        check(!has_userinfo(&c.url), "url", userinfo);
        check(c.temperature.is_none_or(|t| (0.0..=2.0).contains(&t)), "temperature", "must be 0 to 2");
        check(c.timeout_seconds > 0, "timeout_seconds", "must be at least 1");
        check(c.idle_seconds > 0, "idle_seconds", "must be at least 1");
        check((1..=MAX_CONCURRENT_CALLS).contains(&c.concurrency), "concurrency", "must be 1 to 4096");
        check(c.turns <= MAX_TURNS, "turns", "must be at most 100");
        let responder = "is \"openai\": chat.model must name the model";
        found.require_both(!c.uses_model() || !c.model.is_empty(), ("chat", "model", model), ("chat", "responder", responder));
    }

    fn validate_weather(&self, found: &mut Found) {
        let Some(qweather) = &self.weather.qweather else { return };
        let mut check = |valid, message| found.require(valid, "weather.qweather", "host", message);
        let userinfo = "must not contain a user name or a password: put the key in weather.qweather.key, in \
                        QY_LTY_QWEATHER_KEY, or in the systemd credential qweather-key";
        check(is_host(&qweather.host), "must be a host name");
        check(!has_userinfo(&qweather.host), userinfo);
    }

    fn validate_log(&self, found: &mut Found) {
        let path = SettingPath { section: "log", key: "filter", block: 0 };
        if let Err(error) = log_filter(&self.log.filter) {
            found.add(InvalidSetting { path, message: error.to_string().into(), conflict: None });
        }
    }

    fn validate_storage(&self, found: &mut Found) {
        let s = &self.storage;
        let ratio = "must be 0 or at least 12: a fresh store occupies up to ten times the size of its content";
        found.require(s.memory_budget >= 48 << 20, "storage", "memory_budget", "must be at least 50331648 (48 MiB)");
        found.require(s.compact_ratio == 0 || s.compact_ratio >= 12, "storage", "compact_ratio", ratio);
        let entries = s.audit_entries == 0 || (100..=100_000).contains(&s.audit_entries);
        found.require(entries, "storage", "audit_entries", "must be 0, or 100 to 100000");
    }

    fn validate_server(&self, found: &mut Found) {
        let origins =
            "must contain origins such as \"https://app.example.com\": scheme, host and, unless it is the default, port";
        found.require(!self.server.data_dir.as_os_str().is_empty(), "server", "data_dir", "must name a directory");
        found.require(self.server.origins.iter().all(|o| is_origin(o)), "server", "origins", origins);
        let hosts = "must contain host names such as \"qy.example.com\" or \"*.example.com\", without scheme and port";
        found.require(self.server.hosts.iter().all(|host| is_host_name(host)), "server", "hosts", hosts);
    }

    /// Checks that no two listeners share an address. With port 0 each listener gets a free port.
    fn validate_addresses(&self, found: &mut Found) {
        let (main, redirect, metrics) = (self.server.listen, self.tls.redirect, self.metrics.listen);
        let distinct = |address: Option<SocketAddr>, other| address.is_none_or(|a| a.port() == 0 || Some(a) != other);
        let (not_main, not_metrics, not_redirect) =
            ("must differ from server.listen", "must differ from metrics.listen", "must differ from tls.redirect");
        let (server, at_metrics) = (("server", "listen"), ("metrics", "listen"));
        let mut differ = |valid, (section, key), message, other: (&'static str, &'static str), its| {
            found.require_both(valid, (section, key, message), (other.0, other.1, its));
        };
        differ(distinct(metrics, Some(main)), at_metrics, not_main, server, not_metrics);
        differ(distinct(redirect, Some(main)), ("tls", "redirect"), not_main, server, not_redirect);
        differ(distinct(redirect, metrics), ("tls", "redirect"), not_metrics, at_metrics, not_redirect);
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
