//! Entries of systemd's journal, in its own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL). `MESSAGE` is the line that would be
//! written to standard error, fields included, as `journalctl` shows it; each field of the spans and of the event is also a field of
//! the entry, to search for: `journalctl TARGET=audit QY_LTY_USER=3`.

use std::fmt::Write as _;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::Level;

use super::escape::Escaped;
use super::record::{Record, Sink, Value};
use super::text::write_fields;

/// The journal's socket.
const SOCKET: &str = "/run/systemd/journal/socket";
/// The value of `SYSLOG_IDENTIFIER`.
const IDENTIFIER: &str = "qy-lty";
/// The prefix of the names of qy-lty's own fields.
const FIELD_PREFIX: &str = "QY_LTY_";
/// The longest name of a field that the journal accepts.
const MAX_NAME_BYTES: usize = 64;
/// The largest entry that is sent whole: a larger one may not fit into a datagram.
const MAX_ENTRY_BYTES: usize = 64 * 1024;
/// The length to which the message of a larger entry is cut; its fields are left out.
const CUT_MESSAGE_BYTES: usize = 16 * 1024;
/// The longest wait for a journal that does not accept an entry. Only the first entry waits: after that, entries are lost, and
/// counted, until one is accepted again. The server must not stop for its log.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);

/// Writes to the journal.
pub(super) struct Journal {
    /// Waits up to [`SEND_TIMEOUT`].
    blocking: UnixDatagram,
    /// Does not wait.
    nonblocking: UnixDatagram,
    /// The journal's address, used for each entry: after a restart, another socket listens there.
    address: PathBuf,
    /// Entries lost since the last one that was accepted.
    lost: AtomicU64,
}

impl Journal {
    /// Connects to the journal.
    pub(super) fn open() -> io::Result<Self> {
        Self::at(Path::new(SOCKET))
    }

    fn at(path: &Path) -> io::Result<Self> {
        let (blocking, nonblocking) = (UnixDatagram::unbound()?, UnixDatagram::unbound()?);
        blocking.set_write_timeout(Some(SEND_TIMEOUT))?;
        nonblocking.set_nonblocking(true)?;
        blocking.send_to(b"", path)?; // an empty entry is ignored, but fails where no journal listens
        Ok(Self { blocking, nonblocking, address: path.into(), lost: AtomicU64::new(0) })
    }

    fn send(&self, entry: &[u8]) {
        let lost = self.lost.load(Ordering::Relaxed);
        let socket = if lost == 0 { &self.blocking } else { &self.nonblocking };
        if socket.send_to(entry, &self.address).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        } else if lost > 0 {
            let lost = self.lost.swap(0, Ordering::Relaxed);
            let mut entry = Vec::new();
            put(&mut entry, "MESSAGE", &format!("{lost} lines before this one were lost: the journal did not accept them"));
            put(&mut entry, "PRIORITY", priority(Level::WARN));
            put(&mut entry, "SYSLOG_IDENTIFIER", IDENTIFIER);
            let _ = self.nonblocking.send_to(&entry, &self.address);
        }
    }
}

impl Sink for Journal {
    fn write(&self, record: &Record) {
        self.send(&entry(record));
    }
}

/// Returns the bytes of a record's entry.
fn entry(record: &Record) -> Vec<u8> {
    let (mut message, mut bytes) = (String::new(), Vec::new());
    // Writing to a string does not fail.
    let _ = Escaped(&mut message).write_str(record.message.as_deref().unwrap_or_default());
    let _ = write_fields(&mut message, record);
    for (name, value) in record.fields.iter() {
        match value {
            Value::Text(text) | Value::Formatted(text) => put(&mut bytes, &field_name(name), text),
            other => put(&mut bytes, &field_name(name), &other.to_string()),
        }
    }
    if message.len() + bytes.len() > MAX_ENTRY_BYTES {
        bytes.clear();
        message.truncate(message.floor_char_boundary(CUT_MESSAGE_BYTES));
    }
    put(&mut bytes, "MESSAGE", message.trim_start());
    put(&mut bytes, "PRIORITY", priority(*record.metadata.level()));
    put(&mut bytes, "SYSLOG_IDENTIFIER", IDENTIFIER);
    put(&mut bytes, "TARGET", record.metadata.target());
    bytes
}

