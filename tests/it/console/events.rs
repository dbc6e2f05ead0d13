//! The topics `receipts` and `traffic`.

use super::{Tail, open, subscribed};
use crate::support::{Server, roomy, set};
use futures_util::SinkExt;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

/// Pushes a message to a user and returns its id.
async fn push(server: &Server, token: &str, user: u64, message: Value) -> u64 {
    let sent = server.post(&format!("/api/messages/user/{user}"), token, json!({"message": message})).await.ok();
    sent["data"]["id"].as_u64().unwrap()
}

#[tokio::test]
async fn receipt_follows_a_message_to_two_clients() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let mut console = subscribed(&server, &admin, "receipts", json!({})).await;
    // The first message makes no client: the other one has to be there before.
    let mut first = server.ws(&format!("/ws/device/?token={}&client=first", ana.token)).await;
    let mut second = server.ws(&format!("/ws/device/?token={}&client=second", ana.token)).await;
    for client in [&mut first, &mut second] {
        client.json().await;
    }
    let id = push(&server, &ana.token, ana.id, json!(1)).await;
    let (of_first, of_second) = (Some("first"), Some("second"));
    let mut wanted = vec![
        ("queued", None),
        ("sent", of_first),
        ("sent", of_second),
        ("acked", of_first),
        ("acked", of_second),
        ("acked", None),
    ];
    // Both read, which answers the pings.
    let reading = tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = first.next() => {}
                _ = second.next() => {}
            }
        }
    });
    let mut seen = Vec::new();
    while !wanted.is_empty() {
        let frame = console.json().await;
        assert_eq!(frame["type"], "receipts", "{frame}");
        for item in frame["items"].as_array().unwrap() {
            assert_eq!((&item["user_id"], &item["id"]), (&json!(ana.id), &json!(id)));
            assert!(item["at"].is_string());
            wanted.retain(|(status, client)| item["status"] != *status || item["client"].as_str() != *client);
            seen.push((item["status"].as_str().unwrap().to_owned(), item["client"].as_str().map(str::to_owned)));
        }
    }
    reading.abort();
    assert_eq!(seen[0], ("queued".into(), None));
    let status = server.get(&format!("/api/messages/{id}"), Some(&ana.token)).await.ok()["data"]["status"].clone();
    assert_eq!(status, "acked", "the receipt is what was told");
}

#[tokio::test]
async fn ends_without_receipt_are_told_by_name() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let device = server.device(&ana.token, false).await;
    let mut console = subscribed(&server, &admin, "receipts", json!({})).await;
    let taken_back = push(&server, &ana.token, ana.id, json!(1)).await;
    server.delete(&format!("/api/messages/{taken_back}"), &ana.token).await.ok();
    let cleared = server.post(&format!("/api/messages/device/{device}"), &ana.token, json!({"message": 1})).await.ok();
    let cleared = cleared["data"]["id"].as_u64().unwrap();
    server.delete(&format!("/api/queue/device/{device}"), &ana.token).await.ok();
    let body = json!({"message": 1, "ttl": 1});
    let expired = server.post(&format!("/api/messages/user/{}", ana.id), &ana.token, body).await.ok();
    let expired = expired["data"]["id"].as_u64().unwrap();
    let mut wanted = vec![(taken_back, "cancelled"), (cleared, "cleared"), (expired, "expired")];
    while !wanted.is_empty() {
        for item in console.json().await["items"].as_array().unwrap() {
            wanted.retain(|(id, status)| item["id"] != *id || item["status"] != *status);
            assert_eq!(item.get("device_id").is_some(), item["id"] == cleared, "{item}");
        }
    }
}

