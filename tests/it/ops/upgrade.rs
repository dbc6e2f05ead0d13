//! Upgrades from 0.1: its data directory and its backup, as committed in `tests/fixtures`, hold everything after the migration. And
//! from 0.2.0, whose data directory needs none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::disk::Disk;
use crate::support::program::{Running, configure, output, program};
use crate::support::ws::Client;
use crate::support::{eventually, http};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

/// The content that 0.1 itself served from the directory.
fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(Path::new(FIXTURES).join("expected-0.1.json")).unwrap()).unwrap()
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn ids(items: &Value) -> Vec<u64> {
    list(items).iter().map(|item| item["id"].as_u64().unwrap_or_else(|| item.as_u64().unwrap())).collect()
}

/// The data directory of 0.1, unpacked at `at`.
fn unpack(at: &Path) {
    unpack_of("0.1", at);
}

/// The data directory of a version, unpacked at `at`.
fn unpack_of(version: &str, at: &Path) {
    let archive = Path::new(FIXTURES).join(format!("data-{version}.tar.gz"));
    let tar = std::process::Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(at).arg("--no-same-owner").status();
    assert!(tar.unwrap().success());
}

/// The entries of a directory, sorted.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The rule under which the messages of the fixture were sent.
const SETTINGS: &str = "[messages]\ncross_user = true\n";

/// The part of a delivered message that is compared by value.
#[derive(serde::Deserialize)]
struct Delivered {
    id: u64,
}

/// A running server and the content that it must have.
struct Upgraded {
    server: Running,
    expected: Value,
    admin: String,
}

impl Upgraded {
    async fn get(&self, path: &str, token: &str) -> Value {
        http::call(self.server.address, "GET", path, token, "").await.ok()
    }

    /// Compares the fields of `wanted` that the answer has, too.
    fn same_fields(found: &Value, wanted: &Value, except: &[&str]) {
        for (key, value) in wanted.as_object().unwrap().iter().filter(|(key, _)| !except.contains(&key.as_str())) {
            assert_eq!(&found[key], value, "{key} of {wanted}");
        }
    }

    async fn accounts(&self) {
        let users = self.get("/api/users", &self.admin).await;
        assert_eq!(list(&users["data"]).len(), list(&self.expected["users"]).len());
        for (found, wanted) in list(&users["data"]).iter().zip(list(&self.expected["users"])) {
            Self::same_fields(found, wanted, &["password"]);
        }
        let devices = self.get("/api/devices", &self.admin).await;
        assert_eq!(list(&devices["data"]).len(), list(&self.expected["devices"]).len());
        for (found, wanted) in list(&devices["data"]).iter().zip(list(&self.expected["devices"])) {
            Self::same_fields(found, wanted, &["primary_of", "last_seen"]);
        }
        let ana = &self.expected["users"][1];
        http::log_in(self.server.address, text(&ana["username"]), text(&ana["password"])).await;
        for token in list(&self.expected["tokens"]) {
            let path = format!("/ws/device/?token={}&ack=client", text(&token["secret"]));
            let first = Client::open(self.server.address, &path, &[]).await.unwrap().json().await;
            let (kind, accepted) = (text(&first["type"]), token["accepted"].as_bool().unwrap());
            assert_eq!(kind == "connection_status", accepted, "{token}: {first}");
        }
        for (catalog, key) in [("songs", "songs"), ("dances", "dances")] {
            assert_eq!(self.get(&format!("/api/catalog/{catalog}"), &self.admin).await["data"], self.expected[key]);
        }
    }

