//! The audit trail as it is kept in the store: who did what, in order, bounded, and over restarts.

use serde_json::{Value, json};

use crate::support::program::{output, program};
use crate::support::{ADMIN_PASSWORD, Server, eventually, unlimited};

/// Returns the entries that a query finds, the newest first.
async fn entries(server: &Server, query: &str) -> Vec<Value> {
    let admin = server.admin().await;
    let answer = server.get(&format!("/api/audit?limit=1000&{query}"), Some(&admin)).await.ok();
    answer["data"].as_array().unwrap().clone()
}

fn events(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["event"].as_str().unwrap()).collect()
}

/// Waits until there is an entry of the event: nobody waits for entries when they are made.
async fn until(server: &Server, event: &str) -> Value {
    eventually(event, async || !entries(server, &format!("event={event}")).await.is_empty()).await;
    entries(server, &format!("event={event}")).await.remove(0)
}

#[tokio::test]
async fn trail_names_who_did_what_to_whom() {
    let server = Server::start().await;
    let admin = server.admin().await;
    let ana = server.user("ana").await;
    let device = server.device(&ana.token, false).await;
    let made = server.post("/api/auth/tokens", &ana.token, json!({"label": "laptop"})).await.expect(201);
    server.login("ana", "wrong-password").await.expect(401);
    server.login("nobody", "Tr0ub4dor-and-three").await.expect(401);
    let patch = r#"{"role":"admin","password":"another-password"}"#;
    server.http("PATCH", &format!("/api/users/{}", ana.id), Some(&admin), Some(patch)).await.ok();
    server.delete(&format!("/api/devices/{device}"), &admin).await.ok();
    server.delete(&format!("/api/users/{}", ana.id), &admin).await.ok();
    until(&server, "user_deleted").await;
    let all = entries(&server, "").await;
    assert_eq!(
        events(&all),
        [
            "user_deleted",
            "device_deleted",
            "user_changed",
            "login_failed",
            "login_failed",
            "token_made",
            "login",
            "user_created",
            "login",
            "user_created",
        ]
    );
    let ids: Vec<u64> = all.iter().map(|entry| entry["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (1..=10).rev().collect::<Vec<_>>());
    assert!(all.windows(2).all(|two| two[0]["at"].as_str() >= two[1]["at"].as_str()), "{all:?}");
    let fields = |n: usize, names: [&str; 6]| names.map(|name| all[n][name].clone());
    let who_and_what = ["user_id", "username", "subject_kind", "subject_id", "subject", "details"];
    // Deleted by now, and named all the same.
    let deleted = [json!(1), json!("admin"), json!("user"), json!(ana.id), json!("ana"), json!({})];
    assert_eq!(fields(0, who_and_what), deleted);
    assert_eq!(fields(1, who_and_what)[2..5], [json!("device"), json!(device), json!("lamp")]);
    assert_eq!(fields(2, who_and_what)[5], json!({"role": "admin", "password": true}));
    // The account, never the name as it was typed.
    assert_eq!(fields(3, who_and_what)[..4], [Value::Null, Value::Null, Value::Null, Value::Null]);
    assert_eq!(fields(4, who_and_what)[..4], [Value::Null, Value::Null, json!("user"), json!(ana.id)]);
    assert_eq!(fields(5, who_and_what)[..4], [json!(ana.id), Value::Null, json!("token"), made["data"]["id"].clone()]);
    assert!(all[..9].iter().all(|entry| entry["address"] == "127.0.0.1"), "{all:?}");
    assert_eq!((&all[9]["address"], &all[9]["user_id"]), (&Value::Null, &Value::Null), "the first administrator, by the program");
    let text = serde_json::to_string(&all).unwrap();
    for secret in [ADMIN_PASSWORD, "wrong-password", "another-password", "Tr0ub4dor-and-three", "nobody", &ana.token, &admin] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn trail_is_read_by_user_by_event_and_page_by_page() {
    let server = Server::start().await;
    let (ana, bob) = (server.user("ana").await, server.user("bob").await);
    for _ in 0..5 {
        server.post("/api/auth/tokens", &ana.token, json!({})).await.expect(201);
        server.post("/api/auth/tokens", &bob.token, json!({})).await.expect(201);
    }
    eventually("all are there", async || entries(&server, "event=token_made").await.len() == 10).await;
    let of_ana = entries(&server, &format!("user_id={}", ana.id)).await;
    assert_eq!(events(&of_ana), [vec!["token_made"; 5], vec!["login", "user_created"]].concat(), "by ana, and about her");
    assert_eq!(entries(&server, &format!("user_id={}&event=login", ana.id)).await.len(), 1);
    assert_eq!(entries(&server, "event=nothing").await, [] as [Value; 0]);
    let (admin, all) = (server.admin().await, entries(&server, "").await);
    let (mut found, mut before) = (Vec::new(), String::new());
    loop {
        let page = server.get(&format!("/api/audit?limit=3{before}"), Some(&admin)).await.ok();
        let items = page["data"].as_array().unwrap();
        assert!((1..=3).contains(&items.len()));
        found.extend(items.clone());
        let Some(next) = page["next"].as_u64() else { break };
        before = format!("&before={next}");
    }
    assert_eq!(found, all);
    for query in ["before=x", "before=-1", "user_id=ana", "limit=0", "limit=1001"] {
        let refused = server.get(&format!("/api/audit?{query}"), Some(&admin)).await;
        assert!(refused.expect(400)["message"].as_str().unwrap().starts_with(query.split('=').next().unwrap()), "{query}");
    }
    server.get("/api/audit", Some(&ana.token)).await.expect(403);
}

#[tokio::test]
async fn trail_survives_a_restart_and_goes_on() {
    let server = Server::start().await;
    server.user("ana").await;
    let server = server.restart().await; // at once: what waits is written first
    eventually("the test has logged in again", async || entries(&server, "").await.len() == 5).await;
    let before = entries(&server, "").await;
    assert_eq!(events(&before), ["login", "login", "user_created", "login", "user_created"]);
    let server = server.restart_with(|config| config.storage.audit_entries = 0).await;
    server.user("bob").await;
    let kept = entries(&server, "").await;
    assert_eq!(kept, before, "none are added where none are to be kept");
    let server = server.restart_with(|config| config.storage.audit_entries = 10_000).await;
    server.user("eva").await;
    eventually("it goes on", async || entries(&server, "").await.len() == before.len() + 3).await;
    assert_eq!(entries(&server, "").await[0]["id"], before.len() + 3);
}

#[tokio::test]
async fn flood_of_refusals_or_of_one_user_pushes_out_half_at_most() {
    let mut config = unlimited();
    config.storage.audit_entries = 100;
    config.limits.tokens_per_user = 1000;
    let server = Server::with(config).await;
    let admin = server.admin().await;
    let (ana, eve) = (server.user("ana").await, server.user("eve").await);
    for _ in 0..60 {
        server.post("/api/auth/tokens", &ana.token, json!({})).await.expect(201);
    }
    // One address causes thirty lines a minute, more where these take their time; the others are counted.
    for _ in 0..40 {
        server.login("nobody", "a-wrong-password").await.expect(401);
    }
    eventually("refusals are recorded", async || entries(&server, "event=login_failed").await.len() >= 30).await;
    for _ in 0..300 {
        server.post("/api/auth/tokens", &eve.token, json!({})).await.expect(201);
    }
    eventually("the trail is full", async || entries(&server, &format!("user_id={}&event=token_made", eve.id)).await.len() == 50)
        .await;
    let all = entries(&server, "").await;
    let refused = entries(&server, "event=login_failed").await.len();
    assert!(all.len() == 100 && (30..=40).contains(&refused), "what others did is still there: {}, {refused}", all.len());
    // And what is done next is recorded.
    server.http("PATCH", &format!("/api/users/{}", eve.id), Some(&admin), Some(r#"{"disabled":true}"#)).await.ok();
    assert_eq!(until(&server, "user_changed").await["subject"], "eve");
}

#[tokio::test]
async fn trail_is_shown_on_the_command_line_and_part_of_a_backup() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let run_on = async |data: &str, args: &[&str]| {
        let done = output(program(at, &[&["--data-dir", data], args].concat())).await;
        assert!(done.status.success(), "{args:?}: {done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let run = async |args: &[&str]| run_on("data", args).await;
    let mut first = program(at, &["--data-dir", "data", "serve", "--listen", "127.0.0.1:0"]);
    first.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD);
    let server = crate::support::program::Running::spawn(first).await;
    crate::support::http::log_in(server.address, "admin", ADMIN_PASSWORD).await;
    run(&["token", "create", "admin", "--label", "laptop"]).await;
    let running = run(&["audit", "--json"]).await;
    server.stop().await;
    let stopped = run(&["audit", "--json"]).await;
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let found = read(&stopped);
    assert_eq!(events(found.as_array().unwrap()), ["token_made", "login", "user_created"]);
    // The last one may have been on its way when the running server was asked.
    assert!(read(&running).as_array().unwrap().len() >= 2, "{running}");
    let shown = run(&["audit", "--limit", "2"]).await;
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3, "{shown}");
    assert!(lines[0].starts_with("TIME") && lines[1].contains("token_made  command line  laptop"), "{shown}");
    assert!(lines[2].contains("login") && lines[2].contains("admin") && lines[2].contains("127.0.0.1"), "{shown}");
    assert_eq!(read(&run(&["audit", "--user", "admin", "--event", "login", "--json"]).await).as_array().unwrap().len(), 1);
    assert_eq!(run(&["audit", "--event", "nothing"]).await, "No entries\n");
    run(&["backup", "b.backup"]).await;
    run_on("restored", &["restore", "b.backup"]).await;
    let restored = read(&run_on("restored", &["audit", "--json"]).await);
    assert_eq!(restored, found);
    assert_eq!(read(&run(&["check", "--json"]).await)["wrong"], 0);
}
