//! Pushes: their recipients, and readers that are too slow.

use crate::support::{Server, unlimited};
use serde_json::{Value, json};

#[tokio::test]
async fn push_to_user_reaches_all_their_connections_only() {
    let server = Server::start().await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let (mut one, mut two, mut other) =
        (server.connect(&ana.token).await, server.connect(&ana.token).await, server.connect(&bob.token).await);
    let body = json!({"type": "notice", "message": "你好", "user_id": ana.id});
    let sent = server.post("/api/messages/", &ana.token, body).await.ok();
    assert_eq!(sent["message"], "消息发送成功");
    let data = &sent["data"];
    assert_eq!(
        (&data["type"], &data["message"], &data["delivery"], &data["recipients"]),
        (&json!("notice"), &json!("你好"), &json!("queued"), &json!(2))
    );
    for client in [&mut one, &mut two] {
        let push = client.json().await;
        assert_eq!(push, json!({"type": "notice", "message": "你好", "timestamp": data["timestamp"], "id": data["id"]}));
        client.fence().await;
    }
    other.fence().await;
    let body = json!({"type": "notice", "message": "m", "user_id": ana.id.to_string()});
    server.post("/api/messages/", &ana.token, body).await.ok();
    assert_eq!(one.json().await["message"], "m");
}

#[tokio::test]
async fn message_json_arrives_byte_for_byte() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut client = server.connect(&ana.token).await;
    let raw = r#"{"b":1.0,"a":[18446744073709551615,1e2,0.10],"z":null,"z":"\u4f60"}"#;
    let body = format!(r#"{{"type":"notice","message":{raw},"user_id":{}}}"#, ana.id);
    let answer = server.http("POST", "/api/messages", Some(&ana.token), Some(&body)).await;
    assert!(answer.text.contains(raw), "{}", answer.text);
    assert!(client.text().await.contains(&format!(r#""message":{raw}"#)));
}

#[tokio::test]
async fn live_message_reaches_only_connected_clients() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let path = format!("/api/messages/user/{}", ana.id);
    let sent = server.post(&path, &ana.token, json!({"message": 1, "delivery": "live"})).await.ok();
    assert_eq!(
        (&sent["data"]["delivery"], &sent["data"]["recipients"], &sent["data"]["id"]),
        (&json!("live"), &json!(0), &Value::Null)
    );
    let mut client = server.connect(&ana.token).await;
    client.fence().await;
    server.post(&path, &ana.token, json!({"message": 2, "delivery": "live"})).await.ok();
    let push = client.json().await;
    assert_eq!((&push["message"], &push["id"]), (&json!(2), &Value::Null));
    server.post(&path, &ana.token, json!({"message": 3, "delivery": "live", "ttl": 5})).await.expect(400);
}

#[tokio::test]
async fn push_by_path_names_sender() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut client = server.connect(&ana.token).await;
    let path = format!("/api/messages/user/{}/", ana.id);
    server.post(&path, &ana.token, json!({"message": "m", "sender": "root"})).await.ok();
    let push = client.json().await;
    assert_eq!((&push["type"], &push["sender"]), (&json!("system"), &json!("ana")));
    server.post(&path, &ana.token, json!({"type": "t", "message": false})).await.ok();
    assert_eq!(client.json().await["message"], false);
    for body in [
        json!({}),
        json!({"message": null}),
        json!({"message": "m", "type": 5}),
        json!({"message": "m", "type": ""}),
        json!({"message": "m", "delivery": "x"}),
    ] {
        server.post(&path, &ana.token, body).await.expect(400);
    }
    for kind in ["connection_status", "disconnect", "error", "pong", "delivery_status", "presence"] {
        assert_eq!(
            server.post(&path, &ana.token, json!({"message": "m", "type": kind})).await.expect(400)["code"],
            "reserved_type"
        );
    }
    client.fence().await;
}

#[tokio::test]
async fn guide_push_without_parameter_is_refused() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let good = json!({"type": "t", "message": "m", "user_id": ana.id});
    for field in ["type", "message", "user_id"] {
        for missing in
            [None, Some(Value::Null), Some(json!("")), Some(json!(0)), Some(json!(false)), Some(json!({})), Some(json!([]))]
        {
            let mut body = good.clone();
            match missing {
                Some(value) => body[field] = value,
                None => drop(body.as_object_mut().unwrap().remove(field)),
            }
            let error = server.post("/api/messages/", &ana.token, body).await.expect(400);
            assert_eq!((&error["message"], &error["data"]["field"]), (&json!("缺少必要参数"), &json!(field)));
        }
    }
    for id in [json!(-5), json!("0"), json!("0x10"), json!([ana.id]), json!(1.5), json!(true)] {
        let body = json!({"type": "t", "message": "m", "user_id": id});
        server.post("/api/messages/", &ana.token, body).await.expect(400);
    }
    server.post("/api/messages/", &ana.token, json!({"type": "t", "message": "m", "user_id": 999_999})).await.expect(404);
}

