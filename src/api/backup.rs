//! `GET /api/backup`: a backup, streamed to the client while it is made.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use salvo::http::ResBody;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Sender, channel};

use crate::app::App;
use crate::auth::{Actor, Caller};
use crate::core::awake::timeout;
use crate::core::time::Timestamp;
use crate::http::error::ApiError;
use crate::http::reply::{Raw, Reply};
use crate::http::request::Call;
use crate::http::stream::items;
use crate::store::{BackupError, BackupPermit};
use crate::telemetry::audit::AuditEvent;

/// The time in which the client must take one chunk.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);
/// The size of a chunk.
const CHUNK_BYTES: usize = 64 * 1024;
/// The number of chunks that wait for the client.
const MAX_PENDING_CHUNKS: usize = 4;

/// `GET /api/backup`: all data as a file; see [`Store::backup`](crate::store::Store::backup).
pub async fn download(call: Call) -> Result<Reply<Raw>, ApiError> {
    let permit = call.app.store.backup_permit().ok_or(ApiError::BackupRunning)?;
    let caller = call.caller()?.clone();
    let (app, address) = (call.app.clone(), call.address.ip);
    // Not before the body is asked for: a reply to HEAD has none.
    let begun = async move {
        if !caller.is_operator() {
            app.audit.record(AuditEvent::BackupDownloaded, Some(caller.user.id), Some(address));
        }
        begin(app, permit, caller)
    };
    let body = ResBody::stream(stream::once(begun).flatten());
    Ok(Reply::ok("ok", Raw { media_type: "application/gzip", body }).with_file_name(file_name(Timestamp::now())))
}

/// Returns the name of the file for a backup that is begun at `now`.
fn file_name(now: Timestamp) -> String {
    now.with_text(|text| format!("qy-lty-{}Z.backup", text.get(..19).unwrap_or(text).replace(':', "-")))
}

/// Begins a backup for `caller`, and returns its bytes. A task of its own makes it, since a backup that has begun must be driven to its
/// end, also when the client has disconnected.
fn begin(app: Arc<App>, permit: BackupPermit, caller: Caller) -> impl Stream<Item = Result<Bytes, BackupError>> + Send + 'static {
    let (chunks, taken) = channel(MAX_PENDING_CHUNKS);
    let tasks = app.sessions.clone();
    tasks.spawn(async move {
        let failed = chunks.clone();
        let gathered = Vec::with_capacity(CHUNK_BYTES);
        let sink = Chunks { chunks, gathered, app: app.clone(), caller, runtime: Handle::current() };
        let min_free_bytes = app.config().storage.min_free_bytes;
        match app.store.backup(permit, sink, min_free_bytes).await {
            Ok((_, amount)) => tracing::info!(records = amount.records, bytes = amount.bytes, "backup made"),
            Err(error) => {
                tracing::error!(%error, "the backup failed");
                let _ = failed.try_send(Err(error));
            }
        }
    });
    items(taken, |chunk| chunk)
}

/// A writer that hands chunks to the client. Blocks while the client is busy, for at most [`CHUNK_TIMEOUT`].
struct Chunks {
    chunks: Sender<Result<Bytes, BackupError>>,
    gathered: Vec<u8>,
    app: Arc<App>,
    caller: Caller,
    runtime: Handle,
}

impl Chunks {
    fn hand_over(&mut self) -> io::Result<()> {
        // A backup can take its time, and the caller may have lost the right to it meanwhile.
        if !self.caller.is_operator() && self.app.auth.present_actor(&self.caller) != Some(Actor::Admin) {
            return Err(io::Error::other("the client of the backup is no administrator any more"));
        }
        let chunk = std::mem::replace(&mut self.gathered, Vec::with_capacity(CHUNK_BYTES));
        self.runtime.block_on(async {
            tokio::select! {
                sent = timeout(CHUNK_TIMEOUT, self.chunks.send(Ok(chunk.into()))) => match sent {
                    Ok(sent) => sent.map_err(|_| io::Error::other("the client of the backup has disconnected")),
                    Err(_) => Err(io::Error::other(format!("the client of the backup took nothing for {CHUNK_TIMEOUT:?}"))),
                },
                () = self.app.stopping.cancelled() => Err(io::Error::other("the server is shutting down")),
            }
        })
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..taken]);
        if self.gathered.len() == CHUNK_BYTES {
            self.hand_over()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() { Ok(()) } else { self.hand_over() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_named_after_the_time_and_can_be_a_file_anywhere() {
        let name = file_name(Timestamp::from_unix_micros(1_764_188_130_000_125));
        assert_eq!(name, "qy-lty-2025-11-26T20-15-30Z.backup");
    }
}
