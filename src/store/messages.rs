//! The messages in a segment of sled's log, as far as they can be told apart without sled.
//!
//! sled stops at a message that does not agree with its checksum: what is behind it in the log, or in the segment, is gone. Here it is
//! looked for.

use super::segments::HEADER_BYTES as SEGMENT_HEADER_BYTES;

/// sled puts no message closer to the end of a segment.
const MAX_HEADER_BYTES: usize = 32;
/// The checksum and the kind.
const PREFIX_BYTES: usize = 5;
/// The kind of a message that is skipped.
const CANCELLED: u8 = 1;
/// The kind of the last message in a segment that is not full.
const CAP: u8 = 2;
/// All kinds but 0, which stands for damage.
const KINDS: std::ops::RangeInclusive<u8> = 1..=11;

/// A part of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its first byte in the segment.
    pub at: usize,
    /// The number of its bytes.
    pub length: usize,
    /// It is a whole message; else there is none in it, or a damaged one.
    pub is_message: bool,
}

/// A message that agrees with its checksum.
struct Message {
    length: usize,
    kind: u8,
}

/// Reads a number in sled's variable length.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    let (number, length) = match first {
        0..=240 => (first.into(), 0),
        241..=248 => (240 + 256 * (u64::from(first) - 241) + u64::from(*rest.first()?), 1),
        249 => (2288 + 256 * u64::from(*rest.first()?) + u64::from(*rest.get(1)?), 2),
        _ => {
            let length = usize::from(first) - 247;
            let mut number = [0; 8];
            number[..length].copy_from_slice(rest.get(..length)?);
            (u64::from_le_bytes(number), length)
        }
    };
    *bytes = &rest[length..];
    Some(number)
}

/// Returns a number in sled's variable length, in its shortest form for small ones.
fn short_number(number: u64) -> Vec<u8> {
    match u8::try_from(number) {
        Ok(byte @ 0..=240) => vec![byte],
        _ => long_number(number),
    }
}

/// Returns a number of at most seven bytes in sled's variable length.
fn long_number(number: u64) -> Vec<u8> {
    let mut bytes = vec![254];
    bytes.extend_from_slice(&number.to_le_bytes()[..7]);
    bytes
}

/// sled inverts the checksum.
fn checksum(header: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(body);
    hasher.update(header);
    !hasher.finalize()
}

/// Returns the message at the start of `bytes`, which is in segment `segment`, or in any where that is `None`; with that segment.
fn message(bytes: &[u8], segment: Option<u64>) -> Option<(Message, u64)> {
    let (prefix, mut rest) = bytes.split_at_checked(PREFIX_BYTES)?;
    let (sum, kind) = (prefix[..4].try_into().map(u32::from_le_bytes).ok()?, prefix[4]);
    if !KINDS.contains(&kind) {
        return None;
    }
    let (length, of, _page) = (number(&mut rest)?, number(&mut rest)?, number(&mut rest)?);
    if segment.is_some_and(|segment| segment != of) {
        return None;
    }
    let header = bytes.len() - rest.len();
    let length = header.checked_add(usize::try_from(length).ok()?)?;
    let body = bytes.get(header..length)?;
    (sum == checksum(&bytes[4..header], body)).then_some((Message { length, kind }, of))
}

/// Returns the number of the segment in `bytes` by its messages; `None` where there are none.
pub fn segment_number(bytes: &[u8]) -> Option<u64> {
    messages_in(bytes.get(SEGMENT_HEADER_BYTES..)?).next()
}

/// Looks for whole messages in `bytes`; returns the numbers of their segments.
pub fn messages_in(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let last = bytes.len().saturating_sub(MAX_HEADER_BYTES);
        let starts = std::iter::successors(possible_start(bytes, at), |&at| possible_start(bytes, at + 1));
        let message = |at: usize| Some((at, message(&bytes[at..], None)?));
        let (found, (message, number)) = starts.take_while(|&at| at < last).find_map(message)?;
        at = found + message.length;
        Some(number)
    })
}

/// Returns the first place from `at` on at which a message may start, by its kind.
fn possible_start(bytes: &[u8], at: usize) -> Option<usize> {
    /// Looked through at once: what has never been written is zeros.
    const ZEROS: [u8; 256] = [0; 256];
    let kinds = bytes.get(at + PREFIX_BYTES - 1..)?;
    let skipped = kinds.chunks_exact(ZEROS.len()).take_while(|chunk| **chunk == ZEROS).count() * ZEROS.len();
    let found = kinds[skipped..].iter().position(|kind| KINDS.contains(kind))?;
    Some(at + skipped + found)
}

