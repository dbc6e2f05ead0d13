//! Files of Django's `dumpdata`: a JSON array of records, or one record a line, perhaps compressed with gzip.
//!
//! Read record by record: what is held in memory is one of them, however long the file is.

use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::rc::Rc;

use anyhow::{Context, anyhow, bail};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::{Deserializer, Map, Value};

/// The longest file that is read, in bytes, unpacked.
const MAX_FILE_BYTES: u64 = 4 << 30;
/// The longest record that is read, in bytes, with a buffer's tolerance.
const MAX_RECORD_BYTES: u64 = 8 << 20;

/// The beginning of a file that gzip has made.
const GZIP: &[u8] = &[0x1f, 0x8b];
/// The mark that some editors put in front of UTF-8.
const UTF8_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

/// A record.
#[derive(Debug, Deserialize)]
#[serde(expecting = "a record with model, pk and fields")]
pub(super) struct Record {
    /// Its position in the file, from 1.
    #[serde(skip)]
    pub(super) row: u64,
    /// Application and model, in small letters: `auth.user`.
    pub(super) model: String,
    /// Its key; null with `--natural-primary`.
    #[serde(default)]
    pub(super) pk: Value,
    /// Its fields by name.
    pub(super) fields: Map<String, Value>,
}

/// Counts what is read, and ends the reading at the limits.
struct Bounded<R> {
    source: R,
    file: u64,
    record: Rc<Cell<u64>>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.file += read as u64;
        self.record.set(self.record.get() + read as u64);
        if self.file > MAX_FILE_BYTES {
            return Err(io::Error::other(format!(
                "it is longer than {MAX_FILE_BYTES} bytes; pass the names of the models to dumpdata, such as auth.user"
            )));
        }
        if self.record.get() > MAX_RECORD_BYTES {
            return Err(io::Error::other(format!("a record is longer than {MAX_RECORD_BYTES} bytes")));
        }
        Ok(read)
    }
}

/// A source whose first bytes have been read, and stand in front of it again.
type Peeked<R> = Chain<Cursor<Vec<u8>>, R>;

/// Returns the first bytes of a source, and a source that has them still.
fn peek<R: Read>(mut source: R, count: u64) -> io::Result<(Vec<u8>, Peeked<R>)> {
    let mut start = Vec::new();
    source.by_ref().take(count).read_to_end(&mut start)?;
    Ok((start.clone(), Cursor::new(start).chain(source)))
}

/// Calls `each` with every record of a file, in order; returns their number.
///
/// # Errors
/// A file that can't be read or is none of Django's, and the errors of `each`.
pub(super) fn read(source: impl Read, each: impl FnMut(Record) -> anyhow::Result<()>) -> anyhow::Result<u64> {
    let (start, source) = peek(source, GZIP.len() as u64).context("failed to read the file")?;
    if start == GZIP { unpacked(MultiGzDecoder::new(source), each) } else { unpacked(source, each) }
}

fn unpacked(source: impl Read, mut each: impl FnMut(Record) -> anyhow::Result<()>) -> anyhow::Result<u64> {
    let (start, mut source) = peek(source, UTF8_MARK.len() as u64).context("failed to read the file")?;
    if start == UTF8_MARK {
        source = Cursor::new(Vec::new()).chain(source.into_inner().1);
    }
    let record = Rc::new(Cell::new(0));
    let mut source = BufReader::with_capacity(64 << 10, Bounded { source, file: 0, record: record.clone() });
    let first = first_character(&mut source)?;
    let mut number = 0;
    let mut next = |mut read: Record| {
        record.set(0);
        number += 1;
        read.row = number;
        read.model.make_ascii_lowercase();
        each(read)
    };
    match first {
        b'[' => {
            let mut all = Deserializer::from_reader(source);
            let mut failed = None;
            let outcome = all.deserialize_seq(Records { next: &mut next, failed: &mut failed });
            if let Some(error) = failed {
                return Err(error);
            }
            outcome.and_then(|()| all.end()).map_err(unreadable)?;
        }
        b'{' => {
            for read in Deserializer::from_reader(source).into_iter() {
                next(read.map_err(unreadable)?)?;
            }
        }
        _ => bail!("the file is not what `manage.py dumpdata` writes: it must begin with [ or {{"),
    }
    Ok(number)
}

