//! The application of entries to a node's copy.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::chain::{Chain, Comparison, Link, Mark};
use super::contact::Contact;
use super::entry::{At, Committed, Entry, EntryError, EntryId};
use super::progress::Progress;
use super::{BootId, NodeName, Position};
use crate::change::{Applier, Change, Changes, Moment, Proposed};
use crate::store::{Result, StoreError};

/// The age of the last entry up to which its author counts as present, where it is asked who appends what nobody else does.
const PRESENT: Duration = Duration::from_secs(10);
/// The age up to which an author is known: each appends something once a minute.
const KNOWN: Duration = Duration::from_secs(150);

/// The reason for which a copy can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An entry is of no use to this version.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// An entry has an operation that this version does not know.
    #[error("the log has an operation at {0} that needs a newer version: update qy-lty on this node ({1})")]
    Unknown(Position, serde_json::Error),
    /// The copies of most other nodes differ from this one.
    #[error("this node's copy differs from that of others at {0}: it is dropped, and made anew")]
    Wrong(Position),
    /// What the engine had acknowledged is not there any more.
    #[error("the log has lost entries: another one stands at {0}, or none")]
    Lost(Position),
    /// The copy can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The operations of this node's entries that have not come back in the log.
#[derive(Default)]
pub struct Waiting {
    entries: Mutex<BTreeMap<u64, Vec<Proposed>>>,
    /// Those of entries that were passed over, for another entry.
    again: Mutex<VecDeque<Proposed>>,
    /// Signalled when either changes.
    pub changed: Notify,
}

impl Waiting {
    /// Adds the operations of entry `n`.
    pub fn insert(&self, n: u64, operations: Vec<Proposed>) {
        self.entries.lock().insert(n, operations);
    }

    /// Takes those of entry `n`.
    pub fn take(&self, n: u64) -> Option<Vec<Proposed>> {
        let taken = self.entries.lock().remove(&n);
        self.changed.notify_waiters();
        taken
    }

    /// Returns whether those of entry `n` wait.
    pub fn has(&self, n: u64) -> bool {
        self.entries.lock().contains_key(&n)
    }

    /// Takes the next operation whose entry was passed over.
    pub fn next_again(&self) -> Option<Proposed> {
        self.again.lock().pop_front()
    }

    /// Returns whether there is one.
    pub fn has_again(&self) -> bool {
        !self.again.lock().is_empty()
    }

    /// Puts back an operation that the next entry begins with.
    pub fn put_first(&self, operation: Proposed) {
        self.again.lock().push_front(operation);
    }

    fn put_again(&self, operations: Vec<Proposed>) {
        self.again.lock().extend(operations);
        self.changed.notify_waiters();
    }
}

/// The work of an entry.
enum Work {
    /// It is passed over.
    None,
    /// Operations of this run.
    Own(Vec<Proposed>),
    /// Operations of another node, or of an earlier run.
    Foreign(Vec<Change>),
}

/// What a replica knows of the log so far.
struct Known {
    progress: Progress,
    chain: Chain,
    /// The time at which the newest entry was applied; `None` before the first one of this run.
    applied: Option<Instant>,
    /// An entry of this run was applied: the service clock is that of the present.
    has_own: bool,
    /// The last entries of other nodes.
    present: BTreeMap<NodeName, Instant>,
}

/// A node's copy.
pub struct Replica {
    /// The node.
    pub node: NodeName,
    /// Its run.
    pub boot: BootId,
    changes: Changes,
    known: Mutex<Known>,
    /// The operations of this node's entries that have not come back.
    pub waiting: Waiting,
    /// Whether the node is in touch.
    pub contact: Contact,
    /// The last position that was applied.
    applied: watch::Sender<Position>,
}

impl Replica {
    /// A copy at `progress`, whose state in memory is that of `changes`.
    pub fn new(node: NodeName, boot: BootId, changes: Changes, progress: Progress) -> Self {
        let chain = Chain::new(progress.position, Mark { entry: progress.entry, link: progress.chain });
        let (present, has_own) = (BTreeMap::new(), false);
        let known = Known { progress, chain, applied: None, has_own, present };
        let (waiting, contact) = (Waiting::default(), Contact::default());
        let applied = watch::Sender::new(known.progress.position);
        Self { node, boot, changes, known: Mutex::new(known), waiting, contact, applied }
    }

    /// The changes of the copy.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Returns whether an entry that has been applied is another one than `committed`, which stands in its place.
    ///
    /// # Errors
    /// [`ApplyError::Lost`].
    pub fn verify(&self, committed: &Committed) -> Result<(), ApplyError> {
        match self.known.lock().chain.at(committed.position) {
            Some(mark) if mark.entry != Link::of_entry(&committed.bytes) => Err(ApplyError::Lost(committed.position)),
            _ => Ok(()),
        }
    }

    /// Returns whether the copy of another node differs.
    pub fn is_contradicted(&self) -> bool {
        self.known.lock().chain.is_contradicted()
    }

    /// Where the copy is.
    pub fn at(&self) -> At {
        self.known.lock().chain.newest()
    }

    /// Waits until the entry at `position` has been applied.
    pub async fn reached(&self, position: Position) {
        let _ = self.applied.subscribe().wait_for(|applied| *applied >= position).await; // the sender is here
    }

