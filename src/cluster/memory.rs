//! A log in memory, with the faults of a real one: for tests.
//!
//! Requests and answers take their time, and get lost; nodes are cut off; what is appended reaches readers late, twice or not at all,
//! and an appended entry may be taken for a new one when it is repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::Position;
use super::entry::{Committed, EntryId};
use super::log::{Log, LogError, Read};
use crate::core::time::Timestamp;

/// The time after which a request without an answer has failed.
const MAX_WAIT: Duration = Duration::from_secs(5);

/// How often something goes wrong, each of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A request or an answer is lost.
    pub lost: u32,
    /// A request or an answer takes seconds.
    pub slow: u32,
    /// A repetition is not recognised.
    pub repeated: u32,
    /// An entry does not reach a reader, or does twice.
    pub unseen: u32,
    /// A reader asks a server that is behind.
    pub behind: u32,
}

/// What readers are sent.
type Feed = mpsc::UnboundedSender<(Instant, Committed)>;

struct Shared {
    random: StdRng,
    faults: Faults,
    /// All entries that were ever appended.
    entries: Vec<(EntryId, Committed)>,
    /// The number of those that were removed.
    trimmed: u64,
    feeds: Vec<Feed>,
    snapshots: BTreeMap<Position, Vec<u8>>,
    /// Nodes that are cut off.
    cut: BTreeSet<usize>,
    started: Instant,
    /// How far the engine's clock has jumped, in microseconds.
    jumped: i64,
    /// The most entries that there may be.
    room: usize,
}

/// The log, as one node has it.
#[derive(Clone)]
pub struct MemoryLog {
    shared: Arc<Mutex<Shared>>,
    node: usize,
}

impl MemoryLog {
    /// An empty log without faults.
    pub fn new() -> Self {
        let shared = Shared {
            random: StdRng::seed_from_u64(0),
            faults: Faults::default(),
            entries: Vec::new(),
            trimmed: 0,
            feeds: Vec::new(),
            snapshots: BTreeMap::new(),
            cut: BTreeSet::new(),
            started: Instant::now(),
            jumped: 0,
            room: usize::MAX,
        };
        Self { shared: Arc::new(Mutex::new(shared)), node: usize::MAX }
    }

    /// A log like this one, which has no entries yet, from here on; its faults follow from `seed`.
    pub fn again(&self, seed: u64, faults: Faults) -> Self {
        let again = Self::new();
        {
            let mut shared = again.shared.lock();
            shared.random = StdRng::seed_from_u64(seed);
            shared.faults = faults;
            shared.snapshots.clone_from(&self.shared.lock().snapshots);
        }
        again
    }

    /// The same log as node `node` has it.
    pub fn of(&self, node: usize) -> Self {
        Self { shared: self.shared.clone(), node }
    }

    /// Cuts a node off, or connects it again.
    pub fn cut(&self, node: usize, is_cut: bool) {
        let cut = &mut self.shared.lock().cut;
        if is_cut {
            cut.insert(node)
        } else {
            cut.remove(&node)
        };
    }

    /// Ends all faults.
    pub fn heal(&self) {
        let mut shared = self.shared.lock();
        shared.faults = Faults::default();
        shared.cut.clear();
    }

    /// Leaves room for so many entries more.
    pub fn set_room(&self, entries: usize) {
        let mut shared = self.shared.lock();
        shared.room = shared.entries.len().saturating_add(entries);
    }

    /// Lets the engine's clock jump.
    pub fn jump(&self, seconds: i64) {
        self.shared.lock().jumped += seconds * 1_000_000;
    }

    /// Everything that was ever appended.
    pub fn entries(&self) -> Vec<Committed> {
        self.shared.lock().entries.iter().map(|(_, entry)| entry.clone()).collect()
    }

    /// Forgets the last entries, as an engine does that loses what it has acknowledged.
    pub fn lose(&self, entries: usize) {
        let mut shared = self.shared.lock();
        let left = shared.entries.len().saturating_sub(entries);
        shared.entries.truncate(left);
    }

    fn is_cut(&self) -> bool {
        self.shared.lock().cut.contains(&self.node)
    }

    /// Returns whether something that happens to so many of a thousand does now.
    fn happens(&self, of: impl Fn(&Faults) -> u32) -> bool {
        let mut shared = self.shared.lock();
        let faults = shared.faults;
        shared.random.random_range(0..1000) < of(&faults)
    }