#[tokio::test]
async fn sending_is_allowed_to_self_admin_and_service() {
    let server = Server::start().await;
    let (admin, ana, bob) = (server.admin().await, server.user("ana").await, server.user("bob").await);
    let device = server.device(&ana.token, true).await;
    let to_ana = format!("/api/messages/user/{}", ana.id);
    let to_device = format!("/api/messages/device/{device}");
    let service = server.post("/api/auth/tokens", &admin, json!({"kind": "service"})).await.expect(201);
    let service = service["data"]["token"].as_str().unwrap();
    for (token, status) in [(ana.token.as_str(), 200), (&admin, 200), (service, 200), (&bob.token, 404)] {
        server.post(&to_ana, token, json!({"message": "m"})).await.expect(status);
        server.post(&to_device, token, json!({"message": "m"})).await.expect(status);
    }
    for path in ["/api/messages/user/999999", "/api/messages/device/999999"] {
        server.post(path, &admin, json!({"message": "m"})).await.expect(404);
    }

    let mut config = unlimited();
    config.messages.cross_user = true;
    let server = Server::with(config).await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let device = server.device(&ana.token, true).await;
    server.post(&format!("/api/messages/user/{}", ana.id), &bob.token, json!({"message": "m"})).await.ok();
    server.post(&format!("/api/messages/device/{device}"), &bob.token, json!({"message": "m"})).await.expect(404);
}

#[tokio::test]
async fn push_to_device_and_broadcast_reach_their_connections() {
    let server = Server::start().await;
    let (admin, ana, bob) = (server.admin().await, server.user("ana").await, server.user("bob").await);
    let device = server.device(&ana.token, true).await;
    let second = server.device(&ana.token, false).await;
    let mut app = server.connect(&ana.token).await; // stands for the primary device
    let mut lamp = server.connect(&server.device_token(&ana.token, second).await).await;
    let mut other = server.connect(&bob.token).await;

    let sent = server.post(&format!("/api/messages/device/{device}/"), &ana.token, json!({"message": 1})).await.ok();
    assert_eq!(sent["data"]["recipients"], 1);
    assert_eq!(app.json().await["message"], 1);
    server.post(&format!("/api/messages/device/{second}/"), &ana.token, json!({"message": 2})).await.ok();
    assert_eq!(lamp.json().await["message"], 2);
    app.fence().await;

    server.post("/api/messages/broadcast/", &bob.token, json!({"message": 3})).await.expect(403);
    let sent = server.post("/api/messages/broadcast/", &admin, json!({"message": 3})).await.ok();
    assert_eq!(sent["data"]["recipients"], 3);
    for client in [&mut app, &mut lamp, &mut other] {
        assert_eq!(client.json().await["message"], 3);
        client.fence().await;
    }
}

#[tokio::test]
async fn slow_reader_is_closed_and_others_receive_all() {
    let mut config = unlimited();
    config.limits.group_buffer = 8;
    (config.limits.ping_seconds, config.limits.stalled_seconds) = (1, 3);
    let server = Server::with(config).await;
    let (admin, ana, bob) = (server.admin().await, server.user("ana").await, server.user("bob").await);
    let slow = server.connect(&ana.token).await; // reads nothing from here on
    let mut quick = server.connect(&bob.token).await;
    let body = json!({"message": "x".repeat(200_000), "delivery": "live"});
    // Fills the kernel's buffers, then waits until the slow one has stalled; the quick one receives every message meanwhile. These
    // are live: queued ones would be kept for the slow one.
    crate::support::eventually("the slow one is closed", async || {
        server.post("/api/messages/broadcast/", &admin, body.clone()).await.ok();
        assert_eq!(quick.json().await["type"], "system");
        server.get("/api/monitor/connections", Some(&admin)).await.ok()["data"]["total_connections"] == 1
    })
    .await;
    quick.fence().await;
    drop(slow);
}
