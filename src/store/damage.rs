//! Damage in the middle of sled's log.
//!
//! sled takes a damaged message behind its newest summary for the end of its log, or of that segment, and writes over what follows. So it
//! must be looked for before sled opens the log. What a crash has cut off looks the same: the number of commits in what follows tells
//! them apart, and remains of what was in a segment before.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Result;
use super::commit_note::{self, Noted};
use super::engine::{SEGMENT_BYTES, summaries};
use super::messages::{Part, accepted, messages_in, parts, segment_number, skipped};
use super::segments::{Segment, header, segments};
use super::tally;

/// A segment in memory.
struct Loaded {
    /// Its number in the log.
    number: u64,
    /// Its first byte in the file.
    at: u64,
    bytes: Vec<u8>,
}

impl Loaded {
    fn read(log: &File, number: u64, at: u64) -> Result<Self> {
        let mut bytes = vec![0; SEGMENT_BYTES];
        let mut length = 0;
        while length < bytes.len() {
            match log.read_at(&mut bytes[length..], at + length as u64)? {
                0 => break,
                read => length += read,
            }
        }
        bytes.truncate(length);
        Ok(Self { number, at, bytes })
    }

    /// Returns whether a part has messages of another segment: sled has begun to use this one again, and a crash has cut that off. Everything
    /// that was in it is elsewhere by then.
    fn is_reused(&self, part: Part) -> bool {
        let bytes = &self.bytes[part.at..part.at + part.length];
        messages_in(bytes).any(|number| number != self.number)
    }

    /// Returns the parts, and whether each is damaged: what is no message at the end of the `newest` segment is the end of the log.
    fn parts(&self, newest: bool) -> impl Iterator<Item = (Part, bool)> + use<> {
        let (parts, end) = (parts(&self.bytes, self.number), self.bytes.len());
        parts.into_iter().map(move |part| (part, !(part.is_message || newest && part.at + part.length == end)))
    }
}

/// Returns the number of a segment; that of a segment with a damaged header is told by its messages.
fn number(log: &File, segment: &Segment) -> Result<Option<u64>> {
    if segment.sound {
        return Ok(Some(segment.position / SEGMENT_BYTES as u64));
    }
    Ok(segment_number(&Loaded::read(log, 0, segment.at)?.bytes))
}

/// Returns the numbers and the first bytes of all segments, the oldest first, and whether each has a sound header. Of two with one number,
/// a sound one counts.
fn numbered(path: &Path, log: &File) -> Result<Vec<(u64, u64, bool)>> {
    let mut found = Vec::new();
    for segment in segments(path)? {
        found.extend(number(log, &segment)?.map(|number| (number, !segment.sound, segment.at)));
    }
    found.sort_unstable();
    found.dedup_by_key(|(number, ..)| *number);
    Ok(found.into_iter().map(|(number, unsound, at)| (number, at, !unsound)).collect())
}

/// Returns the position in the log up to which sled has summarised it.
fn summarised(path: &Path) -> u64 {
    summaries(path).iter().filter_map(|name| u64::from_str_radix(name.strip_prefix("snap.")?, 16).ok()).max().unwrap_or(0)
}

/// Returns the bytes of the segments that are behind sled's summary of the log of the store at `path`.
///
/// # Errors
/// If the disk fails.
pub fn bytes_behind_summary(path: &Path) -> Result<u64> {
    let (summarised, size) = (summarised(path), SEGMENT_BYTES as u64);
    let behind = segments(&path.join("db"))?.into_iter().filter(|segment| segment.sound && segment.position + size > summarised);
    Ok(behind.count() as u64 * size)
}

