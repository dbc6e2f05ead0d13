//! The bodies of requests, read within their share of memory.

use bytes::Bytes;
use futures_util::StreamExt;
use salvo::http::ReqBody;

use crate::admission::bodies::{BodyMemory, FREE_BYTES};
use crate::http::error::ApiError;

/// A body with its part of the memory.
struct Held {
    bytes: Vec<u8>,
    _memory: BodyMemory,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a body of at most `max` bytes, of which `length` were announced. What arrives is copied: the pieces of a connection's buffer would
/// keep all of it. The part of the memory that `begin` gives a body of more than [`FREE_BYTES`] is returned when the body is dropped.
///
/// # Errors
/// [`ApiError::TooLarge`]; [`ApiError::BodyTooSlow`] where it had to give way to others; [`ApiError::InvalidJson`] where it broke off.
pub async fn read(
    mut body: ReqBody,
    length: Option<usize>,
    max: usize,
    begin: impl FnOnce() -> BodyMemory,
) -> Result<Bytes, ApiError> {
    let (mut bytes, mut memory, mut begin) = (Vec::new(), None::<BodyMemory>, Some(begin));
    loop {
        let given_up = async {
            match &memory {
                Some(memory) => memory.given_up().await,
                None => std::future::pending().await,
            }
        };
        let piece = tokio::select! {
            biased;
            () = given_up => return Err(ApiError::BodyTooSlow),
            piece = body.next() => piece,
        };
        let Some(piece) = piece else { break };
        let piece = piece.map_err(|error| ApiError::InvalidJson(format!("body could not be read: {error}")))?;
        let Ok(piece) = piece.into_data() else { continue };
        let needed = bytes.len() + piece.len();
        if needed > max {
            return Err(ApiError::TooLarge(max));
        }
        let before = bytes.capacity();
        if needed > before {
            // Twice as much each time, but never more than was announced: nobody reserves what they have not sent.
            let capacity = needed.max((2 * before).min(length.unwrap_or(max)).min(max));
            let counted = |capacity: usize| capacity.saturating_sub(FREE_BYTES);
            let more = counted(capacity) - counted(before);
            if more > 0 {
                memory = memory.or_else(|| begin.take().map(|begin| begin()));
            }
            if let Some(memory) = memory.as_ref().filter(|_| more > 0) {
                memory.grow(more).await.map_err(|_| ApiError::BodyTooSlow)?;
            }
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&piece);
    }
    let Some(memory) = memory else { return Ok(bytes.into()) };
    memory.arrived().map_err(|_| ApiError::BodyTooSlow)?;
    Ok(Bytes::from_owner(Held { bytes, _memory: memory }))
}
