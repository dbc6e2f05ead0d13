//! Pairing: a device shows a code, its owner types it in, and the device fetches a token of its own.

use crate::support::{Answer, Server, unlimited};
use serde_json::{Value, json};

/// A device's request; it has no credential.
async fn pair(server: &Server, body: Value) -> Answer {
    server.http("POST", "/api/devices/pair", None, Some(&body.to_string())).await
}

/// Begins a pairing: the device's secret and the code to show.
async fn begin(server: &Server, about: Value) -> (String, String) {
    let begun = pair(server, about).await.expect(201);
    let text = |key: &str| begun["data"][key].as_str().unwrap().to_owned();
    (text("device_code"), text("code"))
}

async fn poll(server: &Server, device_code: &str) -> Answer {
    pair(server, json!({"device_code": device_code})).await
}

async fn claim(server: &Server, token: &str, code: &str) -> Answer {
    server.post("/api/devices/claim", token, json!({"code": code})).await
}

/// A whole pairing by a user: the device's id and token.
async fn paired(server: &Server, owner: &str, about: Value) -> (u64, String) {
    let (device_code, code) = begin(server, about).await;
    let id = claim(server, owner, &code).await.expect(201)["data"]["id"].as_u64().unwrap();
    let answer = poll(server, &device_code).await.ok();
    assert_eq!((&answer["data"]["state"], &answer["data"]["device"]["id"]), (&json!("paired"), &json!(id)));
    (id, answer["token"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn claimed_pairing_code_gives_device_its_token() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let begun = pair(&server, json!({"name": "lamp", "serial": "S1", "model": "M"})).await.expect(201);
    let (device_code, code) = (begun["data"]["device_code"].as_str().unwrap(), begun["data"]["code"].as_str().unwrap());
    assert_eq!((&begun["data"]["expires_in"], &begun["data"]["interval"]), (&json!(600), &json!(5)));
    assert!(code.len() == 6 && code.bytes().all(|b| b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ".contains(&b)), "{code}");
    assert!(device_code.starts_with("qlp_") && device_code.len() == 47);
    assert_eq!(server.get("/api/devices", Some(&ana.token)).await.ok()["data"], json!([]), "nothing is made before the claim");

    // People type as they like.
    let typed = format!(" {}-{} ", &code[..3].to_lowercase(), &code[3..]);
    let body = json!({"code": typed, "name": "Ana's lamp", "primary": true});
    let device = server.post("/api/devices/claim", &ana.token, body).await.expect(201)["data"].clone();
    let id = device["id"].as_u64().unwrap();
    for (key, value) in [("name", json!("Ana's lamp")), ("serial", json!("S1")), ("model", json!("M")), ("primary", json!(true))]
    {
        assert_eq!(device[key], value, "{key}");
    }
    assert_eq!(device["user_ids"], json!([ana.id]));

    let answer = poll(&server, device_code).await.ok();
    let token = answer["token"].as_str().unwrap();
    assert_eq!((&answer["data"]["token"], &answer["data"]["state"]), (&json!(token), &json!("paired")));
    assert_eq!((&answer["data"]["user_id"], &answer["data"]["device"]["id"]), (&json!(ana.id), &json!(id)));
    assert!(token.starts_with("qlt_"));
    assert_eq!(poll(&server, device_code).await.expect(410)["code"], "pairing_over", "the token is shown once");

    // Its WebSocket, and nothing else.
    let mut client = server.ws(&format!("/ws/device/?token={token}")).await;
    let hello = client.json().await;
    assert_eq!((&hello["user_id"], &hello["device_id"]), (&json!(ana.id.to_string()), &json!(id)));
    server.post(&format!("/api/messages/device/{id}"), &ana.token, json!({"message": "shine"})).await.ok();
    assert_eq!(client.json().await["message"], "shine");
    server.get("/api/auth/me", Some(token)).await.expect(403);
    server.post("/api/devices/claim", token, json!({"code": code})).await.expect(403);
    let tokens = server.get("/api/auth/tokens", Some(&ana.token)).await.ok();
    let own = tokens["data"].as_array().unwrap().iter().find(|t| t["device_id"] == id).unwrap();
    assert_eq!((&own["kind"], &own["label"], &own["expires_at"]), (&json!("device"), &json!("pairing"), &Value::Null));
}

#[tokio::test]
async fn pairing_poll_before_interval_gets_429() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let (device_code, code) = begin(&server, json!({})).await;
    let pending = poll(&server, &device_code).await.ok();
    assert_eq!((&pending["data"]["state"], &pending["data"]["interval"]), (&json!("pending"), &json!(5)));
    assert!((590..=600).contains(&pending["data"]["expires_in"].as_u64().unwrap()));
    let early = poll(&server, &device_code).await;
    let wait: u64 = early.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&wait));
    let early = early.expect(429);
    assert_eq!((&early["code"], &early["retry_after"]), (&json!("too_many_requests"), &json!(wait)));
    // Polling too early costs only the wait, even once the code is claimed.
    claim(&server, &ana.token, &code).await.expect(201);
    poll(&server, &device_code).await.expect(429);
    crate::support::eventually("its turn comes", async || poll(&server, &device_code).await.status == 200).await;
}

#[tokio::test]
async fn repaired_device_keeps_id_and_gets_new_token() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let (id, old) = paired(&server, &ana.token, json!({"name": "lamp", "serial": "S1"})).await;
    let other = server.post(&format!("/api/devices/{id}/token"), &ana.token, json!({"label": "by hand"})).await.expect(201);
    let by_hand = other["data"]["token"].as_str().unwrap();
    let (mut client, mut second) = (server.connect(&old).await, server.connect(by_hand).await);
    let mut app = server.connect(&ana.token).await;

    let (device_code, code) = begin(&server, json!({"name": "lamp", "serial": "S1", "model": "new"})).await;
    claim(&server, &ana.token, &code).await.expect(201);
    client.fence().await; // until the device has its new token, the old one is good
    let answer = poll(&server, &device_code).await.ok();
    assert_eq!(answer["data"]["device"]["id"], id);
    assert_eq!(answer["data"]["device"]["model"], "new");
    for gone in [&mut client, &mut second] {
        assert_eq!(gone.disconnected().await["code"], 4001);
    }
    app.fence().await; // the owner's own log-in has nothing to do with it
    for token in [old.as_str(), by_hand] {
        assert_eq!(server.ws(&format!("/ws/device/?token={token}")).await.disconnected().await["code"], 4001);
    }
    let new = answer["token"].as_str().unwrap();
    assert_eq!(server.ws(&format!("/ws/device/?token={new}")).await.json().await["device_id"], id);
    assert_eq!(server.get("/api/devices", Some(&ana.token)).await.ok()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn claim_with_foreign_serial_is_refused_and_code_stays_open() {
    let server = Server::start().await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    let (id, old) = paired(&server, &ana.token, json!({"serial": "S1"})).await;
    let mut client = server.connect(&old).await;
    let (device_code, code) = begin(&server, json!({"serial": "S1"})).await;
    // More often than wrong codes are allowed: this is not a wrong code.
    for _ in 0..6 {
        assert_eq!(claim(&server, &bob.token, &code).await.expect(409)["code"], "taken");
    }
    client.fence().await;
    assert_eq!(server.get("/api/devices", Some(&bob.token)).await.ok()["data"], json!([]));
    assert_eq!(claim(&server, &ana.token, &code).await.expect(201)["data"]["id"], id);
    poll(&server, &device_code).await.ok();
    assert_eq!(client.disconnected().await["code"], 4001);
}

#[tokio::test]
async fn pairings_go_on_over_a_restart() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let (id, token) = paired(&server, &ana.token, json!({})).await;
    let (open, code) = begin(&server, json!({})).await;
    let (claimed, typed) = begin(&server, json!({})).await;
    claim(&server, &ana.token, &typed).await.expect(201);
    let server = server.restart().await;
    assert_eq!(poll(&server, &open).await.ok()["data"]["state"], "pending");
    let fetched = poll(&server, &claimed).await.ok()["data"]["token"].as_str().unwrap().to_owned();
    server.connect(&fetched).await;
    claim(&server, &ana.token, &code).await.expect(201);
    assert_eq!(server.ws(&format!("/ws/device/?token={token}")).await.json().await["device_id"], id);
    let server = server.restart().await;
    assert_eq!(poll(&server, &claimed).await.expect(410)["code"], "pairing_over", "its token was fetched");
    assert_eq!(poll(&server, &open).await.ok()["data"]["state"], "paired");
    paired(&server, &ana.token, json!({})).await;
}

#[tokio::test]
async fn device_deleted_before_token_is_fetched_ends_pairing() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let (device_code, code) = begin(&server, json!({})).await;
    let id = claim(&server, &ana.token, &code).await.expect(201)["data"]["id"].as_u64().unwrap();
    server.http("DELETE", &format!("/api/devices/{id}"), Some(&ana.token), None).await.ok();
    poll(&server, &device_code).await.expect(410);
    assert_eq!(server.get("/api/auth/tokens", Some(&ana.token)).await.ok()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn pairing_over_token_limit_waits_for_room() {
    let mut config = unlimited();
    config.limits.tokens_per_user = 2;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let spare = server.post("/api/auth/tokens", &ana.token, json!({})).await.expect(201)["data"]["id"].as_u64().unwrap();
    let (device_code, code) = begin(&server, json!({})).await;
    claim(&server, &ana.token, &code).await.expect(201);
    assert_eq!(poll(&server, &device_code).await.expect(409)["code"], "limit_reached");
    server.http("DELETE", &format!("/api/auth/tokens/{spare}"), Some(&ana.token), None).await.ok();
    poll(&server, &device_code).await.ok();
}

#[tokio::test]
async fn malformed_pairing_requests_are_refused_and_not_counted() {
    let mut config = unlimited();
    config.limits.pairings_per_minute = 3;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    for body in [
        json!({"name": ""}),
        json!({"name": "a\nb"}),
        json!({"serial": "x".repeat(101)}),
        json!({"serial": 5}),
        json!({"nam": "x"}),
        json!({"device_code": "qlp_x", "name": "lamp"}),
    ] {
        pair(&server, body).await.expect(400);
    }
    for body in [json!({}), json!({"code": 5}), json!({"code": "ABCDEF", "name": ""}), json!({"code": "ABCDEF", "user": 1})] {
        server.post("/api/devices/claim", &ana.token, body).await.expect(400);
    }
    server.post("/api/devices/claim", &ana.token, json!({"code": "ABCDEF", "user_id": 1})).await.expect(404); // not for others
    for code in ["", "ABCDEF", "ABCDEFG", "\u{0}", "ＡＢＣ"] {
        claim(&server, &ana.token, code).await.expect(404);
    }
    for device_code in ["", "qlp_x", &ana.token] {
        poll(&server, device_code).await.expect(410);
    }
    // Refused requests have not been counted.
    for _ in 0..3 {
        begin(&server, json!({})).await;
    }
    let answer = pair(&server, json!({})).await;
    assert!(answer.headers.contains_key("retry-after"));
    answer.expect(429);
}

#[tokio::test]
async fn admin_claims_pairing_code_for_other_user() {
    let server = Server::start().await;
    let (ana, admin) = (server.user("ana").await, server.admin().await);
    let (device_code, code) = begin(&server, json!({"name": "lamp"})).await;
    let body = json!({"code": code, "user_id": ana.id});
    let device = server.post("/api/devices/claim", &admin, body).await.expect(201)["data"].clone();
    assert_eq!(device["user_ids"], json!([ana.id]));
    assert_eq!(poll(&server, &device_code).await.ok()["data"]["user_id"], json!(ana.id));
}

#[tokio::test]
async fn only_device_of_a_user_is_primary_after_pairing() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let mut app = server.ws(&format!("/ws/device/?token={}", ana.token)).await;
    app.json().await;
    let sing = json!({"type": "sing", "message": {"song": "灯"}, "target": "device"});
    assert_eq!(app.ask(sing.clone()).await["code"], "VALIDATION_ERROR", "there is none yet");
    let claim_as = async |about: Value, primary: Option<bool>| {
        let (device_code, code) = begin(&server, about).await;
        let mut body = json!({"code": code});
        if let Some(primary) = primary {
            body["primary"] = json!(primary);
        }
        let device = server.post("/api/devices/claim", &ana.token, body).await.expect(201)["data"].clone();
        let token = poll(&server, &device_code).await.ok()["token"].as_str().unwrap().to_owned();
        (device["id"].as_u64().unwrap(), device["primary"].as_bool().unwrap(), token)
    };
    let (lamp, primary, token) = claim_as(json!({"serial": "S1"}), None).await;
    assert!(primary);
    // The app that was connected before commands it at once.
    let mut device = server.ws(&format!("/ws/device/?token={token}")).await;
    device.json().await;
    let status = app.ask(sing.clone()).await;
    assert_eq!((&status["type"], &status["device_id"]), (&json!("delivery_status"), &json!(lamp)), "{status}");
    assert_eq!(device.json().await["type"], "sing_response");

    // A second one takes nothing away from the first; paired anew, the first stays what it is.
    assert!(!claim_as(json!({"serial": "S2"}), None).await.1);
    assert_eq!(claim_as(json!({"serial": "S1"}), None).await.0, lamp);
    assert_eq!(server.get("/api/auth/me", Some(&ana.token)).await.ok()["data"]["primary_device_id"], json!(lamp));
    assert!(claim_as(json!({"serial": "S3"}), Some(true)).await.1, "asked for");

    // Who says otherwise gets it otherwise, also for a device that is known.
    let bob = server.user("bob").await;
    let (_, code) = begin(&server, json!({"serial": "B1"})).await;
    let body = json!({"code": code, "primary": false});
    assert_eq!(server.post("/api/devices/claim", &bob.token, body).await.expect(201)["data"]["primary"], json!(false));
    let (_, code) = begin(&server, json!({"serial": "B1"})).await;
    assert_eq!(claim(&server, &bob.token, &code).await.expect(201)["data"]["primary"], json!(true));
    // A device that is created is primary only when that is asked for.
    let eve = server.user("eve").await;
    let made = server.post("/api/devices", &eve.token, json!({"name": "lamp"})).await.expect(201);
    assert_eq!(made["data"]["primary"], json!(false));
}
