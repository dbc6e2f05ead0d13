//! Listening sockets.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::TcpListener;

/// How many connections the kernel may hold that we have not accepted yet: a restart of ten thousand devices is a burst.
const BACKLOG: i32 = 4096;

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
