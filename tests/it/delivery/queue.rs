//! Mailbox limits, expiry, idempotency keys, and queues that are listed and cleared.

use serde_json::json;

use super::mailbox::{receipt, send};
use crate::support::{Server, eventually, roomy};

#[tokio::test]
async fn full_mailbox_and_low_disk_are_refused_with_507() {
    let mut config = roomy();
    config.mailbox.messages = 3;
    let server = Server::with(config).await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    for n in 0..3 {
        send(&server, &ana, json!(n)).await;
    }
    let path = format!("/api/messages/user/{}", ana.id);
    let refused = server.post(&path, &ana.token, json!({"message": 4})).await;
    assert_eq!(refused.expect(507)["code"], "mailbox_full");
    send(&server, &bob, json!(1)).await;
    let mut client = server.connect(&ana.token).await;
    for n in 0..3 {
        assert_eq!(client.json().await["message"], n);
    }
    client.fence().await;
    eventually("there is room again", async || server.post(&path, &ana.token, json!({"message": 5})).await.status == 200).await;

    let mut config = roomy();
    config.storage.min_free_bytes = u64::MAX;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let refused = server.post(&format!("/api/messages/user/{}", ana.id), &ana.token, json!({"message": 1})).await;
    assert_eq!(refused.expect(507)["code"], "disk_low");
    assert_eq!(server.get("/readyz", None).await.expect(503)["code"], "not_ready");
    server.get("/healthz", None).await.ok();
    let live = json!({"message": 1, "delivery": "live"});
    server.post(&format!("/api/messages/user/{}", ana.id), &ana.token, live).await.ok();
}

#[tokio::test]
async fn message_past_ttl_expires() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let path = format!("/api/messages/user/{}", ana.id);
    let short = server.post(&path, &ana.token, json!({"message": "short", "ttl": 1})).await.ok();
    let id = short["data"]["id"].as_u64().unwrap();
    let long = send(&server, &ana, json!("long")).await;
    eventually("it expires", async || receipt(&server, &ana.token, id).await["status"] == "expired").await;
    let mut client = server.ws(&format!("/ws/device/?token={}", ana.token)).await;
    assert_eq!(client.json().await["pending"], 1);
    assert_eq!(client.json().await["id"], long);
    client.fence().await;
    assert_eq!(receipt(&server, &ana.token, id).await["status"], "expired");
    for ttl in [json!(0), json!(-1), json!("5"), json!(1.5), json!(u64::MAX)] {
        server.post(&path, &ana.token, json!({"message": "m", "ttl": ttl})).await.expect(400);
    }
}

#[tokio::test]
async fn repeated_idempotency_key_sends_once() {
    let server = Server::with(roomy()).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let path = format!("/api/messages/user/{}", ana.id);
    let post = async |token: &str, key: &str, body: &str| {
        let token = format!("Token {token}");
        let headers = [("authorization", token.as_str()), ("content-type", "application/json"), ("idempotency-key", key)];
        server.raw_http("POST", &path, &headers, body.as_bytes()).await
    };
    let first = post(&ana.token, "k1", r#"{"message":1}"#).await.ok()["data"]["id"].clone();
    assert_eq!(post(&ana.token, "k1", r#"{"message":1}"#).await.ok()["data"]["id"], first);
    assert_eq!(post(&ana.token, "k1", r#"{"message":2}"#).await.expect(409)["code"], "idempotency_key_reused");
    assert_ne!(post(&ana.token, "k2", r#"{"message":1}"#).await.ok()["data"]["id"], first);
    assert_ne!(post(&admin, "k1", r#"{"message":1}"#).await.ok()["data"]["id"], first, "another sender's key is another key");
    for key in [&*"k".repeat(129), "ключ", "k\t1"] {
        let refused = post(&ana.token, key, r#"{"message":1}"#).await.expect(400);
        assert!(
            refused["message"].as_str().unwrap().starts_with("Idempotency-Key must have 1 to 128 printable ASCII"),
            "{refused}"
        );
    }
    let server = server.restart().await;
    let headers =
        [("authorization", &*format!("Token {}", ana.token)), ("content-type", "application/json"), ("idempotency-key", "k1")];
    let again = server.raw_http("POST", &path, &headers, br#"{"message":1}"#).await.ok();
    assert_eq!(again["data"]["id"], first);
    assert_eq!(server.get(&format!("/api/queue/user/{}", ana.id), Some(&ana.token)).await.ok()["data"]["messages"], 3);
}

#[tokio::test]
async fn queue_is_listed_and_cleared_only_by_owner_and_admin() {
    let server = Server::with(roomy()).await;
    let (admin, ana, bob) = (server.admin().await, server.user("ana").await, server.user("bob").await);
    let device = server.device(&ana.token, false).await;
    let id = send(&server, &ana, json!(1)).await;
    server.post(&format!("/api/messages/device/{device}"), &ana.token, json!({"message": 1})).await.ok();
    let total = server.get("/api/queue", Some(&admin)).await.ok();
    assert_eq!((&total["data"]["mailboxes"], &total["data"]["messages"]), (&json!(2), &json!(2)));
    for path in [format!("/api/queue/user/{}", ana.id), format!("/api/queue/device/{device}"), format!("/api/messages/{id}")] {
        server.get(&path, Some(&bob.token)).await.expect(404);
    }
    for path in [format!("/api/queue/user/{}", ana.id), format!("/api/queue/device/{device}")] {
        server.http("DELETE", &path, Some(&bob.token), None).await.expect(404);
        assert_eq!(server.http("DELETE", &path, Some(&ana.token), None).await.ok()["data"]["messages"], 1);
        assert_eq!(server.get(&path, Some(&ana.token)).await.ok()["data"]["messages"], 0);
    }
    assert_eq!(receipt(&server, &ana.token, id).await["status"], "cleared");
    send(&server, &ana, json!(2)).await;
    assert_eq!(server.http("DELETE", "/api/queue", Some(&admin), None).await.ok()["data"]["messages"], 1);
    // A deleted user's mailbox is deleted, too.
    send(&server, &ana, json!(3)).await;
    server.http("DELETE", &format!("/api/users/{}", ana.id), Some(&admin), None).await.ok();
    assert_eq!(server.get("/api/queue", Some(&admin)).await.ok()["data"]["messages"], 0);
}

#[tokio::test]
async fn large_messages_arrive_whole_and_leave_no_blobs() {
    let mut config = roomy();
    config.limits.write_seconds = 10;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let sizes = [10_000, 12_300, 60_000, 262_000];
    for (n, size) in sizes.into_iter().enumerate() {
        send(&server, &ana, json!(n.to_string().repeat(size))).await;
    }
    let server = server.restart().await;
    let mut client = server.connect(&ana.token).await;
    for (n, size) in sizes.into_iter().enumerate() {
        assert_eq!(client.json().await["message"].as_str().unwrap(), n.to_string().repeat(size));
    }
    client.fence().await;
    let (data, _) = server.stop().await;
    let blobs = data.path().join("data/store/blobs");
    assert!(!blobs.exists() || std::fs::read_dir(blobs).unwrap().next().is_none());
}
