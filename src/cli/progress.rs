//! The progress of long commands, on standard error where that is a terminal.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::interrupts::Interrupts;
use crate::store::Progress;

/// The bytes that are read from standard input at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// The chunks of standard input that wait to be read.
const MAX_PENDING_CHUNKS: usize = 4;
/// The time after which a reader of standard input looks whether it is to end.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// A line on a terminal that shows how far a command has come; it is removed at the end.
#[derive(Debug)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// A number of bytes, of `total` where that is known.
    pub(super) fn bytes(what: &str, total: Option<u64>) -> Self {
        match total {
            Some(total) => Self::new(
                ProgressBar::new(total),
                what,
                "{msg}  {bar:30}  {percent:>3} %  {binary_bytes} of {binary_total_bytes}, {eta} left",
            ),
            None => Self::new(ProgressBar::new_spinner(), what, "{spinner} {msg}  {binary_bytes}, {binary_bytes_per_sec}"),
        }
    }

    /// Records of trees of which nobody knows how many they have.
    pub(super) fn records(what: &str) -> Self {
        Self::new(ProgressBar::new_spinner(), what, "{spinner} {msg}  {human_pos} records  {prefix}")
    }

    fn new(bar: ProgressBar, what: &str, template: &str) -> Self {
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.tick(); // at once: it may be long until there is something to count
        Self(bar)
    }

    /// Shows a position.
    pub(super) fn at(&self, position: u64) {
        self.0.set_position(position);
        if self.0.length().is_none() {
            self.0.tick();
        }
    }

    /// Shows the position of a job of maintenance.
    pub(super) fn show(&self, progress: Progress) {
        self.part(progress.tree, progress.number as u64, progress.of as u64);
        self.at(progress.records);
    }

    /// Shows the part that a job is at.
    pub(super) fn part(&self, name: &str, number: u64, of: u64) {
        self.0.set_prefix(format!("({name}, part {number} of {of})"));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A reader that shows how far it has come, and fails once a signal asks the command to end.
pub(super) struct Watched<R> {
    source: R,
    bar: Bar,
    interrupts: Interrupts,
    read: u64,
}

impl<R: Read> Watched<R> {
    /// Reads `source`.
    pub(super) fn new(source: R, bar: Bar, interrupts: Interrupts) -> Self {
        Self { source, bar, interrupts, read: 0 }
    }
}

/// Returns the error of a reader that is to end. Not of the kind `Interrupted`, after which readers try again.
fn ended() -> io::Error {
    io::Error::other("interrupted")
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.interrupts.raised() {
            return Err(ended());
        }
        let read = self.source.read(buffer)?;
        self.read += read as u64;
        self.bar.at(self.read);
        Ok(read)
    }
}

/// Standard input, which may have nothing to read for long: it fails all the same once a signal asks the command to end.
pub(super) struct Input {
    chunks: Receiver<io::Result<Vec<u8>>>,
    /// What is not read yet of the last chunk, and from where on.
    chunk: (Vec<u8>, usize),
    interrupts: Interrupts,
}

impl Input {
    /// Reads standard input, on a thread that ends with it, or with the process.
    pub(super) fn new(interrupts: Interrupts) -> Self {
        let (to, chunks) = sync_channel(MAX_PENDING_CHUNKS);
        std::thread::spawn(move || {
            let mut stdin = io::stdin().lock();
            loop {
                let mut chunk = vec![0; CHUNK_BYTES];
                let outcome = stdin.read(&mut chunk);
                let over = !matches!(outcome, Ok(1..));
                let sent = to.send(outcome.map(|read| {
                    chunk.truncate(read);
                    chunk
                }));
                if over || sent.is_err() {
                    return;
                }
            }
        });
        Self { chunks, chunk: (Vec::new(), 0), interrupts }
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.1 == self.chunk.0.len() {
            if self.interrupts.raised() {
                return Err(ended());
            }
            match self.chunks.recv_timeout(CHECK_INTERVAL) {
                Ok(chunk) => self.chunk = (chunk?, 0),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(0),
            }
            if self.chunk.0.is_empty() {
                return Ok(0);
            }
        }
        let (chunk, from) = &mut self.chunk;
        let read = buffer.len().min(chunk.len() - *from);
        buffer[..read].copy_from_slice(&chunk[*from..*from + read]);
        *from += read;
        Ok(read)
    }
}
