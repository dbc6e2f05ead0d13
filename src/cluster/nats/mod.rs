//! The log on NATS JetStream.
//!
//! A log is a stream with one subject, replicated and, where the servers are set up so, synced before it is acknowledged. What is
//! committed is published again on a core subject, which nodes follow; gaps are read from the stream. Snapshots are pieces in a stream
//! of their own.
//!
//! JetStream's requests are JSON (NATS ADR-1 and ADR-31), of which a handful is used here: they are made on the client's core.

mod api;
mod engine;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, HeaderMap, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::json;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::Position;
use super::entry::{Committed, EntryId};
use super::log::{Log, LogError, Read};
use api::{Api, committed};

/// The time of a request.
const MAX_WAIT: Duration = Duration::from_secs(3);
/// The time within which a repeated entry is recognised by the engine; later repetitions are passed over by nodes.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// The entries that wait for the node, at most; of more, it reads those that are missing.
const MAX_FOLLOWED: usize = 256;
/// The length of the pieces of a snapshot, in bytes.
const PIECE_BYTES: usize = 256 << 10;

/// The engine, and the cluster on it.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// The addresses of its servers: `nats://HOST:PORT` or `tls://HOST:PORT`.
    pub servers: Vec<String>,
    /// A user and its password.
    pub user: Option<(String, String)>,
    /// A file with the certificates that those of the servers are signed with; `None` for those of the system.
    pub root_certificates: Option<PathBuf>,
    /// The name of the cluster: letters, digits, `-` and `_`.
    pub cluster: String,
    /// The number of the log.
    pub generation: u32,
}

pub use engine::connect;

/// The log of one cluster.
#[derive(Clone)]
pub struct NatsLog {
    api: Api,
    cluster: String,
    /// The number of the log.
    pub generation: u32,
    /// The stream of entries, and that of snapshots.
    stream: String,
    snapshots: String,
    /// The beginning of all subjects.
    subject: String,
    /// The subjects of entries, of those that are published again, and of pieces of snapshots.
    entries: String,
    committed: String,
    pieces: String,
}

/// The settings of a new log.
#[derive(Debug, Clone, Copy)]
pub struct NewLog {
    /// The servers that have a copy.
    pub replicas: usize,
    /// The most bytes of entries.
    pub max_bytes: u64,
}

impl NatsLog {
    /// Connects to the engine. The connection is made anew whenever it ends.
    ///
    /// # Errors
    /// [`LogError::Unreachable`].
    pub async fn connect(options: NatsOptions) -> Result<Self, LogError> {
        let NatsOptions { servers, user, root_certificates, cluster, generation } = options;
        let mut connecting = ConnectOptions::new().name("qy-lty").request_timeout(Some(MAX_WAIT)).connection_timeout(MAX_WAIT);
        if let Some((user, password)) = user {
            connecting = connecting.user_and_password(user, password);
        }
        if let Some(file) = root_certificates {
            connecting = connecting.add_root_certificates(file);
        }
        let client = connecting.connect(servers).await.map_err(|error| LogError::Unreachable(error.to_string()))?;
        Ok(Self::new(Api::new(client), cluster, generation))
    }

    fn new(api: Api, cluster: String, generation: u32) -> Self {
        let (stream, subject) = (format!("qy-{cluster}-{generation}"), format!("qy.{cluster}.{generation}"));
        Self {
            api,
            cluster,
            generation,
            snapshots: format!("{stream}-snapshots"),
            stream,
            entries: format!("{subject}.log"),
            committed: format!("{subject}.committed"),
            pieces: format!("{subject}.snapshot"),
            subject,
        }
    }

    /// Tells other nodes something, at most once.
    ///
    /// # Errors
    /// [`LogError::Unreachable`].
    pub async fn tell(&self, channel: &str, payload: Bytes) -> Result<(), LogError> {
        let told = self.client().publish(format!("{}.{channel}", self.subject), payload).await;
        told.map_err(|error| LogError::Unreachable(error.to_string()))
    }

