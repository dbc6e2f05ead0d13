//! Messages that a reader can't take are passed over for it: closed with 1009, above its `max_bytes`, or never proved.

use serde_json::{Value, json};

use super::clients::entry;
use super::mailbox::{receipt, send};
use crate::support::raw::Raw;
use crate::support::reader::{names, nobody_connected, path, refused};
use crate::support::{Reader, Server, User, eventually, roomy, set};

/// Expects a receipt that lists `name` as a reader for which the message was passed over.
#[track_caller]
fn passed_over(receipt: &Value, name: &str) {
    let entry = entry(receipt, name);
    assert!(entry["status"] == "undeliverable" && entry["acked_at"].is_null(), "{name} in {receipt}");
}

/// Sends a message whose payload is about `size` bytes.
async fn large(server: &Server, user: &User, size: usize) -> u64 {
    send(server, user, json!("x".repeat(size))).await
}

/// Connects, reads up to message `id` without an answer, and closes with `code`, or just hangs up.
async fn chokes_on(server: &Server, path: &str, id: u64, code: Option<u16>) {
    let (mut raw, _) = Raw::open(server.address, path).await;
    assert_eq!(raw.ids_to(id).await, [id], "it comes first");
    match code {
        Some(code) => raw.close(code).await,
        None => drop(raw),
    }
    nobody_connected(server).await;
}

#[tokio::test]
async fn message_that_a_client_closes_with_1009_three_times_is_passed_over() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    Reader::open(&server, &ana.token, "tablet").await;
    let phone = path(&ana.token, "client=phone");
    let (big, small) = (large(&server, &ana, 20_000).await, send(&server, &ana, json!("small")).await);
    for _ in 0..3 {
        chokes_on(&server, &phone, big, Some(1009)).await;
    }
    eventually("it is passed over", async || entry(&receipt(&server, &ana.token, big).await, "phone").is_object()).await;
    let seen = receipt(&server, &ana.token, big).await;
    passed_over(&seen, "phone");
    assert_eq!(seen["status"], "sent", "it waits for the tablet: {seen}");
    let mut reader = Reader::open(&server, &ana.token, "phone").await;
    assert_eq!((reader.pending(), reader.missed()), (1, 0));
    reader.takes(&server, &ana, "phone", &[small]).await;

    let server = server.restart().await;
    assert_eq!(Reader::open(&server, &ana.token, "phone").await.pending(), 0);
    let mut tablet = Reader::open(&server, &ana.token, "tablet").await;
    tablet.takes(&server, &ana, "tablet", &[big, small]).await;
    let seen = receipt(&server, &ana.token, big).await;
    assert_eq!((&seen["status"], entry(&seen, "tablet")["acked_at"].is_string()), (&json!("acked"), true), "{seen}");
    passed_over(&seen, "phone");
}

#[tokio::test]
async fn message_that_every_reader_passed_over_is_undeliverable() {
    let mut config = roomy();
    config.mailbox.messages = 2;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let phone = path(&ana.token, "client=phone");
    Reader::open(&server, &ana.token, "tablet").await;
    let big = large(&server, &ana, 20_000).await;
    for _ in 0..3 {
        chokes_on(&server, &phone, big, Some(1009)).await;
    }
    let mut tablet = Reader::with(&server, &ana.token, "client=tablet&max_bytes=8192").await;
    let small = send(&server, &ana, json!("small")).await;
    tablet.takes(&server, &ana, "tablet", &[small]).await;
    let ended = async || receipt(&server, &ana.token, big).await["status"] == "undeliverable";
    eventually("every reader has passed over it", ended).await;
    let seen = receipt(&server, &ana.token, big).await;
    assert_eq!((&seen["status"], &seen["acked_at"]), (&json!("undeliverable"), &Value::Null), "{seen}");
    for name in ["phone", "tablet"] {
        passed_over(&seen, name);
    }
    let queue = server.get(&format!("/api/queue/user/{}", ana.id), Some(&ana.token)).await.ok();
    assert_eq!(queue["data"]["messages"], 0, "it takes no room any more: {queue}");
    let server = server.restart().await;
    assert_eq!(receipt(&server, &ana.token, big).await["status"], "undeliverable");
    let mut reader = Reader::open(&server, &ana.token, "phone").await;
    reader.takes(&server, &ana, "phone", &[small]).await;
}

#[tokio::test]
async fn only_1009_in_a_row_passes_a_message_over_after_three_connections() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let phone = path(&ana.token, "client=phone");
    let big = large(&server, &ana, 20_000).await;
    for code in [Some(1009), Some(1009), Some(1001), Some(1009), None, Some(1009), Some(1009)] {
        chokes_on(&server, &phone, big, code).await;
    }
    // Those of other readers count for these.
    for _ in 0..2 {
        chokes_on(&server, &path(&ana.token, "client=tablet"), big, Some(1009)).await;
    }
    for name in ["phone", "tablet"] {
        assert!(entry(&receipt(&server, &ana.token, big).await, name).is_null(), "{name} is still to get it");
    }
    let mut reader = Reader::open(&server, &ana.token, "phone").await;
    reader.takes(&server, &ana, "phone", &[big]).await;
    assert_eq!(receipt(&server, &ana.token, big).await["status"], "acked");
}

