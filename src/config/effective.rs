//! The settings in force as a list, each with its source.

use std::collections::BTreeMap;

use serde::Serialize;
use toml::Value;

use super::default_file::documented;
use super::render::hide_in_urls;
use super::source::Source;
use super::{Config, Provenance};

/// The section whose blocks are numbered in the list.
const BLOCKS: &str = "handler";
/// The settings that are secrets.
pub(super) const SECRETS: [&str; 4] = ["chat.key", "weather.qweather.key", "handler.secret", "cluster.password"];

/// A setting in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Setting {
    /// `section.key`; of the nth `[[handler]]` block, from 0 on: `handler[n].key`.
    pub key: String,
    /// `null` for a secret, and where there is none.
    pub value: Option<serde_json::Value>,
    /// `default`, `file`, `environment` or `flag`.
    pub source: &'static str,
    /// The line of the file, the variable, systemd credential or flag that sets it.
    #[serde(rename = "where")]
    pub place: Option<String>,
    /// Set for a secret.
    pub secret: bool,
    /// There is a value, whether or not it is shown.
    pub set: bool,
    /// The value is not the default.
    pub changed: bool,
    /// The layers hold another value, which takes effect after a restart.
    pub restart_pending: bool,
}

/// Returns all settings of a configuration by the names of [`Setting::key`], without contents of secrets.
fn numbered(config: &Config) -> BTreeMap<String, Value> {
    let mut settings = config.flatten();
    for (name, value) in &mut settings {
        hide_in_urls(name, value);
    }
    if let Some(Value::Array(blocks)) = settings.remove(BLOCKS) {
        for (n, block) in blocks.into_iter().enumerate() {
            let Value::Table(block) = block else { continue };
            settings.extend(block.into_iter().map(|(key, value)| (format!("{BLOCKS}[{n}].{key}"), value)));
        }
    }
    settings
}

impl Config {
    /// Returns every setting, in the order of the default file, with its origin in `provenance`.
    pub fn effective(&self, provenance: &Provenance) -> Vec<Setting> {
        let (settings, defaults) = (numbered(self), numbered(&Self::default()));
        let mut list = Vec::new();
        for name in documented() {
            match name.strip_prefix(BLOCKS).and_then(|rest| rest.strip_prefix('.')) {
                None => list.push(setting(&name, &name, &name, &settings, &defaults, provenance)),
                Some(key) => {
                    let keys = (0..self.handler.len()).map(|n| format!("{BLOCKS}[{n}].{key}"));
                    list.extend(keys.map(|key| setting(&key, &name, BLOCKS, &settings, &defaults, provenance)));
                }
            }
        }
        list
    }
}

/// Returns the setting `key`, which is documented as `name`, and whose origin stands under `origin`.
fn setting(
    key: &str,
    name: &str,
    origin: &str,
    settings: &BTreeMap<String, Value>,
    defaults: &BTreeMap<String, Value>,
    provenance: &Provenance,
) -> Setting {
    let (value, secret) = (settings.get(key), SECRETS.contains(&name));
    let source = provenance.sources.get(origin);
    Setting {
        key: key.into(),
        value: value.filter(|_| !secret).and_then(|value| serde_json::to_value(value).ok()),
        source: source.map_or("default", Source::layer),
        place: source.map(ToString::to_string),
        secret,
        // A secret that is empty is none.
        set: value.is_some_and(|value| !secret || value.as_str().is_some_and(|text| !text.is_empty())),
        changed: value != defaults.get(key),
        restart_pending: provenance.pending.contains(origin),
    }
}

#[cfg(test)]
mod tests {
    use super::super::secret::HIDDEN;
    use super::super::tests::{layered, uncommented};
    use super::*;
    use serde_json::json;

    fn provenance(text: &str, variables: &[(&str, &str)], sets: &[&str]) -> (Config, Provenance) {
        let loaded = layered(text, variables, sets).unwrap();
        (loaded.config, Provenance::new(None, loaded.sources))
    }

