//! The memberships of one connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::ReusableBoxFuture;

use super::gates::{Gates, Open};
use super::{Announcement, Hub, Lagged};
use crate::core::ids::Recipient;

/// The largest number of announcements in one batch; a member with more of them waiting has lagged.
const MAX_BATCH_MESSAGES: usize = 4096;

/// The membership of one group; ends when dropped.
pub(super) struct Member {
    hub: Arc<Hub>,
    group: Recipient,
    observer: bool,
    receiver: Receiver<Arc<Announcement>>,
}

impl Member {
    pub(super) fn new(hub: Arc<Hub>, group: Recipient, observer: bool, receiver: Receiver<Arc<Announcement>>) -> Self {
        Self { hub, group, observer, receiver }
    }

    pub(super) async fn next(&mut self) -> Result<Arc<Announcement>, Lagged> {
        match self.receiver.recv().await {
            Ok(announcement) => Ok(announcement),
            Err(RecvError::Lagged(_)) => Err(self.hub.count_lagged()),
            // The hub's map keeps the sender for as long as this member exists.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.hub.leave(self.group, self.observer);
    }
}

/// A member and what it is sent next.
type Received = (Member, Result<Arc<Announcement>, Lagged>);

/// Waits for what a member is sent. The wait lasts from one announcement to the next, however often the task is woken meanwhile, so that
/// the member does not leave and join its channel's list of waiters each time.
struct Feed(ReusableBoxFuture<'static, Received>);

impl Feed {
    fn new(member: Member) -> Self {
        Self(ReusableBoxFuture::new(Self::receive(member)))
    }

    async fn receive(mut member: Member) -> Received {
        let received = member.next().await;
        (member, received)
    }

    #[inline]
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Arc<Announcement>, Lagged>> {
        self.0.poll(cx).map(|(member, received)| {
            self.0.set(Self::receive(member));
            received
        })
    }
}

/// The groups of one connection: the user's, everybody's, and the device's where there is one.
pub struct Subscription {
    hub: Arc<Hub>,
    user: Feed,
    all: Feed,
    device: Option<Feed>,
    gates: Gates<3>,
}

impl Subscription {
    pub(super) fn new(hub: Arc<Hub>, user: Member, all: Member, device: Option<Member>) -> Self {
        Self { hub, user: Feed::new(user), all: Feed::new(all), device: device.map(Feed::new), gates: Gates::new() }
    }

    /// Polls for an announcement to any of the groups; returns it with all others that are there.
    ///
    /// All of them, because that makes the order total: announcements are published in id order, and each has woken its members before
    /// the next one is published. So when one is received, every earlier one has opened its gate. A caller that sorts the batch by id has
    /// missed none in between.
    ///
    /// # Errors
    /// [`Lagged`], also where the batch would be too large.
    #[inline]
    pub fn poll_batch(&mut self, cx: &Context<'_>) -> Poll<Result<Vec<Arc<Announcement>>, Lagged>> {
        let open = self.gates.take_open(cx);
        if open == Open::NONE {
            return Poll::Pending;
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let feeds = [Some(&mut self.user), Some(&mut self.all), self.device.as_mut()];
        for (n, feed) in feeds.into_iter().enumerate().filter(|(n, _)| open.contains(*n)) {
            let Some(feed) = feed else { continue };
            let mut cx = Context::from_waker(self.gates.waker(n));
            while let Poll::Ready(received) = feed.poll(&mut cx) {
                let taken = received.and_then(|announcement| {
                    // A batch keeps its messages alive: a slow reader must not own many that no channel shares any more. One may be
                    // larger.
                    let payload = announcement.payload().len();
                    bytes += if batch.is_empty() { 0 } else { payload };
                    batch.push(announcement);
                    let max_bytes = self.hub.max_batch_bytes.load(Ordering::Relaxed);
                    if batch.len() > MAX_BATCH_MESSAGES || bytes > max_bytes { Err(self.hub.count_lagged()) } else { Ok(()) }
                });
                if let Err(lagged) = taken {
                    self.gates.reopen(open);
                    return Poll::Ready(Err(lagged));
                }
            }
        }
        if batch.is_empty() { Poll::Pending } else { Poll::Ready(Ok(batch)) }
    }

    /// Waits for the next batch.
    #[cfg(test)]
    pub async fn next_batch(&mut self) -> Result<Vec<Arc<Announcement>>, Lagged> {
        std::future::poll_fn(|cx| self.poll_batch(cx)).await
    }
}
