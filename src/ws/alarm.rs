//! The wake-ups of a connection's task that come from the server alone: the heartbeat, and the end that another module asks for.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::hub::Connection;
use crate::wire::CloseCode;

/// What has come.
pub(super) enum Ring {
    /// The connection is to be closed.
    Close(CloseCode),
    /// The heartbeat is due.
    Beat,
}

/// Wakes the task of a connection at the next beat and when it is closed. Both are registered once, not at each of the task's turns:
/// whether they have come shows without polling them.
pub(super) struct Alarm {
    /// Boxed, so that the task fits into a smaller block of memory.
    timer: Pin<Box<Sleep>>,
    connection: Arc<Connection>,
    /// The waker that both have.
    registered: Option<Waker>,
}

impl Alarm {
    /// Rings at `next`, and when `connection` is closed.
    pub(super) fn new(next: Instant, connection: Arc<Connection>) -> Self {
        Self { timer: Box::pin(sleep_until(next)), connection, registered: None }
    }

    /// Polls for the next of them.
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ring> {
        if !self.registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.connection.wake_on_close(cx.waker());
            // Unconstrained: a timer that is polled when the task has used up its turn is not registered.
            let _ = pin!(unconstrained(self.timer.as_mut())).poll(cx);
            self.registered = Some(cx.waker().clone());
        }
        match self.connection.close_code() {
            Some(code) => Poll::Ready(Ring::Close(code)),
            None if self.timer.is_elapsed() => Poll::Ready(Ring::Beat),
            None => Poll::Pending,
        }
    }

    /// Sets the time of the next beat.
    pub(super) fn set(&mut self, next: Instant) {
        self.timer.as_mut().reset(next);
        self.registered = None;
    }

    /// Registers both again: another wait has taken the place of this one.
    pub(super) fn renew(&mut self) {
        self.registered = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::{TokenId, UserId};
    use crate::hub::{Identity, Presence, Registration};
    use futures_util::FutureExt;
    use std::future::poll_fn;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;
    use tokio::task::coop::{consume_budget, has_budget_remaining};
    use tokio::time::{advance, timeout};

    const BEAT: Duration = Duration::from_secs(30);

    fn connection() -> Registration {
        let (user_id, token_id, address) = (UserId(1), TokenId(1), IpAddr::V4(Ipv4Addr::LOCALHOST));
        Arc::<Presence>::default().register(Identity { user_id, device_id: None, receives_for: None, token_id, address }, None)
    }

    /// Waits for the alarm; `None` where it does not ring for a long time.
    async fn ring(alarm: &mut Alarm) -> Option<Ring> {
        timeout(BEAT * 10, poll_fn(|cx| alarm.poll(cx))).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn each_beat_rings_at_its_time() {
        let registration = connection();
        let start = Instant::now();
        let mut alarm = Alarm::new(start + BEAT, registration.connection.clone());
        for n in 1..4 {
            assert!(matches!(ring(&mut alarm).await, Some(Ring::Beat)));
            assert_eq!(start.elapsed().as_secs(), BEAT.as_secs() * n);
            alarm.set(Instant::now() + BEAT);
            assert!(ring(&mut alarm).now_or_never().is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn beat_rings_although_the_turn_was_used_up_when_it_was_registered() {
        let registration = connection();
        let mut alarm = Alarm::new(Instant::now() + BEAT, registration.connection.clone());
        poll_fn(|cx| {
            while has_budget_remaining() {
                let _ = pin!(consume_budget()).poll(cx);
            }
            assert!(alarm.poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(matches!(ring(&mut alarm).await, Some(Ring::Beat)));
    }

    #[tokio::test(start_paused = true)]
    async fn close_rings_also_after_another_wait_for_it() {
        let registration = connection();
        let mut alarm = Alarm::new(Instant::now() + BEAT * 100, registration.connection.clone());
        assert!(ring(&mut alarm).now_or_never().is_none());
        let other = tokio::spawn({
            let connection = registration.connection.clone();
            async move { timeout(Duration::from_secs(1), connection.closing()).await }
        });
        assert!(other.await.unwrap().is_err());
        alarm.renew();
        let closing = async {
            advance(BEAT).await;
            registration.connection.close(CloseCode::GoingAway);
        };
        let (ring, ()) = tokio::join!(ring(&mut alarm), closing);
        assert!(matches!(ring, Some(Ring::Close(CloseCode::GoingAway))));
    }
}
