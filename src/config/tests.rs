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
    assert_eq!(refused(&handler("sing", "http://x")), "2: handler.type must be none that the program answers itself");
    assert!(refused(&handler("a b", "http://x")).contains("letters, digits"));
    assert_eq!(refused(&handler("a", "ftp://x")), "3: handler.url must begin with http:// or https://");
    assert_eq!(
        refused(&(handler("a", "http://x") + &handler("a", "http://y"))),
        "5: handler.type must be another one in each block"
    );
    let late = handler("a", "http://x") + "\n" + &handler("b", "http://y") + "concurrency = 0\n";
    assert_eq!(refused(&late), "8: handler.concurrency must be 1 to 4096");
    assert_eq!(refused(&(handler("a", "http://x") + "max_bytes = 2000000\n")), "4: handler.max_bytes must be at most 1048576");
    for temperature in ["-0.1", "2.1", "nan", "inf", "-inf"] {
        assert_eq!(refused(&format!("[chat]\ntemperature = {temperature}\n")), "2: chat.temperature must be 0 to 2");
    }
    assert!(Config::parse("[chat]\ntemperature = 2\n").is_ok());
}

#[test]
fn addresses_hold_no_secrets() {
    for user in ["u:p@", "u@", ":p@"] {
        let said = [
            refused(&format!("[chat]\nurl = \"http://{user}host/v1\"\n")),
            refused(&format!("[weather.qweather]\n\nhost = \"{user}host\"\nkey = \"k\"\n")),
            refused(&format!("[weather.qweather]\n\nhost = \"https://{user}host\"\nkey = \"k\"\n")),
            refused(&format!("[[handler]]\ntype = \"a\"\n\nurl = \"https://{user}host\"\n")),
        ];
        assert!(said[0].starts_with("2: chat.url must hold no name and no password: the key stands in chat.key"), "{}", said[0]);
        assert!(said[1].starts_with("3: weather.qweather.host must hold no name") && said[1] == said[2], "{}", said[1]);
        assert!(said[3].starts_with("4: handler.url must hold no name") && said[3].ends_with("secret"), "{}", said[3]);
    }
    assert!(Config::parse("[chat]\nurl = \"http://host/a@b?c=d:e@f\"\n").is_ok());
}

#[test]
fn listeners_are_apart() {
    let listeners = |server: &str, redirect: &str, metrics: &str| {
        format!(
            "[server]\nlisten = \"{server}\"\n[tls]\nself_signed = true\nredirect = \"{redirect}\"\n[metrics]\nlisten = \"{metrics}\"\n"
        )
    };
    assert!(Config::parse(&listeners("0.0.0.0:1", "0.0.0.0:2", "0.0.0.0:3")).is_ok());
    assert!(Config::parse(&listeners("0.0.0.0:0", "0.0.0.0:0", "0.0.0.0:0")).is_ok(), "each takes a free one");
    let said = "7: metrics.listen must be another address than server.listen";
    assert_eq!(refused(&listeners("[::1]:1", "0.0.0.0:2", "[::1]:1")), said);
    assert_eq!(
        refused(&listeners("0.0.0.0:1", "0.0.0.0:1", "0.0.0.0:2")),
        "5: tls.redirect must be another address than server.listen"
    );
    assert_eq!(
        refused(&listeners("0.0.0.0:1", "0.0.0.0:2", "0.0.0.0:2")),
        "5: tls.redirect must be another address than metrics.listen"
    );
    assert_eq!(
        refused("[metrics]\nlisten = \"127.0.0.1:8000\"\n"),
        "2: metrics.listen must be another address than server.listen"
    );
    let file = "[metrics]\nlisten = \"127.0.0.1:9\"\n";
    assert_eq!(
        layered(file, &[("QY_LTY__SERVER__LISTEN", "127.0.0.1:9")], &[]).unwrap_err(),
        "QY_LTY__SERVER__LISTEN: server.listen must be another address than metrics.listen"
    );
}

