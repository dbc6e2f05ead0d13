//! Readers: every installation of a user has its own place in the user's mailbox.

use serde_json::{Value, json};

use super::mailbox::{receipt, send};
use crate::support::raw::Raw;
use crate::support::reader::{names, path, refused};
use crate::support::{Reader, Server, User, eventually, roomy, set};

/// Broadcasts a message and returns its id.
pub(super) async fn broadcast(server: &Server, message: Value) -> u64 {
    let admin = server.admin().await;
    server.post("/api/messages/broadcast", &admin, json!({"message": message})).await.ok()["data"]["id"].as_u64().unwrap()
}

/// Sends `count` messages to a user and returns their ids.
pub(super) async fn send_many(server: &Server, user: &User, count: usize) -> Vec<u64> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(send(server, user, json!(n)).await);
    }
    ids
}

/// Returns the entry of a reader in a receipt; null where it has none.
pub(super) fn entry(receipt: &Value, name: &str) -> Value {
    let readers = receipt["readers"].as_array().unwrap_or_else(|| panic!("no readers in {receipt}"));
    readers.iter().find(|entry| entry["client"] == name).cloned().unwrap_or_default()
}

#[tokio::test]
async fn connection_without_name_is_the_reader_default() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let id = send(&server, &ana, json!(1)).await;
    let mut plain = Reader::with(&server, &ana.token, "").await;
    plain.takes(&server, &ana, "default", &[id]).await;
    drop(plain);
    let named = Reader::open(&server, &ana.token, "default").await;
    assert_eq!((named.pending(), &named.hello["last_id"]), (0, &json!(id)));
    assert_eq!(names(&server, &ana).await, ["default"]);
}

#[tokio::test]
async fn connections_of_one_name_share_a_cursor() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let (mut mute, _) = Raw::open(server.address, &path(&ana.token, "client=phone")).await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let ids = send_many(&server, &ana, 3).await;
    assert_eq!(mute.ids_to(ids[2]).await, ids, "both receive it");
    phone.takes(&server, &ana, "phone", &ids).await;
    drop((mute, phone));
    assert_eq!(Reader::open(&server, &ana.token, "phone").await.pending(), 0, "one proof is enough for both");
    assert_eq!(names(&server, &ana).await, ["phone"]);
}

#[tokio::test]
async fn message_received_by_one_reader_is_kept_for_the_others() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    for name in ["phone", "tablet", "default"] {
        Reader::open(&server, &ana.token, name).await;
    }
    let ids = send_many(&server, &ana, 5).await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    phone.takes(&server, &ana, "phone", &ids).await;
    let server = server.restart().await;
    for name in ["tablet", "default"] {
        let mut reader = Reader::open(&server, &ana.token, name).await;
        assert_eq!((reader.pending(), reader.missed()), (5, 0), "{name}");
        reader.takes(&server, &ana, name, &ids).await;
    }
    for name in ["phone", "tablet", "default"] {
        let reader = Reader::open(&server, &ana.token, name).await;
        assert_eq!((reader.pending(), &reader.hello["last_id"]), (0, &json!(ids[4])), "{name}");
    }
}

