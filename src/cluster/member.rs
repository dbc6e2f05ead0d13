//! One node's life in a cluster.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::chain::Link;
use super::entry::Control;
use super::log::{Log, LogError, Read};
use super::maker::Maker;
use super::progress::{Copy, KEPT_SNAPSHOTS, Progress, Turn};
use super::replica::{ApplyError, Replica, SharedReplica, on_threads};
use super::tail::{self, TailError};
use super::{BootId, NodeName, Position};
use crate::change::{Changes, ProposalQueue};
use crate::core::time::Timestamp;
use crate::data_dir::STORE_DIRECTORY;
use crate::store::{BackupError, Caches, Store, StoreError, Trees, restore_copy};
use crate::telemetry::metrics::Metrics;

/// The file in the data directory that a snapshot is read from and written to.
const SNAPSHOT_FILE: &str = "snapshot.new";
/// The directory that a copy is moved to before it is removed.
const DROPPED_DIRECTORY: &str = "store.dropped";
/// The beginning of the names that stores which can't be opened are moved to; the time follows, in seconds since 1970.
const DAMAGED: &str = "store.damaged-";
/// The time between two looks at whether a snapshot is due.
const SNAPSHOT_LOOK: Duration = Duration::from_secs(10);

/// A member's settings.
#[derive(Debug, Clone)]
pub struct MemberOptions {
    /// The name of the node.
    pub node: NodeName,
    /// Its run.
    pub boot: BootId,
    /// The data directory.
    pub data: PathBuf,
    /// The caches of its store.
    pub caches: Caches,
    /// The operations, and the bytes of entries, after which a snapshot is made.
    pub snapshot_after: (u64, u64),
    /// The bytes that stay free on the disk while one is made.
    pub min_free_bytes: u64,
}

#[cfg(test)]
impl MemberOptions {
    /// Those of a node that does not run for long.
    pub fn for_tests(data: &Path) -> Self {
        let node = NodeName("n0".into());
        Self {
            node,
            boot: BootId(9),
            data: data.into(),
            caches: Caches::default(),
            snapshot_after: (20, 1 << 20),
            min_free_bytes: 0,
        }
    }
}

/// The reason for which a node can't be a member, or not any more.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// The data directory belongs to no cluster.
    #[error(
        "the data directory has a history of its own, which is not that of this cluster: `qy-lty cluster found` makes it the first node of a new one; to join another, start with an empty directory"
    )]
    Foreign,
    /// There is a cluster on the engine already.
    #[error(
        "there is a cluster of this name on the engine already: start this node with an empty data directory to join it, or choose another name"
    )]
    Founded,
    /// There is no cluster on the engine.
    #[error("there is no cluster of this name on the engine: run `qy-lty cluster found` on the node whose data it is to have")]
    NotFounded,
    /// The data is that of one machine.
    #[error("the data directory is that of one machine: there is nothing to leave")]
    Single,
    /// The limits of the cluster are others than this node's.
    #[error(
        "the configuration of this node has other limits than the cluster: {0}; use the same on all nodes, or change them on a running one"
    )]
    OtherSettings(String),
    /// A message could be longer than the engine's servers take.
    #[error(
        "limits.push_bytes is {push_bytes}, and the NATS servers take messages of {max_payload} bytes: set it to at most {most}, or their \
         max_payload higher"
    )]
    TooLong {
        /// The setting; 0 is no limit.
        push_bytes: usize,
        /// The servers' setting.
        max_payload: usize,
        /// The greatest that fits.
        most: usize,
    },
    /// The engine has lost what it had acknowledged.
    #[error(
        "the log has lost entries: it ends before {0}, which this node has; stop all nodes, make the data of the one with the highest position that of \
         one machine with `qy-lty cluster leave`, and found a cluster of another name with it"
    )]
    LostEntries(Position),
    /// An entry was applied in part before a crash.
    #[error(
        "the node was killed while it applied an entry, so its copy is of no use by itself: start it once, let it catch up, and stop it"
    )]
    Torn,
    /// The copy is of no use: another start makes it anew.
    #[error("{0}")]
    Copy(TailError),
    /// This version can't go on.
    #[error(transparent)]
    Apply(ApplyError),
    /// The engine can't be reached.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store can't be opened or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The snapshot can't be restored.
    #[error("the snapshot can't be restored: {0}")]
    Snapshot(#[from] BackupError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] io::Error),
}

