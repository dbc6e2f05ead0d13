//! The writer thread: the batches of jobs, and their commits.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::{Answer, Job, Pulse};
use crate::core::awake::AwakeInstant;
use crate::core::ids::MessageId;
use crate::core::time::Timestamp;
use crate::store::commit_note::CommitNote;
use crate::store::trees::Trees;
use crate::store::{Result, Severity, StoreError};
use crate::telemetry::metrics::Commits;

/// The most jobs that share one flush, so that the first of a long queue does not wait for the last.
const MAX_BATCH_JOBS: usize = 512;
/// The time after which a batch takes no more jobs, for the same reason.
const MAX_BATCH_TIME: Duration = Duration::from_millis(5);
/// The longest time that a job without a waiting caller may stay off the disk.
pub(super) const DEFERRED_COMMIT_DELAY: Duration = Duration::from_secs(1);

/// The longest time for which a batch waits for more jobs.
const MAX_GATHER_TIME: Duration = Duration::from_millis(4);
/// The looks at the queue while a batch waits. The thread sleeps in between: a wake-up for each job would take the processor from
/// those who make the next ones.
const GATHER_STEPS: u32 = 8;

/// A function that writes what waits for the commit: all of it, or what must not wait for a later one. Returns whether something is
/// left.
pub(super) type BeforeCommit = Box<dyn Fn(&Trees, bool) -> Result<bool> + Send + Sync>;

/// The database and the files below and beside it.
pub(super) struct Disk {
    pub(super) db: sled::Db,
    pub(super) trees: Arc<Trees>,
    /// sled's log.
    pub(super) file: File,
    pub(super) note: CommitNote,
    /// The version of the trees that the last commit has brought to the disk; `None` before the first.
    pub(super) committed: Option<u64>,
    pub(super) commits: Arc<Commits>,
    pub(super) pulse: Arc<Mutex<Pulse>>,
    pub(super) before_commit: Arc<OnceLock<BeforeCommit>>,
    pub(super) is_synced: Arc<AtomicBool>,
}

impl Disk {
    /// Makes everything written so far durable, and `all` or a part of what waits to be written; `waited_for` jobs have a waiting
    /// caller.
    pub(super) fn commit(&mut self, waited_for: usize, all: bool) -> Result<Committed> {
        let began = Instant::now();
        let outcome = self.settle(all).and_then(|left| self.flush().map(|()| left));
        let took = began.elapsed();
        self.commits.timed.record(took, outcome.is_ok(), Timestamp::now());
        self.commits.batch.observe(waited_for as u64);
        outcome.map(|left| Committed { took, left })
    }

    /// Writes `all` or a part of what waits for a commit; returns whether something is left.
    fn settle(&self, all: bool) -> Result<bool> {
        self.before_commit.get().map_or(Ok(false), |write| write(&self.trees, all))
    }

    fn flush(&mut self) -> Result<()> {
        // A commit without changes must write nothing: it may be a look at a disk that is full.
        let version = self.trees.version();
        let changed = self.committed != Some(version);
        if changed {
            self.trees.tally.end()?;
        }
        self.db.flush()?;
        if self.is_synced.load(Ordering::Relaxed) {
            self.file.sync_data()?; // sled stops at sync_file_range: no metadata, no device cache
        }
        if changed {
            self.committed = Some(version);
            self.note.write(self.trees.tally.commits(), self.newest())?;
        }
        *self.pulse.lock() = Pulse { committed: Instant::now(), busy: None };
        Ok(())
    }

    /// The newest message that was written.
    fn newest(&self) -> MessageId {
        MessageId(self.trees.newest_written.load(Ordering::Relaxed))
    }

    /// Makes the last commit, and notes that the store is closed.
    fn close(&mut self) -> Result<()> {
        self.commit(0, true)?;
        self.note.close(self.trees.tally.commits(), self.newest())
    }

    /// Sets the busy mark of the pulse.
    fn set_busy(&self, busy: bool) {
        self.pulse.lock().busy = busy.then(AwakeInstant::now);
    }
}

/// A commit that was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Committed {
    /// Its duration.
    took: Duration,
    /// Set when something is left to be written with a later one.
    left: bool,
}

/// The jobs that share a commit.
#[derive(Default)]
struct Batch {
    /// Those whose callers wait.
    answers: Vec<Answer>,
    /// The time by which the jobs without a caller, and what commits have left, must be on disk.
    deferred: Option<Instant>,
}