#[tokio::test]
async fn receipt_is_acked_at_the_first_reader_and_lists_each() {
    let server = Server::with(roomy()).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    Reader::open(&server, &ana.token, "tablet").await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let (id, all) = (send(&server, &ana, json!(1)).await, broadcast(&server, json!(2)).await);
    phone.takes(&server, &ana, "phone", &[id, all]).await;
    let first = receipt(&server, &ana.token, id).await;
    assert_eq!((&first["status"], &entry(&first, "tablet")), (&json!("acked"), &Value::Null), "{first}");
    assert!(first["acked_at"].is_string());
    assert_eq!(entry(&first, "phone")["acked_at"], first["acked_at"]);

    let mut tablet = Reader::open(&server, &ana.token, "tablet").await;
    tablet.takes(&server, &ana, "tablet", &[id, all]).await;
    let both = receipt(&server, &ana.token, id).await;
    assert_eq!((&both["status"], &both["acked_at"]), (&json!("acked"), &first["acked_at"]), "the first one counts");
    assert_eq!(both["readers"].as_array().unwrap().len(), 2, "{both}");
    assert!(entry(&both, "tablet")["acked_at"].as_str() >= first["acked_at"].as_str());
    assert_eq!(receipt(&server, &admin, all).await["received"], 1, "one user, with two readers");

    drop((phone, tablet));
    let server = server.restart().await;
    let after = receipt(&server, &ana.token, id).await;
    assert_eq!((&after["status"], &after["acked_at"]), (&json!("acked"), &first["acked_at"]));
    assert_eq!(entry(&after, "phone")["acked_at"], first["acked_at"], "the first time is durable: {after}");
    let tablet = entry(&after, "tablet");
    assert!(tablet.is_object() && tablet["acked_at"].is_null(), "it has it, since an unknown time: {after}");
}

#[tokio::test]
async fn new_reader_starts_with_what_no_reader_of_the_user_has_received() {
    let server = Server::with(roomy()).await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let mut slow = Reader::open(&server, &ana.token, "slow").await;
    let first = send(&server, &ana, json!(1)).await;
    slow.takes(&server, &ana, "slow", &[first]).await;
    drop(slow);
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let second = [send(&server, &ana, json!(2)).await, broadcast(&server, json!(3)).await];
    phone.takes(&server, &ana, "phone", &second).await;
    drop(phone);
    let third = [send(&server, &ana, json!(4)).await, broadcast(&server, json!(5)).await];

    // Of `slow` at 1 and `phone` at 3, the one that is further on counts.
    let mut tablet = Reader::open(&server, &ana.token, "tablet").await;
    assert_eq!((tablet.pending(), tablet.missed()), (2, 0));
    tablet.takes(&server, &ana, "tablet", &third).await;
    let mut slow = Reader::open(&server, &ana.token, "slow").await;
    slow.takes(&server, &ana, "slow", &[second, third].concat()).await;
    // Readers of another user don't count, and neither do broadcasts before the account was made.
    let mut other = Reader::open(&server, &bob.token, "phone").await;
    other.takes(&server, &bob, "phone", &[second[1], third[1]]).await;
    let late = server.user("late").await;
    assert_eq!(Reader::open(&server, &late.token, "phone").await.pending(), 0);
}

#[tokio::test]
async fn new_reader_with_since_gets_what_others_have_received_and_is_retained() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let ids = send_many(&server, &ana, 3).await;
    phone.takes(&server, &ana, "phone", &ids).await;
    for (since, from) in [(0, 0), (ids[0], 1)] {
        let query = format!("client=tablet{since}&since={since}");
        let mut tablet = Reader::with(&server, &ana.token, &query).await;
        assert_eq!((&tablet.hello["recovered"], tablet.missed()), (&json!(true), 0), "since {since}");
        tablet.takes(&server, &ana, &format!("tablet{since}"), &ids[from..]).await;
    }
}

#[tokio::test]
async fn user_without_readers_has_a_place_where_the_first_one_starts() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let early = send_many(&server, &ana, 3).await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    phone.takes(&server, &ana, "phone", &early).await;
    Reader::open(&server, &ana.token, "tablet").await;
    drop(phone);
    for name in ["phone", "tablet"] {
        server.delete(&format!("/api/clients/{name}"), &ana.token).await.ok();
    }
    assert!(names(&server, &ana).await.is_empty());
    let late = send_many(&server, &ana, 2).await;
    let server = server.restart().await;
    let mut web = Reader::open(&server, &ana.token, "web").await;
    assert_eq!(web.pending(), 2, "what some reader had received does not come again");
    web.takes(&server, &ana, "web", &late).await;
}

