//! The metrics that collectors read, and the figures that administrators are shown.

mod documents;
mod refusals;

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::support::api::{Config, serve};
use crate::support::page::{family, page};
use crate::support::program::Running;
use crate::support::raw::{self, Raw, Reply};
use crate::support::stub::{Reply as Response, Stub, spoken};
use crate::support::{ADMIN_PASSWORD, Client, DEADLINE, Server, eventually, free_address, http, roomy};

/// Asks a listener without any credential.
async fn ask(at: SocketAddr, method: &str, path: &str) -> Reply {
    raw::exchange(TcpStream::connect(at).await.unwrap(), &raw::request(method, path, &[], "")).await
}

/// A model that takes a second and a half, a weather service that fails, a handler that answers.
async fn sources() -> (Stub, Config) {
    let stub = Stub::start(|got| match got.line.as_str() {
        line if line.contains("/chat/completions") => Response::Events(spoken(&["一", "二"]), Duration::from_millis(500)),
        line if line.contains("/geo/") => Response::Json(500, "{}".into()),
        _ => Response::Json(200, "7".into()),
    })
    .await;
    let mut config = roomy();
    let chat = format!("responder = \"openai\"\nurl = \"{}\"\nmodel = \"m\"\nper_minute = 1", stub.url("/v1"));
    config.chat = toml::from_str(&chat).unwrap();
    config.weather.qweather = toml::from_str(&format!("host = \"{}\"\nkey = \"k\"", stub.url(""))).unwrap();
    config.handler = vec![toml::from_str(&format!("type = \"dice\"\nurl = \"{}\"", stub.url("/dice"))).unwrap()];
    (stub, config)
}

/// One client passes over a message, which makes it undeliverable; one client misses what another has received.
async fn lagging_clients(server: &Server, admin: &str) {
    let eva = server.user("eva").await;
    let to_eva = format!("/api/messages/user/{}", eva.id);
    let path = |more: &str| format!("/ws/device/?token={}&{more}", eva.token);
    drop(server.try_ws(&path("client=small&max_bytes=1024"), &[]).await.unwrap());
    server.post(&to_eva, admin, json!({"message": "x".repeat(2000)})).await.ok();
    let mut small = server.ws(&path("client=small&max_bytes=1024")).await;
    eventually("it is passed over", async || page(server, admin).await.get("mailbox_undeliverable_total") > 0.0).await;
    drop(server.try_ws(&path("client=away"), &[]).await.unwrap());
    let reading = async { while small.stream.next().await.is_some() {} };
    let missed = eventually("some are missed", async || {
        server.post(&to_eva, admin, json!({"message": 1})).await.ok();
        page(server, admin).await.get("mailbox_missed_total") > 0.0
    });
    tokio::select! { () = reading => {}, () = missed => {} }
}