    /// The place of the copy in the log.
    pub fn progress(&self) -> Progress {
        self.known.lock().progress.clone()
    }

    /// The time of the last entry, and whether this node has the first name of those that are present: it says something first when
    /// nobody else does.
    pub fn quiet_since(&self, now: Instant) -> (Option<Instant>, bool) {
        let known = self.known.lock();
        let others = known.present.iter().filter(|(_, last)| now.saturating_duration_since(**last) < PRESENT);
        (known.applied, others.map(|(name, _)| name).all(|name| *name > self.node))
    }

    /// The other nodes that have appended something lately, with the age of that.
    pub fn others(&self) -> Vec<(NodeName, Duration)> {
        let (known, now) = (self.known.lock(), Instant::now());
        let ages = known.present.iter().map(|(name, last)| (name.clone(), now.saturating_duration_since(*last)));
        ages.filter(|(name, age)| *name != self.node && *age < KNOWN).collect()
    }

    /// Returns an entry with the number `n`, which has no operations yet.
    pub fn entry(&self, n: u64) -> Entry {
        let known = self.known.lock();
        // What was read after a start may be old: the clock has not counted the stop yet.
        let lived = known.has_own.then(|| self.changes.clock().present().lived);
        Entry::new(self.node.clone(), EntryId { boot: self.boot, n }, known.chain.newest(), lived)
    }

    /// Applies the next entry of the log.
    ///
    /// # Errors
    /// [`ApplyError`]: nothing may be applied after it.
    pub async fn apply(&self, committed: Committed) -> Result<(), ApplyError> {
        let Committed { position, time, bytes } = committed;
        let entry = Entry::decode(&bytes, position)?;
        let (mut progress, moment) = {
            let known = self.known.lock();
            (known.progress.clone(), known.progress.moment(&entry, time))
        };
        let work = self.work_of(&entry, &progress)?;
        let is_passed_over = matches!(work, Work::None);
        let job = move |applier: &mut Applier<'_>| {
            Progress::begin(applier.trees, position)?;
            make(applier, work, moment)?;
            let delta = applier.settle()?;
            progress.settings = applier.settings();
            progress.pass((!is_passed_over).then_some(&entry), &bytes, delta, moment);
            progress.save(applier.trees)?;
            applier.set_clock(moment);
            Ok((progress, entry))
        };
        let (progress, entry) = on_threads(self.changes.apply_entry(job)).await?;
        self.note(progress, &entry, is_passed_over)
    }

    /// Returns what an entry asks for.
    fn work_of(&self, entry: &Entry, progress: &Progress) -> Result<Work, ApplyError> {
        let id = entry.id();
        let own = if id.boot == self.boot { self.waiting.take(id.n) } else { None };
        if progress.has_passed(id) {
            // Overtaken by a later one of this node: not made, so that it can be asked for again.
            self.waiting.put_again(own.unwrap_or_default());
            return Ok(Work::None);
        }
        if let Some(own) = own {
            return Ok(Work::Own(own));
        }
        let unknown = |error| ApplyError::Unknown(progress.position.next(), error);
        let changes = entry.ops.iter().map(|text| serde_json::from_str(text.get())).collect::<Result<_, _>>();
        changes.map(Work::Foreign).map_err(unknown)
    }

    /// Notes what an applied entry tells of its author.
    fn note(&self, progress: Progress, entry: &Entry, is_passed_over: bool) -> Result<(), ApplyError> {
        let now = Instant::now();
        let mut known = self.known.lock();
        let position = progress.position;
        // An earlier run of this node had another copy.
        let comparison = match entry.node == self.node || is_passed_over {
            true => Comparison::Equal,
            false => known.chain.compare(&entry.node, entry.at),
        };
        known.chain.push(Mark { entry: progress.entry, link: progress.chain });
        known.has_own |= entry.id().boot == self.boot;
        known.progress = progress;
        known.applied = Some(now);
        if entry.id().boot != self.boot {
            known.present.insert(entry.node.clone(), now);
            known.present.retain(|_, last| now.saturating_duration_since(*last) < KNOWN);
        }
        drop(known);
        self.applied.send_replace(position);
        match comparison {
            Comparison::Equal => Ok(()),
            Comparison::Differs => {
                tracing::error!(node = %entry.node, at = %entry.at.position, "the copies of this node and of another one differ");
                Ok(())
            }
            Comparison::Wrong => Err(ApplyError::Wrong(position)),
        }
    }
}

/// Makes the operations of an entry.
fn make(applier: &mut Applier<'_>, work: Work, moment: Moment) -> Result<()> {
    match work {
        Work::None => Ok(()),
        Work::Own(operations) => operations.into_iter().try_for_each(|operation| applier.own(operation.apply, moment)),
        Work::Foreign(changes) => changes.into_iter().try_for_each(|change| applier.foreign(change, moment)),
    }
}

/// Waits for a future that other threads complete. In a simulation the clock must stand still meanwhile.
pub async fn on_threads<F: Future>(future: F) -> F::Output {
    #[cfg(test)]
    if super::simulation::is_simulated() {
        return super::simulation::block_on(future);
    }
    future.await
}

/// The replica that tasks share.
pub type SharedReplica = Arc<Replica>;
