//! The number of the newest commit, kept beside sled's log.
//!
//! sled takes the end of what it can read for the end of its log: where a part is damaged, what is behind it is gone without a word.
//! The note says how far the log went. It is written when a commit is on the disk, never before, and synced within a second of it:
//! after a power cut it can be that much behind.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use super::Result;
use crate::core::ids::MessageId;

/// The file's name in the store's directory.
const FILE: &str = "commits";
/// The distance of the two records, which are written in turn: a write that is cut off damages one of them.
const SLOT_BYTES: u64 = 4096;
/// The length of a record: five numbers and a checksum.
const RECORD_BYTES: usize = 5 * 8 + 4;
/// The longest time for which a note is not synced.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// The content of the note.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Noted {
    /// The number of commits.
    pub commits: u64,
    /// The newest message in them.
    pub newest: MessageId,
    /// The system's start that the note was written in; 0 where that is unknown.
    pub boot: u64,
    /// The store was closed.
    pub closed: bool,
}

impl Noted {
    /// Encodes the note with the number of its writing.
    fn encode(self, turn: u64) -> [u8; RECORD_BYTES] {
        let Self { commits, newest, boot, closed } = self;
        let mut record = [0; RECORD_BYTES];
        for (n, number) in [turn, commits, newest.0, boot, u64::from(closed)].into_iter().enumerate() {
            record[n * 8..][..8].copy_from_slice(&number.to_be_bytes());
        }
        let sum = crc32fast::hash(&record[..40]);
        record[40..].copy_from_slice(&sum.to_be_bytes());
        record
    }

    /// Decodes a note and the number of its writing; `None` when `record` is none, or a damaged one.
    fn decode(record: [u8; RECORD_BYTES]) -> Option<(u64, Self)> {
        let (numbers, sum) = record.split_at(40);
        if sum != crc32fast::hash(numbers).to_be_bytes() {
            return None;
        }
        let number = |n: usize| numbers[n * 8..][..8].try_into().map_or(0, u64::from_be_bytes);
        Some((number(0), Self { commits: number(1), newest: MessageId(number(2)), boot: number(3), closed: number(4) != 0 }))
    }
}

/// Returns the note in the store's directory, and the number of its writing; `None` where there is none that can be read.
fn read_from(file: &File) -> Option<(u64, Noted)> {
    let record = |slot: u64| {
        let mut record = [0; RECORD_BYTES];
        file.read_exact_at(&mut record, slot * SLOT_BYTES).ok()?;
        Noted::decode(record)
    };
    record(0).into_iter().chain(record(1)).max_by_key(|(turn, _)| *turn)
}

/// Returns the note in the directory of a store; `None` where there is none that can be read.
pub fn read(store: &Path) -> Option<Noted> {
    read_from(&File::open(store.join(FILE)).ok()?).map(|(_, noted)| noted)
}

/// The open file of the note.
#[derive(Debug)]
pub struct CommitNote {
    file: File,
    turn: u64,
    boot: u64,
    /// The time by which what was written must be synced.
    due: Option<Instant>,
}

impl CommitNote {
    /// Opens the note in the directory of a store, which is made where there is none.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn open(store: &Path) -> Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(store.join(FILE))?;
        let turn = read_from(&file).map_or(0, |(turn, _)| turn);
        Ok(Self { file, turn, boot: boot(), due: None })
    }

    /// Writes the note of commits that are on the disk.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn write(&mut self, commits: u64, newest: MessageId) -> Result<()> {
        self.put(Noted { commits, newest, boot: self.boot, closed: false })?;
        self.due.get_or_insert_with(|| Instant::now() + SYNC_INTERVAL);
        Ok(())
    }

    /// The time by which [`sync`](Self::sync) is to be called; `None` while everything is synced.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn sync(&mut self) -> Result<()> {
        self.due = None;
        Ok(self.file.sync_data()?)
    }

    /// Writes the last note, of a store that is closed, and makes it durable.
    ///
    /// # Errors
    /// If the disk fails.
    pub fn close(&mut self, commits: u64, newest: MessageId) -> Result<()> {
        self.put(Noted { commits, newest, boot: self.boot, closed: true })?;
        self.sync()
    }

    fn put(&mut self, noted: Noted) -> Result<()> {
        self.turn += 1;
        Ok(self.file.write_all_at(&noted.encode(self.turn), self.turn % 2 * SLOT_BYTES)?)
    }
}

/// Returns a number of the system's present start; 0 where the system has none.
pub fn boot() -> u64 {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u64::from_str_radix(&id.replace('-', "").chars().take(16).collect::<String>(), 16).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_readable_note_counts() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), None);
        let mut note = CommitNote::open(dir.path()).unwrap();
        assert_eq!((read(dir.path()), note.due()), (None, None));
        for n in 1..=5 {
            note.write(n, MessageId(10 * n)).unwrap();
            let noted = read(dir.path()).unwrap();
            assert_eq!((noted.commits, noted.newest, noted.closed), (n, MessageId(10 * n), false));
        }
        assert!(note.due().is_some());
        note.sync().unwrap();
        assert_eq!(note.due(), None);
        // A later one goes on where this one stopped.
        let mut note = CommitNote::open(dir.path()).unwrap();
        note.close(6, MessageId(60)).unwrap();
        let closed = read(dir.path()).unwrap();
        assert_eq!((closed.commits, closed.closed, closed.boot), (6, true, boot()));
        // Any damage to the newest leaves the one before.
        let file = dir.path().join(FILE);
        let whole = std::fs::read(&file).unwrap();
        for at in 0..RECORD_BYTES {
            let mut bytes = whole.clone();
            bytes[at] ^= 4; // the sixth is in the first slot
            std::fs::write(&file, bytes).unwrap();
            assert_eq!(read(dir.path()).map(|noted| noted.commits), Some(5));
        }
        std::fs::write(&file, &whole[..10]).unwrap();
        assert_eq!(read(dir.path()), None);
    }
}
