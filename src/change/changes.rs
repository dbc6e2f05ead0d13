//! The way to change durable state.

use std::sync::{Arc, OnceLock};

#[cfg(feature = "cluster")]
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

#[cfg(feature = "cluster")]
use super::Appended;
use super::clock::{Moment, ServiceClock};
use super::index::{Ack, DeliveryState};
use super::load::load;
use super::log::{Acknowledge, Settings};
use super::machine::{Event, Machine, Operation, State, Touched};
use super::memory::Memory;
use super::outcomes::Outcomes;
use super::passes::ForgetPasses;
#[cfg(feature = "cluster")]
use super::proposals::{ProposalQueue, Proposals, Proposed, proposed};
use super::stage::Due;
use crate::core::ids::MessageId;
#[cfg(feature = "cluster")]
use crate::core::ids::{Recipient, UserId};
#[cfg(feature = "cluster")]
use crate::store::Writer;
use crate::store::{Blocks, EndState, Head, PageNumber, ReceiptRecord, Result, Severity, Store, StoreError, Trees};
use crate::telemetry::live::ReceiptEvent;
use crate::telemetry::metrics::Metrics;

/// A message, as far as it is known.
#[derive(Debug)]
pub struct Found {
    /// The message without its payload.
    pub head: Head,
    /// Its receipt, where its life has ended or a reader has passed over it.
    pub record: Option<ReceiptRecord>,
    /// Its state in the mailbox.
    pub state: DeliveryState,
    /// The number of connections that it was written to, as far as that is known.
    pub deliveries: u16,
}

/// The way to change durable state; clones share it.
#[derive(Clone)]
pub struct Changes {
    store: Store,
    shared: Arc<Shared>,
    /// The way to the cluster's log; `None` on one machine, where operations are made at once.
    #[cfg(feature = "cluster")]
    proposals: Option<Proposals>,
}

pub(super) struct Shared {
    pub(super) state: State,
    pub(super) clock: ServiceClock,
    outcomes: Outcomes,
    metrics: Arc<Metrics>,
    riders: OnceLock<Box<dyn Riders>>,
    revocation: OnceLock<Revocation>,
    /// Whose connections may have lost their right by the changes of this batch.
    touched: Mutex<Touched>,
    #[cfg(feature = "cluster")]
    pub(super) announcer: OnceLock<Announcer>,
    #[cfg(feature = "cluster")]
    everywhere: OnceLock<Everywhere>,
}

/// Waits until other nodes have made what has been made here, but not for long.
#[cfg(feature = "cluster")]
type Everywhere = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// The reaction to a message that another node has appended.
#[cfg(feature = "cluster")]
type Announcer = Box<dyn Fn(Recipient, UserId, &mut Appended) + Send + Sync>;

/// The reaction to changes after which connections may have lost their right.
type Revocation = Box<dyn Fn(&Touched) + Send + Sync>;

/// Proofs of receipt that wait for a commit that is made anyway: one of their own would wake the writer thread for each.
pub trait Riders: Send + Sync {
    /// Takes those that wait; `None` where there is none.
    fn take(&self) -> Option<Acknowledge>;

    /// Takes back those that an operation has left.
    fn put_back(&self, left: Vec<Ack>);

    /// Takes back those that were not applied, since a cluster's log has no room, for a later attempt.
    #[cfg(feature = "cluster")]
    fn keep(&self, refused: Vec<Ack>);
}

/// Proofs on their way to a cluster's log: kept for a later attempt where they don't arrive.
#[cfg(feature = "cluster")]
struct OnTheWay {
    shared: Arc<Shared>,
    acks: Vec<Ack>,
}

#[cfg(feature = "cluster")]
impl OnTheWay {
    /// They have been applied, but for those that are `left`; `None` where they were refused, as they would be again.
    fn arrived(mut self, left: Option<Vec<Ack>>) {
        self.acks.clear();
        if let Some((riders, left)) = self.shared.riders.get().zip(left) {
            riders.put_back(left);
        }
    }
}

#[cfg(feature = "cluster")]
impl Drop for OnTheWay {
    fn drop(&mut self) {
        if let Some(riders) = self.shared.riders.get().filter(|_| !self.acks.is_empty()) {
            riders.keep(std::mem::take(&mut self.acks));
        }
    }
}

