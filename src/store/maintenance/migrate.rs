//! Migration of an older layout, after an automatic backup of it.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::dump::{BackupError, Header};
use super::export::write_all;
use crate::core::time::Timestamp;
use crate::store::meta::SCHEMA;
use crate::store::trees::Trees;
use crate::store::{Result, StoreError};

/// The directory of automatic backups, in the data directory.
const BACKUP_DIRECTORY: &str = "backups";

/// A step from one layout to the next. Runs again after a crash that came before the new layout was recorded, so it must give the
/// same result twice.
type Step = fn(&Trees) -> Result<()>;

/// The step at index n migrates from layout n + 1.
const STEPS: [Step; SCHEMA as usize - 1] = [list_tokens_by_id, keep_old_receipts];

/// Layout 2 finds a token by its id.
fn list_tokens_by_id(trees: &Trees) -> Result<()> {
    for entry in trees.tokens.iter() {
        let (hash, token) = entry?;
        trees.token_ids.insert(&token.id, &hash)?;
    }
    Ok(())
}

/// Layout 3 adds the service clock's time to the moments of receipt. Those of layout 2 stay as they are: they are read as moments
/// of unknown service time.
fn keep_old_receipts(_: &Trees) -> Result<()> {
    Ok(())
}

/// Migrates `trees` of the store at `path` from layout `found` to [`SCHEMA`], after writing a backup. No one else may write
/// meanwhile. Blocks.
///
/// # Errors
/// If the backup can't be written or the store fails.
pub fn migrate(trees: &Trees, found: u64, path: &Path) -> Result<()> {
    let kept = back_up(trees, found, path)?;
    tracing::info!(from = found, to = SCHEMA, backup = %kept.display(), "migrating the data to a newer layout");
    for (from, step) in (1..).zip(STEPS).skip_while(|&(from, _)| from < found) {
        step(trees)?;
        trees.set_schema(from + 1)?;
    }
    Ok(())
}

/// Writes the backup; a failed one leaves nothing.
fn back_up(trees: &Trees, found: u64, path: &Path) -> Result<PathBuf> {
    let directory = path.parent().unwrap_or(Path::new(".")).join(BACKUP_DIRECTORY);
    DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    let file = directory.join(format!("layout-{found}-{}.backup", Timestamp::now().unix_micros()));
    let epoch = trees.epoch()?.unwrap_or_default();
    let unfinished = NamedTempFile::new_in(&directory)?; // mode 0600
    let written = write_all(trees, &Header::new(found, &epoch), unfinished).map_err(|error| match error {
        BackupError::Store(error) => error,
        BackupError::Io(error) => StoreError::Disk(error),
        other => StoreError::Unreadable(other.to_string()),
    })?;
    written.as_file().sync_all()?;
    written.persist(&file).map_err(|error| error.error)?;
    File::open(&directory)?.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{MessageId, TokenId, UserId};
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
            create_token(store.trees(), NewToken::login(ana, TokenHash::of("t")), 9, Timestamp::now()).unwrap();
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
