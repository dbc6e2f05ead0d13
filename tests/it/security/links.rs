//! One-time links: who gets in with them, from where, and how often.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use serde_json::{Value, json};

use crate::support::api::Config;
use crate::support::http::Browser;
use crate::support::program::{Running, output, program};
use crate::support::raw;
use crate::support::{ADMIN_PASSWORD, Answer, Server, http, set, unlimited};

/// Makes a link at the command line of a server in this process, and returns its code.
async fn code(server: &Server, user: &str) -> String {
    let data = server.data.path().join("data");
    let made = output(program(server.data.path(), &["--data-dir", data.to_str().unwrap(), "link", user])).await;
    let url = String::from_utf8(made.stdout).unwrap();
    let code = url.trim().split_once("/#link=").unwrap_or_else(|| panic!("{url} {}", String::from_utf8_lossy(&made.stderr))).1;
    code.to_owned()
}

/// Sends a code, with headers.
async fn redeem(server: &Server, code: &str, headers: &[(&str, &str)]) -> Answer {
    let all = [&[("content-type", "application/json")], headers].concat();
    server.raw_http("POST", "/api/auth/link", &all, json!({"code": code}).to_string().as_bytes()).await
}

/// Expects that a code is not valid.
async fn is_over(server: &Server, code: &str) {
    let answer = redeem(server, code, &[]).await;
    assert_eq!(answer.headers["www-authenticate"], "Token");
    assert!(!answer.headers.contains_key("set-cookie"));
    let refused = answer.expect(401);
    assert_eq!(refused["code"], "wrong_link", "{refused}");
    assert!(refused["message"].as_str().unwrap().contains("qy-lty link"), "it names the remedy: {refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn link_logs_its_user_in_once_as_a_browser() {
    let server = Server::start().await;
    let ana = server.user("ana").await;
    let link = code(&server, "ana").await;
    let answer = redeem(&server, &link, &[]).await;
    let cookie = answer.headers["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("qy_lty_session=qlt_") && cookie.contains("HttpOnly; SameSite=Strict"), "{cookie}");
    let body = answer.ok();
    assert_eq!((&body["data"]["user"]["id"], &body["data"]["user"]["role"]), (&json!(ana.id), &json!("user")));
    assert!(body["token"].is_null() && body["data"]["token"].is_null(), "no script reads it: {body}");
    let browser =
        Browser { cookie: cookie.split(';').next().unwrap().to_owned(), csrf: body["data"]["csrf"].as_str().unwrap().to_owned() };
    let made = browser.call(&server, "POST", "/api/devices", &[("x-csrf-token", &browser.csrf)], r#"{"name":"lamp"}"#).await;
    made.expect(201);
    let tokens = server.get("/api/auth/tokens", Some(&ana.token)).await.ok();
    let token = tokens["data"].as_array().unwrap().iter().find(|token| token["label"] == "browser").unwrap();
    assert!(token["expires_at"].is_string(), "as after a log-in with a password: {token}");
    is_over(&server, &link).await;
    // Of two at the same time, one gets in.
    let link = code(&server, "ana").await;
    let (one, two) = tokio::join!(redeem(&server, &link, &[]), redeem(&server, &link, &[]));
    let mut statuses = [one.status.as_u16(), two.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
}

#[tokio::test(flavor = "multi_thread")]
async fn link_ends_with_its_users_password_state_or_account() {
    let server = Server::start().await;
    let admin = server.admin().await;
    for (name, change) in
        [("ana", Some(json!({"password": "another-password"}))), ("bob", Some(json!({"disabled": true}))), ("eve", None)]
    {
        let user = server.user(name).await;
        let link = code(&server, name).await;
        let path = format!("/api/users/{}", user.id);
        match change {
            Some(change) => server.http("PATCH", &path, Some(&admin), Some(&change.to_string())).await.ok(),
            None => server.delete(&path, &admin).await.ok(),
        };
        is_over(&server, &link).await;
    }
    // A start forgets it: that it was used may not have reached the disk.
    let link = code(&server, "admin").await;
    let server = server.restart().await;
    is_over(&server, &link).await;
}

/// A server that trusts proxies on loopback.
async fn behind_proxy() -> Server {
    let mut config = unlimited();
    config.server = toml::from_str("trusted_proxies = [\"127.0.0.1\"]").unwrap();
    Server::with(config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn link_from_elsewhere_needs_tls_and_is_used_up_without() {
    let server = behind_proxy().await;
    let from = ("x-forwarded-for", "203.0.113.9");
    for proto in ["http", "", "https, http"] {
        let link = code(&server, "admin").await;
        let refused = redeem(&server, &link, &[from, ("x-forwarded-proto", proto)]).await.expect(403);
        assert_eq!(refused["code"], "exposed_link", "{refused}");
        assert!(refused["message"].as_str().unwrap().contains("HTTPS"), "{refused}");
        is_over(&server, &link).await; // others may have read it
    }
    let link = code(&server, "admin").await;
    let answer = redeem(&server, &link, &[from, ("x-forwarded-proto", "https")]).await;
    assert!(answer.headers["set-cookie"].to_str().unwrap().starts_with("__Host-qy_lty_session="));
    answer.ok();
    let link = code(&server, "admin").await;
    redeem(&server, &link, &[("x-forwarded-for", "127.0.0.7")]).await.ok();
    // Whom nobody trusts can claim what it likes, and is where it is.
    let server = Server::start().await;
    let link = code(&server, "admin").await;
    redeem(&server, &link, &[from, ("x-forwarded-proto", "http")]).await.ok();
}

/// The address of this machine in its network; `None` where it is in none.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[tokio::test(flavor = "multi_thread")]
async fn link_of_a_server_on_one_address_works_on_its_machine() {
    let Some(ip) = own_address() else {
        println!("SKIPPED: this machine is in no network");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mut command = program(dir.path(), &["--listen", &format!("{ip}:0")]);
    command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD);
    let server = Running::spawn(command).await;
    let made = output(program(dir.path(), &["link"])).await;
    let url = String::from_utf8(made.stdout).unwrap();
    let (page, code) = url.trim().split_once("/#link=").unwrap();
    assert_eq!(page, format!("http://{}", server.address));
    http::post(server.address, "/api/auth/link", "", json!({"code": code})).await.ok();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_at_links_are_throttled_like_log_ins_and_audited() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::configured(dir.path(), "[limits]\nlogins_per_minute = 5").await;
    let try_code = async |from: u8, code: &str| -> u16 {
        let body = json!({"code": code}).to_string();
        let request = raw::request("POST", "/api/auth/link", &[], body);
        raw::exchange(raw::connect(Ipv4Addr::new(127, 0, 3, from), server.address).await, &request).await.status
    };
    let made = output(program(dir.path(), &["link"])).await;
    let url = String::from_utf8(made.stdout).unwrap();
    let code = url.trim().split_once("/#link=").unwrap().1;
    let mut statuses = Vec::new();
    for n in 0..8 {
        statuses.push(try_code(1, &format!("qll_{n:032x}")).await);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429, 429]);
    assert_eq!(try_code(1, code).await, 429, "even the right one");
    assert_eq!(try_code(2, code).await, 200, "from elsewhere on this machine");
    let (_, log) = server.stop().await;
    let lines = |event: &str| log.lines().filter(|line| line.contains(&format!("event=\"{event}\""))).count();
    assert_eq!((lines("link_made"), lines("link_refused"), lines("login_throttled"), lines("link_used")), (1, 5, 4, 1), "{log}");
    assert!(!log.contains(code) && !log.contains("qll_"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_pages_and_wrong_bodies_leave_a_link_as_it_is() {
    let mut config: Config = unlimited();
    set(&mut config, "server.origins", json!(["https://app.example.com"]));
    let server = Server::with(config).await;
    let link = code(&server, "admin").await;
    for origin in ["https://app.example.com", "https://evil.example", "null"] {
        let answer = redeem(&server, &link, &[("origin", origin)]).await;
        assert_eq!(answer.expect(403)["code"], "foreign_origin", "{origin}");
    }
    let field = |body: Value| {
        let server = &server;
        async move { server.http("POST", "/api/auth/link", None, Some(&body.to_string())).await.expect(400)["message"].clone() }
    };
    assert_eq!(field(json!({})).await, "code is required");
    assert_eq!(field(json!({"code": ""})).await, "code must not be empty");
    assert_eq!(field(json!({"code": 5})).await, "code must be a string");
    assert_eq!(field(json!({"code": link, "cookie": true})).await, r#"unknown field "cookie"; did you mean "code"?"#);
    let own = format!("http://{}", server.address);
    redeem(&server, &link, &[("origin", &own)]).await.ok();
}
