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

/// The items of a topic, of which none is lost between two looks.
struct Tail {
    console: Client,
    topic: &'static str,
    /// Those that no look has taken yet.
    items: Vec<Value>,
}

impl Tail {
    /// Subscribes to a topic.
    async fn of(server: &Server, token: &str, topic: &'static str, filter: Value) -> Self {
        Self { console: subscribed(server, token, topic, filter).await, topic, items: Vec::new() }
    }

    /// Waits for the first item that is as `wanted` says, and takes it.
    async fn find(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(at) = self.items.iter().position(&wanted) {
                return self.items.remove(at);
            }
            let frame = self.console.json().await;
            assert_eq!(frame["type"], self.topic, "{frame}");
            self.items.extend(frame["items"].as_array().unwrap().iter().cloned());
        }
    }
}
