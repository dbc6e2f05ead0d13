//! Bringing an older layout up to date, after a backup of it.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::catalogue::{Trees, decode};
use super::dump::Header;
use super::{BackupError, Result, SCHEMA, StoreError, Token, backup};
use crate::core::time::Timestamp;

/// Where backups that are made without being asked for lie, in the data directory.
const DIRECTORY: &str = "backups";

/// Leads from one layout to the next. Can be run twice: a crash may come before it is noted that it was run.
type Step = fn(&Trees) -> Result<()>;

/// The step at place n leads from layout n + 1.
const STEPS: [Step; SCHEMA as usize - 1] = [list_tokens_by_id];

/// Layout 2 finds a token by its id.
fn list_tokens_by_id(trees: &Trees) -> Result<()> {
    for entry in &trees.tokens {
        let (hash, record) = entry?;
        let token: Token = decode(&record, "tokens")?;
        trees.token_ids.insert(token.id.to_key(), hash)?;
    }
    Ok(())
}

/// Brings `trees` of the store at `path` from layout `found` up to date. Nobody else writes meanwhile.
pub(super) fn run(trees: &Trees, found: u64, path: &Path) -> Result<()> {
    let kept = keep(trees, found, path)?;
    tracing::info!(from = found, to = SCHEMA, backup = %kept.display(), "bringing the data up to date");
    for (from, step) in (1..).zip(STEPS).skip_while(|&(from, _)| from < found) {
        step(trees)?;
        trees.set_schema(from + 1)?;
    }
    Ok(())
}

/// Makes the backup; nothing is left of one that fails.
fn keep(trees: &Trees, found: u64, path: &Path) -> Result<PathBuf> {
    let directory = path.parent().unwrap_or(Path::new(".")).join(DIRECTORY);
    DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    let file = directory.join(format!("layout-{found}-{}.backup", Timestamp::now().unix_micros()));
    let epoch = trees.epoch()?.unwrap_or_default();
    let draft = NamedTempFile::new_in(&directory)?; // mode 0600
    let draft = backup::write_all(trees, &Header::new(found, &epoch), draft).map_err(|error| match error {
        BackupError::Store(error) => error,
        BackupError::Io(error) => StoreError::Disk(error),
        other => StoreError::Unreadable(other.to_string()),
    })?;
    draft.as_file().sync_all()?;
    draft.persist(&file).map_err(|error| error.error)?;
    File::open(&directory)?.sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{TokenId, UserId};
    use crate::store::{Authority, NewToken, NewUser, Role, Store, TokenHash};

    #[tokio::test]
    async fn an_older_layout_is_backed_up_and_brought_up_to_date() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        {
            let store = Store::open(&path).unwrap();
            let new = NewUser { username: "ana".into(), role: Role::User, password_hash: "x".into() };
            let ana = store.create_user(new, Authority::System).await.unwrap().id;
            store.create_token(NewToken::login(ana, TokenHash::of("t")), 9).await.unwrap();
            store.trees.token_ids.clear().unwrap();
            store.trees.set_schema(1).unwrap();
            store.close().unwrap();
        }
        {
            let store = Store::open(&path).unwrap();
            assert_eq!(store.trees.schema().unwrap(), Some(SCHEMA));
            assert_eq!(store.token_by_id(TokenId(1)).unwrap().map(|token| token.user_id), Some(UserId(1)));
        }
        let kept: Vec<_> = std::fs::read_dir(dir.path().join(DIRECTORY)).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(kept.len(), 1);
        let before = crate::data_dir::prepare(&dir.path().join("before")).unwrap();
        let restored = backup::restore(File::open(&kept[0]).unwrap(), &before).unwrap();
        assert_eq!(restored.header.schema, 1);
        drop(Store::open(&path).unwrap()); // up to date: no further backup
        assert_eq!(std::fs::read_dir(dir.path().join(DIRECTORY)).unwrap().count(), 1);
        assert!(Store::open(&before.join("store")).unwrap().token_by_id(TokenId(1)).unwrap().is_some());
    }
}
