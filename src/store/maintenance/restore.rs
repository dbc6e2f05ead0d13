//! Restore of a backup into an empty data directory.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use serde::Serialize;

use super::dump::{Amount, BackupError, DumpReader, Header, Record};
use super::legacy;
use crate::core::time::Timestamp;
use crate::data_dir::{self, TLS_DIRECTORY, TLS_FILES, write_private};
use crate::store::log::Log;
use crate::store::meta::MetaKey;
use crate::store::staging::{StagedStore, lock, remove, staged_path, swap};
use crate::store::{Result as StoreResult, SCHEMA, StoreError};

/// The least number of ids that a restore skips.
const MIN_SKIPPED_IDS: u64 = 1 << 28;
/// More ids than any store gives in a second.
const MAX_IDS_A_SECOND: u64 = 100_000;
/// The age of a backup that is counted: a hundred years, by which ids stay exact in JavaScript.
const MAX_AGE_SECONDS: u64 = 100 * 366 * 86_400;

/// The result of a restore.
#[derive(Debug, Serialize)]
pub struct RestoreReport {
    /// The header of the backup.
    #[serde(flatten)]
    pub header: Header,
    /// The amount restored.
    #[serde(flatten)]
    pub amount: Amount,
    /// The epoch of the restored store.
    pub new_epoch: String,
}

/// Restores a backup into the data directory `data`, as [`data_dir::prepare`] returned it, which must be empty: all of it or
/// nothing. The store gets a new epoch, so that clients that remember ids start over, and its ids go on beyond those of the backup
/// by more than can have been given since. Blocks.
///
/// # Errors
/// [`BackupError`].
pub fn restore(source: impl Read, data: &Path) -> Result<RestoreReport, BackupError> {
    let path = data.join(data_dir::STORE_DIRECTORY);
    let _lock = lock(&path)?;
    // Remains of an attempt that was cut off are no reason to refuse another.
    let again = staged_path(&path).exists();
    for entry in fs::read_dir(data)? {
        let name = entry?.file_name();
        let kept = name.as_encoded_bytes().starts_with(b".") || name == "lost+found";
        let left = again && (Some(&*name) == staged_path(&path).file_name() || name == TLS_DIRECTORY);
        if !kept && !left {
            return Err(BackupError::NotEmpty(data.into()));
        }
    }
    fill(source, &path).and_then(|report| Ok(swap(&path, None).map(|_| report)?)).inspect_err(|_| {
        let _ = remove(&data.join(TLS_DIRECTORY)); // the next attempt tries again
        let _ = remove(&staged_path(&path));
    })
}

/// Makes the store at `path`, where there is none, from a backup of another node of the same cluster: the same epoch, and ids go on where
/// those of the backup end. Blocks.
///
/// # Errors
/// [`BackupError`].
#[cfg(feature = "cluster")]
pub fn restore_copy(source: impl Read, path: &Path) -> Result<(), BackupError> {
    let _lock = lock(path)?;
    let filled = read_into(source, path).and_then(|(staged, dump, _)| {
        drop(dump);
        Ok(staged.complete()?)
    });
    filled.and_then(|()| Ok(swap(path, None)?)).inspect_err(|_| {
        let _ = remove(&staged_path(path)); // the next attempt begins anew
    })
}

/// Reads a backup into a staged store for `path`, and writes the files that belong beside it.
fn fill(source: impl Read, path: &Path) -> Result<RestoreReport, BackupError> {
    let (staged, dump, header) = read_into(source, path)?;
    // Unless the backup is of a damaged store, which is restored as it is: `check` finds the damage.
    let newest = if header.schema < SCHEMA { legacy::newest_given(staged.db()) } else { Log::new(&staged.trees).newest_given() };
    if let Ok(newest) = newest {
        let next = newest.0.saturating_add(given_since(header.created_at));
        staged.trees.meta.set(MetaKey::MessageIdsReserved, next)?;
        staged.trees.meta.skip(newest.0, next)?;
    }
    // What is restored is no node's copy any more.
    staged.trees.cluster.tree().clear().map_err(StoreError::from)?;
    let (new_epoch, amount) = (staged.trees.new_epoch()?, dump.amount());
    staged.complete()?; // last: from here on it is a store
    Ok(RestoreReport { header, amount, new_epoch })
}

/// Reads the records of a backup into a staged store for `path`, and writes the files that belong beside it.
fn read_into<R: Read>(source: R, path: &Path) -> Result<(StagedStore, DumpReader<R>, Header), BackupError> {
    let (mut dump, header) = DumpReader::begin(source, SCHEMA)?;
    let mut staged = StagedStore::create(path)?;
    let trees = header.trees.iter().map(|name| staged.tree(name)).collect::<StoreResult<Vec<_>>>()?;
    let of = |n: u8| trees.get(usize::from(n)).ok_or(BackupError::Damaged("a record is of no tree"));
    while let Some(record) = dump.next()? {
        match record {
            Record::Put { tree, key, value } => staged.put(of(tree)?, &key, &value)?,
            Record::Remove { tree, key } => drop(of(tree)?.remove(key)?),
            // Other names could lead anywhere.
            Record::File { name, content } if TLS_FILES.contains(&name.as_str()) => {
                write_beside(path.parent().unwrap_or(Path::new(".")), &name, &content)?;
            }
            Record::File { .. } => return Err(BackupError::Damaged("it holds a file that is unknown")),
        }
    }
    if staged.trees.schema()? != Some(header.schema) {
        return Err(BackupError::Damaged("its records are not of the layout that its header names"));
    }
    drop(trees); // else the store stays open
    Ok((staged, dump, header))
}

/// Returns more ids than a store can have given since `backup`, so that none of them is given again.
fn given_since(backup: Timestamp) -> u64 {
    let seconds = Timestamp::now().unix_seconds().saturating_sub(backup.unix_seconds());
    // At least so many, where the clock is wrong.
    MIN_SKIPPED_IDS.max(MAX_IDS_A_SECOND * u64::try_from(seconds).unwrap_or(0).min(MAX_AGE_SECONDS))
}

/// Writes a file that belongs beside the store in the data directory `data`.
pub(super) fn write_beside(data: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data.join(TLS_DIRECTORY))?;
    write_private(&data.join(name), content)
}
