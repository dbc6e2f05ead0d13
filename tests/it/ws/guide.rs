//! The guide's WebSocket protocol: routes, credentials, the five message types, errors.

use crate::support::{Server, eventually, unlimited};
use futures_util::SinkExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::{Error, Message};

#[tokio::test]
async fn handshake_routes_work_with_and_without_slash() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, true).await;
    let (token, id) = (&ana.token, ana.id);
    for path in [
        format!("/ws/device/?token={token}"),
        format!("/ws/device?token={token}"),
        format!("/ws/device/token/{token}/"),
        format!("/ws/device/token/{token}"),
        format!("/ws/device/{id}/?token={token}"),
        format!("/ws/device/{id}?token={token}"),
    ] {
        let mut client = server.ws(&path).await;
        let hello = client.json().await;
        assert_eq!(hello["type"], "connection_status", "{path}");
        assert_eq!(hello["status"], "connected");
        assert_eq!(hello["user_id"], json!(id.to_string()));
        assert_eq!(hello["device_id"], json!(device));
        assert_eq!((&hello["last_id"], &hello["pending"]), (&json!(0), &json!(0)));
        assert_eq!(hello["epoch"].as_str().unwrap().len(), 16);
        let stamp = hello["timestamp"].as_str().unwrap();
        assert!(stamp.len() == 32 && stamp.ends_with("+00:00"), "{stamp}");
        client.fence().await;
    }
}

#[tokio::test]
async fn credential_places_are_accepted_in_order() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let token = ana.token.as_str();
    let authorization = [format!("Token {token}"), format!("Bearer {token}"), format!("bearer {token}")];
    for header in &authorization {
        let mut client = server.try_ws("/ws/device/", &[("authorization", header)]).await.unwrap();
        assert_eq!(client.json().await["type"], "connection_status");
    }
    let offered = format!("qy-lty.v1, token.{token}");
    let mut client = server.try_ws("/ws/device/", &[("sec-websocket-protocol", &offered)]).await.unwrap();
    assert_eq!(client.headers["sec-websocket-protocol"], "qy-lty.v1");
    assert_eq!(client.json().await["type"], "connection_status");

    let ticket = server.post("/api/auth/ticket", token, json!({})).await.expect(201);
    assert_eq!(ticket["data"]["expires_in"], 30);
    let path = format!("/ws/device/?ticket={}", ticket["data"]["ticket"].as_str().unwrap());
    assert_eq!(server.ws(&path).await.json().await["type"], "connection_status");
    assert_eq!(server.ws(&path).await.disconnected().await["code"], 4001, "a ticket is good once");

    // The query goes before the path, the path before the header.
    let first = format!("/ws/device/token/wrong/?token={token}");
    assert_eq!(server.ws(&first).await.json().await["type"], "connection_status");
    let path = format!("/ws/device/token/{token}/?token=wrong");
    assert_eq!(server.ws(&path).await.disconnected().await["code"], 4001);
    let mut client = server.try_ws("/ws/device/token/wrong/", &[("authorization", &authorization[0])]).await.unwrap();
    assert_eq!(client.disconnected().await["code"], 4001);
}

#[tokio::test]
async fn refused_credential_is_closed_after_handshake() {
    let server = Server::start().await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    for (path, code) in [
        ("/ws/device/".to_owned(), 4001),
        ("/ws/device/?token=".to_owned(), 4001),
        ("/ws/device/?token=wrong".to_owned(), 4001),
        ("/ws/device/?ticket=wrong".to_owned(), 4001),
        (format!("/ws/device/?Token={}", ana.token), 4001),
        (format!("/ws/device/?token={}", "x".repeat(5000)), 4001),
        (format!("/ws/device/{}/", ana.id), 4001),
        (format!("/ws/device/{}/?token={}", bob.id, ana.token), 4003),
        (format!("/ws/device/0/?token={}", ana.token), 4003),
    ] {
        let event = server.ws(&path).await.disconnected().await;
        assert_eq!(event["code"], code, "{path}");
        assert_eq!(event["reconnect"], false);
    }
    let admin = server.admin().await;
    let body = json!({"disabled": true}).to_string();
    server.http("PATCH", &format!("/api/users/{}", bob.id), Some(&admin), Some(&body)).await.ok();
    assert_eq!(server.ws(&format!("/ws/device/?token={}", bob.token)).await.disconnected().await["code"], 4001);
}

