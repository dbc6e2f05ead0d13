//! What a console shows: connections, the overview, its history, and the WebSocket of live updates.

mod connections;
mod events;
mod figures;
mod handshake;
mod topics;

use serde_json::{Value, json};

use crate::support::{Client, Server};

/// Opens a console with a token, and receives its first frame.
async fn open(server: &Server, token: &str) -> Client {
    let authorization = format!("Bearer {token}");
    let mut console = server.try_ws("/ws/console/", &[("authorization", &authorization)]).await.unwrap();
    assert_eq!(console.json().await["type"], "hello");
    console
}

/// Opens a console that has subscribed to one topic.
async fn subscribed(server: &Server, token: &str, topic: &str, filter: Value) -> Client {
    let mut console = open(server, token).await;
    let answer = console.ask(json!({"type": "subscribe", "topic": topic, "filter": filter})).await;
    assert_eq!(answer, json!({"type": "subscribed", "topic": topic}));
    console
}

/// Receives items of a topic until one of them is as `wanted` says, and returns it.
async fn item(console: &mut Client, topic: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    loop {
        let frame = console.json().await;
        assert_eq!(frame["type"], topic, "{frame}");
        if let Some(found) = frame["items"].as_array().unwrap().iter().find(|item| wanted(item)) {
            return found.clone();
        }
    }
}