impl Changes {
    /// Loads the part of the state that is in memory: one scan of the log. Blocks.
    ///
    /// # Errors
    /// If the store fails, or holds a record that can't be read.
    pub fn open(store: Store, settings: Settings, metrics: Arc<Metrics>) -> Result<Self> {
        let shared = Shared::load(&store, settings, metrics)?;
        shared.apply(store.trees(), ForgetPasses {})?;
        let staged = shared.clone();
        store.writer().before_commit(move |trees, all| {
            staged.apply_riders(trees)?;
            staged.state.write(trees, if all { Due::Now } else { Due::Later })
        });
        Ok(Self {
            store,
            shared,
            #[cfg(feature = "cluster")]
            proposals: None,
        })
    }

    /// Loads the state as [`open`](Self::open) does, for changes that are made by way of a cluster's log. Returns the end of the queue
    /// that its entries are made from.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    #[cfg(feature = "cluster")]
    pub fn open_member(store: Store, settings: Settings, metrics: Arc<Metrics>) -> Result<(Self, ProposalQueue)> {
        let shared = Shared::load(&store, settings, metrics)?;
        store.writer().leave_unsynced();
        let (proposals, made) = Proposals::new();
        let staged = shared.clone();
        // An entry leaves nothing; what this node alone has changed stages nothing.
        store.writer().before_commit(move |trees, _| staged.state.write(trees, Due::Now));
        Ok((Self { store, shared, proposals: Some(proposals) }, made))
    }

    /// Makes a change and waits until it is on disk.
    ///
    /// # Errors
    /// The operation's; [`StoreError::Stopped`] when it did not reach the disk.
    pub async fn run<O: Operation>(&self, operation: O) -> Result<O::Output, O::Error> {
        self.run_then(operation, |_| ()).await
    }

