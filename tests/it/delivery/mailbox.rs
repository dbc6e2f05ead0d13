//! Nothing is lost: what is queued waits until it has been received.

use std::time::Duration;

use crate::support::{Client, DEADLINE, Server, User, eventually, roomy};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

async fn send(server: &Server, user: &User, message: Value) -> u64 {
    let path = format!("/api/messages/user/{}", user.id);
    server.post(&path, &user.token, json!({"message": message})).await.ok()["data"]["id"].as_u64().unwrap()
}

async fn receipt(server: &Server, token: &str, id: u64) -> Value {
    server.get(&format!("/api/messages/{id}"), Some(token)).await.ok()["data"].clone()
}

/// A connection whose pongs the test sends, or does not: its pings are handed out.
struct Mute {
    client: Client,
}

impl Mute {
    async fn connect(server: &Server, path: &str) -> (Self, Value) {
        let mut client = server.ws(path).await;
        let hello = client.json().await;
        (Self { client }, hello)
    }

    /// The next text message or ping, nothing being answered: tungstenite queues a pong when it reads a ping and sends it at
    /// the next read or write, so after a ping this connection must not be touched again.
    async fn next(&mut self) -> Message {
        timeout(DEADLINE, self.client.stream.next()).await.unwrap().unwrap().unwrap()
    }

    /// Reads messages up to the first ping.
    async fn until_ping(&mut self) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            match self.next().await {
                Message::Text(text) => seen.push(serde_json::from_str(&text).unwrap()),
                Message::Ping(_) => return seen,
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn offline_messages_wait_and_come_in_order_also_after_a_restart() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let mut ids = Vec::new();
    for n in 0..20 {
        ids.push(send(&server, &ana, json!(n)).await);
    }
    assert!(ids.windows(2).all(|w| w[0] < w[1]));
    let queue = server.get(&format!("/api/queue/user/{}", ana.id), Some(&ana.token)).await.ok();
    assert_eq!(queue["data"]["messages"], 20);
    assert!(queue["data"]["oldest"].is_string() && queue["data"]["bytes"].as_u64().unwrap() > 20 * 40);
    assert_eq!(receipt(&server, &ana.token, ids[0]).await["status"], "queued");

    let server = server.restart().await;
    let path = format!("/ws/device/?token={}", ana.token);
    let mut client = server.ws(&path).await;
    let hello = client.json().await;
    assert_eq!((&hello["pending"], &hello["last_id"]), (&json!(20), &json!(0)));
    for (n, id) in ids.iter().enumerate() {
        let push = client.json().await;
        assert_eq!((&push["message"], &push["id"]), (&json!(n), &json!(id)));
    }
    client.fence().await; // reading on answers the ping behind the batch
    eventually("they are received", async || {
        server.get("/api/queue", Some(&server.admin().await)).await.ok()["data"]["messages"] == 0
    })
    .await;
    let last = receipt(&server, &ana.token, ids[19]).await;
    assert_eq!(last["status"], "acked");
    assert!(last["acked_at"].is_string() && last["queued_at"].is_string() && last["expires_at"].is_string());

    drop(client);
    let newer = send(&server, &ana, json!("newer")).await;
    assert!(newer > ids[19]);
    let server = server.restart().await;
    let mut client = server.ws(&path).await;
    let hello = client.json().await;
    assert_eq!((&hello["pending"], &hello["last_id"]), (&json!(1), &json!(ids[19])));
    assert_eq!(client.json().await["id"], newer);
    client.fence().await;
}

#[tokio::test]
async fn unacknowledged_messages_come_again() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let ids = [send(&server, &ana, json!(1)).await, send(&server, &ana, json!(2)).await];
    let path = format!("/ws/device/?token={}", ana.token);
    let (mut mute, _) = Mute::connect(&server, &path).await;
    assert_eq!(mute.until_ping().await.len(), 2);
    // Written, not received: the pong has not been sent. Then the line goes dead.
    eventually("they count as sent", async || receipt(&server, &ana.token, ids[1]).await["status"] == "sent").await;
    drop(mute);
    let mut client = server.ws(&path).await;
    assert_eq!(client.json().await["pending"], 2);
    for id in ids {
        assert_eq!(client.json().await["id"], id);
    }
    client.fence().await;
    eventually("they are received", async || receipt(&server, &ana.token, ids[1]).await["status"] == "acked").await;
}

