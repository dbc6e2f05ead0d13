//! Commands for another device: delivered through its mailbox, with their status reported to the sender.

use crate::support::{Client, Server, unlimited};
use serde_json::{Value, json};

/// Sends a command for another device and returns the answer.
async fn ask(app: &mut Client, kind: &str, target: Value) -> Value {
    app.ask(json!({"type": kind, "message": {"song": "童年", "dance": "圆圈"}, "target": target, "ref": "r1"})).await
}

#[tokio::test]
async fn command_to_absent_primary_device_is_queued_and_acked_later() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    // The device may get its token before or after the app connects.
    for token_first in [true, false] {
        let device = server.device(&ana.token, true).await;
        let early = if token_first { Some(server.device_token(&ana.token, device).await) } else { None };
        let (mut app, mut idle) = (server.connect(&ana.token).await, server.connect(&ana.token).await);
        let status = ask(&mut app, "sing", json!("device")).await;
        assert_eq!((&status["type"], &status["ref"]), (&json!("delivery_status"), &json!("r1")), "{status}");
        assert_eq!(status["device_id"], device);
        app.fence().await; // neither the song nor an end of it comes to who asked
        if !token_first {
            drop(idle); // one that stands for the device itself, as the guide's do, would take it
            continue;
        }
        assert_eq!(status["status"], "queued");
        idle.fence().await;
        let online =
            async || server.get(&format!("/api/devices/{device}"), Some(&ana.token)).await.ok()["data"]["online"].clone();
        assert_eq!(online().await, false, "an app is not the lamp");
        let mut lamp = server.connect(&early.unwrap()).await;
        let song = lamp.json().await;
        assert_eq!(online().await, true);
        assert_eq!((&song["id"], &song["type"]), (&status["id"], &json!("sing_response")));
        assert_eq!((&song["data"]["action"], &song["message"]), (&json!("start_singing"), &json!("开始播放:童年 - ")));
        lamp.fence().await; // a test's client answers pings only while it reads
        let acked = app.json().await;
        assert_eq!((&acked["type"], &acked["status"]), (&json!("delivery_status"), &json!("acked")));
        assert_eq!((&acked["id"], &acked["device_id"], &acked["ref"]), (&status["id"], &json!(device), &json!("r1")));
    }
}

#[tokio::test]
async fn commander_of_own_primary_device_does_not_receive_command() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, true).await;
    let mut app = server.connect(&ana.token).await;
    let status = ask(&mut app, "sing", json!("device")).await;
    assert_eq!(status["status"], "queued", "nobody else stands for it: {status}");
    app.fence().await;
    let mut lamp = server.connect(&server.device_token(&ana.token, device).await).await;
    assert_eq!(lamp.json().await["id"], status["id"]);
    lamp.fence().await;
    assert_eq!(app.json().await["status"], "acked");
}

#[tokio::test]
async fn burst_of_commands_keeps_order() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, false).await;
    let mut app = server.connect(&ana.token).await;
    for n in 0..90 {
        let action = if n % 2 == 0 { "start" } else { "stop" };
        let message = json!({"song": n.to_string(), "action": action});
        app.say(json!({"type": "sing", "message": message, "target": {"device_id": device}, "ref": n.to_string()})).await;
    }
    let mut last = 0;
    for n in 0..90 {
        let status = app.json().await;
        assert_eq!((&status["status"], &status["ref"]), (&json!("queued"), &json!(n.to_string())));
        let id = status["id"].as_u64().unwrap();
        assert!(id > last);
        last = id;
    }
    let mut lamp = server.connect(&server.device_token(&ana.token, device).await).await;
    for n in 0..90 {
        assert_eq!(lamp.json().await["data"]["song"], n.to_string());
    }
    lamp.fence().await;
    for n in 0..90 {
        let acked = app.json().await;
        assert_eq!((&acked["status"], &acked["ref"]), (&json!("acked"), &json!(n.to_string())));
    }
}

