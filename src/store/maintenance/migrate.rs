//! Migration of an older layout, after an automatic backup of it.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sled::Db;
use tempfile::Builder;

use super::dump::{BackupError, Header};
use super::export::write_all;
use super::legacy::convert;
use crate::core::time::Timestamp;
use crate::data_dir::free_bytes;
use crate::store::meta::{MetaKey, SCHEMA};
use crate::store::staging::{StagedStore, disk_bytes, remove, staged_path, swap};
use crate::store::trees::Trees;
use crate::store::{Result, StoreError};

/// The directory of automatic backups, in the data directory.
const BACKUP_DIRECTORY: &str = "backups";
/// The beginning of the name of a backup that is being written.
const UNFINISHED_PREFIX: &str = ".unfinished-";

/// Returns whether `db` is a store of an older layout.
///
/// # Errors
/// If the store fails.
pub fn must_migrate(db: &Db) -> Result<bool> {
    Ok(layout(db)?.is_some_and(|found| (1..SCHEMA).contains(&found)))
}

fn layout(db: &Db) -> Result<Option<u64>> {
    let bytes = db.open_tree("meta")?.get(MetaKey::Schema.name())?;
    Ok(bytes.and_then(|bytes| bytes.as_ref().try_into().ok()).map(u64::from_be_bytes))
}

/// Rewrites the store at `path` in today's layout, after writing a backup; `db` is the open store, and the caller holds its lock. A
/// crash leaves the one or the other. Blocks.
///
/// # Errors
/// [`StoreError::NeedsRoom`]; else if the backup can't be written or the store fails, which is as it was then.
pub fn migrate(db: Db, path: &Path) -> Result<()> {
    let Some(found) = layout(&db)? else { return Ok(()) };
    // The backup, and the new store beside the old one.
    let (needed, free) = (disk_bytes(path)?.saturating_mul(2), free_bytes(path)?);
    if free < needed {
        return Err(StoreError::NeedsRoom { needed, free });
    }
    let kept = back_up(&db, found, path)?;
    tracing::info!(from = found, to = SCHEMA, backup = %kept.display(), "migrating the data to a newer layout");
    let written = StagedStore::create(path).and_then(|mut staged| {
        convert(&db, &mut staged)?;
        staged.complete()
    });
    written.inspect_err(|_| drop(remove(&staged_path(path))))?; // it would hold space that is short
    drop(db);
    swap(path, None)
}

/// Writes the backup; a failed one leaves nothing.
fn back_up(db: &Db, found: u64, path: &Path) -> Result<PathBuf> {
    let data = path.parent().unwrap_or(Path::new("."));
    let directory = data.join(BACKUP_DIRECTORY);
    DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    let file = directory.join(format!("layout-{found}-{}.backup", Timestamp::now().unix_micros()));
    let epoch = db.open_tree("meta")?.get(MetaKey::Epoch.name())?.unwrap_or_default();
    let names: Vec<&str> = Trees::all_names().filter(|name| db.tree_names().iter().any(|n| n == name.as_bytes())).collect();
    let trees = names.iter().map(|name| db.open_tree(name)).collect::<sled::Result<Vec<_>>>()?;
    let header = Header::of_trees(found, &String::from_utf8_lossy(&epoch), &names);
    remove_unfinished(&directory)?;
    let unfinished = Builder::new().prefix(UNFINISHED_PREFIX).tempfile_in(&directory)?; // mode 0600
    let written = write_all(data, &trees, &header, unfinished).map_err(|error| match error {
        BackupError::Store(error) => error,
        BackupError::Io(error) => StoreError::Disk(error),
        other => StoreError::Unreadable(other.to_string()),
    })?;
    written.as_file().sync_all()?;
    written.persist(&file).map_err(|error| error.error)?;
    File::open(&directory)?.sync_all()?;
    Ok(file)
}

/// Removes what a crash has left of a backup.
fn remove_unfinished(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED_PREFIX) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{MessageId, TokenId, UserId};
    use crate::core::lifetime::Present;
    use crate::store::accounts::write::{create_token, create_user};
    use crate::store::maintenance::restore::restore;
    use crate::store::{NewToken, NewUser, Role, Store, TokenHash};

    #[test]
    fn older_layout_is_backed_up_and_migrated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        {
            let store = Store::open(&path).unwrap();
            let new = NewUser { username: "ana".into(), role: Role::User, password_hash: "x".into() };
            let ana = create_user(store.trees(), new, Timestamp::now(), MessageId(0)).unwrap().id;
            create_token(store.trees(), NewToken::login(ana, TokenHash::of("t")), 9, &Present::at(Timestamp::now())).unwrap();
            store.trees().token_ids.tree().clear().unwrap();
            store.trees().set_schema(1).unwrap();
            store.close().unwrap();
        }
        {
            let store = Store::open(&path).unwrap();
            assert_eq!(store.trees().schema().unwrap(), Some(SCHEMA));
            assert_eq!(store.token_by_id(TokenId(1)).unwrap().map(|token| token.user_id), Some(UserId(1)));
        }
        let kept: Vec<_> = std::fs::read_dir(dir.path().join(BACKUP_DIRECTORY)).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(kept.len(), 1);
        let before = crate::data_dir::prepare(&dir.path().join("before")).unwrap();
        let restored = restore(File::open(&kept[0]).unwrap(), &before).unwrap();
        assert_eq!(restored.header.schema, 1);
        drop(Store::open(&path).unwrap()); // up to date: no further backup
        assert_eq!(std::fs::read_dir(dir.path().join(BACKUP_DIRECTORY)).unwrap().count(), 1);
        assert!(Store::open(&before.join("store")).unwrap().token_by_id(TokenId(1)).unwrap().is_some());
    }
}
