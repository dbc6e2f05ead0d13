//! Backup of a store while it is used.
//!
//! A backup is a scan of every tree, in whatever state each key is when it is read, followed by every change made meanwhile
//! ([`capture`](super::capture)). Read in order that is exactly the store as it was when the scan ended: every change sets or
//! removes a key, whatever its value was. Other writes wait for a backup only at the moments at which it begins and ends.

use std::io::{self, Read, Write};
use std::path::Path;

use tokio::sync::OwnedMutexGuard;

use super::capture::{Capture, Changes};
use super::dump::{Amount, BackupError, DumpReader, DumpWriter, Header, Record};
use super::export::{scan, write_files};
use crate::store::Store;
use crate::store::meta::SCHEMA;

/// The permit to make a backup. There is one: each backup holds threads, and space on the disk.
pub struct BackupPermit(#[expect(dead_code, reason = "the permit goes with it")] OwnedMutexGuard<()>);

impl Store {
    /// Returns the permit for a backup; `None` while one is being made.
    pub fn backup_permit(&self) -> Option<BackupPermit> {
        self.backups.clone().try_lock_owned().ok().map(BackupPermit)
    }

    /// Writes the store to `sink`, with the files beside it in the data directory. Reads and writes go on meanwhile. Once begun
    /// the future must be polled to its end, which comes soon when `sink` fails: run it as a task of its own. Fails where less
    /// than `floor` bytes would stay free on the disk, where the changes made meanwhile are kept.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn backup<W: Write + Send + 'static>(
        &self,
        permit: BackupPermit,
        sink: W,
        floor: u64,
    ) -> Result<(W, Amount), BackupError> {
        self.backup_with(permit, sink, floor, true).await
    }

    /// Writes the store to `sink` as [`backup`](Self::backup) does, without the files beside it.
    ///
    /// # Errors
    /// [`BackupError`].
    #[cfg(feature = "cluster")]
    pub async fn snapshot<W: Write + Send + 'static>(&self, permit: BackupPermit, sink: W, floor: u64) -> Result<W, BackupError> {
        self.backup_with(permit, sink, floor, false).await.map(|(sink, _)| sink)
    }

    async fn backup_with<W: Write + Send + 'static>(
        &self,
        permit: BackupPermit,
        sink: W,
        floor: u64,
        with_files: bool,
    ) -> Result<(W, Amount), BackupError> {
        let _permit = permit; // until the end
        let data = self.path.parent().unwrap_or(Path::new(".")).to_owned();
        let place = data.clone();
        let capture = self.writer.run_settled(move |trees| Capture::begin(trees, &place, floor)).await?;
        let watch = capture.watch();
        let (trees, header) = (self.trees.clone(), Header::new(SCHEMA, &self.epoch));
        let scanned = tokio::task::spawn_blocking(move || {
            let mut dump = DumpWriter::begin(sink, &header)?;
            if with_files {
                write_files(&data, &mut dump)?;
            }
            scan(trees.all(), &mut dump, || watch.failed())?;
            Ok::<_, BackupError>(dump)
        });
        let scanned = scanned.await;
        // Also after a failed scan: the capture ends on the thread that it began on.
        let changes = self.writer.run_settled(move |trees| capture.end(trees)).await;
        let (changes, dump) = (changes?, scanned.map_err(io::Error::other)??);
        let finish = move || append(dump, changes);
        tokio::task::spawn_blocking(finish).await.map_err(io::Error::other)?
    }
}

/// Writes the changes, and the end.
fn append<W: Write>(mut dump: DumpWriter<W>, changes: Changes) -> Result<(W, Amount), BackupError> {
    for change in changes {
        match change? {
            Record::Put { tree, key, value } => dump.put(tree, &key, &value)?,
            Record::Remove { tree, key } => dump.remove(tree, &key)?,
            Record::File { .. } => {} // none is ever captured
        }
    }
    Ok(dump.finish()?)
}

