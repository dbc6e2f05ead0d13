//! The application of one entry of a cluster's log.

use std::sync::Arc;

use super::changes::{Changes, Shared};
use super::clock::Moment;
use super::machine::Operation;
use super::proposals::{Apply, Outcome};
use super::stage::Due;
use super::{Appended, Change, Settings};
use crate::core::ids::{Recipient, UserId};
use crate::store::{Reply, Result, Severity, StoreError, Trees, Writer};

/// The difference that an entry has made to the sum of all records: the same on every node, whatever else a node has written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delta {
    /// In the number of records; it wraps.
    pub records: u64,
    /// In the sum of their checksums; it wraps.
    pub checksums: u64,
}

impl Delta {
    /// What has changed since the sum was `before`.
    pub fn since(before: (u64, u64), trees: &Trees) -> Self {
        let (records, checksums) = trees.tally.sum();
        Self { records: records.wrapping_sub(before.0), checksums: checksums.wrapping_sub(before.1) }
    }
}

/// Makes the operations of one entry, on the writer thread.
pub struct Applier<'a> {
    shared: &'a Arc<Shared>,
    /// The trees.
    pub trees: &'a Trees,
    answers: Vec<Reply>,
    /// The sum before it.
    before: (u64, u64),
}

impl Applier<'_> {
    /// Makes an operation of this node, whose caller is answered when all of the entry is made.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn own(&mut self, apply: Apply, moment: Moment) -> Result<()> {
        let (answer, fatal) = apply(self.trees, moment);
        self.answers.push(answer);
        if fatal { Err(StoreError::Disk(std::io::Error::other("an operation failed"))) } else { Ok(()) }
    }

    /// Makes an operation of another node.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn foreign(&mut self, change: Change, moment: Moment) -> Result<()> {
        match change {
            Change::Append(append) => {
                let (recipient, sender) = (append.recipient, append.sender);
                if let Some(mut appended) = self.shared.apply_noted(self.trees, append, moment)? {
                    let shared = self.shared.clone();
                    self.answers.push(Box::new(move |made| {
                        if made {
                            shared.announce(recipient, sender, &mut appended);
                        }
                    }));
                }
                Ok(())
            }
            other => other.apply_unasked(self.shared.as_ref(), self.trees, moment),
        }
    }

    /// Writes what operations have left to be written: an entry leaves nothing, so that what is on disk depends on entries alone.
    /// Returns what the entry has changed.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn settle(&mut self) -> Result<Delta> {
        self.shared.state.write(self.trees, Due::Now)?;
        Ok(Delta::since(self.before, self.trees))
    }

    /// The limits in force.
    pub fn settings(&self) -> Settings {
        self.shared.state.settings()
    }

    /// Sets the service clock to that of the entry.
    pub fn set_clock(&self, moment: Moment) {
        self.shared.clock.follow(moment.clock);
    }
}

impl Changes {
    /// Runs `work` on the writer thread, which makes an entry of the log; then answers the callers of its operations.
    ///
    /// # Errors
    /// That of `work`; [`StoreError::Stopped`] when it was not made whole.
    pub async fn apply_entry<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Applier<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (shared, reacting) = (self.shared().clone(), self.shared().clone());
        let job = move |trees: &Trees| {
            let mut applier = Applier { shared: &shared, trees, answers: Vec::new(), before: trees.tally.sum() };
            let made = work(&mut applier)?;
            Ok::<_, StoreError>((made, applier.answers))
        };
        let announce = move |(_, answers): &mut (T, Vec<Reply>)| {
            answers.drain(..).for_each(|answer| answer(true));
            reacting.revoke();
        };
        self.writer().run_then(job, announce).await.map(|(made, _)| made)
    }
}

/// Operations by way of a cluster's log.
impl Shared {
    /// Returns what makes `operation` when it has come back in the log, announces its result and answers.
    pub(super) fn at_its_place<O: Operation>(
        self: Arc<Self>,
        operation: O,
        announce: impl FnOnce(&mut O::Output) + Send + 'static,
        reply: Outcome<O>,
    ) -> Apply {
        Box::new(move |trees, moment| {
            let reacting = self.clone();
            let announce = move |output: &mut O::Output| {
                reacting.revoke();
                announce(output);
            };
            Writer::answered(move |trees| self.apply_at(trees, operation, moment), announce, reply)(trees)
        })
    }

    /// The same for one whose result nobody waits for.
    pub(super) fn at_its_place_unasked<O: Operation>(
        self: Arc<Self>,
        operation: O,
        then: impl FnOnce(&mut Option<O::Output>) + Send + 'static,
    ) -> Apply
    where
        StoreError: From<O::Error>,
    {
        Box::new(move |trees, moment| match self.apply_noted(trees, operation, moment) {
            Ok(mut output) => {
                let answer = move |made: bool| {
                    self.revoke();
                    if made {
                        then(&mut output);
                    }
                };
                (Box::new(answer), false)
            }
            Err(_) => (Box::new(|_| ()), true),
        })
    }

    /// Makes an operation whose refusal concerns nobody here; returns its result, where it was not refused.
    ///
    /// # Errors
    /// If the disk fails.
    fn apply_noted<O: Operation>(&self, trees: &Trees, operation: O, moment: Moment) -> Result<Option<O::Output>> {
        match self.apply_at(trees, operation, moment) {
            Ok(output) => Ok(Some(output)),
            Err(error) if error.fatal() => Err(StoreError::Disk(std::io::Error::other(O::NAME))),
            Err(_) => Ok(None),
        }
    }

    /// The same, for an operation whose result is of no use, either.
    ///
    /// # Errors
    /// If the disk fails.
    pub(super) fn apply_unasked<O: Operation>(&self, trees: &Trees, operation: O, moment: Moment) -> Result<()> {
        self.apply_noted(trees, operation, moment).map(drop)
    }

    /// Tells of a message that another node has appended.
    fn announce(&self, recipient: Recipient, sender: UserId, appended: &mut Appended) {
        if let Some(announce) = self.announcer.get() {
            announce(recipient, sender, appended);
        }
    }
}
