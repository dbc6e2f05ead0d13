//! Queues that are listed and looked into: nothing is acknowledged, and contents are shown to those that they are for.

use serde_json::{Value, json};

use super::mailbox::{receipt, send};
use crate::support::{Server, User, eventually, roomy, unlimited};

/// Reads a page of a list: its items, and its `next`.
async fn page(server: &Server, path: &str, token: &str) -> (Vec<Value>, Value) {
    let answer = server.get(path, Some(token)).await.ok();
    (answer["data"].as_array().unwrap().clone(), answer["next"].clone())
}

fn ids(items: &[Value]) -> Vec<u64> {
    items.iter().map(|item| item["id"].as_u64().unwrap()).collect()
}

fn of(user: &User) -> String {
    format!("/api/queue/user/{}/messages", user.id)
}

#[tokio::test]
async fn queues_are_listed_with_names_and_readers() {
    let server = Server::with(roomy()).await;
    let (admin, ana, bob) = (server.admin().await, server.user("ana").await, server.user("bob").await);
    assert_eq!(page(&server, "/api/queues", &admin).await, (vec![], Value::Null));
    server.connect(&ana.token).await.fence().await; // the reader `default`
    let device = server.device(&bob.token, false).await;
    for n in 0..3 {
        send(&server, &ana, json!(n)).await;
    }
    send(&server, &bob, json!(1)).await;
    server.post(&format!("/api/messages/device/{device}"), &bob.token, json!({"message": 1})).await.ok();
    let (queues, next) = page(&server, "/api/queues", &admin).await;
    assert_eq!(next, Value::Null);
    let shown = |queue: &Value| ["recipient", "to", "id", "name", "messages", "readers"].map(|field| queue[field].clone());
    assert_eq!(
        queues.iter().map(shown).collect::<Vec<_>>(),
        [
            [json!(format!("user:{}", ana.id)), json!("user"), json!(ana.id), json!("ana"), json!(3), json!(1)],
            [json!(format!("user:{}", bob.id)), json!("user"), json!(bob.id), json!("bob"), json!(1), json!(0)],
            [json!(format!("device:{device}")), json!("device"), json!(device), json!("lamp"), json!(1), json!(1)],
        ]
    );
    assert!(queues.iter().all(|queue| queue["oldest"].is_string() && queue["bytes"].as_u64().unwrap() > 40), "{queues:?}");
    // Page by page.
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let (items, next) = page(&server, &format!("/api/queues?limit=1{after}"), &admin).await;
        found.extend(items);
        let Some(next) = next.as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(found, queues);
    // A broadcast is in the mailbox of all, and in everybody's share.
    server.post("/api/messages/broadcast", &admin, json!({"message": "all"})).await.ok();
    let (queues, _) = page(&server, "/api/queues", &admin).await;
    let all = queues.last().unwrap();
    assert_eq!(
        (&all["recipient"], &all["id"], &all["name"], &all["messages"]),
        (&json!("all"), &Value::Null, &Value::Null, &json!(1))
    );
    for after in ["x", "user:", "user:x", "7"] {
        let refused = server.get(&format!("/api/queues?after={after}"), Some(&admin)).await;
        assert!(refused.expect(400)["message"].as_str().unwrap().starts_with("after must be a mailbox"));
    }
}

