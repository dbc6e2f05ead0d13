//! Parsing and validation of single files.

use super::super::*;
use super::{layered, refused};
use crate::telemetry::metrics::{Label, Received};

#[test]
fn empty_file_is_the_default_configuration() {
    assert_eq!(Config::parse("").unwrap(), Config::default());
    assert!(Config::default().validate().is_empty());
}

#[test]
fn values_of_a_file_are_applied() {
    let text = "[server]\nlisten = \"0.0.0.0:9\"\norigins = [\"https://a.b\"]\n[auth]\nregistration = \"open\"\n[limits]\nconnections = 0";
    let config = Config::parse(text).unwrap();
    assert_eq!(config.server.listen.to_string(), "0.0.0.0:9");
    assert_eq!(config.auth.registration, Registration::Open);
    assert_eq!(config.limits.connections, 0);
    assert_eq!(config.limits.idle_seconds, 75);
}

#[test]
fn unknown_key_is_refused_with_the_nearest_name() {
    let text = "[server]\n\n[limits]\nmessages_per_minut = 5\n";
    assert_eq!(refused(text), "4: unknown key \"messages_per_minut\"; did you mean \"messages_per_minute\"?");
    assert_eq!(refused("[limit]\n"), "1: unknown key \"limit\"; did you mean \"limits\"?");
    assert_eq!(refused("[server]\nzzzzzzzzzzzzzz = 1\n"), "2: unknown key \"zzzzzzzzzzzzzz\"");
}

#[test]
fn proxies_and_certificates_are_parsed_and_validated() {
    let text =
        "[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"::1\"]\nforwarded_header = \"forwarded\"\n[tls]\nself_signed = true";
    let config = Config::parse(text).unwrap();
    assert!(config.server.trusted_proxies[0].contains("10.1.2.3".parse().unwrap()) && config.tls.enabled());
    assert_eq!(config.server.forwarded_header, ForwardedHeader::Forwarded);
    assert!(refused("[server]\ntrusted_proxies = [\"proxy\"]\n").starts_with("2: trusted_proxies: "));
    assert_eq!(refused("[tls]\n\ncert = \"c.pem\"\n"), "3: tls.cert requires tls.key");
    assert_eq!(refused("[tls]\nkey = \"k.pem\"\n"), "2: tls.key requires tls.cert");
    assert!(refused("[tls]\nredirect = \"0.0.0.0:80\"\n").starts_with("2: tls.redirect requires a certificate"));
}

