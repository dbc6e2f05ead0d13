//! What differs between two configurations, and what of it can be taken up by a running server.

use std::collections::BTreeSet;

use super::Config;

/// The settings that differ, by `section.key`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that a running server takes up.
    pub live: Vec<String>,
    /// Those that hold after a restart.
    pub restart: Vec<String>,
}

impl Config {
    /// What a server that runs with this configuration is to change to run with `new`.
    pub fn changes(&self, new: &Self) -> Changes {
        let (before, after) = (self.settings(), new.settings());
        let names = before.keys().chain(after.keys());
        let mut differ: BTreeSet<&str> = names.filter(|name| before.get(*name) != after.get(*name)).map(String::as_str).collect();
        // Secrets all look the same there.
        let qweather = |config: &Self| config.weather.qweather.as_ref().map(|q| q.key.clone());
        let secrets = [
            (self.chat.key != new.chat.key, "chat.key"),
            (qweather(self) != qweather(new), "weather.qweather.key"),
            (self.handler != new.handler, "handler"),
        ];
        differ.extend(secrets.into_iter().filter(|(differs, _)| *differs).map(|(_, name)| name));
        // Another certificate can be taken up; whether there is TLS at all, and whose it is, is settled at the start.
        let certificate = self.tls.cert.is_some() == new.tls.cert.is_some();
        let restarts = |name: &str| needs_restart(name) || (!certificate && matches!(name, "tls.cert" | "tls.key"));
        let (restart, live) = differ.into_iter().map(str::to_owned).partition(|name| restarts(name));
        Changes { live, restart }
    }

    /// `new`, with what needs a restart left as it is here.
    #[must_use]
    pub fn updated(&self, mut new: Self) -> Self {
        let tls = new.tls;
        new.tls = self.tls.clone();
        if self.tls.cert.is_some() && tls.cert.is_some() {
            (new.tls.cert, new.tls.key) = (tls.cert, tls.key);
        }
        new.server.listen = self.server.listen;
        new.server.data_dir.clone_from(&self.server.data_dir);
        new.storage = self.storage.clone();
        new.metrics = self.metrics.clone();
        new.log.format = self.log.format;
        new
    }
}

/// Whether a setting only counts at the start.
pub(super) fn needs_restart(name: &str) -> bool {
    let section = name.split('.').next();
    matches!(section, Some("storage" | "metrics"))
        || matches!(name, "server.listen" | "server.data_dir" | "tls.self_signed" | "tls.names" | "tls.redirect" | "log.format")
}