impl From<TailError> for MemberError {
    fn from(error: TailError) -> Self {
        match error {
            TailError::Apply(ApplyError::Store(error)) => Self::Store(error),
            TailError::Apply(ApplyError::Lost(position)) => Self::LostEntries(position),
            TailError::Apply(ApplyError::Wrong(_)) | TailError::Behind(_) => Self::Copy(error),
            TailError::Apply(error) => Self::Apply(error),
        }
    }
}

impl MemberError {
    /// Returns whether the copy must be dropped before the next start.
    pub const fn is_of_copy(&self) -> bool {
        matches!(self, Self::Copy(_))
    }
}

/// A node that is about to take part.
pub struct Member<L> {
    log: L,
    options: MemberOptions,
    store: Store,
    metrics: Arc<Metrics>,
    replica: SharedReplica,
    proposals: ProposalQueue,
}

impl<L: Log> Member<L> {
    /// Opens the node's copy, or makes one from the newest snapshot.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn open(log: L, options: MemberOptions) -> Result<Self, MemberError> {
        let (store, progress) = open_copy(&log, &options).await?;
        let metrics = Metrics::new(store.commits().clone());
        let counting = metrics.clone();
        let (loading, settings) = (store.clone(), progress.settings.clone());
        let (changes, proposals) = blocking(move || Ok(Changes::open_member(loading, settings, counting)?)).await?;
        changes.clock().follow(progress.clock);
        let replica = Arc::new(Replica::new(options.node.clone(), options.boot, changes, progress));
        Ok(Self { log, options, store, metrics, replica, proposals })
    }

    /// The way to change the state of the cluster.
    pub fn changes(&self) -> Changes {
        self.replica.changes().clone()
    }

    /// The store of the copy.
    pub fn store(&self) -> Store {
        self.store.clone()
    }

    /// The counters of the node.
    pub fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// The node's copy.
    pub fn replica(&self) -> SharedReplica {
        self.replica.clone()
    }

    /// Takes part until the copy can't go on, or the future is dropped.
    ///
    /// # Errors
    /// [`MemberError`].
    pub async fn run(self) -> Result<(), MemberError> {
        let (controls, received) = mpsc::channel(4);
        let is_full = self.proposals.is_full.clone();
        let maker = Maker::new(self.log.clone(), self.replica.clone(), self.proposals, received);
        let snapshots = Snapshots {
            is_full,
            log: self.log.clone(),
            replica: self.replica.clone(),
            store: self.store,
            options: self.options,
            controls,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            maker.run().await;
            Ok(())
        });
        tasks.spawn(async move {
            snapshots.run().await;
            Ok(())
        });
        let (log, replica) = (self.log, self.replica);
        tasks.spawn(async move { tail::run(log, replica).await.map_err(MemberError::from) });
        // The end of one is the end of all: the others are aborted with the set.
        tasks.join_next().await.map_or(Ok(()), |ended| ended.unwrap_or_else(|panicked| Err(io::Error::other(panicked).into())))
    }
}