    /// Compares receipts and sizes of queues; to be called before anyone connects.
    async fn receipts_and_queues(&self) {
        for message in list(&self.expected["messages"]) {
            let receipt = self.get(&format!("/api/messages/{}", message["id"]), &self.admin).await["data"].take();
            // A broadcast is acknowledged when its first user has received it; in 0.1, when all had.
            let received_by_some = message["received"].as_u64().is_some_and(|users| users > 0);
            let state = if received_by_some && message["state"] == "queued" { &json!("acked") } else { &message["state"] };
            assert_eq!(&receipt["status"], state, "{receipt} {message}");
            for (field, wanted) in [("sender_id", "sender_id"), ("queued_at", "queued_at")] {
                assert_eq!(receipt[field], message[wanted], "{message}");
            }
            assert_eq!(receipt.get("acked_at").unwrap_or(&Value::Null), &message["acked_at"], "{message}");
            assert_eq!(receipt.get("received").unwrap_or(&Value::Null), &message["received"], "{message}");
        }
        for (recipient, size) in self.expected["queues"].as_object().unwrap().iter().filter(|(name, _)| *name != "all") {
            let found = self.get(&format!("/api/queue/{}", recipient.replace(':', "/")), &self.admin).await;
            if recipient.starts_with("device:") {
                Self::same_fields(&found["data"], size, &[]);
            }
            // That of a user now includes its share of the broadcasts.
            assert!(found["data"]["messages"].as_u64() >= size["messages"].as_u64(), "{found} {size}");
        }
    }

    async fn history(&self, tokens: &BTreeMap<u64, String>) {
        for (user, wanted) in self.expected["history"].as_object().unwrap() {
            let Some(token) = tokens.get(&user.parse().unwrap()) else { continue };
            // Some hold numbers that are none of Rust's.
            #[derive(serde::Deserialize)]
            struct History {
                data: Vec<Delivered>,
            }
            let answer = http::call(self.server.address, "GET", "/api/messages/history?limit=1000", token, "").await;
            let history: History = serde_json::from_str(&answer.text).unwrap();
            let last = self.expected["last_message_id"].as_u64().unwrap(); // a test may have sent another one
            let found: Vec<u64> = history.data.iter().map(|message| message.id).filter(|&id| id <= last).collect();
            // Those that expired before they were received are no longer there; their receipts are.
            let expired = list(&self.expected["messages"]).iter().filter(|message| message["state"] == "expired");
            let expired: Vec<u64> = expired.map(|message| message["id"].as_u64().unwrap()).collect();
            let wanted: Vec<u64> = ids(wanted).into_iter().filter(|id| !expired.contains(id)).collect();
            assert_eq!(found, wanted, "of user {user}");
        }
    }

    /// Compares what connections that acknowledge nothing are sent, to the byte.
    async fn deliveries(&self) {
        let frames: BTreeMap<u64, &Value> =
            list(&self.expected["messages"]).iter().map(|m| (m["id"].as_u64().unwrap(), &m["frame_sha256"])).collect();
        for connection in list(&self.expected["connections"]) {
            let path = format!("/ws/device/?token={}&ack=client", text(&connection["token"]));
            let mut client = Client::open(self.server.address, &path, &[]).await.unwrap();
            let first = client.json().await;
            Self::same_fields(&first, connection, &["token", "ids"]);
            for &id in &ids(&connection["ids"]) {
                let frame = client.text().await;
                assert_eq!(serde_json::from_str::<Delivered>(&frame).unwrap().id, id);
                let digest: String = Sha256::digest(&frame).iter().map(|byte| format!("{byte:02x}")).collect();
                assert!(frames[&id].is_null() || frames[&id] == digest.as_str(), "message {id} is delivered as it was");
            }
        }
    }

    async fn idempotency_and_ids(&self) {
        for send in list(&self.expected["idempotency"]) {
            let headers = [
                ("authorization", &*format!("Token {}", text(&send["token"]))),
                ("content-type", "application/json"),
                ("idempotency-key", text(&send["key"])),
            ];
            let body = text(&send["body"]).as_bytes();
            let again = http::request(self.server.address, "POST", text(&send["path"]), &headers, body).await.ok();
            assert_eq!(again["data"]["id"], send["id"], "{send}");
        }
        let next = json!({"type": "note", "message": 1, "user_id": 1});
        let next = http::post(self.server.address, "/api/messages/", &self.admin, next).await.ok();
        assert!(next["data"]["id"].as_u64() > self.expected["last_message_id"].as_u64(), "{next}");
    }
}

/// Starts a server on the data directory below `at`.
async fn start(at: &Path) -> Upgraded {
    let server = Running::configured(at, SETTINGS).await;
    let expected = expected();
    let admin = &expected["users"][0];
    let admin = http::log_in(server.address, text(&admin["username"]), text(&admin["password"])).await;
    Upgraded { server, expected, admin }
}

