//! Listening sockets: bound here, or inherited from systemd (socket activation).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpListener;

/// The number of connections that the kernel queues until they are accepted: after a restart, ten thousand devices reconnect at once.
const BACKLOG_CONNECTIONS: i32 = 4096;

/// The listening sockets of a server. Converted from the main one alone, or inherited from systemd.
#[derive(Debug)]
pub struct Listeners {
    /// The main listener: REST, WebSockets and the pages.
    pub http: TcpListener,
    /// The listener that redirects plain HTTP to HTTPS; `None`: as configured.
    pub redirect: Option<TcpListener>,
    /// The listener for `/metrics` alone; `None`: as configured.
    pub metrics: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(http: TcpListener) -> Self {
        Self { http, redirect: None, metrics: None }
    }
}

/// Returns the sockets that systemd listens on (`LISTEN_FDS`), so that no connection is refused during a restart; `None` where there
/// are none. `FileDescriptorName=` gives the purpose of each: `redirect`, `metrics`; any other name is the main one. Must be called
/// once, inside a tokio runtime.
///
/// # Errors
/// A socket that is not a TCP listener, two for the same purpose, or none for the main one.
pub fn inherited() -> io::Result<Option<Listeners>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut sockets = ListenFd::from_env();
    let (mut http, mut redirect, mut metrics) = (None, None, None);
    for (n, name) in (0..sockets.len()).zip(names.split(':').chain(std::iter::repeat(""))) {
        let Some(socket) = sockets.take_tcp_listener(n)? else { continue };
        socket.set_nonblocking(true)?;
        let (slot, purpose) = match name {
            "redirect" => (&mut redirect, "redirect"),
            "metrics" => (&mut metrics, "metrics"),
            _ => (&mut http, "main"),
        };
        if slot.replace(TcpListener::from_std(socket)?).is_some() {
            return Err(io::Error::other(format!("more than one {purpose} socket; one on [::] accepts IPv4 as well")));
        }
    }
    match http {
        Some(http) => Ok(Some(Listeners { http, redirect, metrics })),
        None if sockets.len() == 0 => Ok(None),
        None => Err(io::Error::other("there are sockets, but no main one; set FileDescriptorName=http")),
    }
}

/// Binds `address`. Must be called inside a tokio runtime.
///
/// # Errors
/// The system's error, for example an address that is in use.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?; // a restart must not wait for TIME_WAIT to pass
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG_CONNECTIONS)?;
    TcpListener::from_std(socket.into())
}

/// The largest amount of unsent data that the kernel buffers for one connection. Without a bound it grows to megabytes for each slow
/// reader, in memory that no limit of this program covers, and a socket then looks stuck although its peer reads.
const MAX_UNSENT_BYTES: u32 = 128 * 1024;

/// The time without traffic after which the kernel probes the peer of an otherwise idle connection.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
/// The time between two such probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// The number of unanswered probes that end a connection.
const KEEPALIVE_RETRIES: u32 = 4;

/// Sets `TCP_NODELAY`, so that small frames are sent at once, keepalive probes, and a bound for unsent data on accepted sockets. On
/// Linux they inherit all of these from the listener, which saves system calls for each connection; Salvo sets none.
///
/// Not `TCP_USER_TIMEOUT`: Linux applies it to peers with a full receive buffer too, although they answer every probe, and so would
/// end the connections of clients that are only busy. See [`peer`](super::peer).
///
/// # Errors
/// The system's error.
pub fn tune(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    socket.set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_RETRIES))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES)?;
    Ok(())
}
