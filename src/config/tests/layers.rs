//! Merging of the file, the environment, the flags and the credentials.

use super::super::*;
use super::{layered, source};

#[test]
fn unknown_variable_is_refused_with_the_nearest_name() {
    let refused = |name: &str| layered("", &[(name, "5")], &[]).unwrap_err();
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
        assert_eq!(refused(name), format!("{name}: unknown variable; did you mean {meant}?"));
    }
    assert_eq!(
        refused("QY_LTY_XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX"),
        "QY_LTY_XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX: unknown variable"
    );
    let fine = [
        "QY_LTY_ADMIN_PASSWORD",
        "QY_LTY_BENCH_TOKEN",
        "QY_LTY_CHAT_KEY",
        "QY_LTY_QWEATHER_KEY",
        "QY_LTY_HANDLER_STORY",
        "QY",
        "\u{e9}\u{e9}\u{e9}\u{e9}",
    ];
    assert!(layered("", &fine.map(|name| (name, "x")), &[]).is_ok());
}

#[test]
fn file_that_is_not_regular_or_too_large_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &std::path::Path| Layers::new(Some(path.into()), [].into_iter(), vec![]).read().unwrap_err().to_string();
    assert!(refused(dir.path()).ends_with(": not a regular file"));
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(refused(&pipe).ends_with(": not a regular file"), "without waiting for a writer");
    let path = dir.path().join("c.toml");
    std::fs::write(&path, "\n".repeat(1 << 20)).unwrap();
    assert!(Layers::new(Some(path.clone()), [].into_iter(), vec![]).read().is_ok());
    std::fs::File::create(&path).unwrap().set_len(100 << 30).unwrap();
    assert!(refused(&path).ends_with(": larger than 1048576 bytes, the limit for a configuration file"));
    std::fs::write(&path, b"\xff").unwrap();
    assert!(refused(&path).ends_with(": not valid UTF-8"));
}

#[test]
fn each_layer_overrides_the_one_below() {
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
fn override_is_parsed_as_the_type_of_its_key() {
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
    let short = Layers::new(None, [].into_iter(), vec![Flag::dedicated("--data-dir", "server.data_dir", "\"5".into())]);
    assert_eq!(short.read().unwrap().config.server.data_dir, PathBuf::from("\"5"));
}

#[test]
fn invalid_override_is_refused_with_its_source() {
    let variable = |name, value| layered("", &[(name, value)], &[]).unwrap_err();
    let set = |text: &str| layered("", &[], &[text]).unwrap_err();
    let name = "QY_LTY__LIMITS__PNG_SECONDS";
    assert_eq!(variable(name, "5"), format!("{name}: unknown key \"png_seconds\"; did you mean \"ping_seconds\"?"));
    assert_eq!(set("limit.ping_seconds=5"), "--set limit.ping_seconds: unknown key \"limit\"; did you mean \"limits\"?");
    assert!(variable("QY_LTY__LIMITS__PING_SECONDS", "soon").ends_with(", not the string \"soon\""));
    assert!(variable("QY_LTY__LIMITS__PING_SECONDS", "-1").ends_with("not the integer -1"));
    assert!(variable("QY_LTY__LIMITS__PING_SECONDS", "5\nidle_seconds = 9").contains("must be a whole number"));
    assert!(
        variable("QY_LTY__LIMITS", "5").ends_with("is a section, not a setting: settings have names such as limits.ping_seconds")
    );
    assert!(variable("QY_LTY__LIMITS", "{ ping_seconds = 5 }").contains("is a section"));
    assert!(variable("QY_LTY__", "5").contains("unknown key \"\""));
    assert!(variable("QY_LTY__LIMITS__PING_SECONDS__X", "5").ends_with(", not a section"));
    assert!(set(&format!("{}=5", "a.".repeat(100_000))).contains("not a setting"));
    assert!(set("handler.url=http://x").ends_with("handlers can only be set in the file, as [[handler]] blocks"));
    assert!(set("ping_seconds").ends_with("must be SECTION.KEY=VALUE, such as limits.ping_seconds=20"));
    assert_eq!(layered("[limits]\nx = 1\n", &[], &[]).unwrap_err(), "c.toml:2: unknown key \"x\"");
}

#[test]
fn impossible_value_is_reported_for_the_layer_that_sets_it() {
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
    assert!(layered(file, &[("QY_LTY__LIMITS__PING_SECONDS", "10")], &[]).is_ok(), "fixed by a higher layer");
    assert_eq!(
        layered("", &[], &["limits.group_buffer=0"]).unwrap_err(),
        "--set limits.group_buffer: limits.group_buffer must be 1 to 1048576"
    );
}

#[test]
fn secrets_are_the_same_however_their_line_ends() {
    for text in ["k3y", "k3y\n", "k3y\r\n", "\u{feff}k3y\n", "k3y\n\n", " k3y \n", "k3y\nsecond line\n"] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("chat-key"), text).unwrap();
        let directory = ("CREDENTIALS_DIRECTORY", dir.path().to_str().unwrap());
        for variables in [[directory, ("QY_LTY_CHAT_KEY", "")], [("CREDENTIALS_DIRECTORY", ""), ("QY_LTY_CHAT_KEY", text)]] {
            let loaded = layered("", &variables, &[]).unwrap();
            assert_eq!(loaded.config.chat.key.unwrap().reveal(), "k3y", "{variables:?}");
        }
    }
}

#[test]
fn missing_secrets_are_read_from_variables_and_credentials() {
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
        ("credential chat-key".into(), "QY_LTY_QWEATHER_KEY".into())
    );
    assert!(
        layered(file, &variables[1..], &[])
            .unwrap_err()
            .starts_with("the secret of handler story is missing: set secret in its block, QY_LTY_HANDLER_STORY")
    );
    assert!(layered(file, &variables[..1], &[]).unwrap_err().starts_with("weather.qweather.key is missing"));
    for rendered in [loaded.to_toml(), loaded.to_json().to_string()] {
        assert!(
            rendered.contains("(hidden)") && ["deep", "shallow", "\"q\""].iter().all(|secret| !rendered.contains(secret)),
            "{rendered}"
        );
    }
}

#[test]
fn relative_path_in_a_file_is_counted_from_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.toml");
    std::fs::write(&path, "[server]\ndata_dir = \"data\"\n[tls]\ncert = \"tls/cert.pem\"\nkey = \"/etc/key.pem\"\n").unwrap();
    let read = |flags: Vec<Flag>| Layers::new(Some(path.clone()), [].into_iter(), flags).read().unwrap().config;
    let config = read(vec![]);
    assert_eq!(config.server.data_dir, dir.path().join("data"));
    assert_eq!((config.tls.cert, config.tls.key), (Some(dir.path().join("tls/cert.pem")), Some("/etc/key.pem".into())));
    let flag = Flag::dedicated("--data-dir", "server.data_dir", "other".into());
    assert_eq!(read(vec![flag]).server.data_dir, PathBuf::from("other"));
    let variable = ("QY_LTY__TLS__CERT".to_owned(), "cert.pem".into());
    let config = Layers::new(Some(path), [variable].into_iter(), vec![]).read().unwrap().config;
    assert_eq!(config.tls.cert, Some("cert.pem".into()));
}