#[test]
fn the_key_that_is_set_is_to_blame() {
    assert!(
        refused("[server]\n[limits]\n\nping_seconds = 80\n").starts_with("4: limits.ping_seconds must be at least 1 and less")
    );
    assert!(
        refused("[limits]\nping_seconds = 80\n\nidle_seconds = 80\n").starts_with("4: limits.idle_seconds must be more than")
    );
    assert_eq!(refused("[mailbox]\n\nttl = 31622401\n"), "3: mailbox.ttl must be at most mailbox.max_ttl");
    assert_eq!(refused("[mailbox]\nmax_ttl = 604799\n"), "2: mailbox.max_ttl must be at least mailbox.ttl");
    assert_eq!(refused("[chat]\nresponder = \"openai\"\n"), "2: chat.responder is \"openai\": chat.model must name the model");
    for ratio in 1..12 {
        assert!(
            refused(&format!("[storage]\ncompact_ratio = {ratio}\n"))
                .starts_with("2: storage.compact_ratio must be 0 or at least 12")
        );
    }
    assert!(Config::parse("[storage]\ncompact_ratio = 0\n").is_ok() && Config::parse("[storage]\ncompact_ratio = 12\n").is_ok());
}

#[test]
fn a_filter_that_logs_nothing_is_refused() {
    let said = "must be levels such as \"info\" or \"warn,qy_lty=debug\"; \"inof\" is none; did you mean \"info\"?";
    assert_eq!(refused("[log]\n\nfilter = \"warn,inof\"\n"), format!("3: log.filter {said}"));
    assert_eq!(
        layered("", &[("QY_LTY__LOG__FILTER", "inof")], &[]).unwrap_err(),
        format!("QY_LTY__LOG__FILTER: log.filter {said}")
    );
    assert!(refused("[log]\nfilter = \"nonsense\"\n").ends_with("; \"nonsense\" is none"));
    assert!(refused("[log]\nfilter = \"qy_lty=loud\"\n").starts_with("2: log.filter must be levels"));
}

#[test]
fn what_is_wanted_is_said_in_plain_words() {
    for (text, said) in [
        ("[server]\nlisten = \"localhost:8000\"", "2: listen: must be an address and port, such as 127.0.0.1:8000"),
        ("[server]\nlisten = 5", "2: listen: must be an address and port, such as \"127.0.0.1:8000\", not the integer 5"),
        ("[server]\norigins = \"https://a\"", "2: origins: must be a list, such as [\"a\", \"b\"], not the string \"https://a\""),
        ("[server]\nrequire_device = 1", "2: require_device: must be true or false, not the integer 1"),
        ("[limits]\nconnections = true", "2: connections: must be a whole number from 0 to 4294967295, not the boolean true"),
        (
            "[limits]\nconnections = 4294967296",
            "2: connections: must be a whole number from 0 to 4294967295, not the integer 4294967296",
        ),
        ("[mailbox]\nbytes = -1", "2: bytes: must be a whole number from 0, not the integer -1"),
        ("[mailbox]\nmessages = 1.5", "2: messages: must be a whole number from 0, not a floating point 1.5"),
        ("[chat]\ntemperature = \"hot\"", "2: temperature: must be a number, not the string \"hot\""),
        ("[chat]\nmodel = 4", "2: model: must be a string, not the integer 4"),
        (
            "[auth]\nregistration = \"opn\"",
            "2: registration: must be \"closed\" or \"open\", not \"opn\"; did you mean \"open\"?",
        ),
        ("limits = 5", "1: limits: must be a section, not the integer 5"),
    ] {
        assert_eq!(refused(text), said);
    }
}

#[test]
fn variables_that_would_do_nothing_are_refused() {
    let said = |name: &str| layered("", &[(name, "5")], &[]).unwrap_err();
    for (name, meant) in [
        ("QY_LTY_LIMITS_PING", "QY_LTY__LIMITS__PING_SECONDS"),
        ("QY_LTY_LIMITS_PING_SECONDS", "QY_LTY__LIMITS__PING_SECONDS"),
        ("qy_lty__limits__ping_seconds", "QY_LTY__LIMITS__PING_SECONDS"),
        ("Qy_Lty__SERVER__LISTEN", "QY_LTY__SERVER__LISTEN"),
        ("QY_LTY_CONFG", "QY_LTY_CONFIG"),
        ("qy_lty_config", "QY_LTY_CONFIG"),
        ("QY_LTY_ADMIN_PASWORD", "QY_LTY_ADMIN_PASSWORD"),
        ("QY_LTY_QWEATHER", "QY_LTY_QWEATHER_KEY"),
    ] {
        assert_eq!(said(name), format!("{name}: is no variable of ours; did you mean {meant}?"));
    }
    assert_eq!(
        said("QY_LTY_XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX"),
        "QY_LTY_XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX: is no variable of ours"
    );
    let fine = [
        "QY_LTY_ADMIN_PASSWORD",
        "QY_LTY_CHAT_KEY",
        "QY_LTY_QWEATHER_KEY",
        "QY_LTY_HANDLER_STORY",
        "QY",
        "\u{e9}\u{e9}\u{e9}\u{e9}",
    ];
    assert!(layered("", &fine.map(|name| (name, "x")), &[]).is_ok());
}

