//! The life of a message: statuses, deliveries, receipts that stay, and idempotent repeats.

use serde_json::{Value, json};

use super::clients::{broadcast, send_many};
use super::mailbox::{receipt, send};
use crate::support::raw::Raw;
use crate::support::reader::{nobody_connected, path};
use crate::support::{Reader, Server, eventually, roomy, set};

#[tokio::test]
async fn cleared_messages_keep_a_receipt_that_says_so() {
    let server = Server::with(roomy()).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let to_ana = format!("/api/messages/user/{}", ana.id);
    let mut ids = send_many(&server, &ana, 2).await;
    ids.push(server.post(&to_ana, &admin, json!({"message": 3})).await.ok()["data"]["id"].as_u64().unwrap());
    let before = receipt(&server, &ana.token, ids[0]).await;
    let cleared = server.delete(&format!("/api/queue/user/{}", ana.id), &ana.token).await.ok();
    assert_eq!(cleared["data"]["messages"], 3);
    let kept = send(&server, &ana, json!("kept")).await;
    server.delete("/api/queue", &admin).await.ok();
    ids.push(kept);
    let server = server.restart().await;
    for id in &ids {
        for token in [&ana.token, &admin] {
            assert_eq!(receipt(&server, token, *id).await["status"], "cleared", "{id}");
        }
    }
    let after = receipt(&server, &ana.token, ids[0]).await;
    assert_eq!((&after["queued_at"], &after["expires_at"]), (&before["queued_at"], &before["expires_at"]));
    assert_eq!((&after["deliveries"], &after["acked_at"]), (&json!(0), &Value::Null));
    assert_eq!(Reader::with(&server, &ana.token, "").await.pending(), 0);
    assert_eq!(server.get("/api/messages/history", Some(&ana.token)).await.ok()["data"], json!([]));
}

#[tokio::test]
async fn messages_of_deleted_devices_and_users_keep_a_receipt() {
    let server = Server::with(roomy()).await;
    let (admin, ana, bob) = (server.admin().await, server.user("ana").await, server.user("bob").await);
    let mut ids = Vec::new();
    for _ in 0..2 {
        let device = server.device(&ana.token, false).await;
        let sent = server.post(&format!("/api/messages/device/{device}"), &ana.token, json!({"message": 1})).await.ok();
        ids.push((device, sent["data"]["id"].as_u64().unwrap()));
    }
    let [(deleted, first), (handed_over, second)] = ids[..] else { panic!("two devices") };
    server.delete(&format!("/api/devices/{deleted}"), &ana.token).await.ok();
    let change = json!({"user_ids": [bob.id]}).to_string();
    server.http("PATCH", &format!("/api/devices/{handed_over}"), Some(&admin), Some(&change)).await.ok();
    let to_bob = server.post(&format!("/api/messages/user/{}", bob.id), &admin, json!({"message": 1})).await.ok();
    let to_bob = to_bob["data"]["id"].as_u64().unwrap();
    server.delete(&format!("/api/users/{}", bob.id), &admin).await.ok();
    let server = server.restart().await;
    for id in [first, second] {
        assert_eq!(receipt(&server, &ana.token, id).await["status"], "cleared", "its sender asks");
        assert_eq!(receipt(&server, &admin, id).await["status"], "cleared");
    }
    assert_eq!(receipt(&server, &admin, to_bob).await["status"], "cleared");
}

#[tokio::test]
async fn deliveries_count_the_connections_that_a_message_was_written_to() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let id = send(&server, &ana, json!(1)).await;
    let deliveries = async || receipt(&server, &ana.token, id).await["deliveries"].as_u64().unwrap();
    assert_eq!(deliveries().await, 0);
    for n in 1..=3 {
        let (mut mute, _) = Raw::open(server.address, &path(&ana.token, "client=phone")).await;
        mute.ids_to(id).await;
        eventually("it counts", async || deliveries().await == n).await;
        assert_eq!(receipt(&server, &ana.token, id).await["status"], "sent");
        drop(mute);
        nobody_connected(&server).await;
    }
    let (mut mute, _) = Raw::open(server.address, &path(&ana.token, "client=tablet")).await;
    mute.ids_to(id).await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    phone.takes(&server, &ana, "phone", &[id]).await;
    assert_eq!(deliveries().await, 5, "four without a proof, one with it");
    assert_eq!(receipt(&server, &ana.token, id).await["status"], "acked");
}

#[tokio::test]
async fn expires_at_is_queued_at_plus_ttl_at_every_look() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let to_ana = format!("/api/messages/user/{}", ana.id);
    // A lifetime of whole days: the time of the day is the same.
    let day = server.post(&to_ana, &ana.token, json!({"message": "day", "ttl": 86_400})).await.ok();
    let short = server.post(&to_ana, &ana.token, json!({"message": "short", "ttl": 1})).await.ok();
    let [day, short] = [day, short].map(|sent| sent["data"]["id"].as_u64().unwrap());
    let times = async |server: &Server, id: u64| {
        let receipt = receipt(server, &ana.token, id).await;
        [&receipt["queued_at"], &receipt["expires_at"]].map(|time| time.as_str().unwrap().to_owned())
    };
    let (of_day, of_short) = (times(&server, day).await, times(&server, short).await);
    let [queued, expires] = of_day.each_ref().map(|time| time.split_once('T').unwrap());
    assert!(queued.1 == expires.1 && queued.0 < expires.0, "{of_day:?}");
    eventually("the short one expires", async || receipt(&server, &ana.token, short).await["status"] == "expired").await;
    assert_eq!(times(&server, short).await, of_short, "expired");
    let server = server.restart().await;
    assert_eq!(times(&server, day).await, of_day, "after a restart");
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    phone.receives(&[day]).await;
    assert_eq!(times(&server, day).await, of_day, "sent");
    phone.settles(&server, &ana, "phone").await;
    assert_eq!(receipt(&server, &ana.token, day).await["status"], "acked");
    assert_eq!(times(&server, day).await, of_day, "acked");
    let server = server.restart().await;
    assert_eq!((times(&server, day).await, times(&server, short).await), (of_day, of_short), "both, after another restart");
    assert_eq!(receipt(&server, &ana.token, short).await["status"], "expired", "nothing vanishes");
}

