//! `DELETE /api/messages/{id}`: taking back what nobody has received.

use serde_json::json;

use super::clients::{broadcast, send_many};
use super::mailbox::{receipt, send};
use crate::support::raw::{FIN, PONG, Raw, frame, text};
use crate::support::reader::{nobody_connected, path};
use crate::support::{Reader, Server, User, eventually, roomy};

/// Sends a message from one user to another and returns its id.
async fn post(server: &Server, from: &str, to: &User) -> u64 {
    let sent = server.post(&format!("/api/messages/user/{}", to.id), from, json!({"message": "oops"})).await.ok();
    sent["data"]["id"].as_u64().unwrap()
}

#[tokio::test]
async fn sender_recipient_and_administrator_take_a_message_back() {
    let mut config = roomy();
    config.messages.cross_user = true;
    let server = Server::with(config).await;
    let (admin, ana, bob, eve) =
        (server.admin().await, server.user("ana").await, server.user("bob").await, server.user("eve").await);
    let mut ids = Vec::new();
    for token in [&ana.token, &bob.token, &admin] {
        let id = post(&server, &ana.token, &bob).await;
        let message = format!("/api/messages/{id}");
        assert_eq!(server.delete(&message, &eve.token).await.expect(404)["code"], "not_found");
        server.http("DELETE", &message, None, None).await.expect(401);
        assert_eq!(receipt(&server, &bob.token, id).await["status"], "queued");
        server.delete(&message, token).await.ok();
        for token in [&ana.token, &bob.token, &admin] {
            assert_eq!(receipt(&server, token, id).await["status"], "cancelled");
        }
        ids.push(id);
    }
    for path in ["/api/messages/999999", "/api/messages/x", "/api/messages/0"] {
        server.delete(path, &admin).await.expect(404);
    }
    assert_eq!(server.get(&format!("/api/queue/user/{}", bob.id), Some(&bob.token)).await.ok()["data"]["messages"], 0);
    let kept = post(&server, &ana.token, &bob).await;
    let server = server.restart().await;
    for id in ids {
        let receipt = receipt(&server, &ana.token, id).await;
        assert_eq!((&receipt["status"], &receipt["deliveries"]), (&json!("cancelled"), &json!(0)), "{receipt}");
    }
    let mut phone = Reader::open(&server, &bob.token, "phone").await;
    assert_eq!((phone.pending(), phone.missed()), (1, 0));
    phone.takes(&server, &bob, "phone", &[kept]).await;
    let history = server.get("/api/messages/history", Some(&bob.token)).await.ok();
    assert_eq!(history["data"].as_array().unwrap().len(), 1, "{history}");
}

#[tokio::test]
async fn message_that_some_reader_has_received_is_not_taken_back() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    Reader::open(&server, &ana.token, "tablet").await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let id = send(&server, &ana, json!(1)).await;
    phone.takes(&server, &ana, "phone", &[id]).await;
    let refused = server.delete(&format!("/api/messages/{id}"), &ana.token).await;
    assert_eq!(refused.expect(409)["code"], "already_received");
    assert_eq!(receipt(&server, &ana.token, id).await["status"], "acked");
    let mut tablet = Reader::open(&server, &ana.token, "tablet").await;
    tablet.takes(&server, &ana, "tablet", &[id]).await;
}

