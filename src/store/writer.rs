//! The one thread that writes.
//!
//! It takes what is waiting, runs it, flushes and syncs once, then answers everyone: under load batches grow by themselves,
//! and a lone write waits for one flush. (`flush_async` from many tasks hangs in sled 0.34, and a flush per request from
//! many threads is an order of magnitude slower.)

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::catalogue::Trees;
use super::{Result, StoreError};
use crate::core::time::Timestamp;
use crate::telemetry::metrics::Commits;

/// How many changes may wait; a caller beyond that waits its turn without blocking the runtime.
const WAITING: usize = 1024;
/// How many changes share one flush at most, so that the first of a long queue does not wait for the last.
const BATCH: usize = 512;

/// How long a change that nobody waits for may stay off the disk.
const LATER: Duration = Duration::from_secs(1);

/// Whether an error means that the disk can't be trusted any more.
pub trait Severity {
    /// `true` ends the writer, and with it the server.
    fn fatal(&self) -> bool;
}

impl Severity for StoreError {
    fn fatal(&self) -> bool {
        matches!(self, Self::Engine(_) | Self::Disk(_))
    }
}

/// Raises the alarm however the thread ends before it was asked to, a panic included.
struct Alarm {
    failed: CancellationToken,
    calm: bool,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if !self.calm {
            self.failed.cancel();
        }
    }
}

/// A change on its way to the writer thread.
enum Job {
    /// Somebody waits for it to be on disk.
    Durable(Box<dyn FnOnce(&Trees) -> Ran + Send>),
    /// Nobody waits.
    Later(Change),
}

/// A change that nobody waits for.
type Change = Box<dyn FnOnce(&Trees) -> Result<()> + Send>;

/// A durable change that has run: its answer, which is called with the commit's outcome, and whether the disk has failed.
type Ran = (Answer, bool);

/// Announces and tells the caller, once it is known whether the batch reached the disk.
type Answer = Box<dyn FnOnce(bool) + Send>;

/// How the writer does.
#[derive(Debug, Clone, Copy)]
pub struct Pulse {
    /// When something was last made durable.
    pub committed: Instant,
    /// Since when it has been at what it is at; `None` while nothing is to be written.
    pub busy: Option<Instant>,
}

/// The writer thread's handle.
pub(super) struct Writer {
    /// `None` once stopped.
    sender: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<Result<()>>>>,
    failed: CancellationToken,
    pulse: Arc<Mutex<Pulse>>,
}

