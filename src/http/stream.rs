//! A reply's body from the items of a channel.

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::mpsc::Receiver;

/// Returns a stream of the items of a channel; `chunk` returns the bytes of each.
pub fn items<T, E, F>(taken: Receiver<T>, chunk: F) -> impl Stream<Item = Result<Bytes, E>> + Send + 'static
where
    T: Send + 'static,
    F: Fn(T) -> Result<Bytes, E> + Send + 'static,
    E: Send + 'static,
{
    let next = |(mut taken, chunk): (Receiver<T>, F)| async move {
        let item = taken.recv().await?;
        let bytes = chunk(item);
        Some((bytes, (taken, chunk)))
    };
    stream::unfold((taken, chunk), next)
}
