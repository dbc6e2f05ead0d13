//! Readers that lag: they never stop a sender, they are told what gave way for them, and what is kept comes in order.

use serde_json::{Value, json};

use super::clients::{broadcast, send_many};
use super::mailbox::{receipt, send};
use crate::support::api::Config;
use crate::support::raw::{FIN, PONG, Raw, frame};
use crate::support::reader::{missed, path, waiting};
use crate::support::{Reader, Server, User, eventually, roomy};

/// A configuration with five messages in a mailbox and `history` retained ones.
fn small(history: usize) -> Config {
    let mut config = roomy();
    config.mailbox.messages = 5;
    config.history.messages = history;
    config
}

/// Sends `count` messages, four at a time, each four received by the reader `phone` before the next.
async fn pass(server: &Server, ana: &User, count: usize) -> Vec<u64> {
    let mut phone = Reader::open(server, &ana.token, "phone").await;
    let mut all = Vec::new();
    while all.len() < count {
        let ids = send_many(server, ana, 4.min(count - all.len())).await;
        phone.takes(server, ana, "phone", &ids).await;
        all.extend(ids);
    }
    all
}

/// Expects a send to be refused since the mailbox is full.
async fn full(server: &Server, path: &str, token: &str) {
    assert_eq!(server.post(path, token, json!({"message": "more"})).await.expect(507)["code"], "mailbox_full");
}

#[tokio::test]
async fn only_messages_that_no_reader_has_received_fill_the_mailbox() {
    let server = Server::with(small(0)).await;
    let ana = server.user("ana").await;
    let to_ana = format!("/api/messages/user/{}", ana.id);
    for name in ["phone", "tablet"] {
        Reader::open(&server, &ana.token, name).await;
    }
    let ids = send_many(&server, &ana, 5).await;
    full(&server, &to_ana, &ana.token).await;
    // Written is not received.
    let (mut mute, _) = Raw::open(server.address, &path(&ana.token, "client=phone")).await;
    mute.ids_to(ids[0]).await;
    full(&server, &to_ana, &ana.token).await;
    drop(mute);
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    phone.takes(&server, &ana, "phone", &ids).await;
    let queue = format!("/api/queue/user/{}", ana.id);
    assert_eq!(server.get(&queue, Some(&ana.token)).await.ok()["data"]["messages"], 0, "nothing counts that some reader has");
    drop(phone);
    send_many(&server, &ana, 5).await;
    full(&server, &to_ana, &ana.token).await;
    assert_eq!(Reader::open(&server, &ana.token, "tablet").await.pending(), 10, "five that wait for all, five that are kept");
}

#[tokio::test]
async fn oldest_messages_give_way_and_the_reader_is_told_until_it_proves_something() {
    let server = Server::with(small(0)).await;
    let ana = server.user("ana").await;
    Reader::open(&server, &ana.token, "tablet").await;
    let ids = pass(&server, &ana, 12).await;
    let told = |hello: &Value| {
        assert_eq!((missed(hello), &hello["recovered"], &hello["pending"]), (7, &json!(false), &json!(5)), "{hello}");
    };
    let tablet = path(&ana.token, "client=tablet");
    for query in ["client=tablet", "client=tablet&ack=client", &format!("client=tablet&since={}", ids[0])] {
        let (mut mute, hello) = Raw::open(server.address, &path(&ana.token, query)).await;
        told(&hello);
        mute.ids_to(ids[7]).await;
    }
    let server = server.restart().await;
    told(&Raw::open(server.address, &tablet).await.1);
    let mut reader = Reader::open(&server, &ana.token, "tablet").await;
    told(&reader.hello);
    reader.takes(&server, &ana, "tablet", &ids[7..]).await;
    drop(reader);
    let reader = Reader::open(&server, &ana.token, "tablet").await;
    assert_eq!((reader.missed(), reader.pending()), (0, 0), "it is told no more");
    assert_ne!(reader.hello["recovered"], false);
    assert_eq!(Reader::open(&server, &ana.token, "phone").await.missed(), 0, "the phone has missed nothing");
    assert_eq!(receipt(&server, &ana.token, ids[0]).await["status"], "acked", "nothing vanishes");
}

#[tokio::test]
async fn bound_in_bytes_holds_for_what_is_kept_for_lagging_readers() {
    let mut config = roomy();
    config.mailbox.bytes = 10_000;
    config.history.messages = 0;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    Reader::open(&server, &ana.token, "tablet").await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let mut ids = Vec::new();
    for _ in 0..15 {
        ids.push(send(&server, &ana, json!("x".repeat(2000))).await);
        phone.takes(&server, &ana, "phone", &ids[ids.len() - 1..]).await;
    }
    let mut tablet = Reader::open(&server, &ana.token, "tablet").await;
    let kept = tablet.pending() as usize;
    assert!((1..=5).contains(&kept) && tablet.missed() as usize == 15 - kept, "{}", tablet.hello);
    tablet.takes(&server, &ana, "tablet", &ids[15 - kept..]).await;
}