#[tokio::test]
async fn a_thousand_waiting_messages_stream_through_the_window() {
    let mut config = roomy();
    config.mailbox.messages = 3000;
    config.limits.group_buffer = 4;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let filling: Vec<_> = (0..2500).collect();
    for chunk in filling.chunks(50) {
        let sends = chunk.iter().map(|n| send(&server, &ana, json!(n)));
        futures_util::future::join_all(sends).await;
    }
    let mut client = server.connect(&ana.token).await;
    let mut last = 0;
    for _ in 0..2500 {
        let id = client.json().await["id"].as_u64().unwrap();
        assert!(id > last);
        last = id;
    }
    // More come while it reads on: the same connection, the same order.
    for n in 0..100 {
        send(&server, &ana, json!(n)).await;
    }
    for n in 0..100 {
        assert_eq!(client.json().await["message"], n);
    }
    client.fence().await;
    eventually("all are received", async || {
        server.get(&format!("/api/queue/user/{}", ana.id), Some(&ana.token)).await.ok()["data"]["messages"] == 0
    })
    .await;
}

#[tokio::test]
async fn a_client_that_wants_to_acknowledges_itself() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let ids = [send(&server, &ana, json!(1)).await, send(&server, &ana, json!(2)).await, send(&server, &ana, json!(3)).await];
    let path = format!("/ws/device/?token={}&ack=client", ana.token);
    let mut client = server.ws(&path).await;
    client.json().await;
    for id in ids {
        assert_eq!(client.json().await["id"], id);
    }
    client.fence().await;
    assert_eq!(receipt(&server, &ana.token, ids[0]).await["status"], "sent", "pongs prove nothing here");
    client.say(json!({"type": "ack", "message": {"id": ids[2] + 1}})).await; // never written: ignored
    client.say(json!({"type": "ack", "message": {"id": ids[1]}})).await;
    client.fence().await;
    eventually("two are received", async || receipt(&server, &ana.token, ids[1]).await["status"] == "acked").await;
    assert_eq!(receipt(&server, &ana.token, ids[2]).await["status"], "sent");
    drop(client);
    let mut client = server.ws(&path).await;
    assert_eq!(client.json().await["pending"], 1);
    assert_eq!(client.json().await["id"], ids[2]);

    let mut plain = server.connect(&ana.token).await;
    assert_eq!(plain.json().await["id"], ids[2]);
    let error = plain.ask(json!({"type": "ack", "message": {"id": 1}})).await;
    assert_eq!(error["code"], "VALIDATION_ERROR");
}

#[tokio::test]
async fn pongs_nobody_asked_for_move_nothing() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let id = send(&server, &ana, json!(1)).await;
    let (mut mute, _) = Mute::connect(&server, &format!("/ws/device/?token={}&ack=client", ana.token)).await;
    mute.next().await;
    let forged = [&id.to_be_bytes()[..], &[0; 8]].concat();
    for payload in [forged, vec![0; 16], b"x".to_vec(), vec![0xff; 125]] {
        mute.client.stream.send(Message::Pong(payload.into())).await.unwrap();
    }
    mute.client.fence().await;
    assert_eq!(receipt(&server, &ana.token, id).await["status"], "sent");
}

#[tokio::test]
async fn user_device_and_broadcast_mailboxes_are_one_stream() {
    let server = Server::with(roomy()).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let device = server.device(&ana.token, true).await;
    let mut ids = Vec::new();
    for n in 0..9 {
        let (path, token) = match n % 3 {
            0 => (format!("/api/messages/user/{}", ana.id), &ana.token),
            1 => (format!("/api/messages/device/{device}"), &ana.token),
            _ => ("/api/messages/broadcast".to_owned(), &admin),
        };
        ids.push(server.post(&path, token, json!({"message": n})).await.ok()["data"]["id"].as_u64().unwrap());
    }
    let late = server.user("late").await; // was not there: these broadcasts are not for it
    let mut client = server.connect(&ana.token).await;
    for id in &ids {
        assert_eq!(client.json().await["id"], *id);
    }
    client.fence().await;
    eventually("the device's are received", async || receipt(&server, &ana.token, ids[7]).await["status"] == "acked").await;
    eventually("one user has the broadcast", async || receipt(&server, &admin, ids[8]).await["received"] == 1).await;
    let hello = server.ws(&format!("/ws/device/?token={}", late.token)).await.json().await;
    assert_eq!(hello["pending"], 0);
    drop(client);
    // The administrator was there, and has not read them.
    let hello = server.ws(&format!("/ws/device/?token={admin}")).await.json().await;
    assert_eq!(hello["pending"], 3);

    // Live, all three at once, the order is the same.
    let mut client = server.connect(&ana.token).await;
    let paths =
        [format!("/api/messages/user/{}", ana.id), format!("/api/messages/device/{device}"), "/api/messages/broadcast".into()];
    let sends = (0..60).map(|n| server.post(&paths[n % 3], &admin, json!({"message": n})));
    futures_util::future::join_all(sends).await;
    let mut last = 0;
    for _ in 0..60 {
        let id = client.json().await["id"].as_u64().unwrap();
        assert!(id > last, "{id} after {last}");
        last = id;
    }
    client.fence().await;
}