#[tokio::test]
async fn require_device_closes_users_without_primary_device() {
    let mut config = unlimited();
    config.server.require_device = true;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let path = format!("/ws/device/?token={}", ana.token);
    assert_eq!(server.ws(&path).await.disconnected().await["code"], 4002);
    server.device(&ana.token, false).await;
    assert_eq!(server.ws(&path).await.disconnected().await["code"], 4002, "a device that is not primary does not count");
    server.device(&ana.token, true).await;
    assert_eq!(server.ws(&path).await.json().await["type"], "connection_status");
}

#[tokio::test]
async fn invalid_handshake_is_answered_over_http() {
    let server = Server::start().await;
    let token = server.admin().await;
    let status = async |path: String, headers: &[(&'static str, &str)]| match server.try_ws(&path, headers).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{path}: {:?}", other.map(|_| "open")),
    };
    assert_eq!(status(format!("/ws/other/?token={token}"), &[]).await, 404);
    assert_eq!(status(format!("/WS/DEVICE/?token={token}"), &[]).await, 404);
    assert_eq!(status(format!("/ws/device/1/more/?token={token}"), &[]).await, 404);
    assert_eq!(status(format!("/ws/device/99999999999999999999/?token={token}"), &[]).await, 404);
    assert_eq!(status(format!("/ws/device/?token={token}"), &[("origin", "https://evil.example")]).await, 403);
    assert_eq!(status(format!("/ws/device/?token={token}"), &[("origin", "null")]).await, 403);
    assert_eq!(status(format!("/ws/device/?token={token}"), &[("sec-websocket-key", "short")]).await, 400);
    let own = format!("http://{}", server.address);
    for origin in [own.as_str(), "http://localhost:5173"] {
        server.try_ws(&format!("/ws/device/?token={token}"), &[("origin", origin)]).await.unwrap();
    }
    let answer = server.get(&format!("/ws/device/?token={token}"), None).await;
    assert_eq!(answer.headers["upgrade"], "websocket");
    answer.expect(426);
    let wrong_version = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "8")];
    assert_eq!(server.raw_http("GET", "/ws/device/", &wrong_version, b"").await.headers["sec-websocket-version"], "13");
    assert_eq!(server.post("/ws/device/", &token, json!({})).await.expect(405)["code"], "method_not_allowed");
}

#[tokio::test]
async fn ambiguous_handshakes_are_refused() {
    let server = Server::start().await;
    let token = server.admin().await;
    let path = format!("/ws/device/?token={token}");
    let handshake = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    // A body's bytes would be read as frames.
    server.raw_http("GET", &path, &handshake, b"hello").await.expect(400);
    let foreign = [&handshake[..], &[("origin", "https://evil\u{e9}")]].concat();
    server.raw_http("GET", &path, &foreign, b"").await.expect(403);
    let own = format!("http://{}", server.address);
    let two = [&handshake[..], &[("origin", own.as_str()), ("origin", "https://evil.example")]].concat();
    server.raw_http("GET", &path, &two, b"").await.expect(403);

    // The token in a second header line, as some proxies send lists.
    let token = format!("token.{token}");
    let headers = [("sec-websocket-protocol", "qy-lty.v1"), ("sec-websocket-protocol", token.as_str())];
    let mut client = server.try_ws("/ws/device/", &headers).await.unwrap();
    assert_eq!(client.json().await["type"], "connection_status");
}