/// After one of everything each family has moved, but for those that must not.
#[tokio::test]
async fn metrics_after_one_of_everything_have_moved() {
    let (_stub, mut config) = sources().await;
    config.limits.group_bytes = Some(1); // two announcements at once are one too many
    (config.limits.ping_seconds, config.limits.stalled_seconds) = (1, 8);
    (config.mailbox.messages, config.history.messages, config.history.receipts) = (30, 2, 5);
    let server = Server::with(config).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let device = server.device(&ana.token, true).await;
    let mut client = server.connect(&ana.token).await;
    for kind in
        ["ping", "sing", "dance", "chat_reset", "chat_cancel", "dice", "weather", "chat_message", "chat_message", "nonsense"]
    {
        let message = json!({"song": "歌", "dance": "舞", "city": "上海", "content": "你好", "ref": "q"});
        let message = if kind == "chat_message" { json!("你好") } else { message };
        let event = client.ask(json!({"type": kind, "message": message})).await;
        assert!(event["type"].is_string(), "{event}");
    }
    client.ask(json!({"type": "sing", "message": {"song": "歌"}, "target": "device"})).await;
    let to_ana = format!("/api/messages/user/{}", ana.id);
    server.post(&to_ana, &admin, json!({"message": 1, "delivery": "live"})).await.ok();
    server.post(&to_ana, &admin, json!({"message": 1})).await.ok();
    server.post("/api/messages/broadcast", &admin, json!({"message": 1})).await.ok();
    server.http("PUT", "/api/weather/x", Some(&admin), Some(r#"{"temp": "1"}"#)).await.ok();
    for path in ["/nothing", "/api/queue", "/api/users", "/api/monitor/performance"] {
        server.get(path, Some(&admin)).await;
    }
    // Refusals enough for the audit trail to leave some out.
    for _ in 0..35 {
        server.post("/api/devices/claim", &ana.token, json!({"code": "AAAAAA"})).await;
    }
    let own = server.device_token(&ana.token, device).await;
    let lamp = server.connect(&own).await; // hears what the device is to perform, and answers nothing
    // Messages that nobody fetches: one stays in the queue, one expires.
    let bob = server.user("bob").await;
    let to_bob = format!("/api/messages/user/{}", bob.id);
    server.post(&to_bob, &admin, json!({"message": 1, "ttl": 1})).await.ok();
    server.post(&to_bob, &admin, json!({"message": 1})).await.ok();
    // Falling behind, and reading it from the log.
    let reading = tokio::spawn(async move { while client.stream.next().await.is_some() {} });
    eventually("a connection falls behind", async || {
        let sends = (0..20).map(|n| server.post(&to_ana, &admin, json!({"message": n})));
        futures_util::future::join_all(sends).await;
        page(&server, &admin).await.get("log_rereads_total") > 0.0
    })
    .await;
    eventually("a message expires", async || page(&server, &admin).await.get("mailbox_expired_total") > 0.0).await;
    // A message that is taken back, one that is cleared, one that no client takes, one that some client misses.
    let sent = server.post(&to_bob, &admin, json!({"message": 1})).await.ok()["data"]["id"].clone();
    server.http("DELETE", &format!("/api/messages/{sent}"), Some(&admin), None).await.ok();
    server.http("DELETE", &format!("/api/queue/user/{}", bob.id), Some(&admin), None).await.ok();
    lagging_clients(&server, &admin).await;
    // An acknowledgement of nothing.
    let mut raw = Raw::session(server.address, &bob.token).await;
    raw.send(&raw::frame(raw::FIN | raw::PONG, b"nothing")).await;
    eventually("it is counted", async || page(&server, &admin).await.get("mailbox_strange_acks_total") > 0.0).await;
    // Pongs that prove nothing, and then a message that is too large for the client.
    while page(&server, &admin).await.get("sessions_unproved_total") == 0.0 {
        if let Some((0x89, payload)) = raw.next().await {
            raw.send(&raw::frame(raw::FIN | raw::PONG, &payload[..payload.len().min(1)])).await;
        }
    }
    raw.send(&raw::frame(raw::FIN | raw::CLOSE, &1009_u16.to_be_bytes())).await;
    eventually("a session stalls", async || page(&server, &admin).await.get("sessions_stalled_total") > 0.0).await;
    drop((raw, lamp));
    eventually("a session ends", async || page(&server, &admin).await.get("sessions_ended_total{code=\"client\"}") > 0.0).await;

    // Looked for every minute only, where all of them were of messages that were still there.
    let evicted = async {
        while page(&server, &admin).await.get("receipts_evicted_total") == 0.0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(4 * DEADLINE, evicted).await.expect("receipts beyond the limit are removed");

    let page = page(&server, &admin).await;
    let mut moved: Vec<&str> =
        page.samples.iter().filter(|(_, n)| **n > 0.0).map(|(name, _)| family(name, &page.kinds)).collect();
    moved.dedup();
    let rest: Vec<&String> = page.kinds.keys().filter(|name| !moved.contains(&name.as_str())).collect();
    assert_eq!(
        rest,
        ["qy_lty_commit_failures_total", "qy_lty_store_lost_commits", "qy_lty_store_lost_records"],
        "the disk is well"
    );
    for sample in [
        "messages_received_total{type=\"own\"}",
        "messages_received_total{type=\"rejected\"}",
        "messages_sent_total{type=\"own_response\"}",
        "messages_sent_total{type=\"push_live\"}",
        "messages_sent_total{type=\"push_queued\"}",
        "messages_sent_total{type=\"delivery_status\"}",
        "errors_sent_total{code=\"UNSUPPORTED_TYPE\"}",
        "upstream_calls_total{upstream=\"chat\",outcome=\"ok\"}",
        "upstream_calls_total{upstream=\"weather\",outcome=\"status\"}",
        "upstream_calls_total{upstream=\"own\",outcome=\"ok\"}",
        "http_requests_total{route=\"other\",status=\"4xx\"}",
        "http_requests_total{route=\"websocket\",status=\"1xx\"}",
        "http_requests_total{route=\"messages\",status=\"2xx\"}",
    ] {
        assert!(page.get(sample) > 0.0, "{sample}");
    }
    reading.abort();
}

#[tokio::test]
async fn metrics_count_messages_sessions_and_log_ins() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let before = page(&server, &admin).await;
    assert!(before.samples.iter().all(|(name, &n)| !name.contains("refused_total") || n == 0.0), "all reasons, all at 0");
    let to_ana = format!("/api/messages/user/{}", ana.id);
    for n in 0..3 {
        server.post(&to_ana, &admin, json!({"message": n})).await.ok();
    }
    let waiting = page(&server, &admin).await;
    assert_eq!((waiting.get("queue_messages"), waiting.get("queue_mailboxes")), (3.0, 1.0));
    assert!(waiting.get("queue_bytes") > 100.0 && waiting.get("queue_oldest_seconds") > 0.0);
    assert_eq!((waiting.get("mailbox_accepted_total"), waiting.get("send_duration_seconds_count")), (3.0, 3.0));
    assert!(waiting.get("commit_duration_seconds_count") > before.get("commit_duration_seconds_count"));

    let mut client = server.connect(&ana.token).await;
    for n in 0..3 {
        assert_eq!(client.json().await["message"], n);
    }
    client.fence().await;
    eventually("all are delivered", async || page(&server, &admin).await.get("mailbox_delivered_total") == 3.0).await;
    let now = page(&server, &admin).await;
    assert_eq!((now.get("queue_messages"), now.get("queue_oldest_seconds")), (0.0, 0.0));
    assert_eq!((now.get("connections"), now.get("sessions_started_total")), (1.0, 1.0));
    assert!(now.get("http_connections") >= 1.0, "who asks");
    assert_eq!(now.get("http_connections_limit"), 2000.0);
    assert_eq!((now.get("groups{kind=\"user\"}"), now.get("group_members_max{kind=\"all\"}")), (1.0, 1.0));
    assert_eq!((now.get("messages_received_total{type=\"ping\"}"), now.get("messages_sent_total{type=\"pong\"}")), (1.0, 1.0));
    assert_eq!(now.get("handler_duration_seconds_count{command=\"ping\"}"), 1.0);
    assert_eq!(now.get("messages_sent_total{type=\"push_queued\"}"), 3.0);
    assert_eq!((now.get("ready"), now.get("logins_total{result=\"ok\"}")), (1.0, 2.0));
    assert!(
        now.get("process_resident_memory_bytes") > 1e6 && now.get("store_bytes") > 1000.0 && now.get("disk_free_bytes") > 1e6
    );

    server.http("DELETE", &format!("/api/users/{}", ana.id), Some(&admin), None).await.ok();
    assert_eq!(client.disconnected().await["code"], 4001);
    eventually("its end is counted", async || page(&server, &admin).await.get("sessions_ended_total{code=\"4001\"}") == 1.0)
        .await;
    assert_eq!(page(&server, &admin).await.get("connections"), 0.0);

    let shown = server.get("/api/monitor/connections", Some(&admin)).await.ok();
    let data = &shown["data"];
    assert_eq!((&data["total_connections"], &data["mailbox"]["delivered"]), (&json!(0), &json!(3)));
    assert_eq!(data["sessions"], json!({"started": 1, "ended": 1}));
    assert_eq!(data["messages"]["received"], 1);
}

#[tokio::test]
async fn metrics_listener_serves_metrics_only_and_ends_with_server() {
    let at = free_address();
    let mut config = roomy();
    config.metrics.listen = Some(at);
    config.limits.sockets = 1; // those of the main listener are all taken
    let server = Server::with(config.clone()).await;
    let _idle = TcpStream::connect(server.address).await.unwrap();
    let count = "\nqy_lty_http_connections 1\n";
    eventually("the full gate is seen", async || ask(at, "GET", "/metrics").await.body.contains(count)).await;
    let answer = ask(at, "GET", "/metrics").await;
    assert!(answer.body.contains("\nqy_lty_http_connections_limit 1\n"), "{answer:?}");
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"), "{answer:?}");
    assert_eq!(ask(at, "GET", "/metrics/").await.status, 200);
    for path in ["/", "/api/monitor/connections", "/api/users", "/ws/device/", "/metrics/x"] {
        assert_eq!(ask(at, "GET", path).await.status, 404, "{path}");
    }
    assert_eq!(ask(at, "POST", "/metrics").await.status, 405);
    let page = [("Host", "evil.example"), ("Origin", "http://evil.example")];
    let rebound = raw::exchange(raw::connect(raw::HERE, at).await, &raw::request("GET", "/metrics", &page, "")).await;
    assert_eq!(rebound.expect(421)["code"], "unknown_host");
    for (head, status) in [
        ("GET /metrics HTTP/1.1\r\n", 400),
        ("GET /metrics HTTP/1.1\r\nHost: a\r\nHost: a\r\n", 400),
        ("GET /metrics HTTP/1.0\r\nHost: a\r\nHost: b\r\n", 400),
        ("GET /nothing HTTP/1.1\r\n", 400),
        ("GET /metrics HTTP/1.1\r\nHost: a\r\n", 200),
        ("GET /metrics HTTP/1.0\r\n", 200),
    ] {
        let request = format!("{head}Connection: close\r\n\r\n");
        let answer = crate::support::raw::exchange(TcpStream::connect(at).await.unwrap(), request.as_bytes()).await;
        assert_eq!(answer.status, status, "{head:?}: {answer:?}");
    }
    let head = ask(at, "HEAD", "/metrics").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));

    let other = tempfile::tempdir().unwrap();
    config.server.data_dir = other.path().join("data");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = serve(config, Some("a-long-password".into()), listener, tokio::sync::mpsc::channel(1).1, std::future::pending())
        .await
        .unwrap_err();
    assert!(error.to_string().contains(&format!("{at} (metrics.listen)")), "{error}");

    drop(_idle);
    server.stop().await;
    assert!(TcpStream::connect(at).await.is_err(), "it has ended with the server");
}

