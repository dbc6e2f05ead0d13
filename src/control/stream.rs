//! A reply's body from the items of a channel.

use bytes::Bytes;
use futures_util::stream;
use salvo::http::ResBody;
use tokio::sync::mpsc::Receiver;

/// Returns a body that streams the items of a channel; `chunk` returns the bytes of each.
pub(super) fn streamed<T, E, F>(taken: Receiver<T>, chunk: F) -> ResBody
where
    T: Send + 'static,
    F: Fn(T) -> Result<Bytes, E> + Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    let next = |(mut taken, chunk): (Receiver<T>, F)| async move {
        let item = taken.recv().await?;
        let bytes = chunk(item);
        Some((bytes, (taken, chunk)))
    };
    ResBody::stream(stream::unfold((taken, chunk), next))
}
