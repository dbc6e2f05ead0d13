//! The running service of the control socket.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use salvo::Server;
use salvo::server::ServerHandle;
use tokio_util::task::AbortOnDropHandle;

use super::socket::SocketPath;
use crate::app::App;
use crate::core::awake::timeout;

/// The time that a shutdown waits for requests in flight.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// The running service of the control socket.
pub struct ControlServer {
    path: SocketPath,
    handle: ServerHandle,
    serving: AbortOnDropHandle<io::Result<()>>,
}

impl ControlServer {
    /// Serves the command line, through the socket in the data directory `data`.
    ///
    /// # Errors
    /// If the socket can't be made.
    pub async fn serve(app: &Arc<App>, data: &Path) -> io::Result<Self> {
        let path = SocketPath::of(data)?;
        let server = Server::new(path.bind().await?);
        let handle = server.handle();
        Ok(Self { path, handle, serving: AbortOnDropHandle::new(tokio::spawn(server.try_serve(super::service(app)))) })
    }

    /// Shuts down; requests in flight have [`STOP_TIMEOUT`] to finish.
    pub async fn stop(mut self) {
        self.path.remove();
        self.handle.stop_graceful(None);
        let _ = timeout(STOP_TIMEOUT, &mut self.serving).await; // aborted when it is dropped
    }
}