/// The figures of one operation.
async fn shown(server: &Server, admin: &str, operation: &str) -> Value {
    let all = server.get("/api/monitor/performance", Some(admin)).await.ok()["data"]["operations"].clone();
    all.as_array().unwrap().iter().find(|o| o["operation"] == operation).unwrap_or_else(|| panic!("no {operation}")).clone()
}

#[tokio::test]
async fn performance_covers_last_hundred_of_each_operation() {
    let (_stub, config) = sources().await;
    let server = Server::with(config).await;
    let admin = server.admin().await;
    assert_eq!(shown(&server, &admin, "ping").await["last"], Value::Null);
    let mut client = server.connect(&admin).await;
    for _ in 0..120 {
        client.fence().await;
    }
    let pings = shown(&server, &admin, "ping").await;
    assert_eq!((&pings["total"], &pings["count"], &pings["failure"]), (&json!(120), &json!(100), &json!(0)));
    assert!(pings["p50_seconds"].as_f64() <= pings["p99_seconds"].as_f64());
    assert!(pings["last"].as_str().unwrap().starts_with("20"));
    client.ask(json!({"type": "weather", "message": {"city": "上海"}})).await; // the simulated one stands in
    server.login("admin", "wrong").await.expect(401);
    for (operation, success, failure) in [("weather", 1, 0), ("upstream_weather", 0, 1), ("login", 1, 1)] {
        let shown = shown(&server, &admin, operation).await;
        assert_eq!((&shown["success"], &shown["failure"]), (&json!(success), &json!(failure)), "{operation}");
    }
    for operation in ["chat_message", "chat_reset", "sing", "dance", "own", "send", "commit", "upstream_chat", "upstream_own"] {
        shown(&server, &admin, operation).await;
    }
}

