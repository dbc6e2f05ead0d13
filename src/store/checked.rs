//! Values with a checksum: in a short binary form, for records that are written often, and in JSON.

use super::{Result, StoreError};
use crate::core::hex::hex;

/// The layout byte and the checksum in front of a checked value.
const PREFIX_BYTES: usize = 1 + 4;
/// The layout byte of checked values.
const LAYOUT: u8 = 1;

/// Encodes a record in postcard's form behind a checksum.
///
/// # Errors
/// If it can't be encoded.
pub fn encode(record: &impl serde::Serialize) -> Result<Vec<u8>> {
    let bytes = postcard::to_extend(record, vec![0; PREFIX_BYTES]);
    let mut bytes = bytes.map_err(|error| StoreError::Unreadable(error.to_string()))?;
    let sum = crc32fast::hash(&bytes[PREFIX_BYTES..]);
    bytes[0] = LAYOUT;
    bytes[1..PREFIX_BYTES].copy_from_slice(&sum.to_be_bytes());
    Ok(bytes)
}

/// Decodes a record; `None` when `bytes` are none, or a damaged one.
pub fn decode<R: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<R> {
    let (prefix, body) = bytes.split_at_checked(PREFIX_BYTES)?;
    if prefix[0] != LAYOUT || prefix[1..] != crc32fast::hash(body).to_be_bytes() {
        return None;
    }
    match postcard::take_from_bytes(body) {
        Ok((record, [])) => Some(record),
        _ => None,
    }
}

/// The bytes of the checksum behind a record in JSON: a line break and eight hexadecimal digits.
const JSON_SUM_BYTES: usize = 1 + 8;

/// Encodes a record in JSON, with its CRC-32 behind it.
///
/// # Errors
/// If it can't be encoded.
pub fn encode_json(record: &impl serde::Serialize) -> Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(record).map_err(|error| StoreError::Unreadable(error.to_string()))?;
    let sum = crc32fast::hash(&bytes);
    bytes.push(b'\n');
    bytes.extend_from_slice(hex(&sum.to_be_bytes()).as_bytes());
    Ok(bytes)
}

/// Decodes a record in JSON; `None` when `bytes` are none, or a damaged one. Records of earlier versions have no checksum.
pub fn decode_json<R: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<R> {
    let json = match bytes.len().checked_sub(JSON_SUM_BYTES).map(|end| bytes.split_at(end)) {
        Some((json, [b'\n', sum @ ..])) => (hex(&crc32fast::hash(json).to_be_bytes()).as_bytes() == sum).then_some(json)?,
        _ => bytes,
    };
    serde_json::from_slice(json).ok()
}

/// Makes records values in a short binary form with a checksum, for those that are written often.
macro_rules! checked_values {
    ($($record:ty),*) => {$(
        impl $crate::store::table::Value for $record {
            fn encode(&self) -> $crate::store::Result<std::borrow::Cow<'_, [u8]>> {
                Ok($crate::store::checked::encode(self)?.into())
            }
            fn decode(bytes: &[u8]) -> Option<Self> {
                $crate::store::checked::decode(bytes)
            }
        }
    )*};
}

pub(super) use checked_values;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_checked_where_it_has_a_checksum() {
        let record = vec!["one".to_owned(), "two".to_owned()];
        let bytes = encode_json(&record).unwrap();
        assert_eq!(decode_json(&bytes), Some(record.clone()));
        assert_eq!(decode_json(&serde_json::to_vec(&record).unwrap()), Some(record), "of an earlier version");
        for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert_eq!(decode_json::<Vec<String>>(&damaged), None, "bit {bit} of byte {at}");
        }
        for end in 0..bytes.len() {
            let whole = end.wrapping_sub(bytes.len() - JSON_SUM_BYTES) <= 1; // as an earlier version wrote it
            assert_eq!(decode_json::<Vec<String>>(&bytes[..end]).is_some(), whole, "the first {end} bytes");
        }
    }
}