/// Opens the copy of a node, made anew where it can't be built upon.
async fn open_copy<L: Log>(log: &L, options: &MemberOptions) -> Result<(Store, Progress), MemberError> {
    let path = options.data.join(STORE_DIRECTORY);
    if path.exists() {
        match open_store(&path, options.caches).await {
            Ok(store) => match examine(&store)? {
                Copy::Whole(progress) if can_go_on(log, &progress).await? => return Ok((store, *progress)),
                Copy::None => return Err(MemberError::Foreign),
                Copy::Whole(progress) => tracing::warn!(position = %progress.position, "the copy is too old: it is made anew"),
                Copy::Torn => tracing::warn!("an entry was applied in part before a crash: the copy is made anew"),
            },
            // Not every write was synced, so a power cut may leave this.
            Err(MemberError::Store(error)) if error.is_damage() || matches!(error, StoreError::Unreadable(_)) => {
                // Nothing says that it is a copy: it may be the data of one machine.
                let kept = options.data.join(format!("{DAMAGED}{}", Timestamp::now().unix_seconds()));
                tracing::warn!(%error, kept = %kept.display(), "the store can't be opened: a copy is made in its place");
                let damaged = path.clone();
                blocking(move || Ok(fs::rename(damaged, kept)?)).await?;
            }
            Err(error) => return Err(error),
        }
        if path.exists() {
            let data = options.data.clone();
            blocking(move || Ok(drop_copy(&data)?)).await?;
        }
    }
    let file = options.data.join(SNAPSHOT_FILE);
    let newest = log.newest_snapshot(&file).await?.ok_or(MemberError::NotFounded)?;
    tracing::info!(position = %newest, "making the copy from a snapshot");
    let place = path.clone();
    let restoring = move || {
        restore_copy(BufReader::new(File::open(&file)?), &place)?;
        Ok(fs::remove_file(&file)?)
    };
    blocking(restoring).await?;
    let store = open_store(&path, options.caches).await?;
    match examine(&store)? {
        Copy::Whole(progress) if can_go_on(log, &progress).await? => Ok((store, *progress)),
        // A newer one was made meanwhile.
        Copy::Whole(progress) => Err(MemberError::Copy(TailError::Behind(progress.position.next()))),
        Copy::None | Copy::Torn => Err(MemberError::NotFounded),
    }
}

/// Returns the state of an open copy. One that lacks what was committed is torn, wherever its records say that it is.
fn examine(store: &Store) -> Result<Copy, MemberError> {
    match Progress::load(store.trees()) {
        Ok(Copy::Whole(_)) if store.loss().is_some() => Ok(Copy::Torn),
        Ok(copy) => Ok(copy),
        Err(error) if error.is_damage() => Ok(Copy::Torn),
        Err(error) => Err(error.into()),
    }
}

/// Opens the store at `path`.
async fn open_store(path: &Path, caches: Caches) -> Result<Store, MemberError> {
    let path = path.to_owned();
    blocking(move || Ok(Store::open_with(&path, caches)?)).await
}

/// Does work that waits for the disk on a thread for that.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, MemberError> + Send + 'static) -> Result<T, MemberError> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Removes a node's copy.
///
/// # Errors
/// If the disk fails.
pub fn drop_copy(data: &Path) -> io::Result<()> {
    // A half of it would be taken for a store.
    let dropped = data.join(DROPPED_DIRECTORY);
    if dropped.exists() {
        fs::remove_dir_all(&dropped)?;
    }
    fs::rename(data.join(STORE_DIRECTORY), &dropped)?;
    fs::remove_dir_all(dropped)
}

/// Returns whether the log goes on where a copy ends.
async fn can_go_on<L: Log>(log: &L, progress: &Progress) -> Result<bool, MemberError> {
    let position = progress.position;
    // There is no entry at 0.
    if position > Position(0) {
        match log.read(position).await? {
            Read::Entry(entry) if Link::of_entry(&entry.bytes) == progress.entry => return Ok(true),
            Read::Entry(_) => return Err(MemberError::LostEntries(position)),
            Read::Gone => {}
            // Perhaps the server that was asked is behind.
            Read::Beyond if log.end().await? < position => return Err(MemberError::LostEntries(position)),
            Read::Beyond => return Ok(true),
        }
    }
    Ok(log.read(position.next()).await? != Read::Gone)
}

/// Makes the first copy of a cluster of the store in the data directory `data`, which no process has open, and its first snapshot.
///
/// # Errors
/// [`MemberError`].
pub async fn found<L: Log>(
    log: &L,
    data: &Path,
    place: impl FnOnce(&Trees) -> Result<Progress, StoreError> + Send + 'static,
) -> Result<(), MemberError> {
    let probe = data.join(SNAPSHOT_FILE);
    if log.end().await? > Position(0) || log.newest_snapshot(&probe).await?.is_some() {
        return Err(MemberError::Founded);
    }
    let store = open_store(&data.join(STORE_DIRECTORY), Caches::default()).await?;
    let place = move |trees: &Trees| {
        let progress = place(trees)?;
        Progress::begin(trees, progress.position)?;
        progress.save(trees)?;
        Ok::<_, StoreError>(progress.position)
    };
    let position = on_threads(store.writer().run(place)).await?;
    let file = write_snapshot(&store, data, 0).await?;
    log.put_snapshot(position, &file, &[position]).await?;
    let ending = move || {
        fs::remove_file(&file)?;
        Ok(store.close()?)
    };
    blocking(ending).await
}

