//! Parsing and validation of single files.

use super::super::*;
use super::{layered, refused};
use crate::telemetry::metrics::{Label, Received};

#[test]
fn empty_file_is_the_default_configuration() {
    assert_eq!(Config::parse("").unwrap(), Config::default());
    assert!(Config::default().validate().is_ok());
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