/// Splits segment `number` into its messages and what is between them. The last part is no message where the segment does not end as
/// sled ends one: where the log ends, or its last message is damaged.
pub fn parts(bytes: &[u8], number: u64) -> Vec<Part> {
    let (mut parts, mut at) = (Vec::new(), SEGMENT_HEADER_BYTES);
    let last = bytes.len().saturating_sub(MAX_HEADER_BYTES);
    while at <= last {
        if let Some((Message { length, kind }, _)) = message(&bytes[at..], Some(number)) {
            parts.push(Part { at, length, is_message: true });
            if kind == CAP {
                break;
            }
            at += length;
            continue;
        }
        let starts = std::iter::successors(possible_start(bytes, at + 1), |&at| possible_start(bytes, at + 1));
        let next = starts.take_while(|&at| at <= last).find(|&at| message(&bytes[at..], Some(number)).is_some());
        let end = next.unwrap_or(bytes.len());
        parts.push(Part { at, length: end - at, is_message: false });
        at = end;
    }
    parts
}

/// Returns a damaged message with a checksum that it agrees with; `None` where it is not all of `bytes`, or of another segment.
pub fn accepted(bytes: &[u8], number: u64) -> Option<Vec<u8>> {
    let mut rest = bytes.get(PREFIX_BYTES..)?;
    let (length, of, _page) = (self::number(&mut rest)?, self::number(&mut rest)?, self::number(&mut rest)?);
    let header = bytes.len() - rest.len();
    if !KINDS.contains(&bytes[4]) || of != number || length != rest.len() as u64 {
        return None;
    }
    let sum = checksum(&bytes[4..header], rest);
    Some([&sum.to_le_bytes(), &bytes[4..]].concat())
}

/// Returns a message of `length` bytes for segment `number` that sled skips; `None` where that is too short for one.
pub fn skipped(length: usize, number: u64) -> Option<Vec<u8>> {
    let (number, page) = (short_number(number), short_number(0));
    let header = |body: usize, encode: fn(u64) -> Vec<u8>| [&[CANCELLED], &*encode(body as u64), &number, &page].concat();
    let fits = |body: usize, encode| (body + 4 + header(body, encode).len() == length).then(|| header(body, encode));
    let lengths = length.saturating_sub(64)..length;
    let (body, header) = lengths.into_iter().find_map(|body| {
        let header = fits(body, short_number).or_else(|| fits(body, long_number))?;
        Some((vec![0; body], header))
    })?;
    Some([&checksum(&header, &body).to_le_bytes(), &*header, &body].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::engine::SEGMENT_BYTES;

    #[test]
    fn skipped_message_has_any_length() {
        for number in [0, 7, 240, 241, 70_000, 1 << 40] {
            let least = (1..99).find(|&length| skipped(length, number).is_some()).unwrap();
            assert!(least <= 16);
            for length in (least..600).chain([4096, 100_000, SEGMENT_BYTES - 20]) {
                let bytes = skipped(length, number).unwrap();
                assert_eq!(bytes.len(), length);
                let (found, of) = message(&bytes, Some(number)).unwrap();
                assert_eq!((found.length, found.kind, of), (length, CANCELLED, number));
                assert!(message(&bytes, Some(number + 1)).is_none());
                let mut damaged = bytes.clone();
                damaged[length - 1] ^= 1;
                assert!(message(&damaged, Some(number)).is_none());
                match accepted(&damaged, number) {
                    Some(accepted) => assert!(message(&accepted, Some(number)).is_some()),
                    None => assert!(length < 20, "the flipped bit is in the header"),
                }
                assert!(accepted(&damaged, number + 1).is_none() && accepted(&damaged[..length - 1], number).is_none());
            }
        }
    }

    #[test]
    fn parts_of_a_segment_are_told_apart() {
        let mut segment = vec![0; SEGMENT_HEADER_BYTES];
        for length in [100, 40, 300, 25] {
            segment.extend(skipped(length, 9).unwrap());
        }
        segment.resize(2000, 0);
        let whole = parts(&segment, 9);
        let lengths: Vec<_> = whole.iter().map(|part| (part.length, part.is_message)).collect();
        assert_eq!(lengths, [(100, true), (40, true), (300, true), (25, true), (2000 - 20 - 465, false)]);
        assert_eq!((segment_number(&segment), parts(&segment, 8).len()), (Some(9), 1));
        for (n, part) in whole[..3].iter().enumerate() {
            for at in 0..part.length {
                let mut damaged = segment.clone();
                damaged[part.at + at] ^= 0x10;
                let found = parts(&damaged, 9);
                assert_eq!(found.len(), 5);
                for (m, (found, whole)) in found.iter().zip(&whole).enumerate() {
                    assert_eq!(*found, Part { is_message: whole.is_message && m != n, ..*whole });
                }
            }
        }
        assert_eq!(parts(&[], 0), []);
    }
}
