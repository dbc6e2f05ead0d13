//! Service tokens do what the documentation says, and nothing else of an administrator's.

use serde_json::{Value, json};

use crate::support::{Reader, Server};

/// Creates a service token of the administrator, and returns its secret.
async fn service(server: &Server, options: Value) -> String {
    let mut body = json!({"kind": "service"});
    body.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    let made = server.post("/api/auth/tokens", &server.admin().await, body).await.expect(201);
    made["data"]["token"].as_str().unwrap().to_owned()
}

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

#[tokio::test]
async fn scopes_are_of_services_only_and_named_in_lists() {
    let server = Server::start().await;
    let admin = server.admin().await;
    for (body, message) in [
        (json!({"scopes": ["send"]}), "scopes are for tokens of kind \"service\" only"),
        (json!({"kind": "user", "scopes": []}), "scopes are for tokens of kind \"service\" only"),
        (json!({"kind": "service", "scopes": []}), "scopes must name at least one scope; leave it out for all of them"),
        (json!({"kind": "service", "scopes": ["all"]}), r#"scopes[0] must be "send" or "broadcast" or "read" or "metrics""#),
    ] {
        assert_eq!(server.post("/api/auth/tokens", &admin, body).await.expect(400)["message"], message);
    }
    let device = server.device(&admin, false).await;
    let body = json!({"scopes": ["send"]});
    server.post(&format!("/api/devices/{device}/token"), &admin, body).await.expect(400);
    let secret = service(&server, json!({"scopes": ["metrics", "read", "read"], "label": "limited"})).await;
    let server = server.restart().await;
    let me = server.get("/api/auth/me", Some(&secret)).await.ok();
    assert_eq!(me["data"]["token"]["scopes"], json!(["read", "metrics"]));
    let tokens = server.get("/api/auth/tokens", Some(&admin)).await.ok();
    for token in tokens["data"].as_array().unwrap() {
        assert_eq!(token.get("scopes").is_some(), token["kind"] == "service", "{token}");
    }
    let refused = server.post("/api/messages/user/1", &secret, json!({"message": 1})).await.expect(403);
    assert_eq!(
        (&refused["code"], &refused["message"]),
        (&json!("scope_missing"), &json!("this token lacks the scope \"send\"; create one that has it"))
    );
    assert_eq!(server.get("/metrics", Some(&secret)).await.status, 200);
}

#[tokio::test]
async fn websocket_of_a_service_needs_the_scope_read_and_a_target_the_scope_send() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let device = server.device(&admin, true).await;
    for scopes in [json!(["send"]), json!(["broadcast", "metrics"])] {
        let secret = service(&server, json!({ "scopes": scopes })).await;
        assert_eq!(server.ws(&format!("/ws/device/?token={secret}")).await.disconnected().await["code"], 4001);
        let ticket = server.post("/api/auth/ticket", &secret, json!({})).await.expect(201);
        let path = format!("/ws/device/?ticket={}", ticket["data"]["ticket"].as_str().unwrap());
        assert_eq!(server.ws(&path).await.disconnected().await["code"], 4001, "a ticket gives no more than its token");
    }
    for (scopes, answer) in [(json!(["read"]), "error"), (json!(["read", "send"]), "delivery_status")] {
        let secret = service(&server, json!({ "scopes": scopes })).await;
        let mut client = server.connect(&secret).await;
        let command = json!({"type": "sing", "message": {"song": "s"}, "target": {"device_id": device}, "ref": "r"});
        client.say(command).await;
        // The device's own song comes to this connection, too: it stands for the device.
        let event = loop {
            let event = client.json().await;
            if event["ref"] == "r" {
                break event;
            }
        };
        assert_eq!(event["type"], answer, "{event}");
        if answer == "error" {
            assert_eq!(event["code"], "FORBIDDEN");
            assert!(event["message"].as_str().unwrap().contains("scope \"send\""), "{event}");
        }
    }
}

#[tokio::test]
async fn message_of_a_service_names_its_label_wherever_it_is_read() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let device = server.device(&ana.token, true).await;
    let labelled = service(&server, json!({"label": "home \"1\""})).await;
    let plain = service(&server, json!({})).await;
    let user = format!("/api/messages/user/{}", ana.id);
    let (to_device, to_all) = (format!("/api/messages/device/{device}"), "/api/messages/broadcast".to_owned());
    let guide = json!({"type": "t", "message": "m", "user_id": ana.id});
    // The token, the route, its body, and the fields of the frame.
    let named = json!({"sender": "admin", "via": "home \"1\""});
    let sends = [
        (&labelled, user.clone(), json!({"message": "m"}), named.clone()),
        (&labelled, to_device, json!({"message": "m"}), named.clone()),
        (&labelled, to_all, json!({"message": "m"}), named.clone()),
        (&labelled, "/api/messages".into(), guide.clone(), json!({"via": "home \"1\""})),
        (&plain, user.clone(), json!({"message": "m"}), json!({"sender": "admin"})),
        (&admin, user.clone(), json!({"message": "m"}), json!({"sender": "admin"})),
        (&admin, "/api/messages".into(), guide, json!({})),
    ];
    let fields = |frame: &Value| {
        let own = frame.as_object().unwrap().iter().filter(|(key, _)| ["sender", "via"].contains(&key.as_str()));
        Value::Object(own.map(|(key, value)| (key.clone(), value.clone())).collect())
    };
    for (token, path, body, _) in &sends {
        server.post(path, token, body.clone()).await.ok();
    }
    let server = server.restart().await;
    let expected: Vec<&Value> = sends.iter().map(|(.., fields)| fields).collect();
    for query in ["peek=1", "client=phone"] {
        let mut reader = Reader::with(&server, &ana.token, query).await;
        for expected in &expected {
            assert_eq!(&&fields(&reader.client.json().await), expected, "{query}");
        }
    }
    let history = server.get("/api/messages/history", Some(&ana.token)).await.ok();
    assert_eq!(
        history["data"].as_array().unwrap().iter().map(fields).collect::<Vec<_>>(),
        expected.into_iter().cloned().collect::<Vec<_>>()
    );
    let mut live = Reader::with(&server, &ana.token, "client=phone").await;
    for (token, path, mut body, expected) in sends {
        body["delivery"] = json!("live");
        server.post(&path, token, body).await.ok();
        // Queued messages come again where their proof was cut off.
        let frame = loop {
            let frame = live.client.json().await;
            if frame.get("id").is_none() {
                break frame;
            }
        };
        assert_eq!(fields(&frame), expected, "{path}");
    }
}
