//! `qy-lty serve`.

use std::env::VarError;
use std::io::IsTerminal;
use std::net::SocketAddr;

use anyhow::anyhow;
use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::reload;
use super::runtime::block_on;
use super::terminal;
use crate::config::{Config, Layers, Loaded, Provenance};
use crate::core::text::secret_in;
use crate::data_dir::STORE_DIRECTORY;
use crate::log;
use crate::net::listen::{self, Listeners};
use crate::store::summarize;

/// The environment variable with the first administrator's password, for an empty data directory.
const ADMIN_PASSWORD: &str = "QY_LTY_ADMIN_PASSWORD";
/// The environment variable with which systemd passes sockets on.
const SOCKETS_VARIABLE: &str = "LISTEN_FDS";
/// The exit status after a second signal: 128 and SIGINT's number, as in shells.
const INTERRUPTED_STATUS: i32 = 130;

/// The arguments of `serve`.
#[derive(Debug, Default, Args)]
pub(super) struct Serve {
    /// End, as by SIGTERM, when standard input does: with the program that started it
    #[arg(long, hide = true)]
    until_stdin_ends: bool,
}

impl Serve {
    /// Runs the server until SIGINT or SIGTERM, or SIGHUP where it [ends with its terminal](terminal::is_attached); a second SIGINT or SIGTERM
    /// ends the process at once.
    pub(super) fn run(self, layers: Layers) -> anyhow::Result<()> {
        run(layers, self.until_stdin_ends)
    }
}

fn run(layers: Layers, until_stdin_ends: bool) -> anyhow::Result<()> {
    let Loaded { mut config, sources } = layers.read()?;
    let mut provenance = Provenance::new(layers.file(), sources);
    let log = log::start(&config.log)?;
    raise_file_limit();
    let password = admin_password(&layers)?;
    let store = config.server.data_dir.join(STORE_DIRECTORY);
    let terminal = std::io::stdout().is_terminal();
    block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let hangup = signal(SignalKind::hangup())?;
        let (mut closed, hangup) = if terminal::is_attached() { (Some(hangup), None) } else { (None, Some(hangup)) };
        let (listeners, inherited) = listeners(&mut config)?;
        if inherited.is_some() {
            provenance.set_by_variable("server.listen", SOCKETS_VARIABLE);
        }
        let shutdown = async {
            tokio::select! {
                () = either(&mut interrupt, &mut terminate) => {}
                () = stdin_ends(), if until_stdin_ends => {}
                _ = reload::next(&mut closed) => tracing::info!("stopping: the terminal was closed"),
            }
            tokio::spawn(async move {
                either(&mut interrupt, &mut terminate).await;
                std::process::exit(INTERRUPTED_STATUS);
            });
        };
        let (to_server, reloads) = mpsc::channel(1);
        let reloading = AbortOnDropHandle::new(tokio::spawn(reload::follow(hangup, layers, log, inherited, to_server)));
        let outcome = crate::server::serve_at(terminal, (config, provenance), password, listeners, reloads, shutdown).await;
        drop(reloading);
        Ok(outcome?)
    })?;
    // Now that nothing has the store open any more. The server has done its work: a failure is told, and costs the next start some time.
    if let Err(error) = summarize(&store) {
        tracing::warn!(%error, "the log of the store could not be summarised");
    }
    Ok(())
}

/// Returns the first administrator's password, from the environment or systemd's credential `admin-password`.
fn admin_password(layers: &Layers) -> anyhow::Result<Option<String>> {
    let given = match std::env::var(ADMIN_PASSWORD) {
        Ok(text) => Some(text),
        Err(VarError::NotPresent) => None,
        Err(VarError::NotUnicode(_)) => return Err(anyhow!("{ADMIN_PASSWORD} is not UTF-8")),
    };
    let password = given.map(|text| secret_in(&text).to_owned()).filter(|password| !password.is_empty());
    match password {
        Some(password) => Ok(Some(password)),
        None => Ok(layers.credential("admin-password")?),
    }
}

/// Returns the sockets that systemd provides, and their address, or else one bound to `server.listen`. Sets `server.listen` to the
/// address in use.
fn listeners(config: &mut Config) -> anyhow::Result<(Listeners, Option<SocketAddr>)> {
    let address = config.server.listen;
    let inherited = listen::inherited().map_err(|error| anyhow!("can't use the sockets from systemd: {error}"))?;
    if let Some(inherited) = inherited {
        config.server.listen = inherited.http.local_addr()?;
        if inherited.redirect.is_some() && !config.tls.enabled() {
            return Err(anyhow!("the redirect socket needs a certificate: set tls.cert and tls.key, or tls.self_signed"));
        }
        tracing::info!(address = %config.server.listen, "listening on systemd's socket; server.listen is not used");
        return Ok((inherited, Some(config.server.listen)));
    }
    let listener = listen::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow!("{address} is in use by another program or another qy-lty; set server.listen to another address")
        }
        _ => anyhow!("can't listen on {address}: {error}"),
    })?;
    Ok((listener.into(), None))
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Waits for the end of standard input; what comes there is not used.
async fn stdin_ends() {
    let (ended, end) = oneshot::channel();
    // A thread of its own: one of the runtime would keep the process from ending.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = ended.send(());
    });
    let _ = end.await;
}

/// Raises the soft limit of open files to the hard limit. Every connection is a file; the usual soft limit of 1024 is for programs
/// that use `select`.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return; // nothing to raise, and a sandbox may forbid the call
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%error, "failed to raise the limit of open files");
    }
}
