//! Notifications to systemd, and sockets passed by it. `tests/external/systemd/run.sh` does the same with a real systemd.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use crate::support::notify::Manager;
use crate::support::program::{Running, configure, output, program};
use crate::support::raw::{self, Reply};
use crate::support::{ADMIN_PASSWORD, DEADLINE, eventually, http};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

#[tokio::test]
async fn systemd_is_notified_of_each_stage() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path());
    configure(dir.path(), "");
    let mut command = program(dir.path(), &["serve", "--config", "c.toml"]);
    command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD).env("NOTIFY_SOCKET", manager.path()).env("WATCHDOG_USEC", "200000");
    let server = Running::spawn(command).await;
    eventually("it is ready", async || manager.count("READY=1") == 1).await;
    http::call(server.address, "GET", "/readyz", "", "").await.ok();
    let serving = format!("STATUS=serving on {}", server.address);
    eventually("it feeds the watchdog", async || manager.count("WATCHDOG=1") > 3).await;
    assert!(manager.count(&format!("{serving}; 0 connected")) > 3);
    server.signal("HUP");
    eventually("it has read the settings again", async || manager.count("READY=1") == 2).await;
    let reloads = manager.heard().into_iter().filter(|text| text.contains("RELOADING=1")).collect::<Vec<_>>();
    assert!(reloads.len() == 1 && reloads[0].contains("MONOTONIC_USEC="), "{reloads:?}");
    server.stop().await;
    eventually("its end is heard", async || manager.count("STOPPING=1") == 1).await;
    let heard = manager.heard();
    let place = |words: &str| heard.iter().position(|text| text.contains(words)).unwrap_or_else(|| panic!("{words}: {heard:?}"));
    let order = ["STATUS=opening the store", "EXTEND_TIMEOUT_USEC=60000000", "READY=1", "WATCHDOG=1", "STOPPING=1"].map(place);
    assert!(order.is_sorted(), "{heard:?}");
    assert_eq!(place("STOPPING=1"), heard.len() - 1, "after that nothing: {heard:?}");
}

#[tokio::test]
async fn failed_start_never_notifies_ready() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Manager::start(dir.path());
    configure(dir.path(), "[tls]\ncert = \"no\"\nkey = \"no\"");
    let mut command = program(dir.path(), &["serve", "--config", "c.toml"]);
    command.env("NOTIFY_SOCKET", manager.path());
    let outcome = output(command).await;
    assert_eq!(outcome.status.code(), Some(1));
    eventually("it has begun", async || manager.count("opening the store") == 1).await;
    assert_eq!(manager.count("READY=1"), 0);
}

/// The program with sockets as systemd passes them: 3, and 4 where there is a second. A shell puts them there.
fn activated(at: &Path, names: &str, first: &TcpListener, second: Option<&TcpListener>) -> Command {
    let as_fd = |listener: &TcpListener| Stdio::from(OwnedFd::from(listener.try_clone().unwrap()));
    let count = if second.is_some() { 2 } else { 1 };
    let script = format!(
        "exec 3<&0 {} </dev/null; LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names} exec \"$0\" serve --config c.toml",
        if second.is_some() { "4<&1 >/dev/null" } else { "" }
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_qy-lty")]).current_dir(at).env_remove("RUST_LOG").kill_on_drop(true);
    command.env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD).stdin(as_fd(first)).stderr(Stdio::piped());
    command.stdout(second.map_or_else(Stdio::piped, as_fd));
    command
}

/// Asks on a connection that is open already.
async fn ask(stream: TcpStream) -> Reply {
    raw::exchange(stream, &raw::request("GET", "/healthz", &[], "")).await
}

#[tokio::test]
async fn connection_between_two_runs_is_accepted_by_second() {
    let dir = tempfile::tempdir().unwrap();
    // The address in the file does not count; nobody can listen there.
    std::fs::write(dir.path().join("c.toml"), "[server]\nlisten = \"192.0.2.1:1\"\n").unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let early = TcpStream::connect(address).await.unwrap();
    let first = Running::spawn(activated(dir.path(), "qy-lty.socket", &held, None)).await;
    assert_eq!(first.address, address);
    assert_eq!(ask(early).await.status, 200);
    first.stop().await;
    let between = TcpStream::connect(address).await.unwrap();
    let second = Running::spawn(activated(dir.path(), "http", &held, None)).await;
    assert_eq!(ask(between).await.status, 200);
    drop(second);
}

#[tokio::test]
async fn passed_sockets_are_told_apart_by_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("c.toml"), "[tls]\nself_signed = true\n").unwrap();
    let (redirect, main) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let server = Running::spawn(activated(dir.path(), "redirect:http", &redirect, Some(&main))).await;
    assert_eq!(server.address, main.local_addr().unwrap());
    let answer = ask(TcpStream::connect(redirect.local_addr().unwrap()).await.unwrap()).await;
    assert_eq!(answer.status, 308, "{answer:?}");
    let to = format!("https://x:{}/healthz", main.local_addr().unwrap().port());
    assert_eq!(answer.header("location"), Some(to.as_str()), "{answer:?}");
}

#[tokio::test]
async fn unusable_passed_sockets_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "");
    let (one, two) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let cases = [
        (activated(dir.path(), "http:http", &one, Some(&two)), "more than one main socket"),
        (activated(dir.path(), "metrics", &one, None), "no main one"),
        (activated(dir.path(), "redirect:http", &one, Some(&two)), "needs a certificate"),
    ];
    for (mut command, why) in cases {
        // Not `output`, which would replace the standard output that is the second socket.
        let output = timeout(DEADLINE, command.spawn().unwrap().wait_with_output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(!dir.path().join("data").exists(), "nothing is made where nothing can be served");
    }
}