    /// Makes a change, waits until it is on disk, closes the connections that have lost their right by it, and then calls `announce` on the
    /// writer thread, before anything later is announced.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_then<O: Operation>(
        &self,
        operation: O,
        announce: impl FnOnce(&mut O::Output) + Send + 'static,
    ) -> Result<O::Output, O::Error> {
        #[cfg(feature = "cluster")]
        if let Some(proposals) = self.proposals.as_ref().filter(|_| !O::IS_LOCAL) {
            let shared = self.shared.clone();
            let outcome = proposals.run(operation, |operation, reply| shared.at_its_place(operation, announce, reply)).await;
            if O::IS_AWAITED
                && outcome.is_ok()
                && let Some(everywhere) = self.shared.everywhere.get()
            {
                everywhere().await;
            }
            return outcome;
        }
        let (shared, reacting) = (self.shared.clone(), self.shared.clone());
        let announce = move |output: &mut O::Output| {
            reacting.revoke();
            announce(output);
        };
        self.store.writer().run_then(move |trees| shared.apply(trees, operation), announce).await
    }

    /// Makes a change and waits until it is made; it reaches the disk with one of the next commits, within a second or so, and not
    /// without what was changed before it.
    ///
    /// # Errors
    /// The operation's; [`StoreError::Stopped`] when it was not made.
    pub async fn run_soon<O: Operation>(&self, operation: O) -> Result<O::Output, O::Error> {
        #[cfg(feature = "cluster")]
        if self.proposals.is_some() {
            return self.run(operation).await;
        }
        let (reply, received) = oneshot::channel();
        let shared = self.shared.clone();
        let job = move |trees: &Trees| {
            let outcome = shared.apply_now(trees, operation);
            let fatal = outcome.as_ref().is_err_and(Severity::fatal);
            let _ = reply.send(outcome); // the caller may be gone; the change stands
            if fatal { Err(StoreError::Stopped) } else { Ok(()) }
        };
        self.store.writer().queue_deferred(job).await?;
        received.await.map_err(|_| StoreError::Stopped)?
    }

    /// Waits until the changes that were made are on disk. By way of a log, they are when they are made.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] when they did not reach it.
    pub async fn commit(&self) -> Result<()> {
        #[cfg(feature = "cluster")]
        if self.proposals.is_some() {
            return Ok(());
        }
        self.store.writer().run(|_| Ok(())).await
    }

    /// Makes the change that `make` returns, on the writer thread some time soon, and passes its result to `then`; it reaches the
    /// disk with the next commit, within a second or so. Returns `false` when the queue is full or the store is closing.
    pub fn defer<O: Operation>(
        &self,
        make: impl FnOnce() -> O + Send + 'static,
        then: impl FnOnce(O::Output) + Send + 'static,
    ) -> bool
    where
        StoreError: From<O::Error>,
    {
        let shared = self.shared.clone();
        #[cfg(feature = "cluster")]
        if let Some(proposals) = self.proposals.as_ref().filter(|_| !O::IS_LOCAL) {
            let then = move |output: &mut Option<O::Output>| output.take().map_or((), then);
            return proposals.defer(make, move |operation| shared.at_its_place_unasked(operation, then));
        }
        self.store.writer().run_deferred(move |trees| Ok(shared.apply_now(trees, make()).map(then)?))
    }

    /// Sets the proofs that ride along with commits; the first ones count.
    pub fn set_riders(&self, riders: impl Riders + 'static) {
        let _ = self.shared.riders.set(Box::new(riders)); // there is one mailbox on these changes
    }

    /// Sets what is called, on the writer thread, after each change by which connections may have lost their right; the first one counts.
    pub fn set_revocation(&self, revoke: impl Fn(&Touched) + Send + Sync + 'static) {
        let _ = self.shared.revocation.set(Box::new(revoke)); // there is one server on these changes
    }

    /// Returns the proofs that wait for a commit, as an operation for the log.
    #[cfg(feature = "cluster")]
    pub fn riders(&self) -> Option<Proposed> {
        self.shared.proposed_riders()
    }

    /// Queues the proofs that wait for a commit, for the log: those that wait when their entry is made, right after the call of `taking`.
    /// Returns `false` when the queue is full or closed.
    #[cfg(feature = "cluster")]
    pub fn send_riders(&self, taking: impl FnOnce() + Send + 'static) -> bool {
        let shared = self.shared.clone();
        self.proposals.as_ref().is_some_and(|proposals| {
            proposals.queue(move || {
                taking();
                shared.proposed_riders()
            })
        })
    }

    /// Sets what is called, on the writer thread, for each message that another node has appended; the first one counts.
    #[cfg(feature = "cluster")]
    pub fn set_announcer(&self, announce: impl Fn(Recipient, UserId, &mut Appended) + Send + Sync + 'static) {
        let _ = self.shared.announcer.set(Box::new(announce)); // there is one mailbox on these changes
    }

    /// Sets what waits until other nodes have made what has been made here; the first one counts.
    #[cfg(feature = "cluster")]
    pub fn set_everywhere(&self, wait: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        let _ = self.shared.everywhere.set(Box::new(wait)); // a node is in one cluster
    }

    /// The writer thread.
    #[cfg(feature = "cluster")]
    pub(super) fn writer(&self) -> &Writer {
        self.store.writer()
    }

    /// The state itself.
    #[cfg(feature = "cluster")]
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Returns whether changes are those of several nodes, made by way of a log.
    pub const fn is_shared(&self) -> bool {
        #[cfg(feature = "cluster")]
        return self.proposals.is_some();
        #[cfg(not(feature = "cluster"))]
        false
    }

    /// The part of the state that is in memory, for reading.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.shared.state.memory.lock()
    }

    /// Returns what is known of a message that is on disk; `None` where nothing is.
    ///
    /// # Errors
    /// If the store fails.
    pub fn find(&self, id: MessageId) -> Result<Option<Found>> {
        // Held for the whole of an operation: a message that ends at this moment is found in the index or in a receipt.
        let stage = self.shared.state.stage.lock();
        let record = stage.receipts(self.store.log(), PageNumber::of(id))?.get(id).cloned();
        if let Some(record) = record.as_ref().filter(|record| record.end.is_some()) {
            let (state, deliveries) = self.memory().index.delivery_state(record.recipient, id);
            // One that is acknowledged and still pending: its reader's place did not reach the disk before a crash.
            if !matches!(state, DeliveryState::Queued | DeliveryState::Sent(_)) {
                return Ok(Some(Found { head: record.head(), record: Some(record.clone()), state, deliveries }));
            }
        }
        let block = self.memory().index.block_of(id);
        let head = block.map_or(Ok(None), |block| Blocks::new(self.store.log()).head(block, id))?;
        let Some(head) = head else { return Ok(None) };
        let (state, deliveries) = self.memory().index.delivery_state(head.recipient, id);
        let record = record.filter(|record| record.end.is_none());
        Ok((state != DeliveryState::Gone).then_some(Found { head, record, state, deliveries }))
    }

    /// The service clock.
    pub fn clock(&self) -> &ServiceClock {
        &self.shared.clock
    }

    /// The watchers of single messages.
    pub fn outcomes(&self) -> &Outcomes {
        &self.shared.outcomes
    }
}