impl Writer {
    /// Starts the thread for the database in directory `path`, after making what `open` wrote durable.
    pub(super) fn start(db: sled::Db, trees: Arc<Trees>, path: &Path, commits: Arc<Commits>) -> Result<Self> {
        let pulse = Arc::new(Mutex::new(Pulse { committed: Instant::now(), busy: None }));
        let disk = Disk { file: File::open(path.join("db"))?, db, commits, pulse: pulse.clone() };
        disk.commit(0)?;
        // A new file's directory entry is durable only once its directory is synced.
        File::open(path)?.sync_all()?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        let (sender, receiver) = sync_channel(WAITING);
        let failed = CancellationToken::new();
        let alarm = Alarm { failed: failed.clone(), calm: false };
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || {
            let mut alarm = alarm; // the whole of it, to be dropped here
            let outcome = serve(&receiver, &trees, &disk);
            if let Err(error) = &outcome {
                // What the disk holds is unknown from here on. Leaving drops the receiver: every later write fails.
                tracing::error!(%error, "the disk failed; nothing is written any more");
            }
            alarm.calm = outcome.is_ok();
            outcome
        })?;
        Ok(Self { sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)), failed, pulse })
    }

    /// How the thread does.
    pub(super) fn pulse(&self) -> Pulse {
        *self.pulse.lock()
    }

    /// Ready once the thread has given up.
    pub(super) async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Runs `change` and waits for its commit.
    pub(super) async fn run<T: Send + 'static>(&self, change: impl FnOnce(&Trees) -> Result<T> + Send + 'static) -> Result<T> {
        self.run_then(change, |_| ()).await
    }

    /// Runs `change`, waits for its commit, and has `announce` run on the thread before anything later is announced.
    pub(super) async fn run_then<T, E>(
        &self,
        change: impl FnOnce(&Trees) -> std::result::Result<T, E> + Send + 'static,
        announce: impl FnOnce(&mut T) + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Severity + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let job = Job::Durable(Box::new(move |trees| {
            let outcome = change(trees);
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
                let _ = tell.send(outcome); // the caller may have gone; the change stands
            });
            (answer, fatal)
        }));
        self.submit(job).await?;
        told.await.map_err(|_| StoreError::Stopped)?
    }

    /// Runs `change` some time soon; `false` when the queue is full or closed.
    pub(super) fn run_later(&self, change: impl FnOnce(&Trees) -> Result<()> + Send + 'static) -> bool {
        let sender = self.sender.lock().clone();
        sender.is_some_and(|sender| sender.try_send(Job::Later(Box::new(change))).is_ok())
    }

    /// Hands over `job`, waiting off the runtime where the queue is full.
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

    /// Lets the thread finish what waits and joins it. A second call does nothing.
    pub(super) fn stop(&self) -> Result<()> {
        drop(self.sender.lock().take());
        match self.thread.lock().take() {
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

/// The database and the file below it.
struct Disk {
    db: sled::Db,
    file: File,
    commits: Arc<Commits>,
    pulse: Arc<Mutex<Pulse>>,
}

impl Disk {
    /// Makes everything written so far durable; `waited_for` changes of it have somebody waiting.
    fn commit(&self, waited_for: usize) -> Result<()> {
        let began = Instant::now();
        let outcome = self.flush();
        self.commits.timed.record(began.elapsed(), outcome.is_ok(), Timestamp::now());
        self.commits.batch.observe(waited_for as u64);
        outcome
    }

    fn flush(&self) -> Result<()> {
        self.db.flush()?;
        self.file.sync_data()?; // sled stops at sync_file_range: no metadata, no device cache
        *self.pulse.lock() = Pulse { committed: Instant::now(), busy: None };
        Ok(())
    }

    /// Notes that work begins, or that there is none.
    fn busy(&self, busy: bool) {
        self.pulse.lock().busy = busy.then(Instant::now);
    }
}

/// Runs until the queue is closed or the disk fails.
fn serve(jobs: &Receiver<Job>, trees: &Trees, disk: &Disk) -> Result<()> {
    let mut answers: Vec<Answer> = Vec::new();
    // When what nobody waits for must be on disk.
    let mut later: Option<Instant> = None;
    loop {
        let first = match later {
            None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => jobs.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        disk.busy(true);
        match first {
            Ok(job) => {
                let mut taken = take(job, trees, &mut answers, &mut later);
                for _ in 1..BATCH {
                    let (true, Ok(job)) = (taken.is_ok(), jobs.try_recv()) else { break };
                    taken = take(job, trees, &mut answers, &mut later);
                }
                if taken.is_err() {
                    answers.drain(..).for_each(|answer| answer(false));
                    return taken;
                }
                if answers.is_empty() && later.is_some_and(|due| Instant::now() < due) {
                    disk.busy(false);
                    continue;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return disk.commit(0),
        }
        later = None;
        let outcome = disk.commit(answers.len());
        for answer in answers.drain(..) {
            answer(outcome.is_ok());
        }
        outcome?;
    }
}

/// Runs one job.
fn take(job: Job, trees: &Trees, answers: &mut Vec<Answer>, later: &mut Option<Instant>) -> Result<()> {
    match job {
        Job::Durable(change) => {
            let (answer, fatal) = change(trees);
            answers.push(answer);
            if fatal {
                return Err(StoreError::Stopped);
            }
        }
        Job::Later(change) => {
            match change(trees) {
                Ok(()) => {}
                Err(error) if error.fatal() => return Err(error),
                // One record that can't be read is no reason to serve nobody.
                Err(error) => tracing::error!(%error, "a change was not made"),
            }
            later.get_or_insert_with(|| Instant::now() + LATER);
        }
    }
    Ok(())
}
