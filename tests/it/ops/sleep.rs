//! A process that does not run for a while (SIGSTOP stands for a paused machine, too): what has arrived meanwhile is read before anybody
//! is given up.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::support::program::Running;
use crate::support::raw::Raw;
use crate::support::ws::Client;
use crate::support::{ADMIN_PASSWORD, DEADLINE, eventually, http};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// The length of the sleep: longer than every deadline of [`SHORT`].
const SLEEP: Duration = Duration::from_secs(6);

/// Short deadlines.
const SHORT: &str = "[limits]\nrequests_per_minute = 0\nping_seconds = 1\nidle_seconds = 2\nstalled_seconds = 3\nwrite_seconds = 2\nhead_seconds = 2\nbody_seconds = 2\nlogins_per_minute = 0\n";

/// Stops the process, does something, and lets the process run on.
async fn asleep(server: &Running, meanwhile: impl Future<Output = ()>) {
    asleep_for(SLEEP, server, meanwhile).await;
}

async fn asleep_for(length: Duration, server: &Running, meanwhile: impl Future<Output = ()>) {
    server.signal("STOP");
    let tasks = format!("/proc/{}/task", server.child.id().unwrap());
    let stopped = |task: PathBuf| {
        let stat = std::fs::read_to_string(task.join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('T'))
    };
    eventually("all threads stand still", async || std::fs::read_dir(&tasks).unwrap().all(|task| stopped(task.unwrap().path())))
        .await;
    meanwhile.await;
    sleep(length).await;
    server.signal("CONT");
}

async fn started(dir: &tempfile::TempDir, more: &str) -> (Running, String) {
    let server = Running::configured(dir.path(), &format!("{SHORT}{more}")).await;
    let admin = http::log_in(server.address, "admin", ADMIN_PASSWORD).await;
    (server, admin)
}

async fn ready(server: &Running) -> u16 {
    http::call(server.address, "GET", "/readyz", "", "").await.status.as_u16()
}

/// Reads to the end of a response or of the connection.
async fn response(stream: &mut TcpStream) -> String {
    let mut got = Vec::new();
    let reading = async {
        let mut part = [0; 4096];
        while !String::from_utf8_lossy(&got).contains("\r\n\r\n") {
            match stream.read(&mut part).await {
                Ok(n @ 1..) => got.extend_from_slice(&part[..n]),
                _ => break,
            }
        }
    };
    timeout(DEADLINE, reading).await.expect("answers in time");
    String::from_utf8_lossy(&got).into_owned()
}

fn status_line(response: &str) -> &str {
    response.lines().next().unwrap_or("the connection was closed without an answer")
}

async fn connected(to: SocketAddr) -> TcpStream {
    TcpStream::connect(to).await.unwrap()
}

#[tokio::test]
async fn connections_survive_and_what_they_sent_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (server, admin) = started(&dir, "messages_per_minute = 40\nuser_messages_per_minute = 50\n").await;
    // One that sends, as many as it may; one that says nothing.
    let (mut busy, mut quiet) = (Client::connect(server.address, &admin).await, Client::connect(server.address, &admin).await);
    for _ in 0..40 {
        busy.say(json!({ "type": "ping" })).await;
    }
    for _ in 0..40 {
        assert_eq!(busy.json().await["type"], "pong");
    }
    asleep(&server, async {
        for _ in 0..4 {
            busy.say(json!({ "type": "ping" })).await;
        }
    })
    .await;
    for _ in 0..4 {
        assert_eq!(busy.json().await["type"], "pong");
    }
    quiet.fence().await;
    assert_eq!(ready(&server).await, 200);
    // And still: who does not answer is given up.
    let mut silent = Raw::session(server.address, &admin).await;
    assert_eq!(silent.close_code().await, 4102);
    server.stop().await;
}

#[tokio::test]
async fn silent_client_is_given_up_after_a_sleep_too() {
    let dir = tempfile::tempdir().unwrap();
    let (server, admin) = started(&dir, "").await;
    let mut silent = Raw::session(server.address, &admin).await;
    asleep(&server, async {}).await;
    assert_eq!(silent.close_code().await, 4102);
    server.stop().await;
}

