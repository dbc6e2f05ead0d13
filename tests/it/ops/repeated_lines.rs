//! Repeated lines of the log: one a minute, with a count.

use std::net::SocketAddr;

use crate::support::program::{Running, configure, program};
use crate::support::{ADMIN_PASSWORD, eventually};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::Command;

/// Connects from an address of its own, as many clients do.
async fn connect(to: SocketAddr, n: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 1, n], 0))).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn server_without_free_descriptors_logs_that_once_and_counts_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), "");
    // With the hard limit, which the server can't raise.
    let inner = program(dir.path(), &["serve", "--config", "c.toml"]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 60; exec \"$@\"", "sh"]).arg(inner.as_std().get_program()).args(inner.as_std().get_args());
    command.current_dir(dir.path()).env_remove("RUST_LOG").env("QY_LTY_ADMIN_PASSWORD", ADMIN_PASSWORD);
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command.kill_on_drop(true);
    let server = Running::spawn(command).await;
    let mut sockets = Vec::new();
    for n in 1..=80 {
        sockets.push(connect(server.address, n).await);
    }
    let lines = |log: &str| log.lines().filter(|line| line.contains("accept connection failed")).count();
    eventually("it has no free descriptor", async || lines(&server.log()) > 0).await;
    // It tries again every 10 ms for as long as the sockets are open; the pause only makes the count large.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    let before = server.log();
    drop(sockets);
    let (_, log) = server.stop().await;
    let counted = log.lines().filter(|line| line.contains("accept connection failed")).filter_map(|line| {
        let (_, count) = line.split_once(" left_out=")?;
        count.parse::<u64>().ok()
    });
    assert!(counted.sum::<u64>() >= 10, "{log}");
    // One, and one more if the machine was so slow that a minute has passed.
    assert!((1..=2).contains(&lines(&before)) && lines(&log) <= 3, "{log}");
}