    /// Hears what nodes tell, this one included.
    ///
    /// # Errors
    /// [`LogError::Unreachable`].
    pub async fn listen(&self, channel: &str) -> Result<Subscriber, LogError> {
        let subscribed = self.client().subscribe(format!("{}.{channel}", self.subject)).await;
        subscribed.map_err(|error| LogError::Unreachable(error.to_string()))
    }

    fn client(&self) -> &Client {
        self.api.client()
    }

    /// Creates the streams.
    ///
    /// # Errors
    /// [`LogError`]: they are there already with other settings, or the engine refuses them.
    pub async fn create(&self, new: NewLog) -> Result<(), LogError> {
        let NewLog { replicas, max_bytes } = new;
        let common = json!({
            "retention": "limits", "discard": "new", "storage": "file", "num_replicas": replicas, "allow_direct": true,
            "deny_delete": true, "max_msgs": -1, "max_consumers": -1, "max_age": 0,
        });
        let with = |mut own: serde_json::Value| {
            if let (Some(own), Some(common)) = (own.as_object_mut(), common.as_object()) {
                own.extend(common.clone());
            }
            own
        };
        let entries = with(json!({
            "name": self.stream, "subjects": [self.entries], "max_bytes": max_bytes,
            "duplicate_window": u64::try_from(DUPLICATE_WINDOW.as_nanos()).unwrap_or(u64::MAX),
            "republish": {"src": self.entries, "dest": self.committed},
        }));
        let snapshots = with(json!({"name": self.snapshots, "subjects": [format!("{}.>", self.pieces)], "max_bytes": -1}));
        self.api.call(&format!("STREAM.CREATE.{}", self.snapshots), &snapshots).await?;
        self.api.call(&format!("STREAM.CREATE.{}", self.stream), &entries).await?;
        Ok(())
    }

    /// Returns the first and the last position of the log, as its leader knows them.
    async fn bounds(&self) -> Result<(Position, Position), LogError> {
        let info = self.api.call(&format!("STREAM.INFO.{}", self.stream), &json!({})).await?;
        let number = |name: &str| info["state"][name].as_u64().map(Position);
        let malformed = || LogError::Unreachable("an answer without a state".into());
        Ok((number("first_seq").ok_or_else(malformed)?, number("last_seq").ok_or_else(malformed)?))
    }

    /// Returns the positions that there are whole snapshots of, oldest first.
    async fn snapshot_positions(&self) -> Result<Vec<Position>, LogError> {
        let filter = json!({"subjects_filter": format!("{}.*.end", self.pieces)});
        let info = self.api.call(&format!("STREAM.INFO.{}", self.snapshots), &filter).await?;
        let subjects = info["state"]["subjects"].as_object().into_iter().flatten();
        let position = |subject: &str| subject.rsplit('.').nth(1).and_then(|position| position.parse().ok());
        let mut positions: Vec<Position> = subjects.filter_map(|(subject, _)| position(subject)).map(Position).collect();
        positions.sort_unstable();
        Ok(positions)
    }

    /// Removes the pieces of a snapshot, if there are any.
    async fn remove_snapshot(&self, position: Position) -> Result<(), LogError> {
        let filter = json!({"filter": format!("{}.{position}.>", self.pieces)});
        self.api.call(&format!("STREAM.PURGE.{}", self.snapshots), &filter).await.map(drop)
    }
}

fn disk(error: std::io::Error) -> LogError {
    LogError::Disk(error)
}

impl Log for NatsLog {
    async fn append(&self, id: EntryId, entry: Bytes) -> Result<Position, LogError> {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", format!("{:016x}-{}", id.boot.0, id.n).as_str());
        headers.insert("Nats-Expected-Stream", self.stream.as_str());
        self.api.publish(&self.entries, headers, entry).await
    }