/// Returns the journal's name of a field: capitals, digits and underscores.
fn field_name(name: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    FIELD_PREFIX.chars().chain(name.chars().map(clean)).take(MAX_NAME_BYTES).collect()
}

/// Appends a field. The length precedes a value of several lines, so that none of them is read as another field.
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

/// The priority of a level, as syslog numbers them.
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
    use crate::log::tests::logged;
    use std::collections::BTreeMap;

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
    fn text_from_outside_makes_no_field_of_an_entry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        assert!(Journal::at(&path).is_err());
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut buffer = vec![0; 1 << 20];
        let mut next = || {
            let length = journal.recv(&mut buffer).unwrap();
            read(&buffer[..length])
        };
        let sink = Journal::at(&path).unwrap();
        assert!(next().is_empty());
        let bad = "a\nPRIORITY=0\u{1b}[2J";
        logged(sink, || {
            tracing::warn!(target: "audit", event = "failed", user = 5, said = bad, shown = %bad);
            tracing::info!(conn = %7, "gone: {bad}");
            tracing::error!(long = "é".repeat(MAX_ENTRY_BYTES), "long");
            let _span = tracing::info_span!("request", path = bad).entered();
            tracing::info!("in a span");
        });
        let (first, second, third, fourth) = (next(), next(), next(), next());
        let plain = "a\\u{a}PRIORITY=0\\u{1b}[2J";
        // A string is written in quotes there, its own escapes escaped no further.
        assert_eq!(first["MESSAGE"], format!("event=\"failed\" user=5 said=\"a\\nPRIORITY=0\\u{{1b}}[2J\" shown={plain}"));
        assert_eq!(
            (first["PRIORITY"].as_str(), first["TARGET"].as_str(), first["SYSLOG_IDENTIFIER"].as_str()),
            ("4", "audit", "qy-lty")
        );
        assert_eq!((first["QY_LTY_USER"].as_str(), first["QY_LTY_SAID"].as_str()), ("5", "a\nPRIORITY=0\u{1b}[2J"));
        assert_eq!(first.len(), 8);
        assert_eq!((second["MESSAGE"].as_str(), second["PRIORITY"].as_str()), (format!("gone: {plain} conn=7").as_str(), "6"));
        assert!(third["MESSAGE"].starts_with("long long=\"é") && third["MESSAGE"].len() <= CUT_MESSAGE_BYTES && third.len() == 4);
        assert_eq!((fourth["QY_LTY_PATH"].as_str(), fourth["PRIORITY"].as_str(), fourth.len()), (bad, "6", 5));
    }

    #[test]
    fn span_fields_are_fields_of_the_entry_unless_the_event_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        logged(Journal::at(&path).unwrap(), || {
            let span = tracing::info_span!("conn", conn = 7, user = tracing::field::Empty, kind = "span").entered();
            span.record("user", 3);
            tracing::info!(kind = "event", "done");
        });
        let mut buffer = vec![0; 1 << 16];
        assert_eq!(journal.recv(&mut buffer).unwrap(), 0);
        let length = journal.recv(&mut buffer).unwrap();
        let entry = read(&buffer[..length]);
        assert_eq!(entry["MESSAGE"], "done conn=7 user=3 kind=\"event\"");
        let fields = ["QY_LTY_CONN", "QY_LTY_USER", "QY_LTY_KIND"].map(|name| entry[name].as_str());
        assert_eq!((fields, entry.len()), (["7", "3", "event"], 7));
    }

    #[test]
    fn journal_that_accepts_nothing_delays_one_entry_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::at(&path).unwrap();
        let began = std::time::Instant::now();
        for _ in 0..5000 {
            journal.send(b"MESSAGE=x\n"); // more than any queue holds
        }
        let lost = journal.lost.load(Ordering::Relaxed);
        assert!(lost > 0 && began.elapsed() < 50 * SEND_TIMEOUT, "{lost} lost in {:?}", began.elapsed());
        listener.set_nonblocking(true).unwrap();
        let mut buffer = [0; 1000];
        while listener.recv(&mut buffer).is_ok() {}
        journal.send(b"MESSAGE=again\n");
        assert!(listener.recv(&mut buffer).is_ok());
        let length = listener.recv(&mut buffer).unwrap();
        assert!(String::from_utf8_lossy(&buffer[..length]).starts_with(&format!("MESSAGE={lost} lines before")));
    }
}
