//! The handshake of a console, and its end.

use std::time::Duration;

use super::{open, subscribed};
use crate::support::http::Browser;
use crate::support::page::page;
use crate::support::{ADMIN_PASSWORD, Server, eventually, unlimited};
use serde_json::json;
use tokio_tungstenite::tungstenite::Error;

/// The status with which a handshake is refused.
async fn refused(server: &Server, path: &str, headers: &[(&'static str, &str)]) -> u16 {
    match server.try_ws(path, headers).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("not refused: {:?}", other.map(drop)),
    }
}

#[tokio::test]
async fn ticket_bearer_and_the_pages_own_cookie_open_a_console() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ticket =
        server.post("/api/auth/ticket", &admin, json!({})).await.expect(201)["data"]["ticket"].as_str().unwrap().to_owned();
    let path = format!("/ws/console/?ticket={ticket}");
    let mut console = server.ws(&path).await;
    let hello = console.json().await;
    assert_eq!((&hello["type"], &hello["role"], &hello["console_contents"]), (&json!("hello"), &json!("admin"), &json!(false)));
    assert_eq!(hello["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(server.ws(&path).await.disconnected().await["code"], 4001, "a ticket is good once");
    let ana = server.user("ana").await;
    open(&server, &ana.token).await;

    let (browser, _) = Browser::log_in(&server, "admin", ADMIN_PASSWORD).await;
    let own = format!("http://{}", server.address);
    let headers =
        [("cookie", browser.cookie.as_str()), ("origin", own.as_str()), ("sec-websocket-protocol", "x, qy-lty.console.v1")];
    let mut console = server.try_ws("/ws/console", &headers).await.unwrap();
    assert_eq!(console.headers["sec-websocket-protocol"], "qy-lty.console.v1");
    assert_eq!(console.json().await["role"], "admin");
    // Without an origin it may be any page's, of an old browser; a foreign one is none of this server's.
    assert_eq!(refused(&server, "/ws/console/", &headers[..1]).await, 403);
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        let headers = [("cookie", browser.cookie.as_str()), ("origin", origin)];
        assert_eq!(refused(&server, "/ws/console/", &headers).await, 403, "{origin}");
    }
}

#[tokio::test]
async fn programs_and_wrong_credentials_are_refused() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let device = server.device(&ana.token, false).await;
    let service = server.post("/api/auth/tokens", &admin, json!({"kind": "service"})).await.expect(201);
    for token in [server.device_token(&ana.token, device).await, service["data"]["token"].as_str().unwrap().to_owned()] {
        let authorization = format!("Bearer {token}");
        assert_eq!(refused(&server, "/ws/console/", &[("authorization", &authorization)]).await, 403);
    }
    for path in ["/ws/console/", "/ws/console/?ticket=qlx_wrong", &format!("/ws/console/?token={admin}")] {
        assert_eq!(server.ws(path).await.disconnected().await["code"], 4001, "{path}");
    }
    assert_eq!(server.get("/ws/console/", Some(&admin)).await.status, 426);
}

#[tokio::test]
async fn consoles_have_a_limit_of_their_own_and_are_nobodys_presence() {
    let mut config = unlimited();
    config.limits.console_connections = 1;
    let server = Server::with(config).await;
    let admin = server.admin().await;
    let first = open(&server, &admin).await;
    let overview = server.get("/api/monitor/overview", Some(&admin)).await.ok()["data"].clone();
    assert_eq!((&overview["connections"], &overview["users_online"]), (&json!(0), &json!(0)));
    let authorization = format!("Bearer {admin}");
    let mut second = server.try_ws("/ws/console/", &[("authorization", &authorization)]).await.unwrap();
    assert_eq!(second.disconnected().await["code"], 4101);
    assert_eq!(page(&server, &admin).await.get("refused_total{reason=\"consoles\"}"), 1.0);
    drop(first);
    eventually("there is room", async || {
        let mut console = server.try_ws("/ws/console/", &[("authorization", &authorization)]).await.unwrap();
        console.json().await["type"] == "hello"
    })
    .await;
}

#[tokio::test]
async fn console_ends_with_its_token_and_with_its_role() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let (ana, bob) = (server.user("ana").await, server.account("bob", "admin").await);
    let mut console = subscribed(&server, &ana.token, "receipts", json!({})).await;
    server.post("/api/auth/logout", &ana.token, json!({})).await.ok();
    assert_eq!(console.disconnected().await["code"], 4001);
    let mut console = subscribed(&server, &bob.token, "receipts", json!({})).await;
    let path = format!("/api/users/{}", bob.id);
    server.http("PATCH", &path, Some(&admin), Some(r#"{"role": "user"}"#)).await.ok();
    assert_eq!(console.closed().await, 1001, "it returns as what it is now");
    let mut console = open(&server, &bob.token).await;
    server.http("PATCH", &path, Some(&admin), Some(r#"{"disabled": true}"#)).await.ok();
    assert_eq!(console.disconnected().await["code"], 4001);
}

#[tokio::test]
async fn stopping_server_closes_consoles_in_order() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let mut console = subscribed(&server, &admin, "receipts", json!({})).await;
    let reading = tokio::spawn(async move { console.closed().await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    server.stop().await;
    assert_eq!(reading.await.unwrap(), 1001);
}

#[tokio::test]
async fn requests_that_cannot_be_used_get_one_answer_each_and_too_many_close() {
    let mut config = unlimited();
    config.limits.messages_per_minute = 20;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let mut console = open(&server, &ana.token).await;
    for (request, code, topic) in [
        (json!({"type": "subscribe", "topic": "overview"}), "forbidden", json!("overview")),
        (json!({"type": "subscribe", "topic": "traffic"}), "forbidden", json!("traffic")),
        (json!({"type": "subscribe", "topic": "connections", "filter": {"user_id": 1}}), "forbidden", json!("connections")),
        (json!({"type": "subscribe", "topic": "receipts", "filter": {"x": 1}}), "invalid", json!("receipts")),
        (json!({"type": "subscribe", "topic": "weather"}), "unknown_topic", json!(null)),
        (json!({"type": "chat_message", "message": "?"}), "unsupported_type", json!(null)),
        (json!([1]), "invalid", json!(null)),
    ] {
        let answer = console.ask(request.clone()).await;
        assert_eq!((&answer["type"], &answer["code"], &answer["topic"]), (&json!("error"), &json!(code), &topic), "{request}");
        assert!(answer["message"].as_str().is_some_and(|text| !text.is_empty()));
    }
    console.send("{").await;
    assert_eq!(console.json().await["code"], "invalid_json");
    assert_eq!(console.ask(json!({"type": "ping"})).await, json!({"type": "pong"}));
    let answer = console.ask(json!({"type": "unsubscribe", "topic": "traffic"})).await;
    assert_eq!(answer, json!({"type": "unsubscribed", "topic": "traffic"}));
    for _ in 0..25 {
        console.say(json!({"type": "ping"})).await;
    }
    let end = loop {
        let event = console.json().await;
        if event["type"] != "pong" {
            break event;
        }
    };
    assert_eq!(end["code"], 4008, "{end}");
}
