//! The REST API, resource by resource.

use crate::support::{ADMIN_PASSWORD, Server, User, unlimited};
use serde_json::{Value, json};

#[tokio::test]
async fn log_in_returns_token_that_logout_revokes() {
    let server = Server::start().await;
    let ana = server.user("Ana").await;
    for path in ["/api/auth/login", "/api/auth/login/", "/api/auth/token/"] {
        let body = json!({"username": "aNA", "password": ana.password}).to_string();
        let answer = server.http("POST", path, None, Some(&body)).await.ok();
        let token = answer["token"].as_str().unwrap();
        assert_eq!(answer["data"]["token"], token);
        assert_eq!(answer["data"]["user"], json!({"id": ana.id, "username": "Ana", "role": "user"}));
        assert!(token.starts_with("qlt_"));
        let me = server.get("/api/auth/me", Some(token)).await.ok();
        assert_eq!((&me["data"]["username"], &me["data"]["primary_device_id"]), (&json!("Ana"), &Value::Null));
        server.post("/api/auth/logout", token, json!({})).await.ok();
        server.get("/api/auth/me", Some(token)).await.expect(401);
    }
    let wrong = server.login("ana", "wrong").await.expect(401);
    let unknown = server.login("nobody", "wrong").await.expect(401);
    assert_eq!(wrong, unknown, "an unknown name looks like a wrong password");
    for body in [
        "",
        "{",
        "[]",
        "null",
        "{}",
        r#"{"username":"ana"}"#,
        r#"{"username":"","password":""}"#,
        r#"{"username":5,"password":"x"}"#,
    ] {
        server.http("POST", "/api/auth/login", None, Some(body)).await.expect(400);
    }
    let form = [("content-type", "application/x-www-form-urlencoded")];
    server.raw_http("POST", "/api/auth/login", &form, b"username=ana").await.expect(415);
    let named = server.http("POST", "/api/auth/login", None, Some(r#"{"username":5,"password":"x"}"#)).await;
    assert_eq!(named.json["message"], "username must be a string");
}

#[tokio::test]
async fn password_change_revokes_tokens_and_closes_connections() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut client = server.connect(&ana.token).await;
    let change = |old: &str, new: &str| json!({"current_password": old, "new_password": new}).to_string();
    let put = async |body: String| server.http("PUT", "/api/auth/password", Some(&ana.token), Some(&body)).await;
    put(change("wrong", "another-password")).await.expect(401);
    put(change(&ana.password, "short")).await.expect(400);
    client.fence().await;
    let answer = put(change(&ana.password, "another-password")).await.ok();
    assert_eq!(client.disconnected().await["code"], 4001);
    server.get("/api/auth/me", Some(&ana.token)).await.expect(401);
    server.get("/api/auth/me", answer["token"].as_str()).await.ok();
    server.login("ana", &ana.password).await.expect(401);
    server.login("ana", "another-password").await.ok();
}

#[tokio::test]
async fn token_secret_is_shown_once_and_revoked_at_once() {
    let server = Server::start().await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let made = server.post("/api/auth/tokens", &ana.token, json!({"label": "script", "expires_in": 3600})).await.expect(201);
    let (id, secret) = (made["data"]["id"].as_u64().unwrap(), made["data"]["token"].as_str().unwrap().to_owned());
    assert_eq!((&made["data"]["kind"], &made["data"]["label"]), (&json!("user"), &json!("script")));
    assert!(made["data"]["expires_at"].is_string());
    let list = server.get("/api/auth/tokens?limit=1", Some(&ana.token)).await;
    assert!(!list.text.contains(&secret[4..]));
    let list = list.ok();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    let next = server.get(&format!("/api/auth/tokens?after={}", list["next"]), Some(&ana.token)).await.ok();
    assert_eq!(next["data"][0]["id"], id);
    assert_eq!(next["next"], Value::Null);

    let mut client = server.connect(&secret).await;
    let path = format!("/api/auth/tokens/{id}");
    server.http("DELETE", &path, Some(&bob.token), None).await.expect(404);
    client.fence().await;
    server.http("DELETE", &path, Some(&ana.token), None).await.ok();
    assert_eq!(client.disconnected().await["code"], 4001);
    server.get("/api/auth/me", Some(&secret)).await.expect(401);
    server.http("DELETE", &path, Some(&ana.token), None).await.expect(404);

    server.post("/api/auth/tokens", &ana.token, json!({"kind": "service"})).await.expect(403);
    for body in [
        json!({"kind": "device"}),
        json!({"kind": "x"}),
        json!({"label": "a\nb"}),
        json!({"expires_in": 0}),
        json!({"lable": "x"}),
    ] {
        server.post("/api/auth/tokens", &ana.token, body).await.expect(400);
    }
}

#[tokio::test]
async fn administrator_lists_and_revokes_tokens_of_others() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let made = server.post("/api/auth/tokens", &ana.token, json!({"label": "lost phone"})).await.expect(201);
    let (id, secret) = (made["data"]["id"].clone(), made["data"]["token"].as_str().unwrap().to_owned());
    let path = format!("/api/auth/tokens?user_id={}", ana.id);
    let list = server.get(&format!("{path}&limit=1"), Some(&admin)).await;
    assert!(!list.text.contains(&secret[4..]));
    let next = server.get(&format!("{path}&after={}", list.ok()["next"]), Some(&admin)).await.ok();
    assert_eq!((&next["data"][0]["id"], &next["data"][0]["label"]), (&id, &json!("lost phone")));
    assert_eq!(server.get("/api/auth/tokens?user_id=x", Some(&admin)).await.expect(400)["message"], "user_id must be an id");
    server.get("/api/auth/tokens?user_id=999", Some(&admin)).await.expect(404);

    let mut client = server.connect(&secret).await;
    let path = format!("/api/auth/tokens/{id}");
    server.delete(&path, &admin).await.ok();
    assert_eq!(client.disconnected().await["code"], 4001);
    server.get("/api/auth/me", Some(&secret)).await.expect(401);
    server.delete(&path, &admin).await.expect(404);
}

