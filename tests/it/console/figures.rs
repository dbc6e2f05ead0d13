//! The overview, its history, and the online times of devices.

use crate::support::{Server, eventually, roomy, unlimited};
use serde_json::{Value, json};

async fn overview(server: &Server) -> Value {
    let admin = server.admin().await;
    server.get("/api/monitor/overview", Some(&admin)).await.ok()["data"].clone()
}

#[tokio::test]
async fn overview_has_the_figures_of_the_moment() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, false).await;
    let lamp = server.device_token(&ana.token, device).await;
    let _phone = server.connect(&ana.token).await;
    let _lamp = server.connect(&lamp).await;
    let _looker = server.ws(&format!("/ws/device/?token={}&peek=1", server.admin().await)).await;
    let bob = server.user("bob").await;
    server.post(&format!("/api/messages/user/{}", bob.id), &bob.token, json!({"message": "waits"})).await.ok();
    eventually("all is counted", async || {
        let found = overview(&server).await;
        found["connections"] == 3 && found["queue"]["messages"] == 1
    })
    .await;
    let found = overview(&server).await;
    assert_eq!((&found["users_online"], &found["devices_online"]), (&json!(1), &json!(1)), "one that looks on is nobody");
    assert_eq!((&found["queue"]["mailboxes"], found["queue"]["oldest"].is_string()), (&json!(1), true));
    assert_eq!((&found["version"], &found["ready"]), (&json!(env!("CARGO_PKG_VERSION")), &json!(true)));
    assert_eq!((&found["health"]["commit"], &found["health"]["hub"]), (&json!("ok"), &json!("ok")));
    assert_eq!(found["attention"], json!([]), "a fresh server on loopback");
    assert!(found["memory_bytes"].as_u64().unwrap() > 1 << 20 && found["disk"]["store_bytes"].as_u64().unwrap() > 0);
    assert_eq!(found["memory_budget_bytes"], 128 << 20);
}

#[tokio::test]
async fn rates_are_those_of_messages_in_and_out() {
    let server = Server::with(roomy()).await;
    let ana = server.user("ana").await;
    let mut client = server.connect(&ana.token).await;
    eventually("messages are counted", async || {
        for _ in 0..3 {
            client.fence().await;
        }
        server.post(&format!("/api/messages/user/{}", ana.id), &ana.token, json!({"message": 1, "delivery": "live"})).await.ok();
        client.json().await;
        let found = overview(&server).await;
        found["received_per_second"].as_f64().unwrap() > 0.0 && found["sent_per_second"].as_f64().unwrap() > 0.0
    })
    .await;
}

#[tokio::test]
async fn full_disk_needs_attention() {
    let mut config = unlimited();
    config.storage.min_free_bytes = u64::MAX;
    let server = Server::with(config).await;
    let found = overview(&server).await;
    assert_eq!((&found["ready"], &found["health"]["disk_space"]), (&json!(false), &json!("failed")));
    let attention = &found["attention"][0];
    assert_eq!((&attention["code"], &attention["level"]), (&json!("disk_low"), &json!("error")));
    assert!(attention["message"].as_str().unwrap().contains("free"));
}

#[tokio::test]
async fn series_has_columns_of_one_length_and_the_last_hour_is_filled() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ana = server.user("ana").await;
    let _phone = server.connect(&ana.token).await;
    let series = async |range: &str| server.get(&format!("/api/monitor/series{range}"), Some(&admin)).await.ok()["data"].clone();
    for (range, step, count) in [("", 10, 360), ("?range=hour", 10, 360), ("?range=day", 60, 1440)] {
        let found = series(range).await;
        assert_eq!(found["step_seconds"], step);
        for column in [
            "at",
            "connections",
            "received_per_second",
            "sent_per_second",
            "queue_messages",
            "commit_p99_ms",
            "memory_bytes",
            "disk_bytes",
        ] {
            assert_eq!(found[column].as_array().unwrap().len(), count, "{column}");
        }
        let at: Vec<u64> = found["at"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap()).collect();
        assert!(at.windows(2).all(|two| two[1] - two[0] == step) && found["from"].is_string());
    }
    let answer = server.get("/api/monitor/series?range=week", Some(&admin)).await.expect(400);
    assert!(answer["message"].as_str().unwrap().starts_with("range"));
    eventually("a sample is taken", async || series("").await["connections"].as_array().unwrap().contains(&json!(1))).await;
}

#[tokio::test]
async fn presence_of_a_device_is_for_its_users_and_administrators() {
    let server = Server::start().await;
    let (admin, ana, bob) = (server.admin().await, server.user("ana").await, server.user("bob").await);
    let device = server.device(&ana.token, false).await;
    let path = format!("/api/devices/{device}/presence");
    let before = server.get(&path, Some(&ana.token)).await.ok()["data"].clone();
    assert_eq!((&before["slot_seconds"], before["slots"].as_array().unwrap().len()), (&json!(600), 144));
    assert!(before["slots"].as_array().unwrap().iter().all(|slot| slot == 0) && before["from"].is_string());
    let lamp = server.connect(&server.device_token(&ana.token, device).await).await;
    drop(lamp);
    for token in [&ana.token, &admin] {
        let found = server.get(&path, Some(token)).await.ok()["data"].clone();
        assert_eq!(found["slots"][143], 1, "it was there a moment ago");
    }
    server.get(&path, Some(&bob.token)).await.expect(404);
    server.get("/api/devices/999/presence", Some(&admin)).await.expect(404);
}
