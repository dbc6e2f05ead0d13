//! The default file, the rendered settings and the difference between configurations.

use super::super::*;
use super::{layered, uncommented};

#[test]
fn rendered_toml_parses_as_the_same_configuration() {
    let file = "[server]\norigins = [\"https://a\"]\n[chat]\nsystem = \"\"\"a\n\"b\"\\u007f\\\\\"\"\"\n[tls]\ncert = \"c\"\nkey = \"k\"\n";
    let loaded = layered(file, &[], &["chat.temperature=0.7"]).unwrap();
    let rendered = loaded.to_toml();
    assert_eq!(Config::parse(&rendered).unwrap(), loaded.config, "{rendered}");
    assert!(
        rendered.lines().any(|line| line.starts_with("origins = [\"https://a\"]  # /") && line.ends_with("c.toml:2")),
        "{rendered}"
    );
    assert!(rendered.lines().any(|line| line == "temperature = 0.7  # --set chat.temperature"), "{rendered}");
    assert!(rendered.starts_with("[server]\nlisten = \"127.0.0.1:8000\"\n"), "{rendered}");
    let everything = Config::parse(&uncommented()).unwrap();
    let rendered = Loaded { config: everything.clone(), sources: Default::default() }.to_toml();
    let hidden = |config: &Config| format!("{config:?}"); // compares all but the secrets, which are rendered as a placeholder
    assert_eq!(hidden(&Config::parse(&rendered).unwrap()), hidden(&everything), "{rendered}");
}

#[test]
fn secrets_in_urls_are_not_shown() {
    let file = "[chat]\nurl = \"https://h/v1?key=s3cret&a=b\"\nsystem = \"see http://h?q=shown\"\n[weather.qweather]\nhost = \"h.example?key=s3cret\"\n\
                key = \"k\"\n[[handler]]\ntype = \"a\"\nurl = \"http://x/hook?token=s3cret#s3cret\"\nsecret = \"s\"\n\
                [[handler]]\ntype = \"b\"\nurl = \"http://x/#s3cret\"\nsecret = \"s\"\n[[handler]]\ntype = \"c\"\nurl = \"http://x/p\"\nsecret = \"s\"\n";
    let loaded = layered(file, &[], &[]).unwrap();
    let (toml, json) = (loaded.to_toml(), loaded.to_json().to_string());
    for rendered in [&toml, &json] {
        assert!(!rendered.contains("s3cret"), "{rendered}");
        let shown = [
            "https://h/v1?(hidden)",
            "see http://h?q=shown",
            "h.example?(hidden)",
            "http://x/hook?(hidden)",
            "http://x/#(hidden)",
            "\"http://x/p\"",
        ];
        for text in shown {
            assert!(rendered.contains(text), "{text}: {rendered}");
        }
    }
    assert!(Config::parse(&toml).is_ok(), "{toml}");
    // A changed query is a change, although it is not shown.
    let changed = layered(&file.replace("s3cret&a=b", "other&a=b"), &[], &[]).unwrap();
    assert_eq!(loaded.config.diff(&changed.config).live, ["chat.url"]);
    // Refused where it is read, and hidden should it ever be shown.
    for text in ["http://ana:s3cret@h/p", "ana:s3cret@h", "http://s3cret@h?x=s3cret"] {
        let mut config = Config::default();
        config.chat.url = text.into();
        assert!(!Loaded { config, sources: Default::default() }.to_toml().contains("s3cret"), "{text}");
    }
}

/// Returns the keys that the program accepts in `section`, from the error that lists them for an unknown key.
fn accepted(section: &str) -> Vec<String> {
    let text = match section {
        "" => "no-such-key = 1".to_owned(),
        "handler" => "[[handler]]\nno-such-key = 1".to_owned(),
        section => format!("[{section}]\nno-such-key = 1"),
    };
    let message = toml::from_str::<Config>(&text).unwrap_err().message().to_owned();
    let Some(rest) = message.strip_prefix("unknown field `no-such-key`, expected ") else { return Vec::new() };
    let below = if section.is_empty() { String::new() } else { format!("{section}.") };
    rest.split('`').skip(1).step_by(2).map(|key| format!("{below}{key}")).collect()
}

/// Returns every setting that the program accepts.
fn settings() -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), accepted(""));
    while let Some(key) = open.pop() {
        match accepted(&key) {
            inner if inner.is_empty() => found.push(key),
            inner => open.extend(inner),
        }
    }
    found.sort();
    found
}

