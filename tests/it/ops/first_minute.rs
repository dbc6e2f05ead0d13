//! The first minute: what a start prints, `send` with plain text, `link`, and the end of the terminal.

use std::path::Path;
use std::process::Stdio;

use crate::support::program::{Running, configure, output, program};
use crate::support::terminal::Terminal;
use crate::support::{ADMIN_PASSWORD, Client, DEADLINE, eventually, http};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

/// The command that serves on a free port, with standard error in the file `log`.
const SERVE: &str = "exec \"$0\" --listen 127.0.0.1:0 2>log";

/// Runs a command in directory `at` with `input` on its standard input; returns whether it succeeded, and all that it has written.
async fn run(at: &Path, args: &[&str], input: &[u8]) -> (bool, String) {
    let mut child = program(at, args).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(input).await; // it may not want any
    drop(stdin);
    let output = timeout(DEADLINE, child.wait_with_output()).await.expect("ends in time").unwrap();
    let all = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(all).unwrap())
}

/// Returns the address of the server whose log is in the file `log`, once it serves.
async fn address(at: &Path, terminal: &Terminal) -> String {
    terminal.shows("Ctrl-C stops the server").await;
    let log = std::fs::read_to_string(at.join("log")).unwrap();
    log.split_once("serving address=").unwrap().1.split(' ').next().unwrap().to_owned()
}

/// Returns the password that a banner shows.
fn password(banner: &str) -> &str {
    let line = banner.lines().find_map(|line| line.trim().strip_prefix("password")).unwrap_or_else(|| panic!("{banner}"));
    line.split_whitespace().next().unwrap()
}

