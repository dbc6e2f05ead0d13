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
