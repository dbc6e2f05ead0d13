//! `qy-lty serve`.

use std::env::VarError;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, anyhow};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::reload;
use crate::config::{Config, Layers};
use crate::log;
use crate::net::listen::{self, Listeners};

/// Sets the first administrator's password on an empty data directory.
const ADMIN_PASSWORD: &str = "QY_LTY_ADMIN_PASSWORD";
/// The exit status after a second signal: 128 and SIGINT's number, as shells have it.
const INTERRUPTED: i32 = 130;

/// Runs the server until a signal comes.
pub(super) fn run(layers: Layers) -> anyhow::Result<()> {
    let mut config = layers.read()?.config;
    let log = log::start(&config.log)?;
    raise_file_limit();
    let password = match std::env::var(ADMIN_PASSWORD) {
        Ok(password) if !password.is_empty() => Some(password),
        Ok(_) | Err(VarError::NotPresent) => {
            layers.credential("admin-password")?.map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
        }
        Err(VarError::NotUnicode(_)) => return Err(anyhow!("{ADMIN_PASSWORD} is not UTF-8")),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("the runtime could not start")?;
    let outcome = runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let hangup = signal(SignalKind::hangup())?;
        let (listeners, given) = listeners(&mut config)?;
        let shutdown = async {
            either(&mut interrupt, &mut terminate).await;
            tokio::spawn(async move {
                either(&mut interrupt, &mut terminate).await;
                std::process::exit(INTERRUPTED);
            });
        };
        let (to_server, reloads) = mpsc::channel(1);
        let reloading = AbortOnDropHandle::new(tokio::spawn(reload::follow(hangup, layers, log, given, to_server)));
        let outcome = crate::serve(config, password, listeners, reloads, shutdown).await;
        drop(reloading);
        Ok(outcome?)
    });
    runtime.shutdown_timeout(Duration::from_millis(100)); // what is left are tasks that were cut off
    outcome
}

/// The sockets that systemd holds for us, and their address, or else one bound to `server.listen`. From here on that setting is
/// what is listened on.
fn listeners(config: &mut Config) -> anyhow::Result<(Listeners, Option<SocketAddr>)> {
    let address = config.server.listen;
    let given = listen::inherited().map_err(|error| anyhow!("the sockets given by systemd can't be used: {error}"))?;
    if let Some(given) = given {
        config.server.listen = given.http.local_addr()?;
        if given.redirect.is_some() && !config.tls.enabled() {
            return Err(anyhow!("the socket to redirect needs a certificate: tls.cert and tls.key, or tls.self_signed"));
        }
        tracing::info!(address = %config.server.listen, "listening on systemd's socket; server.listen is not used");
        return Ok((given, Some(config.server.listen)));
    }
    let listener = listen::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow!("{address} is in use: another program, or another qy-lty, listens there (server.listen chooses another)")
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

/// Every connection is a file; the usual soft limit of 1024 is for programs that use `select`.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return; // nothing to raise, and a sandbox may not even let us ask
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
}
