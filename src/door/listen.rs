//! Listening sockets.

use std::fs::{self, File, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use salvo::conn::unix::{UnixAcceptor, UnixListener};

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

/// The console's socket, in the data directory.
const CONSOLE: &str = "admin.sock";

/// Where the console's socket is.
pub struct ConsolePath {
    path: PathBuf,
    /// The path leads through this directory's number.
    _directory: File,
}

impl ConsolePath {
    /// In the data directory `data`. However long its path is: a socket's address has room for some hundred bytes only.
    ///
    /// # Errors
    /// When the directory can't be opened.
    pub fn of(data: &Path) -> io::Result<Self> {
        let directory = File::open(data)?;
        let path = if cfg!(target_os = "linux") {
            format!("/proc/self/fd/{}/{CONSOLE}", directory.as_raw_fd()).into()
        } else {
            data.join(CONSOLE)
        };
        Ok(Self { path, _directory: directory })
    }

    /// To connect to.
    pub fn as_path(&self) -> &Path {
        &self.path
    }

    /// Listens there; what an earlier run has left goes. The directory is ours alone, and so is the socket.
    ///
    /// # Errors
    /// What the system says.
    pub async fn bind(&self) -> io::Result<UnixAcceptor> {
        self.remove();
        let listener = UnixListener::new(self.path.clone()).permissions(Permissions::from_mode(0o600));
        salvo::conn::Listener::try_bind(listener).await.map_err(io::Error::other)
    }

    /// Removes the socket, where it is there.
    pub fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }
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
