//! The bodies of requests, read within their share of memory.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use salvo::http::ReqBody;

use crate::admission::bodies::{Bodies, BodyMemory, FREE_BYTES, Holder};
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
/// keep all of it. A body of more than [`FREE_BYTES`] waits for its part of `holder`'s memory, which is returned when the body is dropped.
///
/// # Errors
/// [`ApiError::TooLarge`]; [`ApiError::BodyTooSlow`] where it had to give way to others; [`ApiError::BrokenBody`] where it broke off.
pub async fn read(
    body: &mut ReqBody,
    length: Option<usize>,
    max: usize,
    bodies: &Arc<Bodies>,
    holder: &Holder,
) -> Result<Bytes, ApiError> {
    let mut bytes = Vec::new();
    while let Some(piece) = next(body).await? {
        let needed = bytes.len() + piece.len();
        if needed > FREE_BYTES {
            // Apart, so that the usual ones, which are short, do not carry the state that this needs.
            return Box::pin(read_long(body, (bytes, piece), length, max, (bodies, holder))).await;
        }
        append(&mut bytes, &piece, length, max)?;
    }
    Ok(bytes.into())
}

/// Reads a body whose beginning has arrived, with the first bytes beyond [`FREE_BYTES`].
async fn read_long(
    body: &mut ReqBody,
    (mut bytes, piece): (Vec<u8>, Bytes),
    length: Option<usize>,
    max: usize,
    (bodies, holder): (&Arc<Bodies>, &Holder),
) -> Result<Bytes, ApiError> {
    let needed = bytes.len() + piece.len();
    if needed > max {
        return Err(ApiError::TooLarge(max));
    }
    let memory = bodies.reserve(holder, length.unwrap_or(max).clamp(needed, max)).await;
    let mut arrived = Some(piece);
    while let Some(piece) = arrived {
        append(&mut bytes, &piece, length, max)?;
        drop(piece);
        arrived = tokio::select! {
            biased;
            () = memory.given_up() => return Err(ApiError::BodyTooSlow),
            piece = next(body) => piece?,
        };
    }
    if memory.arrived() { Ok(Bytes::from_owner(Held { bytes, _memory: memory })) } else { Err(ApiError::BodyTooSlow) }
}

/// Returns the next piece of a body; `None` at its end.
async fn next(body: &mut ReqBody) -> Result<Option<Bytes>, ApiError> {
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| ApiError::BrokenBody(error.to_string()))?;
        if let Ok(piece) = piece.into_data() {
            return Ok(Some(piece));
        }
    }
    Ok(None)
}

/// Adds a piece to a body of at most `max` bytes, of which `length` were announced.
fn append(bytes: &mut Vec<u8>, piece: &[u8], length: Option<usize>, max: usize) -> Result<(), ApiError> {
    let needed = bytes.len() + piece.len();
    if needed > max {
        return Err(ApiError::TooLarge(max));
    }
    if needed > bytes.capacity() {
        // Twice as much each time, but never more than was announced.
        let capacity = (2 * bytes.capacity()).clamp(needed, length.unwrap_or(max).clamp(needed, max));
        bytes.reserve_exact(capacity - bytes.len());
    }
    bytes.extend_from_slice(piece);
    Ok(())
}