#[tokio::test]
async fn head_and_body_that_come_during_the_sleep_or_soon_after_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (server, admin) = started(&dir, "").await;
    let body = json!({ "message": "m" }).to_string();
    let head = format!(
        "POST /api/messages/user/1 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {admin}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let whole = format!("{head}{body}");
    // Cut in the head, behind it, and in the body; the rest comes during the sleep, or when it is over.
    let cuts = [20, head.len(), head.len() + 5];
    let mut connections = Vec::new();
    for cut in cuts {
        for late in [false, true] {
            let mut stream = connected(server.address).await;
            stream.write_all(&whole.as_bytes()[..cut]).await.unwrap();
            connections.push((stream, cut, late));
        }
    }
    // One that is kept alive, and idle.
    let mut kept = connected(server.address).await;
    kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(status_line(&response(&mut kept).await), "HTTP/1.1 200 OK");
    sleep(Duration::from_millis(300)).await; // what was sent is read before the sleep
    asleep(&server, async {
        for (stream, cut, _) in connections.iter_mut().filter(|(_, _, late)| !late) {
            stream.write_all(&whole.as_bytes()[*cut..]).await.unwrap();
        }
        kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    })
    .await;
    sleep(Duration::from_millis(500)).await;
    for (mut stream, cut, late) in connections {
        if late {
            stream.write_all(&whole.as_bytes()[cut..]).await.unwrap();
        }
        assert_eq!(status_line(&response(&mut stream).await), "HTTP/1.1 200 OK", "cut at {cut}, late: {late}");
    }
    assert_eq!(status_line(&response(&mut kept).await), "HTTP/1.1 200 OK", "kept alive");
    // And still: who does not go on is given up.
    let mut stream = connected(server.address).await;
    stream.write_all(&whole.as_bytes()[..20]).await.unwrap();
    let mut rest = Vec::new();
    timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
    server.stop().await;
}

#[tokio::test]
async fn slow_reader_is_not_given_up_for_the_time_that_the_server_slept() {
    let dir = tempfile::tempdir().unwrap();
    // Time enough to fill the buffers before it is given up, also on a busy machine.
    let short = SHORT.replace("stalled_seconds = 3", "stalled_seconds = 12");
    let server = Running::configured(dir.path(), &short).await;
    let admin = http::log_in(server.address, "admin", ADMIN_PASSWORD).await;
    let mut reader = Client::connect(server.address, &admin).await;
    // More than fits into the buffers: a write waits.
    let text = "x".repeat(200_000);
    for _ in 0..60 {
        let live = json!({ "message": text, "delivery": "live" });
        http::post(server.address, "/api/messages/user/1", &admin, live).await.ok();
    }
    asleep_for(Duration::from_secs(14), &server, async {}).await;
    // From here on it reads, to the end.
    reader.say(json!({ "type": "ping" })).await;
    let mut last = reader.json().await;
    while last["type"] == "system" {
        last = reader.json().await;
    }
    assert_eq!(last["type"], "pong");
    server.stop().await;
}

#[tokio::test]
async fn answer_of_an_upstream_that_came_during_the_sleep_counts() {
    let dir = tempfile::tempdir().unwrap();
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", upstream.local_addr().unwrap());
    let chat = format!("[chat]\nresponder = \"openai\"\nurl = \"{url}\"\nmodel = \"m\"\ntimeout_seconds = 2\nidle_seconds = 2\n");
    let (server, admin) = started(&dir, &chat).await;
    let mut client = Client::connect(server.address, &admin).await;
    client.say(json!({ "type": "chat_message", "message": "hello" })).await;
    let (mut request, _) = timeout(DEADLINE, upstream.accept()).await.expect("it is asked").unwrap();
    let mut head = [0; 4096];
    assert!(request.read(&mut head).await.unwrap() > 0);
    asleep(&server, async {
        let body = json!({ "choices": [{ "message": { "content": "the answer" } }] }).to_string();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        request.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    })
    .await;
    let mut events: Vec<Value> = Vec::new();
    while !events.iter().any(|event| event["type"] == "chat_response" || event["type"] == "error") {
        events.push(client.json().await);
    }
    assert!(events.iter().any(|event| event.to_string().contains("the answer")), "{events:?}");
    server.stop().await;
}