#[tokio::test]
async fn message_at_which_ten_connections_ended_alone_is_passed_over() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let poison = send(&server, &ana, json!("poison")).await;
    let phone = path(&ana.token, "client=phone");
    for n in 0..10 {
        assert!(entry(&receipt(&server, &ana.token, poison).await, "phone").is_null(), "{n} are not enough");
        chokes_on(&server, &phone, poison, None).await;
    }
    let next = send(&server, &ana, json!("next")).await;
    let mut reader = Reader::open(&server, &ana.token, "phone").await;
    reader.takes(&server, &ana, "phone", &[next]).await;
    assert_eq!(receipt(&server, &ana.token, poison).await["status"], "undeliverable");
}

#[tokio::test]
async fn message_beyond_max_deliveries_is_passed_over() {
    let mut config = roomy();
    set(&mut config, "mailbox.max_deliveries", 2);
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let first = send(&server, &ana, json!("first")).await;
    for _ in 0..2 {
        chokes_on(&server, &path(&ana.token, "client=phone"), first, None).await;
    }
    let next = send(&server, &ana, json!("next")).await;
    let mut reader = Reader::open(&server, &ana.token, "phone").await;
    reader.takes(&server, &ana, "phone", &[next]).await;
    passed_over(&receipt(&server, &ana.token, first).await, "phone");
}

#[tokio::test]
async fn max_bytes_in_the_query_is_the_largest_payload_that_is_sent() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    Reader::open(&server, &ana.token, "exact").await;
    Reader::open(&server, &ana.token, "less").await;
    let (one, big) = (send(&server, &ana, json!(1)).await, send(&server, &ana, json!("é".repeat(1000))).await);
    let two = send(&server, &ana, json!(2)).await;
    let mut all = Reader::open(&server, &ana.token, "all").await;
    all.receives(&[one]).await;
    let bytes = all.client.text().await.len();
    assert!(bytes > 2000, "bytes, not characters");
    all.takes(&server, &ana, "all", &[two]).await;
    let mut exact = Reader::with(&server, &ana.token, &format!("client=exact&max_bytes={bytes}")).await;
    exact.takes(&server, &ana, "exact", &[one, big, two]).await;
    let mut less = Reader::with(&server, &ana.token, &format!("client=less&max_bytes={}", bytes - 1)).await;
    less.takes(&server, &ana, "less", &[one, two]).await;
    let seen = receipt(&server, &ana.token, big).await;
    passed_over(&seen, "less");
    assert_eq!((&seen["status"], &seen["deliveries"]), (&json!("acked"), &json!(2)), "{seen}");
    // Live ones, too; and what is passed over is passed over for the reader, also where it comes back without the limit.
    let late = large(&server, &ana, 4000).await;
    let end = send(&server, &ana, json!("end")).await;
    less.takes(&server, &ana, "less", &[end]).await;
    drop(less);
    let less = Reader::open(&server, &ana.token, "less").await;
    assert_eq!((less.pending(), less.missed()), (0, 0));
    passed_over(&receipt(&server, &ana.token, late).await, "less");
}

#[tokio::test]
async fn malformed_max_bytes_is_refused() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    for value in ["", "x", "0", "1023", "-1", "1e4", "1024.0"] {
        refused(&server, &path(&ana.token, &format!("client=phone&max_bytes={value}"))).await;
    }
    assert!(names(&server, &ana).await.is_empty(), "a refused connection makes no reader");
    Reader::with(&server, &ana.token, "client=phone&max_bytes=1024").await;
}

#[tokio::test]
async fn max_bytes_in_the_record_of_a_device_holds_for_its_connections() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, true).await;
    let token = server.device_token(&ana.token, device).await;
    let record = format!("/api/devices/{device}");
    let patch = async |value: Value| {
        server.http("PATCH", &record, Some(&ana.token), Some(&json!({"max_bytes": value}).to_string())).await
    };
    for value in [json!(1023), json!(0), json!(-1), json!("2048"), json!(1024.5)] {
        patch(value).await.expect(400);
    }
    patch(json!(2048)).await.ok();
    assert_eq!(server.get(&record, Some(&ana.token)).await.ok()["data"]["max_bytes"], 2048);
    let made = server.post("/api/devices", &ana.token, json!({"name": "mirror", "max_bytes": 1024})).await;
    assert_eq!(made.expect(201)["data"]["max_bytes"], 1024);

    let to_device = async |message: Value| {
        let sent = server.post(&format!("/api/messages/device/{device}"), &ana.token, json!({"message": message})).await.ok();
        sent["data"]["id"].as_u64().unwrap()
    };
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let for_both = large(&server, &ana, 5000).await;
    let (for_lamp, small) = (to_device(json!("x".repeat(5000))).await, to_device(json!("small")).await);
    let mut lamp = Reader::with(&server, &token, "").await;
    lamp.takes(&server, &ana, &format!("device:{device}"), &[small]).await;
    phone.takes(&server, &ana, "phone", &[for_both]).await;
    let seen = receipt(&server, &ana.token, for_both).await;
    assert_eq!(seen["status"], "acked", "{seen}");
    passed_over(&seen, &format!("device:{device}"));
    assert_eq!(receipt(&server, &ana.token, for_lamp).await["status"], "undeliverable", "the lamp's mailbox has one reader");
    eventually("the small one is received", async || receipt(&server, &ana.token, small).await["status"] == "acked").await;

    patch(Value::Null).await.ok();
    drop(lamp);
    let again = to_device(json!("y".repeat(5000))).await;
    let mut lamp = Reader::with(&server, &token, "").await;
    lamp.takes(&server, &ana, &format!("device:{device}"), &[again]).await;
}
