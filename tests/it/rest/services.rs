//! Service tokens do what the documentation says, and nothing else of an administrator's.

use serde_json::json;

use crate::support::Server;

#[tokio::test]
async fn service_broadcasts_and_looks_names_up() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let (ana, bob) = (server.user("Ana").await, server.user("bob").await);
    let made = server.post("/api/auth/tokens", &admin, json!({"kind": "service"})).await.expect(201);
    let service = made["data"]["token"].as_str().unwrap();

    let found = server.get("/api/users?username=ana", Some(service)).await.ok();
    assert_eq!((&found["data"][0]["id"], &found["data"][0]["username"]), (&json!(ana.id), &json!("Ana")));
    assert_eq!(found["data"].as_array().unwrap().len(), 1);
    assert_eq!(server.get("/api/users?username=nobody", Some(service)).await.ok()["data"], json!([]));
    // No list, no account by its number, no change; and nothing of it for others.
    for query in ["", "?limit=5", "?after=1", "?user=ana"] {
        server.get(&format!("/api/users{query}"), Some(service)).await.expect(403);
    }
    server.get(&format!("/api/users/{}", ana.id), Some(service)).await.expect(403);
    server.post("/api/users", service, json!({"username": "eve", "password": "a-long-password"})).await.expect(403);
    server.get("/api/users?username=bob", Some(&ana.token)).await.expect(403);
    let device = server.device(&ana.token, true).await;
    let of_device = server.device_token(&ana.token, device).await;
    server.get("/api/users?username=bob", Some(&of_device)).await.expect(403);

    let mut clients = [server.connect(&of_device).await, server.connect(&bob.token).await];
    for delivery in ["queued", "live"] {
        let body = json!({"message": delivery, "delivery": delivery});
        let sent = server.post("/api/messages/broadcast", service, body).await.ok();
        assert_eq!(sent["data"]["recipients"], json!(2), "{sent}");
        for client in &mut clients {
            assert_eq!(client.json().await["message"], json!(delivery));
        }
    }
    // To anyone, and to any device.
    server.post(&format!("/api/messages/user/{}", bob.id), service, json!({"message": 1})).await.ok();
    server.post(&format!("/api/messages/device/{device}"), service, json!({"message": 1})).await.ok();
    server.post("/api/messages/broadcast", &ana.token, json!({"message": 1})).await.expect(403);
    server.post("/api/messages/broadcast", &of_device, json!({"message": 1})).await.expect(403);
    server.delete("/api/queue", service).await.expect(403);
}
