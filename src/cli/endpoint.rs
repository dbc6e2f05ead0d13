//! The server that a command talks to: one that is running, or one that this process is itself.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};
use reqwest::Client;

use super::run_as;
use crate::app::{App, OpenError};
use crate::config::Config;
use crate::control::server::ControlServer;
use crate::control::socket::SocketPath;
use crate::core::disk::Explained;
use crate::net::tls;
use crate::store::StoreError;

/// The longest wait for a store that another process has locked.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause between two attempts to open a locked store.
pub(super) const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// Reports whether a server, or another command, listens on the control socket in the data directory `data`.
pub(super) fn is_served(data: &Path) -> bool {
    SocketPath::of(data).is_ok_and(|path| UnixStream::connect(path.as_path()).is_ok())
}

/// The server that a command talks to.
pub(super) struct Endpoint {
    /// The way to it.
    pub(super) client: Client,
    path: SocketPath,
    /// The state and the socket of this process, where no server is running.
    in_process: Option<(Arc<App>, ControlServer)>,
}

impl Endpoint {
    /// Finds the server of the data directory, or opens the directory and serves it, where this process `may_open` it.
    ///
    /// # Errors
    /// A data directory that can't be opened.
    pub(super) async fn open(config: &Config, may_open: bool) -> anyhow::Result<Self> {
        let data = &config.server.data_dir;
        let deadline = Instant::now() + LOCK_TIMEOUT;
        let in_process = loop {
            if is_served(data) {
                break None;
            }
            if !may_open {
                bail!("the command that served {} has ended meanwhile; try again", data.display());
            }
            run_as::prepare(data)?;
            let (config, place) = (config.clone(), data.clone());
            match tokio::task::spawn_blocking(move || App::open(config, &place)).await? {
                Ok(app) => break Some(serve(app, data).await?),
                // A server that is starting or stopping, or another command: its socket will soon be there, or the lock gone.
                Err(OpenError::Store(StoreError::Locked(_))) if Instant::now() < deadline => {
                    tokio::time::sleep(LOCK_RETRY_INTERVAL).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        let path = SocketPath::of(data)?;
        // Nothing is encrypted here, but the client requires a TLS provider.
        tls::install_provider();
        let client = Client::builder().unix_socket(path.as_path()).no_proxy().build()?;
        Ok(Self { client, path, in_process })
    }

    /// Returns whether it is another process, which may end while this one talks to it.
    pub(super) fn is_foreign(&self) -> bool {
        self.in_process.is_none()
    }

    /// Ends what this process serves.
    ///
    /// # Errors
    /// If the store can't be closed.
    pub(super) async fn close(self) -> anyhow::Result<()> {
        drop((self.client, self.path));
        if let Some((app, served)) = self.in_process {
            app.stopping.cancel();
            app.sessions.close();
            served.stop().await;
            app.sessions.wait().await; // a backup in progress ends once nobody reads it
            app.close().await?;
        }
        Ok(())
    }
}

async fn serve(app: Arc<App>, data: &Path) -> anyhow::Result<(Arc<App>, ControlServer)> {
    let served = ControlServer::serve(&app, data).await;
    let error =
        |error: std::io::Error| anyhow!("failed to create the control socket in {}: {}", data.display(), Explained(&error));
    Ok((app, served.map_err(error)?))
}