/// Passes over blanks and returns the first character, which stays.
fn first_character(source: &mut impl BufRead) -> anyhow::Result<u8> {
    loop {
        let buffer = source.fill_buf().context("failed to read the file")?;
        match buffer.first() {
            None => bail!("the file is empty"),
            Some(0xff | 0xfe | 0) => {
                bail!("the file is not in UTF-8, as the shells of Windows write it; write it with `manage.py dumpdata -o FILE`")
            }
            Some(b' ' | b'\t' | b'\r' | b'\n') => source.consume(1),
            Some(&first) => return Ok(first),
        }
    }
}

/// Describes a file that ends too early, or has something else than records.
fn unreadable(error: serde_json::Error) -> anyhow::Error {
    if error.is_io() {
        anyhow!("failed to read the file: {error}")
    } else {
        // Python writes NaN and Infinity, too, which are no JSON: in other models, as good as always.
        anyhow!(
            "the file has something that is no JSON: {error}; where it is in other models, name only those of users, tokens and devices: \
             `manage.py dumpdata auth.user authtoken.token …`"
        )
    }
}

/// Takes the records out of an array.
struct Records<'a, F> {
    next: &'a mut F,
    failed: &'a mut Option<anyhow::Error>,
}

impl<'de, F: FnMut(Record) -> anyhow::Result<()>> Visitor<'de> for Records<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while let Some(read) = array.next_element::<Record>()? {
            if let Err(error) = (self.next)(read) {
                *self.failed = Some(error);
                return Err(serde::de::Error::custom("ended"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn models(bytes: &[u8]) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        let read = read(bytes, |record| {
            found.push(format!("{} {} {}", record.row, record.model, record.pk));
            Ok(())
        });
        read.map_err(|error| format!("{error:#}")).map(|number| {
            assert_eq!(number, found.len() as u64);
            found
        })
    }

    const ARRAY: &str =
        "\n[\n{\"model\": \"Auth.User\", \"pk\": 1, \"fields\": {}},\n{\"fields\": {\"x\": [1]}, \"model\": \"a.b\"}]\n";

    #[test]
    fn forms_of_dumpdata_are_read() {
        let expected = Ok(vec!["1 auth.user 1".to_owned(), "2 a.b null".to_owned()]);
        let lines = "{\"model\": \"auth.user\", \"pk\": 1, \"fields\": {}}\n{\"model\": \"a.b\", \"fields\": {}}\n";
        for text in [ARRAY, lines, &format!("\u{feff}{ARRAY}"), &format!("\u{feff}{lines}")] {
            assert_eq!(models(text.as_bytes()), expected, "{text}");
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(text.as_bytes()).unwrap();
            assert_eq!(models(&packed.finish().unwrap()), expected);
        }
        assert_eq!(models(b"[]"), Ok(vec![]));
    }

    #[test]
    fn other_files_are_refused_by_what_they_are() {
        let utf16: Vec<u8> = std::iter::once(0xfeff).chain(ARRAY.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        let cases: [(&[u8], &str); 8] = [
            (b"", "is empty"),
            (&utf16, "not in UTF-8"),
            (b"SQLite format 3", "must begin with ["),
            (b"[1]", "expected a record with model, pk and fields at line 1"),
            (&ARRAY.as_bytes()[..60], "EOF while parsing"),
            (b"[] x", "trailing characters"),
            (b"{\"users\": []}", "missing field `model`"),
            (b"\x1f\x8bnonsense", "failed to read"),
        ];
        for (bytes, expected) in cases {
            let error = models(bytes).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn record_without_end_is_refused_before_it_fills_the_memory() {
        let start = b"[{\"model\": \"a.b\", \"pk\": 1, \"fields\": {\"x\": \"".as_slice();
        let error = read(start.chain(io::repeat(b'x')), |_| Ok(())).unwrap_err();
        assert!(format!("{error:#}").contains("a record is longer than"), "{error:#}");
        let blanks = read(b"[".chain(io::repeat(b' ')), |_| Ok(())).unwrap_err();
        assert!(format!("{blanks:#}").contains("longer than"));
    }

    #[test]
    fn many_records_are_no_long_record() {
        let record = format!("{{\"model\": \"a.b\", \"pk\": 1, \"fields\": {{\"x\": \"{}\"}}}}\n", "x".repeat(1 << 20));
        let count = 20;
        assert_eq!(models(record.repeat(count).as_bytes()).map(|found| found.len()), Ok(count));
        let array = format!("[{}]", vec![record; count].join(","));
        assert_eq!(models(array.as_bytes()).map(|found| found.len()), Ok(count));
    }
}
