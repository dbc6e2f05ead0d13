//! The engine's log, as nodes see it.

use std::future::Future;
use std::path::Path;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Position;
use super::entry::{Committed, EntryId};

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It has no room for more.
    #[error("the log is full")]
    Full,
    /// It can't be reached, or does not answer in time. What was asked for may have happened.
    #[error("the log can't be reached: {0}")]
    Unreachable(String),
    /// It refuses what was asked for.
    #[error("the log's engine refuses: {0}")]
    Refused(String),
    /// The file of a snapshot can't be read or written.
    #[error(transparent)]
    Disk(std::io::Error),
}

/// What stands at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// An entry.
    Entry(Committed),
    /// It was removed, since snapshots have what it led to.
    Gone,
    /// Nothing yet.
    Beyond,
}

/// A replicated log, and the objects beside it. Clones share it.
pub trait Log: Clone + Send + Sync + 'static {
    /// Appends an entry, once however often it is repeated within the time of a request; returns its position when it is on the
    /// disks of a majority.
    ///
    /// # Errors
    /// [`LogError`].
    fn append(&self, id: EntryId, entry: Bytes) -> impl Future<Output = Result<Position, LogError>> + Send;

    /// Returns what stands at a position, as far as the server that is asked knows.
    ///
    /// # Errors
    /// [`LogError`].
    fn read(&self, position: Position) -> impl Future<Output = Result<Read, LogError>> + Send;

    /// Returns the position of the last entry, as its leader knows it.
    ///
    /// # Errors
    /// [`LogError`].
    fn end(&self) -> impl Future<Output = Result<Position, LogError>> + Send;

    /// Returns what is appended from here on, in order, with gaps where the connection was lost or the reader too slow.
    ///
    /// # Errors
    /// [`LogError`].
    fn follow(&self) -> impl Future<Output = Result<mpsc::Receiver<Committed>, LogError>> + Send;

    /// Removes the entries up to a position.
    ///
    /// # Errors
    /// [`LogError`].
    fn trim(&self, upto: Position) -> impl Future<Output = Result<(), LogError>> + Send;

    /// Stores the file at `path` as the snapshot of a position, and forgets those that are not in `keep`.
    ///
    /// # Errors
    /// [`LogError`].
    fn put_snapshot(
        &self,
        position: Position,
        path: &Path,
        keep: &[Position],
    ) -> impl Future<Output = Result<(), LogError>> + Send;

    /// Writes the newest snapshot to a file at `path`; returns its position, `None` where there is none.
    ///
    /// # Errors
    /// [`LogError`].
    fn newest_snapshot(&self, path: &Path) -> impl Future<Output = Result<Option<Position>, LogError>> + Send;
}
