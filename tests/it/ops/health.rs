//! `/readyz`, which names the check that fails, and `/healthz`, which only answers.

use std::path::Path;

use serde_json::json;

use crate::support::disk::Disk;
use crate::support::load::Load;
use crate::support::notify::Manager;
use crate::support::program::{Running, configure, program};
use crate::support::{ADMIN_PASSWORD, Answer, Server, eventually, http};

#[tokio::test]
async fn readyz_lists_its_checks() {
    let server = Server::start().await;
    let answer = server.get("/readyz", None).await.ok();
    assert_eq!(answer["message"], "ready");
    assert_eq!(answer["data"], json!({"running": "ok", "disk_space": "ok", "commit": "ok", "hub": "ok", "store": "ok"}));
    let admin = server.admin().await;
    let connections = server.get("/api/monitor/connections", Some(&admin)).await.ok();
    assert_eq!(connections["data"]["total_connections"], 0, "looking is no connection");
}

/// Starts a server whose data is on a disk, under a service manager with a watchdog.
async fn serve(dir: &Path, disk: &Disk, floor: u64) -> (Running, Manager) {
    let data = disk.path.join("data");
    configure(dir, &format!("data_dir = \"{}\"\n[storage]\nmin_free_bytes = {floor}\nballast_bytes = 0", data.display()));
    let mut command = program(dir, &["serve", "--config", "c.toml"]);
    let manager = Manager::start(dir);
    command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD).env("NOTIFY_SOCKET", manager.path()).env("WATCHDOG_USEC", "400000");
    (Running::spawn(command).await, manager)
}

async fn get(server: &Running, path: &str) -> Answer {
    http::call(server.address, "GET", path, "", "").await
}

/// Returns true if `/readyz` is 503 for that reason.
async fn not_ready(server: &Running, why: &str) -> bool {
    let answer = get(server, "/readyz").await;
    (answer.status.as_u16(), &answer.json["code"], &answer.json["message"])
        == (503, &json!("not_ready"), &json!(format!("not ready: {why}")))
}

async fn is_ready(server: &Running) -> bool {
    get(server, "/readyz").await.status == 200
}

#[tokio::test]
async fn low_disk_fails_readyz_and_keeps_watchdog_fed() {
    let dir = tempfile::tempdir().unwrap();
    let Some(small) = Disk::in_memory(dir.path(), 64) else { return };
    let (server, manager) = serve(dir.path(), &small, 32 << 20).await;
    assert!(is_ready(&server).await);
    let hog = small.path.join("hog");
    std::fs::write(&hog, vec![1; 40 << 20]).unwrap();
    eventually("the floor is crossed", async || not_ready(&server, "the disk is nearly full").await).await;
    assert_eq!(get(&server, "/healthz").await.status, 200);
    let signs = manager.count("WATCHDOG=1");
    eventually("it goes on feeding the watchdog", async || manager.count("WATCHDOG=1") > signs + 2).await;
    eventually("its status says so", async || manager.count("not ready: the disk is nearly full") > 0).await;
    std::fs::remove_file(&hog).unwrap();
    eventually("there is room again", async || is_ready(&server).await).await;
    server.stop().await;
}

#[tokio::test]
async fn hanging_disk_fails_readyz_and_starves_watchdog() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::ext4(dir.path(), 128) else { return };
    let (server, manager) = serve(dir.path(), &disk, 0).await;
    assert!(is_ready(&server).await);
    let load = Load::prepare(server.address, 1).await;
    if !disk.freeze(true) {
        println!("SKIPPED: nothing can be frozen here");
        return;
    }
    let path = format!("/api/messages/user/{}", load.recipients[0].id);
    let (address, admin) = (server.address, load.admin.clone());
    let sending = tokio::spawn(async move { http::post(address, &path, &admin, json!({"message": "late"})).await });
    eventually("the hanging commit is seen", async || not_ready(&server, "the disk takes no writes").await).await;
    assert_eq!(get(&server, "/healthz").await.status, 200, "it lives all the same");
    let silent = "not ready: the disk takes no writes";
    eventually("who feeds the watchdog has seen it, too", async || manager.count(silent) > 0).await;
    let (signs, words) = (manager.count("WATCHDOG=1"), manager.count(silent));
    eventually("it goes on saying what is wrong", async || manager.count(silent) > words + 5).await;
    assert_eq!(manager.count("WATCHDOG=1"), signs, "it says nothing while it is not well");
    assert!(disk.freeze(false));
    eventually("all is well again", async || is_ready(&server).await).await;
    sending.await.unwrap().ok(); // sent meanwhile, accepted late
    eventually("and said so", async || manager.count("WATCHDOG=1") > signs).await;
    server.stop().await;
}