#[tokio::test]
async fn receipts_outlast_the_retained_messages_of_a_mailbox() {
    let mut config = roomy();
    config.history.messages = 3;
    let server = Server::with(config).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let mut ids = send_many(&server, &ana, 10).await;
    ids.push(broadcast(&server, json!(1)).await);
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    phone.takes(&server, &ana, "phone", &ids).await;
    drop(phone);
    let all = async |server: &Server| {
        let mut receipts = Vec::new();
        for id in &ids {
            receipts.push(receipt(server, &admin, *id).await);
        }
        receipts
    };
    let before = all(&server).await;
    assert!(before[..10].iter().all(|receipt| receipt["status"] == "acked" && receipt["acked_at"].is_string()), "{before:?}");
    let mut server = server.restart().await;
    for _ in 0..2 {
        let after = all(&server).await;
        for (before, after) in before.iter().zip(&after) {
            for field in ["id", "to", "user_id", "sender_id", "status", "queued_at", "expires_at", "acked_at", "received"] {
                assert_eq!(before[field], after[field], "{field} of {after}");
            }
        }
        server = server.restart_with(|config| config.history.messages = 0).await;
    }
}

#[tokio::test]
async fn oldest_receipts_go_first_beyond_their_limit() {
    let mut config = roomy();
    config.history.messages = 0;
    set(&mut config, "history.receipts", 4);
    let server = Server::with(config).await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let waits = send(&server, &bob, json!("waits")).await;
    let ids = send_many(&server, &ana, 8).await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    phone.takes(&server, &ana, "phone", &ids).await;
    let status = async |id: u64| server.get(&format!("/api/messages/{id}"), Some(&ana.token)).await.status.as_u16();
    eventually("the oldest have gone", async || status(ids[0]).await == 404 && status(ids[3]).await == 404).await;
    for id in &ids[4..] {
        assert_eq!(receipt(&server, &ana.token, *id).await["status"], "acked");
    }
    assert_eq!(receipt(&server, &bob.token, waits).await["status"], "queued", "a message that waits keeps its receipt");
}

#[tokio::test]
async fn idempotent_repeat_is_answered_word_for_word() {
    let server = Server::with(roomy()).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let device = server.device(&ana.token, false).await;
    let sends = [
        ("/api/messages".to_owned(), json!({"type": "note", "message": {"b": 1.50, "a": [1]}, "user_id": ana.id})),
        (format!("/api/messages/user/{}", ana.id), json!({"message": "你好", "ttl": 3600})),
        (format!("/api/messages/device/{device}"), json!({"message": [1, 2]})),
        ("/api/messages/broadcast".to_owned(), json!({"message": "all"})),
    ];
    let phone = Reader::open(&server, &ana.token, "phone").await;
    let mut first = Vec::new();
    for (n, (path, body)) in sends.iter().enumerate() {
        let answer = server.post_with_key(path, &admin, &format!("key {n}"), body.clone()).await;
        assert!(!answer.headers.contains_key("idempotency-replayed"), "{path}: it is the first");
        assert_eq!(answer.status, 200, "{}", answer.text);
        first.push(answer);
    }
    assert_eq!(first[1].json["data"]["recipients"], 1);
    let again = async |server: &Server| {
        for (n, (path, body)) in sends.iter().enumerate() {
            let answer = server.post_with_key(path, &admin, &format!("key {n}"), body.clone()).await;
            assert_eq!((answer.status, &answer.text), (first[n].status, &first[n].text), "{path}");
            assert_eq!(answer.headers["idempotency-replayed"], "true", "{path}");
            assert_eq!(answer.headers["content-type"], first[n].headers["content-type"], "{path}");
        }
    };
    again(&server).await;
    drop(phone);
    nobody_connected(&server).await;
    again(&server).await; // nobody is connected any more: still `"recipients":1`
    server.delete(&format!("/api/messages/{}", first[1].json["data"]["id"]), &admin).await.ok();
    let server = server.restart().await;
    again(&server).await;
    // A refused send is not the first answer of its key.
    let wrong = server.post_with_key("/api/messages/user/999", &admin, "new", json!({"message": 1})).await;
    assert_eq!(wrong.status, 404, "{}", wrong.text);
    let other = server.post_with_key("/api/messages/broadcast", &admin, "key 3", json!({"message": "other"})).await;
    assert!(!other.headers.contains_key("idempotency-replayed"));
    assert_eq!(other.expect(409)["code"], "idempotency_key_reused");
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let ids = [0, 3].map(|n| first[n].json["data"]["id"].as_u64().unwrap());
    phone.takes(&server, &ana, "phone", &ids).await;
}

#[tokio::test]
async fn concurrent_sends_with_one_key_are_one_message_and_one_answer() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let to_ana = format!("/api/messages/user/{}", ana.id);
    let sends = (0..12).map(|_| server.post_with_key(&to_ana, &ana.token, "one", json!({"message": 1})));
    let answers = futures_util::future::join_all(sends).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.text == answers[0].text), "{answers:?}");
    let replayed = answers.iter().filter(|answer| answer.headers.contains_key("idempotency-replayed")).count();
    assert_eq!(replayed, 11, "one of them was the first");
    assert_eq!(Reader::with(&server, &ana.token, "").await.pending(), 1);
}
