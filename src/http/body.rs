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
/// [`ApiError::TooLarge`]; [`ApiError::BodyTooSlow`] where it had to give way to others; [`ApiError::InvalidJson`] where it broke off.
pub async fn read(
    mut body: ReqBody,
    length: Option<usize>,
    max: usize,
    bodies: &Arc<Bodies>,
    holder: &Holder,
) -> Result<Bytes, ApiError> {
    let (mut bytes, mut memory) = (Vec::new(), None::<BodyMemory>);
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
        let most = length.unwrap_or(max).clamp(needed, max);
        if memory.is_none() && needed > FREE_BYTES {
            memory = Some(bodies.reserve(holder, most).await);
        }
        if needed > bytes.capacity() {
            // Twice as much each time, but never more than was announced.
            let capacity = (2 * bytes.capacity()).clamp(needed, most);
            bytes.reserve_exact(capacity - bytes.len());
        }
        bytes.extend_from_slice(&piece);
    }
    match memory {
        None => Ok(bytes.into()),
        Some(memory) if memory.arrived() => Ok(Bytes::from_owner(Held { bytes, _memory: memory })),
        Some(_) => Err(ApiError::BodyTooSlow),
    }
}