/// Makes the copy in the data directory `data`, which no process has open, the data of one machine. Returns its place in the log, and the
/// new epoch: the other nodes go on with the one before.
///
/// # Errors
/// [`MemberError`].
pub async fn leave(data: &Path) -> Result<(Position, String), MemberError> {
    let store = open_store(&data.join(STORE_DIRECTORY), Caches::default()).await?;
    let position = match examine(&store)? {
        Copy::Whole(progress) => progress.position,
        Copy::None => return Err(MemberError::Single),
        Copy::Torn => return Err(MemberError::Torn),
    };
    let epoch = store.writer().run(|trees| Progress::remove(trees).and_then(|()| trees.new_epoch())).await?;
    blocking(move || Ok(store.close()?)).await?;
    Ok((position, epoch))
}

/// Writes a snapshot of `store` to a file in `data`; returns its path. Fails where less than `floor` bytes would stay free on the disk.
async fn write_snapshot(store: &Store, data: &Path, floor: u64) -> Result<PathBuf, MemberError> {
    let path = data.join(SNAPSHOT_FILE);
    let permit = store.backup_permit().ok_or(LogError::Unreachable("a backup is being made".into()))?;
    let (creating, store) = (path.clone(), store.clone());
    let sink = BufWriter::new(blocking(move || Ok(File::create(&creating)?)).await?);
    // A task of its own: once begun, it must come to its end.
    let writing = tokio::spawn(async move { on_threads(store.snapshot(permit, sink, floor)).await });
    let mut sink = writing.await.map_err(io::Error::other)??;
    blocking(move || Ok(sink.flush()?)).await?;
    Ok(path)
}

/// Makes the snapshots that are this node's turn.
struct Snapshots<L> {
    log: L,
    replica: SharedReplica,
    store: Store,
    options: MemberOptions,
    controls: mpsc::Sender<Control>,
    /// Set while the log has no room.
    is_full: Arc<AtomicBool>,
}

impl<L: Log> Snapshots<L> {
    async fn run(self) {
        loop {
            sleep(SNAPSHOT_LOOK).await;
            if let Err(error) = self.look().await {
                tracing::warn!(%error, "failed to make a snapshot");
            }
        }
    }

    /// Makes a snapshot when it is this node's turn, and asks for the turn when one is due.
    async fn look(&self) -> Result<(), MemberError> {
        let progress = self.replica.progress();
        let options = &self.options;
        let is_own = |turn: &Turn| turn.node == options.node && turn.boot == options.boot;
        // Nobody can take a turn then.
        if self.is_full.load(Ordering::Relaxed) {
            return self.make(&progress, true).await;
        }
        match &progress.turn {
            Some(turn) if is_own(turn) && !progress.is_turn_over() => self.make(&progress, false).await,
            Some(_) if !progress.is_turn_over() => Ok(()),
            _ if !progress.needs_snapshot(options.snapshot_after.0, options.snapshot_after.1) => Ok(()),
            _ => {
                let _ = self.controls.send(Control::SnapshotTurn).await; // closed when the node ends
                Ok(())
            }
        }
    }

    /// Makes a snapshot, and removes the entries up to the one before, or, with `for_room`, up to it.
    async fn make(&self, progress: &Progress, for_room: bool) -> Result<(), MemberError> {
        if self.replica.is_contradicted() {
            tracing::warn!("no snapshot is made: the copies of this node and of another one differ");
            return Ok(());
        }
        let file = write_snapshot(&self.store, &self.options.data, self.options.min_free_bytes).await?;
        // The snapshot is of this position or a later one.
        let position = progress.position;
        let keep: Vec<Position> = progress.snapshots.iter().rev().take(KEPT_SNAPSHOTS - 1).copied().collect();
        self.log.put_snapshot(position, &file, &keep).await?;
        blocking(move || Ok(fs::remove_file(&file)?)).await?;
        let upto = if for_room { Some(&position) } else { keep.first() };
        if let Some(&upto) = upto {
            self.log.trim(upto).await?;
        }
        self.is_full.store(false, Ordering::Relaxed);
        let _ = self.controls.send(Control::Snapshot(position)).await; // closed when the node ends
        Ok(())
    }
}