    async fn read(&self, position: Position) -> Result<Read, LogError> {
        if let Some(message) = self.api.get(&self.stream, &json!({"seq": position})).await? {
            return Ok(Read::Entry(committed(message)?));
        }
        let (first, _) = self.bounds().await?;
        Ok(if position < first { Read::Gone } else { Read::Beyond })
    }

    async fn end(&self) -> Result<Position, LogError> {
        self.bounds().await.map(|(_, last)| last)
    }

    async fn follow(&self) -> Result<mpsc::Receiver<Committed>, LogError> {
        let subscribed = self.client().subscribe(self.committed.clone()).await;
        let mut subscription = subscribed.map_err(|error| LogError::Unreachable(error.to_string()))?;
        let (sender, receiver) = mpsc::channel(MAX_FOLLOWED);
        // Ends with the receiver.
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    () = sender.closed() => return,
                    message = subscription.next() => message,
                };
                let Some(message) = message else { return };
                match committed(message).map(|entry| sender.try_send(entry)) {
                    Ok(Err(mpsc::error::TrySendError::Closed(_))) => return,
                    // One that does not fit is read later.
                    Ok(Ok(()) | Err(mpsc::error::TrySendError::Full(_))) => {}
                    Err(error) => tracing::warn!(%error, "a message that is no entry of the log"),
                }
            }
        });
        Ok(receiver)
    }

    async fn trim(&self, upto: Position) -> Result<(), LogError> {
        // Servers before 2.14.2 remove everything then.
        if upto == Position(0) {
            return Ok(());
        }
        self.api.call(&format!("STREAM.PURGE.{}", self.stream), &json!({"seq": upto.next()})).await.map(drop)
    }

    async fn put_snapshot(&self, position: Position, path: &Path, keep: &[Position]) -> Result<(), LogError> {
        // Another attempt, or another node's at the same position, has pieces of its own.
        let attempt = rand::random::<u32>();
        let mut file = File::open(path).await.map_err(disk)?;
        let (mut piece, mut pieces) = (Vec::with_capacity(PIECE_BYTES), 0u64);
        loop {
            piece.clear();
            let mut source = (&mut file).take(PIECE_BYTES as u64);
            if source.read_to_end(&mut piece).await.map_err(disk)? == 0 {
                break;
            }
            let subject = format!("{}.{position}.{attempt}.{pieces}", self.pieces);
            self.api.publish(&subject, HeaderMap::new(), piece.clone().into()).await?;
            pieces += 1;
        }
        let end = json!({"attempt": attempt, "pieces": pieces}).to_string();
        self.api.publish(&format!("{}.{position}.end", self.pieces), HeaderMap::new(), end.into()).await?;
        // Newer ones are those of another node.
        for other in self.snapshot_positions().await? {
            if !keep.contains(&other) && other < position {
                self.remove_snapshot(other).await?;
            }
        }
        Ok(())
    }

    async fn newest_snapshot(&self, path: &Path) -> Result<Option<Position>, LogError> {
        let Some(position) = self.snapshot_positions().await?.pop() else { return Ok(None) };
        let missing = || LogError::Unreachable(format!("a piece of the snapshot of {position} is missing"));
        let last = async |subject: String| self.api.get(&self.snapshots, &json!({"last_by_subj": subject})).await;
        let end = last(format!("{}.{position}.end", self.pieces)).await?.ok_or_else(missing)?;
        let end: serde_json::Value = serde_json::from_slice(&end.payload).unwrap_or_default();
        let (attempt, pieces) = end["attempt"].as_u64().zip(end["pieces"].as_u64()).ok_or_else(missing)?;
        let mut file = File::create(path).await.map_err(disk)?;
        for n in 0..pieces {
            let piece = last(format!("{}.{position}.{attempt}.{n}", self.pieces)).await?.ok_or_else(missing)?;
            file.write_all(&piece.payload).await.map_err(disk)?;
        }
        file.flush().await.map_err(disk)?;
        Ok(Some(position))
    }
}
