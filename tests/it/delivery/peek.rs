//! `peek=1`: an observer gets what its reader would get, and leaves no trace.

use serde_json::json;

use super::clients::{broadcast, send_many};
use super::mailbox::{receipt, send};
use crate::support::raw::Raw;
use crate::support::reader::{names, nobody_connected, path, reader};
use crate::support::{Client, Reader, Server, eventually, roomy, set};

#[tokio::test]
async fn observer_gets_what_its_reader_would_get_and_everything_new() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, true).await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let old = send(&server, &ana, json!("old")).await;
    phone.takes(&server, &ana, "phone", &[old]).await;
    drop(phone);
    let ids = send_many(&server, &ana, 2).await;
    let mut peek = Reader::with(&server, &ana.token, "client=phone&peek=1").await;
    assert_eq!((peek.pending(), &peek.hello["last_id"]), (2, &json!(old)));
    peek.receives(&ids).await;
    let to_device = server.post(&format!("/api/messages/device/{device}"), &ana.token, json!({"message": 1})).await.ok();
    let new =
        [to_device["data"]["id"].as_u64().unwrap(), send(&server, &ana, json!("new")).await, broadcast(&server, json!(1)).await];
    peek.receives(&new).await;
    let live = json!({"message": "live", "delivery": "live"});
    let sent = server.post(&format!("/api/messages/user/{}", ana.id), &ana.token, live).await.ok();
    assert_eq!(sent["data"]["recipients"], 0, "an observer is no recipient");
    assert_eq!(peek.client.json().await["message"], "live");
    // Another observer gets the same again, and the reader itself, too.
    let all = [&ids[..], &new].concat();
    Reader::with(&server, &ana.token, "client=phone&peek=1").await.receives(&all).await;
    Reader::open(&server, &ana.token, "phone").await.takes(&server, &ana, "phone", &all).await;
    assert_eq!(Reader::with(&server, &ana.token, "client=phone&peek=1").await.pending(), 0);
}

#[tokio::test]
async fn observer_proves_nothing_and_moves_nothing() {
    let server = Server::with(roomy()).await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let device = server.device(&ana.token, true).await;
    Reader::open(&server, &ana.token, "phone").await;
    nobody_connected(&server).await;
    let before = reader(&server, &ana, "phone").await;
    let last_seen = server.get(&format!("/api/devices/{device}"), Some(&ana.token)).await.ok()["data"]["last_seen"].clone();
    let id = send(&server, &ana, json!(1)).await;
    for query in ["client=phone&peek=1", "peek=1", "client=ghost&peek=1", "client=phone&peek=1&ack=client"] {
        let mut peek = Reader::with(&server, &ana.token, query).await;
        peek.receives(&[id]).await;
        let sent = server.post(&format!("/api/messages/user/{}", ana.id), &ana.token, json!({"message": 2})).await.ok();
        assert_eq!(sent["data"]["recipients"], 0, "{query}");
        let second = sent["data"]["id"].as_u64().unwrap();
        peek.receives(&[second]).await;
        for _ in 0..3 {
            peek.client.fence().await; // pongs to whatever it was pinged with
        }
        for id in [id, second] {
            let receipt = receipt(&server, &ana.token, id).await;
            assert_eq!((&receipt["status"], &receipt["sent_at"]), (&json!("queued"), &json!(null)), "{query}");
            assert_eq!((&receipt["deliveries"], &receipt["readers"]), (&json!(0), &json!([])), "{query}");
        }
        let online = server.get("/api/users/online", Some(&admin)).await.ok();
        assert_eq!(online["data"], json!([]), "{query}: an observer is not presence");
        let device = server.get(&format!("/api/devices/{device}"), Some(&ana.token)).await.ok()["data"].clone();
        assert_eq!((&device["online"], &device["last_seen"]), (&json!(false), &last_seen), "{query}");
        server.delete(&format!("/api/messages/{second}"), &ana.token).await.ok();
    }
    assert_eq!(names(&server, &ana).await, ["phone"], "it creates no reader");
    let mut after = reader(&server, &ana, "phone").await;
    assert_eq!((&after["waiting"], &after["online"]), (&json!(1), &json!(false)));
    after["waiting"] = before["waiting"].clone();
    assert_eq!(after, before, "neither the cursor nor the time of the last connection has changed");
}

