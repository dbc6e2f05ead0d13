//! The topics `overview` and `connections`.

use std::collections::BTreeMap;

use super::subscribed;
use crate::support::{Client, Server, unlimited};
use serde_json::{Value, json};

/// A list of connections as a console keeps it.
#[derive(Default)]
struct List {
    items: BTreeMap<u64, Value>,
    total: u64,
}

impl List {
    /// Applies the next frame, and returns it.
    async fn follow(&mut self, console: &mut Client) -> Value {
        let frame = console.json().await;
        assert_eq!(frame["type"], "connections", "{frame}");
        if frame["reset"] == true {
            self.items.clear();
        }
        for id in frame["remove"].as_array().unwrap() {
            assert!(self.items.remove(&id.as_u64().unwrap()).is_some(), "only what is listed is removed: {frame}");
        }
        for item in frame["upsert"].as_array().unwrap() {
            self.items.insert(item["id"].as_u64().unwrap(), item.clone());
        }
        self.total = frame["total"].as_u64().unwrap();
        frame
    }

    /// Follows until the list has so many.
    async fn until(&mut self, console: &mut Client, count: usize) {
        while self.items.len() != count || self.total != count as u64 {
            self.follow(console).await;
        }
    }
}

#[tokio::test]
async fn overview_comes_at_once_and_again_when_it_changes() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ana = server.user("ana").await;
    let mut console = subscribed(&server, &admin, "overview", json!({})).await;
    let first = console.json().await;
    assert_eq!(
        (&first["type"], &first["data"]["connections"], &first["data"]["ready"]),
        (&json!("overview"), &json!(0), &json!(true))
    );
    let _phone = server.connect(&ana.token).await;
    let mut data = first["data"].clone();
    while data["connections"] != 1 || data["users_online"] != 1 {
        data = console.json().await["data"].clone();
    }
    let rest = server.get("/api/monitor/overview", Some(&admin)).await.ok()["data"].clone();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&data), keys(&rest), "the same as over REST");
}

#[tokio::test]
async fn connections_are_followed_by_changes_alone() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ana = server.user("ana").await;
    let first = server.connect(&ana.token).await;
    let (mut console, mut list) = (subscribed(&server, &admin, "connections", json!({})).await, List::default());
    let frame = list.follow(&mut console).await;
    assert_eq!((&frame["reset"], list.items.len(), list.total), (&json!(true), 1, 1));
    let item = list.items.values().next().unwrap();
    assert_eq!((&item["username"], &item["client"], &item["lag"]), (&json!("ana"), &json!("default"), &json!(0)));
    let mut more = Vec::new();
    for n in 0..5 {
        more.push(server.ws(&format!("/ws/device/?token={}&client=c{n}", ana.token)).await);
    }
    list.until(&mut console, 6).await;
    drop(first);
    list.until(&mut console, 5).await;
    more.clear();
    list.until(&mut console, 0).await;
    assert_eq!(console.ask(json!({"type": "ping"})).await["type"], "pong", "nothing comes without a change");
}

#[tokio::test]
async fn connections_are_those_of_the_filter_and_for_users_their_own() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let _ana = server.connect(&ana.token).await;
    let _bob = server.connect(&bob.token).await;
    let filter = json!({"user_id": bob.id});
    for (token, filter, names) in [
        (&admin, json!({}), vec!["ana", "bob"]),
        (&admin, filter.clone(), vec!["bob"]),
        (&admin, json!({"address": "10.0.0.0/8"}), vec![]),
        (&bob.token, filter, vec!["bob"]),
        (&ana.token, json!({}), vec!["ana"]),
    ] {
        let (mut console, mut list) = (subscribed(&server, token, "connections", filter.clone()).await, List::default());
        list.follow(&mut console).await;
        let found: Vec<_> = list.items.values().map(|item| item["username"].as_str().unwrap()).collect();
        assert_eq!((found, list.total), (names.clone(), names.len() as u64), "{filter}");
    }
    // Another filter takes the place of the first.
    let mut console = subscribed(&server, &admin, "connections", json!({"user_id": ana.id})).await;
    let mut list = List::default();
    list.follow(&mut console).await;
    console.say(json!({"type": "subscribe", "topic": "connections", "filter": {"user_id": bob.id}})).await;
    assert_eq!(console.json().await["type"], "subscribed");
    let frame = list.follow(&mut console).await;
    assert_eq!((&frame["reset"], &list.items.values().next().unwrap()["username"]), (&json!(true), &json!("bob")));
}

#[tokio::test]
async fn lag_of_a_connection_is_shown_and_ends_when_it_has_caught_up() {
    let mut config = unlimited();
    config.limits.messages_per_minute = 0;
    let server = Server::with(config).await;
    let admin = server.admin().await;
    let ana = server.user("ana").await;
    for n in 0..30 {
        server.post(&format!("/api/messages/user/{}", ana.id), &ana.token, json!({"message": n})).await.ok();
    }
    let (mut console, mut list) = (subscribed(&server, &admin, "connections", json!({})).await, List::default());
    // It acknowledges itself, and so gets everything at once: nothing waits to be written.
    let _client = server.ws(&format!("/ws/device/?token={}&ack=client", ana.token)).await;
    list.until(&mut console, 1).await;
    while list.items.values().next().unwrap()["lag"] != 0 {
        list.follow(&mut console).await;
    }
}
