//! Servers, clients and stand-ins for what surrounds a server.

pub mod api;
pub mod board;
pub mod described;
pub mod disk;
pub mod engine;
pub mod http;
pub mod kept;
pub mod load;
pub mod notify;
pub mod page;
pub mod program;
pub mod raw;
pub mod reader;
mod server;
pub mod stub;
pub mod terminal;
pub mod ws;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

pub use http::Answer;
pub use reader::Reader;
pub use server::{Server, User, roomy, set, unlimited};
pub use ws::Client;

/// The time after which a test fails that waits for something. No test takes that long unless it fails.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// The first administrator's password.
pub const ADMIN_PASSWORD: &str = "correct-horse-battery";

/// Waits until `check` returns true.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("never came true: {what}"));
}

/// Waits for the turn of a test that measures latencies under load. One runs at a time, so that they don't measure each other.
pub async fn exclusive() -> tokio::sync::MutexGuard<'static, ()> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    TURN.lock().await
}

/// Returns an address that nobody listens on. Its port is below those that the kernel gives to other tests' sockets.
pub fn free_address() -> SocketAddr {
    let ports = std::iter::repeat_with(|| rand::random_range(10_000..32_000));
    let listener = ports.take(100).find_map(|port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).ok());
    listener.expect("a free port").local_addr().unwrap()
}
