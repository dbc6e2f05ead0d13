//! The entries of the log, in order, to the copy.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::Position;
use super::entry::Committed;
use super::log::{Log, Read};
use super::replica::{ApplyError, SharedReplica};

/// The time without an entry after which the log is asked.
const QUIET: Duration = Duration::from_secs(1);
/// The time before a failed question is asked again.
const RETRY: Duration = Duration::from_millis(500);
/// The time of a question.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// The reason for which a tail has ended.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// An entry can't be applied.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The next entry was removed: a snapshot has what it led to.
    #[error("this node's copy is too old to go on from {0}: it is made anew from a snapshot")]
    Behind(Position),
}

/// Applies what is appended, until its task is aborted.
///
/// # Errors
/// [`TailError`].
pub async fn run<L: Log>(log: L, replica: SharedReplica) -> Result<(), TailError> {
    loop {
        let Ok(Ok(mut feed)) = timeout(MAX_WAIT, log.follow()).await else {
            catch_up(&log, &replica).await?;
            sleep(RETRY).await;
            continue;
        };
        catch_up(&log, &replica).await?;
        follow(&log, &replica, &mut feed).await?;
    }
}

/// Applies what the feed brings, until it ends.
async fn follow<L: Log>(log: &L, replica: &SharedReplica, feed: &mut mpsc::Receiver<Committed>) -> Result<(), TailError> {
    loop {
        match timeout(QUIET, feed.recv()).await {
            Ok(Some(entry)) => {
                let next = replica.at().position.next();
                if entry.position == next {
                    let seen = Instant::now();
                    replica.apply(entry).await?;
                    replica.contact.heard(seen);
                } else if entry.position > next {
                    catch_up(log, replica).await?;
                } else {
                    replica.verify(&entry)?; // a repetition
                }
            }
            Ok(None) => return Ok(()),
            Err(_) => {
                catch_up(log, replica).await?;
                // Nothing comes: perhaps since the log ends before this copy.
                let position = replica.at().position;
                if let Ok(Ok(end)) = timeout(MAX_WAIT, log.end()).await
                    && end < position
                {
                    return Err(ApplyError::Lost(position).into());
                }
            }
        }
    }
}

/// Reads what the feed has not brought, as far as the log has it.
async fn catch_up<L: Log>(log: &L, replica: &SharedReplica) -> Result<(), TailError> {
    let mut has_seen = false;
    loop {
        let next = replica.at().position.next();
        match timeout(MAX_WAIT, log.read(next)).await {
            Ok(Ok(Read::Entry(entry))) => {
                replica.apply(entry).await?;
                has_seen = true;
            }
            Ok(Ok(Read::Gone)) => return Err(TailError::Behind(next)),
            Ok(Ok(Read::Beyond)) => {
                // The end of the log, by a server that has news.
                if has_seen {
                    replica.contact.heard(Instant::now());
                }
                return Ok(());
            }
            Ok(Err(_)) | Err(_) => return Ok(()),
        }
    }
}
