//! The times of last use of devices and tokens: right at once, not only when they have been written.

use serde_json::{Value, json};

use crate::support::{Server, User, eventually};

/// The device as its user sees it.
async fn device(server: &Server, user: &User, id: u64) -> Value {
    server.get(&format!("/api/devices/{id}"), Some(&user.token)).await.ok()["data"].clone()
}

/// The device once nobody is connected as it.
async fn offline(server: &Server, user: &User, id: u64) -> Value {
    eventually("the device is offline", async || device(server, user, id).await["online"] == json!(false)).await;
    device(server, user, id).await
}

/// The time on the server's clock: that of an answer to a ping.
async fn now(server: &Server, user: &User) -> String {
    let mut client = server.ws(&format!("/ws/device/?token={}&peek=1", user.token)).await;
    client.json().await["timestamp"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn device_was_seen_until_its_connection_ended() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    for primary in [false, true] {
        let id = server.device(&ana.token, primary).await;
        assert_eq!(device(&server, &ana, id).await["last_seen"], json!(null));
        // By its own token, and, where it has none, by its user's.
        let token = if primary { ana.token.clone() } else { server.device_token(&ana.token, id).await };
        for _ in 0..3 {
            let before = now(&server, &ana).await;
            let client = server.connect(&token).await;
            assert_eq!(device(&server, &ana, id).await["online"], json!(true));
            drop(client);
            let seen = offline(&server, &ana, id).await["last_seen"].as_str().unwrap().to_owned();
            let after = now(&server, &ana).await;
            assert!(before <= seen && seen <= after, "{before} <= {seen} <= {after}");
        }
    }
}

#[tokio::test]
async fn device_that_only_calls_the_rest_api_is_seen() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let id = server.device(&ana.token, false).await;
    let token = server.device_token(&ana.token, id).await;
    let before = now(&server, &ana).await;
    let report = json!({"temp": 20, "text": "晴"}).to_string();
    server.http("PUT", "/api/weather/北京", Some(&token), Some(&report)).await.ok();
    let seen = device(&server, &ana, id).await;
    assert_eq!(seen["online"], json!(false));
    assert!(seen["last_seen"].as_str().unwrap() >= before.as_str(), "{seen}");
}

#[tokio::test]
async fn app_of_a_user_is_not_the_device_with_a_token_of_its_own() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let id = server.device(&ana.token, true).await;
    server.device_token(&ana.token, id).await;
    let mut app = server.ws(&format!("/ws/device/?token={}", ana.token)).await;
    assert_eq!(app.json().await["device_id"], json!(id));
    app.ask(json!({"type": "ping"})).await;
    drop(app);
    eventually("nobody is connected", async || {
        let admin = server.admin().await;
        server.get("/api/monitor/connections", Some(&admin)).await.ok()["data"]["total_connections"] == json!(0)
    })
    .await;
    assert_eq!(device(&server, &ana, id).await["last_seen"], json!(null));
}

#[tokio::test]
async fn token_was_used_just_now() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let made = server.post("/api/auth/tokens", &ana.token, json!({"label": "script"})).await.expect(201)["data"].clone();
    let token = made["token"].as_str().unwrap();
    let used = async || {
        let tokens = server.get("/api/auth/tokens", Some(&ana.token)).await.ok()["data"].clone();
        tokens.as_array().unwrap().iter().find(|token| token["id"] == made["id"]).unwrap()["last_used_at"].clone()
    };
    assert_eq!(used().await, json!(null));
    let before = now(&server, &ana).await;
    let me = server.get("/api/auth/me", Some(token)).await.ok();
    let first = used().await.as_str().unwrap().to_owned();
    assert!(first >= before && me["data"]["token"]["last_used_at"].as_str().unwrap() >= before.as_str(), "{first} {me}");
    server.connect(token).await;
    assert!(used().await.as_str().unwrap() > first.as_str());
}