#[tokio::test]
async fn cleared_command_is_reported_and_never_acked() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, false).await;
    let mut app = server.connect(&ana.token).await;
    let first = ask(&mut app, "sing", json!({"device_id": device})).await;
    server.http("DELETE", &format!("/api/queue/device/{device}"), Some(&ana.token), None).await.ok();
    let cleared = app.json().await;
    assert_eq!((&cleared["status"], &cleared["id"]), (&json!("cleared"), &first["id"]));
    let second = ask(&mut app, "sing", json!({"device_id": device})).await;
    let mut lamp = server.connect(&server.device_token(&ana.token, device).await).await;
    assert_eq!(lamp.json().await["id"], second["id"]);
    lamp.fence().await;
    let acked = app.json().await;
    assert_eq!((&acked["status"], &acked["id"]), (&json!("acked"), &second["id"]));
}

#[tokio::test]
async fn command_to_connected_device_is_sent_and_acked() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut app = server.connect(&ana.token).await;
    let device = server.device(&ana.token, true).await;
    let mut lamp = server.connect(&server.device_token(&ana.token, device).await).await;
    for (kind, answer) in [("dance", "dance_response"), ("weather", "weather_response")] {
        let status = ask(&mut app, kind, json!("device")).await;
        assert_eq!((&status["status"], &status["device_id"]), (&json!("sent"), &json!(device)));
        let event = lamp.json().await;
        assert_eq!((&event["type"], &event["id"]), (&json!(answer), &status["id"]));
        lamp.fence().await;
        assert_eq!(app.json().await["status"], "acked");
    }
    let chat = json!({"type": "chat_message", "message": "hi", "target": {"device_id": device}});
    assert_eq!(app.ask(chat).await["type"], "delivery_status");
    assert_eq!(lamp.json().await["message"], "收到消息:hi");
    lamp.fence().await;
    assert_eq!(app.json().await["status"], "acked");
}

#[tokio::test]
async fn command_to_foreign_device_is_forbidden() {
    let server = Server::start().await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let (mine, second) = (server.device(&ana.token, false).await, server.device(&ana.token, false).await);
    let theirs = server.device(&bob.token, true).await;
    let mut app = server.connect(&ana.token).await;
    for device in [theirs, 999_999] {
        let error = ask(&mut app, "sing", json!({"device_id": device})).await;
        assert_eq!((&error["code"], &error["ref"]), (&json!("FORBIDDEN"), &json!("r1")));
    }
    let error = ask(&mut app, "sing", json!("device")).await;
    assert_eq!(error["code"], "VALIDATION_ERROR", "there is no primary device: {error}");
    // A device's credential reaches that device and no other.
    let mut lamp = server.connect(&server.device_token(&ana.token, mine).await).await;
    assert_eq!(ask(&mut lamp, "sing", json!({"device_id": second})).await["code"], "FORBIDDEN");
    app.fence().await;
}

#[tokio::test]
async fn command_to_full_mailbox_gets_error() {
    let mut config = unlimited();
    config.mailbox.messages = 2;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, false).await;
    let mut app = server.connect(&ana.token).await;
    for _ in 0..2 {
        assert_eq!(ask(&mut app, "sing", json!({"device_id": device})).await["status"], "queued");
    }
    let error = ask(&mut app, "sing", json!({"device_id": device})).await;
    assert_eq!((&error["type"], &error["code"]), (&json!("error"), &json!("MAILBOX_FULL")));
}

#[tokio::test]
async fn playing_song_or_dance_is_stopped() {
    let server = Server::start().await;
    let mut app = server.connect(&server.admin().await).await;
    for (kind, action) in [("sing", "stop_singing"), ("dance", "stop_dancing")] {
        let answer = app.ask(json!({"type": kind, "message": {"action": "stop"}})).await;
        assert_eq!(answer["data"]["action"], action, "{answer}");
    }
}
