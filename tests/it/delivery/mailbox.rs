//! Queued messages: they are kept until they have been acknowledged.

use crate::support::{Client, DEADLINE, Server, User, eventually, roomy};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

pub(super) async fn send(server: &Server, user: &User, message: Value) -> u64 {
    let path = format!("/api/messages/user/{}", user.id);
    server.post(&path, &user.token, json!({"message": message})).await.ok()["data"]["id"].as_u64().unwrap()
}

pub(super) async fn receipt(server: &Server, token: &str, id: u64) -> Value {
    server.get(&format!("/api/messages/{id}"), Some(token)).await.ok()["data"].clone()
}

/// A connection that hands out pings; the test sends the pongs, or does not.
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
async fn offline_messages_arrive_in_order_after_restart() {
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
async fn unacknowledged_messages_are_delivered_again() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let ids = [send(&server, &ana, json!(1)).await, send(&server, &ana, json!(2)).await];
    let path = format!("/ws/device/?token={}", ana.token);
    let (mut mute, _) = Mute::connect(&server, &path).await;
    assert_eq!(mute.until_ping().await.len(), 1, "in a short batch each has its own ping");
    // Written, not acknowledged: no pong has been sent. Then the connection is lost.
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
async fn backlog_of_thousands_streams_through_window() {
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
async fn client_acknowledgements_replace_pongs() {
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
    let never_written = client.ask(json!({"type": "ack", "message": {"id": ids[2] + 1}})).await;
    assert_eq!(never_written["code"], "VALIDATION_ERROR");
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
async fn unsolicited_pongs_acknowledge_nothing() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let id = send(&server, &ana, json!(1)).await;
    let (mut mute, _) = Mute::connect(&server, &format!("/ws/device/?token={}&ack=client", ana.token)).await;
    mute.next().await;
    let forged = format!("{id}.0123456789abcdef").into_bytes();
    for payload in [forged, vec![0; 16], b"x".to_vec(), vec![0xff; 125]] {
        mute.client.stream.send(Message::Pong(payload.into())).await.unwrap();
    }
    mute.client.fence().await;
    assert_eq!(receipt(&server, &ana.token, id).await["status"], "sent");
}

#[tokio::test]
async fn user_device_and_broadcast_messages_arrive_as_one_stream() {
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
async fn two_connections_both_receive_and_either_acknowledges() {
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
async fn since_replays_kept_history() {
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
async fn slow_reader_of_queued_messages_gets_all() {
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
    eventually("all are received", async || receipt(&server, &ana.token, last).await["status"] == "acked").await;
}
