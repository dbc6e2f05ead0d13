//! The format of a backup file.
//!
//! A gzip stream of: one line of JSON ([`Header`]), then records, then an end with the number of records and the SHA-256 of
//! everything before it. A record is a letter and its fields, lengths being big-endian:
//!
//! | letter | then |
//! | --- | --- |
//! | `p` put | tree (1 byte: its index in the header's list), key length (4), value length (4), key, value |
//! | `r` remove | tree, key length (4), key |
//! | `f` file | name length (4), length (4), name, content: a file beside the store that belongs to it |
//! | `e` end | number of records (8), SHA-256 (32) |
//!
//! Read in order, later records win: a backup of a running server holds a scan and then what changed during it.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::core::disk::Explained;
use crate::core::time::Timestamp;
use crate::store::trees::Trees;
use crate::store::{Severity, StoreError};

/// The version of this format.
const FORMAT: u64 = 1;
/// The longest header line, in bytes: bounds the allocation that a damaged length can cause, as the next two do.
const MAX_HEADER_BYTES: u64 = 64 << 10;
/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 64 << 10;
/// The longest value or file, in bytes.
const MAX_VALUE_BYTES: usize = 1 << 20;

/// An error of a backup or a restore. Prints as one plain sentence.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file can't be read or written.
    #[error("{}", Explained(.0))]
    Io(#[from] io::Error),
    /// The file is something else.
    #[error("this is not a backup of qy-lty")]
    NotABackup,
    /// A later version made it.
    #[error("the backup was made by a newer version of qy-lty ({0})")]
    Newer(String),
    /// The content differs from what was written.
    #[error("the backup is damaged: {0}; nothing was restored")]
    Damaged(&'static str),
    /// The target directory is not empty.
    #[error("{0} is not empty: a backup is restored into an empty data directory only")]
    NotEmpty(std::path::PathBuf),
    /// More changed while the backup was made than there is space to keep.
    #[error("too much changed while the backup was made; try again when the server is less busy")]
    TooMuchChanged,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Severity for BackupError {
    fn fatal(&self) -> bool {
        matches!(self, Self::Store(error) if error.fatal())
    }
}

impl From<sled::Error> for BackupError {
    fn from(error: sled::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The header of a backup, its first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of the format.
    #[serde(rename = "qy-lty-backup")]
    pub format: u64,
    /// The layout of the records.
    pub schema: u64,
    /// The version of the program that made it.
    pub version: String,
    /// The epoch of the store.
    pub epoch: String,
    /// The time at which it began.
    pub created_at: Timestamp,
    /// The names of the trees that its records belong to.
    pub trees: Vec<String>,
}

impl Header {
    /// Returns the header of a backup that begins now.
    pub fn new(schema: u64, epoch: &str) -> Self {
        Self::of_trees(schema, epoch, Trees::NAMES)
    }

    /// Returns the header of a backup of these trees that begins now.
    pub fn of_trees(schema: u64, epoch: &str, trees: &[&str]) -> Self {
        Self {
            format: FORMAT,
            schema,
            version: env!("CARGO_PKG_VERSION").into(),
            epoch: epoch.into(),
            created_at: Timestamp::now(),
            trees: trees.iter().map(|&name| name.into()).collect(),
        }
    }
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The key has this value.
    Put { tree: u8, key: Vec<u8>, value: Vec<u8> },
    /// The key has none.
    Remove { tree: u8, key: Vec<u8> },
    /// A file beside the store.
    File { name: String, content: Vec<u8> },
}

/// An amount of records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Records.
    pub records: u64,
    /// Bytes, before compression.
    pub bytes: u64,
}

/// A writer of backup files.
pub struct DumpWriter<W: Write> {
    out: GzEncoder<W>,
    digest: Sha256,
    amount: Amount,
}

impl<W: Write> DumpWriter<W> {
    /// Starts a file with its header.
    ///
    /// # Errors
    /// An error of `sink`.
    pub fn begin(sink: W, header: &Header) -> io::Result<Self> {
        let out = GzEncoder::new(sink, Compression::fast());
        let mut this = Self { out, digest: Sha256::new(), amount: Amount::default() };
        let mut line = serde_json::to_vec(header)?;
        line.push(b'\n');
        this.write(&line)?;
        Ok(this)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.digest.update(bytes);
        self.amount.bytes += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    /// Writes: `key` has `value`.
    ///
    /// # Errors
    /// An error of the sink.
    pub fn put(&mut self, tree: u8, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.amount.records += 1;
        self.write(&[b'p', tree])?;
        self.write(&length(key)?)?;
        self.write(&length(value)?)?;
        self.write(key)?;
        self.write(value)
    }

    /// Writes: `key` has no value.
    ///
    /// # Errors
    /// An error of the sink.
    pub fn remove(&mut self, tree: u8, key: &[u8]) -> io::Result<()> {
        self.amount.records += 1;
        self.write(&[b'r', tree])?;
        self.write(&length(key)?)?;
        self.write(key)
    }

    /// Writes a file beside the store.
    ///
    /// # Errors
    /// An error of the sink.
    pub fn file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.amount.records += 1;
        self.write(b"f")?;
        self.write(&length(name.as_bytes())?)?;
        self.write(&length(content)?)?;
        self.write(name.as_bytes())?;
        self.write(content)
    }

    /// Returns the bytes written, before compression.
    pub fn bytes(&self) -> u64 {
        self.amount.bytes
    }

    /// Writes the end.
    ///
    /// # Errors
    /// An error of the sink.
    pub fn finish(mut self) -> io::Result<(W, Amount)> {
        let count = self.amount.records.to_be_bytes();
        self.write(b"e")?;
        self.write(&count)?;
        let digest = self.digest.finalize();
        self.out.write_all(&digest)?;
        let mut sink = self.out.finish()?;
        sink.flush()?;
        Ok((sink, self.amount))
    }
}

fn length(bytes: &[u8]) -> io::Result<[u8; 4]> {
    u32::try_from(bytes.len()).map(u32::to_be_bytes).map_err(io::Error::other)
}

/// A reader of backup files.
pub struct DumpReader<R: Read> {
    source: BufReader<MultiGzDecoder<R>>,
    digest: Sha256,
    amount: Amount,
    trees: u8,
}

impl<R: Read> DumpReader<R> {
    /// Reads the header, and refuses a file of a newer version.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn begin(source: R, schema: u64) -> Result<(Self, Header), BackupError> {
        let mut source = BufReader::new(MultiGzDecoder::new(source));
        let mut line = Vec::new();
        let read = source.by_ref().take(MAX_HEADER_BYTES).read_until(b'\n', &mut line);
        let header: serde_json::Value =
            read.ok().and_then(|_| serde_json::from_slice(&line).ok()).ok_or(BackupError::NotABackup)?;
        let number = |name: &str| header.get(name).and_then(serde_json::Value::as_u64);
        let format = number("qy-lty-backup").ok_or(BackupError::NotABackup)?;
        if format > FORMAT || number("schema").is_none_or(|found| found > schema) {
            let version = header.get("version").and_then(serde_json::Value::as_str).unwrap_or("unknown");
            return Err(BackupError::Newer(version.chars().filter(|c| c.is_ascii_graphic()).take(40).collect()));
        }
        let header: Header = serde_json::from_value(header).map_err(|_| BackupError::Damaged("its header can't be read"))?;
        let known = |name: &String| Trees::all_names().any(|known| known == name);
        let named: BTreeSet<&String> = header.trees.iter().collect();
        if !header.trees.iter().all(known) || named.len() < header.trees.len() || header.schema == 0 {
            return Err(BackupError::Damaged("its header is inconsistent"));
        }
        let digest = Sha256::new_with_prefix(&line);
        let trees = u8::try_from(header.trees.len()).map_err(|_| BackupError::Damaged("it names too many trees"))?;
        Ok((Self { source, digest, amount: Amount { records: 0, bytes: line.len() as u64 }, trees }, header))
    }

    /// Returns the next record; `None` behind the last one, once the end has been checked.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn next(&mut self) -> Result<Option<Record>, BackupError> {
        let [letter] = self.bytes()?;
        let record = match letter {
            b'p' => {
                let tree = self.tree()?;
                let (key, value) = (self.length(MAX_KEY_BYTES)?, self.length(MAX_VALUE_BYTES)?);
                Record::Put { tree, key: self.read(key)?, value: self.read(value)? }
            }
            b'r' => {
                let tree = self.tree()?;
                let key = self.length(MAX_KEY_BYTES)?;
                Record::Remove { tree, key: self.read(key)? }
            }
            b'f' => {
                let (name, content) = (self.length(MAX_KEY_BYTES)?, self.length(MAX_VALUE_BYTES)?);
                let name =
                    String::from_utf8(self.read(name)?).map_err(|_| BackupError::Damaged("a file's name can't be read"))?;
                Record::File { name, content: self.read(content)? }
            }
            b'e' => {
                self.end()?;
                return Ok(None);
            }
            _ => return Err(BackupError::Damaged("a record can't be read")),
        };
        self.amount.records += 1;
        Ok(Some(record))
    }

    /// Returns the amount read.
    pub fn amount(&self) -> Amount {
        self.amount
    }

    fn end(&mut self) -> Result<(), BackupError> {
        if u64::from_be_bytes(self.bytes()?) != self.amount.records {
            return Err(BackupError::Damaged("records are missing"));
        }
        let (is, amount): ([u8; 32], Amount) = (self.digest.clone().finalize().into(), self.amount);
        if self.bytes()? != is {
            return Err(BackupError::Damaged("its checksum is wrong"));
        }
        self.amount = amount; // the checksum does not cover itself
        // Only the end of the stream makes the decoder check its own checksum, and notice bytes that follow.
        match self.source.read(&mut [0]) {
            Ok(0) => Ok(()),
            _ => Err(BackupError::Damaged("its end is followed by other bytes")),
        }
    }

    fn tree(&mut self) -> Result<u8, BackupError> {
        let [tree] = self.bytes()?;
        if tree < self.trees { Ok(tree) } else { Err(BackupError::Damaged("a record names no tree")) }
    }

    fn length(&mut self, most: usize) -> Result<usize, BackupError> {
        let length = u32::from_be_bytes(self.bytes()?) as usize;
        if length <= most { Ok(length) } else { Err(BackupError::Damaged("a record is too long")) }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], BackupError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn read(&mut self, length: usize) -> Result<Vec<u8>, BackupError> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), BackupError> {
        self.source.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => BackupError::Damaged("it ends in the middle"),
            // The decoder's errors for bytes that are no gzip stream.
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => BackupError::Damaged("it can't be unpacked"),
            _ => BackupError::Io(error),
        })?;
        self.digest.update(&*bytes);
        self.amount.bytes += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(records: &[Record]) -> Vec<u8> {
        let mut dump = DumpWriter::begin(Vec::new(), &Header::new(2, "e")).unwrap();
        for record in records {
            match record {
                Record::Put { tree, key, value } => dump.put(*tree, key, value).unwrap(),
                Record::Remove { tree, key } => dump.remove(*tree, key).unwrap(),
                Record::File { name, content } => dump.file(name, content).unwrap(),
            }
        }
        dump.finish().unwrap().0
    }

    fn read(bytes: &[u8]) -> Result<Vec<Record>, BackupError> {
        let (mut dump, _) = DumpReader::begin(bytes, 2)?;
        std::iter::from_fn(|| dump.next().transpose()).collect()
    }

    fn some() -> Vec<Record> {
        let put = |n: u8| Record::Put { tree: n % 3, key: vec![n; 9], value: vec![n; 300] };
        let mut all: Vec<Record> = (0..40).map(put).collect();
        all.push(Record::Remove { tree: 1, key: vec![7] });
        all.push(Record::File { name: "tls/cert.pem".into(), content: b"x".to_vec() });
        all
    }

    #[test]
    fn records_are_read_as_written() {
        assert_eq!(read(&written(&some())).unwrap(), some());
        assert_eq!(read(&written(&[])).unwrap(), []);
    }

    #[test]
    fn bytes_after_the_end_are_refused() {
        for more in [vec![0], vec![7; 20], written(&[])] {
            let bytes = [written(&some()), more].concat();
            assert!(matches!(read(&bytes), Err(BackupError::Damaged(_))));
        }
    }

    #[test]
    fn foreign_and_newer_files_are_told_apart() {
        assert!(matches!(read(b"hello"), Err(BackupError::NotABackup)));
        assert!(matches!(read(&[]), Err(BackupError::NotABackup)));
        let newer = DumpWriter::begin(Vec::new(), &Header { schema: 3, version: "9.9".into(), ..Header::new(2, "e") });
        let newer = newer.unwrap().finish().unwrap().0;
        assert!(matches!(read(&newer), Err(BackupError::Newer(version)) if version == "9.9"));
    }

    proptest! {
        #[test]
        fn every_changed_byte_and_every_cut_is_noticed(at in 0usize..1_000_000, flip in 1u8..=255, cut: bool) {
            let mut bytes = written(&some());
            let at = at % bytes.len();
            // gzip's own header says nothing of the content: time, system and the like.
            prop_assume!(cut || at >= 10);
            if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
            // The last bits of a compressed stream mean nothing: a change there changes nothing.
            prop_assert!(read(&bytes).map_or(true, |found| !cut && found == some()));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = GzEncoder::new(Vec::new(), Compression::fast());
            let mut line = serde_json::to_vec(&Header::new(2, "e")).unwrap();
            line.push(b'\n');
            out.write_all(&line).unwrap();
            out.write_all(&bytes).unwrap();
            prop_assert!(read(&out.finish().unwrap()).is_err());
        }
    }
}
