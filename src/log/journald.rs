//! Entries of systemd's journal, in its own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): `MESSAGE` is the line that would
//! stand on standard error, fields included, for who reads `journalctl`; beside it each field stands for itself, for who looks
//! for it: `journalctl TARGET=audit QY_LTY_USER=3`.

use std::fmt::{self, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::Escaped;

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";
/// What the journal calls us, and what stands before the names of our fields.
const IDENTIFIER: &str = "qy-lty";
const PREFIX: &str = "QY_LTY_";
/// The longest name that the journal takes.
const LONGEST_NAME: usize = 64;
/// A larger entry may not fit into a datagram: it is cut to the beginning of its message.
const MOST_BYTES: usize = 64 * 1024;
const CUT: usize = 16 * 1024;
/// How long an entry waits for a journal that does not take it. Only the first: after that, entries are lost, and counted, until
/// one is taken again. The server must not stand still for its log.
const PATIENCE: Duration = Duration::from_millis(100);

/// Writes to the journal.
pub(super) struct Journal {
    /// Waits.
    patient: UnixDatagram,
    /// Does not.
    quick: UnixDatagram,
    /// Named for each entry: a journal that is restarted listens on a new one there.
    at: PathBuf,
    /// How many entries were lost since one was taken.
    lost: AtomicU64,
}

impl Journal {
    /// Finds the journal.
    pub(super) fn open() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let (patient, quick) = (UnixDatagram::unbound()?, UnixDatagram::unbound()?);
        patient.set_write_timeout(Some(PATIENCE))?;
        quick.set_nonblocking(true)?;
        patient.send_to(b"", path)?; // says nothing, but fails where nobody listens
        Ok(Self { patient, quick, at: path.into(), lost: AtomicU64::new(0) })
    }

    fn send(&self, entry: &[u8]) {
        let lost = self.lost.load(Ordering::Relaxed);
        let socket = if lost == 0 { &self.patient } else { &self.quick };
        if socket.send_to(entry, &self.at).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        } else if lost > 0 {
            let lost = self.lost.swap(0, Ordering::Relaxed);
            let mut entry = Vec::new();
            put(&mut entry, "MESSAGE", &format!("{lost} lines before this one were lost: the journal did not take them"));
            put(&mut entry, "PRIORITY", priority(Level::WARN));
            put(&mut entry, "SYSLOG_IDENTIFIER", IDENTIFIER);
            let _ = self.quick.send_to(&entry, &self.at);
        }
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::default();
        event.record(&mut entry);
        self.send(&entry.finish(event));
    }
}

/// One entry on its way.
#[derive(Default)]
struct Entry {
    message: String,
    /// The fields behind the message.
    beside: String,
    bytes: Vec<u8>,
}

impl Entry {
    fn field(&mut self, field: &Field, value: &str, shown: &dyn fmt::Debug) {
        let mut to = Escaped(if field.name() == "message" { &mut self.message } else { &mut self.beside });
        // Writing to a string does not fail.
        if field.name() == "message" {
            let _ = to.write_str(value);
            return;
        }
        let _ = write!(to, " {}={shown:?}", field.name());
        let clean = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let name: String = PREFIX.chars().chain(field.name().chars().map(clean)).take(LONGEST_NAME).collect();
        put(&mut self.bytes, &name, value);
    }

    fn finish(mut self, event: &Event<'_>) -> Vec<u8> {
        let about = event.metadata();
        let mut message = self.message + &self.beside;
        if message.len() + self.bytes.len() > MOST_BYTES {
            self.bytes.clear();
            message.truncate(message.floor_char_boundary(CUT));
        }
        put(&mut self.bytes, "MESSAGE", message.trim_start());
        put(&mut self.bytes, "PRIORITY", priority(*about.level()));
        put(&mut self.bytes, "SYSLOG_IDENTIFIER", IDENTIFIER);
        put(&mut self.bytes, "TARGET", about.target());
        self.bytes
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, value, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, &format!("{value:?}"), value);
    }
}