/// The accepted log-in tokens of the fixture, one a user.
fn tokens(expected: &Value) -> BTreeMap<u64, String> {
    let log_ins = list(&expected["tokens"]).iter().filter(|token| token["accepted"] == true && token["kind"] == "user");
    log_ins.map(|token| (token["user_id"].as_u64().unwrap(), text(&token["secret"]).to_owned())).collect()
}

async fn everything_is_there(at: &Path) -> Upgraded {
    let upgraded = start(at).await;
    let tokens = tokens(&upgraded.expected);
    upgraded.receipts_and_queues().await;
    upgraded.history(&tokens).await;
    upgraded.deliveries().await;
    upgraded.accounts().await;
    upgraded.idempotency_and_ids().await;
    upgraded
}

#[tokio::test]
async fn data_directory_of_0_1_is_migrated_after_a_backup_and_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    unpack(at);
    let upgraded = everything_is_there(at).await;
    assert_eq!(upgraded.server.log().matches("migrating the data").count(), 1, "{}", upgraded.server.log());
    let backups = files(&at.join("data/backups"));
    assert_eq!(backups.len(), 1, "{backups:?}");
    upgraded.server.stop().await;
    let check = output(program(at, &["--config", "c.toml", "check", "--json"])).await;
    let findings: Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(findings["wrong"], 0, "{findings}");
    // A second start has nothing to migrate, and history and ids go on.
    let again = start(at).await;
    assert!(!again.server.log().contains("migrating the data"));
    again.history(&tokens(&again.expected)).await;
    again.server.stop().await;
}

/// The moment at which a start is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// Any, from the first instruction on.
    AfterStart,
    /// After the backup has been begun.
    InBackup,
    /// After the new store has been begun.
    InNewStore,
}

/// Starts a server on the data directory below `at` and kills it shortly after the moment. A start that has ended the migration
/// before is killed, too.
async fn kill_start(at: &Path, moment: Moment) {
    let (backups, new_store) = (at.join("data/backups"), at.join("data/store.new"));
    let count = || std::fs::read_dir(&backups).map_or(0, Iterator::count);
    let before = count();
    let mut child = program(at, &["serve", "--config", "c.toml"]).spawn().unwrap();
    let begun = || match moment {
        Moment::AfterStart => true,
        Moment::InBackup => count() > before,
        Moment::InNewStore => count() > before && new_store.exists(),
    };
    let latest = Instant::now() + Duration::from_secs(1); // where nothing is left to migrate, the other moments don't come
    while !begun() && Instant::now() < latest {
        std::thread::sleep(Duration::from_micros(200));
    }
    let span = if let Moment::AfterStart = moment { 100_000 } else { 20_000 };
    std::thread::sleep(Duration::from_micros(rand::random_range(0..span)));
    child.kill().await.unwrap();
}

/// 6 trials; `QY_LTY_MIGRATION_TRIALS=100` for more.
#[tokio::test]
async fn data_directory_of_0_1_whose_migration_is_killed_keeps_everything() {
    const KILLS: usize = 3;
    let trials: usize = std::env::var("QY_LTY_MIGRATION_TRIALS").map_or(6, |n| n.parse().unwrap());
    let (mut backing_up, mut writing, mut most) = (0, 0, 0);
    for trial in 0..trials {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        unpack(at);
        configure(at, SETTINGS);
        for _ in 0..KILLS {
            let moments = [Moment::AfterStart, Moment::InBackup, Moment::InNewStore];
            kill_start(at, moments[trial % moments.len()]).await;
            let in_backup = at.join("data/backups").exists()
                && files(&at.join("data/backups")).iter().any(|path| path.extension().is_none_or(|end| end != "backup"));
            let in_store = at.join("data/store.new").exists() || at.join("data/store.old").exists();
            (backing_up, writing) = (backing_up + usize::from(in_backup), writing + usize::from(in_store));
        }
        everything_is_there(at).await.server.stop().await;
        let left: Vec<PathBuf> =
            files(&at.join("data")).into_iter().filter(|path| path.to_string_lossy().contains("store.")).collect();
        assert!(left.is_empty(), "{left:?}");
        // Each start that was killed after its backup leaves that, and the last one makes one.
        let backups = files(&at.join("data/backups"));
        assert!((1..=KILLS + 1).contains(&backups.len()), "{backups:?}");
        assert!(backups.iter().all(|path| path.extension().is_some_and(|end| end == "backup")), "{backups:?}");
        most = most.max(backups.len());
    }
    println!(
        "{trials} trials of {KILLS} kills: {backing_up} in the backup, {writing} in the new store or its swap; at most {most} backups"
    );
}

