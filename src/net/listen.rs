//! Listening sockets: our own, or those that systemd holds for us (socket activation).

use std::io;
use std::net::SocketAddr;

use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpListener;

/// How many connections the kernel may hold that we have not accepted yet: a restart of ten thousand devices is a burst.
const BACKLOG: i32 = 4096;

/// What is listened on. Made from the main listener alone, or from what systemd hands over.
#[derive(Debug)]
pub struct Listeners {
    /// REST, WebSockets and the page.
    pub http: TcpListener,
    /// Answers plain HTTP with the way to HTTPS; `None`: as configured.
    pub redirect: Option<TcpListener>,
    /// Figures for a collector; `None`: as configured.
    pub metrics: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(http: TcpListener) -> Self {
        Self { http, redirect: None, metrics: None }
    }
}

/// Takes over the sockets that systemd listens on for us (`LISTEN_FDS`), so that nobody is refused across a restart; `None`
/// where there are none. `FileDescriptorName=` tells what each is for: `redirect`, `metrics`; any other name is the main one.
/// Must be called inside a tokio runtime, once.
///
/// # Errors
/// A socket that is no TCP listener, two for the same purpose, or none for the main one.
pub fn inherited() -> io::Result<Option<Listeners>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut sockets = ListenFd::from_env();
    let (mut http, mut redirect, mut metrics) = (None, None, None);
    for (n, name) in (0..sockets.len()).zip(names.split(':').chain(std::iter::repeat(""))) {
        let Some(socket) = sockets.take_tcp_listener(n)? else { continue };
        socket.set_nonblocking(true)?;
        let (place, what) = match name {
            "redirect" => (&mut redirect, "to redirect"),
            "metrics" => (&mut metrics, "for metrics"),
            _ => (&mut http, "to serve on"),
        };
        if place.replace(TcpListener::from_std(socket)?).is_some() {
            return Err(io::Error::other(format!("more than one socket {what}; one on [::] takes IPv4 as well")));
        }
    }
    match http {
        Some(http) => Ok(Some(Listeners { http, redirect, metrics })),
        None if sockets.len() == 0 => Ok(None),
        None => Err(io::Error::other("there are sockets, but none to serve on")),
    }
}

/// Binds `address`. Must be called inside a tokio runtime.
///
/// # Errors
/// What the system says, for example that the address is in use.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?; // a restart must not wait for TIME_WAIT
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// How much the kernel takes of one connection beyond what is on its way. Without a bound it grows to megabytes for each slow
/// reader, in memory that no limit of ours sees, and a socket then counts as stuck although its reader reads.
const UNSENT: u32 = 128 * 1024;

/// Makes accepted sockets send small frames at once, and take no more than they can soon send. Linux hands both on from the
/// listener, which saves system calls for each connection; Salvo sets neither.
///
/// # Errors
/// What the system says.
pub fn tune(listener: &TcpListener) -> io::Result<()> {
    let socket = SockRef::from(listener);
    socket.set_tcp_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT)?;
    Ok(())
}