#[tokio::test]
async fn readers_beyond_the_limit_are_closed_with_4104() {
    let mut config = roomy();
    set(&mut config, "mailbox.readers", 2);
    let server = Server::with(config).await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    for query in ["", "client=phone"] {
        Reader::with(&server, &ana.token, query).await;
    }
    let refused = async |server: &Server, name: &str| {
        let event = server.ws(&path(&ana.token, &format!("client={name}"))).await.disconnected().await;
        assert_eq!((&event["code"], &event["reconnect"]), (&json!(4104), &json!(false)), "{event}");
        assert!(event["reason"].as_str().unwrap().contains("too many clients"), "{event}");
    };
    refused(&server, "tablet").await;
    assert_eq!(names(&server, &ana).await, ["default", "phone"], "a refused one is no reader");
    Reader::open(&server, &bob.token, "tablet").await; // the limit is per user
    // A device's own reader does not count, and what is known may come back, also where the limit has been lowered.
    let lamp = server.device(&ana.token, false).await;
    let lamp = server.device_token(&ana.token, lamp).await;
    Reader::with(&server, &lamp, "").await;
    let server = server.restart_with(|config| set(config, "mailbox.readers", 1)).await;
    for query in ["client=default", "client=phone"] {
        Reader::with(&server, &ana.token, query).await;
    }
    refused(&server, "tablet").await;
    for name in ["default", "phone"] {
        server.delete(&format!("/api/clients/{name}"), &ana.token).await.ok();
    }
    Reader::open(&server, &ana.token, "tablet").await;
}

#[tokio::test]
async fn readers_that_connect_at_once_stay_within_the_limit() {
    let mut config = roomy();
    set(&mut config, "mailbox.readers", 3);
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let connecting = (0..8).map(async |n| server.ws(&path(&ana.token, &format!("client=c{n}"))).await.json().await);
    let events = futures_util::future::join_all(connecting).await;
    let of_type = |name: &str| events.iter().filter(|event| event["type"] == name).count();
    assert_eq!((of_type("connection_status"), of_type("disconnect")), (3, 5), "{events:?}");
    assert_eq!(names(&server, &ana).await.len(), 3);
}

#[tokio::test]
async fn malformed_name_is_refused_and_becomes_no_reader() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let long = "x".repeat(65);
    for name in ["", &long, "a%20b", "a:b", "device:1", "%C3%A4", "a%2Fb", "a%00", "a,b", "%E6%89%8B%E6%9C%BA"] {
        refused(&server, &path(&ana.token, &format!("client={name}"))).await;
        refused(&server, &path(&ana.token, &format!("client={name}&peek=1"))).await;
    }
    assert!(names(&server, &ana).await.is_empty());
    let mut good =
        vec![long[..64].to_owned(), ".".into(), "-".into(), "Ana_s-Phone.2".into(), "0".into(), "ana_s-phone.2".into()];
    for name in &good {
        Reader::open(&server, &ana.token, name).await;
    }
    good.sort();
    assert_eq!(names(&server, &ana).await, good, "case matters");
}

#[tokio::test]
async fn device_with_its_own_token_is_a_reader_of_its_user() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, true).await;
    let (token, name) = (server.device_token(&ana.token, device).await, format!("device:{device}"));
    let mut lamp = Reader::with(&server, &token, "").await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let to_user = send(&server, &ana, json!(1)).await;
    let to_device = format!("/api/messages/device/{device}");
    let to_device = server.post(&to_device, &ana.token, json!({"message": 2})).await.ok()["data"]["id"].as_u64().unwrap();
    let to_all = broadcast(&server, json!(3)).await;
    lamp.takes(&server, &ana, &name, &[to_user, to_device, to_all]).await;
    phone.takes(&server, &ana, "phone", &[to_user, to_all]).await;
    assert_eq!(names(&server, &ana).await, [name.as_str(), "phone"]);
    eventually("both have it", async || receipt(&server, &ana.token, to_user).await["readers"].as_array().unwrap().len() == 2)
        .await;
    let seen = receipt(&server, &ana.token, to_user).await;
    assert!(entry(&seen, &name)["acked_at"].is_string(), "{seen}");
    eventually("the device has it", async || receipt(&server, &ana.token, to_device).await["status"] == "acked").await;
    // A name in the query is for tokens of users. Refused or ignored, it makes no reader.
    if let Ok(mut client) = server.try_ws(&path(&token, "client=watch"), &[]).await {
        client.text().await;
    }
    assert_eq!(names(&server, &ana).await, [name.as_str(), "phone"]);
    // What is deleted can't come back, and keeps nothing any more.
    drop(lamp);
    server.delete(&format!("/api/devices/{device}"), &ana.token).await.ok();
    assert_eq!(names(&server, &ana).await, ["phone"]);
}

