//! Names from before today's rules: they log in, are listed, and get in nobody's way.

use std::path::Path;

use crate::support::program::{Running, configure, output, program};
use crate::support::{ADMIN_PASSWORD, eventually, http};
use serde_json::{Value, json};

const BACKUP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/names-before-precis.backup");
/// The password of all of them but the administrator, decomposed, as the earlier version hashed it.
const PASSWORD: &str = "gru\u{308}n-password";

/// Runs a command to its end; returns whether it succeeded, and what it wrote.
async fn run(at: &Path, args: &[&str]) -> (bool, String) {
    let output = output(program(at, &[&["--config", "c.toml"], args].concat())).await;
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn names_from_before_work_as_they_are_and_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    configure(at, "");
    assert!(run(at, &["restore", BACKUP]).await.0);
    let server = Running::configured(at, "[limits]\nlogins_per_minute = 0\n").await;
    eventually("the start lists them", async || server.log().contains("names that would be refused today")).await;
    let log = server.log();
    let line = log.lines().find(|line| line.contains("names that would be refused today")).unwrap();
    for ids in [" users=2,4,5 ", " devices=2 "] {
        assert!(line.contains(ids), "{line}");
    }
    assert!(!line.contains("admin") && !line.contains("lamp"), "ids only: {line}");

    let log_in = async |name: &str, password: &str| {
        let body = json!({"username": name, "password": password}).to_string();
        http::call(server.address, "POST", "/api/auth/login", "", &body).await
    };
    let id = async |name: &str, password: &str| log_in(name, password).await.ok()["data"]["user"]["id"].as_u64();
    assert_eq!(id("admin", ADMIN_PASSWORD).await, Some(1));
    for (n, name) in ["admin\u{3164}", "Ren\u{e9}", "Rene\u{301}", "id:1", "Ana Maria", "\u{ff21}\u{ff22}"].iter().enumerate() {
        assert_eq!(id(name, PASSWORD).await, Some(n as u64 + 2), "{name:?}");
    }
    assert_eq!(id("ab", PASSWORD).await, Some(7), "the only one of that name in another spelling");
    log_in("admin", PASSWORD).await.expect(401);
    // A password that is set today fits in every form.
    let admin = http::log_in(server.address, "admin", ADMIN_PASSWORD).await;
    http::call(server.address, "PATCH", "/api/users/6", &admin, &json!({"password": PASSWORD}).to_string()).await.ok();
    assert_eq!(id("Ana Maria", "gr\u{fc}n-password").await, Some(6));
    // A device that has its serial from before keeps it.
    let same = json!({"serial": "aa:bb", "name": "lamp"}).to_string();
    http::call(server.address, "PATCH", "/api/devices/2", &admin, &same).await.ok();

    for running in [true, false] {
        let (done, said) = run(at, &["check"]).await;
        assert!(done, "they are no damage: {said}");
        for part in
            ["admin\\u{3164}", "the name of user 3", "must not begin with id:", "the serial of device 1", "No problems found"]
        {
            assert!(said.contains(part), "{running} {part}: {said}");
        }
        let json: Value = serde_json::from_str(&run(at, &["check", "--json"]).await.1).unwrap();
        assert_eq!(
            (&json["wrong"], &json["names"]["total"], &json["names"]["listed"][0]["id"]),
            (&json!(0), &json!(5), &json!(2))
        );
        let (done, said) = run(at, &["user", "disable", "id:1"]).await;
        assert!(!done && said.contains("pass id:5 for the one with the name"), "{said}");
        let (done, said) = run(at, &["user", "list"]).await;
        assert!(done && said.contains("admin\\u{3164}"), "{said}");
        if running {
            server.signal("TERM");
            eventually("it has stopped", async || !at.join("data/admin.sock").exists()).await;
        }
    }
}
