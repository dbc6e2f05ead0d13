//! What changes while a backup reads.
//!
//! sled tells of every change by channels of 1,024 places, and a writer waits where one is full. So a thread of its own moves
//! what they bring into a file without a name, for as long as the backup takes.
//!
//! # Invariants
//! - It begins and ends on the writer thread, so between two changes: what it has seen is everything from one moment to another.
//! - The channels are given up on the writer thread, too. sled closes one under a lock that a writer holds while it waits for
//!   room in it: anywhere else, the two could wait for each other for ever.

use std::fs::File;
use std::io::{self, BufWriter, Seek};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sled::{Event, Subscriber};

use super::SCHEMA;
use super::catalogue::Trees;
use super::dump::{BackupError, DumpReader, DumpWriter, Header, Record};

/// How much may change while one backup is made, in bytes before compression.
const MOST_BYTES: u64 = 4 << 30;
/// How long to wait where nothing changes. The channels hold what comes meanwhile.
const PAUSE: Duration = Duration::from_millis(1);

/// The running capture.
pub(super) struct Capture {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Captured>>,
}

/// The channels, and the file.
type Captured = (Vec<Subscriber>, Result<File, BackupError>);

impl Capture {
    /// Begins. On the writer thread. The file is in `directory`.
    pub(super) fn begin(trees: &Trees, directory: &Path) -> Result<Self, BackupError> {
        let file = rustix::fs::openat(
            rustix::fs::CWD,
            directory,
            rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        );
        let file = File::from(file.map_err(io::Error::from)?);
        let changes = DumpWriter::begin(BufWriter::new(file), &Header::new(SCHEMA, ""))?;
        let channels: Vec<Subscriber> = trees.all().into_iter().map(|tree| tree.watch_prefix([])).collect();
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let thread = std::thread::Builder::new().name("capture".into()).spawn(move || follow(channels, changes, &told))?;
        Ok(Self { over, thread: Some(thread) })
    }

    /// Ends. On the writer thread. The changes, in their order.
    pub(super) fn end(mut self) -> Result<Changes, BackupError> {
        self.over.store(true, Ordering::Release);
        let Some(Ok((channels, file))) = self.thread.take().map(JoinHandle::join) else {
            return Err(BackupError::Io(io::Error::other("the capture ended early")));
        };
        drop(channels);
        let mut file = file?;
        file.rewind()?;
        Ok(Changes(DumpReader::begin(file, SCHEMA)?.0))
    }
}

impl Drop for Capture {
    /// Where the writer thread is no more, and so nobody who could wait.
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
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

/// Moves what the channels bring until it is told that it is over, and then what they still hold.
fn follow(mut channels: Vec<Subscriber>, changes: DumpWriter<BufWriter<File>>, over: &AtomicBool) -> Captured {
    let mut written = Ok(changes);
    loop {
        let last = over.load(Ordering::Acquire);
        let mut any = false;
        for (tree, channel) in (0u8..).zip(&mut channels) {
            while let Ok(event) = channel.next_timeout(Duration::ZERO) {
                any = true;
                // After a failure the channels are emptied all the same: nobody shall wait for room in them.
                written = written.and_then(|changes| note(changes, tree, &event));
            }
        }
        if last && !any {
            break;
        }
        if !any {
            std::thread::sleep(PAUSE);
        }
    }
    let file = written.and_then(|changes| Ok(changes.finish()?.0.into_inner().map_err(io::IntoInnerError::into_error)?));
    (channels, file)
}

fn note(mut changes: DumpWriter<BufWriter<File>>, tree: u8, event: &Event) -> Result<DumpWriter<BufWriter<File>>, BackupError> {
    match event {
        Event::Insert { key, value } => changes.put(tree, key, value)?,
        Event::Remove { key } => changes.remove(tree, key)?,
    }
    if changes.bytes() > MOST_BYTES { Err(BackupError::TooMuchChanged) } else { Ok(changes) }
}
