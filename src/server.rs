//! A server's life: from the first listener to the last flush.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use salvo::conn::Acceptor;
use salvo::conn::rustls::RustlsAcceptor;
use salvo::conn::tcp::TcpAcceptor;
use salvo::server::ServerHandle;
use salvo::{Server, Service};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::admission::connection_gate::{ConnectionGate, Policy};
use crate::app::{App, OpenError};
use crate::auth::AuthError;
use crate::config::Config;
use crate::control::server::ControlServer;
use crate::data_dir;
use crate::net::listen::{self, Listeners};
use crate::net::redirect;
use crate::net::tls::{Tls, TlsError};
use crate::ops::reload::Reload;
use crate::ops::{first_start, reload, sweep, systemd};
use crate::store::StoreError;
use crate::wire::CloseCode;
use crate::{api, routes};

/// How long the head of a request may be, and an HTTP connection's read buffer, before it is answered 431. What comes with the
/// read that reaches this still counts: a head of up to twice the length may get through.
const HEAD_BYTES: usize = 32 * 1024;
/// How long stopping waits for sessions to drain and requests to finish; then they are cut.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// Why the server could not start or did not end well. Prints as one plain sentence.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory, or what is in it, can't be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store can't be closed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk failed while serving: what was answered before is safe, and nothing was answered after.
    #[error("the disk failed; restart once it is well")]
    DiskFailed,
    /// The first administrator could not be made.
    #[error("the first administrator could not be created: {0}")]
    FirstAdmin(#[from] AuthError),
    /// The certificate can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address that only redirects can't be had.
    #[error("can't listen on {at} (tls.redirect): {source}")]
    Redirect {
        /// As configured.
        at: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The address for collectors can't be had.
    #[error("can't listen on {at} (metrics.listen): {source}")]
    Metrics {
        /// As configured.
        at: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The socket failed.
    #[error("listening failed: {0}")]
    Listen(#[from] io::Error),
}

/// Runs the server on `listeners`, of which the main one alone will do, until `shutdown` is ready, then stops it in order: nobody
/// new, 1001 to every session, drained, flushed. `admin_password` is the first administrator's on an empty data directory; without
/// one a random password is made and printed. What comes through `reloads` is taken up while serving.
///
/// # Errors
/// [`ServeError`], before anything is served or when the end was not clean.
pub async fn serve(
    config: Config,
    admin_password: Option<String>,
    listeners: impl Into<Listeners>,
    reloads: mpsc::Receiver<Reload>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let data = data_dir::prepare(&config.server.data_dir).map_err(OpenError::from)?;
    let mut helpers = JoinSet::new(); // ends what it holds when it is dropped
    let patience = helpers.spawn(systemd::starting());
    let place = data.clone();
    let app = tokio::task::spawn_blocking(move || App::open(config, &place)).await.map_err(io::Error::other)??;
    patience.abort();
    let mut serving = Serving::begin(app, &data, helpers, listeners.into(), admin_password, reloads).await?;
    let disk_failed = tokio::select! {
        () = shutdown => false,
        () = serving.app.store.failed() => true,
        ended = &mut serving.main => return Err(ServeError::Listen(io::Error::other(format!("the server ended: {ended:?}")))),
    };
    serving.end(disk_failed).await
}

/// A server that serves.
struct Serving {
    app: Arc<App>,
    /// To stop who listens at the main address.
    handle: ServerHandle,
    main: AbortOnDropHandle<io::Result<()>>,
    helpers: JoinSet<()>,
    control: Option<ControlServer>,
}

impl Serving {
    /// Begins everything, and tells systemd.
    async fn begin(
        app: Arc<App>,
        data: &Path,
        mut helpers: JoinSet<()>,
        listeners: Listeners,
        admin_password: Option<String>,
        reloads: mpsc::Receiver<Reload>,
    ) -> Result<Self, ServeError> {
        let Listeners { http, redirect, metrics } = listeners;
        listen::tune(&http)?;
        let address = http.local_addr()?;
        let tls = open_tls(&app.config(), data, address).await?;
        // All that can be missing comes first: an address that is taken shall not leave an administrator behind.
        let redirect = match (redirect, app.config().tls.redirect) {
            (None, Some(at)) => Some(listen::bind(at).map_err(|source| ServeError::Redirect { at, source })?),
            (given, _) => given.filter(|_| tls.is_some()),
        };
        let metrics = match (metrics, app.config().metrics.listen) {
            (None, Some(at)) => Some(listen::bind(at).map_err(|source| ServeError::Metrics { at, source })?),
            (given, _) => given,
        };
        first_start::ensure_admin(&app, admin_password, address, tls.as_ref().map(Tls::fingerprint).as_deref()).await?;
        helpers.spawn(sweep::run(app.clone()));
        let (look, looks) = mpsc::channel(1);
        let look = tls.is_some().then_some(look);
        let _ = app.address.set(address);
        let control = control(&app, data).await;
        let plain = TcpAcceptor::try_from(http)?;
        let (handle, main) = match tls {
            None => server(plain, &app, routes::service(&app)),
            Some(tls) => {
                let acceptor = RustlsAcceptor::new(plain, tls.current(), CancellationToken::new());
                helpers.spawn(tls.follow(looks));
                server(acceptor, &app, routes::service(&app))
            }
        };
        let main = AbortOnDropHandle::new(tokio::spawn(main));
        if let Some(from) = redirect {
            let (_, redirecting) = server(TcpAcceptor::try_from(from)?, &app, redirect::service(address.port()));
            helpers.spawn(async move { drop(redirecting.await) });
        }
        if let Some(from) = metrics {
            helpers.spawn(collect(&app, from)?);
        }
        tracing::info!(%address, data = %data.display(), version = env!("CARGO_PKG_VERSION"), "serving");
        systemd::ready(address);
        helpers.spawn(systemd::watch(app.clone(), address));
        helpers.spawn(reload::run(app.clone(), look, reloads)); // not before systemd has heard that all is up
        Ok(Self { app, handle, main, helpers, control })
    }

    /// Ends everything, in order.
    async fn end(mut self, disk_failed: bool) -> Result<(), ServeError> {
        self.app.stopping.cancel(); // a session that is just starting looks at this once it is listed
        systemd::stopping();
        tracing::info!(connections = self.app.hub.presence().count(), "stopping");
        self.handle.stop_graceful(STOP_TIMEOUT);
        // All at once: whatever hangs, the end comes after one such time.
        let control = async {
            if let Some(control) = self.control {
                control.stop().await;
            }
        };
        let ((), (), served) = tokio::join!(stop_sessions(&self.app), control, timeout(STOP_TIMEOUT, self.main));
        self.helpers.shutdown().await;
        let closed = self.app.close().await;
        if disk_failed {
            return Err(ServeError::DiskFailed); // the cause is in the log
        }
        closed?;
        tracing::info!("stopped");
        match served {
            Ok(Ok(outcome)) => Ok(outcome?),
            _ => Ok(()), // cut off at the deadline: said in the log by Salvo, and no reason to fail
        }
    }
}

/// The control socket, where it can be served: without it the server serves all the same.
async fn control(app: &Arc<App>, data: &Path) -> Option<ControlServer> {
    let served = ControlServer::serve(app, data).await;
    served.inspect_err(|error| tracing::warn!(%error, "no socket in the data directory: commands can't reach this server")).ok()
}

/// Reads, or makes, the certificate, where the configuration asks for one.
async fn open_tls(config: &Config, data: &Path, listen: SocketAddr) -> Result<Option<Tls>, ServeError> {
    if !config.tls.enabled() {
        return Ok(None);
    }
    let (tls, data) = (config.tls.clone(), data.to_owned());
    let opened = tokio::task::spawn_blocking(move || Tls::open(&tls, &data, listen)).await.map_err(io::Error::other)??;
    tracing::info!(fingerprint = opened.fingerprint(), self_signed = config.tls.self_signed, "TLS certificate (SHA-256)");
    Ok(Some(opened))
}

/// Serves `service` to whom `acceptor` brings, within the door's seats and deadlines.
fn server<A>(acceptor: A, app: &App, service: Service) -> (ServerHandle, BoxFuture<'static, io::Result<()>>)
where
    A: Acceptor + Send + 'static,
{
    let mut server = Server::new(acceptor).fuse_policy(Policy::new(app.admission.gate.clone()));
    server.http1_mut().max_buf_size(HEAD_BYTES);
    let handle = server.handle();
    (handle, Box::pin(server.try_serve(service)))
}

/// Serves `/metrics` alone, without log-in. With seats of its own: a flood at the main listener is what must be seen from afar.
fn collect(app: &Arc<App>, listener: TcpListener) -> io::Result<impl Future<Output = ()> + use<>> {
    tracing::info!(address = %listener.local_addr()?, "metrics for anyone");
    let gate = ConnectionGate::new(&app.config(), app.admission.proxies.clone(), app.metrics.clone());
    let policy = Policy::new(Arc::new(gate));
    let mut server = Server::new(TcpAcceptor::try_from(listener)?).fuse_policy(policy);
    server.http1_mut().max_buf_size(HEAD_BYTES);
    let service = api::collector(app);
    Ok(async move { drop(server.try_serve(service).await) })
}

/// Ends every session with 1001 and waits until they have drained, or the deadline.
async fn stop_sessions(app: &Arc<App>) {
    app.hub.presence().close_where(CloseCode::GoingAway, |_| true);
    app.sessions.close();
    if timeout(STOP_TIMEOUT, app.sessions.wait()).await.is_err() {
        tracing::warn!(left = app.sessions.len(), "sessions were cut off");
    }
}