    /// The time of a way to the engine or back.
    fn delay(&self) -> Duration {
        let is_slow = self.happens(|faults| faults.slow);
        let random = &mut self.shared.lock().random;
        Duration::from_millis(if is_slow { random.random_range(500..4000) } else { random.random_range(0..20) })
    }

    /// The way of a request or of an answer.
    async fn way(&self) -> Result<(), LogError> {
        sleep(self.delay()).await;
        if self.is_cut() || self.happens(|faults| faults.lost) {
            sleep(MAX_WAIT).await;
            return Err(LogError::Unreachable("no answer".into()));
        }
        Ok(())
    }

    fn commit(&self, id: EntryId, bytes: Bytes) -> Result<Position, LogError> {
        let is_new = self.happens(|faults| faults.repeated);
        let due = Instant::now() + self.delay();
        let mut shared = self.shared.lock();
        if let Some((_, earlier)) = shared.entries.iter().find(|(earlier, _)| *earlier == id).filter(|_| !is_new) {
            return Ok(earlier.position);
        }
        if shared.entries.len() >= shared.room {
            return Err(LogError::Full);
        }
        let position = Position(shared.entries.len() as u64 + 1);
        let micros = i64::try_from(shared.started.elapsed().as_micros()).unwrap_or(0);
        let time = Timestamp::from_unix_micros(1_800_000_000_000_000 + micros + shared.jumped);
        let committed = Committed { position, time, bytes };
        shared.entries.push((id, committed.clone()));
        shared.feeds.retain(|feed| feed.send((due, committed.clone())).is_ok());
        Ok(position)
    }
}

impl Log for MemoryLog {
    async fn append(&self, id: EntryId, entry: Bytes) -> Result<Position, LogError> {
        self.way().await?;
        let position = self.commit(id, entry);
        self.way().await?;
        position
    }

    async fn read(&self, position: Position) -> Result<Read, LogError> {
        self.way().await?;
        let is_behind = self.happens(|faults| faults.behind);
        let shared = self.shared.lock();
        let Some(index) = position.0.checked_sub(1).filter(|index| *index >= shared.trimmed) else { return Ok(Read::Gone) };
        let found = shared.entries.get(usize::try_from(index).unwrap_or(usize::MAX)).filter(|_| !is_behind);
        Ok(found.map_or(Read::Beyond, |(_, entry)| Read::Entry(entry.clone())))
    }

    async fn end(&self) -> Result<Position, LogError> {
        self.way().await?;
        let shared = self.shared.lock();
        Ok(Position(shared.entries.len() as u64))
    }

    async fn follow(&self) -> Result<mpsc::Receiver<Committed>, LogError> {
        self.way().await?;
        let (feed, mut queue) = mpsc::unbounded_channel::<(Instant, Committed)>();
        self.shared.lock().feeds.push(feed);
        let (sender, receiver) = mpsc::channel(64);
        let log = self.clone();
        tokio::spawn(async move {
            while let Some((due, committed)) = queue.recv().await {
                sleep_until(due).await;
                if log.is_cut() || log.happens(|faults| faults.unseen) {
                    continue;
                }
                let copies = if log.happens(|faults| faults.unseen) { 2 } else { 1 };
                for _ in 0..copies {
                    match sender.try_send(committed.clone()) {
                        Err(mpsc::error::TrySendError::Closed(_)) => return,
                        Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => {}
                    }
                }
            }
        });
        Ok(receiver)
    }

    async fn trim(&self, upto: Position) -> Result<(), LogError> {
        self.way().await?;
        let mut shared = self.shared.lock();
        shared.trimmed = shared.trimmed.max(upto.0);
        Ok(())
    }

    async fn put_snapshot(&self, position: Position, path: &Path, keep: &[Position]) -> Result<(), LogError> {
        let unreadable = |error: std::io::Error| LogError::Unreachable(error.to_string());
        let content = std::fs::read(path).map_err(unreadable)?;
        self.way().await?;
        let snapshots = &mut self.shared.lock().snapshots;
        snapshots.insert(position, content);
        snapshots.retain(|other, _| keep.contains(other) || *other >= position);
        Ok(())
    }

    async fn newest_snapshot(&self, path: &Path) -> Result<Option<Position>, LogError> {
        self.way().await?;
        let newest = self.shared.lock().snapshots.last_key_value().map(|(position, content)| (*position, content.clone()));
        let Some((position, content)) = newest else { return Ok(None) };
        std::fs::write(path, content).map_err(|error| LogError::Unreachable(error.to_string()))?;
        Ok(Some(position))
    }
}