#[tokio::test]
async fn expired_token_gets_401() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let made = server.post("/api/auth/tokens", &ana.token, json!({"expires_in": 1})).await.expect(201);
    let secret = made["data"]["token"].as_str().unwrap().to_owned();
    crate::support::eventually("the token expires", async || server.get("/api/auth/me", Some(&secret)).await.status == 401).await;
}

#[tokio::test]
async fn service_token_of_demoted_admin_gets_401() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let User { id, token, .. } = server.account("second", "admin").await;
    let made = server.post("/api/auth/tokens", &token, json!({"kind": "service"})).await.expect(201);
    let service = made["data"]["token"].as_str().unwrap();
    server.post("/api/messages/user/1", service, json!({"message": "m"})).await.ok();
    server.http("PATCH", &format!("/api/users/{id}"), Some(&admin), Some(r#"{"role":"user"}"#)).await.ok();
    server.post("/api/messages/user/1", service, json!({"message": "m"})).await.expect(401);
}

#[tokio::test]
async fn log_in_over_token_limit_revokes_oldest() {
    let mut config = unlimited();
    config.limits.tokens_per_user = 2;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let mut client = server.connect(&ana.token).await;
    server.login("ana", &ana.password).await.ok();
    client.fence().await;
    server.login("ana", &ana.password).await.ok();
    assert_eq!(client.disconnected().await["code"], 4001);
}

#[tokio::test]
async fn registration_is_refused_unless_open() {
    let body = json!({"username": "new", "password": "new-password"}).to_string();
    let server = Server::start().await;
    assert_eq!(server.http("POST", "/api/auth/register", None, Some(&body)).await.expect(403)["code"], "registration_closed");
    let mut config = unlimited();
    config.auth = toml::from_str("registration = \"open\"").unwrap();
    let server = Server::with(config).await;
    let answer = server.http("POST", "/api/auth/register", None, Some(&body)).await.expect(201);
    assert_eq!(answer["data"]["user"]["role"], "user");
    server.get("/api/auth/me", answer["token"].as_str()).await.ok();
    assert_eq!(server.http("POST", "/api/auth/register", None, Some(&body)).await.expect(409)["code"], "taken");
}

#[tokio::test]
async fn users_are_created_changed_disabled_and_deleted() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let made = server.post("/api/users", &admin, json!({"username": "ana", "password": "ana-password"})).await.expect(201);
    let id = made["data"]["id"].as_u64().unwrap();
    assert_eq!((&made["data"]["role"], &made["data"]["disabled"]), (&json!("user"), &json!(false)));
    let path = format!("/api/users/{id}");
    let text = server.get(&path, Some(&admin)).await.text;
    assert!(!text.contains("argon2"), "{text}");
    assert_eq!(
        server.post("/api/users", &admin, json!({"username": "ANA", "password": "ana-password"})).await.expect(409)["code"],
        "taken"
    );
    for body in [
        json!({"username": "x"}),
        json!({"username": "x", "password": "short"}),
        json!({"username": "x", "password": "p".repeat(129)}),
        json!({"username": "", "password": "long-enough"}),
        json!({"username": " x", "password": "long-enough"}),
        json!({"username": "a\u{0}b", "password": "long-enough"}),
        json!({"username": "x", "password": "long-enough", "role": "root"}),
        json!({"username": "x", "password": "long-enough", "rol": "admin"}),
    ] {
        server.post("/api/users", &admin, body).await.expect(400);
    }

    let token = server.login("ana", "ana-password").await.ok()["token"].as_str().unwrap().to_owned();
    let mut client = server.connect(&token).await;
    let patch = async |body: Value| server.http("PATCH", &path, Some(&admin), Some(&body.to_string())).await;
    assert_eq!(patch(json!({"disabled": true})).await.ok()["data"]["disabled"], true);
    assert_eq!(client.disconnected().await["code"], 4001);
    server.login("ana", "ana-password").await.expect(401);
    patch(json!({"disabled": false})).await.ok();
    server.get("/api/auth/me", Some(&token)).await.ok();
    patch(json!({"password": "new-password"})).await.ok();
    server.get("/api/auth/me", Some(&token)).await.expect(401);
    server.login("ana", "new-password").await.ok();

    let first = json!({"disabled": true}).to_string();
    assert_eq!(server.http("PATCH", "/api/users/1", Some(&admin), Some(&first)).await.expect(409)["code"], "last_admin");
    assert_eq!(server.http("DELETE", "/api/users/1", Some(&admin), None).await.expect(409)["code"], "last_admin");
    server.http("DELETE", &path, Some(&admin), None).await.ok();
    server.get(&path, Some(&admin)).await.expect(404);
    server.http("DELETE", &path, Some(&admin), None).await.expect(404);
    server.login("ana", "new-password").await.expect(401);
}

