//! Every way in which a configuration is right or wrong.

use super::*;

fn refused(text: &str) -> String {
    let (line, what) = Config::parse(text).unwrap_err();
    format!("{line}: {what}")
}

#[test]
fn nothing_is_needed() {
    assert_eq!(Config::parse("").unwrap(), Config::default());
    assert!(Config::default().impossible().is_none());
}

#[test]
fn values_are_read() {
    let text = "[server]\nlisten = \"0.0.0.0:9\"\norigins = [\"https://a.b\"]\n[auth]\nregistration = \"open\"\n[limits]\nconnections = 0";
    let config = Config::parse(text).unwrap();
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:9");
    assert_eq!(config.auth.registration, Registration::Open);
    assert_eq!(config.limits.connections, 0);
    assert_eq!(config.limits.idle_seconds, 75);
}

#[test]
fn unknown_keys_name_the_nearest() {
    let text = "[server]\n\n[limits]\nmessages_per_minut = 5\n";
    assert_eq!(refused(text), "4: unknown key \"messages_per_minut\"; did you mean \"messages_per_minute\"?");
    assert_eq!(refused("[limit]\n"), "1: unknown key \"limit\"; did you mean \"limits\"?");
    assert_eq!(refused("[server]\nzzzzzzzzzzzzzz = 1\n"), "2: unknown key \"zzzzzzzzzzzzzz\"");
}

#[test]
fn proxies_and_certificates() {
    let text =
        "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\nforwarded_header = \"forwarded\"\n[tls]\nself_signed = true";
    let config = Config::parse(text).unwrap();
    assert!(config.server.trusted_proxies[0].contains("10.1.2.3".parse().unwrap()) && config.tls.on());
    assert_eq!(config.server.forwarded_header, ForwardedHeader::Forwarded);
    assert!(refused("[server]\ntrusted_proxies = [\"proxy\"]\n").starts_with("2: trusted_proxies: "));
    assert_eq!(refused("[tls]\n\ncert = \"c.pem\"\n"), "3: tls.cert needs tls.key");
    assert_eq!(refused("[tls]\nkey = \"k.pem\"\n"), "2: tls.key needs tls.cert");
    assert!(refused("[tls]\nredirect = \"0.0.0.0:80\"\n").starts_with("2: tls.redirect needs a certificate"));
}

#[test]
fn the_companion() {
    let text = "[chat]\nresponder = \"openai\"\nmodel = \"qwen\"\nkey = \"s3cret\"\n[weather.qweather]\nhost = \"h\"\nkey = \"k\"\n\
                [[handler]]\ntype = \"story\"\nurl = \"http://127.0.0.1:9/\"\n";
    let config = Config::parse(text).unwrap();
    assert_eq!((config.handler[0].kind.as_str(), config.handler[0].timeout_seconds), ("story", 10));
    assert!(!format!("{config:?}").contains("s3cret"));
    assert!(refused("[chat]\nresponder = \"openai\"\n").contains("chat.model must name the model"));
    let handler = |kind: &str, url: &str| format!("[[handler]]\ntype = \"{kind}\"\nurl = \"{url}\"\n");
    assert!(refused(&handler("sing", "http://x")).ends_with("that the program answers itself"));
    assert!(refused(&handler("a b", "http://x")).contains("letters, digits"));
    assert!(refused(&handler("a", "ftp://x")).contains("needs a url"));
    assert!(refused(&(handler("a", "http://x") + &handler("a", "http://y"))).contains("another one has"));
}

#[test]
fn bounds_that_follow_from_others() {
    let limits = |text: &str| Config::parse(&format!("[limits]\n{text}")).unwrap().limits;
    assert_eq!((limits("").bytes_per_minute(), limits("").sockets_per_address()), (6_553_600, 200));
    assert_eq!(limits("messages_per_minute = 0").bytes_per_minute(), 0);
    assert_eq!(limits("bytes_per_minute = 5").bytes_per_minute(), 5);
    assert_eq!(limits("connections_per_address = 0").sockets_per_address(), 0);
    assert_eq!(limits("connections_per_address = 3").sockets_per_address(), 50);
}

