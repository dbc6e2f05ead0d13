//! `GET /control/backup`: a backup, streamed to the client while it is made.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Sender, channel};

use super::stream::streamed;
use crate::app::App;
use crate::core::awake::timeout;
use crate::http::error::ApiError;
use crate::http::reply::{Raw, Reply};
use crate::http::request::Call;
use crate::store::BackupError;

/// The time in which the client must take one chunk.
const CHUNK_TIMEOUT: Duration = Duration::from_secs(30);
/// The size of a chunk.
const CHUNK_BYTES: usize = 64 * 1024;
/// The number of chunks that wait for the client.
const MAX_PENDING_CHUNKS: usize = 4;

/// `GET /control/backup`: all data as a file; see [`Store::backup`](crate::store::Store::backup).
pub(super) async fn backup(call: Call) -> Result<Reply<Raw>, ApiError> {
    let permit = call.app.store.backup_permit().ok_or(ApiError::BackupRunning)?;
    let (chunks, taken) = channel(MAX_PENDING_CHUNKS);
    let app = call.app.clone();
    // A task of its own, since a backup that has begun must be driven to its end, also when the client has disconnected.
    call.app.sessions.spawn(async move {
        let failed = chunks.clone();
        let sink = Chunks { chunks, gathered: Vec::with_capacity(CHUNK_BYTES), app: app.clone(), runtime: Handle::current() };
        let min_free_bytes = app.config().storage.min_free_bytes;
        match app.store.backup(permit, sink, min_free_bytes).await {
            Ok((_, amount)) => tracing::info!(records = amount.records, bytes = amount.bytes, "backup made"),
            Err(error) => {
                tracing::error!(%error, "the backup failed");
                let _ = failed.try_send(Err(error));
            }
        }
    });
    Ok(Reply::ok("ok", Raw { media_type: "application/gzip", body: streamed(taken, |chunk| chunk) }))
}

/// A writer that hands chunks to the client. Blocks while the client is busy, for at most [`CHUNK_TIMEOUT`].
struct Chunks {
    chunks: Sender<Result<Bytes, BackupError>>,
    gathered: Vec<u8>,
    app: Arc<App>,
    runtime: Handle,
}

impl Chunks {
    fn hand_over(&mut self) -> io::Result<()> {
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