#[tokio::test]
async fn lists_are_paged_by_after_and_limit() {
    let server = Server::start().await;
    let admin = server.admin().await;
    for n in 0..4 {
        let body = json!({"username": format!("user{n}"), "password": "long-enough"});
        server.post("/api/users", &admin, body).await.expect(201);
    }
    let (mut ids, mut after) = (Vec::new(), json!(0));
    while !after.is_null() {
        let page = server.get(&format!("/api/users?limit=2&after={after}"), Some(&admin)).await.ok();
        ids.extend(page["data"].as_array().unwrap().iter().map(|u| u["id"].as_u64().unwrap()));
        after = page["next"].clone();
    }
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    for query in ["limit=0", "limit=1001", "limit=x", "after=x", "after=-1"] {
        server.get(&format!("/api/users?{query}"), Some(&admin)).await.expect(400);
    }
}

#[tokio::test]
async fn devices_are_hidden_from_users_without_them() {
    let server = Server::start().await;
    let (admin, ana, bob) = (server.admin().await, server.user("ana").await, server.user("bob").await);
    let body = json!({"name": "lamp", "serial": "S1", "model": "M", "primary": false});
    let made = server.post("/api/devices", &ana.token, body.clone()).await.expect(201);
    let id = made["data"]["id"].as_u64().unwrap();
    let shape =
        json!({"id": id, "name": "lamp", "serial": "S1", "model": "M", "primary": false, "online": false, "last_seen": null});
    for (key, value) in shape.as_object().unwrap() {
        assert_eq!(&made["data"][key], value, "{key}");
    }
    assert_eq!(server.post("/api/devices", &bob.token, body).await.expect(409)["code"], "taken");
    let path = format!("/api/devices/{id}");

    // For users without it the device does not exist, whatever they try.
    for (method, sub, body) in [
        ("GET", "", None),
        ("PATCH", "", Some(json!({"name": "mine"}))),
        ("DELETE", "", None),
        ("PUT", "/primary", Some(json!({}))),
        ("POST", "/token", Some(json!({}))),
    ] {
        let body = body.map(|b| b.to_string());
        server.http(method, &format!("{path}{sub}"), Some(&bob.token), body.as_deref()).await.expect(404);
    }
    server.post("/api/devices", &bob.token, json!({"name": "x", "user_id": ana.id})).await.expect(404);
    let put = json!({"user_id": bob.id}).to_string();
    server.http("PUT", &format!("{path}/primary"), Some(&ana.token), Some(&put)).await.expect(404);
    server.get(&format!("/api/devices?user_id={}", ana.id), Some(&bob.token)).await.expect(404);
    assert_eq!(server.get("/api/devices", Some(&bob.token)).await.ok()["data"], json!([]));

    assert_eq!(server.http("PUT", &format!("{path}/primary"), Some(&ana.token), None).await.ok()["data"]["primary"], true);
    let mut client = server.ws(&format!("/ws/device/?token={}", ana.token)).await;
    assert_eq!(client.json().await["device_id"], id);
    let seen = server.get(&path, Some(&ana.token)).await.ok();
    assert_eq!(seen["data"]["online"], true);
    assert!(seen["data"]["last_seen"].is_string());
    assert_eq!(server.get(&format!("/api/devices?user_id={}", ana.id), Some(&admin)).await.ok()["data"][0]["primary"], true);

    let share = json!({"user_ids": [ana.id, bob.id]}).to_string();
    server.http("PATCH", &path, Some(&ana.token), Some(&share)).await.expect(403);
    let shared = server.http("PATCH", &path, Some(&admin), Some(&share)).await.ok();
    assert_eq!(shared["data"]["user_ids"], json!([ana.id, bob.id]));
    server.get(&path, Some(&bob.token)).await.ok();
    // Ana unbinds it: her connection, which acted as the device, is asked to reconnect; Bob keeps it.
    server.http("DELETE", &path, Some(&ana.token), None).await.ok();
    assert_eq!(client.closed().await, 1001);
    server.get(&path, Some(&ana.token)).await.expect(404);
    let patch = json!({"name": "new", "serial": null, "model": "N"}).to_string();
    let changed = server.http("PATCH", &path, Some(&bob.token), Some(&patch)).await.ok();
    assert_eq!((&changed["data"]["name"], &changed["data"]["serial"]), (&json!("new"), &Value::Null));
    for body in [json!({"name": ""}), json!({"nam": "x"}), json!({"name": 5}), json!({"serial": "\u{7}"})] {
        server.http("PATCH", &path, Some(&bob.token), Some(&body.to_string())).await.expect(400);
    }
    server.http("DELETE", &path, Some(&bob.token), None).await.ok();
    server.get(&path, Some(&admin)).await.expect(404);
}