#[test]
fn only_files_of_a_sane_size_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let said = |path: &std::path::Path| Layers::new(Some(path.into()), [].into_iter(), vec![]).read().unwrap_err().to_string();
    assert!(said(dir.path()).ends_with(": it is no regular file"));
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(said(&pipe).ends_with(": it is no regular file"), "and nobody waits for a writer");
    let path = dir.path().join("c.toml");
    std::fs::write(&path, "\n".repeat(1 << 20)).unwrap();
    assert!(Layers::new(Some(path.clone()), [].into_iter(), vec![]).read().is_ok());
    std::fs::File::create(&path).unwrap().set_len(100 << 30).unwrap();
    assert!(said(&path).ends_with(": it has more than 1048576 bytes, and can be no configuration"));
    std::fs::write(&path, b"\xff").unwrap();
    assert!(said(&path).ends_with(": it is not UTF-8"));
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
    assert!(refused("[limits]\nping_seconds = 0\n").starts_with("2: limits.ping_seconds must be at least 1"));
    assert!(refused("[limits]\nping_seconds = \"30\"\n").starts_with("2: ping_seconds: must be a whole number"));
    assert!(refused("[limits]\nconnections = -1\n").ends_with("not the integer -1"));
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
    assert!(variable("QY_LTY__LIMITS__PING_SECONDS", "soon").ends_with(", not the string \"soon\""));
    assert!(variable("QY_LTY__LIMITS__PING_SECONDS", "-1").ends_with("not the integer -1"));
    assert!(variable("QY_LTY__LIMITS__PING_SECONDS", "5\nidle_seconds = 9").contains("must be a whole number"));
    assert!(variable("QY_LTY__LIMITS", "5").ends_with("is a section; a setting has a key, too, such as limits.ping_seconds"));
    assert!(variable("QY_LTY__LIMITS", "{ ping_seconds = 5 }").contains("is a section"));
    assert!(variable("QY_LTY__", "5").contains("unknown key \"\""));
    assert!(variable("QY_LTY__LIMITS__PING_SECONDS__X", "5").ends_with(", not a section"));
    assert!(set(&format!("{}=5", "a.".repeat(100_000))).contains("is no setting"));
    assert!(set("handler.url=http://x").ends_with("handlers stand in the file only, as [[handler]]"));
    assert!(set("ping_seconds").ends_with("must be SECTION.KEY=VALUE, such as limits.ping_seconds=20"));
    assert_eq!(layered("[limits]\nx = 1\n", &[], &[]).unwrap_err(), "c.toml:2: unknown key \"x\"");
}

#[test]
fn an_impossible_value_is_its_layers_fault() {
    let ping = ("QY_LTY__LIMITS__PING_SECONDS", "100");
    assert!(
        layered("", &[ping], &[])
            .unwrap_err()
            .starts_with("QY_LTY__LIMITS__PING_SECONDS: limits.ping_seconds must be at least 1")
    );
    assert!(layered("", &[ping], &["limits.idle_seconds=101"]).is_ok());
    assert!(layered("", &[ping], &["limits.idle_seconds=99"]).unwrap_err().starts_with("QY_LTY__LIMITS__PING_SECONDS: "));
    let file = "[limits]\nidle_seconds = 20\n";
    assert!(layered(file, &[], &["limits.connections=1"]).unwrap_err().starts_with("c.toml:2: limits.idle_seconds"));
    assert!(layered(file, &[("QY_LTY__LIMITS__PING_SECONDS", "10")], &[]).is_ok(), "mended above");
    assert_eq!(
        layered("", &[], &["limits.group_buffer=0"]).unwrap_err(),
        "--set limits.group_buffer: limits.group_buffer must be 1 to 1048576"
    );
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
        (inner.starts_with('[') || super::render::key_of(inner).is_some()).then_some(inner)
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
    let mut documented = super::render::documented();
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
        } else if let Some(key) = super::render::key_of(inner) {
            let name = format!("{section}.{key}");
            assert!(!comment.is_empty(), "{name} is not explained");
            assert_eq!(comment.contains("(restart)"), super::diff::needs_restart(&name), "{name}: {comment}");
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
                [tls]\ncert = \"d\"\nkey = \"k\"\n[storage]\ncompact_ratio = 13\n[[handler]]\ntype = \"t\"\nurl = \"http://x\"\nsecret = \"s\"\n";
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