#[tokio::test]
async fn five_message_types_get_their_answers() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut client = server.connect(&ana.token).await;

    let chat = client.ask(json!({"type": "chat_message", "message": "你好", "ref": "c1"})).await;
    assert_eq!((&chat["type"], &chat["message"], &chat["ref"]), (&json!("chat_response"), &json!("收到消息:你好"), &json!("c1")));
    let chat = client.ask(json!({"type": "chat_message", "message": {"content": "hi"}})).await;
    assert_eq!(chat["message"], "收到消息:hi");

    let weather = client.ask(json!({"type": "weather", "message": {"city": "上海"}})).await;
    assert_eq!(weather["type"], "weather_response");
    assert_eq!((&weather["data"]["city"]["name"], &weather["data"]["source"]), (&json!("上海"), &json!("simulated")));
    let now = &weather["data"]["weather"]["now"];
    assert!(now["temp"].as_str().unwrap().parse::<i32>().is_ok() && now["text"].is_string() && now["icon"].is_string());
    assert!(weather["data"]["weather"]["updateTime"].is_string());
    let again = client.ask(json!({"type": "weather", "message": {"city": "上海"}})).await;
    // The same within the hour; only where the hour turned between the two may they differ.
    if again["data"]["weather"]["updateTime"] == weather["data"]["weather"]["updateTime"] {
        assert_eq!(again["data"], weather["data"]);
    }
    assert_eq!(client.ask(json!({"type": "weather", "message": {}})).await["data"]["city"]["name"], "北京");

    let sing = client.ask(json!({"type": "sing", "message": {"song": "青花瓷", "artist": "周杰伦"}})).await;
    assert_eq!(sing["data"], json!({"song": "青花瓷", "artist": "周杰伦", "action": "start_singing"}));
    assert_eq!((&sing["type"], &sing["message"]), (&json!("sing_response"), &json!("开始播放:青花瓷 - 周杰伦")));

    let dance = client.ask(json!({"type": "dance", "message": {"dance": "街舞", "style": "嘻哈"}})).await;
    assert_eq!(dance["data"], json!({"dance": "街舞", "style": "嘻哈", "duration": "30秒", "action": "start_dancing"}));
    assert_eq!((&dance["type"], &dance["message"]), (&json!("dance_response"), &json!("开始跳舞:街舞 (嘻哈)")));

    assert_eq!(client.ask(json!({"type": "ping", "message": {}, "ref": "p"})).await["ref"], "p");
}

#[tokio::test]
async fn message_errors_keep_connection_open() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut client = server.connect(&ana.token).await;
    for (text, code, message) in [
        ("{", "INVALID_JSON", "Invalid JSON format"),
        (r#"{"type":"nosuch"}"#, "UNSUPPORTED_TYPE", "Unsupported message type: nosuch"),
        ("[]", "VALIDATION_ERROR", "Message validation error: a message must be a JSON object"),
        (
            r#"{"type":"sing","message":{"song":1}}"#,
            "VALIDATION_ERROR",
            "Message validation error: message.song must be a string",
        ),
        (
            r#"{"type":"weather","message":{"city":""}}"#,
            "VALIDATION_ERROR",
            "Message validation error: message.city must be 1 to 64 characters",
        ),
    ] {
        client.send(text).await;
        let error = client.json().await;
        assert_eq!((&error["type"], &error["code"], &error["message"]), (&json!("error"), &json!(code), &json!(message)));
        assert!(error["timestamp"].is_string());
    }
    client.stream.send(Message::binary(vec![0, 1])).await.unwrap();
    assert_eq!(client.json().await["code"], "VALIDATION_ERROR");
    client.send("x".repeat(10_241)).await;
    assert_eq!(client.json().await["code"], "MESSAGE_TOO_LARGE");
    client.fence().await;
}

#[tokio::test]
async fn pipelined_messages_are_answered_in_order() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut client = server.connect(&ana.token).await;
    for n in 0..80 {
        let text = json!({"type": "chat_message", "message": n.to_string()}).to_string();
        client.stream.feed(Message::text(text)).await.unwrap();
    }
    client.stream.flush().await.unwrap();
    for n in 0..80 {
        assert_eq!(client.json().await["message"], format!("收到消息:{n}"));
    }
}

#[tokio::test]
async fn client_close_ends_session() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut client = server.connect(&ana.token).await;
    client.stream.close(None).await.unwrap();
    while client.next().await.is_some() {}
    let admin = server.admin().await;
    eventually("the connection leaves the list", async || {
        server.get("/api/monitor/connections", Some(&admin)).await.ok()["data"]["total_connections"] == 0
    })
    .await;
}
