//! The errors of the store.

use std::fmt;
use std::path::PathBuf;

use crate::core::disk::Explained;

/// An error of the store. Prints as one plain sentence.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the store open.
    #[error("another qy-lty is using {0}")]
    Locked(PathBuf),
    /// A later version made the store.
    #[error("the data was written by a newer version (layout {found}, this one reads up to {known})")]
    Newer {
        /// The layout found.
        found: u64,
        /// The layout that this version writes.
        known: u64,
    },
    /// An earlier version made the store, and the operation needs today's layout.
    #[error("the data was written by an older version; start the server once, which brings it up to date")]
    Older,
    /// The disk is full: the store writes while it opens.
    #[error("the disk is full: free some space, then start again")]
    NoRoom,
    /// The disk has too little space for the migration of an older layout.
    #[error(
        "bringing the data up to date needs {needed} bytes of free disk space, and {free} are free: free some space, then start again"
    )]
    NeedsRoom {
        /// The bytes needed.
        needed: u64,
        /// The bytes free.
        free: u64,
    },
    /// A restore was cut off: there is no store, and a new one would pass for what was to be restored.
    #[error("a restore into this data directory was cut off: run it again, or delete {0} to start with an empty server")]
    RestoreCutOff(PathBuf),
    /// The store can't be read at all.
    #[error("the data can't be opened: {0}; `qy-lty check --repair` keeps what can be read, `qy-lty restore` restores a backup")]
    Unreadable(String),
    /// A part of the log can't be read, and commits behind it can.
    #[error("a part of the data's log is damaged; `qy-lty check --repair` keeps everything else, as a start of the server does")]
    DamagedLog,
    /// A record can't be decoded.
    #[error("damaged record in {tree}")]
    Damaged {
        /// The name of its tree.
        tree: &'static str,
    },
    /// The engine failed.
    #[error("storage error: {}", Engine(.0))]
    Engine(#[from] sled::Error),
    /// The disk failed.
    #[error("disk error: {}", Explained(.0))]
    Disk(#[from] std::io::Error),
    /// An earlier write failed, or the store is closing: nothing is accepted any more.
    #[error("the store accepts no writes")]
    Stopped,
    /// The log of the cluster has not taken the change within its time; it may still do so.
    #[error("the cluster's log can't be reached at the moment; try again")]
    Unavailable,
    /// The log of the cluster has no room for the change.
    #[error("the cluster's log is full")]
    LogFull,
    /// The store is a copy of a cluster's data, which only its log changes.
    #[error(
        "this is a copy of a cluster's data: set the section [cluster] as before, or run `qy-lty cluster leave` to make it the data of one \
         machine"
    )]
    OfCluster,
    /// A job of maintenance was ended from outside; nothing was changed.
    #[error("interrupted")]
    Interrupted,
    /// The user, device or token to change does not exist.
    #[error("no such {0}")]
    Missing(&'static str),
    /// The right that the change was requested with has been revoked meanwhile.
    #[error("the right to this has been revoked")]
    Revoked,
    /// The name or serial belongs to another record, perhaps in another spelling.
    #[error("{0} is taken; choose another")]
    Taken(&'static str),
    /// The name can be mistaken for that of another user.
    #[error("{0} looks like the name of another user; choose one that differs in more than similar characters")]
    Alike(&'static str),
    /// The configured limit is reached.
    #[error("too many {0}")]
    Full(&'static str),
    /// The change would leave no enabled administrator.
    #[error("the last administrator can't be removed, disabled or demoted")]
    LastAdmin,
}

/// An error of the engine, with the remedy where it is one of the disk.
struct Engine<'a>(&'a sled::Error);

impl fmt::Display for Engine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            sled::Error::Io(error) => write!(f, "{}", Explained(error)),
            other => write!(f, "{other}"),
        }
    }
}

impl StoreError {
    /// Returns whether something in the store can't be read, which a repair leaves behind.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::DamagedLog | Self::Engine(sled::Error::Corruption { .. }))
    }
}

/// A result with [`StoreError`].
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Distinguishes errors after which the disk can't be trusted from refusals.
pub trait Severity {
    /// Returns `true` for an error that ends the writer, and with it the server.
    fn fatal(&self) -> bool;
}

impl Severity for StoreError {
    fn fatal(&self) -> bool {
        matches!(self, Self::Engine(_) | Self::Disk(_))
    }
}
