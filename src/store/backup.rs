//! Backup while serving, and the way back.
//!
//! A backup is a scan of every tree, in whatever state each key is when it is read, followed by everything that changed
//! meanwhile ([`capture`](super::capture)). Read in order that is exactly the store as it was when the scan ended: every change
//! sets or removes a key, whatever it was before. Nobody waits for a backup but for the moments at which it begins and ends.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use serde::Serialize;

use super::capture::{Capture, Changes};
use super::catalogue::Trees;
use super::draft::{Draft, draft_path, remove, swap, turn};
use super::dump::{Amount, BackupError, DumpReader, DumpWriter, Header, Record};
use super::writer::Severity;
use super::{SCHEMA, Store};
use crate::data_dir::{self, TLS_DIRECTORY, TLS_FILES, write_private};

impl Severity for BackupError {
    fn fatal(&self) -> bool {
        matches!(self, Self::Store(error) if error.fatal())
    }
}

/// What was restored.
#[derive(Debug, Serialize)]
pub struct RestoreReport {
    /// Of the backup.
    #[serde(flatten)]
    pub header: Header,
    /// How much there was.
    #[serde(flatten)]
    pub amount: Amount,
    /// Of the store that has come of it.
    pub new_epoch: String,
}

impl Store {
    /// Writes the store to `sink`, with what lies beside it in the data directory. Others go on reading and writing. Once begun
    /// it must be driven to its end, which comes soon when `sink` fails: run it as a task of its own. Gives up where less than
    /// `floor` bytes would stay free on the disk: what changes meanwhile is kept there.
    ///
    /// # Errors
    /// [`BackupError`].
    pub async fn backup<W: Write + Send + 'static>(&self, sink: W, floor: u64) -> Result<(W, Amount), BackupError> {
        // One at a time: each holds threads, and room on the disk.
        let _turn = self.backups.try_lock().map_err(|_| BackupError::Busy)?;
        let data = self.path.parent().unwrap_or(Path::new(".")).to_owned();
        let place = data.clone();
        let capture = self.writer.run_then(move |trees| Capture::begin(trees, &place, floor), |_| ()).await?;
        let watch = capture.watch();
        let (trees, header) = (self.trees.clone(), Header::new(SCHEMA, &self.epoch));
        let scanned = tokio::task::spawn_blocking(move || {
            let mut dump = DumpWriter::begin(sink, &header)?;
            for name in TLS_FILES {
                match fs::read(data.join(name)) {
                    Ok(content) => dump.file(name, &content)?,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(BackupError::Io(error)),
                }
            }
            scan(&trees, &mut dump, || watch.failed())?;
            Ok(dump)
        });
        let scanned = scanned.await;
        // Whatever became of the scan: the capture ends where it began.
        let changes = self.writer.run_then(move |trees| capture.end(trees), |_| ()).await;
        let (changes, dump) = (changes?, scanned.map_err(io::Error::other)??);
        let finish = move || append(dump, changes);
        tokio::task::spawn_blocking(finish).await.map_err(io::Error::other)?
    }
}

/// Writes every record of every tree, unless it is `over` before.
fn scan<W: Write>(trees: &Trees, dump: &mut DumpWriter<W>, over: impl Fn() -> bool) -> Result<(), BackupError> {
    for (n, tree) in (0u8..).zip(trees.all()) {
        for entry in tree {
            let (key, value) = entry?;
            if over() {
                return Err(BackupError::TooMuchChanged);
            }
            dump.put(n, &key, &value)?;
        }
    }
    Ok(())
}

/// Writes what has changed, and the end.
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

/// Writes a store that nobody else uses.
pub(super) fn write_all<W: Write>(trees: &Trees, header: &Header, sink: W) -> Result<W, BackupError> {
    let mut dump = DumpWriter::begin(sink, header)?;
    scan(trees, &mut dump, || false)?;
    Ok(dump.finish()?.0)
}