#[test]
fn companion_settings_are_parsed_and_validated() {
    let text = "[chat]\nresponder = \"openai\"\nmodel = \"qwen\"\nkey = \"s3cret\"\n[weather.qweather]\nhost = \"h\"\nkey = \"k\"\n\
                [[handler]]\ntype = \"story\"\nurl = \"http://127.0.0.1:9/\"\n";
    let config = Config::parse(text).unwrap();
    assert_eq!((config.handler[0].kind.as_str(), config.handler[0].timeout_seconds), ("story", 10));
    assert!(!format!("{config:?}").contains("s3cret"));
    assert!(refused("[chat]\nresponder = \"openai\"\n").contains("chat.model must name the model"));
    let handler = |kind: &str, url: &str| format!("[[handler]]\ntype = \"{kind}\"\nurl = \"{url}\"\n");
    for kind in Received::ALL.iter().filter(|kind| !matches!(kind, Received::Custom | Received::Rejected)) {
        let text = handler(kind.name(), "http://x");
        assert_eq!(refused(&text), "2: handler.type must not be a built-in message type", "{kind:?}: UNAVAILABLE_TYPES lacks it");
        let page = include_str!("../../../docs/protocol.md");
        assert!(page.contains(&format!("\n| `{}` | ", kind.name())), "docs/protocol.md lacks a row of {kind:?}");
    }
    assert!(refused(&handler("a b", "http://x")).contains("letters, digits"));
    assert_eq!(refused(&handler("a", "ftp://x")), "3: handler.url must begin with http:// or https://");
    assert_eq!(
        refused(&(handler("a", "http://x") + &handler("a", "http://y"))),
        "5: handler.type must be unique: an earlier [[handler]] block has the same type"
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
fn url_with_user_name_or_password_is_refused() {
    for user in ["u:p@", "u@", ":p@"] {
        let messages = [
            refused(&format!("[chat]\nurl = \"http://{user}host/v1\"\n")),
            refused(&format!("[weather.qweather]\n\nhost = \"{user}host\"\nkey = \"k\"\n")),
            refused(&format!("[weather.qweather]\n\nhost = \"https://{user}host\"\nkey = \"k\"\n")),
            refused(&format!("[[handler]]\ntype = \"a\"\n\nurl = \"https://{user}host\"\n")),
        ];
        assert!(
            messages[0].starts_with("2: chat.url must not contain a user name or a password: put the key in chat.key"),
            "{}",
            messages[0]
        );
        assert!(
            messages[1].starts_with("3: weather.qweather.host must not contain a user name") && messages[1] == messages[2],
            "{}",
            messages[1]
        );
        assert!(
            messages[3].starts_with("4: handler.url must not contain a user name") && messages[3].ends_with("secret"),
            "{}",
            messages[3]
        );
    }
    assert!(Config::parse("[chat]\nurl = \"http://host/a@b?c=d:e@f\"\n").is_ok());
}

#[test]
fn listeners_with_the_same_address_are_refused() {
    let listeners = |server: &str, redirect: &str, metrics: &str| {
        format!(
            "[server]\nlisten = \"{server}\"\n[tls]\nself_signed = true\nredirect = \"{redirect}\"\n[metrics]\nlisten = \"{metrics}\"\n"
        )
    };
    assert!(Config::parse(&listeners("0.0.0.0:1", "0.0.0.0:2", "0.0.0.0:3")).is_ok());
    assert!(Config::parse(&listeners("0.0.0.0:0", "0.0.0.0:0", "0.0.0.0:0")).is_ok(), "each gets a free port");
    let message = "7: metrics.listen must differ from server.listen";
    assert_eq!(refused(&listeners("[::1]:1", "0.0.0.0:2", "[::1]:1")), message);
    assert_eq!(refused(&listeners("0.0.0.0:1", "0.0.0.0:1", "0.0.0.0:2")), "5: tls.redirect must differ from server.listen");
    assert_eq!(refused(&listeners("0.0.0.0:1", "0.0.0.0:2", "0.0.0.0:2")), "5: tls.redirect must differ from metrics.listen");
    assert_eq!(refused("[metrics]\nlisten = \"127.0.0.1:8000\"\n"), "2: metrics.listen must differ from server.listen");
    let file = "[metrics]\nlisten = \"127.0.0.1:9\"\n";
    assert_eq!(
        layered(file, &[("QY_LTY__SERVER__LISTEN", "127.0.0.1:9")], &[]).unwrap_err(),
        "QY_LTY__SERVER__LISTEN: server.listen must differ from metrics.listen"
    );
}

#[test]
fn conflict_is_reported_for_the_setting_that_is_set() {
    assert!(
        refused("[server]\n[limits]\n\nping_seconds = 80\n").starts_with("4: limits.ping_seconds must be at least 1 and less")
    );
    assert!(
        refused("[limits]\nping_seconds = 80\n\nidle_seconds = 80\n").starts_with("4: limits.idle_seconds must be more than")
    );
    assert!(refused("[limits]\nstalled_seconds = 30\n").starts_with("2: limits.stalled_seconds must be more than"));
    assert!(
        refused("[limits]\nidle_seconds = 0\n\nping_seconds = 600\n").starts_with("4: limits.ping_seconds must be less than")
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
    for entries in [1, 99, 100_001] {
        let expected = "2: storage.audit_entries must be 0, or 100 to 100000";
        assert_eq!(refused(&format!("[storage]\naudit_entries = {entries}\n")), expected);
    }
    assert!([0, 100, 100_000].into_iter().all(|n| Config::parse(&format!("[storage]\naudit_entries = {n}\n")).is_ok()));
}

#[test]
fn log_filter_without_a_level_is_refused() {
    let message =
        "must be a level such as \"info\" or a list such as \"warn,qy_lty=debug\"; \"inof\" is invalid; did you mean \"info\"?";
    assert_eq!(refused("[log]\n\nfilter = \"warn,inof\"\n"), format!("3: log.filter {message}"));
    assert_eq!(
        layered("", &[("QY_LTY__LOG__FILTER", "inof")], &[]).unwrap_err(),
        format!("QY_LTY__LOG__FILTER: log.filter {message}")
    );
    assert!(refused("[log]\nfilter = \"nonsense\"\n").ends_with("; \"nonsense\" is invalid"));
    assert!(refused("[log]\nfilter = \"qy_lty=loud\"\n").starts_with("2: log.filter must be a level"));
}

#[test]
fn wrong_types_are_explained_without_names_of_rust_types() {
    for (text, message) in [
        (
            "[server]\nlisten = \"box.lan:8000\"",
            "2: listen: must be an address and port, such as \"127.0.0.1:8000\", \"localhost:8000\" or \":8000\", not the string \"box.lan:8000\"",
        ),
        (
            "[server]\nlisten = 5",
            "2: listen: must be an address and port, such as \"127.0.0.1:8000\", \"localhost:8000\" or \":8000\", not the integer 5",
        ),
        ("[server]\norigins = \"https://a\"", "2: origins: must be a list, such as [\"a\", \"b\"], not the string \"https://a\""),
        ("[server]\nrequire_device = 1", "2: require_device: must be true or false, not the integer 1"),
        ("[limits]\nconnections = true", "2: connections: must be a whole number from 0 to 4294967295, not the boolean true"),
        (
            "[limits]\nconnections = 4294967296",
            "2: connections: must be a whole number from 0 to 4294967295, not the integer 4294967296",
        ),
        ("[mailbox]\nmessages = -1", "2: messages: must be a whole number from 0, not the integer -1"),
        ("[mailbox]\nmessages = 1.5", "2: messages: must be a whole number from 0, not a floating point 1.5"),
        ("[chat]\ntemperature = \"hot\"", "2: temperature: must be a number, not the string \"hot\""),
        ("[chat]\nmodel = 4", "2: model: must be a string, not the integer 4"),
        (
            "[auth]\nregistration = \"opn\"",
            "2: registration: must be \"closed\" or \"open\", not \"opn\"; did you mean \"open\"?",
        ),
        ("limits = 5", "1: limits: must be a section, not the integer 5"),
    ] {
        assert_eq!(refused(text), message);
    }
}

#[test]
fn derived_limits_follow_the_limits_they_derive_from() {
    let limits = |text: &str| Config::parse(&format!("[limits]\n{text}")).unwrap().limits;
    assert_eq!((limits("").bytes_per_minute(), limits("").sockets_per_address()), (6_553_600, 200));
    assert_eq!(limits("messages_per_minute = 0").bytes_per_minute(), 0);
    assert_eq!(limits("bytes_per_minute = 5").bytes_per_minute(), 5);
    assert_eq!(limits("connections_per_address = 0").sockets_per_address(), 0);
    assert_eq!(limits("connections_per_address = 3").sockets_per_address(), 50);
}

#[test]
fn impossible_value_is_refused_with_its_line() {
    assert!(refused("[limits]\n\nidle_seconds = 30\n").starts_with("3: limits.idle_seconds must be more than"));
    assert!(refused("[limits]\nping_seconds = 0\n").starts_with("2: limits.ping_seconds must be at least 1"));
    assert!(refused("[limits]\nping_seconds = \"30\"\n").starts_with("2: ping_seconds: must be a whole number"));
    assert!(refused("[limits]\nconnections = -1\n").ends_with("not the integer -1"));
    assert!(refused("[server]\norigins = [\"app.example.com\"]\n").starts_with("2: server.origins must contain"));
    assert!(refused("[server]\norigins = [\"https://b\u{fc}cher.example\"]\n").starts_with("2: server.origins must contain"));
    for host in
        ["https://qy.example.com", "qy.example.com:443", "qy.example.com/", "a b", "", ".", "*", "*.*.example.com", "b\u{fc}cher"]
    {
        let text = format!("[server]\nhosts = [\"{host}\"]\n");
        assert!(refused(&text).starts_with("2: server.hosts must contain host names"), "{host}");
    }
    let hosts = "[server]\nhosts = [\"qy.example.com\", \"*.example.com\", \"box\", \"10.0.0.1\", \"::1\", \"qy.example.com.\"]";
    assert!(Config::parse(hosts).is_ok());
    assert!(refused("[server]\nlisten = \"nowhere\"\n").starts_with("2: listen: "));
    assert!(refused("listen = \"[::]:1\"\n").ends_with("keys belong in a section, such as [server]"));
    let apps = "[server]\norigins = [\"null\", \"file://\", \"capacitor://localhost\", \"chrome-extension://abc\"]";
    assert!(Config::parse(apps).is_ok());
    assert!(refused("[server\n").starts_with("1: "));
    assert_eq!(refused("[limits]\ngroup_buffer = 0\n"), "2: limits.group_buffer must be 1 to 1048576");
    assert_eq!(refused("[limits]\nanswer_bytes = 0\n"), "2: limits.answer_bytes must be at least 1");
}

#[test]
fn every_problem_of_a_file_is_found_with_its_line() {
    let text = "[server]\nlisten = \"nowhere\"\ntrusted_proxies = [\n  \"10.0.0.0/8\",\n  \"proxy\",\n]\n[limit]\nx = 1\n[limits]\nping_second = 5\n\
                idle_seconds = \"soon\"\ngroup_buffer = 0\n[chat]\ntemperature = 9.0\nurl = \"x\"\n[[handler]]\nurl = \"ftp://x\"\n\
                type = \"a b\"\n[[handler]]\ntimeout_seconds = \"1.5h\"\nmax_byte = 1\n[[handler]]\ntype = \"c\"\n\
                [[handler]]\ntype = \"ping\"\nurl = \"http://x\"\n";
    let problems =
        layered(text, &[("QY_LTY__LIMITS__SOCKETS", "many"), ("QY_LTY_X", "")], &["limits.body_seconds=0"]).unwrap_err();
    let expected = [
        "c.toml:2: listen: must be an address and port",
        "c.toml:3: trusted_proxies: \"proxy\" is not an IP address",
        "c.toml:7: unknown key \"limit\"; did you mean \"limits\"?",
        "c.toml:10: unknown key \"ping_second\"",
        "c.toml:11: idle_seconds: must be a whole number of seconds up to 4294967295, or a duration such as \"90s\"",
        "c.toml:12: limits.group_buffer must be 1 to 1048576",
        "c.toml:14: chat.temperature must be 0 to 2",
        "c.toml:15: chat.url must begin with",
        "c.toml:17: handler.url must begin with",
        "c.toml:18: handler.type must be 1 to 55",
        "c.toml:20: timeout_seconds: must be a whole number of seconds",
        "c.toml:21: unknown key \"max_byte\"; did you mean \"max_bytes\"?",
        "c.toml:22: missing field `url`",
        "c.toml:25: handler.type must not be a built-in message type",
        "QY_LTY_X: unknown variable",
        "QY_LTY__LIMITS__SOCKETS: must be a whole number",
        "--set limits.body_seconds: limits.body_seconds must be at least 1",
    ];
    let lines: Vec<&str> = problems.lines().collect();
    assert_eq!(lines[0], format!("{} problems in the configuration:", expected.len()), "{problems}");
    assert_eq!(lines.len(), expected.len() + 1, "{problems}");
    for (line, expected) in lines[1..].iter().zip(expected) {
        assert!(line.starts_with(&format!("  {expected}")), "{line}: {expected}");
    }
}

#[test]
fn value_that_cannot_be_read_hides_no_other_and_causes_none() {
    // The default of `ping_seconds` would be too large for this `idle_seconds`.
    assert_eq!(refused("[limits]\nidle_seconds = 20\nping_seconds = \"x\"\n").split(':').next(), Some("3"));
    let error = layered("[limits]\nidle_seconds = 20\nping_seconds = \"x\"\n", &[], &[]).unwrap_err();
    assert!(error.starts_with("c.toml:3: ping_seconds: ") && error.lines().count() == 1, "{error}");
    let error = layered("[server\nlisten = 5\n[limits]\nping_seconds = = 5\n", &[], &["limits.head_seconds=x"]).unwrap_err();
    assert!(error.contains("c.toml:1: ") && error.contains("--set limits.head_seconds: "), "{error}");
    assert!(!error.contains("listen: must be"), "what is no TOML has no settings: {error}");
    let many: String = (0..1000).map(|n| format!("x{n} = 1\n")).collect();
    assert!(layered(&many, &[], &[]).unwrap_err().starts_with("100 problems in the configuration:"));
}

#[test]
fn durations_sizes_and_addresses_have_units_and_short_forms() {
    let text = "[server]\nlisten = \":8000\"\n[metrics]\nlisten = \"localhost:9464\"\n[mailbox]\nttl = \"7d\"\nbytes = \"16MiB\"\n\
                reader_days = \"4w\"\n[limits]\nping_seconds = \"20s\"\npush_bytes = \"1MB\"\nbytes_per_minute = \"1 MiB\"\n\
                [[handler]]\ntype = \"a\"\nurl = \"http://x\"\ntimeout_seconds = \"1m\"\nmax_bytes = \"64KiB\"\n";
    let config = Config::parse(text).unwrap();
    assert_eq!(
        (config.server.listen.to_string().as_str(), config.metrics.listen),
        ("0.0.0.0:8000", "127.0.0.1:9464".parse().ok())
    );
    assert_eq!((config.mailbox.ttl, config.mailbox.bytes, config.mailbox.reader_days), (604_800, 16 << 20, 28));
    assert_eq!(
        (config.limits.ping_seconds, config.limits.push_bytes, config.limits.bytes_per_minute),
        (20, 1_000_000, Some(1 << 20))
    );
    assert_eq!((config.handler[0].timeout_seconds, config.handler[0].max_bytes), (60, 65_536));
    let loaded = layered(
        "",
        &[("QY_LTY__MAILBOX__TTL", "12h"), ("QY_LTY__TLS__REDIRECT", ":80")],
        &["storage.memory_budget=1GiB", "tls.self_signed=true"],
    )
    .unwrap();
    assert_eq!((loaded.config.mailbox.ttl, loaded.config.storage.memory_budget), (43_200, 1 << 30));
    assert_eq!(loaded.config.tls.redirect, "0.0.0.0:80".parse().ok());
    for (text, message) in [
        (
            "[mailbox]\nttl = \"1.5h\"",
            "2: ttl: must be a whole number of seconds, or a duration such as \"90s\", \"15m\", \"12h\", \"7d\" or \"2w\", not the string \"1.5h\"",
        ),
        (
            "[limits]\nping_seconds = 4294967296",
            "2: ping_seconds: must be a whole number of seconds up to 4294967295, or a duration such as \"90s\", \"15m\", \"12h\", \
             \"7d\" or \"2w\", not the integer 4294967296",
        ),
        ("[limits]\nping_seconds = \"8000w\"", "2: ping_seconds: \"8000w\" is too large: must be at most 4294967295 seconds"),
        (
            "[mailbox]\nreader_days = \"48h\"",
            "2: reader_days: must be a whole number of days up to 4294967295, or a duration such as \"30d\" or \"4w\", not the string \"48h\"",
        ),
        (
            "[mailbox]\nbytes = \"16M\"",
            "2: bytes: must be a whole number of bytes, or a size such as \"512KiB\", \"16MiB\", \"2GiB\" or, in powers of ten, \"16MB\", \
             not the string \"16M\"",
        ),
        (
            "[mailbox]\nbytes = \"9999999999TiB\"",
            "2: bytes: \"9999999999TiB\" is too large: must be at most 9223372036854775807 bytes",
        ),
    ] {
        assert_eq!(refused(text), message);
    }
}