#[tokio::test]
async fn observer_of_unknown_reader_reads_as_a_new_one() {
    let mut config = roomy();
    set(&mut config, "mailbox.readers", 1);
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let early = send_many(&server, &ana, 2).await;
    let mut peek = Reader::with(&server, &ana.token, "client=ghost&peek=1").await;
    peek.receives(&early).await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    phone.takes(&server, &ana, "phone", &early).await;
    drop(phone);
    let late = send_many(&server, &ana, 2).await;
    peek.receives(&late).await;
    // There may be no further reader, but an observer.
    let mut peek = Reader::with(&server, &ana.token, "client=ghost&peek=1").await;
    assert_eq!(peek.pending(), 2);
    peek.receives(&late).await;
    assert_eq!(names(&server, &ana).await, ["phone"]);
}

#[tokio::test]
async fn observer_does_not_change_what_a_reader_has_missed() {
    let mut config = roomy();
    config.mailbox.messages = 5;
    config.history.messages = 0;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    Reader::open(&server, &ana.token, "tablet").await;
    let mut phone = Reader::open(&server, &ana.token, "phone").await;
    let mut all = Vec::new();
    for _ in 0..3 {
        let ids = send_many(&server, &ana, 4).await;
        phone.takes(&server, &ana, "phone", &ids).await;
        all.extend(ids);
    }
    let mut peek = Reader::with(&server, &ana.token, "client=tablet&peek=1").await;
    assert_eq!((peek.missed(), &peek.hello["recovered"]), (7, &json!(false)), "as its reader would be told");
    peek.receives(&all[7..]).await;
    peek.client.fence().await;
    drop(peek);
    let mut tablet = Reader::open(&server, &ana.token, "tablet").await;
    assert_eq!((tablet.missed(), tablet.pending()), (7, 5));
    tablet.takes(&server, &ana, "tablet", &all[7..]).await;
}

#[tokio::test]
async fn observer_counts_towards_the_limit_of_connections() {
    let mut config = roomy();
    config.limits.connections_per_user = 1;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let _peek = Reader::with(&server, &ana.token, "peek=1").await;
    for query in ["", "peek=1"] {
        let event = server.ws(&path(&ana.token, query)).await.disconnected().await;
        assert_eq!(event["code"], 4101, "{event}");
    }
}

#[tokio::test]
async fn observer_may_send_everything_but_acknowledgements() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, false).await;
    let id = send(&server, &ana, json!(1)).await;
    for query in ["peek=1", "peek=1&ack=client"] {
        let mut peek = Reader::with(&server, &ana.token, query).await;
        peek.receives(&[id]).await;
        let answer = peek.client.ask(json!({"type": "chat_message", "message": "hello", "ref": "1"})).await;
        assert_eq!((&answer["type"], &answer["ref"]), (&json!("chat_response"), &json!("1")), "{query}");
        let answer = peek.client.ask(json!({"type": "ack", "message": {"id": id}})).await;
        assert_eq!(answer["code"], "VALIDATION_ERROR", "{query}: {answer}");
        peek.client.say(json!({"type": "dance", "message": {}, "target": {"device_id": device}, "ref": "3"})).await;
        let status = peek.client.json().await;
        assert_eq!((&status["type"], &status["device_id"]), (&json!("delivery_status"), &json!(device)), "{query}: {status}");
    }
    assert_eq!(receipt(&server, &ana.token, id).await["status"], "queued");
}

#[tokio::test]
async fn observer_beside_its_reader_takes_nothing_away() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let mut peek = Reader::with(&server, &ana.token, "peek=1").await;
    let mut client: Client = server.connect(&ana.token).await;
    let sent = server.post(&format!("/api/messages/user/{}", ana.id), &ana.token, json!({"message": 1})).await.ok();
    assert_eq!(sent["data"]["recipients"], 1, "the connection, not its observer");
    let id = sent["data"]["id"].as_u64().unwrap();
    peek.receives(&[id]).await;
    assert_eq!(client.json().await["id"], id);
    drop(client);
    let admin = server.admin().await;
    eventually("only the observer is left", async || {
        server.get("/api/users/online", Some(&admin)).await.ok()["data"] == json!([])
    })
    .await;
    // An observer that takes nothing holds nobody up.
    let (_mute, _) = Raw::open(server.address, &path(&ana.token, "peek=1")).await;
    let ids = send_many(&server, &ana, 3).await;
    let mut phone = Reader::with(&server, &ana.token, "").await;
    if phone.pending() == 4 {
        phone.receives(&[id]).await; // the first was written, and perhaps not proved
    }
    phone.takes(&server, &ana, "default", &ids).await;
    assert_eq!(receipt(&server, &ana.token, ids[2]).await["deliveries"], 1);
}