/// Reads a backup from end to end, and tells what is in it. Blocks.
///
/// # Errors
/// [`BackupError`] when it is damaged, or none.
pub fn verify(source: impl Read) -> Result<(Header, Amount), BackupError> {
    let (mut dump, header) = DumpReader::begin(source, SCHEMA)?;
    while dump.next()?.is_some() {}
    Ok((header, dump.amount()))
}

/// Makes a store from a backup, in the data directory `data`, as [`data_dir::prepare`] returned it, which must be empty: all of
/// it or nothing. The store gets a new epoch, so that clients who remember ids start over. Blocks.
///
/// # Errors
/// [`BackupError`].
pub fn restore(source: impl Read, data: &Path) -> Result<RestoreReport, BackupError> {
    let path = data.join(data_dir::STORE_DIRECTORY);
    let _turn = turn(&path)?;
    // What is left of an attempt that was cut off is no reason to refuse another.
    let again = draft_path(&path).exists();
    for entry in fs::read_dir(data)? {
        let name = entry?.file_name();
        let kept = name.as_encoded_bytes().starts_with(b".") || name == "lost+found";
        let left = again && (Some(&*name) == draft_path(&path).file_name() || name == TLS_DIRECTORY);
        if !kept && !left {
            return Err(BackupError::NotEmpty(data.into()));
        }
    }
    fill(source, &path).and_then(|report| Ok(swap(&path, None).map(|_| report)?)).inspect_err(|_| {
        let _ = remove(&data.join(TLS_DIRECTORY)); // the next attempt tries again
        let _ = remove(&draft_path(&path));
    })
}

/// Reads a backup into a draft of the store at `path`, and writes what belongs beside it.
fn fill(source: impl Read, path: &Path) -> Result<RestoreReport, BackupError> {
    let (mut dump, header) = DumpReader::begin(source, SCHEMA)?;
    let mut draft = Draft::begin(path)?;
    let trees = header.trees.iter().map(|name| draft.tree(name)).collect::<Result<Vec<_>, _>>()?;
    let of = |n: u8| trees.get(usize::from(n)).ok_or(BackupError::Damaged("a record is of no tree"));
    while let Some(record) = dump.next()? {
        match record {
            Record::Put { tree, key, value } => draft.put(of(tree)?, &key, &value)?,
            Record::Remove { tree, key } => drop(of(tree)?.remove(key)?),
            // Names that are not ours could lead anywhere.
            Record::File { name, content } if TLS_FILES.contains(&name.as_str()) => {
                write_beside(path.parent().unwrap_or(Path::new(".")), &name, &content)?;
            }
            Record::File { .. } => return Err(BackupError::Damaged("it holds a file that is unknown")),
        }
    }
    if draft.trees.schema()? != Some(header.schema) {
        return Err(BackupError::Damaged("its layout is not what it says"));
    }
    let (new_epoch, amount) = (draft.trees.new_epoch()?, dump.amount());
    drop(trees); // else the draft stays open
    draft.complete()?; // last: from here on it is a store
    Ok(RestoreReport { header, amount, new_epoch })
}