#[test]
fn impossible_values_are_refused_on_their_line() {
    assert!(refused("[limits]\n\nidle_seconds = 30\n").starts_with("3: limits.idle_seconds must be more than"));
    assert!(refused("[limits]\nping_seconds = 0\n").starts_with("1: limits.idle_seconds must be more than"));
    assert!(refused("[limits]\nping_seconds = \"30\"\n").starts_with("2: ping_seconds: invalid type: string"));
    assert!(refused("[limits]\nconnections = -1\n").starts_with("2: connections: invalid value: integer `-1`"));
    assert!(refused("[server]\norigins = [\"app.example.com\"]\n").starts_with("2: server.origins must hold"));
    assert!(refused("[server]\norigins = [\"https://b\u{fc}cher.example\"]\n").starts_with("2: server.origins must hold"));
    assert!(refused("[server]\nlisten = \"nowhere\"\n").starts_with("2: listen: "));
    assert!(refused("listen = \"[::]:1\"\n").ends_with("keys belong into a section, such as [server]"));
    let apps = "[server]\norigins = [\"null\", \"file://\", \"capacitor://localhost\", \"chrome-extension://abc\"]";
    assert!(Config::parse(apps).is_ok());
    assert!(refused("[server\n").starts_with("1: "));
    assert_eq!(refused("[limits]\ngroup_buffer = 0\n"), "2: limits.group_buffer must be 1 to 1048576");
}

/// Layers of a file with `text`, some variables and some `--set`s.
fn layered(text: &str, variables: &[(&str, &str)], sets: &[&str]) -> Result<Loaded, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).into()));
    let flags = sets.iter().map(|set| Flag::set(set)).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let read = Layers::new(Some(path), variables, flags).read();
    read.map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
}

fn source(loaded: &Loaded, key: &str) -> String {
    let text = loaded.sources.get(key).map(ToString::to_string).unwrap_or_default();
    text.rsplit_once('/').map_or(text.clone(), |(_, name)| name.to_owned())
}

#[test]
fn each_layer_comes_before_the_one_below() {
    let file = "[limits]\n\nping_seconds = 10\nidle_seconds = 50\nconnections = 7\n";
    let variables = [("QY_LTY__LIMITS__PING_SECONDS", "11"), ("QY_LTY__LIMITS__IDLE_SECONDS", "51"), ("HOME", "/")];
    let loaded = layered(file, &variables, &["limits.ping_seconds=12"]).unwrap();
    let limits = &loaded.config.limits;
    assert_eq!((limits.ping_seconds, limits.idle_seconds, limits.connections, limits.write_seconds), (12, 51, 7, 10));
    assert_eq!(source(&loaded, "limits.ping_seconds"), "--set limits.ping_seconds");
    assert_eq!(source(&loaded, "limits.idle_seconds"), "QY_LTY__LIMITS__IDLE_SECONDS");
    assert_eq!(source(&loaded, "limits.connections"), "c.toml:5");
    assert_eq!(source(&loaded, "limits.write_seconds"), "");
}

#[test]
fn values_are_what_their_keys_want() {
    let variables = [
        ("QY_LTY__SERVER__LISTEN", "0.0.0.0:8001"),
        ("QY_LTY__SERVER__ORIGINS", "[\"https://a\", 'https://b']"),
        ("QY_LTY__SERVER__REQUIRE_DEVICE", "true"),
        ("QY_LTY__CHAT__MODEL", "4"),
        ("QY_LTY__CHAT__SYSTEM", "be = \"kind\""),
        ("QY_LTY__CHAT__KEY", "12345"),
        ("QY_LTY__CHAT__TEMPERATURE", "0.7"),
        ("QY_LTY__WEATHER__QWEATHER__KEY", "k"),
        ("QY_LTY__WEATHER__QWEATHER__HOST", "h.example"),
        ("QY_LTY__LOG__FORMAT", "\"json\""),
    ];
    let sets = ["limits.bytes_per_minute=5"];
    let Config { server, chat, weather, log, limits, .. } = layered("", &variables, &sets).unwrap().config;
    assert_eq!((server.listen.to_string().as_str(), server.origins.len(), server.require_device), ("0.0.0.0:8001", 2, true));
    assert_eq!((chat.model.as_str(), chat.system.as_str(), chat.temperature), ("4", "be = \"kind\"", Some(0.7)));
    assert_eq!((chat.key.unwrap().reveal(), log.format, limits.bytes_per_minute), ("12345", LogFormat::Json, Some(5)));
    assert_eq!(weather.qweather.unwrap().key.reveal(), "k");
    let short = Layers::new(None, [].into_iter(), vec![Flag::short("--data-dir", "server.data_dir", "\"5".into())]);
    assert_eq!(short.read().unwrap().config.server.data_dir, PathBuf::from("\"5"));
}

