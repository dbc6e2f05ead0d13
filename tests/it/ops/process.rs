//! The program itself: the first minute, what it refuses to start on, and how it stops.

use crate::support::program::{Running, configure, log_in, program, raw_post};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use crate::support::DEADLINE;
use futures_util::StreamExt;

/// Runs the program to its end and returns the exit code and what it said.
async fn outcome(at: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = timeout(DEADLINE, program(at, args).output()).await.expect("ends in time").unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn the_first_start_prints_a_password_that_works_and_the_second_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = Running::start(dir.path()).await;
    let mode = std::fs::metadata(dir.path().join("data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let address = first.address.clone();
    first.signal("TERM");
    assert_eq!(first.ended().await.code(), Some(0));
    let printed = first.printed().await;
    assert!(printed.contains(&format!("http://{address}")), "{printed}");
    let login = printed.lines().find(|l| l.contains("/api/auth/login")).unwrap().trim();
    let password = login.split(r#""password":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();

    let mut second = Running::start(dir.path()).await;
    // What the printed line asks for, by hand: curl need not be on this machine.
    let body = json!({"username": "admin", "password": password}).to_string();
    let answer = raw_post(&second.address, "/api/auth/login", &body).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"token\":\"qlt_"), "{answer}");
    second.signal("INT");
    assert_eq!(second.ended().await.code(), Some(0));
    assert_eq!(second.printed().await, "");
    let mut log = String::new();
    second.log.take().unwrap().read_to_string(&mut log).await.unwrap();
    assert!(!log.contains(&password));
}

#[tokio::test]
async fn what_it_does_not_start_on() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let refused = async |what: &str| {
        let (code, said) = outcome(at, &["--config", "c.toml"]).await;
        assert_eq!(code, Some(1), "{said}");
        let words = said.lines().last().unwrap_or_default().to_owned();
        assert!(words.starts_with("qy-lty: ") && words.contains(what), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    };

    let running = Running::start(at).await;
    refused("another qy-lty is using").await;
    std::fs::write(at.join("c.toml"), format!("[server]\nlisten = \"{}\"\ndata_dir = \"other\"\n", running.address)).unwrap();
    refused("is in use").await;
    assert!(!at.join("other").exists(), "nothing is made where nothing can be served");
    drop(running);

    configure(at);
    std::fs::remove_dir_all(at.join("data")).unwrap();
    std::fs::create_dir(at.join("data")).unwrap();
    std::fs::set_permissions(at.join("data"), std::fs::Permissions::from_mode(0o777)).unwrap();
    refused("can be written by everybody").await;
    std::fs::rename(at.join("data"), at.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", at.join("data")).unwrap();
    refused("is a symbolic link").await;
    std::fs::remove_file(at.join("data")).unwrap();
    std::fs::write(at.join("data"), "").unwrap();
    refused("is not a directory").await;

    std::fs::write(at.join("c.toml"), "[limits]\nping_second = 5\n").unwrap();
    refused("c.toml:2: unknown key \"ping_second\"; did you mean \"ping_seconds\"?").await;
    std::fs::remove_file(at.join("c.toml")).unwrap();
    refused("can't read c.toml").await;
    assert_eq!(outcome(at, &["--no-such-flag"]).await.0, Some(2));
}

#[tokio::test]
async fn a_chosen_first_password_is_not_printed_and_must_be_fit() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path());
    let bad = program(dir.path(), &["--config", "c.toml"]).env("QY_LTY_ADMIN_PASSWORD", "short").output();
    let bad = timeout(DEADLINE, bad).await.unwrap().unwrap();
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("at least 8 characters"));
}

#[tokio::test]
async fn stopping_says_1001_to_everybody_and_ends_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path()).await;
    let token = log_in(&mut server).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let url = format!("ws://{}/ws/device/?token={token}", server.address);
        let mut client = tokio_tungstenite::connect_async(url).await.unwrap().0;
        client.next().await.unwrap().unwrap();
        clients.push(client);
    }
    let start = Instant::now();
    server.signal("TERM");
    for client in &mut clients[..4] {
        // The fifth never reads: it must not hold up the end.
        match timeout(DEADLINE, client.next()).await.unwrap() {
            Some(Ok(Message::Close(Some(frame)))) => assert_eq!(u16::from(frame.code), 1001),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(server.ended().await.code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    // Nothing was left half done: the data opens again.
    let mut again = Running::start(dir.path()).await;
    again.signal("TERM");
    again.ended().await;
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path()).await;
    let token = log_in(&mut server).await;
    let url = format!("ws://{}/ws/device/?token={token}", server.address);
    let (_never_reads, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let mut log = server.log.take().unwrap();
    server.signal("TERM");
    let mut line = String::new();
    while !line.contains("stopping") {
        line.clear();
        timeout(DEADLINE, log.read_line(&mut line)).await.unwrap().unwrap();
    }
    let start = Instant::now();
    server.signal("INT");
    assert_eq!(server.ended().await.code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path()).await;
    let token = log_in(&mut server).await;
    server.signal("KILL");
    server.ended().await;
    let mut server = Running::start(dir.path()).await;
    let url = format!("ws://{}/ws/device/?token={token}", server.address);
    let mut client = tokio_tungstenite::connect_async(url).await.unwrap().0;
    let hello = timeout(DEADLINE, client.next()).await.unwrap().unwrap().unwrap();
    assert!(hello.into_text().unwrap().contains("connection_status"));
    server.signal("TERM");
    server.ended().await;
}
