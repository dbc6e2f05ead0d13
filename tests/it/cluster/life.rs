//! From one machine to three nodes, and back.

use serde_json::{Value, json};

use super::{Cluster, log_in, outcome};
use crate::support::program::{Running, configure};
use crate::support::{Client, eventually, http};

/// Waits until `GET /readyz` has that status.
async fn ready(node: &Running, status: u16) {
    let answer = async || http::request(node.address, "GET", "/readyz", &[], b"").await.status.as_u16() == status;
    eventually("readiness changes", answer).await;
}

/// Creates a user at a node; returns its id and a token.
async fn create_user(node: &Running, admin: &str, name: &str) -> (u64, String) {
    let body = json!({"username": name, "password": "a good pass phrase"});
    let user = http::post(node.address, "/api/users", admin, body).await.expect(201);
    (user["data"]["id"].as_u64().unwrap(), http::log_in(node.address, name, "a good pass phrase").await)
}

/// Receives the text of a message that was sent to a user.
async fn receive(client: &mut Client) -> String {
    loop {
        let message = client.json().await;
        if let Some(text) = message["message"].as_str().filter(|_| message["id"].is_u64()) {
            return text.to_owned();
        }
    }
}

async fn send(node: &Running, admin: &str, user: u64, text: &str) -> Value {
    http::post(node.address, &format!("/api/messages/user/{user}"), admin, json!({"message": text})).await.ok()
}

#[tokio::test]
async fn one_machine_becomes_three_nodes_and_one_leaves() {
    let Some(cluster) = Cluster::found(1, "").await else { return };
    let (code, said) = cluster.command("a", &["cluster", "found"]).await;
    assert!(code == Some(1) && said.contains("there is a cluster of this name"), "{said}");
    let (a, b, c) = (cluster.start("a").await, cluster.start("b").await, cluster.start("c").await);

    // Accounts, tokens and queued messages are those of all nodes.
    let admin = log_in(&b).await;
    let (ana, token) = create_user(&c, &admin, "ana").await;
    let mut at_b = Client::connect(b.address, &token).await;
    send(&a, &admin, ana, "one").await;
    assert_eq!(receive(&mut at_b).await, "one");
    // A token that is deleted at one node ends its connection at another.
    http::call(c.address, "POST", "/api/auth/logout", &token, "").await.ok();
    assert_eq!(at_b.disconnected().await["code"], 4001);

    // A node that is killed goes on from its copy.
    let token = http::log_in(a.address, "ana", "a good pass phrase").await;
    b.kill().await;
    send(&c, &admin, ana, "two").await;
    let b = cluster.start("b").await;
    let mut at_b = Client::connect(b.address, &token).await;
    assert_eq!(receive(&mut at_b).await, "two");
    send(&a, &admin, ana, "from a").await;
    assert_eq!(receive(&mut at_b).await, "from a");

    let (_, said) = cluster.command("b", &["cluster", "status", "--json"]).await;
    let status: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&status["node"], &status["standing"], &status["agrees"]), (&json!("b"), &json!("fresh"), &json!(true)), "{said}");
    assert_eq!(status["others"].as_array().unwrap().len(), 2, "{said}");
    let (_, said) = cluster.command("c", &["cluster", "status"]).await;
    assert!(said.contains("other nodes") && said.contains("fresh"), "{said}");

    // One leaves: its data is that of one machine.
    drop(at_b);
    a.stop().await;
    let (code, said) = cluster.command("a", &["cluster", "leave", "--yes"]).await;
    assert_eq!(code, Some(0), "{said}");
    let alone = Running::spawn(crate::support::program::program(&alone(&cluster, "a"), &["serve", "--config", "c.toml"])).await;
    let admin_alone = log_in(&alone).await;
    send(&alone, &admin_alone, ana, "alone").await;
    let before = alone_queue(&alone, &admin_alone, ana).await;
    send(&c, &admin, ana, "three").await;
    assert_eq!(alone_queue(&alone, &admin_alone, ana).await, before);
    for node in [alone, b, c] {
        node.stop().await;
    }
}

/// The configuration of one machine for a node's directory.
fn alone(cluster: &Cluster, node: &str) -> std::path::PathBuf {
    let place = cluster.place(node);
    configure(&place, "");
    place
}

async fn alone_queue(node: &Running, admin: &str, user: u64) -> u64 {
    let queue = http::call(node.address, "GET", &format!("/api/queue/user/{user}"), admin, "").await.ok();
    queue["data"]["messages"].as_u64().unwrap()
}

