//! A browser that was left logged in: what it may not do until its user shows the password again.

use serde_json::{Value, json};

use crate::support::http::Browser;
use crate::support::{Answer, Server, eventually, unlimited};

/// A server whose log-ins stay fresh for so many seconds.
async fn server(seconds: u32) -> Server {
    let mut config = unlimited();
    config.limits.elevation_seconds = seconds;
    Server::with(config).await
}

async fn call(server: &Server, browser: &Browser, method: &str, path: &str, body: Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    browser.call(server, method, path, &[("x-csrf-token", &browser.csrf)], &body).await
}

async fn me(server: &Server, browser: &Browser) -> Value {
    browser.call(server, "GET", "/api/auth/me", &[], "").await.ok()["data"].clone()
}

async fn elevate(server: &Server, browser: &Browser, password: &str) -> Answer {
    call(server, browser, "POST", "/api/auth/elevate", json!({ "password": password })).await
}

/// Waits until the log-in of `browser` is no longer fresh.
async fn grow_old(server: &Server, browser: &Browser) {
    eventually("the log-in is no longer fresh", async || me(server, browser).await["elevation_needed"] == true).await;
}

#[tokio::test]
async fn old_log_in_makes_no_token_until_its_password_is_shown_again() {
    let server = server(4).await;
    let ana = server.user("ana").await;
    let (browser, _) = Browser::log_in(&server, "ana", &ana.password).await;
    let (other, _) = Browser::log_in(&server, "ana", &ana.password).await;
    grow_old(&server, &browser).await;
    grow_old(&server, &other).await;
    assert_eq!(me(&server, &browser).await["elevated_until"], Value::Null);
    let make = async |browser: &Browser| call(&server, browser, "POST", "/api/auth/tokens", json!({})).await;
    assert_eq!(make(&browser).await.expect(403)["code"], "elevation_required");
    assert_eq!(elevate(&server, &browser, "wrong-password").await.expect(401)["code"], "wrong_password");
    assert_eq!(make(&browser).await.expect(403)["code"], "elevation_required");
    assert_eq!(elevate(&server, &browser, "").await.expect(401)["code"], "wrong_password");
    call(&server, &browser, "POST", "/api/auth/elevate", json!({})).await.expect(400);
    // The machine may be so busy that the elevation has ended before it is used.
    eventually("an elevated session makes a token", async || {
        let elevated = elevate(&server, &browser, &ana.password).await.ok();
        assert!(elevated["data"]["elevated_until"].is_string(), "{elevated}");
        let now = me(&server, &browser).await;
        assert_eq!(now["elevated_until"].is_string(), now["elevation_needed"] == false, "{now}");
        make(&browser).await.status == 201
    })
    .await;
    assert_eq!(make(&other).await.expect(403)["code"], "elevation_required", "another log-in of the same user");
    grow_old(&server, &browser).await;
    assert_eq!(make(&browser).await.expect(403)["code"], "elevation_required");
}

#[tokio::test]
async fn fresh_log_in_and_one_without_the_setting_are_not_asked() {
    for (seconds, until) in [(600, true), (0, false)] {
        let server = server(seconds).await;
        let ana = server.user("ana").await;
        let (browser, _) = Browser::log_in(&server, "ana", &ana.password).await;
        let now = me(&server, &browser).await;
        assert_eq!((now["elevated_until"].is_string(), &now["elevation_needed"]), (until, &json!(false)), "{now}");
        let made = call(&server, &browser, "POST", "/api/auth/tokens", json!({})).await.expect(201);
        let path = format!("/api/auth/tokens/{}", made["data"]["id"]);
        call(&server, &browser, "DELETE", &path, Value::Null).await.ok();
    }
}

#[tokio::test]
async fn tokens_of_programs_are_never_asked_and_gain_nothing() {
    let server = server(1).await;
    let ana = server.user("ana").await;
    eventually("the token is older than a fresh log-in", async || {
        let (browser, _) = Browser::log_in(&server, "ana", &ana.password).await;
        grow_old(&server, &browser).await;
        true
    })
    .await;
    let me = server.get("/api/auth/me", Some(&ana.token)).await.ok();
    assert_eq!((&me["data"]["elevated_until"], &me["data"]["elevation_needed"]), (&Value::Null, &json!(false)));
    server.post("/api/auth/tokens", &ana.token, json!({})).await.expect(201);
    let elevated = server.post("/api/auth/elevate", &ana.token, json!({"password": ana.password})).await.ok();
    assert_eq!(elevated["data"], json!({"elevated_until": null}));
    // In a cookie, the same token is asked like any other.
    let cookie = format!("qy_lty_session={}", ana.token);
    let csrf = server.raw_http("GET", "/api/auth/me", &[("cookie", &cookie)], b"").await.ok()["data"]["csrf"].clone();
    let left = Browser { cookie, csrf: csrf.as_str().unwrap().to_owned() };
    assert_eq!(call(&server, &left, "POST", "/api/auth/tokens", json!({})).await.expect(403)["code"], "elevation_required");
}

#[tokio::test]
async fn guesses_at_the_password_of_a_session_are_counted_like_log_ins() {
    let mut config = unlimited();
    config.limits.logins_per_minute = 3;
    config.limits.elevation_seconds = 1;
    let server = Server::with(config).await;
    let ana = server.user("ana").await;
    let (browser, _) = Browser::log_in(&server, "ana", &ana.password).await;
    let mut wrong = 0;
    let refused = loop {
        let answer = elevate(&server, &browser, "a-wrong-password").await;
        if answer.status != 401 {
            break answer;
        }
        wrong += 1;
        assert!(wrong <= 3, "unbounded");
    };
    assert_eq!(refused.expect(429)["code"], "too_many_requests");
    elevate(&server, &browser, &ana.password).await.expect(429);
    server.login("ana", &ana.password).await.expect(429);
}

#[tokio::test]
async fn elevation_needs_the_second_secret_and_ends_with_the_log_in() {
    let server = server(600).await;
    let ana = server.user("ana").await;
    let (browser, _) = Browser::log_in(&server, "ana", &ana.password).await;
    let body = json!({"password": ana.password}).to_string();
    let without = browser.call(&server, "POST", "/api/auth/elevate", &[], &body).await;
    assert_eq!(without.expect(403)["code"], "csrf");
    let foreign = [("x-csrf-token", browser.csrf.as_str()), ("origin", "https://evil.example")];
    assert_eq!(browser.call(&server, "POST", "/api/auth/elevate", &foreign, &body).await.expect(403)["code"], "foreign_origin");
    elevate(&server, &browser, &ana.password).await.ok();
    call(&server, &browser, "POST", "/api/auth/logout", json!({})).await.ok();
    assert_eq!(elevate(&server, &browser, &ana.password).await.expect(401)["code"], "unauthorized");
}
