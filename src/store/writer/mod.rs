//! The one thread that writes: the handle of it. [`thread`] is its work.
//!
//! It takes all queued jobs, runs them, flushes and syncs once, then answers every caller: under load batches grow by themselves,
//! and a lone write waits for one flush. (`flush_async` from many tasks hangs in sled 0.34, and a flush per request from
//! many threads is an order of magnitude slower.)

mod thread;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::Mutex;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::commit_note::CommitNote;
use super::trees::Trees;
use super::{Result, Severity, StoreError};
use crate::core::awake::AwakeInstant;
use crate::telemetry::metrics::Commits;
use thread::{BeforeCommit, Disk, serve};

/// The capacity of the queue, in jobs; a caller beyond that waits without blocking the runtime.
const MAX_QUEUED_JOBS: usize = 1024;

/// Cancels `failed` however the thread ends before it was told to, a panic included.
struct Alarm {
    failed: CancellationToken,
    disarmed: bool,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if !self.disarmed {
            self.failed.cancel();
        }
    }
}

/// A job in the queue.
enum Job {
    /// A caller waits until it is on disk.
    Durable(DurableJob),
    /// The same, and nothing may wait to be written when it runs.
    Settled(DurableJob),
    /// No caller waits.
    Deferred(DeferredJob),
}

/// A job with a waiting caller. Returns its answer, and a flag that is set when the disk has failed.
pub type DurableJob = Box<dyn FnOnce(&Trees) -> (Answer, bool) + Send>;

/// A job without one.
type DeferredJob = Box<dyn FnOnce(&Trees) -> Result<()> + Send>;

/// Announces and answers the caller; called with `true` once the batch is on disk, with `false` when it failed.
pub type Answer = Box<dyn FnOnce(bool) + Send>;

/// Liveness of the writer thread.
#[derive(Debug, Clone, Copy)]
pub struct Pulse {
    /// The time of the last commit.
    pub committed: Instant,
    /// The start of the work under way; `None` while the queue is empty.
    pub busy: Option<AwakeInstant>,
}

/// The writer thread's handle.
pub struct Writer {
    /// `None` once stopped.
    sender: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<Result<()>>>>,
    failed: CancellationToken,
    pulse: Arc<Mutex<Pulse>>,
    before_commit: Arc<OnceLock<BeforeCommit>>,
    /// Unset where the store is a copy of what is safe elsewhere: commits are not synced.
    #[cfg(feature = "cluster")]
    is_synced: Arc<AtomicBool>,
}

