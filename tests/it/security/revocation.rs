//! Attacks on rights: foreign pages, secrets in places where others read, rights that linger, other people's things,
//! administrators' routes, and text that wants to be more than text.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::ownership::for_administrators;
use crate::support::api::routes;
use crate::support::http::Browser;
use crate::support::{Client, DEADLINE, Server, User};
use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Pages of others, however near they look.
const FOREIGN: [&str; 6] =
    ["https://evil.example", "null", "", "http://127.0.0.1.evil.example", "file://", "http://evil.example@127.0.0.1"];

#[tokio::test]
async fn a08_foreign_page_with_cookie_gets_403() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let (browser, _) = Browser::log_in(&server, "ana", &ana.password).await;
    let own = format!("http://{}", server.address);
    for (method, path, body, good) in [("GET", "/api/auth/me", "", 200), ("POST", "/api/devices", r#"{"name":"lamp"}"#, 201)] {
        let call = async |origins: &[&str]| {
            let mut headers = vec![("x-csrf-token", browser.csrf.as_str())];
            headers.extend(origins.iter().map(|origin| ("origin", *origin)));
            browser.call(&server, method, path, &headers, body).await
        };
        // A page on another port of this machine is another page: it may open the WebSocket, but not with our cookie.
        for origin in FOREIGN.into_iter().chain(["http://localhost:5173", "http://127.0.0.1", "http://evil.example"]) {
            assert_eq!(call(&[origin]).await.expect(403)["code"], "foreign_origin", "{method} {origin}");
            assert_eq!(call(&[&own, origin]).await.expect(403)["code"], "foreign_origin", "{method} own and {origin}");
        }
        call(&[&own]).await.expect(good);
    }
    assert_eq!(server.get("/api/devices", Some(&ana.token)).await.ok()["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a08_foreign_page_opens_no_websocket() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let (browser, _) = Browser::log_in(&server, "ana", &ana.password).await;
    let made = server.post("/api/auth/ticket", &ana.token, json!({})).await.expect(201);
    let ticket = format!("/ws/device/?ticket={}", made["data"]["ticket"].as_str().unwrap());
    let token = format!("/ws/device/?token={}", ana.token);
    for origin in FOREIGN {
        for path in ["/ws/device/", &token, &ticket, "/ws/device/?token=wrong"] {
            match server.try_ws(path, &[("cookie", &browser.cookie), ("origin", origin)]).await {
                Err(Error::Http(answer)) => {
                    let body: Value = serde_json::from_slice(answer.body().as_deref().unwrap_or_default()).unwrap();
                    assert_eq!((answer.status().as_u16(), &body["code"]), (403, &json!("foreign_origin")), "{origin} {path}");
                }
                Err(other) => panic!("{origin} {path}: {other}"),
                Ok(_) => panic!("{origin} {path}: let in"),
            }
        }
    }
    // Not even our own page gets in by its cookie. And the ticket has not been used up by those who were turned away.
    let own = format!("http://{}", server.address);
    let mut client = server.try_ws("/ws/device/", &[("cookie", &browser.cookie), ("origin", &own)]).await.unwrap();
    assert_eq!(client.disconnected().await["code"], 4001);
    let mut client = server.try_ws(&ticket, &[("origin", &own)]).await.unwrap();
    assert_eq!(client.json().await["type"], "connection_status");
}

/// Expects that `client` is closed with 4001 and nothing else.
async fn cut_off(what: &str, client: &mut Client) {
    let _ = client.stream.send(Message::text(r#"{"type":"ping"}"#)).await; // nobody answers any more
    let mut seen = Vec::new();
    let rest = async {
        while let Some(Ok(message)) = client.stream.next().await {
            match message {
                Message::Text(text) => seen.push(text.to_string()),
                Message::Close(frame) => return frame.map_or(0, |frame| u16::from(frame.code)),
                _ => {}
            }
        }
        0
    };
    let code = timeout(DEADLINE, rest).await.unwrap_or_else(|_| panic!("{what}: still open"));
    assert_eq!(code, 4001, "{what}: {seen:?}");
    assert_eq!(seen.len(), 1, "{what}: {seen:?}");
    assert!(seen[0].contains(r#""type":"disconnect","code":4001"#), "{what}: {seen:?}");
}

/// The calls that revoke a right, with placeholders for the ids of the token and the user.
const ENDS: &[(&str, &str, &str, &str, &str)] = &[
    ("revoked", "own", "DELETE", "/api/auth/tokens/{token}", ""),
    ("logged out", "own", "POST", "/api/auth/logout", "{}"),
    (
        "password changed",
        "own",
        "PUT",
        "/api/auth/password",
        r#"{"current_password":"{password}","new_password":"another-password"}"#,
    ),
    ("password reset", "admin", "PATCH", "/api/users/{user}", r#"{"password":"another-password"}"#),
    ("disabled", "admin", "PATCH", "/api/users/{user}", r#"{"disabled":true}"#),
    ("deleted", "admin", "DELETE", "/api/users/{user}", ""),
];

#[tokio::test]
async fn a13_connections_are_closed_when_right_is_lost() {
    let server = Server::start().await;
    let (admin, eve) = (server.admin().await, server.user("eve").await);
    let mut bystander = server.connect(&eve.token).await;
    for (n, (what, by, method, path, body)) in ENDS.iter().enumerate() {
        let user = server.user(&format!("user{n}")).await;
        let token = server.get("/api/auth/me", Some(&user.token)).await.ok()["data"]["token"]["id"].to_string();
        let mut clients = [server.connect(&user.token).await, server.connect(&user.token).await];
        let fill =
            |s: &str| s.replace("{token}", &token).replace("{user}", &user.id.to_string()).replace("{password}", &user.password);
        let by = if *by == "own" { &user.token } else { &admin };
        let (path, body) = (fill(path), fill(body));
        server.http(method, &path, Some(by), (!body.is_empty()).then_some(body.as_str())).await.ok();
        for delivery in ["live", "queued"] {
            let after = json!({"message": "after", "delivery": delivery});
            server.post("/api/messages/broadcast", &admin, after.clone()).await.ok();
            let sent = server.post(&format!("/api/messages/user/{}", user.id), &admin, after).await;
            assert_eq!(sent.status == 404, *what == "deleted", "{}", sent.text);
            assert_eq!(bystander.json().await["message"], "after", "it was sent indeed");
        }
        for client in &mut clients {
            cut_off(what, client).await;
        }
        server.get("/api/auth/me", Some(&user.token)).await.expect(401);
        assert_eq!(server.ws(&format!("/ws/device/?token={}", user.token)).await.disconnected().await["code"], 4001, "{what}");
    }
    bystander.fence().await;
}

#[tokio::test]
async fn a13_messages_sent_after_revocation_never_arrive() {
    let server = Server::start().await;
    let (admin, ana) = (server.admin().await, server.user("ana").await);
    let made = server.post("/api/auth/tokens", &ana.token, json!({})).await.expect(201);
    let (id, token) = (made["data"]["id"].as_u64().unwrap(), made["data"]["token"].as_str().unwrap());
    let mut client = server.connect(token).await;
    let path = format!("/api/messages/user/{}", ana.id);
    let send = async |word: &str| server.post(&path, &admin, json!({"message": word})).await.ok();
    for _ in 0..30 {
        send("before").await;
    }
    server.http("DELETE", &format!("/api/auth/tokens/{id}"), Some(&ana.token), None).await.ok();
    for _ in 0..30 {
        send("after").await;
    }
    let mut seen = Vec::new();
    while let Some(Ok(message)) = timeout(DEADLINE, client.stream.next()).await.expect("it ends") {
        match message {
            Message::Text(text) => seen.push(text.to_string()),
            Message::Close(frame) => {
                seen.push(frame.unwrap().code.to_string());
                break;
            }
            _ => {}
        }
    }
    assert!(seen.iter().any(|text| text.contains("before")), "something was on its way");
    assert!(!seen.iter().any(|text| text.contains("after")), "{seen:?}");
    assert_eq!(seen.last().unwrap(), "4001");
}

#[tokio::test]
async fn a13_removed_device_is_closed_and_owner_asked_to_reconnect() {
    let server = Server::start().await;
    let (admin, eve) = (server.admin().await, server.user("eve").await);
    let share = json!({"user_ids": [eve.id]}).to_string();
    for (name, by_admin, method, body) in [
        ("unbound", false, "DELETE", None),
        ("deleted", true, "DELETE", None),
        ("given away", true, "PATCH", Some(share.as_str())),
    ] {
        let ana = server.user(name).await;
        let device = server.device(&ana.token, true).await;
        let token = server.device_token(&ana.token, device).await;
        let (mut own, mut app) = (server.connect(&token).await, server.connect(&ana.token).await);
        let by = if by_admin { &admin } else { &ana.token };
        server.http(method, &format!("/api/devices/{device}"), Some(by), body).await.ok();
        server.post(&format!("/api/messages/device/{device}"), &admin, json!({"message": "after"})).await;
        cut_off(name, &mut own).await;
        assert_eq!(app.closed().await, 1001, "{name}");
        assert_eq!(server.ws(&format!("/ws/device/?token={token}")).await.disconnected().await["code"], 4001, "{name}");
    }
}

#[tokio::test]
async fn a13_demoted_admin_loses_admin_routes_and_service_tokens() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let User { id, token, .. } = server.account("second", "admin").await;
    let made = server.post("/api/auth/tokens", &token, json!({"kind": "service"})).await.expect(201);
    let service = made["data"]["token"].as_str().unwrap();
    let (mut bot, mut person) = (server.connect(service).await, server.connect(&token).await);
    server.get("/api/users", Some(&token)).await.ok();
    server.http("PATCH", &format!("/api/users/{id}"), Some(&admin), Some(r#"{"role":"user"}"#)).await.ok();
    server.post("/api/messages/broadcast", &admin, json!({"message": "to all"})).await.ok();
    cut_off("demoted", &mut bot).await;
    for route in routes().filter(for_administrators) {
        let path = route.path.replace("{id}", "1");
        server.http(route.method, &path, Some(&token), route.empty_body()).await.expect(403);
    }
    server.post("/api/messages/user/1", &token, json!({"message": "m"})).await.expect(404);
    server.post("/api/messages/user/1", service, json!({"message": "m"})).await.expect(401);
    server.post("/api/auth/tokens", &token, json!({"kind": "service"})).await.expect(403);
    assert_eq!(person.json().await["message"], "to all", "a person's own connection stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_log_in_during_password_change_is_revoked() {
    let server = Server::start().await;
    let (ana, changed) = (server.user("ana").await, AtomicBool::new(false));
    let body = json!({"current_password": ana.password, "new_password": "another-password"}).to_string();
    let change = async {
        let answer = server.http("PUT", "/api/auth/password", Some(&ana.token), Some(&body)).await;
        changed.store(true, Ordering::Relaxed);
        answer
    };
    // Log-ins with the old password, before, during and after: some are being checked when the new one is set.
    let (answer, tokens) = tokio::join!(change, join_all((0..4).map(|_| old_log_ins(&server, &ana.password, &changed))));
    answer.ok();
    for token in tokens.iter().flatten() {
        server.get("/api/auth/me", Some(token)).await.expect(401);
    }
    server.login("ana", "another-password").await.ok();
}

/// Logs in over and over, until well after the password has changed; the tokens that this gave.
async fn old_log_ins(server: &Server, password: &str, changed: &AtomicBool) -> Vec<String> {
    let (mut tokens, mut more) = (Vec::new(), true);
    while more {
        more = !changed.load(Ordering::Relaxed);
        let answer = server.login("ana", password).await;
        tokens.extend(answer.json["token"].as_str().map(str::to_owned));
    }
    tokens
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_concurrent_password_changes_have_one_winner() {
    let server = Server::start().await;
    for round in 0..3 {
        let name = format!("user{round}");
        let owner = server.user(&name).await;
        let thief = server.login(&name, &owner.password).await.ok()["token"].as_str().unwrap().to_owned();
        let change = async |token: &str, new: &str| {
            let body = json!({"current_password": owner.password, "new_password": new}).to_string();
            server.http("PUT", "/api/auth/password", Some(token), Some(&body)).await.status.as_u16()
        };
        let mut statuses: [u16; 2] =
            tokio::join!(change(&owner.token, "owners-password"), change(&thief, "thiefs-password")).into();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 401], "the first one ends the other's log-in and the password that it showed");
    }
}

/// A thief who has a token asks for others with it, as fast as it goes, while the owner's password is changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_tokens_made_with_stolen_token_are_revoked_with_it() {
    let server = Server::start().await;
    let (ana, admin) = (server.user("ana").await, server.admin().await);
    for round in 0..8 {
        let stolen = server.login("ana", &password(round)).await.ok()["token"].as_str().unwrap().to_owned();
        let thief = async || {
            let mut made = Vec::new();
            loop {
                let answer = server.post("/api/auth/tokens", &stolen, json!({})).await;
                match answer.status.as_u16() {
                    201 => made.push(answer.json["data"]["token"].as_str().unwrap().to_owned()),
                    409 => drop(server.http("DELETE", "/api/auth/tokens/1", Some(&stolen), None).await), // as many as there may be
                    _ => return made,
                }
            }
        };
        let owner = async {
            tokio::time::sleep(Duration::from_millis(20 * round)).await; // at another moment each time
            let change = json!({"password": password(round + 1)}).to_string();
            server.http("PATCH", &format!("/api/users/{}", ana.id), Some(&admin), Some(&change)).await.ok();
        };
        let (one, two, three, ()) = tokio::join!(thief(), thief(), thief(), owner);
        for token in [one, two, three].concat() {
            assert_eq!(server.get("/api/auth/me", Some(&token)).await.status.as_u16(), 401, "round {round}");
        }
    }
}

fn password(round: u64) -> String {
    if round == 0 { "ana-password".to_owned() } else { format!("ana-password-{round}") }
}
