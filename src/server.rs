//! Running a server: from the first listener to the last flush.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use salvo::conn::Acceptor;
use salvo::conn::rustls::RustlsAcceptor;
use salvo::server::ServerHandle;
use salvo::{Server, Service};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::admission::connection_gate::{ConnectionGate, ListenerPolicy};
use crate::app::{App, OpenError};
use crate::auth::AuthError;
use crate::config::{Config, Provenance};
use crate::control::server::ControlServer;
use crate::core::awake::{self, timeout};
use crate::data_dir;
use crate::net::listen::{self, Listeners};
use crate::net::plain::PlainAcceptor;
use crate::net::redirect;
use crate::net::stall::StallAcceptor;
use crate::net::tls::{Tls, TlsError};
use crate::ops::membership::{self, Membership};
use crate::ops::reload::Reload;
use crate::ops::{banner, first_start, names, reload, sweep, systemd};
use crate::store::StoreError;
use crate::{api, routes};

/// The length of a request's head, and of an HTTP connection's read buffer, beyond which the response is 431. The data of the read
/// that reaches this length still counts: a head of up to twice the length may be accepted.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// The longest wait for sessions to drain and requests to finish when stopping; then they are cut off.
const STOP_TIMEOUT: Duration = Duration::from_secs(4);

/// An error of starting, running or stopping a server. Prints as one plain sentence.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory, or its content, can't be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store can't be closed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A write to the disk failed while serving: everything acknowledged before is safe, and nothing was acknowledged after.
    #[error("a write to the disk failed; repair the disk and restart")]
    DiskFailed,
    /// The first administrator can't be created.
    #[error("failed to create the first administrator: {0}")]
    FirstAdmin(#[from] AuthError),
    /// The certificate can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address of the redirect can't be bound.
    #[error("can't listen on {at} (tls.redirect): {source}")]
    Redirect {
        /// The configured address.
        at: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The address for `/metrics` can't be bound.
    #[error("can't listen on {at} (metrics.listen): {source}")]
    Metrics {
        /// The configured address.
        at: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// A listening socket failed.
    #[error("a listener failed: {0}")]
    Listen(#[from] io::Error),
}

/// Runs the server on `listeners`, of which only the main one is required, until `shutdown` is ready. Then it stops in order: accepts
/// nothing new, closes every session with 1001, drains and flushes. `admin_password` is the first administrator's on an empty data
/// directory; without one a random password is generated and printed with the banner. Configurations from `reloads` are applied while serving.
///
/// # Errors
/// [`ServeError`], before anything is served or when stopping was not clean.
pub async fn serve(
    config: Config,
    admin_password: Option<String>,
    listeners: impl Into<Listeners>,
    reloads: mpsc::Receiver<Reload>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    serve_at(false, (config, Provenance::default()), admin_password, listeners.into(), reloads, shutdown).await
}

/// Runs the server as [`serve`] does, with the origins of its settings; the banner is for a `terminal` where standard output is one.
///
/// # Errors
/// As [`serve`].
pub async fn serve_at(
    terminal: bool,
    (config, provenance): (Config, Provenance),
    admin_password: Option<String>,
    listeners: Listeners,
    reloads: mpsc::Receiver<Reload>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let data = data_dir::prepare(&config.server.data_dir).map_err(OpenError::from)?;
    let mut background = JoinSet::new(); // aborts its tasks when it is dropped
    let starting = background.spawn(systemd::starting());
    let mut shutdown = pin!(shutdown);
    let may_wait = Membership::may_wait(&config);
    let (app, mut membership) = tokio::select! {
        opened = Membership::open(config, &data) => opened?,
        // What is done to a store on one machine, compacting it for example, comes to its end.
        () = &mut shutdown, if may_wait => return Ok(()),
    };
    starting.abort();
    app.set_provenance(provenance);
    let first = First { admin_password, terminal };
    let mut serving = Serving::start(app, &data, background, listeners, first, reloads).await?;
    let reason = tokio::select! {
        () = &mut shutdown => None,
        () = serving.app.store.failed() => Some(ServeError::DiskFailed), // the cause is in the log
        error = membership.ended() => Some(error.into()),
        ended = &mut serving.main => return Err(unexpected_end(ended)),
    };
    let stopped = serving.stop().await;
    match reason {
        None => stopped,
        Some(reason) => {
            if let ServeError::Open(error) = &reason {
                membership::clear_after(error, &data);
            }
            Err(reason)
        }
    }
}

/// Returns the error for a main listener that ended although nothing stopped it.
fn unexpected_end(ended: Result<io::Result<()>, JoinError>) -> ServeError {
    let reason = match ended {
        Ok(Ok(())) => "it stopped accepting".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    ServeError::Listen(io::Error::other(format!("the main listener ended: {reason}")))
}

/// What the first minute of a server depends on.
struct First {
    /// The first administrator's.
    admin_password: Option<String>,
    /// Set where standard output is a terminal.
    terminal: bool,
}

/// A running server.
struct Serving {
    app: Arc<App>,
    /// Stops the main listener.
    handle: ServerHandle,
    main: AbortOnDropHandle<io::Result<()>>,
    background: JoinSet<()>,
    control: Option<ControlServer>,
}

impl Serving {
    /// Starts everything, and notifies systemd.
    async fn start(
        app: Arc<App>,
        data: &Path,
        mut background: JoinSet<()>,
        listeners: Listeners,
        First { admin_password, terminal }: First,
        reloads: mpsc::Receiver<Reload>,
    ) -> Result<Self, ServeError> {
        let Listeners { http, redirect, metrics } = listeners;
        listen::tune(&http)?;
        let address = http.local_addr()?;
        let tls = open_tls(&app.config(), data, address).await?;
        // First everything that may be unavailable: an address in use must not leave an administrator behind.
        let redirect = match (redirect, app.config().tls.redirect) {
            (None, Some(at)) => Some(listen::bind(at).map_err(|source| ServeError::Redirect { at, source })?),
            (given, _) => given.filter(|_| tls.is_some()),
        };
        let metrics = match (metrics, app.config().metrics.listen) {
            (None, Some(at)) => Some(listen::bind(at).map_err(|source| ServeError::Metrics { at, source })?),
            (given, _) => given,
        };
        let redirect = redirect.map(PlainAcceptor::new).transpose()?;
        let metrics = metrics.map(|listener| serve_metrics(&app, listener)).transpose()?;
        let plain = PlainAcceptor::new(http)?;
        let fingerprint = tls.as_ref().map(Tls::fingerprint);
        if let Some(tls) = &tls {
            let _ = app.certificate_end.set(tls.end());
        }
        // From here on nothing fails: the password is printed below.
        let password = first_start::ensure_admin(&app, admin_password).await?;
        background.spawn(awake::watch());
        background.spawn(sweep::run(app.clone()));
        background.spawn(membership::guard(app.clone()));
        background.spawn(membership::talk(app.clone()));
        let (read_files, requests) = mpsc::channel(1);
        let read_files = tls.is_some().then_some(read_files);
        let _ = app.address.set(address);
        let control = control(&app, data).await;
        let (handle, main) = match tls {
            None => server(plain, &app, routes::service(&app)),
            Some(tls) => {
                let acceptor = RustlsAcceptor::new(plain, tls.current(), CancellationToken::new());
                background.spawn(tls.follow(requests));
                server(acceptor, &app, routes::service(&app))
            }
        };
        let main = AbortOnDropHandle::new(tokio::spawn(main));
        if let Some(acceptor) = redirect {
            let (_, redirecting) = server(acceptor, &app, redirect::service(address.port()));
            background.spawn(async move { drop(redirecting.await) });
        }
        if let Some(metrics) = metrics {
            background.spawn(metrics);
        }
        tracing::info!(%address, data = %data.display(), version = env!("CARGO_PKG_VERSION"), "serving");
        banner::print(&app, address, fingerprint.as_deref(), password.as_deref(), terminal).await;
        systemd::ready(address);
        background.spawn(systemd::watch(app.clone(), address));
        background.spawn(names::report(app.clone()));
        // Only after systemd was notified that the start is complete.
        background.spawn(reload::run(app.clone(), read_files, reloads));
        Ok(Self { app, handle, main, background, control })
    }

    /// Stops everything, in order.
    async fn stop(mut self) -> Result<(), ServeError> {
        self.app.stopping.cancel(); // a session that is starting checks this once it is registered
        systemd::stopping();
        tracing::info!(connections = self.app.hub.presence().count(), "stopping");
        self.handle.stop_graceful(None); // cut off below, by a deadline that does not run while the process sleeps
        // At the same time: whatever hangs, stopping takes one timeout.
        let control = async {
            if let Some(control) = self.control {
                control.stop().await;
            }
        };
        let ((), (), served) = tokio::join!(stop_sessions(&self.app), control, timeout(STOP_TIMEOUT, self.main));
        self.background.shutdown().await;
        self.app.close().await?;
        tracing::info!("stopped");
        match served {
            Ok(Ok(outcome)) => Ok(outcome?),
            _ => Ok(()), // cut off after the timeout: logged by Salvo, and no reason to fail
        }
    }
}

/// Serves the control socket; `None` where that fails, since the server can run without it.
async fn control(app: &Arc<App>, data: &Path) -> Option<ControlServer> {
    let served = ControlServer::serve(app, data).await;
    if let Err(error) = &served {
        tracing::warn!(%error, "failed to create the control socket; commands can't reach this server");
    }
    served.ok()
}

/// Opens the configured certificate, or the self-signed one; `None` where TLS is off.
async fn open_tls(config: &Config, data: &Path, listen: SocketAddr) -> Result<Option<Tls>, ServeError> {
    if !config.tls.enabled() {
        return Ok(None);
    }
    let (tls, data) = (config.tls.clone(), data.to_owned());
    let opened = tokio::task::spawn_blocking(move || Tls::open(&tls, &data, listen)).await.map_err(io::Error::other)??;
    tracing::info!(fingerprint = opened.fingerprint(), self_signed = config.tls.self_signed, "TLS certificate (SHA-256)");
    Ok(Some(opened))
}

/// Serves `service` on `acceptor`, within the permits and timeouts of the connection gate.
fn server<A>(acceptor: A, app: &App, service: Service) -> (ServerHandle, BoxFuture<'static, io::Result<()>>)
where
    A: Acceptor<Stream: AsyncRead + AsyncWrite> + Send + 'static,
{
    let mut server = listener(acceptor, app.admission.gate.clone());
    // One buffer for head and body: bodies are small, and a write of several buffers costs the kernel more than the copy.
    server.http1_mut().writev(false);
    let handle = server.handle();
    (handle, Box::pin(server.try_serve(service)))
}

/// Returns the server of one listener.
fn listener<A>(acceptor: A, gate: Arc<ConnectionGate>) -> Server<StallAcceptor<A>>
where
    A: Acceptor<Stream: AsyncRead + AsyncWrite> + Send + 'static,
{
    let policy = ListenerPolicy::new(gate);
    let mut server = Server::new(StallAcceptor::new(acceptor, policy.handover())).fuse_policy(policy);
    // Names as `Content-Type`: clients that compare them letter by letter know no other form. The deadlines of heads are in `net::stall`.
    server.http1_mut().title_case_headers(true).header_read_timeout(None).max_buf_size(MAX_HEAD_BYTES);
    server
}

/// Serves `/metrics` alone, without login. It has permits of its own, so that the metrics show a flood at the main listener.
fn serve_metrics(app: &Arc<App>, listener: TcpListener) -> io::Result<impl Future<Output = ()> + use<>> {
    tracing::info!(address = %listener.local_addr()?, "serving metrics without login");
    let gate = ConnectionGate::new(&app.config(), app.admission.proxies.clone(), app.metrics.clone());
    let server = self::listener(PlainAcceptor::new(listener)?, Arc::new(gate));
    let service = api::collector(app);
    Ok(async move { drop(server.try_serve(service).await) })
}

/// Closes every session with 1001 and waits until they have drained, or for the timeout.
async fn stop_sessions(app: &Arc<App>) {
    app.close_all();
    app.sessions.close();
    if timeout(STOP_TIMEOUT, app.sessions.wait()).await.is_err() {
        tracing::warn!(sessions = app.sessions.len(), "cut off sessions that did not drain in time");
    }
}