/// Returns the one-time link that a banner shows, split at its fragment.
fn link(banner: &str) -> (String, String) {
    let line = banner.lines().find(|line| line.contains("/#link=")).unwrap_or_else(|| panic!("{banner}")).trim();
    let (page, code) = line.split_once("/#link=").unwrap();
    (page.to_owned(), code.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn text_json_and_standard_input_are_sent() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let server = Running::configured(at, "").await;
    let token = http::log_in(server.address, "admin", ADMIN_PASSWORD).await;
    let mut client = Client::connect(server.address, &token).await;
    let cases: &[(&[&str], &[u8], Value)] = &[
        (&["hello"], b"", json!("hello")),
        (&["你好，世界"], b"", json!("你好，世界")),
        (&["42"], b"", json!("42")),
        (&["[urgent] call"], b"", json!("[urgent] call")),
        (&[r#"{"text":"hello"}"#], b"", json!({"text": "hello"})),
        (&["[1,2]"], b"", json!([1, 2])),
        (&["\"quoted\""], b"", json!("quoted")),
        (&["42", "--json"], b"", json!(42)),
        (&["true", "--json"], b"", json!(true)),
        (&["-"], b"from a pipe\n", json!("from a pipe")),
        (&["-"], b"two\nlines\r\n", json!("two\nlines")),
        (&["-"], b"{\"a\": [1]}\n", json!({"a": [1]})),
        (&["-", "--json"], b" 1.5 \n", json!(1.5)),
        (&["--", "-5 degrees"], b"", json!("-5 degrees")),
    ];
    for (message, input, expected) in cases {
        let (done, said) = run(at, &[&["send", "admin"][..], message].concat(), input).await;
        assert!(done, "{message:?}: {said}");
        let event = client.json().await;
        assert_eq!((event["type"].as_str(), &event["message"]), (Some("system"), expected), "{message:?}");
    }
    for (message, input, why) in [
        (&["{oops"][..], &b""[..], "the message is not JSON"),
        (&["hello", "--json"], b"", "without --json, it is a text"),
        (&["hello", "world"], b"", "put it in quotes"),
        (&[""], b"", "the message is empty"),
        (&["-"], b"\n", "the message is empty"),
        (&["-"], b"\xff", "is not UTF-8"),
        (&["-", "--json"], b"text", "the message is not JSON"),
    ] {
        let (done, said) = run(at, &[&["send", "admin"][..], message].concat(), input).await;
        let begin = if message.contains(&"--json") { "{\"error\":{" } else { "qy-lty: " };
        assert!(!done && said.contains(why) && said.starts_with(begin), "{message:?}: {said}");
    }
    client.fence().await; // nothing of these was sent
    drop(client);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stranger_sees_a_message_with_what_the_first_start_prints() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let mut server = Terminal::start(at, SERVE, &[]);
    let address = address(at, &server).await;
    let banner = server.shown();
    let commands: Vec<&str> = banner.lines().filter_map(|line| line.strip_prefix("  /")).collect();
    let [tail, send] = commands[..] else { panic!("{banner}") };
    // The commands as they stand there, each on a terminal of its own.
    let tailing = Terminal::start(at, &format!("/{tail}"), &[]);
    tailing.shows("showing messages as they are sent").await;
    let mut id = 0;
    // It follows from some moment on.
    while !tailing.shown().contains("\"message\":\"hello\"") {
        id += 1;
        let mut sending = Terminal::start(at, &format!("/{send}"), &[]);
        sending.shows(&format!("Queued message {id}")).await;
        assert_eq!(sending.ended().await.code(), Some(0));
        assert!(id < 50, "{}", tailing.shown());
    }
    // The page of the link, and what it sends.
    let (page, code) = link(&banner);
    assert_eq!(page, format!("http://{address}"));
    let answer = http::post(&address, "/api/auth/link", "", json!({"code": code})).await;
    let cookie = answer.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let user = answer.ok()["data"].take();
    assert_eq!((user["user"]["username"].as_str(), user["csrf"].is_string()), (Some("admin"), true));
    http::request(&address, "GET", "/api/auth/me", &[("cookie", &cookie)], b"").await.ok();
    http::log_in(&address, "admin", password(&banner)).await;
    let log = std::fs::read_to_string(at.join("log")).unwrap();
    assert!(!log.contains(&code) && !log.contains(password(&banner)), "{log}");
    for event in ["event=\"link_made\"", "event=\"link_used\""] {
        assert!(log.contains(event), "{log}");
    }

    // A later start prints the same but the password.
    server.signal("INT");
    assert_eq!(server.ended().await.code(), Some(0));
    let server = Terminal::start(at, SERVE, &[]);
    self::address(at, &server).await;
    let later = server.shown();
    assert!(later.contains(tail) && !later.contains("password") && !later.contains("WARNING") && !later.contains('█'), "{later}");
    assert_ne!(link(&later).1, code);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_terminals_are_shown_links_and_codes() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    configure(at, "");
    let server = Running::spawn(program(at, &["--config", "c.toml", "--listen", "0.0.0.0:0"])).await;
    let (printed, log) = server.stop().await;
    assert!(printed.contains("is ready at http://127.0.0.1:") && printed.contains("send admin hello"), "{printed}");
    assert!(!printed.contains("link") && !printed.contains('█') && !printed.contains("WARNING"), "{printed}");
    assert!(!log.contains("link_made"), "{log}");

    for (options, warned) in [("", true), ("--set tls.self_signed=true", false)] {
        let mut server = Terminal::start(at, &format!("exec \"$0\" --listen 0.0.0.0:0 {options} 2>log"), &[("NO_COLOR", "1")]);
        let banner = server.shows("Ctrl-C stops the server").await;
        let scheme = if warned { "http" } else { "https" };
        assert!(link(&banner).0.starts_with(&format!("{scheme}://127.0.0.1:")), "{banner}");
        // A machine without any network has no address to show.
        let in_network = banner.contains("other machines in the network: ");
        assert_eq!(banner.contains('█'), in_network, "{banner}");
        assert_eq!(banner.contains("WARNING: without TLS"), in_network && warned, "{banner}");
        assert_eq!(banner.contains("SHA-256"), !warned, "{banner}");
        server.signal("TERM");
        server.ended().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn link_of_the_command_line_needs_a_server_and_an_enabled_user() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let server = Running::configured(at, "").await;
    let link = async |args: &[&str]| {
        let output = output(program(at, &[&["link"][..], args].concat())).await;
        (output.status.success(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (done, url, said) = link(&[]).await;
    assert!(done && said.is_empty() && url.lines().count() == 1, "nothing but the link: {url} {said}");
    assert!(url.starts_with(&format!("http://{}/#link=qll_", server.address)), "{url}");
    let made: Value = serde_json::from_str(&link(&["id:1", "--json"]).await.1).unwrap();
    assert_eq!((made["expires_in"].as_u64(), made["url"].as_str().map(str::len)), (Some(600), Some(url.trim().len())));
    assert!(link(&["nobody"]).await.2.contains("no such user: nobody"));
    assert!(run(at, &["user", "create", "ana"], b"correct horse\n").await.0);
    assert!(link(&["ana"]).await.0);
    assert!(run(at, &["user", "disable", "ana"], b"").await.0);
    assert!(link(&["ana"]).await.2.contains("the user is disabled"));
    server.stop().await;
    let (done, _, said) = link(&[]).await;
    assert!(!done && said.contains("no running server"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_terminal_stops_the_server_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let mut server = Terminal::start(at, SERVE, &[("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD)]);
    let address = address(at, &server).await;
    let token = http::log_in(&address, "admin", ADMIN_PASSWORD).await;
    let mut client = Client::connect(&address, &token).await;
    server.close().await;
    assert_eq!(client.closed().await, 1001);
    assert_eq!(server.ended().await.code(), Some(0));
    let log = std::fs::read_to_string(at.join("log")).unwrap();
    assert!(log.contains("the terminal was closed") && log.contains(" stopped"), "{log}");
    // Its port is free, and nothing was left half done.
    drop(std::net::TcpListener::bind(&address).unwrap());
    let mut server = Terminal::start(at, SERVE, &[]);
    self::address(at, &server).await;
    server.signal("HUP"); // as a shell does for its jobs
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn server_in_the_background_or_supervised_reloads_on_hangup() {
    let socket = "/nonexistent/notify";
    for (command, variables) in [
        ("exec \"$0\" --listen 127.0.0.1:0 --config c.toml </dev/null >out 2>log", &[][..]),
        ("exec \"$0\" --listen 127.0.0.1:0 --config c.toml 2>log", &[("NOTIFY_SOCKET", socket)]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        configure(at, "");
        let mut server = Terminal::start(at, command, variables);
        let logged = async |text: &str| {
            eventually(text, async || std::fs::read_to_string(at.join("log")).is_ok_and(|log| log.contains(text))).await;
        };
        logged("serving address=").await;
        // Also where the terminal goes: the system reports that as it reports the end of any.
        server.close().await;
        logged("reloaded the configuration").await;
        server.signal("TERM");
        assert_eq!(server.ended().await.code(), Some(0));
    }
}
