//! The difference between two configurations, and the part of it that a running server can apply.

use std::collections::BTreeSet;

use super::Config;

/// The settings that differ, by `section.key`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigDiff {
    /// Settings that a running server applies.
    pub live: Vec<String>,
    /// Settings that take effect after a restart.
    pub restart: Vec<String>,
}

impl Config {
    /// Returns the settings in which `new` differs from this configuration.
    pub fn diff(&self, new: &Self) -> ConfigDiff {
        let (before, after) = (self.flatten(), new.flatten());
        let names = before.keys().chain(after.keys());
        let mut differ: BTreeSet<&str> = names.filter(|name| before.get(*name) != after.get(*name)).map(String::as_str).collect();
        // Flattened secrets are hidden, and therefore all equal.
        #[cfg(feature = "cluster")]
        if self.cluster.as_ref().map(|cluster| &cluster.password) != new.cluster.as_ref().map(|cluster| &cluster.password) {
            differ.insert("cluster.password");
        }
        let qweather = |config: &Self| config.weather.qweather.as_ref().map(|q| q.key.clone());
        let secrets = [
            (self.chat.key != new.chat.key, "chat.key"),
            (qweather(self) != qweather(new), "weather.qweather.key"),
            (self.handler != new.handler, "handler"),
        ];
        differ.extend(secrets.into_iter().filter(|(differs, _)| *differs).map(|(_, name)| name));
        // A certificate file can be replaced live; switching TLS on or off, or between a file and a self-signed certificate,
        // takes a restart.
        let same_kind = self.tls.cert.is_some() == new.tls.cert.is_some();
        let restarts = |name: &str| needs_restart(name) || (!same_kind && matches!(name, "tls.cert" | "tls.key"));
        let (restart, live) = differ.into_iter().map(str::to_owned).partition(|name| restarts(name));
        ConfigDiff { live, restart }
    }

    /// Returns `new`, with every setting that needs a restart kept from this configuration.
    #[must_use]
    pub fn apply_live(&self, mut new: Self) -> Self {
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
        #[cfg(feature = "cluster")]
        new.cluster.clone_from(&self.cluster);
        new
    }
}

/// Returns whether a setting is only read at the start.
pub(super) fn needs_restart(name: &str) -> bool {
    let section = name.split('.').next();
    matches!(section, Some("storage" | "metrics" | "cluster"))
        || matches!(name, "server.listen" | "server.data_dir" | "tls.self_signed" | "tls.names" | "tls.redirect" | "log.format")
}