/// Decides how long a batch waits for more jobs: callers who were answered together are likely to return together, and a commit costs
/// the same for one as for all of them.
#[derive(Debug, Clone, Copy, Default)]
struct Gathering {
    /// The number of callers that are likely to come; with one, nobody waits.
    expected: usize,
    /// The longest time to wait: a few times the duration of the last commit, so that a fast disk stays fast.
    longest: Duration,
}

impl Gathering {
    /// Returns whether a batch of `callers` that began `elapsed` ago waits for more.
    fn waits(self, callers: usize, elapsed: Duration) -> bool {
        callers > 0 && callers < self.expected && elapsed < self.longest
    }

    /// Notes a commit of `callers` that took `commit`.
    fn committed(&mut self, callers: usize, commit: Duration) {
        self.expected = callers.max(self.expected - self.expected.div_ceil(4));
        self.longest = (commit * 4).min(MAX_GATHER_TIME);
    }
}

/// Runs until the queue is closed or the disk fails.
pub(super) fn serve(jobs: &Receiver<Job>, disk: &mut Disk) -> Result<()> {
    let (mut batch, mut gathering) = (Batch::default(), Gathering::default());
    loop {
        let first = match batch.deferred.into_iter().chain(disk.note.due()).min() {
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => jobs.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        disk.set_busy(true);
        match first {
            Ok(job) => {
                if let Err(error) = batch.fill(job, jobs, disk, gathering) {
                    batch.answers.drain(..).for_each(|answer| answer(false));
                    return Err(error);
                }
                if batch.answers.is_empty() && batch.deferred.is_some_and(|due| Instant::now() < due) {
                    disk.set_busy(false);
                    continue;
                }
            }
            Err(RecvTimeoutError::Timeout) if batch.deferred.is_none_or(|due| Instant::now() < due) => {
                disk.note.sync()?;
                disk.set_busy(false);
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return disk.close(),
        }
        let due = batch.deferred.is_some_and(|due| Instant::now() >= due);
        let outcome = disk.commit(batch.answers.len(), due || batch.answers.is_empty());
        if let Ok(Committed { took, left }) = outcome {
            gathering.committed(batch.answers.len(), took);
            let later = batch.deferred.filter(|_| !due).unwrap_or_else(|| Instant::now() + DEFERRED_COMMIT_DELAY);
            batch.deferred = left.then_some(later);
        }
        batch.answers.drain(..).for_each(|answer| answer(outcome.is_ok()));
        outcome?;
        if disk.note.due().is_some_and(|due| Instant::now() >= due) {
            disk.note.sync()?;
        }
    }
}

impl Batch {
    /// Runs `first` and what else is queued, or comes soon.
    fn fill(&mut self, first: Job, jobs: &Receiver<Job>, disk: &Disk, gathering: Gathering) -> Result<()> {
        let began = Instant::now();
        self.take(first, disk)?;
        for _ in 1..MAX_BATCH_JOBS {
            // Looked at before a job is received: one that is dropped is lost.
            if began.elapsed() >= MAX_BATCH_TIME {
                break;
            }
            let job = loop {
                match jobs.try_recv() {
                    Ok(job) => break Some(job),
                    Err(TryRecvError::Empty) if gathering.waits(self.answers.len(), began.elapsed()) => {
                        std::thread::sleep(gathering.longest / GATHER_STEPS);
                    }
                    Err(_) => break None,
                }
            };
            let Some(job) = job else { break };
            self.take(job, disk)?;
        }
        Ok(())
    }

    /// Runs one job.
    fn take(&mut self, job: Job, disk: &Disk) -> Result<()> {
        let trees = &disk.trees;
        if let Job::Settled(_) = job {
            disk.settle(true)?;
        }
        match job {
            Job::Durable(job) | Job::Settled(job) => {
                let (answer, fatal) = job(trees);
                self.answers.push(answer);
                if fatal {
                    return Err(StoreError::Stopped);
                }
            }
            Job::Deferred(job) => {
                match job(trees) {
                    Ok(()) => {}
                    Err(error) if error.fatal() => return Err(error),
                    // One record that can't be read is no reason to stop serving.
                    Err(error) => tracing::error!(%error, "change not applied"),
                }
                self.deferred.get_or_insert_with(|| Instant::now() + DEFERRED_COMMIT_DELAY);
            }
        }
        Ok(())
    }
}