#[tokio::test]
async fn live_messages_and_presence_are_those_of_all_nodes() {
    let Some(cluster) = Cluster::found(1, "").await else { return };
    let (a, b, c) = (cluster.start("a").await, cluster.start("b").await, cluster.start("c").await);
    let admin = log_in(&a).await;
    let (ana, token) = create_user(&a, &admin, "ana").await;
    let device = http::post(a.address, "/api/devices", &token, json!({"name": "lamp"})).await.expect(201);
    let device = device["data"]["id"].as_u64().unwrap();
    let of_device = http::post(b.address, &format!("/api/devices/{device}/token"), &token, json!({})).await.expect(201);
    let of_device = of_device["data"]["token"].as_str().unwrap().to_owned();

    let (mut at_b, mut at_c) = (Client::connect(b.address, &token).await, Client::connect(c.address, &of_device).await);
    let online = async |node: &Running| {
        let users = http::call(node.address, "GET", "/api/users/online", &admin, "").await.ok();
        let device = http::call(node.address, "GET", &format!("/api/devices/{device}"), &token, "").await.ok();
        let user = users["data"].as_array().unwrap().iter().find(|user| user["user_id"] == ana).cloned().unwrap_or_default();
        (user["connections"].as_u64().unwrap_or(0), device["data"]["online"] == true)
    };
    for node in [&a, &b, &c] {
        eventually("everybody is seen at every node", async || online(node).await == (2, true)).await;
    }
    let live = async |node: &Running, path: &str, text: &str| {
        let body = json!({"message": text, "delivery": "live"});
        http::post(node.address, path, &admin, body).await.ok()["data"]["recipients"].as_u64().unwrap()
    };
    assert_eq!(live(&a, &format!("/api/messages/device/{device}"), "to the lamp").await, 1);
    assert_eq!(at_c.json().await["message"], "to the lamp");
    assert_eq!(live(&c, "/api/messages/broadcast", "to all").await, 2);
    for client in [&mut at_b, &mut at_c] {
        assert_eq!(client.json().await["message"], "to all");
        client.fence().await;
    }
    // A node that is killed has no connections any more.
    c.kill().await;
    eventually("its connections are forgotten", async || online(&a).await == (1, false)).await;
    assert_eq!(live(&a, &format!("/api/messages/user/{ana}"), "to ana").await, 1);
    assert_eq!(at_b.json().await["message"], "to ana");
    for node in [a, b] {
        node.stop().await;
    }
}

#[tokio::test]
async fn start_is_refused_where_the_data_or_the_settings_are_others() {
    let Some(cluster) = Cluster::found(1, "").await else { return };
    let place = alone(&cluster, "a");
    let (code, said) = outcome(&place, &["serve"]).await;
    assert!(code == Some(1) && said.contains("this is a copy of a cluster's data"), "{said}");
    let (code, said) = outcome(&place, &["user", "list"]).await;
    assert!(code == Some(1) && said.contains("this is a copy of a cluster's data"), "{said}");
    let (code, said) = outcome(&place, &["check", "--repair"]).await;
    assert!(code == Some(1) && said.contains("this is a copy of a cluster's data"), "{said}");

    let place = cluster.place("a");
    configure(&place, &format!("[mailbox]\nmessages = 7\n{}", cluster.section("a")));
    let (code, said) = outcome(&place, &["serve"]).await;
    assert!(code == Some(1) && said.contains("mailbox.messages is 7 here and 1000 in the cluster"), "{said}");

    // Data of another history.
    let place = alone(&cluster, "d");
    Running::configured(&place, "").await.stop().await;
    let (code, said) = cluster.command("d", &["serve"]).await;
    assert!(code == Some(1) && said.contains("has a history of its own"), "{said}");
    let (code, said) = cluster.command("d", &["cluster", "leave", "--yes"]).await;
    assert!(code == Some(1) && said.contains("nothing to leave"), "{said}");
}

#[tokio::test]
async fn node_without_its_log_serves_nobody_until_it_is_back() {
    let Some(mut cluster) = Cluster::found(1, "stale_seconds = 5\n").await else { return };
    let node = cluster.start("a").await;
    let admin = log_in(&node).await;
    let mut client = Client::connect(node.address, &admin).await;
    ready(&node, 200).await;
    cluster.engine.kill(0).await;
    ready(&node, 503).await;
    assert_eq!(client.closed().await, 1001);
    let refused = http::call(node.address, "GET", "/api/auth/me", &admin, "").await;
    assert_eq!(refused.expect(503)["code"], "busy");
    let health = http::request(node.address, "GET", "/healthz", &[], b"").await;
    assert_eq!(health.status.as_u16(), 200, "a restart would not help");
    cluster.engine.run(0);
    ready(&node, 200).await;
    let mut client = Client::connect(node.address, &admin).await;
    client.fence().await;
    node.stop().await;
}
