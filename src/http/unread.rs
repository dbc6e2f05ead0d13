//! Bodies that nobody has read: of refused requests, and of those that need none.
//!
//! What is left of a body stands before the next request on the connection. So it is read to its end where that costs next to nothing;
//! otherwise the answer says that the connection ends with it (RFC 9112 section 9.3).

use std::time::Duration;

use futures_util::StreamExt;
use hyper::body::Body;
use salvo::http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderValue};
use salvo::http::{ReqBody, Request, Response};

use super::framing;
use crate::core::awake::timeout;

/// The longest rest of a body that is read although nobody needs it.
const MAX_BYTES: usize = 64 * 1024;
/// The time for it: clients send a body at once after its head.
const MAX_WAIT: Duration = Duration::from_millis(300);

/// Returns whether the body of `req` has been read to its end.
pub fn is_read(req: &Request) -> bool {
    req.body().is_end_stream()
}

/// Reads the rest of the body of `req` where it is short and on its way. Returns whether it has ended; the head of `res` tells the client
/// where it has not.
pub async fn finish(req: &mut Request, res: &mut Response) -> bool {
    let announced =
        req.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()).and_then(|length| length.parse().ok());
    // A client that has been asked for nothing sends nothing, and reading would ask for it.
    // Nor is it clear where a body ends that is coded in an unknown way.
    let comes = !req.headers().contains_key(EXPECT)
        && framing::check(req).is_ok()
        && announced.is_none_or(|length: usize| length <= MAX_BYTES);
    let read_all = comes && timeout(MAX_WAIT, discard(req.body_mut())).await.unwrap_or(false);
    if !read_all {
        res.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    read_all
}

/// Reads a body and keeps nothing of it; returns whether it ended within bounds.
async fn discard(body: &mut ReqBody) -> bool {
    let mut length = 0;
    while let Some(piece) = body.next().await {
        let Ok(piece) = piece else { return false };
        length += piece.data_ref().map_or(0, |data| data.len());
        if length > MAX_BYTES {
            return false;
        }
    }
    true
}