#[tokio::test]
async fn data_directory_of_0_1_on_a_full_disk_is_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::in_memory(dir.path(), 3) else { return }; // the store takes 1.3 MB
    let at = disk.path.as_path();
    unpack(at);
    configure(at, SETTINGS);
    let before = files(&at.join("data"));
    let refused = output(program(at, &["serve", "--config", "c.toml"])).await;
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("bringing the data up to date needs") && said.contains("free some space"), "{said}");
    assert_eq!(files(&at.join("data")), before, "neither a backup nor a second store was begun");
    disk.grow(512);
    everything_is_there(at).await.server.stop().await;
}

#[tokio::test]
async fn backup_of_0_1_is_restored_with_everything_and_a_new_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    configure(at, SETTINGS);
    let backup = Path::new(FIXTURES).join("backup-0.1.backup");
    let restored = output(program(at, &["--config", "c.toml", "restore", backup.to_str().unwrap(), "--json"])).await;
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let report: Value = serde_json::from_slice(&restored.stdout).unwrap();
    assert_eq!(report["epoch"], expected()["epoch"]);
    assert_ne!(report["new_epoch"], report["epoch"]);
    everything_is_there(at).await.server.stop().await;
}

#[tokio::test]
async fn data_directory_of_0_2_0_opens_unchanged_and_begins_an_audit_trail() {
    let expected = std::fs::read(Path::new(FIXTURES).join("expected-0.2.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    unpack_of("0.2", at);
    let server = Running::configured(at, "").await;
    let (admin, user, device) = (text(&expected["admin"]), &expected["user"], &expected["device"]);
    let get = async |path: &str| http::call(server.address, "GET", path, admin, "").await.ok()["data"].clone();
    assert_eq!(get("/api/audit").await, json!([]), "it has none, and a start causes no entry");
    let users = get("/api/users").await;
    assert_eq!((users[1]["id"].clone(), &users[1]["username"]), (user["id"].clone(), &user["username"]));
    for (kind, id) in [("user", &user["id"]), ("device", &device["id"])] {
        assert_eq!(get(&format!("/api/queue/{kind}/{id}")).await, expected["queues"][kind], "{kind}");
    }
    let found = get(&format!("/api/devices/{}", device["id"])).await;
    assert_eq!((&found["name"], &found["serial"]), (&device["name"], &device["serial"]));
    let path = format!("/ws/device/?token={}&ack=client", text(&device["token"]));
    let first = Client::open(server.address, &path, &[]).await.unwrap().json().await;
    assert_eq!(first["epoch"], expected["epoch"]);
    http::log_in(server.address, text(&user["username"]), text(&user["password"])).await;
    let recorded = async |server: &Running| {
        let answer = http::call(server.address, "GET", "/api/audit", admin, "").await.ok();
        answer["data"].as_array().unwrap().iter().map(|entry| entry["event"].clone()).collect::<Vec<_>>()
    };
    eventually("the log-in is recorded", async || recorded(&server).await == ["login"]).await;
    let (_, log) = server.stop().await;
    assert!(!log.contains("migrating") && !log.contains("lost data"), "{log}");
    let check = output(program(at, &["--config", "c.toml", "check", "--json"])).await;
    assert_eq!(serde_json::from_slice::<Value>(&check.stdout).unwrap()["wrong"], 0, "{check:?}");
    let again = Running::configured(at, "").await;
    assert_eq!(recorded(&again).await, ["login"]);
    again.stop().await;
}
