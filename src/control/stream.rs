//! A reply's body from the items of a channel.

use bytes::Bytes;
use futures_util::stream;
use salvo::http::ResBody;
use tokio::sync::mpsc::Receiver;

/// Returns a body that streams the items of a channel.
pub(super) fn streamed<E: std::error::Error + Send + Sync + 'static>(taken: Receiver<Result<Bytes, E>>) -> ResBody {
    ResBody::stream(stream::unfold(taken, |mut taken| async move { taken.recv().await.map(|chunk| (chunk, taken)) }))
}
