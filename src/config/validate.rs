//! What no server could run with, section by section.

use std::borrow::Cow;
use std::fmt;

use super::companion::{MOST_AT_ONCE, MOST_TURNS, is_host, is_url, names_somebody, wrong_handler};
use super::{Config, log_filter};

/// A setting that no server could run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    at: Place,
    what: Cow<'static, str>,
    /// The setting beside which it is impossible, and the same said of that one: who has set that one alone is to hear of it.
    beside: Option<(Place, &'static str)>,
}

/// Where a setting stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) section: &'static str,
    pub(super) key: &'static str,
    /// In which block of the section, where it has several.
    pub(super) block: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.section, self.key)
    }
}

impl Complaint {
    /// Where, and what to say, to who has set what `is_set` tells.
    pub(super) fn to(&self, is_set: impl Fn(Place) -> bool) -> (Place, String) {
        match self.beside {
            Some((place, what)) if !is_set(self.at) && is_set(place) => (place, format!("{place} {what}")),
            _ => (self.at, format!("{} {}", self.at, self.what)),
        }
    }
}

/// A complaint about `section.key` where `wrong`.
fn unless(right: bool, section: &'static str, key: &'static str, what: &'static str) -> Option<Complaint> {
    (!right).then_some(Complaint { at: Place { section, key, block: 0 }, what: what.into(), beside: None })
}

impl Complaint {
    fn beside(mut self, section: &'static str, key: &'static str, what: &'static str) -> Self {
        self.beside = Some((Place { section, key, block: 0 }, what));
        self
    }
}

impl Config {
    /// The first setting that no server could run with.
    pub(super) fn impossible(&self) -> Option<Complaint> {
        let handler = || {
            let (block, key, what) = wrong_handler(&self.handler)?;
            Some(Complaint { at: Place { section: "handler", key, block }, what: what.into(), beside: None })
        };
        handler()
            .or_else(|| self.impossible_limits())
            .or_else(|| self.impossible_deadlines())
            .or_else(|| self.impossible_mailbox())
            .or_else(|| self.impossible_tls())
            .or_else(|| self.impossible_chat())
            .or_else(|| self.impossible_weather())
            .or_else(|| self.impossible_log())
            .or_else(|| self.impossible_storage())
            .or_else(|| self.impossible_server())
            .or_else(|| self.impossible_addresses())
    }

    fn impossible_limits(&self) -> Option<Complaint> {
        let l = &self.limits;
        let bytes = |n: usize| n == 0 || n >= 1024;
        let check = |right, key, what| unless(right, "limits", key, what);
        check((1..=1 << 20).contains(&l.group_buffer), "group_buffer", "must be 1 to 1048576")
            .or_else(|| check(l.group_bytes != Some(0), "group_bytes", "must be at least 1"))
            .or_else(|| check(l.tokens_per_user > 0, "tokens_per_user", "must be at least 1"))
            .or_else(|| check(bytes(l.max_frame_bytes), "max_frame_bytes", "must be 0 or at least 1024"))
            .or_else(|| check(bytes(l.push_bytes), "push_bytes", "must be 0 or at least 1024"))
            .or_else(|| check(l.head_seconds > 0, "head_seconds", "must be at least 1"))
            .or_else(|| check(l.body_seconds > 0, "body_seconds", "must be at least 1"))
    }

    fn impossible_deadlines(&self) -> Option<Complaint> {
        let l = &self.limits;
        let right = l.idle_seconds == 0 || (l.ping_seconds > 0 && l.idle_seconds > l.ping_seconds);
        let idle = "must be more than limits.ping_seconds, or every quiet connection would be cut (or 0: never)";
        let ping = "must be at least 1 and less than limits.idle_seconds, or every quiet connection would be cut";
        unless(right, "limits", "idle_seconds", idle).map(|complaint| complaint.beside("limits", "ping_seconds", ping))
    }

    fn impossible_mailbox(&self) -> Option<Complaint> {
        let m = &self.mailbox;
        let check = |right, key, what| unless(right, "mailbox", key, what);
        let order = || check(m.max_ttl >= m.ttl, "max_ttl", "must be at least mailbox.ttl");
        check(m.ttl > 0, "ttl", "must be at least 1")
            .or_else(|| order().map(|complaint| complaint.beside("mailbox", "ttl", "must be at most mailbox.max_ttl")))
            .or_else(|| check(m.max_ttl <= u64::from(u32::MAX) / 2, "max_ttl", "must be at most 2147483647"))
    }