#[test]
fn what_is_wrong_names_its_layer() {
    let variable = |name, value| layered("", &[(name, value)], &[]).unwrap_err();
    let set = |text: &str| layered("", &[], &[text]).unwrap_err();
    let name = "QY_LTY__LIMITS__PNG_SECONDS";
    assert_eq!(variable(name, "5"), format!("{name}: unknown key \"png_seconds\"; did you mean \"ping_seconds\"?"));
    assert_eq!(set("limit.ping_seconds=5"), "--set limit.ping_seconds: unknown key \"limit\"; did you mean \"limits\"?");
    assert!(variable("QY_LTY__LIMITS__PING_SECONDS", "soon").starts_with("QY_LTY__LIMITS__PING_SECONDS: invalid type: string"));
    assert!(variable("QY_LTY__LIMITS__PING_SECONDS", "-1").contains("invalid value: integer `-1`"));
    assert!(variable("QY_LTY__LIMITS__PING_SECONDS", "5\nidle_seconds = 9").contains("invalid type: string"));
    assert!(variable("QY_LTY__LIMITS", "5").ends_with("is a section; a setting has a key, too, such as limits.ping_seconds"));
    assert!(variable("QY_LTY__LIMITS", "{ ping_seconds = 5 }").contains("is a section"));
    assert!(variable("QY_LTY__", "5").contains("unknown key \"\""));
    assert!(variable("QY_LTY__LIMITS__PING_SECONDS__X", "5").contains("invalid type: map"));
    assert!(set(&format!("{}=5", "a.".repeat(100_000))).contains("is no setting"));
    assert!(set("handler.url=http://x").ends_with("handlers stand in the file only, as [[handler]]"));
    assert!(set("ping_seconds").ends_with("must be SECTION.KEY=VALUE, such as limits.ping_seconds=20"));
    assert_eq!(layered("[limits]\nx = 1\n", &[], &[]).unwrap_err(), "c.toml:2: unknown key \"x\"");
}

#[test]
fn an_impossible_value_is_its_layers_fault() {
    let ping = ("QY_LTY__LIMITS__PING_SECONDS", "100");
    assert!(layered("", &[ping], &[]).unwrap_err().starts_with("QY_LTY__LIMITS__PING_SECONDS: limits.idle_seconds must be more"));
    assert!(layered("", &[ping], &["limits.idle_seconds=101"]).is_ok());
    assert!(layered("", &[ping], &["limits.idle_seconds=99"]).unwrap_err().starts_with("QY_LTY__LIMITS__PING_SECONDS: "));
    let file = "[limits]\nidle_seconds = 20\n";
    assert!(layered(file, &[], &["limits.connections=1"]).unwrap_err().starts_with("c.toml:2: limits.idle_seconds"));
    assert!(layered(file, &[("QY_LTY__LIMITS__PING_SECONDS", "10")], &[]).is_ok(), "mended above");
    assert_eq!(
        layered("", &[], &["limits.group_buffer=0"]).unwrap_err(),
        "--set limits.group_buffer: limits.group_buffer must be 1 to 1048576"
    );
    assert!(refused("[log]\nfilter = \"qy_lty=loud\"\n").starts_with("2: log.filter must be levels"));
}

