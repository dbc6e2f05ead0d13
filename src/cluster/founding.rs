//! The beginning of a cluster, and the end of a node's part in it: what the command line does on a data directory.

use std::path::Path;

pub use super::member::leave;
use super::member::{self, MemberError};
use super::nats::{NewLog, connect};
use super::progress::Progress;
use crate::change::{Settings, clock_of};
use crate::config::{ClusterConfig, Config};
use crate::core::time::Timestamp;

/// Makes the data in the directory `data` the first copy of a new cluster, with a log on the engine and a snapshot in it.
///
/// # Errors
/// [`MemberError`]: nothing is changed in the data where the engine refuses.
pub async fn found(cluster: &ClusterConfig, config: &Config, data: &Path) -> Result<(), MemberError> {
    let (log, is_there) = connect(cluster).await?;
    // One without entries and snapshots was left by a command that was cut off.
    if is_there && log.is_founded().await? {
        return Err(MemberError::Founded);
    }
    log.create(NewLog { replicas: cluster.replicas, max_bytes: cluster.log_max_bytes }).await?;
    let settings = Settings { mailbox: config.mailbox.clone(), history: config.history.clone() };
    let generation = log.generation;
    member::found(&log, data, move |trees| Ok(Progress::founded(generation, Timestamp::now(), clock_of(trees)?, settings))).await
}