#[tokio::test]
async fn one_proof_of_a_reader_ends_the_report_of_what_it_missed() {
    let server = Server::with(small(0)).await;
    let ana = server.user("ana").await;
    Reader::open(&server, &ana.token, "tablet").await;
    let ids = pass(&server, &ana, 9).await;
    let mut tablet = Reader::with(&server, &ana.token, "client=tablet&ack=client").await;
    assert_eq!(tablet.missed(), 4);
    tablet.receives(&ids[4..]).await;
    tablet.client.say(json!({"type": "ack", "message": {"id": ids[4]}})).await;
    eventually("one is proved", async || {
        tablet.client.fence().await;
        waiting(&server, &ana, "tablet").await == 4
    })
    .await;
    drop(tablet);
    let mut tablet = Reader::open(&server, &ana.token, "tablet").await;
    assert_eq!((tablet.missed(), tablet.pending()), (0, 4));
    tablet.receives(&ids[5..]).await;
}

#[tokio::test]
async fn retained_history_is_replayed_first_and_is_not_missed() {
    let server = Server::with(small(100)).await;
    let ana = server.user("ana").await;
    Reader::open(&server, &ana.token, "tablet").await;
    let ids = pass(&server, &ana, 12).await;
    let mut tablet = Reader::open(&server, &ana.token, "tablet").await;
    assert_eq!(tablet.missed(), 0, "history holds all of it");
    assert_ne!(tablet.hello["recovered"], false);
    tablet.takes(&server, &ana, "tablet", &ids).await;
    drop(tablet);

    // Where history holds some of it, the sum is right: what was missed, and then the rest in order.
    let server = server.restart_with(|config| config.history.messages = 8).await;
    let ids = pass(&server, &ana, 20).await;
    let mut tablet = Reader::open(&server, &ana.token, "tablet").await;
    let gone = tablet.missed() as usize;
    assert!((1..=12).contains(&gone), "{gone} of 20 missed, at least 8 are there");
    assert_eq!(tablet.hello["recovered"], false);
    tablet.takes(&server, &ana, "tablet", &ids[gone..]).await;
}

#[tokio::test]
async fn messages_that_expired_or_were_cleared_are_not_missed() {
    let server = Server::with(small(0)).await;
    let ana = server.user("ana").await;
    Reader::open(&server, &ana.token, "tablet").await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let to_ana = format!("/api/messages/user/{}", ana.id);
    let short = server.post(&to_ana, &ana.token, json!({"message": 1, "ttl": 1})).await.ok();
    let short = short["data"]["id"].as_u64().unwrap();
    phone.takes(&server, &ana, "phone", &[short]).await;
    drop(phone);
    send(&server, &ana, json!("cleared")).await;
    server.delete(&format!("/api/queue/user/{}", ana.id), &ana.token).await.ok();
    let cancelled = send(&server, &ana, json!("cancelled")).await;
    server.delete(&format!("/api/messages/{cancelled}"), &ana.token).await.ok();
    eventually("its life ends", async || waiting(&server, &ana, "tablet").await == 0).await;
    let tablet = Reader::open(&server, &ana.token, "tablet").await;
    assert_eq!((tablet.pending(), tablet.missed()), (0, 0));
    assert_ne!(tablet.hello["recovered"], false);
    assert_eq!(receipt(&server, &ana.token, short).await["status"], "acked");
}

/// Receives queued messages up to `last` and answers the pings; returns ids and the ranges that it was told to have missed, and
/// checks that they cover each other without a gap: every id of `all` is received or told, in order.
async fn follow(raw: &mut Raw, all: &[u64], last: u64) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut ids, mut gone, mut at) = (Vec::new(), Vec::new(), 0);
    while at < last {
        let (first, payload) = raw.next().await.expect("it is not cut");
        if first == 0x89 {
            raw.send(&frame(FIN | PONG, &payload)).await;
        }
        let Ok(event) = serde_json::from_slice::<Value>(&payload) else { continue };
        let between = |from: u64, to: u64| all.iter().any(|id| (from..to).contains(id));
        if event["type"] == "missed" {
            let (after, upto) = (event["after"].as_u64().unwrap(), event["upto"].as_u64().unwrap());
            assert!(after >= at && upto > after && event["timestamp"].is_string(), "{event} at {at}");
            assert!(!between(at + 1, after + 1), "nothing between {at} and {event} was told");
            gone.push((after, upto));
            at = upto;
        } else if let Some(id) = event["id"].as_u64() {
            assert!(id > at && !between(at + 1, id), "{id} at {at}: something is lost without a word");
            ids.push(id);
            at = id;
        }
    }
    (ids, gone)
}

/// Sends `count` large messages, which are more than any window, while `fast` receives them and another connection does not read.
async fn outrun(server: &Server, ana: &User, fast: &mut Reader, name: &str, count: usize) -> Vec<u64> {
    let mut all = Vec::new();
    while all.len() < count {
        let (one, two) = (send(server, ana, json!("x".repeat(20_000))).await, send(server, ana, json!("small")).await);
        fast.takes(server, ana, name, &[one, two]).await;
        all.extend([one, two]);
    }
    all
}