impl Writer {
    /// Starts the thread for the database in directory `path`, after committing the writes of opening it. Commits are counted in the log
    /// and noted beside it.
    pub fn start(db: sled::Db, trees: Arc<Trees>, path: &Path, note: CommitNote, commits: Arc<Commits>) -> Result<Self> {
        let pulse = Arc::new(Mutex::new(Pulse { committed: Instant::now(), busy: None }));
        let (before_commit, is_synced) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(true)));
        let mut disk = Disk {
            file: File::open(path.join("db"))?,
            db,
            note,
            committed: None,
            trees,
            commits,
            pulse: pulse.clone(),
            before_commit: before_commit.clone(),
            is_synced: is_synced.clone(),
        };
        disk.commit(0, true)?;
        // A new file's directory entry is durable only once its directory is synced.
        File::open(path)?.sync_all()?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        let (sender, receiver) = sync_channel(MAX_QUEUED_JOBS);
        let failed = CancellationToken::new();
        let alarm = Alarm { failed: failed.clone(), disarmed: false };
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || {
            let mut alarm = alarm; // the whole of it, to be dropped here
            let outcome = serve(&receiver, &mut disk);
            if let Err(error) = &outcome {
                // The content of the disk is unknown from here on. Returning drops the receiver: every later write fails.
                tracing::error!(%error, "disk failed; no further writes are accepted");
            }
            alarm.disarmed = outcome.is_ok();
            outcome
        })?;
        Ok(Self {
            sender: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
            failed,
            pulse,
            before_commit,
            #[cfg(feature = "cluster")]
            is_synced,
        })
    }

    /// Sets the function that writes what jobs have left to be written with the commit: all of it where it is called with `true`;
    /// else it may leave something for a commit within [`DEFERRED_COMMIT_DELAY`](thread::DEFERRED_COMMIT_DELAY), and returns whether
    /// it has. The first one counts.
    pub fn before_commit(&self, write: impl Fn(&Trees, bool) -> Result<bool> + Send + Sync + 'static) {
        let _ = self.before_commit.set(Box::new(write)); // a second one would write nothing: its changes are not those of jobs
    }

    /// From here on, commits are flushed to the system and not synced: the store is a copy of what is safe elsewhere.
    #[cfg(feature = "cluster")]
    pub fn leave_unsynced(&self) {
        self.is_synced.store(false, std::sync::atomic::Ordering::Relaxed);
    }

    /// Returns the liveness of the thread.
    pub fn pulse(&self) -> Pulse {
        *self.pulse.lock()
    }

    /// Completes once the thread has ended after a failure.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Runs `job` and waits for its commit.
    ///
    /// # Errors
    /// The error of `job`; [`StoreError::Stopped`] when it did not reach the disk.
    pub async fn run<T, E>(
        &self,
        job: impl FnOnce(&Trees) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Severity + Send + 'static,
    {
        self.run_then(job, |_| ()).await
    }

    /// Runs `job`, waits for its commit, and then runs `announce` on the thread, before anything later is announced.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_then<T, E>(
        &self,
        job: impl FnOnce(&Trees) -> std::result::Result<T, E> + Send + 'static,
        announce: impl FnOnce(&mut T) + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Severity + Send + 'static,
    {
        let (reply, received) = oneshot::channel();
        self.submit(Job::Durable(Self::answered(job, announce, reply))).await?;
        received.await.map_err(|_| StoreError::Stopped)?
    }

    /// Runs `job` when everything that earlier jobs have changed is in the trees, and waits for its commit.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_settled<T, E>(
        &self,
        job: impl FnOnce(&Trees) -> std::result::Result<T, E> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Severity + Send + 'static,
    {
        let (reply, received) = oneshot::channel();
        self.submit(Job::Settled(Self::answered(job, |_| (), reply))).await?;
        received.await.map_err(|_| StoreError::Stopped)?
    }

    /// Returns the job that runs `job`, announces its result and answers.
    pub fn answered<T, E>(
        job: impl FnOnce(&Trees) -> std::result::Result<T, E> + Send + 'static,
        announce: impl FnOnce(&mut T) + Send + 'static,
        reply: oneshot::Sender<std::result::Result<T, E>>,
    ) -> DurableJob
    where
        T: Send + 'static,
        E: From<StoreError> + Severity + Send + 'static,
    {
        Box::new(move |trees| {
            let outcome = job(trees);
            let fatal = outcome.as_ref().is_err_and(Severity::fatal);
            let answer: Answer = Box::new(move |durable| {
                let outcome = match outcome {
                    Ok(_) if !durable => Err(StoreError::Stopped.into()),
                    Ok(mut value) => {
                        announce(&mut value);
                        Ok(value)
                    }
                    Err(error) => Err(error),
                };
                let _ = reply.send(outcome); // the caller may be gone; the change stands
            });
            (answer, fatal)
        })
    }

    /// Queues `job`, which reaches the disk with the next commit, at the latest after
    /// [`DEFERRED_COMMIT_DELAY`](thread::DEFERRED_COMMIT_DELAY). Returns `false` when the queue is full or closed.
    pub fn run_deferred(&self, job: impl FnOnce(&Trees) -> Result<()> + Send + 'static) -> bool {
        let sender = self.sender.lock().clone();
        sender.is_some_and(|sender| sender.try_send(Job::Deferred(Box::new(job))).is_ok())
    }

    /// Queues `job` as [`run_deferred`](Self::run_deferred) does, and waits where the queue is full.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    pub async fn queue_deferred(&self, job: impl FnOnce(&Trees) -> Result<()> + Send + 'static) -> Result<()> {
        self.submit(Job::Deferred(Box::new(job))).await
    }

    /// Queues `job`, waiting off the runtime where the queue is full.
    async fn submit(&self, job: Job) -> Result<()> {
        let sender = self.sender.lock().clone().ok_or(StoreError::Stopped)?;
        match sender.try_send(job) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(StoreError::Stopped),
            Err(TrySendError::Full(job)) => {
                let sent = tokio::task::spawn_blocking(move || sender.send(job)).await;
                sent.ok().and_then(std::result::Result::ok).ok_or(StoreError::Stopped)
            }
        }
    }

    /// Waits until the queue is empty and the thread has ended. A second call does nothing.
    ///
    /// # Errors
    /// The error that the thread ended with.
    pub fn stop(&self) -> Result<()> {
        drop(self.sender.lock().take());
        match self.thread.lock().take() {
            // The last handle may have been that of a job: the thread ends by itself then.
            Some(thread) if thread.thread().id() == std::thread::current().id() => Ok(()),
            Some(thread) => thread.join().unwrap_or(Err(StoreError::Stopped)),
            None => Ok(()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::error!(%error, "the store did not close cleanly");
        }
    }
}
