//! Values in a short binary form behind a checksum, for records that are written often.

use super::{Result, StoreError};

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