/// Appends a field; its length stands before a value that has several lines, so that none of them is taken for another field.
fn put(bytes: &mut Vec<u8>, name: &str, value: &str) {
    bytes.extend_from_slice(name.as_bytes());
    if value.contains('\n') {
        bytes.push(b'\n');
        bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        bytes.push(b'=');
    }
    bytes.extend_from_slice(value.as_bytes());
    bytes.push(b'\n');
}

/// The priority (syslog's) of a level.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tracing_subscriber::layer::SubscriberExt;

    /// Reads an entry as the journal does.
    fn read(mut bytes: &[u8]) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        while let Some(end) = bytes.iter().position(|b| matches!(b, b'=' | b'\n')) {
            let (name, rest) = bytes.split_at(end);
            let (value, rest) = match rest[0] {
                b'=' => rest[1..].split_at(rest[1..].iter().position(|&b| b == b'\n').unwrap()),
                _ => rest[9..].split_at(u64::from_le_bytes(rest[1..9].try_into().unwrap()) as usize),
            };
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            assert_eq!(rest[0], b'\n');
            assert!(found.insert(text(name), text(value)).is_none());
            bytes = &rest[1..];
        }
        assert!(bytes.is_empty());
        found
    }

    #[test]
    fn each_event_is_an_entry_and_nothing_from_outside_makes_a_field() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        assert!(Journal::at(&path).is_err());
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut buffer = vec![0; 1 << 20];
        let mut next = || {
            let length = journal.recv(&mut buffer).unwrap();
            read(&buffer[..length])
        };
        let layer = tracing_subscriber::registry().with(Journal::at(&path).unwrap());
        assert!(next().is_empty());
        tracing::subscriber::with_default(layer, || {
            let bad = "a\nPRIORITY=0\u{1b}[2J";
            tracing::warn!(target: "audit", event = "failed", user = 5, said = bad, shown = %bad);
            tracing::info!(conn = %7, "gone: {bad}");
            tracing::error!(long = "é".repeat(MOST_BYTES), "long");
        });
        let (first, second, third) = (next(), next(), next());
        let plain = "a\\u{a}PRIORITY=0\\u{1b}[2J";
        // A string stands in quotes there, its own escapes escaped no further.
        assert_eq!(first["MESSAGE"], format!("event=\"failed\" user=5 said=\"a\\nPRIORITY=0\\u{{1b}}[2J\" shown={plain}"));
        assert_eq!(
            (first["PRIORITY"].as_str(), first["TARGET"].as_str(), first["SYSLOG_IDENTIFIER"].as_str()),
            ("4", "audit", "qy-lty")
        );
        assert_eq!((first["QY_LTY_USER"].as_str(), first["QY_LTY_SAID"].as_str()), ("5", "a\nPRIORITY=0\u{1b}[2J"));
        assert_eq!(first.len(), 8);
        assert_eq!((second["MESSAGE"].as_str(), second["PRIORITY"].as_str()), (format!("gone: {plain} conn=7").as_str(), "6"));
        assert!(third["MESSAGE"].starts_with("long long=\"é") && third["MESSAGE"].len() <= CUT && third.len() == 4);
    }

    #[test]
    fn a_journal_that_takes_nothing_holds_nobody_up_for_long() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(&path).unwrap();
        let began = std::time::Instant::now();
        for _ in 0..5000 {
            journal.send(b"MESSAGE=x\n"); // more than any queue holds
        }
        let lost = journal.lost.load(Ordering::Relaxed);
        assert!(lost > 0 && began.elapsed() < 50 * PATIENCE, "{lost} lost in {:?}", began.elapsed());
        listener.set_nonblocking(true).unwrap();
        let mut buffer = [0; 1000];
        while listener.recv(&mut buffer).is_ok() {}
        journal.send(b"MESSAGE=again\n");
        assert!(listener.recv(&mut buffer).is_ok());
        let length = listener.recv(&mut buffer).unwrap();
        assert!(String::from_utf8_lossy(&buffer[..length]).starts_with(&format!("MESSAGE={lost} lines before")));
    }
}
