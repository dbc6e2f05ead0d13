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

/// Makes accepted sockets send small frames at once. Linux hands the option on from the listener, which saves a system call
/// a connection; Salvo never sets it.
///
/// # Errors
/// What the system says.
pub fn set_nodelay(listener: &TcpListener) -> io::Result<()> {
    SockRef::from(listener).set_tcp_nodelay(true)
}
