//! The path of the control socket, and its listener.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use salvo::conn::unix::{UnixAcceptor, UnixListener};

/// Name of the socket in the data directory.
const FILE_NAME: &str = "admin.sock";

/// The path of the control socket.
pub struct SocketPath {
    path: PathBuf,
    /// The path leads through this directory's number.
    _directory: File,
}

impl SocketPath {
    /// Returns the path in the data directory `data`, however long that is: a socket's address has room for some hundred bytes only.
    ///
    /// # Errors
    /// If the directory can't be opened.
    pub fn of(data: &Path) -> io::Result<Self> {
        let directory = File::open(data)?;
        let path = if cfg!(target_os = "linux") {
            format!("/proc/self/fd/{}/{FILE_NAME}", directory.as_raw_fd()).into()
        } else {
            data.join(FILE_NAME)
        };
        Ok(Self { path, _directory: directory })
    }

    /// Returns the path, to connect to.
    pub fn as_path(&self) -> &Path {
        &self.path
    }

    /// Listens there, after removing the socket of an earlier run. The directory is accessible to its owner alone, and so is the socket.
    ///
    /// # Errors
    /// If the system refuses to bind.
    pub async fn bind(&self) -> io::Result<UnixAcceptor> {
        self.remove();
        let listener = UnixListener::new(self.path.clone()).permissions(Permissions::from_mode(0o600));
        salvo::conn::Listener::try_bind(listener).await.map_err(io::Error::other)
    }

    /// Removes the socket, where there is one.
    pub fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }
}