#[tokio::test]
async fn message_that_was_written_is_taken_back_and_its_late_proof_is_no_error() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let ids = send_many(&server, &ana, 3).await;
    let (mut mute, _) = Raw::open(server.address, &path(&ana.token, "client=phone")).await;
    mute.ids_to(ids[2]).await;
    for id in &ids[1..] {
        eventually("it is written", async || receipt(&server, &ana.token, *id).await["status"] == "sent").await;
        server.delete(&format!("/api/messages/{id}"), &ana.token).await.ok();
    }
    let (first, payload) = loop {
        match mute.next().await.unwrap() {
            (0x89, payload) => break (FIN | PONG, payload),
            _ => continue,
        }
    };
    mute.send(&frame(first, &payload)).await;
    mute.send(&text(r#"{"type":"ping"}"#)).await;
    assert_eq!(mute.event().await["type"], "pong", "the connection goes on");
    eventually("the first is proved", async || receipt(&server, &ana.token, ids[0]).await["status"] == "acked").await;
    for id in &ids[1..] {
        let receipt = receipt(&server, &ana.token, *id).await;
        assert_eq!((&receipt["status"], &receipt["deliveries"]), (&json!("cancelled"), &json!(1)), "{receipt}");
    }
    drop(mute);
    nobody_connected(&server).await;
    let phone = Reader::open(&server, &ana.token, "phone").await;
    assert_eq!((phone.pending(), phone.missed()), (0, 0));
}

#[tokio::test]
async fn cancelled_message_gives_its_place_in_the_mailbox_back() {
    let mut config = roomy();
    config.mailbox.messages = 1;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    for n in 0..3 {
        let id = send(&server, &ana, json!(n)).await; // 507 if the former one still counted
        server.delete(&format!("/api/messages/{id}"), &ana.token).await.ok();
    }
}

#[tokio::test]
async fn cancelled_messages_are_skipped_for_readers_that_are_behind() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    for name in ["phone", "tablet"] {
        Reader::open(&server, &ana.token, name).await;
    }
    let ids = send_many(&server, &ana, 5).await;
    for n in [1, 3] {
        server.delete(&format!("/api/messages/{}", ids[n]), &ana.token).await.ok();
    }
    for name in ["phone", "tablet"] {
        let mut reader = Reader::open(&server, &ana.token, name).await;
        assert_eq!((reader.pending(), reader.missed()), (3, 0), "{name}");
        reader.takes(&server, &ana, name, &[ids[0], ids[2], ids[4]]).await;
    }
    assert_eq!(receipt(&server, &ana.token, ids[3]).await["status"], "cancelled");
}

#[tokio::test]
async fn message_to_a_device_is_taken_back_by_its_user() {
    let server = Server::with(roomy()).await;
    let (ana, eve) = (server.user("ana").await, server.user("eve").await);
    let device = server.device(&ana.token, false).await;
    let token = server.device_token(&ana.token, device).await;
    let sent = server.post(&format!("/api/messages/device/{device}"), &server.admin().await, json!({"message": 1})).await.ok();
    let id = sent["data"]["id"].as_u64().unwrap();
    server.delete(&format!("/api/messages/{id}"), &eve.token).await.expect(404);
    server.delete(&format!("/api/messages/{id}"), &ana.token).await.ok();
    assert_eq!(Reader::with(&server, &token, "").await.pending(), 0);
    assert_eq!(receipt(&server, &ana.token, id).await["status"], "cancelled");
}

#[tokio::test]
async fn broadcast_is_taken_back_by_administrators_and_its_sender_only() {
    let server = Server::with(roomy()).await;
    let (admin, ana, bob) = (server.admin().await, server.user("ana").await, server.user("bob").await);
    let id = broadcast(&server, json!("oops")).await;
    let message = format!("/api/messages/{id}");
    assert_eq!(server.delete(&message, &ana.token).await.expect(403)["code"], "forbidden");
    server.delete(&message, &admin).await.ok();
    assert_eq!(receipt(&server, &admin, id).await["status"], "cancelled");

    // The sender keeps the right, also when it is no administrator any more.
    let boss = server.account("boss", "admin").await;
    let sent = server.post("/api/messages/broadcast", &boss.token, json!({"message": 1})).await.ok();
    let mine = format!("/api/messages/{}", sent["data"]["id"]);
    let change = json!({"role": "user"}).to_string();
    server.http("PATCH", &format!("/api/users/{}", boss.id), Some(&admin), Some(&change)).await.ok();
    server.delete(&mine, &ana.token).await.expect(403);
    server.delete(&mine, &boss.token).await.ok();
    for user in [&ana, &bob] {
        assert_eq!(Reader::open(&server, &user.token, "phone").await.pending(), 0);
    }

    let id = broadcast(&server, json!("received")).await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    phone.takes(&server, &ana, "phone", &[id]).await;
    let refused = server.delete(&format!("/api/messages/{id}"), &admin).await;
    assert_eq!(refused.expect(409)["code"], "already_received", "one user has it");
    assert_eq!(Reader::open(&server, &bob.token, "phone").await.pending(), 1);
}
