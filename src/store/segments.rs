//! The segments of sled's log, as far as they can be told apart without sled.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Result;
use super::engine::SEGMENT_BYTES;

/// The length of a segment's header: a checksum, the position of the segment in the log, the last stable one.
pub const HEADER_BYTES: usize = 20;

/// A segment that is, or was, in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Segment {
    /// The number of the first byte in the log: it grows with age.
    pub position: u64,
    /// The first byte in the file.
    pub at: u64,
    /// The header agrees with its checksum.
    pub sound: bool,
}

/// Returns the segments of a log, the oldest first; none where there is no log.
///
/// # Errors
/// If the disk fails.
pub fn segments(log: &Path) -> Result<Vec<Segment>> {
    let file = match File::open(log) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut found = Vec::new();
    for at in (0..file.metadata()?.len()).step_by(SEGMENT_BYTES) {
        let mut header = [0; HEADER_BYTES];
        let bytes = file.read_at(&mut header, at)?;
        if bytes == HEADER_BYTES && header != [0; HEADER_BYTES] {
            found.push(segment(header, at));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads a header.
fn segment(header: [u8; HEADER_BYTES], at: u64) -> Segment {
    let (sum, rest) = header.split_at(4);
    let position = rest[..8].try_into().map_or(0, u64::from_le_bytes) ^ (u64::MAX >> 1);
    // sled inverts the checksum, so that zeros are no header.
    let sound = sum.try_into().is_ok_and(|sum| !u32::from_le_bytes(sum) == crc32fast::hash(rest));
    Segment { position, at, sound }
}

/// Returns a header for the segment at `position` of the log.
pub fn header(position: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let number = position ^ (u64::MAX >> 1);
    header[4..12].copy_from_slice(&number.to_le_bytes());
    header[12..].copy_from_slice(&number.to_le_bytes()); // the last stable one: not beyond this
    let sum = !crc32fast::hash(&header[4..]);
    header[..4].copy_from_slice(&sum.to_le_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_sled_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("store/db");
        assert_eq!(segments(&log).unwrap(), []);
        assert_eq!(segment(header(7 << 20), 5), Segment { position: 7 << 20, at: 5, sound: true });
        let store = crate::store::Store::open(&dir.path().join("store")).unwrap();
        for n in 0..1000 {
            store.trees().observations.tree().insert(format!("{n}"), vec![b'x'; 4000]).unwrap();
        }
        store.close().unwrap();
        let found = segments(&log).unwrap();
        assert!(found.len() > 3 && found.iter().all(|segment| segment.sound), "{found:?}");
        assert!(found.is_sorted_by(|a, b| a.position + SEGMENT_BYTES as u64 <= b.position), "{found:?}");
        let mut bytes = std::fs::read(&log).unwrap();
        bytes[7] ^= 1;
        std::fs::write(&log, bytes).unwrap();
        assert_eq!(segments(&log).unwrap().iter().filter(|segment| !segment.sound).count(), 1);
    }
}