#[tokio::test]
async fn users_get_receipts_of_what_they_send_and_receive_and_no_others() {
    let mut config = roomy();
    config.messages = toml::from_str("cross_user = true").unwrap();
    let server = Server::with(config).await;
    let (ana, bob, eve) = (server.user("ana").await, server.user("bob").await, server.user("eve").await);
    let mut of_ana = Tail::of(&server, &ana.token, "receipts", json!({})).await;
    let mut of_bob = Tail::of(&server, &bob.token, "receipts", json!({})).await;
    let mut of_eve = Tail::of(&server, &eve.token, "receipts", json!({})).await;
    // A device that was bound after the subscription began.
    let device = server.device(&bob.token, false).await;
    let between = push(&server, &ana.token, bob.id, json!(1)).await;
    for console in [&mut of_ana, &mut of_bob] {
        console.find(|item| item["id"] == between && item["status"] == "queued").await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    let to_device = server.post(&format!("/api/messages/device/{device}"), &server.admin().await, json!({"message": 1})).await;
    let to_device = to_device.ok()["data"]["id"].as_u64().unwrap();
    of_bob.find(|item| item["id"] == to_device && item["device_id"] == device).await;
    let own = push(&server, &eve.token, eve.id, json!(1)).await;
    let first = of_eve.find(|_| true).await;
    assert_eq!(first["id"], own, "{first}");
}

#[tokio::test]
async fn traffic_has_every_message_in_both_directions() {
    let server = Server::with(roomy()).await;
    let (admin, ana, bob) = (server.admin().await, server.user("ana").await, server.user("bob").await);
    let device = server.device(&bob.token, false).await;
    let admin_id = server.get("/api/auth/me", Some(&admin)).await.ok()["data"]["id"].as_u64().unwrap();
    let mut console = Tail::of(&server, &admin, "traffic", json!({})).await;

    // Pushes to nobody who is there.
    let id = push(&server, &ana.token, ana.id, json!("absent")).await;
    let seen = console.find(|item| item["id"] == id).await;
    for (key, value) in [
        ("direction", json!("in")),
        ("kind", json!("push")),
        ("type", json!("system")),
        ("user_id", json!(ana.id)),
        ("sender_id", json!(ana.id)),
        ("delivery", json!("queued")),
    ] {
        assert_eq!(seen[key], value, "{seen}");
    }
    assert!(seen["bytes"].as_u64().unwrap() > 20 && seen.get("message").is_none() && seen.get("connection_id").is_none());
    let body = json!({"type": "notice", "message": 1, "delivery": "live"});
    server.post(&format!("/api/messages/user/{}", ana.id), &admin, body).await.ok();
    let seen = console.find(|item| item["type"] == "notice").await;
    assert_eq!((&seen["delivery"], &seen["sender_id"], seen.get("id")), (&json!("live"), &json!(admin_id), None));
    server.post(&format!("/api/messages/device/{device}"), &bob.token, json!({"message": 1})).await.ok();
    let seen = console.find(|item| item["device_id"] == device).await;
    assert_eq!((seen.get("user_id"), &seen["kind"]), (None, &json!("push")));

    // Frames of a connection: the first event, a backlog, requests and answers, acknowledgements, rubbish.
    let mut client = server.ws(&format!("/ws/device/?token={}&client=phone&ack=client", ana.token)).await;
    client.json().await;
    let frame = |kind: &'static str, direction: &'static str| {
        let user = ana.id;
        move |item: &Value| {
            item["kind"] == "frame" && item["type"] == kind && item["direction"] == direction && item["user_id"] == user
        }
    };
    let seen = console.find(frame("connection_status", "out")).await;
    let connection = seen["connection_id"].as_u64().unwrap();
    let backlog = client.json().await;
    assert_eq!(backlog["id"], id);
    let seen = console.find(|item| item["direction"] == "out" && item["id"] == id).await;
    assert_eq!((&seen["connection_id"], &seen["delivery"]), (&json!(connection), &json!("queued")));
    client.say(json!({"type": "ack", "message": {"id": id}})).await;
    console.find(frame("ack", "in")).await;
    client.fence().await;
    console.find(|item| frame("ping", "in")(item) && item["bytes"] == 15).await;
    client.fence().await;
    console.find(frame("pong", "out")).await;
    client.send("no json").await;
    console.find(|item| frame("", "in")(item) && item["bytes"] == 7).await;
    client.json().await;
    client.stream.send(Message::binary(vec![1u8, 2, 3])).await.unwrap();
    console.find(|item| frame("", "in")(item) && item["bytes"] == 3).await;
    console.find(frame("error", "out")).await;
    client.json().await;

    // A broadcast: once as it comes in, and on each connection.
    let broadcast = server.post("/api/messages/broadcast", &admin, json!({"type": "all", "message": 1})).await.ok();
    let broadcast = broadcast["data"]["id"].as_u64().unwrap();
    let seen = console.find(|item| item["id"] == broadcast && item["kind"] == "push").await;
    assert!(seen.get("user_id").is_none() && seen.get("device_id").is_none());
    let body = json!({"type": "flash", "message": 1, "delivery": "live"});
    server.post("/api/messages/broadcast", &admin, body).await.ok();
    console.find(frame("flash", "out")).await;

    // The event in front of a close.
    server.post("/api/auth/logout", &ana.token, json!({})).await.ok();
    let seen = console.find(frame("disconnect", "out")).await;
    assert_eq!(seen["connection_id"], connection);
}

#[tokio::test]
async fn traffic_filters_select_by_user_device_type_and_direction() {
    let server = Server::with(roomy()).await;
    let (admin, ana, bob) = (server.admin().await, server.user("ana").await, server.user("bob").await);
    let mut consoles = Vec::new();
    for filter in [json!({"user_id": ana.id}), json!({"type": "notice"}), json!({"direction": "out", "user_id": bob.id})] {
        consoles.push(Tail::of(&server, &admin, "traffic", filter).await);
    }
    let mut client = server.connect(&bob.token).await;
    for (user, kind) in [(bob.id, "other"), (ana.id, "other"), (bob.id, "notice")] {
        let body = json!({"type": kind, "message": 1});
        server.post(&format!("/api/messages/user/{user}"), &admin, body).await.ok();
    }
    let of_ana = consoles[0].find(|_| true).await;
    assert_eq!((&of_ana["user_id"], &of_ana["type"]), (&json!(ana.id), &json!("other")));
    let notice = consoles[1].find(|_| true).await;
    assert_eq!((&notice["user_id"], &notice["type"]), (&json!(bob.id), &json!("notice")));
    let out = consoles[2].find(|item| item["type"] == "notice").await;
    assert_eq!((&out["direction"], &out["kind"]), (&json!("out"), &json!("frame")));
    client.json().await;
    // After it has ended, nothing comes.
    let ended = &mut consoles[1].console;
    ended.say(json!({"type": "unsubscribe", "topic": "traffic"})).await;
    while ended.json().await["type"] != "unsubscribed" {} // what came before
    let body = json!({"type": "notice", "message": 1});
    server.post(&format!("/api/messages/user/{}", ana.id), &admin, body).await.ok();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(ended.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[tokio::test]
async fn contents_are_shown_where_the_configuration_says_so() {
    let mut config = roomy();
    set(&mut config, "server.console_contents", true);
    let server = Server::with(config).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let mut console = Tail::of(&server, &admin, "traffic", json!({})).await;
    let id = push(&server, &ana.token, ana.id, json!({"n": [1, "é"]})).await;
    let seen = console.find(|item| item["id"] == id).await;
    assert_eq!((&seen["message"]["message"], &seen["message"]["type"]), (&json!({"n": [1, "é"]}), &json!("system")));
    let mut client = server.connect(&ana.token).await;
    client.json().await;
    client.send("no json").await;
    let seen = console.find(|item| item["direction"] == "in" && item["kind"] == "frame").await;
    assert_eq!(seen["message"], "no json");
}

#[tokio::test]
async fn console_that_reads_too_slowly_loses_items_and_is_told_their_number() {
    let mut config = roomy();
    set(&mut config, "server.console_contents", true);
    config.limits.write_seconds = 60;
    let server = Server::with(config).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let mut console = subscribed(&server, &admin, "traffic", json!({})).await;
    let body = json!({"message": "x".repeat(60_000), "delivery": "live"});
    for _ in 0..600 {
        server.post(&format!("/api/messages/user/{}", ana.id), &admin, body.clone()).await.ok();
    }
    let (mut seen, mut lost) = (0, 0);
    while seen + lost < 600 {
        let frame = console.json().await;
        match frame["type"].as_str().unwrap() {
            "traffic" => seen += frame["items"].as_array().unwrap().len() as u64,
            "lost" => {
                assert_eq!(frame["topic"], "traffic");
                lost += frame["count"].as_u64().unwrap();
            }
            other => panic!("{other}"),
        }
    }
    assert!(lost > 0 && seen > 16, "{seen} seen, {lost} lost");
    let mut other = open(&server, &admin).await;
    assert_eq!(other.ask(json!({"type": "ping"})).await["type"], "pong");
}