/// Writes what lies beside the store in the data directory `data`.
fn write_beside(data: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data.join(TLS_DIRECTORY))?;
    write_private(&data.join(name), content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{MessageId, Recipient, UserId};
    use crate::store::{Authority, NewUser, Role};
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    type All = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

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

    /// A sink that lets others in between.
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
            store.create_user(new, Authority::System).await.unwrap();
        }
        (dir, store)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_backup_under_load_is_one_moment() {
        let (dir, store) = filled().await;
        for n in 0..3000u64 {
            store.trees.purged.insert(Recipient::User(UserId(n)).to_key(), &[7; 200][..]).unwrap();
        }
        // Every change keeps the sum of two numbers in two trees, and touches keys that come early and late in the scan.
        let over = Arc::new(AtomicBool::new(false));
        let (busy, told) = (store.clone(), over.clone());
        let load = tokio::spawn(async move {
            let mut n = 0u64;
            while !told.load(Ordering::Relaxed) {
                n += 1;
                let change = move |trees: &Trees| {
                    trees.meta.insert("a_number", &n.to_be_bytes())?;
                    trees.idempotency.insert("its twin", &n.to_be_bytes())?;
                    trees.purged.remove(Recipient::User(UserId(n)).to_key())?;
                    trees.receipts.insert(n.to_be_bytes(), &[1])?;
                    Ok(())
                };
                busy.write(change).await.unwrap();
            }
            n
        });
        let (sink, amount) = store.backup(Slow(Vec::new()), 0).await.unwrap();
        let at_the_end = tokio::task::spawn_blocking({
            let store = store.clone();
            move || store.log().number("a_number")
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
        let number = restored.log().number("a_number").unwrap();
        assert!(number <= after);
        let twin =
            restored.trees.idempotency.get("its twin").unwrap().map_or(0, |v| u64::from_be_bytes(v[..].try_into().unwrap()));
        assert_eq!(number, twin);
        assert_eq!(restored.trees.receipts.len() as u64, number);
        assert_eq!(restored.trees.purged.len() as u64, 3000 - number.min(2999));
        assert_eq!(found.iter().filter(|((n, _), _)| *n == 1).count(), 50);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_lies_beside_the_store_comes_along_and_nothing_is_half_restored() {
        let (dir, store) = filled().await;
        write_beside(&dir.path().join("data"), "tls/cert.pem", b"certificate").unwrap();
        let (bytes, _) = store.backup(Vec::new(), 0).await.unwrap();
        let target = data_dir::prepare(&dir.path().join("target")).unwrap();
        let mut cut = bytes.clone();
        cut.truncate(bytes.len() / 2);
        assert!(matches!(restore(&cut[..], &target), Err(BackupError::Damaged(_))));
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0, "nothing is left of what failed");
        restore(&bytes[..], &target).unwrap();
        assert_eq!(fs::read(target.join("tls/cert.pem")).unwrap(), b"certificate");
        assert!(matches!(restore(&bytes[..], &target), Err(BackupError::NotEmpty(_))));
        let restored = Store::open(&target.join("store")).unwrap();
        let mut expected = all(&store.trees);
        let mut found = all(&restored.trees);
        for both in [&mut expected, &mut found] {
            both.remove(&(0, b"epoch".to_vec()));
        }
        assert_eq!(found, expected);
        assert_eq!(restored.log().newest().unwrap(), MessageId(0));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_sink_that_fails_leaves_a_store_that_goes_on() {
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
        assert!(matches!(store.backup(Broken, 0).await, Err(BackupError::Io(_))));
        for n in 0..3000u64 {
            // More than the channels would hold, were they still there.
            store
                .write(move |trees| {
                    let _: () = drop(trees.receipts.insert(n.to_be_bytes(), &[1])?);
                    Ok(())
                })
                .await
                .unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn changes_that_change_nothing_hide_nothing_and_hold_nobody_up() {
        let (dir, store) = filled().await;
        let place = dir.path().join("data");
        // As a backup begins and ends, without the scan: what is captured is what there is to see.
        let capture = store.writer.run_then(move |trees| Capture::begin(trees, &place, 0), |_| ()).await.unwrap();
        store.write(|trees| Ok(trees.receipts.remove("not there").map(drop)?)).await.unwrap();
        store.write(|trees| Ok(trees.receipts.insert("kept", "x").map(drop)?)).await.unwrap();
        store.write(|trees| Ok(trees.receipts.insert("kept", "x").map(drop)?)).await.unwrap();
        let many = store.write(|trees| Ok((0..3000u64).try_for_each(|n| trees.receipts.insert(n.to_be_bytes(), "x").map(drop))?));
        tokio::time::timeout(std::time::Duration::from_secs(20), many).await.expect("nobody waits for ever").unwrap();
        let changes = store.writer.run_then(move |trees| capture.end(trees), |_| ()).await.unwrap();
        let keys: Vec<Vec<u8>> = changes
            .map(|change| match change.unwrap() {
                Record::Put { key, .. } => key,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!((keys.len(), keys[0].as_slice()), (3001, &b"kept"[..]));
        let (bytes, _) = store.backup(Vec::new(), u64::MAX).await.unwrap();
        verify(&bytes[..]).unwrap();
    }
}
