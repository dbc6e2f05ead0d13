//! `qy-lty import`: what a real Django has dumped (`tests/fixtures/make-django.py`) is taken over, and its clients go on.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use crate::support::program::{Running, configure, program};
use crate::support::ws::Client;
use crate::support::{DEADLINE, eventually, http};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures")).join(name)
}

/// The content of the Django system.
fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(fixture("django-expected.json")).unwrap()).unwrap()
}

fn account(name: &str) -> Value {
    let expected = expected();
    let found = expected["accounts"].as_array().unwrap().iter().find(|account| account["username"] == name).cloned();
    found.unwrap_or_else(|| panic!("{name}"))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

async fn run_with(at: &Path, args: &[&str], input: &[u8]) -> Output {
    let all = [&["--config", "c.toml"], args].concat();
    let mut child = program(at, &all).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(input).await;
    drop(stdin);
    timeout(DEADLINE, child.wait_with_output()).await.expect("ends in time").unwrap()
}

/// Runs an import that succeeds, and returns its report.
async fn import(at: &Path, args: &[&str]) -> Value {
    let output = run_with(at, &[&["import", "--json"], args].concat(), b"").await;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Runs an import that fails, and returns what it prints.
async fn refused(at: &Path, args: &[&str]) -> (String, String) {
    let output = run_with(at, &[&["import"], args].concat(), b"").await;
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// Writes a file of records below `at`.
fn write(at: &Path, name: &str, records: &Value) -> String {
    std::fs::write(at.join(name), records.to_string()).unwrap();
    name.to_owned()
}

fn dump() -> String {
    fixture("django.json").to_str().unwrap().to_owned()
}

/// An empty directory with a configuration that has no rate limits for log-ins, and takes short bodies only.
fn place() -> tempfile::TempDir {
    let at = tempfile::tempdir().unwrap();
    configure(at.path(), LIMITS);
    at
}

const LIMITS: &str = "data_dir = \"data\"\n[limits]\npush_bytes = 1024\nlogins_per_minute = 0\nrefusals_per_minute = 0\n[messages]\ncross_user = true";

async fn log_in(server: &Running, name: &str, password: &str) -> http::Answer {
    let body = json!({"username": name, "password": password}).to_string();
    let headers = [("content-type", "application/json")];
    http::request(server.address, "POST", "/api/auth/login", &headers, body.as_bytes()).await
}

/// Logs every account in with its old password and its old token, in all the places where a token can stand.
async fn everyone_comes_in(server: &Running, kept_ids: bool) {
    for account in expected()["accounts"].as_array().unwrap() {
        let (name, active) = (text(&account["username"]), account["is_active"] != false);
        if name == "ANA" {
            continue; // the same name as another's
        }
        if let Some(password) = account["password"].as_str() {
            let status = if active { 200 } else { 401 };
            let answer = log_in(server, name, password).await.expect(status);
            if active && kept_ids {
                assert_eq!(answer["data"]["user"]["id"], account["id"], "{name}");
            }
            log_in(server, name, &format!("{password}x")).await.expect(401);
        }
        let Some(token) = account["token"].as_str() else { continue };
        for scheme in ["Token", "Bearer"] {
            let header = format!("{scheme} {token}");
            let headers = [("authorization", header.as_str())];
            let me = http::request(server.address, "GET", "/api/auth/me", &headers, b"").await;
            let me = me.expect(if active { 200 } else { 401 });
            assert!(!active || me["data"]["username"] == name, "{me}");
        }
        for path in [format!("/ws/device/?token={token}"), format!("/ws/device/token/{token}/")] {
            let first = Client::open(server.address, &path, &[]).await.unwrap().json().await;
            assert_eq!(first["type"] == "connection_status", active, "{name}: {first}");
            if kept_ids && active {
                assert_eq!(first["user_id"], account["id"].to_string(), "{first}");
                assert_eq!(first["device_id"], expected()["primaries"][name], "{first}");
            }
        }
    }
}

#[tokio::test]
async fn everything_of_the_django_system_works_after_an_import_before_the_first_start() {
    let at = place();
    let dry = import(at.path(), &["--dry-run", &dump()]).await;
    assert!(!at.path().join("data").exists(), "a dry run makes nothing");
    let report = import(at.path(), &[&dump()]).await;
    for key in ["users", "tokens", "devices", "primaries", "remarks", "not_read", "without_password"] {
        assert_eq!(dry[key], report[key], "{key}");
    }
    let count = |key: &str| report[key].as_u64().unwrap();
    assert_eq!((count("users"), count("tokens"), count("devices"), count("primaries")), (13, 10, 4, 3), "{report}");
    assert_eq!((count("without_password"), report["renumbered"].as_array().unwrap().len()), (3, 0));
    let remarks = report["remarks"].to_string();
    for part in [
        "stored with md5",
        "2000001 iterations",
        "looks like, that of the account with the key 2",
        "its user was not taken",
        "staff and no superuser",
        "has the serial, perhaps in another spelling",
        "no user that was taken has the device",
        "by an earlier record",
    ] {
        assert!(remarks.contains(part), "{part}: {remarks}");
    }
    assert_eq!(report["not_read"]["sessions.session"], 1);
    for account in expected()["accounts"].as_array().unwrap() {
        assert!(!report.to_string().contains(account["token"].as_str().unwrap_or("\0")), "no secret is printed");
    }

    let server = Running::configured(at.path(), LIMITS).await;
    everyone_comes_in(&server, true).await;
    assert!(!server.log().contains("created the first administrator"));

    // Roles, devices, and ids that programs know.
    let root = account("root");
    let token = text(&root["token"]);
    let users = http::call(server.address, "GET", "/api/users", token, "").await.ok();
    let roles: Vec<&str> = users["data"].as_array().unwrap().iter().map(|user| text(&user["role"])).collect();
    assert_eq!(roles.iter().filter(|role| **role == "admin").count(), 1, "{users}");
    let devices = http::call(server.address, "GET", "/api/devices", token, "").await.ok();
    for (found, wanted) in devices["data"].as_array().unwrap().iter().zip(expected()["devices"].as_array().unwrap()) {
        assert_eq!((&found["id"], &found["name"]), (&wanted["id"], &wanted["name"]), "{found}");
    }
    let dumped: Value = serde_json::from_slice(&std::fs::read(dump()).unwrap()).unwrap();
    let lamp = dumped.as_array().unwrap().iter().find(|record| record["model"] == "device_interaction.device").unwrap();
    let (created, wanted) = (text(&devices["data"][0]["created_at"]), text(&lamp["fields"]["created_at"]));
    assert!(created.starts_with(wanted.trim_end_matches('Z')), "the time of creation comes along: {created} {wanted}");
    // New accounts and devices get numbers of their own.
    let new = json!({"username": "new", "password": "new-password"});
    let new = http::post(server.address, "/api/users", token, new).await.expect(201);
    assert!(new["data"]["id"].as_u64() > Some(700), "{new}");

    let mut server = server;
    server.signal("TERM");
    assert!(server.ended().await.success());
    let check = run_with(at.path(), &["check"], b"").await;
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

#[tokio::test]
async fn import_with_natural_keys_compressed_and_through_a_pipe_is_the_same() {
    let at = place();
    let natural = std::fs::read(fixture("django-natural.json")).unwrap();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &natural).unwrap();
    let output = run_with(at.path(), &["import", "-", "--json"], &packed.finish().unwrap()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |key: &str| report[key].as_u64().unwrap();
    assert_eq!((count("users"), count("tokens"), count("devices"), count("primaries")), (13, 10, 4, 3), "{report}");
    let server = Running::configured(at.path(), LIMITS).await;
    // Without their keys in the file, accounts get new ones.
    everyone_comes_in(&server, false).await;
}

#[tokio::test]
async fn old_hash_is_replaced_at_the_next_log_in_and_the_old_token_stays() {
    let at = place();
    import(at.path(), &[&dump()]).await;
    let stored = |name: &'static str| {
        // Not through the server: no route shows a hash.
        let backup = at.path().join(format!("{name}.backup"));
        async move {
            let made = run_with(backup.parent().unwrap(), &["backup", backup.to_str().unwrap(), "--force"], b"").await;
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(std::fs::File::open(&backup).unwrap()), &mut content)
                .unwrap();
            let content = String::from_utf8_lossy(&content).into_owned();
            let record = content.split(&format!("\"username\":\"{name}\"")).nth(1).unwrap().to_owned();
            record.split("\"password_hash\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned()
        }
    };
    assert!(stored("ana").await.starts_with("pbkdf2_sha256$2000$"));
    let server = Running::configured(at.path(), LIMITS).await;
    let ana = account("ana");
    log_in(&server, "ana", "wrong").await.expect(401);
    assert!(stored("ana").await.starts_with("pbkdf2_sha256$"), "a wrong password replaces nothing");
    // Several log-ins at the same moment: each hashes anew, none is refused.
    let all = (0..6).map(|_| log_in(&server, "ana", text(&ana["password"])));
    for answer in futures_util::future::join_all(all).await {
        assert!(matches!(answer.status.as_u16(), 200 | 503), "{answer:?}");
    }
    assert!(stored("ana").await.starts_with("$argon2id$"), "{}", stored("ana").await);
    log_in(&server, "ana", text(&ana["password"])).await.expect(200);
    let me = http::call(server.address, "GET", "/api/auth/me", text(&ana["token"]), "").await.ok();
    assert_eq!(me["data"]["username"], "ana");
    // A user without a password that can be used gets none by trying, and one from the operator.
    for password in ["", "!", "md5-old-password"] {
        assert_ne!(log_in(&server, "md5", password).await.status, 200);
    }
    let set = run_with(at.path(), &["user", "set-password", "md5"], b"a-new-password\n").await;
    assert!(set.status.success());
    log_in(&server, "md5", "a-new-password").await.expect(200);
}

#[tokio::test]
async fn import_refuses_to_overwrite_and_a_repeat_changes_nothing() {
    let at = place();
    let server = Running::configured(at.path(), LIMITS).await;
    let admin = http::log_in(server.address, "admin", crate::support::ADMIN_PASSWORD).await;
    let users = async || http::call(server.address, "GET", "/api/users?limit=1000", &admin, "").await.ok()["data"].take();

    // Into a running server: the keys 1 to 12 are not all free.
    let report = import(at.path(), &[&dump()]).await;
    let renumbered = report["renumbered"].as_array().unwrap();
    assert_eq!((renumbered.len(), &renumbered[0]["name"]), (1, &json!("root")), "{report}");
    everyone_of_some(&server).await;
    let before = users().await;
    let token = text(&account("bob@example.com")["token"]).to_owned();
    let tokens = http::call(server.address, "GET", "/api/auth/tokens", &token, "").await.ok();
    let id = tokens["data"].as_array().unwrap().iter().find(|token| token["label"] == "imported").unwrap()["id"].clone();
    http::call(server.address, "DELETE", &format!("/api/auth/tokens/{id}"), &token, "").await.ok();

    let again = import(at.path(), &[&dump()]).await;
    assert!(text(&again["result"]).starts_with("Imported earlier"), "{again}");
    assert_eq!(users().await, before);
    let refused_token = http::call(server.address, "GET", "/api/auth/me", &token, "").await;
    assert_eq!(refused_token.status, 401, "what was revoked here stays revoked");

    // A file of which something is there, and something not: nothing of it is taken.
    let user = |pk: u64, name: &str| json!({"model": "auth.user", "pk": pk, "fields": {"username": name, "password": "", "last_login": null}});
    for (name, taken) in [("ana", "is taken"), ("AdMin", "is taken"), ("аdmin", "looks like")] {
        let file = write(at.path(), "part.json", &json!([user(900, "somebody"), user(901, name)]));
        for args in [&[&*file][..], &["--dry-run", &file]] {
            let (out, err) = refused(at.path(), args).await;
            assert!(out.contains(taken) && err.contains("nothing was imported"), "{name}: {out} {err}");
        }
        assert_eq!(users().await, before, "{name}");
    }
    let serial = json!({"model": "a.device", "pk": 5, "fields": {"serial": "sn_0001"}});
    let bound = json!({"model": "a.userdevice", "pk": 5, "fields": {"user": 900, "device": 5}});
    let key = json!({"model": "authtoken.token", "pk": account("ana")["token"], "fields": {"user": 900}});
    for (row, problem) in [(serial, "serial is taken"), (key, "token is taken")] {
        let file = write(at.path(), "part.json", &json!([user(900, "somebody"), row, bound]));
        let (out, err) = refused(at.path(), &[&file]).await;
        assert!(out.contains(problem) && err.contains("one record is there already"), "{out} {err}");
        assert_eq!(users().await, before);
    }
}

/// A log-in and a token, as a sample.
async fn everyone_of_some(server: &Running) {
    for name in ["ana", "张伟", "sha1"] {
        let account = account(name);
        log_in(server, name, text(&account["password"])).await.expect(200);
        Client::connect(server.address, text(&account["token"])).await;
    }
}

#[tokio::test]
async fn many_users_are_imported_and_an_import_that_was_cut_off_goes_on() {
    let at = place();
    let count = 1000;
    let users = (1..=count).flat_map(|pk| {
        [
            json!({"model": "auth.user", "pk": pk, "fields": {"username": format!("user-{pk:05}"), "password": "", "last_login": null}}),
            json!({"model": "authtoken.token", "pk": format!("{pk:040}"), "fields": {"user": pk}}),
        ]
    });
    let file = write(at.path(), "many.json", &Value::Array(users.collect()));
    // The configuration is there and no data: the import makes it. It is killed as soon as some of it is on the disk.
    let mut server = Running::configured(at.path(), LIMITS).await;
    let mut child = program(at.path(), &["--config", "c.toml", "import", &file]).spawn().unwrap();
    let admin = http::log_in(server.address, "admin", crate::support::ADMIN_PASSWORD).await;
    eventually("some are there", async || {
        let users = http::call(server.address, "GET", "/api/users?limit=1000", &admin, "").await.ok();
        users["data"].as_array().unwrap().len() > 150
    })
    .await;
    server.signal("KILL");
    server.ended().await;
    child.wait().await.unwrap();

    let server = Running::configured(at.path(), LIMITS).await;
    let report = import(at.path(), &[&file]).await;
    assert_eq!((&report["users"], &report["tokens"]), (&json!(count), &json!(count)));
    assert!(report["earlier"].as_u64() > Some(0), "{report}");
    for pk in (1..=count).step_by(97) {
        let me = http::call(server.address, "GET", "/api/auth/me", &format!("{pk:040}"), "").await.ok();
        assert_eq!(me["data"]["username"], format!("user-{pk:05}"));
    }
    let check = run_with(at.path(), &["check", "--json"], b"").await;
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

#[tokio::test]
async fn files_that_are_none_are_refused_before_anything_is_made() {
    let at = place();
    for (content, problem) in [
        (&b""[..], "the file is empty"),
        (b"\xff\xfe[\0", "dumpdata -o FILE"),
        (b"[{\"model\": \"auth.user\"", "EOF while parsing"),
        (b"[]", "no user that can be taken"),
        (b"nonsense", "must begin with"),
    ] {
        std::fs::write(at.path().join("x.json"), content).unwrap();
        let (_, err) = refused(at.path(), &["x.json"]).await;
        assert!(err.contains(problem), "{problem}: {err}");
        assert!(!at.path().join("data").exists());
    }
    let (_, err) = refused(at.path(), &["missing.json"]).await;
    assert!(err.contains("can't read missing.json"), "{err}");
}
