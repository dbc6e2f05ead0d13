//! Losses of committed data that were noticed, until the operator has acknowledged them.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Result;
use super::commit_note;
use super::log::Log;
use super::meta::MetaKey;
use super::trees::Trees;
use crate::core::ids::MessageId;
use crate::core::time::Timestamp;
use crate::data_dir::write_private;

/// The file's name in the store's directory.
const FILE: &str = "lost.json";

/// More ids than can have been given since the newest note was synced.
const MAX_IDS_AFTER_NOTE: u64 = 1 << 20;
/// The numbers of users, of devices and of tokens that are not given again.
const MAX_ACCOUNTS_LOST: u64 = 1 << 16;

/// A loss: the log ended before commits that had been on the disk, records are not those of the last commit, or could not be read and were
/// left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The time at which it was noticed.
    pub noticed_at: Timestamp,
    /// The number of commits that are missing; of several losses, their sum.
    pub commits: u64,
    /// The number of records, or unreadable pages of records, that were left behind.
    #[serde(default)]
    pub records: u64,
    /// The number of records that are missing or out of date, at least.
    #[serde(default)]
    pub altered: u64,
    /// Where commits are missing: messages above this one may be missing.
    pub after: MessageId,
    /// Where commits are missing: the newest message that is known to have been accepted.
    pub newest: MessageId,
}

impl Loss {
    /// Returns the loss that was noted in the directory of a store and not acknowledged since.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn read(store: &Path) -> Result<Option<Self>> {
        match fs::read(store.join(FILE)) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).unwrap_or_else(|_| Self::unknown()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A loss of which the note is damaged.
    fn unknown() -> Self {
        let (after, newest) = (MessageId(0), MessageId(0));
        Self { noticed_at: Timestamp::now(), commits: 0, records: 0, altered: 1, after, newest }
    }

    /// Notes the loss in the directory of a store, together with an earlier one.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn note(self, store: &Path) -> Result<Self> {
        let earlier = Self::read(store)?;
        if let Some(earlier) = earlier
            && self.newest > MessageId(0)
            && earlier.newest == self.newest
        {
            return Ok(earlier); // the same one: a crash came before the commit that gives ids above it
        }
        let after = [earlier, Some(self)].into_iter().flatten().filter(|loss| loss.commits > 0).map(|loss| loss.after).min();
        let all = earlier.map_or(self, |earlier| Self {
            noticed_at: earlier.noticed_at,
            commits: earlier.commits.saturating_add(self.commits),
            records: earlier.records.saturating_add(self.records),
            altered: earlier.altered.saturating_add(self.altered),
            after: after.unwrap_or_default(),
            newest: earlier.newest.max(self.newest),
        });
        write_private(&store.join(FILE), serde_json::to_string(&all).map_err(io::Error::other)?.as_bytes())?;
        Ok(all)
    }

    /// Returns the loss that the store has, noticed now or noted before. One that is noticed is noted in the store's directory; the store
    /// gets a new epoch, so that clients do not take what they are given now for all that they missed, and its ids go on beyond those
    /// that can have been given. The caller commits that.
    ///
    /// # Errors
    /// If the disk or the engine fails.
    pub fn find(trees: &Trees, store: &Path) -> Result<Option<Self>> {
        let Some(loss) = Self::look(trees, store)? else { return Self::read(store) };
        let all = loss.note(store)?;
        begin_again(trees, loss.after, loss.newest)?;
        // Behind that: a crash in between must not hide the loss.
        trees.tally.raise(commit_note::read(store).map_or(0, |noted| noted.commits));
        Ok(Some(all))
    }

    /// Returns the loss that the store has, noticed now or noted before, and writes nothing.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn peek(trees: &Trees, store: &Path) -> Result<Option<Self>> {
        Ok(Self::look(trees, store)?.or(Self::read(store)?))
    }

    /// Compares the records with the tally in the log, and that with the note in the store's directory.
    fn look(trees: &Trees, store: &Path) -> Result<Option<Self>> {
        let noted = commit_note::read(store).unwrap_or_default();
        let (commits, altered) = (noted.commits.saturating_sub(trees.tally.commits()), trees.verify_tally());
        if (commits, altered) == (0, 0) {
            return Ok(None);
        }
        // Where records are damaged, too, only the note is left.
        let after = Log::new(trees).newest_given().unwrap_or(noted.newest);
        Ok(Some(Self { noticed_at: Timestamp::now(), commits, records: 0, altered, after, newest: noted.newest.max(after) }))
    }

    /// Describes the loss to people.
    pub fn description(&self) -> String {
        let Self { noticed_at, commits, records, altered, after, newest } = self;
        let end = format!(
            "its end is missing, {commits} commits: messages above {after}, up to {newest} and a second beyond, and other changes of \
             that time may be lost"
        );
        let altered_records = format!("{altered} or more records in it are missing or out of date, whichever they are");
        let left = format!("{records} records or pages could not be read, and are in quarantine");
        let parts = [(*commits, end), (*altered, altered_records), (*records, left)];
        let parts: Vec<String> = parts.into_iter().filter(|&(count, _)| count > 0).map(|(_, part)| part).collect();
        format!("{}; noticed {noticed_at}", parts.join("; "))
    }
}