#[tokio::test]
async fn two_connections_of_a_user_both_hear_and_either_acknowledges() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let (mut mute, _) = Mute::connect(&server, &format!("/ws/device/?token={}&ack=client", ana.token)).await;
    let mut client = server.connect(&ana.token).await;
    let id = send(&server, &ana, json!(1)).await;
    assert!(mute.next().await.into_text().unwrap().contains(&format!("\"id\":{id}")));
    assert_eq!(client.json().await["id"], id);
    client.fence().await;
    eventually("it is received", async || receipt(&server, &ana.token, id).await["status"] == "acked").await;
}

#[tokio::test]
async fn catching_up_replays_what_is_still_there() {
    let mut config = roomy();
    config.history.messages = 5;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let mut client = server.connect(&ana.token).await;
    let mut ids = Vec::new();
    for n in 0..8 {
        ids.push(send(&server, &ana, json!(n)).await);
        client.json().await;
    }
    client.fence().await;
    eventually("all are received", async || receipt(&server, &ana.token, ids[7]).await["status"] == "acked").await;
    drop(client);
    let replay = async |since: String| {
        let mut client = server.ws(&format!("/ws/device/?token={}&since={since}", ana.token)).await;
        let hello = client.json().await;
        let mut seen = Vec::new();
        client.say(json!({"type": "ping"})).await;
        loop {
            let event = client.json().await;
            match event["id"].as_u64() {
                Some(id) => seen.push(id),
                // The pong may overtake the replay: ask again until nothing came between two.
                None if seen.len() >= 5 || hello["recovered"] == true && hello["pending"] == 0 && since == ids[7].to_string() => {
                    break;
                }
                None => client.say(json!({"type": "ping"})).await,
            }
        }
        (hello["recovered"].clone(), seen)
    };
    assert_eq!(replay(ids[2].to_string()).await, (json!(true), ids[3..].to_vec()));
    assert_eq!(replay(ids[1].to_string()).await, (json!(false), ids[3..].to_vec()), "one after it has gone");
    assert_eq!(replay(ids[7].to_string()).await, (json!(true), vec![]));
    let history = server.get(&format!("/api/messages/history?since={}&limit=2", ids[3]), Some(&ana.token)).await.ok();
    let listed: Vec<u64> = history["data"].as_array().unwrap().iter().map(|m| m["id"].as_u64().unwrap()).collect();
    assert_eq!((listed, &history["next"]), (ids[4..6].to_vec(), &json!(ids[5])));
    let other = server.user("bob").await;
    assert_eq!(server.get("/api/messages/history", Some(&other.token)).await.ok()["data"], json!([]));
    // An id from another store, or no id at all: nothing is recovered, nothing is lost.
    for since in ["999999999", "x"] {
        let hello = server.ws(&format!("/ws/device/?token={}&since={since}", ana.token)).await.json().await;
        assert_eq!(hello["recovered"], false);
    }
}

#[tokio::test]
async fn bounds_refuse_and_say_so() {
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
async fn lives_end() {
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
async fn a_repeated_request_is_sent_once() {
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
    post(&ana.token, &"k".repeat(129), r#"{"message":1}"#).await.expect(400);
    let server = server.restart().await;
    let headers =
        [("authorization", &*format!("Token {}", ana.token)), ("content-type", "application/json"), ("idempotency-key", "k1")];
    let again = server.raw_http("POST", &path, &headers, br#"{"message":1}"#).await.ok();
    assert_eq!(again["data"]["id"], first);
    assert_eq!(server.get(&format!("/api/queue/user/{}", ana.id), Some(&ana.token)).await.ok()["data"]["messages"], 3);
}

#[tokio::test]
async fn queues_can_be_seen_and_cleared_by_whom_they_concern() {
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
    server.get(&format!("/api/messages/{id}"), Some(&ana.token)).await.expect(404);
    send(&server, &ana, json!(2)).await;
    assert_eq!(server.http("DELETE", "/api/queue", Some(&admin), None).await.ok()["data"]["messages"], 1);
    // Who goes takes the mailbox along.
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

#[tokio::test]
async fn a_slow_reader_of_a_queued_flow_gets_everything() {
    let mut config = roomy();
    config.limits.group_buffer = 2;
    config.mailbox.messages = 0;
    config.mailbox.bytes = 0;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let mut slow = server.connect(&ana.token).await;
    for n in 0..400 {
        send(&server, &ana, json!({"n": n, "pad": "x".repeat(2000)})).await;
    }
    let mut last = 0;
    for n in 0..400 {
        let push = slow.json().await;
        assert_eq!(push["message"]["n"], n);
        let id = push["id"].as_u64().unwrap();
        assert!(id > last);
        last = id;
    }
    slow.fence().await;
    tokio::time::timeout(Duration::from_secs(5), async {
        while receipt(&server, &ana.token, last).await["status"] != "acked" {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}