#[tokio::test]
async fn watermark_of_a_proof_is_printable_and_connection_without_proofs_is_marked() {
    let mut config = roomy();
    config.limits.ping_seconds = 1;
    let server = Server::with(config).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let ids = send_many(&server, &ana, 3).await;
    let (mut mute, _) = Raw::open(server.address, &path(&ana.token, "client=esp")).await;
    mute.ids_to(ids[2]).await;
    let watermark = loop {
        if let (0x89, payload) = mute.next().await.unwrap() {
            break payload;
        }
    };
    assert!(!watermark.is_empty() && watermark.iter().all(u8::is_ascii_graphic), "{watermark:?}");
    eventually("it is marked", async || {
        let list = server.get("/api/monitor/connections", Some(&admin)).await.ok();
        list["data"]["connections"][0]["proof"] == "none"
    })
    .await;
}

/// A user's installation in the story below: its token, its query, its reader's name, and what it has received.
struct Installation {
    token: String,
    query: &'static str,
    name: String,
    ids: Vec<u64>,
}

impl Installation {
    /// Connects, expects exactly what it lacks of `all`, and proves it.
    async fn catch_up(&mut self, server: &Server, ana: &User, all: &[u64]) {
        let mut reader = Reader::with(server, &self.token, self.query).await;
        let lacks = all.iter().copied().filter(|id| !self.ids.contains(id)).collect::<Vec<_>>();
        assert_eq!((reader.pending(), reader.missed()), (lacks.len() as u64, 0), "{}", self.name);
        reader.takes(server, ana, &self.name, &lacks).await;
        self.ids.extend(lacks);
    }
}

#[tokio::test]
async fn phones_tablet_and_lamp_receive_each_message_once_in_order_over_restarts() {
    let mut server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, false).await;
    let lamp = server.device_token(&ana.token, device).await;
    let user = |query, name: &str| Installation { token: ana.token.clone(), query, name: name.into(), ids: vec![] };
    let mut old = user("", "default");
    let mut new = user("client=phone", "phone");
    let mut tablet = user("client=tablet", "tablet");
    let mut lamp = Installation { token: lamp, query: "", name: format!("device:{device}"), ids: vec![] };
    for installation in [&mut old, &mut new, &mut tablet, &mut lamp] {
        installation.catch_up(&server, &ana, &[]).await;
    }
    let mut all = Vec::new();
    for round in 0..4 {
        for n in 0..6 {
            let message = json!({"round": round, "n": n});
            all.push(if n % 3 == 2 { broadcast(&server, message).await } else { send(&server, &ana, message).await });
        }
        // One phone comes every time, the other and the lamp every other time, the tablet not before the end.
        new.catch_up(&server, &ana, &all).await;
        for installation in [&mut old, &mut lamp] {
            if round % 2 == 1 {
                installation.catch_up(&server, &ana, &all).await;
            }
        }
        server = server.restart().await;
    }
    for installation in [&mut tablet, &mut old, &mut new, &mut lamp] {
        installation.catch_up(&server, &ana, &all).await;
        assert_eq!(installation.ids, all, "{}", installation.name);
    }
}
