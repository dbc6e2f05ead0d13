//! Single numbers and texts of the store, under a fixed list of names.

use std::sync::atomic::{AtomicU64, Ordering};

use sled::Tree;

use super::tally::TreeTally;
use super::{Result, StoreError};

/// The layout of trees and records; a newer store is refused, an older one is migrated.
pub const SCHEMA: u64 = 4;
/// The most ranges of skipped ids that are kept: one a restore.
const MAX_SKIPPED_RANGES: usize = 64;
/// The name of the tree.
const TREE: &str = "meta";

/// A name in the tree `meta`. Values are big-endian `u64` unless the name's description says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKey {
    /// The layout of trees and records.
    Schema,
    /// Text; changes when the data directory is wiped or restored.
    Epoch,
    /// The highest user id given.
    NextUser,
    /// The highest device id given.
    NextDevice,
    /// The highest token id given.
    NextToken,
    /// The number of probes of the disk.
    Proofs,
    /// No message id up to this one is given again, whatever else is left of the messages.
    MessageIdsReserved,
    /// Ranges of ids that were never given in this store, each two numbers: the id before it and its last one. A restore adds one.
    SkippedMessageIds,
    /// The service clock when it was saved, in seconds.
    ServiceSeconds,
    /// The wall clock at that moment, in seconds since 1970.
    ServiceWallSeconds,
    /// Text; the service clock with what it goes on from (`change/clock`), as JSON.
    Clock,
    /// Text; time that was found out late to have passed, as JSON.
    LateGaps,
    /// Text; the last import of accounts from another system, as JSON.
    Import,
    /// The number of wrong codes of pairings.
    WrongCodes,
}

impl MetaKey {
    /// Every name.
    pub const ALL: [Self; 14] = [
        Self::Schema,
        Self::Epoch,
        Self::NextUser,
        Self::NextDevice,
        Self::NextToken,
        Self::Proofs,
        Self::MessageIdsReserved,
        Self::SkippedMessageIds,
        Self::ServiceSeconds,
        Self::ServiceWallSeconds,
        Self::Clock,
        Self::LateGaps,
        Self::Import,
        Self::WrongCodes,
    ];

    /// Returns the name as it is stored.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Epoch => "epoch",
            Self::NextUser => "next_user",
            Self::NextDevice => "next_device",
            Self::NextToken => "next_token",
            Self::Proofs => "proofs",
            Self::MessageIdsReserved => "message_ids_reserved",
            Self::SkippedMessageIds => "skipped_message_ids",
            Self::ServiceSeconds => "service_seconds",
            Self::ServiceWallSeconds => "service_wall_seconds",
            Self::Clock => "clock",
            Self::LateGaps => "late_gaps",
            Self::Import => "import",
            Self::WrongCodes => "wrong_codes",
        }
    }

    /// Returns whether `value` is a value that this name can have.
    pub fn accepts(self, value: &[u8]) -> bool {
        match self {
            Self::Epoch => std::str::from_utf8(value).is_ok(),
            Self::Clock | Self::LateGaps | Self::Import => serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok(),
            Self::SkippedMessageIds => value.len().is_multiple_of(16),
            _ => value.len() == 8,
        }
    }
}

/// The tree `meta`.
pub struct Meta {
    tree: Tree,
    tally: Option<TreeTally>,
    version: AtomicU64,
}

impl Meta {
    /// Opens the tree, whose records are summed in `tally`.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn open(db: &sled::Db, tally: Option<TreeTally>) -> Result<Self> {
        Ok(Self { tree: db.open_tree(TREE)?, tally, version: AtomicU64::new(0) })
    }

    /// The tree itself, for maintenance that knows no names.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Returns the version, which grows with each write.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Sets the value of `key`; `None` removes it.
    fn write(&self, key: MetaKey, value: Option<&[u8]>) -> Result<()> {
        let (key, tally) = (key.name(), self.tally.as_ref());
        tally.map_or(Ok(()), TreeTally::begin)?;
        let old = match value {
            Some(value) => self.tree.insert(key, value)?,
            None => self.tree.remove(key)?,
        };
        if let Some(tally) = tally {
            tally.replaced(key.as_bytes(), old.as_deref(), value);
        }
        self.version.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Returns the number under `key`.
    ///
    /// # Errors
    /// If the engine fails or the number is damaged.
    pub fn get(&self, key: MetaKey) -> Result<Option<u64>> {
        let damaged = |_| StoreError::Damaged { tree: TREE };
        self.tree.get(key.name())?.map(|bytes| bytes.as_ref().try_into().map(u64::from_be_bytes).map_err(damaged)).transpose()
    }

    /// Returns the number under `key`, 0 where there is none.
    ///
    /// # Errors
    /// If the engine fails or the number is damaged.
    pub fn number(&self, key: MetaKey) -> Result<u64> {
        Ok(self.get(key)?.unwrap_or(0))
    }

    /// Sets the number under `key`.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn set(&self, key: MetaKey, value: u64) -> Result<()> {
        self.write(key, Some(&value.to_be_bytes()))
    }

    /// Raises the number under `key` by one and returns it. No number is returned twice, whatever happens to its bearer.
    ///
    /// # Errors
    /// If the engine fails or the number is damaged.
    pub fn next(&self, key: MetaKey) -> Result<u64> {
        let next = self.number(key)? + 1;
        self.set(key, next)?;
        Ok(next)
    }

    /// Returns the ranges of ids that were never given: each the id before it, and its last one.
    ///
    /// # Errors
    /// If the engine fails or they are damaged.
    pub fn skipped(&self) -> Result<Vec<(u64, u64)>> {
        let Some(bytes) = self.tree.get(MetaKey::SkippedMessageIds.name())? else { return Ok(Vec::new()) };
        let (pairs, []) = bytes.as_chunks::<16>() else { return Err(StoreError::Damaged { tree: TREE }) };
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_be_bytes);
        Ok(pairs.iter().map(|pair| (number(&pair[..8]), number(&pair[8..]))).collect())
    }

    /// Notes that the ids above `after` up to `upto` were never given. The oldest ranges beyond [`MAX_SKIPPED_RANGES`] are forgotten.
    ///
    /// # Errors
    /// If the engine fails or the ranges are damaged.
    pub fn skip(&self, after: u64, upto: u64) -> Result<()> {
        let mut ranges = self.skipped()?;
        ranges.push((after, upto));
        let from = ranges.len().saturating_sub(MAX_SKIPPED_RANGES);
        let bytes: Vec<u8> = ranges[from..].iter().flat_map(|(a, b)| [a.to_be_bytes(), b.to_be_bytes()]).flatten().collect();
        self.write(MetaKey::SkippedMessageIds, Some(&bytes))
    }

    /// Forgets the ranges of ids that were never given.
    #[cfg(test)]
    pub fn forget_skipped(&self) -> Result<()> {
        self.write(MetaKey::SkippedMessageIds, None)
    }

    /// Returns the text under `key`.
    ///
    /// # Errors
    /// If the engine fails or the text is not UTF-8.
    pub fn text(&self, key: MetaKey) -> Result<Option<String>> {
        let text = self.tree.get(key.name())?.map(|bytes| String::from_utf8(bytes.to_vec()));
        text.transpose().map_err(|_| StoreError::Damaged { tree: TREE })
    }

    /// Sets the text under `key`.
    ///
    /// # Errors
    /// If the engine fails.
    pub fn set_text(&self, key: MetaKey, text: &str) -> Result<()> {
        self.write(key, Some(text.as_bytes()))
    }
}
