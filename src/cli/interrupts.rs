//! Signals that end a command which has begun something: it stops at the next good moment and removes its temporary files.

use std::ops::ControlFlow;
use std::process::exit;
use std::sync::mpsc;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::failure::{INTERRUPTED, Interrupted};

/// The signals of this process, from when they are watched on: SIGINT, SIGTERM and SIGHUP ask a command to end, a second one ends the
/// process at once.
#[derive(Debug, Clone)]
pub(super) struct Interrupts(CancellationToken);

impl Interrupts {
    /// Watches the signals, on a thread that lives as long as the process.
    ///
    /// # Errors
    /// If the system refuses.
    pub(super) fn watch() -> anyhow::Result<Self> {
        let token = CancellationToken::new();
        let (ready, watching) = mpsc::channel();
        let raised = token.clone();
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || follow(&raised, &ready))
            .and_then(|_| watching.recv().map_err(std::io::Error::other)?)
            .context("failed to watch the signals of this process")?;
        Ok(Self(token))
    }

    /// Returns whether the command is to end.
    pub(super) fn raised(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Breaks where the command is to end.
    pub(super) fn flow(&self) -> ControlFlow<()> {
        if self.raised() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Waits until the command is to end.
    pub(super) async fn wait(&self) {
        self.0.cancelled().await;
    }

    /// Returns the outcome of work that ended; where it failed after a signal, [`Interrupted`] with `what` became of it.
    ///
    /// # Errors
    /// Those of `outcome`.
    pub(super) fn explain<T>(&self, outcome: anyhow::Result<T>, what: &'static str) -> anyhow::Result<T> {
        outcome.map_err(|error| if self.raised() { Interrupted(what).into() } else { error })
    }
}

/// Waits for the signals; reports on `ready` when they are caught.
fn follow(raised: &CancellationToken, ready: &mpsc::Sender<std::io::Result<()>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_io().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error))),
    };
    runtime.block_on(async {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [mut interrupt, mut terminate, mut hangup] = match kinds.map(signal) {
            [Ok(interrupt), Ok(terminate), Ok(hangup)] => [interrupt, terminate, hangup],
            [Err(error), ..] | [_, Err(error), _] | [.., Err(error)] => return drop(ready.send(Err(error))),
        };
        let _ = ready.send(Ok(()));
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            if raised.is_cancelled() {
                exit(INTERRUPTED.into());
            }
            raised.cancel();
        }
    });
}
