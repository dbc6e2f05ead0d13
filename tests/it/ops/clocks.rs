//! Wall clocks that are wrong: lives of credentials and messages don't hang on them.
//!
//! The program runs with libfaketime, which shifts its wall clock alone, and, where a new boot is to be seen, in a mount namespace with
//! another boot id. Where one of them is missing, the test says so and passes.

use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::program::{Running, configure, output, program};
use crate::support::ws::Client;
use crate::support::{ADMIN_PASSWORD, eventually, http};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio_tungstenite::tungstenite::Message;

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;

/// The shift to the beginning of 1970.
fn in_1970() -> i64 {
    10 - i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// A machine whose wall clock can be set, and which can be started again.
struct Machine {
    dir: tempfile::TempDir,
    library: PathBuf,
    boot: u32,
}

impl Machine {
    /// `None` where libfaketime is missing.
    fn new() -> Option<Self> {
        let places = ["x86_64-linux-gnu", "aarch64-linux-gnu", "arm-linux-gnueabihf"];
        let mut places = places.iter().map(|arch| PathBuf::from(format!("/usr/lib/{arch}/faketime/libfaketime.so.1")));
        let Some(library) = places.find(|path| path.exists()) else {
            println!("SKIPPED: libfaketime is not installed");
            return None;
        };
        Some(Self { dir: tempfile::tempdir().unwrap(), library, boot: 0 })
    }

    fn at(&self) -> &Path {
        self.dir.path()
    }

    /// Sets the wall clock, to so many seconds after the right time.
    fn set(&self, shift: i64) {
        let (new, file) = (self.at().join("shift.new"), self.at().join("shift"));
        std::fs::write(&new, format!("{shift:+}")).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// Returns whether this user may start a program in a namespace with another boot id; says so if not.
    fn can_reboot(&self) -> bool {
        let outcome = Process::new("unshare").args(["-m", "sh", "-c", &self.other_boot_id(1, "true")]).output();
        let can = outcome.is_ok_and(|output| output.status.success());
        if !can {
            println!("SKIPPED: no right to make a mount namespace");
        }
        can
    }

    fn other_boot_id(&self, boot: u32, then: &str) -> String {
        let file = self.at().join("boot_id");
        std::fs::write(&file, format!("{boot:08x}-0000-4000-8000-000000000000\n")).unwrap();
        format!("mount --bind {} /proc/sys/kernel/random/boot_id && exec {then}", file.display())
    }

    /// Starts the program, with a clock that is shifted.
    async fn start(&self, shift: i64) -> Running {
        self.set(shift);
        configure(self.at(), "[limits]\nlogins_per_minute = 0\nping_seconds = 1\n");
        let mut command = program(self.at(), &["serve", "--config", "c.toml"]);
        if self.boot > 0 {
            let serve = format!("{} serve --config c.toml", env!("CARGO_BIN_EXE_qy-lty"));
            let script = self.other_boot_id(self.boot, &serve);
            let mut inside = Command::new("unshare");
            inside.args(["-m", "sh", "-c", &script]).current_dir(self.at()).kill_on_drop(true);
            inside.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            command = inside;
        }
        command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD).env("LD_PRELOAD", &self.library);
        command.env("FAKETIME_TIMESTAMP_FILE", self.at().join("shift")).env("FAKETIME_NO_CACHE", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        Running::spawn(command).await
    }

    /// The next start is one of the whole system.
    fn reboot(&mut self) {
        self.boot += 1;
    }
}

/// Makes a token of the administrator with a life in seconds.
async fn token(server: &Running, admin: &str, life: Option<i64>) -> String {
    let made = http::post(server.address, "/api/auth/tokens", admin, json!({ "expires_in": life })).await.expect(201);
    made["data"]["token"].as_str().unwrap().to_owned()
}

async fn accepted(server: &Running, token: &str) -> bool {
    http::call(server.address, "GET", "/api/auth/me", token, "").await.status == 200
}

/// Logs in as the page does; returns the cookie.
async fn cookie(server: &Running) -> String {
    let body = json!({ "username": "admin", "password": ADMIN_PASSWORD, "cookie": true }).to_string();
    let headers = [("content-type", "application/json")];
    let answer = http::request(server.address, "POST", "/api/auth/login", &headers, body.as_bytes()).await;
    answer.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned()
}

async fn cookie_accepted(server: &Running, cookie: &str) -> bool {
    http::request(server.address, "GET", "/api/auth/me", &[("cookie", cookie)], b"").await.status == 200
}

async fn send(server: &Running, admin: &str, ttl: i64) -> u64 {
    let sent = http::post(server.address, "/api/messages/user/1", admin, json!({ "message": "m", "ttl": ttl })).await.ok();
    sent["data"]["id"].as_u64().unwrap()
}

async fn status(server: &Running, admin: &str, id: u64) -> Value {
    http::call(server.address, "GET", &format!("/api/messages/{id}"), admin, "").await.ok()["data"]["status"].clone()
}

/// The wall clock that the server shows.
async fn wall(server: &Running, admin: &str) -> String {
    let sent = http::post(server.address, "/api/messages/user/1", admin, json!({ "message": "m", "ttl": 1 })).await.ok();
    sent["data"]["timestamp"].as_str().unwrap().to_owned()
}

/// Opens a connection that receives nothing for good.
async fn watch(server: &Running, token: &str) -> Client {
    Client::open(server.address, &format!("/ws/device?peek=1&token={token}"), &[]).await.unwrap()
}

/// Reads to the close frame, and returns its code.
async fn close_code(client: &mut Client) -> u16 {
    loop {
        match client.next().await {
            Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
            Some(Ok(_)) => {}
            other => panic!("no close frame: {other:?}"),
        }
    }
}

#[tokio::test]
async fn credentials_and_messages_of_1970_outlive_the_setting_of_the_clock() {
    let Some(machine) = Machine::new() else { return };
    let server = machine.start(in_1970()).await;
    let admin = http::log_in(server.address, "admin", ADMIN_PASSWORD).await;
    assert!(wall(&server, &admin).await.starts_with("1970-"), "the clock is shifted");
    let year = token(&server, &admin, Some(YEAR)).await;
    let hour = token(&server, &admin, Some(3600)).await;
    let page = cookie(&server).await;
    let message = send(&server, &admin, 3600).await;
    // Each end of a run: killed at once after the clock was set, and stopped.
    machine.set(0);
    let all = [&year, &hour];
    for token in all {
        assert!(accepted(&server, token).await, "in the same run");
    }
    server.kill().await;
    let mut server = machine.start(0).await;
    for (shift, clean) in [(0, false), (YEAR, true), (in_1970(), false), (-DAY, true), (10 * YEAR, false), (0, true)] {
        assert_eq!(status(&server, &admin, message).await, "queued", "{shift}");
        for token in all {
            assert!(accepted(&server, token).await, "{shift}");
        }
        assert!(cookie_accepted(&server, &page).await, "{shift}");
        machine.set(shift);
        assert!(accepted(&server, &hour).await && cookie_accepted(&server, &page).await, "{shift}");
        if clean {
            server.stop().await;
        } else {
            server.kill().await;
        }
        server = machine.start(shift).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn what_has_expired_stays_expired() {
    let Some(machine) = Machine::new() else { return };
    let mut server = machine.start(0).await;
    let admin = http::log_in(server.address, "admin", ADMIN_PASSWORD).await;
    let short = token(&server, &admin, Some(2)).await;
    let message = send(&server, &admin, 1).await;
    let mut socket = watch(&server, &short).await;
    assert_eq!(close_code(&mut socket).await, 4001);
    eventually("the message expires", async || status(&server, &admin, message).await == "expired").await;
    for (shift, clean) in [(-YEAR, true), (in_1970(), false), (0, false)] {
        machine.set(shift);
        assert!(!accepted(&server, &short).await, "{shift}");
        if clean {
            server.stop().await;
        } else {
            server.kill().await;
        }
        server = machine.start(shift).await;
        assert!(!accepted(&server, &short).await && accepted(&server, &admin).await, "{shift}");
        assert_eq!(status(&server, &admin, message).await, "expired", "{shift}");
    }
    server.stop().await;
}

#[tokio::test]
async fn end_that_is_shown_follows_the_clock() {
    let Some(machine) = Machine::new() else { return };
    let server = machine.start(in_1970()).await;
    let admin = http::log_in(server.address, "admin", ADMIN_PASSWORD).await;
    let year = token(&server, &admin, Some(YEAR)).await;
    let end = async || {
        let me = http::call(server.address, "GET", "/api/auth/me", &year, "").await.ok();
        me["data"]["token"]["expires_at"].as_str().unwrap()[..4].to_owned()
    };
    assert_eq!(end().await, "1971");
    machine.set(0);
    let now: i32 = wall(&server, &admin).await[..4].parse().unwrap();
    assert_eq!(end().await.parse::<i32>().unwrap(), now + 1);
    server.stop().await;
}

#[tokio::test]
async fn stop_counts_whole_for_credentials_once_the_clock_is_right() {
    let Some(mut machine) = Machine::new() else { return };
    if !machine.can_reboot() {
        return;
    }
    machine.reboot();
    let server = machine.start(0).await;
    let admin = http::log_in(server.address, "admin", ADMIN_PASSWORD).await;
    let (week, month, forever) = (
        token(&server, &admin, Some(7 * DAY)).await,
        token(&server, &admin, Some(30 * DAY)).await,
        token(&server, &admin, None).await,
    );
    let (hour, two_days) = (send(&server, &admin, 3600).await, send(&server, &admin, 2 * DAY).await);
    server.stop().await;

    // Ten days later, with a clock that shows 1970.
    machine.reboot();
    let server = machine.start(in_1970()).await;
    for token in [&week, &month, &forever] {
        assert!(accepted(&server, token).await, "nothing is known of the stop");
    }
    let made_in_1970 = token(&server, &admin, Some(3600)).await;
    let mut socket = watch(&server, &week).await;
    machine.set(10 * DAY);
    eventually("the stop counts", async || !accepted(&server, &week).await).await;
    assert_eq!(close_code(&mut socket).await, 4001);
    for token in [&month, &forever, &made_in_1970] {
        assert!(accepted(&server, token).await);
    }
    assert_eq!(status(&server, &admin, hour).await, "queued", "no message ages at once");
    server.kill().await;

    // The clock was right at both ends of this stop: 15 days.
    machine.reboot();
    let server = machine.start(25 * DAY).await;
    assert!(!accepted(&server, &week).await && !accepted(&server, &made_in_1970).await);
    assert!(accepted(&server, &month).await && accepted(&server, &forever).await);
    eventually("a day counts for messages", async || status(&server, &admin, hour).await == "expired").await;
    assert_eq!(status(&server, &admin, two_days).await, "queued");
    server.stop().await;

    // 1970 again: what has expired stays expired.
    machine.reboot();
    let server = machine.start(in_1970()).await;
    assert!(!accepted(&server, &week).await && !accepted(&server, &made_in_1970).await && accepted(&server, &month).await);
    server.stop().await;
}

#[tokio::test]
async fn time_since_a_backup_counts_for_restored_tokens() {
    let Some(mut machine) = Machine::new() else { return };
    if !machine.can_reboot() {
        return;
    }
    machine.reboot();
    let server = machine.start(0).await;
    let admin = http::log_in(server.address, "admin", ADMIN_PASSWORD).await;
    let (month, two_years) = (token(&server, &admin, Some(30 * DAY)).await, token(&server, &admin, Some(2 * YEAR)).await);
    let run = async |args: &[&str]| {
        let outcome = output(program(machine.at(), &[&["--config", "c.toml"], args].concat())).await;
        assert!(outcome.status.success(), "{}", String::from_utf8_lossy(&outcome.stderr));
    };
    run(&["backup", "b"]).await;
    server.stop().await;
    std::fs::rename(machine.at().join("data"), machine.at().join("before")).unwrap();
    run(&["restore", "b"]).await;
    machine.reboot();
    let server = machine.start(YEAR).await;
    assert!(!accepted(&server, &month).await && accepted(&server, &two_years).await && accepted(&server, &admin).await);
    server.stop().await;
}