#[test]
fn default_file_is_the_default_configuration() {
    assert_eq!(Config::parse(DEFAULT).unwrap(), Config::default());
}

#[test]
fn default_file_documents_every_setting_and_no_other() {
    // It parses without an error, so it sets nothing unknown.
    let everything = Config::parse(&uncommented()).unwrap();
    assert!(everything.weather.qweather.is_some() && everything.handler.len() == 1 && everything.tls.redirect.is_some());
    let mut documented = default_file::documented();
    documented.sort();
    assert_eq!(documented, settings());
    assert!(documented.len() > 70 && documented.contains(&"weather.qweather.host".to_owned()));
    // Each of them is a key in the TOML, not an accident of a comment.
    let table: toml::Table = uncommented().parse().unwrap();
    for name in &documented {
        let start = toml::Value::Table(table.clone());
        let found = name.split('.').try_fold(start, |at, key| match at {
            toml::Value::Array(blocks) => blocks[0].get(key).cloned(),
            other => other.get(key).cloned(),
        });
        assert!(found.is_some(), "{name}");
    }
}

#[test]
fn default_file_marks_the_settings_that_need_a_restart() {
    let (mut section, mut comment) = ("", String::new());
    for line in DEFAULT.lines() {
        let inner = line.strip_prefix("# ").unwrap_or(line);
        if inner.starts_with('[') {
            section = inner.trim_matches(['[', ']']);
            comment.clear();
        } else if let Some(key) = default_file::key_of(inner) {
            let name = format!("{section}.{key}");
            assert!(!comment.is_empty(), "{name} has no description");
            assert_eq!(comment.contains("(restart)"), diff::needs_restart(&name), "{name}: {comment}");
            comment.clear();
        } else {
            comment += line;
        }
    }
}

#[test]
fn diff_separates_live_changes_from_those_that_need_a_restart() {
    let old = Config::parse("[chat]\nkey = \"a\"\n[tls]\ncert = \"c\"\nkey = \"k\"\n").unwrap();
    let text = "[server]\nlisten = \"127.0.0.1:1\"\norigins = [\"https://a\"]\n[chat]\nkey = \"b\"\n[limits]\nping_seconds = 5\n\
                [tls]\ncert = \"d\"\nkey = \"k\"\n[storage]\ncompact_ratio = 13\n[[handler]]\ntype = \"t\"\nurl = \"http://x\"\nsecret = \"s\"\n";
    let new = Config::parse(text).unwrap();
    let ConfigDiff { live, restart } = old.diff(&new);
    assert_eq!(live, ["chat.key", "handler", "limits.ping_seconds", "server.origins", "tls.cert"]);
    assert_eq!(restart, ["server.listen", "storage.compact_ratio"]);
    let updated = old.apply_live(new.clone());
    assert_eq!(old.diff(&updated).live, live);
    assert!(old.diff(&updated).restart.is_empty());
    assert_eq!(updated.diff(&new), ConfigDiff { live: vec![], restart }, "reported again until the restart");
    assert_eq!(old.diff(&Config::parse("[chat]\nkey = \"a\"\n").unwrap()).restart, ["tls.cert", "tls.key"]);
    assert_eq!(old.diff(&old), ConfigDiff::default());
}

#[test]
fn every_duration_and_size_accepts_a_unit() {
    let mut seen = 0;
    for name in default_file::documented() {
        let (section, key) = name.rsplit_once('.').unwrap();
        let unit = match key {
            "reader_days" => "d",
            "ttl" | "max_ttl" | "retain" => "s",
            "memory_budget" => "B",
            _ if key.ends_with("seconds") => "s",
            _ if key.ends_with("bytes") || key.starts_with("bytes") => "B",
            _ => continue,
        };
        let text = match section {
            "handler" => format!("[[handler]]\ntype = \"a\"\nurl = \"http://x\"\n{key} = \"100000000{unit}\"\n"),
            _ => format!("[{section}]\n{key} = \"100000000{unit}\"\n"),
        };
        let refused = Config::parse(&text).err().map(|(_, message)| message).unwrap_or_default();
        assert!(!refused.contains("whole number"), "{name}: {refused}");
        seen += 1;
    }
    assert!(seen >= 28, "{seen}");
}
