//! Whether the server knows how it is: `/readyz` names what is wrong, `/healthz` only lives.

use std::path::{Path, PathBuf};
use std::process::Command as Std;

use crate::support::notify::Manager;
use crate::support::program::{Running, program};
use crate::support::{ADMIN_PASSWORD, DEADLINE, Server, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn ready_says_what_was_looked_at() {
    let server = Server::start().await;
    let answer = server.get("/readyz", None).await.ok();
    assert_eq!(answer["message"], "ready");
    assert_eq!(answer["data"], json!({"running": "ok", "disk_space": "ok", "commit": "ok", "hub": "ok"}));
    let admin = server.admin().await;
    let connections = server.get("/api/monitor/connections", Some(&admin)).await.ok();
    assert_eq!(connections["data"]["total_connections"], 0, "looking is no connection");
}

/// A file system of its own; thawed and unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(dir: &Path, kind: &str) -> Option<Self> {
        let (image, at) = (dir.join("disk.img"), dir.join("mnt"));
        std::fs::create_dir(&at).ok()?;
        let mut mount = Std::new("mount");
        if kind == "tmpfs" {
            mount.args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(&at);
        } else {
            std::fs::File::create(&image).ok()?.set_len(128 << 20).ok()?;
            Std::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).output().ok()?;
            mount.args(["-o", "loop"]).arg(&image).arg(&at);
        }
        let done = mount.output().is_ok_and(|output| output.status.success());
        if !done {
            println!("SKIPPED: no {kind} can be mounted here (root is needed)");
        }
        done.then_some(Self(at))
    }

    fn freeze(&self, freeze: bool) -> bool {
        let how = if freeze { "-f" } else { "-u" };
        Std::new("fsfreeze").arg(how).arg(&self.0).output().is_ok_and(|output| output.status.success())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.freeze(false);
        let _ = Std::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The program with its data there, under a service manager of ours with a watchdog.
async fn serve(dir: &Path, data: &Path, floor: u64) -> (Running, Manager) {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\ndata_dir = \"{}\"\n[storage]\nmin_free_bytes = {floor}\nballast_bytes = 0\n",
        data.join("data").display()
    );
    std::fs::write(dir.join("c.toml"), text).unwrap();
    let mut command = program(dir, &["serve", "--config", "c.toml"]);
    let manager = Manager::start(dir);
    command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD).env("NOTIFY_SOCKET", manager.path()).env("WATCHDOG_USEC", "400000");
    (Running::spawn(command).await.quiet(), manager)
}

async fn ask(server: &Running, path: &str) -> (u16, Value) {
    crate::support::load::request(&server.address, "GET", path, "", "").await.expect("an answer")
}

/// Whether `/readyz` is 503 for that reason.
async fn not_ready(server: &Running, why: &str) -> bool {
    let (status, answer) = ask(server, "/readyz").await;
    (status, &answer["code"], &answer["message"]) == (503, &json!("not_ready"), &json!(format!("not ready: {why}")))
}

async fn is_ready(server: &Running) -> bool {
    ask(server, "/readyz").await.0 == 200
}

#[tokio::test]
async fn too_little_room_is_said_but_calls_for_no_restart() {
    let dir = tempfile::tempdir().unwrap();
    let Some(small) = Mounted::new(dir.path(), "tmpfs") else { return };
    let (mut server, manager) = serve(dir.path(), &small.0, 32 << 20).await;
    assert!(is_ready(&server).await);
    let hog = small.0.join("hog");
    std::fs::write(&hog, vec![1; 40 << 20]).unwrap();
    eventually("the floor is crossed", async || not_ready(&server, "the disk is nearly full").await).await;
    assert_eq!(ask(&server, "/healthz").await.0, 200);
    let signs = manager.count("WATCHDOG=1");
    eventually("it goes on feeding the watchdog", async || manager.count("WATCHDOG=1") > signs + 2).await;
    eventually("its status says so", async || manager.count("not ready: the disk is nearly full") > 0).await;
    std::fs::remove_file(&hog).unwrap();
    eventually("there is room again", async || is_ready(&server).await).await;
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_disk_that_hangs_is_found_out_and_the_watchdog_starves() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Mounted::new(dir.path(), "ext4") else { return };
    let (mut server, manager) = serve(dir.path(), &disk.0, 0).await;
    assert!(is_ready(&server).await);
    let load = crate::support::load::Load::prepare(&server.address, ADMIN_PASSWORD, 1).await;
    if !disk.freeze(true) {
        println!("SKIPPED: nothing can be frozen here");
        return;
    }
    let (path, body) = (format!("/api/messages/user/{}", load.recipients[0].id), r#"{"message":"late"}"#);
    let mut sending = TcpStream::connect(server.socket_address()).await.unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Token {}\r\n", load.admin);
    let rest = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    sending.write_all((head + &rest).as_bytes()).await.unwrap();
    eventually("the hanging commit is seen", async || not_ready(&server, "the disk takes no writes").await).await;
    assert_eq!(ask(&server, "/healthz").await.0, 200, "it lives all the same");
    let silent = "not ready: the disk takes no writes";
    eventually("who feeds the watchdog has seen it, too", async || manager.count(silent) > 0).await;
    let (signs, words) = (manager.count("WATCHDOG=1"), manager.count(silent));
    eventually("it goes on saying what is wrong", async || manager.count(silent) > words + 5).await;
    assert_eq!(manager.count("WATCHDOG=1"), signs, "it says nothing while it is not well");
    assert!(disk.freeze(false));
    eventually("all is well again", async || is_ready(&server).await).await;
    let mut answer = String::new();
    timeout(DEADLINE, sending.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "what was sent meanwhile was taken, late: {answer}");
    eventually("and said so", async || manager.count("WATCHDOG=1") > signs).await;
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0));
}