#[tokio::test]
async fn device_token_opens_only_websocket() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let device = server.device(&ana.token, false).await;
    // An administrator provisions it for its owner.
    let made = server.post(&format!("/api/devices/{device}/token"), &admin, json!({"label": "flash"})).await.expect(201);
    assert_eq!((&made["data"]["kind"], &made["data"]["device_id"]), (&json!("device"), &json!(device)));
    let token = made["data"]["token"].as_str().unwrap().to_owned();
    server.get("/api/auth/me", Some(&token)).await.expect(403);
    server.post("/api/messages/", &token, json!({"type": "t", "message": "m", "user_id": ana.id})).await.expect(403);
    let mut client = server.ws(&format!("/ws/device/token/{token}/")).await;
    let hello = client.json().await;
    assert_eq!((&hello["user_id"], &hello["device_id"]), (&json!(ana.id.to_string()), &json!(device)));
    server.http("DELETE", &format!("/api/devices/{device}"), Some(&ana.token), None).await.ok();
    assert_eq!(client.disconnected().await["code"], 4001);
}

#[tokio::test]
async fn online_users_are_listed_with_connections() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    assert_eq!(server.get("/api/users/online", Some(&admin)).await.ok()["data"], json!([]));
    let (_a, b) = (server.connect(&ana.token).await, server.connect(&ana.token).await);
    let online = server.get("/api/users/online", Some(&admin)).await.ok();
    let entry = &online["data"][0];
    assert_eq!((&entry["user_id"], &entry["username"], &entry["connections"]), (&json!(ana.id), &json!("ana"), &json!(2)));
    assert!(entry["last_activity"].is_string() && entry["connected_since"].is_string());
    let stats = server.get("/api/monitor/connections?limit=1", Some(&admin)).await.ok();
    assert_eq!(stats["data"]["total_connections"], 2);
    assert_eq!(stats["data"]["connections"][0]["address"], "127.0.0.1");
    assert!(stats["data"]["next"].is_u64());
    drop(b);
    crate::support::eventually("one is left", async || {
        server.get("/api/users/online", Some(&admin)).await.ok()["data"][0]["connections"] == 1
    })
    .await;
}

#[tokio::test]
async fn accounts_devices_and_tokens_survive_restart() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, true).await;
    let mut client = server.ws(&format!("/ws/device/?token={}", ana.token)).await;
    let epoch = client.json().await["epoch"].clone();
    let server = server.restart().await;
    let hello = server.ws(&format!("/ws/device/?token={}", ana.token)).await.json().await;
    assert_eq!((&hello["epoch"], &hello["device_id"]), (&epoch, &json!(device)));
    let seen = server.get(&format!("/api/devices/{device}"), Some(&ana.token)).await.ok();
    assert!(seen["data"]["last_seen"].is_string());
    let tokens = server.get("/api/auth/tokens", Some(&ana.token)).await.ok();
    assert!(tokens["data"][0]["last_used_at"].is_string());
    server.login("admin", ADMIN_PASSWORD).await.ok();
}

#[tokio::test]
async fn body_over_limit_gets_413() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let big = format!(r#"{{"message":"{}"}}"#, "x".repeat(262_144));
    assert_eq!(server.http("POST", "/api/messages/user/1", Some(&admin), Some(&big)).await.expect(413)["code"], "too_large");
    let fits = format!(r#"{{"message":"{}"}}"#, "x".repeat(262_144 - 14));
    server.http("POST", "/api/messages/user/1", Some(&admin), Some(&fits)).await.ok();
}
