//! The process: first start, refused starts, shutdown.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::program::{Running, configure, output, program};
use crate::support::{Client, eventually, http};

/// Three times the server's timeout for stopping, which is 4 seconds: a busy machine stops within it, a shutdown that hangs does not.
const MAX_STOP_TIME: Duration = Duration::from_secs(3 * 4);

/// Runs the program to its end and returns the exit code and its standard error.
async fn outcome(at: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = output(program(at, args)).await;
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Logs in with the password that the first start prints.
async fn log_in(server: &Running) -> String {
    let mut password = None;
    eventually("a password is printed", async || {
        let printed = server.printed();
        let line = printed.lines().find_map(|line| line.trim().strip_prefix("password"));
        password = line.and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
        password.is_some()
    })
    .await;
    http::log_in(server.address, "admin", &password.unwrap()).await
}

#[tokio::test]
async fn first_start_prints_working_password_and_second_none() {
    let dir = tempfile::tempdir().unwrap();
    let first = Running::start(dir.path()).await;
    let mode = std::fs::metadata(dir.path().join("data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let address = first.address;
    let (printed, _) = first.stop().await;
    assert!(printed.contains(&format!("http://{address}")), "{printed}");
    let line = printed.lines().find_map(|line| line.trim().strip_prefix("password")).unwrap();
    let password = line.split_whitespace().next().unwrap().to_owned();

    let mut second = Running::start(dir.path()).await;
    assert!(http::log_in(second.address, "admin", &password).await.starts_with("qlt_"));
    second.signal("INT");
    assert_eq!(second.ended().await.code(), Some(0));
    let (printed, log) = second.outputs();
    assert_eq!(printed, "");
    assert!(!log.contains(&password));
}

#[tokio::test]
async fn start_is_refused_on_unusable_directory_port_or_config() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let refused = async |what: &str| {
        let (code, said) = outcome(at, &["--config", "c.toml"]).await;
        assert_eq!(code, Some(1), "{said}");
        let words = said.lines().last().unwrap_or_default().to_owned();
        assert!(words.starts_with("qy-lty: ") && words.contains(what), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    };

    let running = Running::start(at).await;
    refused("another qy-lty is using").await;
    std::fs::write(at.join("c.toml"), format!("[server]\nlisten = \"{}\"\ndata_dir = \"other\"\n", running.address)).unwrap();
    refused("is in use").await;
    assert!(!at.join("other").exists(), "nothing is made where nothing can be served");
    running.kill().await;

    configure(at, "");
    std::fs::remove_dir_all(at.join("data")).unwrap();
    std::fs::create_dir(at.join("data")).unwrap();
    std::fs::set_permissions(at.join("data"), std::fs::Permissions::from_mode(0o777)).unwrap();
    refused("can be written by everybody").await;
    std::fs::rename(at.join("data"), at.join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", at.join("data")).unwrap();
    refused("is a symbolic link").await;
    std::fs::remove_file(at.join("data")).unwrap();
    std::fs::write(at.join("data"), "").unwrap();
    refused("is not a directory").await;

    std::fs::write(at.join("c.toml"), "[limits]\nping_second = 5\n").unwrap();
    refused("c.toml:2: unknown key \"ping_second\"; did you mean \"ping_seconds\"?").await;
    std::fs::remove_file(at.join("c.toml")).unwrap();
    refused("failed to read c.toml").await;
    assert_eq!(outcome(at, &["--no-such-flag"]).await.0, Some(2));
}

#[tokio::test]
async fn short_first_password_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "");
    let mut command = program(dir.path(), &["--config", "c.toml"]);
    command.env("QY_LTY_ADMIN_PASSWORD", "short");
    let bad = output(command).await;
    assert_eq!(bad.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&bad.stderr).contains("at least 8 characters"));
}

#[tokio::test]
async fn shutdown_closes_clients_with_1001_and_ignores_silent_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path()).await;
    let token = log_in(&server).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(Client::connect(server.address, &token).await);
    }
    let start = Instant::now();
    server.signal("TERM");
    for client in &mut clients[..4] {
        assert_eq!(client.closed().await, 1001);
    }
    assert_eq!(server.ended().await.code(), Some(0)); // the fifth never reads, and does not hold up the end
    assert!(start.elapsed() < MAX_STOP_TIME, "{:?}", start.elapsed());
    // Nothing was left half done: the data opens again.
    Running::start(dir.path()).await.stop().await;
}

#[tokio::test]
async fn second_signal_ends_process_with_130() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Running::start(dir.path()).await;
    let _never_reads = Client::connect(server.address, &log_in(&server).await).await;
    server.signal("TERM");
    eventually("it is stopping", async || server.log().contains("stopping")).await;
    server.signal("INT");
    assert_eq!(server.ended().await.code(), Some(130), "not the 0 of a shutdown that waits for clients");
}

#[tokio::test]
async fn token_survives_sigkill_after_log_in() {
    let dir = tempfile::tempdir().unwrap();
    let server = Running::start(dir.path()).await;
    let token = log_in(&server).await;
    server.kill().await;
    let server = Running::start(dir.path()).await;
    Client::connect(server.address, &token).await;
    server.stop().await;
}