    fn impossible_tls(&self) -> Option<Complaint> {
        let t = &self.tls;
        let check = |right, key, what| unless(right, "tls", key, what);
        let redirect = "needs a certificate: tls.cert and tls.key, or tls.self_signed";
        check(t.cert.is_none() || t.key.is_some(), "cert", "needs tls.key")
            .or_else(|| check(t.key.is_none() || t.cert.is_some(), "key", "needs tls.cert"))
            .or_else(|| check(t.cert.is_none() || !t.self_signed, "self_signed", "and tls.cert exclude each other"))
            .or_else(|| check(t.names.is_empty() || t.self_signed, "names", "are for tls.self_signed"))
            .or_else(|| check(t.redirect.is_none() || t.on(), "redirect", redirect))
    }

    fn impossible_chat(&self) -> Option<Complaint> {
        let c = &self.chat;
        let check = |right, key, what| unless(right, "chat", key, what);
        let model = || check(!c.calls() || !c.model.is_empty(), "model", "must name the model, where responder is \"openai\"");
        let secret = "must hold no name and no password: the key stands in chat.key, in QY_LTY_CHAT_KEY, or in the credential \
                      chat-key";
        model()
            .map(|complaint| complaint.beside("chat", "responder", "is \"openai\": chat.model must name the model"))
            .or_else(|| check(is_url(&c.url), "url", "must begin with http:// or https://"))
            .or_else(|| check(!names_somebody(&c.url), "url", secret))
            .or_else(|| check(c.temperature.is_none_or(|t| (0.0..=2.0).contains(&t)), "temperature", "must be 0 to 2"))
            .or_else(|| check(c.timeout_seconds > 0, "timeout_seconds", "must be at least 1"))
            .or_else(|| check(c.idle_seconds > 0, "idle_seconds", "must be at least 1"))
            .or_else(|| check((1..=MOST_AT_ONCE).contains(&c.concurrency), "concurrency", "must be 1 to 4096"))
            .or_else(|| check(c.turns <= MOST_TURNS, "turns", "must be at most 100"))
    }

    fn impossible_weather(&self) -> Option<Complaint> {
        let host = &self.weather.qweather.as_ref()?.host;
        let check = |right, what| unless(right, "weather.qweather", "host", what);
        let secret = "must hold no name and no password: the key stands in weather.qweather.key, in QY_LTY_QWEATHER_KEY, or in \
                      the credential qweather-key";
        check(is_host(host), "must be a host's name").or_else(|| check(!names_somebody(host), secret))
    }

    fn impossible_log(&self) -> Option<Complaint> {
        let wrong = log_filter::log_filter(&self.log.filter).err()?;
        unless(false, "log", "filter", "").map(|complaint| Complaint { what: wrong.to_string().into(), ..complaint })
    }

    fn impossible_storage(&self) -> Option<Complaint> {
        let s = &self.storage;
        let ratio = "must be 0 or at least 12: a fresh store takes up to ten times the room of what is in it";
        unless(s.memory_budget >= 48 << 20, "storage", "memory_budget", "must be at least 50331648 (48 MiB)")
            .or_else(|| unless(s.compact_ratio == 0 || s.compact_ratio >= 12, "storage", "compact_ratio", ratio))
    }

    fn impossible_server(&self) -> Option<Complaint> {
        let origins = "must hold origins such as \"https://app.example.com\": scheme, host, port if unusual, nothing after";
        unless(!self.server.data_dir.as_os_str().is_empty(), "server", "data_dir", "must name a directory")
            .or_else(|| unless(self.server.origins.iter().all(|o| is_origin(o)), "server", "origins", origins))
    }

    /// Two listeners can't have one address; of port 0 each takes a free one.
    fn impossible_addresses(&self) -> Option<Complaint> {
        let (main, redirect, metrics) = (self.server.listen, self.tls.redirect, self.metrics.listen);
        let apart = |at: Option<std::net::SocketAddr>, other| at.is_none_or(|at| at.port() == 0 || Some(at) != other);
        let not_main = "must be another address than server.listen";
        unless(apart(metrics, Some(main)), "metrics", "listen", not_main)
            .map(|complaint| complaint.beside("server", "listen", "must be another address than metrics.listen"))
            .or_else(|| {
                let complaint = unless(apart(redirect, Some(main)), "tls", "redirect", not_main)?;
                Some(complaint.beside("server", "listen", "must be another address than tls.redirect"))
            })
            .or_else(|| {
                let complaint =
                    unless(apart(redirect, metrics), "tls", "redirect", "must be another address than metrics.listen")?;
                Some(complaint.beside("metrics", "listen", "must be another address than tls.redirect"))
            })
    }
}

/// Whether `text` has the form of an origin (RFC 6454 section 6.1), those of packaged apps and of files included.
fn is_origin(text: &str) -> bool {
    let clean = |host: &str| host.bytes().all(|b| b.is_ascii_graphic()) && !host.contains(['/', '?', '#', '@', '*']);
    let parts = |(scheme, host): (&str, &str)| !scheme.is_empty() && scheme.is_ascii() && clean(host);
    matches!(text, "null" | "file://") || text.split_once("://").is_some_and(|p| parts(p) && !p.1.is_empty())
}
