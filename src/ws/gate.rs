//! Looks at a source of events only when it has something new.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Polls a source of events only after it has woken the task. A task that waits for several sources polls all of them whenever one
/// has something, and polling a broadcast channel that has nothing takes two locks.
pub(super) struct Gate {
    signal: Arc<Signal>,
    /// The waker that the source gets.
    waker: Waker,
}

/// The state that a gate shares with its waker.
struct Signal {
    /// The source is to be polled.
    open: AtomicBool,
    /// The task that waits.
    task: AtomicWaker,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.open.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl Gate {
    /// An open gate: the first wait polls its source.
    pub(super) fn new() -> Self {
        let signal = Arc::new(Signal { open: AtomicBool::new(true), task: AtomicWaker::new() });
        Self { waker: signal.clone().into(), signal }
    }

    /// Waits until `source` is ready. The gate stays open then: what `source` polls may be another future the next time.
    pub(super) async fn wait<T>(&self, mut source: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
        poll_fn(|cx| {
            // Registered before the look at `open`, so that a wake-up in between is not lost.
            self.signal.task.register(cx.waker());
            if !self.signal.open.swap(false, Ordering::AcqRel) {
                return Poll::Pending;
            }
            let polled = source(&mut Context::from_waker(&self.waker));
            if polled.is_ready() {
                self.signal.open.store(true, Ordering::Release);
            }
            polled
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{FutureExt, poll};
    use std::cell::Cell;
    use std::pin::pin;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn source_is_polled_only_when_it_has_woken_the_task() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let (gate, polls) = (Gate::new(), Cell::new(0));
        {
            let mut waiting = pin!(gate.wait(|cx| {
                polls.set(polls.get() + 1);
                receiver.poll_recv(cx)
            }));
            for _ in 0..3 {
                assert!(poll!(waiting.as_mut()).is_pending());
            }
            assert_eq!(polls.get(), 1);
            sender.send(1).unwrap();
            assert_eq!(waiting.await, Some(1));
            assert_eq!(polls.get(), 2);
        }
        assert!(gate.wait(|cx| receiver.poll_recv(cx)).now_or_never().is_none());
        sender.send(2).unwrap();
        assert_eq!(gate.wait(|cx| receiver.poll_recv(cx)).now_or_never(), Some(Some(2)));
        sender.send(3).unwrap();
        assert_eq!(gate.wait(|cx| receiver.poll_recv(cx)).now_or_never(), Some(Some(3)), "stays open after an event");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_up_is_lost() {
        let (sender, mut receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            for n in 0..20_000 {
                sender.send(n).await.unwrap();
            }
        });
        let gate = Gate::new();
        let mut expected = 0;
        while let Some(n) = gate.wait(|cx| receiver.poll_recv(cx)).await {
            assert_eq!(n, expected);
            expected += 1;
        }
        assert_eq!(expected, 20_000);
    }
}