#[tokio::test]
async fn looking_into_a_queue_shows_what_waits_and_changes_nothing() {
    let server = Server::with(roomy()).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let path = format!("/api/messages/user/{}", ana.id);
    let first = server.post(&path, &ana.token, json!({"type": "note", "message": {"n": 1.50}, "ttl": 60})).await.ok();
    let broadcast = server.post("/api/messages/broadcast", &admin, json!({"message": "all"})).await.ok();
    let last = send(&server, &ana, json!("z".repeat(50_000))).await; // not in the block of the others
    let expected = [first["data"]["id"].as_u64().unwrap(), broadcast["data"]["id"].as_u64().unwrap(), last];
    let size = server.get(&format!("/api/queue/user/{}", ana.id), Some(&ana.token)).await.ok()["data"].clone();
    for _ in 0..2 {
        let (items, next) = page(&server, &of(&ana), &ana.token).await;
        assert_eq!((ids(&items), next), (expected.to_vec(), Value::Null));
        assert_eq!(items.iter().map(|item| item["bytes"].as_u64().unwrap()).sum::<u64>(), size["bytes"].as_u64().unwrap());
        let item = &items[0];
        assert_eq!((&item["type"], &item["sender_id"], &item["status"]), (&json!("note"), &json!(ana.id), &json!("queued")));
        assert_eq!(item["queued_at"], size["oldest"]);
        let receipt = receipt(&server, &ana.token, expected[0]).await;
        assert_eq!((&item["queued_at"], &item["expires_at"]), (&receipt["queued_at"], &receipt["expires_at"]));
        let message = &item["message"];
        assert_eq!((&message["type"], &message["message"], &message["id"]), (&json!("note"), &json!({"n": 1.50}), &item["id"]));
        assert_eq!(items[2]["message"]["message"].as_str().unwrap().len(), 50_000);
    }
    let (items, next) = page(&server, &format!("{}?limit=2", of(&ana)), &ana.token).await;
    assert_eq!((ids(&items), &next), (expected[..2].to_vec(), &json!(expected[1])));
    let (items, next) = page(&server, &format!("{}?limit=2&after={next}", of(&ana)), &ana.token).await;
    assert_eq!((ids(&items), next), (expected[2..].to_vec(), Value::Null));
    // Nothing was marked: it is delivered as ever.
    assert_eq!(receipt(&server, &ana.token, last).await["deliveries"], 0);
    let mut client = server.ws(&format!("/ws/device/?token={}", ana.token)).await;
    assert_eq!(client.json().await["pending"], 3);
    for id in expected {
        assert_eq!(client.json().await["id"], id);
    }
    client.fence().await;
    eventually("all are acknowledged", async || page(&server, &of(&ana), &ana.token).await.0.is_empty()).await;
}

#[tokio::test]
async fn message_that_was_written_to_a_connection_and_not_proved_is_sent() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, false).await;
    let token = server.device_token(&ana.token, device).await;
    server.post(&format!("/api/messages/device/{device}"), &ana.token, json!({"message": 1})).await.ok();
    let path = format!("/api/queue/device/{device}/messages");
    assert_eq!(page(&server, &path, &ana.token).await.0[0]["status"], "queued");
    let mut client = server.ws(&format!("/ws/device/?token={token}")).await;
    client.json().await;
    assert_eq!(client.json().await["message"], 1); // its ping is not answered
    eventually("it is sent", async || page(&server, &path, &ana.token).await.0[0]["status"] == "sent").await;
    drop(client);
}

#[tokio::test]
async fn contents_of_others_are_shown_to_administrators_only_where_the_configuration_says_so() {
    let server = Server::with(roomy()).await;
    let (admin, ana, bob) = (server.admin().await, server.user("ana").await, server.user("bob").await);
    let device = server.device(&ana.token, false).await;
    send(&server, &ana, json!("secret words")).await;
    server.post(&format!("/api/messages/device/{device}"), &ana.token, json!({"message": "secret words"})).await.ok();
    let paths = [of(&ana), format!("/api/queue/device/{device}/messages")];
    for path in &paths {
        server.get(path, Some(&bob.token)).await.expect(404);
        let (items, _) = page(&server, path, &ana.token).await;
        assert_eq!(items[0]["message"]["message"], "secret words");
        let answer = server.get(path, Some(&admin)).await;
        assert!(!answer.text.contains("secret words") && answer.text.contains(r#""type":"system""#), "{}", answer.text);
        assert!(answer.ok()["data"][0].get("message").is_none());
    }
    let server = server.restart_with(|config| config.server.console_contents = true).await;
    for path in &paths {
        server.get(path, Some(&bob.token)).await.expect(404);
        assert_eq!(page(&server, path, &admin).await.0[0]["message"]["message"], "secret words");
    }
}

#[tokio::test]
async fn page_of_long_messages_is_bounded_and_leads_to_the_rest() {
    let mut config = unlimited();
    config.limits.push_bytes = 600_000;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let mut sent = Vec::new();
    for n in 0..5 {
        sent.push(send(&server, &ana, json!(format!("{n}{}", "x".repeat(400_000)))).await);
    }
    let (mut found, mut after, mut pages) = (Vec::new(), 0, 0);
    loop {
        let (items, next) = page(&server, &format!("{}?after={after}", of(&ana)), &ana.token).await;
        assert!(!items.is_empty() && items.len() <= 2);
        found.extend(ids(&items));
        pages += 1;
        let Some(next) = next.as_u64() else { break };
        after = next;
    }
    assert_eq!((found, pages), (sent, 3));
}