/// Returns whether the log of the store at `path` is damaged in front of commits that were on the disk. Reads what is behind its summary.
///
/// # Errors
/// If the disk fails.
pub fn is_in_front_of_commits(path: &Path) -> Result<bool> {
    let (Some(noted), Ok(log)) = (commit_note::read(path), File::open(path.join("db"))) else { return Ok(false) };
    let summarised = summarised(path);
    let segments = numbered(&path.join("db"), &log)?;
    let tail = segments.iter().filter(|(number, ..)| (number + 1) * SEGMENT_BYTES as u64 > summarised);
    let (newest, mut damaged) = (segments.last().map(|(number, ..)| *number), false);
    for &(number, at, sound) in tail {
        let segment = Loaded::read(&log, number, at)?;
        damaged |= !sound;
        // All of it, also what is summarised: sled begins to read at the start of a segment.
        for (part, is_damaged) in segment.parts(Some(number) == newest) {
            damaged |= is_damaged && !segment.is_reused(part);
            let message = &segment.bytes[part.at..part.at + part.length];
            if damaged && part.is_message && tally::commits_in(message).is_some_and(|commits| was_on_disk(commits, noted)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Returns whether everything up to the end of that commit was on the disk. The newest one may be told again by a later write that a crash
/// has cut off.
fn was_on_disk(commits: u64, noted: Noted) -> bool {
    commits < noted.commits || noted.closed && commits == noted.commits
}

/// What becomes of a damaged message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// sled skips it: its page is as it was before.
    Skip,
    /// sled reads it as it is, where its head is whole: the damaged bytes are in some record.
    Accept,
}

/// Makes sled go on behind what is damaged in a log. Returns the number of damaged parts.
///
/// # Errors
/// If the disk fails.
pub fn treat(path: &Path, treatment: Treatment) -> Result<usize> {
    let log = File::options().read(true).write(true).open(path)?;
    let (segments, mut count) = (numbered(path, &log)?, 0);
    let newest = segments.last().map(|(number, ..)| *number);
    for (number, at, sound) in segments {
        if !sound {
            log.write_all_at(&header(number * SEGMENT_BYTES as u64), at)?;
            count += 1;
        }
        let segment = Loaded::read(&log, number, at)?;
        for (part, _) in segment.parts(Some(number) == newest).filter(|(_, is_damaged)| *is_damaged) {
            let damaged = &segment.bytes[part.at..part.at + part.length];
            let accepted = (treatment == Treatment::Accept).then(|| accepted(damaged, number)).flatten();
            if let Some(message) = accepted.or_else(|| skipped(part.length, number)) {
                log.write_all_at(&message, segment.at + part.at as u64)?;
                count += 1;
            }
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::MessageId;
    use crate::store::Store;
    use crate::store::segments::HEADER_BYTES;
    use std::fs;

    #[tokio::test]
    async fn segment_in_use_again_is_no_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Store::open(&path).unwrap();
        for id in 1..=300 {
            store.writer().run(move |trees| trees.blocks.insert_bytes(&MessageId(id), vec![b'x'; 9000])).await.unwrap();
        }
        // What a crash would leave: no summary is written.
        let log = path.join("db");
        let whole = fs::read(&log).unwrap();
        let found = segments(&log).unwrap();
        assert!(found.len() > 3, "{found:?}");
        let (older, newer) = (found[1].at as usize + HEADER_BYTES, found[2].at as usize + HEADER_BYTES);
        for length in [16, 100_000, SEGMENT_BYTES / 2] {
            let with = |bytes: &[u8]| {
                let mut changed = whole.clone();
                changed[older..older + length].copy_from_slice(bytes);
                fs::write(&log, changed).unwrap();
                is_in_front_of_commits(&path).unwrap()
            };
            assert!(!with(&whole[older..older + length]));
            assert!(with(&vec![0; length]), "{length} bytes are lost");
            // At least one whole message of the segment that it is to become; none is as short as a header.
            assert_eq!(with(&whole[newer..newer + length]), length < 100, "{length} bytes are those of another segment");
        }
        fs::write(&log, whole).unwrap();
        store.close().unwrap();
    }
}