#[tokio::test]
async fn live_connection_that_falls_too_far_behind_is_told_in_place() {
    let server = Server::with(small(0)).await;
    let ana = server.user("ana").await;
    let (mut tablet, _) = Raw::open(server.address, &path(&ana.token, "client=tablet")).await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let all = outrun(&server, &ana, &mut phone, "phone", 160).await;
    let (ids, gone) = follow(&mut tablet, &all, all[159]).await;
    assert!(!gone.is_empty() && ids.len() < 160, "it fell behind");
    assert!(ids.ends_with(&all[155..]), "the newest are kept: {ids:?}");
    // The connection goes on, and so does the reader.
    let next = send(&server, &ana, json!("next")).await;
    phone.receives(&[next]).await;
    assert_eq!(follow(&mut tablet, &[next], next).await.0, [next]);
    let (first, payload) = tablet.next().await.unwrap();
    assert_eq!(first, 0x89, "a ping behind the last message");
    tablet.send(&frame(FIN | PONG, &payload)).await;
    eventually("it has proved all", async || waiting(&server, &ana, "tablet").await == 0).await;
    drop(tablet);
    let tablet = Reader::open(&server, &ana.token, "tablet").await;
    assert_eq!((tablet.missed(), tablet.pending()), (0, 0));
}

#[tokio::test]
async fn slow_connection_gets_all_that_another_of_its_reader_has_acknowledged() {
    let mut config = roomy();
    config.history.messages = 0;
    config.limits.group_buffer = 2;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let (mut slow, _) = Raw::open(server.address, &path(&ana.token, "")).await;
    let mut fast = Reader::with(&server, &ana.token, "").await;
    let all = outrun(&server, &ana, &mut fast, "default", 160).await;
    assert_eq!(follow(&mut slow, &all, all[159]).await, (all, vec![]), "within the bounds of the mailbox nothing is trimmed");
}

#[tokio::test]
async fn account_that_never_connects_does_not_stop_broadcasts() {
    let server = Server::with(small(0)).await;
    let (admin, ana, bob) = (server.admin().await, server.user("ana").await, server.user("bob").await);
    // Neither the administrator nor bob connects.
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let mut all = Vec::new();
    for n in 0..12 {
        all.push(broadcast(&server, json!(n)).await);
        phone.takes(&server, &ana, "phone", &all[n..]).await;
    }
    drop(phone);
    let mut first = Reader::open(&server, &bob.token, "phone").await;
    assert_eq!((first.pending(), first.missed(), &first.hello["recovered"]), (5, 7, &json!(false)), "{}", first.hello);
    first.takes(&server, &bob, "phone", &all[7..]).await;
    drop(first);
    assert_eq!(Reader::open(&server, &bob.token, "phone").await.missed(), 0);

    // What nobody at all has received still counts.
    for n in 0..5 {
        broadcast(&server, json!(n)).await;
    }
    full(&server, "/api/messages/broadcast", &admin).await;
}

#[tokio::test]
async fn queue_of_a_user_shows_and_clears_its_share_of_broadcasts() {
    let server = Server::with(roomy()).await;
    let (admin, ana, bob) = (server.admin().await, server.user("ana").await, server.user("bob").await);
    let (queue_of_ana, queue_of_bob) = (format!("/api/queue/user/{}", ana.id), format!("/api/queue/user/{}", bob.id));
    let mut all = Vec::new();
    for n in 0..3 {
        all.push(broadcast(&server, json!(n)).await);
    }
    let direct = send(&server, &ana, json!(1)).await;
    let queue = server.get(&queue_of_ana, Some(&ana.token)).await.ok()["data"].clone();
    assert_eq!(queue["messages"], 4, "{queue}");
    assert_eq!(queue["oldest"], receipt(&server, &admin, all[0]).await["queued_at"]);
    assert!(queue["bytes"].as_u64().unwrap() > 4 * 40);
    assert_eq!(server.delete(&queue_of_ana, &ana.token).await.ok()["data"]["messages"], 4);
    assert_eq!(server.get(&queue_of_ana, Some(&ana.token)).await.ok()["data"]["messages"], 0);
    assert_eq!(receipt(&server, &ana.token, direct).await["status"], "cleared");
    // The others' shares stay, and so do the broadcasts.
    assert_eq!(server.get(&queue_of_bob, Some(&bob.token)).await.ok()["data"]["messages"], 3);
    assert_eq!(receipt(&server, &admin, all[0]).await["status"], "queued");
    let server = server.restart().await;
    let cleared = Reader::open(&server, &ana.token, "phone").await;
    assert_eq!((cleared.pending(), cleared.missed()), (0, 0));
    let mut other = Reader::open(&server, &bob.token, "phone").await;
    other.takes(&server, &bob, "phone", &all).await;
    assert_eq!(receipt(&server, &admin, all[2]).await["received"], 1);
}
