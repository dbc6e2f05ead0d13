//! Connections of readers (`client=` in the query), and their list.

use serde_json::Value;
use tokio_tungstenite::tungstenite;

use super::{Client, Server, User, eventually};

/// A connection that answers pings whenever it is used.
pub struct Reader {
    pub client: Client,
    /// The first event.
    pub hello: Value,
}

/// Returns the path of a WebSocket with a token and further parameters.
pub fn path(token: &str, query: &str) -> String {
    format!("/ws/device/?token={token}&{query}")
}

impl Reader {
    /// Connects as the reader `name`.
    pub async fn open(server: &Server, token: &str, name: &str) -> Self {
        Self::with(server, token, &format!("client={name}")).await
    }

    /// Connects with further parameters in the query.
    pub async fn with(server: &Server, token: &str, query: &str) -> Self {
        let mut client = server.ws(&path(token, query)).await;
        let hello = client.json().await;
        assert_eq!(hello["type"], "connection_status", "{hello}");
        Self { client, hello }
    }

    /// Returns the number of messages that are queued for it, by its first event.
    pub fn pending(&self) -> u64 {
        self.hello["pending"].as_u64().unwrap()
    }

    /// Returns the number of messages that gave way for it, by its first event.
    pub fn missed(&self) -> u64 {
        missed(&self.hello)
    }

    /// Expects exactly these messages next, in this order.
    pub async fn receives(&mut self, ids: &[u64]) {
        for id in ids {
            let event = self.client.json().await;
            assert_eq!(event["id"], *id, "{}", event["type"]);
        }
    }

    /// Answers pings until the reader `name` of `user` has proved everything that was sent; nothing else may come.
    pub async fn settles(&mut self, server: &Server, user: &User, name: &str) {
        eventually("everything is proved", async || {
            self.client.fence().await;
            waiting(server, user, name).await == 0
        })
        .await;
    }

    /// [`Reader::receives`], and then [`Reader::settles`].
    pub async fn takes(&mut self, server: &Server, user: &User, name: &str, ids: &[u64]) {
        self.receives(ids).await;
        self.settles(server, user, name).await;
    }
}

/// Returns the number of messages that gave way for a reader, by the first event of its connection.
pub fn missed(hello: &Value) -> u64 {
    assert!(hello["missed"].is_null() || hello["missed"].is_u64(), "{hello}");
    hello["missed"].as_u64().unwrap_or(0)
}

/// Returns a user's readers.
pub async fn readers(server: &Server, user: &User) -> Vec<Value> {
    server.get("/api/clients", Some(&user.token)).await.ok()["data"].as_array().unwrap().clone()
}

/// Returns the names of a user's readers, sorted.
pub async fn names(server: &Server, user: &User) -> Vec<String> {
    let readers = readers(server, user).await;
    let mut names: Vec<_> = readers.iter().map(|reader| reader["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// Returns a user's reader of that name.
pub async fn reader(server: &Server, user: &User, name: &str) -> Value {
    let all = readers(server, user).await;
    all.iter().find(|reader| reader["name"] == name).unwrap_or_else(|| panic!("no {name} in {all:?}")).clone()
}

/// Returns the number of messages that a reader has not received yet.
pub async fn waiting(server: &Server, user: &User, name: &str) -> u64 {
    reader(server, user, name).await["waiting"].as_u64().unwrap()
}

/// Waits until no connection is left, so that the ends of all are accounted for.
pub async fn nobody_connected(server: &Server) {
    let admin = server.admin().await;
    eventually("every connection has ended", async || {
        server.get("/api/monitor/connections", Some(&admin)).await.ok()["data"]["total_connections"] == 0
    })
    .await;
}

/// Opens a WebSocket that must be refused for good: at the handshake, or before the first event of a session.
pub async fn refused(server: &Server, path: &str) {
    match server.try_ws(path, &[]).await {
        Err(tungstenite::Error::Http(response)) => assert!(response.status().is_client_error(), "{path}: {response:?}"),
        Err(error) => panic!("{path}: {error}"),
        Ok(mut client) => {
            let event = client.disconnected().await;
            assert_eq!(event["reconnect"], false, "{path}: {event}");
        }
    }
}
