//! The one thread that writes.
//!
//! It takes what is waiting, runs it, flushes and syncs once, then answers everyone: under load batches grow by themselves,
//! and a lone write waits for one flush. (`flush_async` from many tasks hangs in sled 0.34, and a flush per request from
//! many threads is an order of magnitude slower.)

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::catalogue::Trees;
use super::{Result, StoreError};

/// How many changes may wait; a caller beyond that waits its turn without blocking the runtime.
const WAITING: usize = 1024;
/// How many changes share one flush at most, so that the first of a long queue does not wait for the last.
const BATCH: usize = 512;

/// Runs on the writer thread; called again with the commit's outcome, it answers the caller.
type Job = Box<dyn FnOnce(&Trees) -> Answer + Send>;
/// Tells the caller, once it is known whether the batch reached the disk.
type Answer = Box<dyn FnOnce(bool) + Send>;

/// The writer thread's handle.
pub(super) struct Writer {
    /// `None` once stopped.
    sender: Mutex<Option<SyncSender<Job>>>,
    thread: Mutex<Option<JoinHandle<Result<()>>>>,
}

impl Writer {
    /// Starts the thread for the database in directory `path`, after making what `open` wrote durable.
    pub(super) fn start(db: sled::Db, trees: Arc<Trees>, path: &Path) -> Result<Self> {
        let disk = Disk { file: File::open(path.join("db"))?, db };
        disk.commit()?;
        // A new file's directory entry is durable only once its directory is synced.
        File::open(path)?.sync_all()?;
        if let Some(parent) = path.parent() {
            File::open(parent)?.sync_all()?;
        }
        let (sender, receiver) = sync_channel(WAITING);
        let thread = std::thread::Builder::new().name("store".into()).spawn(move || serve(&receiver, &trees, &disk))?;
        Ok(Self { sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    /// Runs `change` and waits for its commit.
    pub(super) async fn run<T: Send + 'static>(&self, change: impl FnOnce(&Trees) -> Result<T> + Send + 'static) -> Result<T> {
        let (tell, told) = oneshot::channel();
        let job: Job = Box::new(move |trees| {
            let outcome = change(trees);
            Box::new(move |durable| {
                let outcome = match outcome {
                    Ok(_) if !durable => Err(StoreError::Stopped),
                    other => other,
                };
                let _ = tell.send(outcome); // the caller may have gone; the change stands
            })
        });
        self.submit(job).await?;
        told.await.map_err(|_| StoreError::Stopped)?
    }

    /// Hands over `job`, waiting off the runtime where the queue is full.
    async fn submit(&self, job: Job) -> Result<()> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or(StoreError::Stopped)?;
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
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        match self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
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
}

impl Disk {
    /// Makes everything written so far durable.
    fn commit(&self) -> Result<()> {
        self.db.flush()?;
        self.file.sync_data()?; // sled stops at sync_file_range: no metadata, no device cache
        Ok(())
    }
}

fn serve(jobs: &Receiver<Job>, trees: &Trees, disk: &Disk) -> Result<()> {
    let mut answers = Vec::new();
    while let Ok(first) = jobs.recv() {
        answers.push(first(trees));
        while answers.len() < BATCH
            && let Ok(job) = jobs.try_recv()
        {
            answers.push(job(trees));
        }
        let outcome = disk.commit();
        for answer in answers.drain(..) {
            answer(outcome.is_ok());
        }
        if let Err(error) = outcome {
            // What the disk holds is unknown from here on. Leaving drops the receiver: every later write fails.
            tracing::error!(%error, "the disk failed; nothing is written any more");
            return Err(error);
        }
    }
    disk.commit()
}
