//! Commands that another device performs: through its mailbox, with word of what became of them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Client, Server, unlimited};
use serde_json::{Value, json};

async fn device_token(server: &Server, user: &str, device: u64) -> String {
    let made = server.post(&format!("/api/devices/{device}/token"), user, json!({})).await;
    made.expect(201)["data"]["token"].as_str().unwrap().to_owned()
}

/// Asks for something that another device is to do; the answer.
async fn ask(app: &mut Client, kind: &str, target: Value) -> Value {
    app.ask(json!({"type": kind, "message": {"song": "童年", "dance": "圆圈"}, "target": target, "ref": "r1"})).await
}

#[tokio::test]
async fn a_device_that_is_away_gets_it_later_and_the_asker_hears_of_it() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, true).await;
    let other = server.device(&ana.token, false).await;
    let mut app = server.connect(&device_token(&server, &ana.token, other).await).await;
    // Its own self is "device" to a device: word of it and the song itself, in either order.
    let mut both = [ask(&mut app, "sing", json!("device")).await, app.json().await];
    both.sort_by_key(|event| event["type"].to_string());
    assert_eq!((&both[0]["device_id"], &both[1]["type"]), (&json!(other), &json!("sing_response")));
    app.say(json!({"type": "ping"})).await;
    let both = [app.json().await, app.json().await];
    assert!(both.iter().any(|event| event["status"] == "acked"), "it has its own song: {both:?}");
    drop(app);

    let mut app = Plain::connect(&server, &ana.token, device).await;
    let status = ask(&mut app.0, "sing", json!({"device_id": other})).await;
    assert_eq!((&status["status"], &status["device_id"], &status["ref"]), (&json!("queued"), &json!(other), &json!("r1")));
    let mut toy = server.connect(&device_token(&server, &ana.token, other).await).await;
    let song = toy.json().await;
    assert_eq!(song["id"], status["id"]);
    assert_eq!((&song["type"], &song["data"]["action"]), (&json!("sing_response"), &json!("start_singing")));
    assert_eq!(song["message"], "开始播放:童年 - ");
    toy.fence().await; // a test's client answers pings only while it reads
    let acked = app.0.json().await;
    assert_eq!((&acked["type"], &acked["status"], &acked["ref"]), (&json!("delivery_status"), &json!("acked"), &json!("r1")));
    assert_eq!((&acked["id"], &acked["device_id"]), (&status["id"], &json!(other)));
}

/// A connection of the user itself; its primary device is taken off first, so that it stands for none.
struct Plain(Client);

impl Plain {
    async fn connect(server: &Server, token: &str, primary: u64) -> Self {
        server.http("PATCH", &format!("/api/devices/{primary}"), Some(token), Some(r#"{"primary":false}"#)).await.ok();
        Self(server.connect(token).await)
    }
}

#[tokio::test]
async fn one_that_is_there_gets_it_at_once() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut app = server.connect(&ana.token).await;
    let device = server.device(&ana.token, true).await;
    let mut lamp = server.connect(&device_token(&server, &ana.token, device).await).await;
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
async fn nobody_commands_what_is_not_theirs() {
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
    let mut lamp = server.connect(&device_token(&server, &ana.token, mine).await).await;
    assert_eq!(ask(&mut lamp, "sing", json!({"device_id": second})).await["code"], "FORBIDDEN");
    app.fence().await;
}

#[tokio::test]
async fn a_full_mailbox_says_so() {
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
async fn what_plays_can_be_stopped() {
    let server = Server::start().await;
    let mut app = server.connect(&server.admin().await).await;
    for (kind, action) in [("sing", "stop_singing"), ("dance", "stop_dancing")] {
        let answer = app.ask(json!({"type": kind, "message": {"action": "stop"}})).await;
        assert_eq!(answer["data"]["action"], action, "{answer}");
    }
}
