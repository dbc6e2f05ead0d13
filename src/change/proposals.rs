//! Operations on their way to a cluster's log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::clock::Moment;
use super::machine::Operation;
use crate::store::{Reply, Result, StoreError, Trees};

/// The operations that wait to become part of an entry, at most; a caller beyond that waits.
const MAX_WAITING: usize = 1024;
/// The time after which a caller is told that the log can't be reached.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Makes an operation at its place in the log. Returns the answer to its caller, and a flag that is set when the disk has failed.
pub type Apply = Box<dyn FnOnce(&Trees, Moment) -> (Reply, bool) + Send>;

/// An operation for the log.
pub struct Proposed {
    /// Its encoded form, `{NAME: FIELDS}`.
    pub text: Box<RawValue>,
    /// Makes it when it has come back in the log.
    pub apply: Apply,
}

/// An operation that is made as late as possible, for what it takes from memory to be the newest.
pub struct Proposal(Box<dyn FnOnce() -> Option<Proposed> + Send>);

impl Proposal {
    /// Returns the operation; `None` when nobody waits for it any more.
    pub fn make(self) -> Option<Proposed> {
        self.0()
    }
}

/// The queue of operations for the log; clones share it.
#[derive(Clone)]
pub struct Proposals {
    sender: mpsc::Sender<Proposal>,
    is_full: Arc<AtomicBool>,
}

/// The end of the queue that entries are made from.
pub struct ProposalQueue {
    /// The operations, in order.
    pub proposals: mpsc::Receiver<Proposal>,
    /// Set while the log has no room: operations that are dropped are refused for that.
    pub is_full: Arc<AtomicBool>,
}

/// Returns the encoded form of an operation.
fn encode<O: Operation>(operation: &O) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(&std::collections::BTreeMap::from([(O::NAME, operation)])).ok()
}

impl Proposals {
    /// Returns a queue, and the end of it that entries are made from.
    pub fn new() -> (Self, ProposalQueue) {
        let (sender, proposals) = mpsc::channel(MAX_WAITING);
        let is_full = Arc::new(AtomicBool::new(false));
        (Self { sender, is_full: is_full.clone() }, ProposalQueue { proposals, is_full })
    }

    /// Queues `operation`, and waits until `apply`, which gets it with the channel for its outcome, has answered.
    ///
    /// # Errors
    /// The operation's; [`StoreError::LogFull`]; [`StoreError::Unavailable`] when there is no answer within ten seconds: it may still be made.
    pub async fn run<O: Operation>(
        &self,
        operation: O,
        apply: impl FnOnce(O, Outcome<O>) -> Apply + Send + 'static,
    ) -> Result<O::Output, O::Error> {
        let deadline = Instant::now() + MAX_WAIT;
        let (reply, received) = oneshot::channel();
        let make = move || {
            let text = if reply.is_closed() { None } else { encode(&operation) }?;
            Some(Proposed { text, apply: apply(operation, reply) })
        };
        let outcome = async {
            self.sender.send(Proposal(Box::new(make))).await.map_err(|_| StoreError::Stopped)?;
            received.await.map_err(|_| match self.is_full.load(Ordering::Relaxed) {
                true => StoreError::LogFull,
                false => StoreError::Unavailable,
            })?
        };
        timeout_at(deadline, outcome).await.unwrap_or_else(|_| Err(StoreError::Unavailable.into()))
    }

    /// Queues the operation that `make` returns, whose result nobody waits for. Returns `false` when the queue is full or closed.
    pub fn defer<O: Operation>(
        &self,
        make: impl FnOnce() -> O + Send + 'static,
        apply: impl FnOnce(O) -> Apply + Send + 'static,
    ) -> bool {
        self.queue(move || proposed(make(), apply))
    }

    /// Queues what `make` returns. Returns `false` when the queue is full or closed.
    pub fn queue(&self, make: impl FnOnce() -> Option<Proposed> + Send + 'static) -> bool {
        self.sender.try_send(Proposal(Box::new(make))).is_ok()
    }
}

/// The channel for the outcome of an operation.
pub type Outcome<O> = oneshot::Sender<std::result::Result<<O as Operation>::Output, <O as Operation>::Error>>;

/// Returns an operation whose result nobody waits for, made from its parts.
pub fn proposed<O: Operation>(operation: O, apply: impl FnOnce(O) -> Apply) -> Option<Proposed> {
    Some(Proposed { text: encode(&operation)?, apply: apply(operation) })
}