#[tokio::test]
async fn abandoned_upstream_call_is_counted() {
    let stub = Stub::start(|_| Response::Hang).await;
    let mut config = roomy();
    config.chat = toml::from_str(&format!("responder = \"openai\"\nurl = \"{}\"\nmodel = \"m\"", stub.url("/v1"))).unwrap();
    let server = Server::with(config).await;
    let admin = server.admin().await;
    let mut client = server.connect(&admin).await;
    client.say(json!({"type": "chat_message", "message": "?"})).await;
    eventually("it is asked", async || stub.got().len() == 1).await;
    drop(client);
    let left = "upstream_calls_total{upstream=\"chat\",outcome=\"abandoned\"}";
    eventually("it is counted", async || page(&server, &admin).await.get(left) == 1.0).await;
}

#[tokio::test]
async fn operation_over_one_second_is_logged_as_slow() {
    let stub = Stub::start(|_| Response::Events(spoken(&["一", "二"]), Duration::from_millis(500))).await;
    let dir = tempfile::tempdir().unwrap();
    let chat = format!("[chat]\nresponder = \"openai\"\nurl = \"{}\"\nmodel = \"m\"", stub.url("/v1"));
    let server = Running::configured(dir.path(), &chat).await;
    let mut client = Client::connect(server.address, &http::log_in(server.address, "admin", ADMIN_PASSWORD).await).await;
    assert_eq!(client.ask(json!({"type": "chat_message", "message": "?"})).await["message"], "一二");
    eventually("the log says so", async || {
        let log = server.log();
        let slow = log.lines().filter(|line| line.contains("WARN") && line.contains("slow operation"));
        let named: Vec<&str> = slow.filter(|line| line.contains("seconds=1.")).collect();
        ["operation=\"chat_message\"", "operation=\"upstream_chat\""]
            .iter()
            .all(|name| named.iter().any(|line| line.contains(name)))
    })
    .await;
}
