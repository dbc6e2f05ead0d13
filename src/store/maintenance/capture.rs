//! Capture of the changes made while a backup reads.
//!
//! sled announces every change through channels of 1,024 places, one for each tree, and a writer blocks where one is full. So
//! threads of their own move the announcements into a file without a name, for as long as the backup takes.
//!
//! # Invariants
//! - A capture begins and ends on the writer thread, so between two changes: it has every change from one moment to another.
//! - The channels are dropped on the writer thread, too. sled closes one under a lock that a writer holds while it waits for
//!   space in it: on another thread, the two could wait for each other for ever.

use std::fs::File;
use std::io::{self, BufWriter, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use sled::{Event, Subscriber};

use super::dump::{BackupError, DumpReader, DumpWriter, Header, Record};
use crate::data_dir::free_bytes;
use crate::store::meta::SCHEMA;
use crate::store::trees::Trees;

/// The most bytes of changes that one backup keeps.
const MAX_CAPTURED_BYTES: u64 = 4 << 30;
/// Bytes between two checks of the free space, which messages need, too.
const SPACE_CHECK_BYTES: u64 = 1 << 20;
/// The stack of a capture thread, in bytes.
const STACK_BYTES: usize = 256 << 10;

/// The key that ends a channel's thread. No tree has a key like it, and none gets one.
const END_KEY: &[u8] = b"\0capture over";

/// The captured changes of all trees.
struct Captured {
    changes: Mutex<Result<DumpWriter<BufWriter<File>>, BackupError>>,
    /// Set when changes can no longer be written: the scan need not go on.
    failed: AtomicBool,
    /// The directory of the file, and the bytes that must stay free there.
    place: (PathBuf, u64),
}

impl Captured {
    /// Adds a change. After a failure it does nothing: the channels are emptied all the same, so that nobody waits for room in
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
        let check_space = before / SPACE_CHECK_BYTES != after / SPACE_CHECK_BYTES;
        let (directory, floor) = &self.place;
        let error = match written {
            Err(error) => error.into(),
            Ok(()) if after > MAX_CAPTURED_BYTES => BackupError::TooMuchChanged,
            Ok(()) if check_space && free_bytes(directory).is_ok_and(|free| free < *floor) => BackupError::TooMuchChanged,
            Ok(()) => return,
        };
        *changes = Err(error);
        self.failed.store(true, Ordering::Relaxed);
    }
}

/// The running capture.
pub struct Capture {
    captured: Arc<Captured>,
    threads: Vec<JoinHandle<Subscriber>>,
}

/// A view of whether a capture has failed.
pub struct Watch(Arc<Captured>);

impl Watch {
    /// Returns whether it has failed.
    pub fn failed(&self) -> bool {
        self.0.failed.load(Ordering::Relaxed)
    }
}

impl Capture {
    /// Begins a capture, on the writer thread. The file is in `directory`, where `floor` bytes must stay free.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn begin(trees: &Trees, directory: &Path, floor: u64) -> Result<Self, BackupError> {
        let changes = DumpWriter::begin(BufWriter::new(tempfile::tempfile_in(directory)?), &Header::new(SCHEMA, ""))?;
        let place = (directory.to_owned(), floor);
        let captured = Arc::new(Captured { changes: Mutex::new(Ok(changes)), failed: AtomicBool::new(false), place });
        let mut this = Self { captured, threads: Vec::new() };
        for (n, tree) in (0u8..).zip(trees.all()) {
            let (channel, captured) = (tree.watch_prefix([]), this.captured.clone());
            let thread = std::thread::Builder::new().name("capture".into()).stack_size(STACK_BYTES);
            match thread.spawn(move || follow(n, channel, &captured)) {
                Ok(thread) => this.threads.push(thread),
                Err(error) => {
                    this.end(trees)?;
                    return Err(error.into());
                }
            }
        }
        Ok(this)
    }

    /// Returns a view of whether it has failed.
    pub fn watch(&self) -> Watch {
        Watch(self.captured.clone())
    }

    /// Ends the capture, on the writer thread; returns the changes in their order.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn end(mut self, trees: &Trees) -> Result<Changes, BackupError> {
        for tree in trees.all() {
            // Announced as a removal, changes nothing.
            let _ = tree.compare_and_swap(END_KEY, None::<&[u8]>, None::<&[u8]>)?;
        }
        for thread in self.threads.drain(..) {
            drop(thread.join().map_err(|_| io::Error::other("the capture ended early"))?);
        }
        let mut changes = self.captured.changes.lock();
        let captured = std::mem::replace(&mut *changes, Err(BackupError::TooMuchChanged));
        drop(changes);
        let mut file = captured?.finish()?.0.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok(Changes(DumpReader::begin(file, SCHEMA)?.0))
    }
}

/// The captured changes.
pub struct Changes(DumpReader<File>);

impl Iterator for Changes {
    type Item = Result<Record, BackupError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().transpose()
    }
}

/// Moves the events of a channel into the capture until its end mark. It waits with the iterator, since only the iterator skips the
/// changes that sled announces and then does not make (those that change nothing, and those that it retries).
fn follow(tree: u8, mut channel: Subscriber, captured: &Captured) -> Subscriber {
    for event in channel.by_ref() {
        if event.key() == END_KEY {
            break;
        }
        captured.add(tree, &event);
    }
    channel
}