#[test]
fn secrets_come_from_where_they_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("handler-story"), "deep\n").unwrap();
    std::fs::write(dir.path().join("chat-key"), "shallow\n").unwrap();
    let file = "[[handler]]\ntype = \"story\"\nurl = \"http://x\"\n[weather.qweather]\nhost = \"h\"\n";
    let variables = [("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap()), ("QY_LTY_QWEATHER_KEY", "q")];
    let loaded = layered(file, &variables, &[]).unwrap();
    assert_eq!(
        (loaded.config.handler[0].secret.reveal(), loaded.config.chat.key.as_ref().unwrap().reveal()),
        ("deep", "shallow")
    );
    assert_eq!(
        (source(&loaded, "chat.key"), source(&loaded, "weather.qweather.key")),
        ("the credential chat-key".into(), "QY_LTY_QWEATHER_KEY".into())
    );
    assert!(
        layered(file, &variables[1..], &[])
            .unwrap_err()
            .starts_with("the handler of story needs a secret (or QY_LTY_HANDLER_STORY")
    );
    assert!(layered(file, &variables[..1], &[]).unwrap_err().starts_with("weather.qweather.key is missing"));
    for shown in [loaded.to_toml(), loaded.to_json().to_string()] {
        assert!(
            shown.contains("(hidden)") && ["deep", "shallow", "\"q\""].iter().all(|secret| !shown.contains(secret)),
            "{shown}"
        );
    }
}

#[test]
fn what_is_shown_reads_as_what_is_in_force() {
    let file = "[server]\norigins = [\"https://a\"]\n[chat]\nsystem = \"\"\"a\n\"b\"\\u007f\\\\\"\"\"\n[tls]\ncert = \"c\"\nkey = \"k\"\n";
    let loaded = layered(file, &[], &["chat.temperature=0.7"]).unwrap();
    let shown = loaded.to_toml();
    assert_eq!(Config::parse(&shown).unwrap(), loaded.config, "{shown}");
    assert!(
        shown.lines().any(|line| line.starts_with("origins = [\"https://a\"]  # /") && line.ends_with("c.toml:2")),
        "{shown}"
    );
    assert!(shown.lines().any(|line| line == "temperature = 0.7  # --set chat.temperature"), "{shown}");
    assert!(shown.starts_with("[server]\nlisten = \"127.0.0.1:8000\"\n"), "{shown}");
    let everything = Config::parse(&uncommented()).unwrap();
    let shown = Loaded { config: everything.clone(), sources: Default::default() }.to_toml();
    let hidden = |config: &Config| format!("{config:?}"); // secrets are shown as something else
    assert_eq!(hidden(&Config::parse(&shown).unwrap()), hidden(&everything), "{shown}");
}

/// The default file with every setting that stands as a comment set.
fn uncommented() -> String {
    let bare = |line: &'static str| {
        let inner = line.strip_prefix("# ")?;
        (inner.starts_with('[') || super::shown::key_of(inner).is_some()).then_some(inner)
    };
    DEFAULT.lines().map(|line| bare(line).unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The keys that the program accepts below `section`, in its own words: what it proposes for one that it does not know.
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

/// Every setting that the program accepts.
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
fn the_default_file_changes_nothing() {
    assert_eq!(Config::parse(DEFAULT).unwrap(), Config::default());
}

#[test]
fn the_default_file_holds_every_setting_and_no_other() {
    // It is read without an error, so it holds no other.
    let everything = Config::parse(&uncommented()).unwrap();
    assert!(everything.weather.qweather.is_some() && everything.handler.len() == 1 && everything.tls.redirect.is_some());
    let mut documented = super::shown::documented();
    documented.sort();
    assert_eq!(documented, settings());
    assert!(documented.len() > 70 && documented.contains(&"weather.qweather.host".to_owned()));
    // And each of them stands there as a setting of its own, not as an accident of some text.
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
fn the_default_file_says_what_needs_a_restart() {
    let (mut section, mut comment) = ("", String::new());
    for line in DEFAULT.lines() {
        let inner = line.strip_prefix("# ").unwrap_or(line);
        if inner.starts_with('[') {
            section = inner.trim_matches(['[', ']']);
            comment.clear();
        } else if let Some(key) = super::shown::key_of(inner) {
            let name = format!("{section}.{key}");
            assert!(!comment.is_empty(), "{name} is not explained");
            assert_eq!(comment.contains("(restart)"), super::changes::needs_restart(&name), "{name}: {comment}");
            comment.clear();
        } else {
            comment += line;
        }
    }
}

#[test]
fn changes_are_told_apart() {
    let old = Config::parse("[chat]\nkey = \"a\"\n[tls]\ncert = \"c\"\nkey = \"k\"\n").unwrap();
    let text = "[server]\nlisten = \"127.0.0.1:1\"\norigins = [\"https://a\"]\n[chat]\nkey = \"b\"\n[limits]\nping_seconds = 5\n\
                [tls]\ncert = \"d\"\nkey = \"k\"\n[storage]\ncompact_ratio = 3\n[[handler]]\ntype = \"t\"\nurl = \"http://x\"\nsecret = \"s\"\n";
    let new = Config::parse(text).unwrap();
    let Changes { live, restart } = old.changes(&new);
    assert_eq!(live, ["chat.key", "handler", "limits.ping_seconds", "server.origins", "tls.cert"]);
    assert_eq!(restart, ["server.listen", "storage.compact_ratio"]);
    let updated = old.updated(new.clone());
    assert_eq!(old.changes(&updated).live, live);
    assert!(old.changes(&updated).restart.is_empty());
    assert_eq!(updated.changes(&new), Changes { live: vec![], restart }, "told again until it is restarted");
    assert_eq!(old.changes(&Config::parse("[chat]\nkey = \"a\"\n").unwrap()).restart, ["tls.cert", "tls.key"]);
    assert_eq!(old.changes(&old), Changes::default());
}

/// The program's own text but for this room: every `.rs` file below `directory`.
fn sources(directory: &std::path::Path, text: &mut String) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("src/config") {
            sources(&path, text);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let code = std::fs::read_to_string(&path).unwrap();
            let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap(); // a test that reads it is no use of it
            text.extend(code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| line.to_owned() + "\n"));
        }
    }
}

#[test]
fn every_setting_is_used() {
    let mut text = String::new();
    sources(&PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src"), &mut text);
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let used =
        |field: &str| text.match_indices(field).any(|(at, _)| text[..at].ends_with('.') && ends(&text[at + field.len()..]));
    let idle: Vec<String> = settings()
        .into_iter()
        .filter(|name| {
            let field = name.rsplit_once('.').unwrap().1;
            !used(if name == "handler.type" { "kind" } else { field })
        })
        .collect();
    assert!(idle.is_empty(), "nothing reads {idle:?}");
}