    fn find<'a>(list: &'a [Setting], key: &str) -> &'a Setting {
        list.iter().find(|setting| setting.key == key).unwrap_or_else(|| panic!("{key}"))
    }

    #[test]
    fn every_documented_setting_is_listed_once_with_its_value_and_source() {
        let list = Config::default().effective(&Provenance::default());
        let names: Vec<&str> = list.iter().map(|setting| &*setting.key).collect();
        let expected: Vec<String> = documented().into_iter().filter(|name| !name.starts_with("handler.")).collect();
        assert_eq!(names, expected);
        assert!(list.iter().all(|setting| !setting.changed && setting.source == "default" && setting.place.is_none()));
        assert_eq!(find(&list, "limits.ping_seconds").value, Some(json!(30)));
        assert_eq!((&find(&list, "tls.cert").value, find(&list, "tls.cert").set), (&None, false));

        let file = "[server]\nlisten = \"127.0.0.1:8000\"\n\n[limits]\nping_seconds = 20\nidle_seconds = 99\n";
        let (config, provenance) = provenance(file, &[("QY_LTY__LIMITS__PING_SECONDS", "21")], &["chat.turns=3"]);
        let list = config.effective(&provenance);
        let shown = |key: &str| {
            let Setting { value, source, place, changed, .. } = find(&list, key).clone();
            (value.unwrap(), source, place.unwrap_or_default(), changed)
        };
        assert_eq!(shown("limits.ping_seconds"), (json!(21), "environment", "QY_LTY__LIMITS__PING_SECONDS".into(), true));
        assert_eq!(shown("chat.turns"), (json!(3), "flag", "--set chat.turns".into(), true));
        let (value, source, place, changed) = shown("limits.idle_seconds");
        assert_eq!((value, source, changed), (json!(99), "file", true));
        assert!(place.ends_with("c.toml:6"), "{place}");
        assert_eq!((shown("server.listen").1, shown("server.listen").3), ("file", false), "set to the default");
    }

    #[test]
    fn secrets_are_told_to_be_set_and_never_shown() {
        let everything = Config::parse(&uncommented()).unwrap();
        // All that is serialised as a secret is listed as one.
        let hidden: Vec<String> =
            numbered(&everything).into_iter().filter(|(_, v)| v.as_str() == Some(HIDDEN)).map(|(k, _)| k).collect();
        assert_eq!(hidden, ["chat.key", "cluster.password", "handler[0].secret", "weather.qweather.key"]);
        let list = everything.effective(&Provenance::default());
        let secrets: Vec<&str> = list.iter().filter(|setting| setting.secret).map(|setting| &*setting.key).collect();
        assert_eq!(secrets, ["chat.key", "weather.qweather.key", "handler[0].secret", "cluster.password"]);
        assert!(list.iter().filter(|setting| setting.secret).all(|setting| setting.set && setting.value.is_none()));
        let none = Config::default().effective(&Provenance::default());
        assert!(!find(&none, "chat.key").set && find(&none, "chat.key").secret);

        let file = "[chat]\nurl = \"https://h/v1?key=s3cret\"\nkey = \"s3cret\"\n[[handler]]\ntype = \"a\"\nurl = \"http://x/#s3cret\"\n\
                    secret = \"s3cret\"\n[[handler]]\ntype = \"b\"\nurl = \"http://y\"\nsecret = \"s3cret\"\n";
        let (config, provenance) = provenance(file, &[], &[]);
        let list = config.effective(&provenance);
        let text = serde_json::to_string(&list).unwrap();
        assert!(!text.contains("s3cret"), "{text}");
        assert_eq!(find(&list, "handler[1].url").value, Some(json!("http://y")));
        assert_eq!((find(&list, "handler[0].url").source, find(&list, "handler[0].secret").set), ("file", true));
    }

    #[test]
    fn setting_that_waits_for_a_restart_keeps_its_source_and_is_marked() {
        let (old, before) = provenance("[storage]\ncompact_ratio = 13\n", &[], &[]);
        let (new, after) = provenance("\n\n[storage]\ncompact_ratio = 14\nballast_bytes = 0\n[chat]\nturns = 1\n", &[], &[]);
        let restart = old.diff(&new).restart;
        let provenance = before.reloaded(after, &restart);
        let list = old.apply_live(new).effective(&provenance);
        let shown = |key: &str| {
            let Setting { value, source, place, restart_pending, .. } = find(&list, key).clone();
            (value.unwrap(), source, place.map(|place| place.rsplit(':').next().unwrap().to_owned()), restart_pending)
        };
        assert_eq!(shown("storage.compact_ratio"), (json!(13), "file", Some("2".into()), true));
        assert_eq!(shown("storage.ballast_bytes"), (json!(16 << 20), "default", None, true));
        assert_eq!(shown("chat.turns"), (json!(1), "file", Some("7".into()), false));
    }
}