/// Reads a backup from end to end; returns its header and amount. Blocks.
///
/// # Errors
/// [`BackupError`] when it is damaged, or no backup.
pub fn verify(source: impl Read) -> Result<(Header, Amount), BackupError> {
    let (mut dump, header) = DumpReader::begin(source, SCHEMA)?;
    while dump.next()?.is_some() {}
    Ok((header, dump.amount()))
}

/// Returns whether `source` begins as a backup does, damaged ones and those of newer versions included.
pub fn is_backup(source: impl Read) -> bool {
    !matches!(DumpReader::begin(source, SCHEMA), Err(BackupError::NotABackup))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use sled::IVec;

    use super::*;
    use crate::core::ids::{MessageId, Recipient, UserId};
    use crate::core::time::Timestamp;
    use crate::data_dir;
    use crate::store::accounts::write::create_user;
    use crate::store::maintenance::restore::{restore, write_beside};
    use crate::store::trees::Trees;
    use crate::store::{Answer, Earlier, MetaKey, NewUser, Role, StoreError};

    use crate::store::table::Key;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    type All = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

    const TWIN: [u8; 32] = [2; 32];

    fn insert(trees: &Trees, n: u64) -> Result<(), StoreError> {
        trees.pieces.insert(&(MessageId(n), 0), &IVec::from(&b"x"[..]))
    }

    fn all(trees: &Trees) -> All {
        let mut found = All::new();
        for (n, tree) in trees.all().into_iter().enumerate() {
            for entry in tree {
                let (key, value) = entry.unwrap();
                found.insert((n, key.to_vec()), value.to_vec());
            }
        }
        found
    }

    /// A sink slow enough for other writes in between.
    struct Slow(Vec<u8>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            std::thread::sleep(std::time::Duration::from_millis(1));
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    async fn filled() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("data/store")).unwrap_or_else(|_| {
            fs::create_dir(dir.path().join("data")).unwrap();
            Store::open(&dir.path().join("data/store")).unwrap()
        });
        for n in 0..50 {
            let new = NewUser { username: format!("user{n}"), role: Role::User, password_hash: "x".into() };
            let create = |trees: &Trees| create_user(trees, new, Timestamp::now(), MessageId(0));
            store.writer.run(create).await.unwrap();
        }
        (dir, store)
    }

    #[test]
    fn one_backup_is_permitted_at_a_time() {
        let (_dir, store) = crate::store::tests::fresh();
        let permit = store.backup_permit();
        assert!(permit.is_some() && store.backup_permit().is_none());
        drop(permit);
        assert!(store.backup_permit().is_some());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn backup_under_load_is_one_moment() {
        let (dir, store) = filled().await;
        for n in 0..3000u64 {
            store.trees.places.tree().insert(Recipient::User(UserId(n)).to_key(), &[7; 200][..]).unwrap();
        }
        // Every change keeps the sum of two numbers in two trees, and touches keys that come early and late in the scan.
        let over = Arc::new(AtomicBool::new(false));
        let (busy, told) = (store.clone(), over.clone());
        let load = tokio::spawn(async move {
            let mut n = 0u64;
            while !told.load(Ordering::Relaxed) {
                n += 1;
                let change = move |trees: &Trees| {
                    trees.meta.set(MetaKey::Proofs, n)?;
                    trees.idempotency.insert(
                        &TWIN,
                        &Earlier { id: MessageId(n), until: 0, digest: 0, answer: Answer { timestamp: None, recipients: 0 } },
                    )?;
                    trees.places.remove(&Recipient::User(UserId(n)))?;
                    trees.pieces.insert(&(MessageId(n), 0), &IVec::from(&b"x"[..]))
                };
                busy.writer.run(change).await.unwrap();
            }
            n
        });
        let (sink, amount) = store.backup(store.backup_permit().unwrap(), Slow(Vec::new()), 0).await.unwrap();
        let at_the_end = tokio::task::spawn_blocking({
            let store = store.clone();
            move || store.trees.meta.number(MetaKey::Proofs)
        });
        let after = at_the_end.await.unwrap().unwrap();
        over.store(true, Ordering::Relaxed);
        let changes = load.await.unwrap();
        assert!(changes > 0 && amount.records > 3000);

        let target = dir.path().join("target");
        let report = restore(&sink.0[..], &data_dir::prepare(&target).unwrap()).unwrap();
        assert_eq!((report.header.epoch.as_str(), report.amount), (store.epoch(), amount));
        let restored = Store::open(&target.join("store")).unwrap();
        assert_eq!(restored.epoch(), report.new_epoch);
        assert_ne!(restored.epoch(), store.epoch());
        let found = all(&restored.trees);
        let number = restored.trees.meta.number(MetaKey::Proofs).unwrap();
        assert!(number <= after);
        let twin = restored.trees.idempotency.get(&TWIN).unwrap().map_or(0, |earlier| earlier.id.0);
        assert_eq!(number, twin);
        assert_eq!(restored.trees.pieces.keys().count() as u64, number);
        assert_eq!(restored.trees.places.tree().len() as u64, 3000 - number.min(2999));
        assert_eq!(found.iter().filter(|((n, _), _)| *n == 1).count(), 50);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn files_beside_the_store_are_restored_and_a_failed_restore_leaves_nothing() {
        let (dir, store) = filled().await;
        write_beside(&dir.path().join("data"), "tls/cert.pem", b"certificate").unwrap();
        let (bytes, _) = store.backup(store.backup_permit().unwrap(), Vec::new(), 0).await.unwrap();
        let target = data_dir::prepare(&dir.path().join("target")).unwrap();
        let mut cut = bytes.clone();
        cut.truncate(bytes.len() / 2);
        assert!(matches!(restore(&cut[..], &target), Err(BackupError::Damaged(_))));
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "a failed restore leaves nothing");
        restore(&bytes[..], &target).unwrap();
        assert_eq!(fs::read(target.join("tls/cert.pem")).unwrap(), b"certificate");
        assert!(matches!(restore(&bytes[..], &target), Err(BackupError::NotEmpty(_))));
        let restored = Store::open(&target.join("store")).unwrap();
        let mut expected = all(&store.trees);
        let mut found = all(&restored.trees);
        for both in [&mut expected, &mut found] {
            both.remove(&(0, b"epoch".to_vec()));
            both.remove(&(0, MetaKey::MessageIdsReserved.name().into()));
            both.remove(&(0, MetaKey::SkippedMessageIds.name().into()));
        }
        assert_eq!(found, expected);
        assert_eq!(restored.log().newest_message().unwrap(), MessageId(0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn failed_sink_leaves_the_store_writable() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (_dir, store) = filled().await;
        assert!(matches!(store.backup(store.backup_permit().unwrap(), Broken, 0).await, Err(BackupError::Io(_))));
        for n in 0..3000u64 {
            // More than the channels would hold, were they still there.
            store.writer.run(move |trees| insert(trees, n)).await.unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn writes_without_effect_neither_stop_the_capture_nor_block_writers() {
        let (dir, store) = filled().await;
        let place = dir.path().join("data");
        // As a backup begins and ends, without the scan: what is captured is what there is to see.
        let capture = store.writer.run(move |trees| Capture::begin(trees, &place, 0)).await.unwrap();
        store.writer.run(|trees| trees.pieces.remove(&(MessageId(9), 0))).await.unwrap();
        for _ in 0..2 {
            store.writer.run(|trees| trees.pieces.insert(&(MessageId(7), 0), &IVec::from(&b"y"[..]))).await.unwrap();
        }
        let many = store.writer.run(|trees| (0..3000u64).try_for_each(|n| insert(trees, 10 + n)));
        tokio::time::timeout(std::time::Duration::from_secs(20), many).await.expect("writers are not blocked").unwrap();
        let changes = store.writer.run(move |trees| capture.end(trees)).await.unwrap();
        let keys: Vec<Vec<u8>> = changes
            .map(|change| match change.unwrap() {
                Record::Put { key, .. } => key,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((keys.len(), keys[0].as_slice()), (3001, (MessageId(7), 0u16).encode().as_slice()));
        let (bytes, _) = store.backup(store.backup_permit().unwrap(), Vec::new(), u64::MAX).await.unwrap();
        verify(&bytes[..]).unwrap();
    }
}
