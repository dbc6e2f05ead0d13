//! What changes while a backup reads.
//!
//! sled tells of every change by channels of 1,024 places, one for each tree, and a writer waits where one is full. So threads
//! of their own move what they bring into a file without a name, for as long as the backup takes.
//!
//! # Invariants
//! - It begins and ends on the writer thread, so between two changes: what it has seen is everything from one moment to another.
//! - The channels are given up on the writer thread, too. sled closes one under a lock that a writer holds while it waits for
//!   room in it: anywhere else, the two could wait for each other for ever.

use std::fs::File;
use std::io::{self, BufWriter, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use sled::{Event, Subscriber};

use super::SCHEMA;
use super::catalogue::Trees;
use super::dump::{BackupError, DumpReader, DumpWriter, Header, Record};
use crate::data_dir::free_bytes;

/// How much may change while one backup is made, in bytes.
const MOST_BYTES: u64 = 4 << 30;
/// After so many bytes the disk is looked at: what is noted must not take the room that messages need.
const LOOK_BYTES: u64 = 1 << 20;
/// The stack of a thread that only hands on.
const STACK: usize = 256 << 10;

/// Tells a channel's thread that it has seen everything. No tree has a key like it, and none is given one.
const OVER: &[u8] = b"\0capture over";

/// Where changes of all trees go.
struct Notes {
    changes: Mutex<Result<DumpWriter<BufWriter<File>>, BackupError>>,
    /// For who need not go on when they can't be noted any more.
    failed: AtomicBool,
    /// Where the file is, and how many bytes must stay free there.
    place: (PathBuf, u64),
}

impl Notes {
    /// Notes a change. After a failure it does nothing: the channels are emptied all the same, so that nobody waits for room in
    /// them.
    fn add(&self, tree: u8, event: &Event) {
        let mut changes = self.changes.lock();
        let Ok(writer) = &mut *changes else { return };
        let before = writer.bytes();
        let written = match event {
            Event::Insert { key, value } => writer.put(tree, key, value),
            Event::Remove { key } => writer.remove(tree, key),
        };
        let after = writer.bytes();
        let looks = before / LOOK_BYTES != after / LOOK_BYTES;
        let (directory, floor) = &self.place;
        let error = match written {
            Err(error) => error.into(),
            Ok(()) if after > MOST_BYTES => BackupError::TooMuchChanged,
            Ok(()) if looks && free_bytes(directory).is_ok_and(|free| free < *floor) => BackupError::TooMuchChanged,
            Ok(()) => return,
        };
        *changes = Err(error);
        self.failed.store(true, Ordering::Relaxed);
    }
}

/// The running capture.
pub(super) struct Capture {
    notes: Arc<Notes>,
    threads: Vec<JoinHandle<Subscriber>>,
}

/// Tells whether a capture has failed.
pub(super) struct Watch(Arc<Notes>);

impl Watch {
    pub(super) fn failed(&self) -> bool {
        self.0.failed.load(Ordering::Relaxed)
    }
}

impl Capture {
    /// Begins. On the writer thread. The file is in `directory`, where `floor` bytes must stay free.
    pub(super) fn begin(trees: &Trees, directory: &Path, floor: u64) -> Result<Self, BackupError> {
        let changes = DumpWriter::begin(BufWriter::new(tempfile::tempfile_in(directory)?), &Header::new(SCHEMA, ""))?;
        let place = (directory.to_owned(), floor);
        let notes = Arc::new(Notes { changes: Mutex::new(Ok(changes)), failed: AtomicBool::new(false), place });
        let mut this = Self { notes, threads: Vec::new() };
        for (n, tree) in (0u8..).zip(trees.all()) {
            let (channel, notes) = (tree.watch_prefix([]), this.notes.clone());
            let thread = std::thread::Builder::new().name("capture".into()).stack_size(STACK);
            match thread.spawn(move || follow(n, channel, &notes)) {
                Ok(thread) => this.threads.push(thread),
                Err(error) => {
                    this.end(trees)?;
                    return Err(error.into());
                }
            }
        }
        Ok(this)
    }

    /// For who wants to know whether it goes on.
    pub(super) fn watch(&self) -> Watch {
        Watch(self.notes.clone())
    }

    /// Ends. On the writer thread. The changes, in their order.
    pub(super) fn end(mut self, trees: &Trees) -> Result<Changes, BackupError> {
        for tree in trees.all() {
            // Told of as a removal, changes nothing.
            let _ = tree.compare_and_swap(OVER, None::<&[u8]>, None::<&[u8]>)?;
        }
        for thread in self.threads.drain(..) {
            drop(thread.join().map_err(|_| io::Error::other("the capture ended early"))?);
        }
        let mut changes = self.notes.changes.lock();
        let notes = std::mem::replace(&mut *changes, Err(BackupError::TooMuchChanged));
        drop(changes);
        let mut file = notes?.finish()?.0.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(Changes(DumpReader::begin(file, SCHEMA)?.0))
    }
}

/// What was captured.
pub(super) struct Changes(DumpReader<File>);

impl Iterator for Changes {
    type Item = Result<Record, BackupError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().transpose()
    }
}

/// Notes what a channel brings until it is told that it is over. Waits by the iterator: alone that passes over what sled
/// announces and then does not do (a change that changes nothing, or one that it tries again).
fn follow(tree: u8, mut channel: Subscriber, notes: &Notes) -> Subscriber {
    for event in channel.by_ref() {
        if event.key() == OVER {
            break;
        }
        notes.add(tree, &event);
    }
    channel
}
