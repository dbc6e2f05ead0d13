//! The `ref` of a message: every answer to it carries it, errors included, where it can be read.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Client, Server, unlimited};
use futures_util::SinkExt;

/// The message without what it needs.
fn with_ref(mut message: Value) -> String {
    message["ref"] = json!("r-1");
    message.to_string()
}

async fn answered(client: &mut Client, text: String, code: &str) {
    client.send(text.clone()).await;
    let error = client.json().await;
    let shown: String = text.chars().take(100).collect();
    assert_eq!((&error["code"], &error["ref"]), (&json!(code), &json!("r-1")), "{shown}: {error}");
}

#[tokio::test]
async fn error_carries_the_ref_of_its_message() {
    let mut config = unlimited();
    config.limits.max_message_chars = 1000;
    let server = Server::with(config).await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let theirs = server.device(&bob.token, true).await;
    let mut client = server.connect(&ana.token).await;
    let long = "长".repeat(2000);
    for (code, message) in [
        ("MESSAGE_TOO_LARGE", json!({"type": "chat_message", "message": long})),
        ("MESSAGE_TOO_LARGE", json!({"type": "nosuch", "message": {"a": [long]}})),
        ("UNSUPPORTED_TYPE", json!({"type": "nosuch", "message": 1})),
        ("VALIDATION_ERROR", json!({"message": 1})),
        ("VALIDATION_ERROR", json!({"type": "sing", "message": 1})),
        ("VALIDATION_ERROR", json!({"type": "ping", "timestamp": "yesterday"})),
        ("VALIDATION_ERROR", json!({"type": "ping", "target": "device"})),
        ("VALIDATION_ERROR", json!({"type": "ack", "message": {}})),
        ("VALIDATION_ERROR", json!({"type": "ack", "message": {"id": 1}})),
        ("VALIDATION_ERROR", json!({"type": "sing", "message": {}, "target": "device"})),
        ("FORBIDDEN", json!({"type": "sing", "message": {}, "target": {"device_id": theirs}})),
    ] {
        answered(&mut client, with_ref(message), code).await;
    }
    answered(&mut client, r#"{"ref":"r-1","type":"ping","type":"ping"}"#.into(), "VALIDATION_ERROR").await;
    client.stream.send(Message::binary(with_ref(json!({"type": "ping"})).into_bytes())).await.unwrap();
    let error = client.json().await;
    assert_eq!((&error["code"], &error["ref"]), (&json!("VALIDATION_ERROR"), &json!("r-1")));

    let mut acking = server.ws(&format!("/ws/device/?token={}&ack=client", ana.token)).await;
    acking.json().await;
    answered(&mut acking, with_ref(json!({"type": "ack", "message": {"id": 900}})), "VALIDATION_ERROR").await;

    // Where it can't be read, there is none.
    for text in [format!("{{\"ref\":\"r-1\",\"message\":\"{long}"), json!({"ref": long}).to_string(), format!("[\"{long}\"]")] {
        client.send(text).await;
        let error = client.json().await;
        assert_eq!((&error["code"], error.get("ref")), (&json!("MESSAGE_TOO_LARGE"), None));
    }
}

#[tokio::test]
async fn rate_limited_message_is_named_by_its_ref() {
    for by_user in [false, true] {
        let long = "x".repeat(2000);
        for last in [
            json!({"type": "ping"}),
            json!({"type": "nosuch"}),
            json!({"type": "chat_message", "message": long}),
            json!({"type": "ack", "message": {"id": 1}}),
        ] {
            let mut config = unlimited();
            config.limits.max_message_chars = 1000;
            match by_user {
                true => config.limits.user_messages_per_minute = 2,
                false => config.limits.messages_per_minute = 2,
            }
            let server = Server::with(config).await;
            let mut client = server.connect(&server.admin().await).await;
            for n in 0..2 {
                assert_eq!(client.ask(json!({"type": "ping", "ref": format!("earlier {n}")})).await["type"], "pong");
            }
            answered(&mut client, with_ref(last), "RATE_LIMITED").await;
            assert_eq!(client.disconnected().await["code"], 4008);
        }
    }
}

#[tokio::test]
async fn ref_of_an_earlier_message_is_not_repeated() {
    let mut config = unlimited();
    config.limits.messages_per_minute = 2;
    let server = Server::with(config).await;
    let mut client = server.connect(&server.admin().await).await;
    // In one write, of which the last has no `ref`.
    for n in 0..2 {
        client.send(json!({"type": "ping", "ref": format!("{n}")}).to_string()).await;
    }
    client.send("{\"type\":\"ping\"}").await;
    for n in 0..2 {
        assert_eq!(client.json().await["ref"], json!(format!("{n}")));
    }
    let error = client.json().await;
    assert_eq!((&error["code"], error.get("ref")), (&json!("RATE_LIMITED"), None));
}