impl Shared {
    fn load(store: &Store, settings: Settings, metrics: Arc<Metrics>) -> Result<Arc<Self>> {
        let clock = ServiceClock::open(store.trees())?;
        let state = load(store.trees(), settings, clock.moment())?;
        let (outcomes, riders, revocation) = (Outcomes::default(), OnceLock::new(), OnceLock::new());
        let touched = Mutex::default();
        Ok(Arc::new(Self {
            state,
            clock,
            outcomes,
            metrics,
            riders,
            revocation,
            touched,
            #[cfg(feature = "cluster")]
            announcer: OnceLock::new(),
            #[cfg(feature = "cluster")]
            everywhere: OnceLock::new(),
        }))
    }

    /// Applies `operation` now, and reacts to its events. Connections that may have lost their right by it are closed by the next
    /// [`revoke`](Self::revoke).
    fn apply<O: Operation>(&self, trees: &Trees, operation: O) -> Result<O::Output, O::Error> {
        self.apply_at(trees, operation, self.clock.moment())
    }

    /// Applies `operation` at `moment`, as [`apply`](Self::apply) does.
    pub(super) fn apply_at<O: Operation>(&self, trees: &Trees, operation: O, moment: Moment) -> Result<O::Output, O::Error> {
        let mut machine = Machine::new(trees, &self.state);
        let outcome = operation.apply(&mut machine, moment);
        self.finish(machine);
        if outcome.is_err() {
            self.revoke(); // part of it was made
        }
        outcome
    }

    /// Applies `operation` now, and reacts to all of it.
    fn apply_now<O: Operation>(&self, trees: &Trees, operation: O) -> Result<O::Output, O::Error> {
        let outcome = self.apply(trees, operation);
        self.revoke();
        outcome
    }

    /// Reacts to the events of an operation, and notes what it has touched.
    fn finish(&self, mut machine: Machine<'_>) {
        let new = machine.take_touched();
        if !new.is_empty() {
            let mut touched = self.touched.lock();
            touched.users.extend(new.users);
            touched.devices_taken.extend(new.devices_taken);
            touched.readers_forgotten.extend(new.readers_forgotten);
        }
        for event in machine.take_events() {
            self.react(event);
        }
    }

    /// Closes the connections that have lost their right since the last call.
    pub(super) fn revoke(&self) {
        let touched = std::mem::take(&mut *self.touched.lock());
        if let Some(revoke) = self.revocation.get().filter(|_| !touched.is_empty()) {
            revoke(&touched);
        }
    }

    /// Applies the proofs that wait for a commit.
    fn apply_riders(&self, trees: &Trees) -> Result<()> {
        let Some((riders, acks)) = self.riders.get().and_then(|riders| Some((riders, riders.take()?))) else { return Ok(()) };
        match self.apply_now(trees, acks) {
            Ok(left) => riders.put_back(left),
            Err(error) if error.fatal() => return Err(error),
            // One record that can't be read is no reason to stop serving.
            Err(error) => tracing::error!(%error, "acknowledgements not applied"),
        }
        Ok(())
    }

    /// Returns the proofs that wait for a commit, as an operation for the log.
    #[cfg(feature = "cluster")]
    fn proposed_riders(self: &Arc<Self>) -> Option<Proposed> {
        let riders = self.riders.get()?.take()?;
        let (shared, way) = (self.clone(), OnTheWay { shared: self.clone(), acks: riders.acks.clone() });
        let then = move |left: &mut Option<Vec<Ack>>| way.arrived(left.take());
        proposed(riders, |operation| shared.at_its_place_unasked(operation, then))
    }

    fn react(&self, event: Event) {
        let metrics = &self.metrics.mailbox;
        match event {
            Event::Ended { recipient, id, state, sender } => {
                match state {
                    EndState::Acked => {} // counted for each reader
                    EndState::Expired => metrics.expired.inc(),
                    EndState::Cancelled => metrics.cancelled.inc(),
                    EndState::Cleared => metrics.cleared.inc(),
                    EndState::Undeliverable => metrics.undeliverable.inc(),
                }
                self.outcomes.ended(recipient, id, state);
                let receipts = &self.metrics.live.receipts;
                if receipts.is_watched() {
                    receipts.publish(ReceiptEvent::of_message(id, recipient, sender, state.name()));
                }
            }
            Event::Delivered(count) => metrics.delivered.add(count),
            Event::Passed => metrics.passed_over.inc(),
            Event::Missed(count) => metrics.missed.add(count),
            Event::ReceiptsEvicted(count) => metrics.receipts_evicted.add(count as u64),
        }
    }
}