/// Gives a store that lacks changes, messages above `after` up to `newest` among them, a new epoch, and ids beyond those that can have
/// been given.
///
/// # Errors
/// If the engine fails.
pub fn begin_again(trees: &Trees, after: MessageId, newest: MessageId) -> Result<()> {
    trees.new_epoch()?;
    let upto = newest.0.saturating_add(MAX_IDS_AFTER_NOTE).max(trees.meta.number(MetaKey::MessageIdsReserved)?);
    trees.meta.set(MetaKey::MessageIdsReserved, upto)?;
    trees.meta.skip(after.0, upto)?;
    for counter in [MetaKey::NextUser, MetaKey::NextDevice, MetaKey::NextToken] {
        trees.meta.set(counter, trees.meta.number(counter)?.saturating_add(MAX_ACCOUNTS_LOST))?;
    }
    Ok(())
}

/// Removes the note of a loss from the directory of a store.
///
/// # Errors
/// If the disk fails.
pub fn acknowledge_loss(store: &Path) -> Result<()> {
    match fs::remove_file(store.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::Recipient;
    use crate::store::Watch;
    use crate::store::commit_note::CommitNote;
    use crate::store::records::Place;
    use crate::store::{Store, StoreError, check, compact, repair};

    async fn change(store: &Store, front: u64) {
        let place = Place { front: MessageId(front), ..Place::default() };
        let write = move |trees: &Trees| {
            trees.newest_written.store(front, std::sync::atomic::Ordering::Relaxed);
            trees.places.insert(&Recipient::All, &place)
        };
        store.writer().run(write).await.unwrap();
    }

    /// A closed store whose log lacks the last five commits, with messages up to 77.
    async fn shortened() -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Store::open(&path).unwrap();
        change(&store, 70).await;
        store.close().unwrap();
        let noted = commit_note::read(&path).unwrap();
        CommitNote::open(&path).unwrap().write(noted.commits + 5, MessageId(77)).unwrap();
        (dir, store.epoch().to_owned())
    }

    #[tokio::test]
    async fn note_follows_every_commit_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let mut last = 0;
        for round in 1..4 {
            let store = Store::open(&path).unwrap();
            assert_eq!(store.loss(), None);
            for n in 0..3 {
                change(&store, 10 * round + n).await;
                let noted = commit_note::read(&path).unwrap();
                assert!(noted.commits > last && !noted.closed);
                assert_eq!(noted.newest, MessageId(10 * round + n));
                last = noted.commits;
                store.writer().run(|_| Ok::<_, StoreError>(())).await.unwrap(); // changes nothing
                assert_eq!(commit_note::read(&path).unwrap().commits, last);
            }
            store.close().unwrap();
            assert!(commit_note::read(&path).unwrap().closed);
        }
    }

    #[tokio::test]
    async fn log_that_ends_before_the_note_is_a_loss_until_it_is_acknowledged() {
        let (dir, epoch) = shortened().await;
        let path = dir.path().join("store");
        let found = check(&path, Watch::NONE).unwrap();
        assert_eq!((found.wrong, found.findings[0].what.starts_with("its end is missing, 5 commits")), (1, true));
        let mut epochs = vec![epoch];
        for _ in 0..2 {
            let store = Store::open(&path).unwrap();
            let loss = store.loss().unwrap();
            assert_eq!((loss.commits, loss.after, loss.newest), (5, MessageId(70), MessageId(77)));
            assert!(store.before_restore(MessageId(78)), "a client that knows it has not recovered");
            assert!(store.log().newest_given().unwrap() > MessageId(1 << 20));
            assert!(store.check(Watch::NONE).unwrap().findings[0].what.contains("messages above 70"));
            epochs.push(store.epoch().to_owned());
            store.close().unwrap();
            drop(store);
            assert_eq!(check(&path, Watch::NONE).unwrap().wrong, 1);
        }
        assert!(epochs[0] != epochs[1] && epochs[1] == epochs[2], "{epochs:?}");
        let store = Store::open(&path).unwrap();
        store.acknowledge_loss().unwrap();
        assert_eq!(store.loss(), None);
        assert_eq!(store.check(Watch::NONE).unwrap().findings, []);
        store.close().unwrap();
        drop(store);
        assert_eq!(Store::open(&path).unwrap().loss(), None);
    }

    #[tokio::test]
    async fn damaged_note_of_a_loss_is_a_loss() {
        for damaged in ["", "{", "null", "[]", "\0\0\0", r#"{"noticed_at": 1}"#] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("store");
            Store::open(&path).unwrap().close().unwrap();
            fs::write(path.join(FILE), damaged).unwrap();
            let store = Store::open(&path).unwrap();
            assert_eq!(store.loss().map(|loss| loss.altered), Some(1), "{damaged:?}");
            store.close().unwrap();
            drop(store);
            // Another one beside it is noted in words that can be read.
            let (after, newest) = (MessageId(5), MessageId(7));
            let other = Loss { noticed_at: Timestamp::now(), commits: 2, records: 0, altered: 0, after, newest };
            assert_eq!(other.note(&path).unwrap().commits, 2);
            assert_eq!(Loss::read(&path).unwrap().map(|loss| (loss.commits, loss.altered)), Some((2, 1)));
            acknowledge_loss(&path).unwrap();
            assert_eq!(Store::open(&path).unwrap().loss(), None);
        }
    }

    #[tokio::test]
    async fn losses_add_up() {
        let (dir, _) = shortened().await;
        let path = dir.path().join("store");
        let first = Store::open(&path).unwrap();
        first.close().unwrap();
        drop(first);
        let noted = commit_note::read(&path).unwrap();
        CommitNote::open(&path).unwrap().write(noted.commits + 2, MessageId(99)).unwrap();
        let both = Store::open(&path).unwrap().loss().unwrap();
        assert_eq!((both.commits, both.after), (7, MessageId(70)));
        assert!(both.newest >= MessageId(99));
    }

    #[tokio::test]
    async fn rewriting_a_store_does_not_hide_a_loss() {
        let (dir, epoch) = shortened().await;
        let path = dir.path().join("store");
        compact(&path, Watch::NONE).unwrap();
        let store = Store::open(&path).unwrap();
        assert_eq!(store.loss().map(|loss| loss.commits), Some(5));
        assert_ne!(store.epoch(), epoch);
        store.close().unwrap();
        drop(store);
        // A repair tells of it, which acknowledges it.
        let found = repair(&path, Watch::NONE).unwrap();
        assert!(found.findings[0].what.contains("5 commits"), "{:?}", found.findings);
        assert_eq!(check(&path, Watch::NONE).unwrap().findings, []);
        let (dir, epoch) = shortened().await;
        let path = dir.path().join("store");
        assert_eq!(repair(&path, Watch::NONE).unwrap().wrong, 1);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.loss(), None);
        assert_ne!(store.epoch(), epoch);
        assert!(store.before_restore(MessageId(78)));
    }
}
