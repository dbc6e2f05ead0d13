//! Looks at each of several sources of events only when it has something new.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Tells which of a task's sources have woken it since the last look. A task that waits for several sources polls all of them whenever
/// one has something, and polling a broadcast channel that has nothing takes two locks.
pub(super) struct Gates<const N: usize> {
    signal: Arc<Signal>,
    /// The wakers that the sources get.
    wakers: [Waker; N],
}

/// The state that the gates of a task share with their wakers.
struct Signal {
    /// A bit for each source that is to be polled.
    open: AtomicU8,
    /// The task that waits.
    task: AtomicWaker,
}

/// The waker of one source.
struct Source {
    signal: Arc<Signal>,
    bit: u8,
}

impl Wake for Source {
    #[inline]
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    #[inline]
    fn wake_by_ref(self: &Arc<Self>) {
        self.signal.open.fetch_or(self.bit, Ordering::AcqRel);
        self.signal.task.wake();
    }
}

/// Sources that are to be polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Open(u8);

impl Open {
    /// No source.
    pub(super) const NONE: Self = Self(0);

    /// Returns whether the source `n` is to be polled.
    #[inline]
    pub(super) fn contains(self, n: usize) -> bool {
        self.0 & (1 << n) != 0
    }
}

impl<const N: usize> Gates<N> {
    /// Open gates: the first look polls all sources.
    pub(super) fn new() -> Self {
        const { assert!(N <= 8, "a bit for each") };
        let signal = Arc::new(Signal { open: AtomicU8::new(u8::MAX), task: AtomicWaker::new() });
        let wakers = std::array::from_fn(|n| Arc::new(Source { signal: signal.clone(), bit: 1 << n }).into());
        Self { signal, wakers }
    }

    /// Closes the gates and returns which were open. The task is woken when a source has something again.
    #[inline]
    pub(super) fn take_open(&self, cx: &Context<'_>) -> Open {
        // Registered before the look at `open`, so that a wake-up in between is not lost.
        self.signal.task.register(cx.waker());
        Open(self.signal.open.swap(0, Ordering::AcqRel))
    }

    /// Opens gates again whose sources have not been polled until they had nothing.
    pub(super) fn reopen(&self, open: Open) {
        self.signal.open.fetch_or(open.0, Ordering::AcqRel);
    }

    /// The waker that source `n` is to be polled with.
    #[inline]
    pub(super) fn waker(&self, n: usize) -> &Waker {
        &self.wakers[n]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn source_is_open_only_when_it_has_woken_the_task() {
        let gates = Gates::<2>::new();
        let (sender, mut receiver) = mpsc::unbounded_channel::<u8>();
        poll_fn(|cx| {
            let open = gates.take_open(cx);
            assert!(open.contains(0) && open.contains(1), "at first");
            assert!(receiver.poll_recv(&mut Context::from_waker(gates.waker(1))).is_pending());
            assert_eq!(gates.take_open(cx), Open::NONE);
            sender.send(1).unwrap();
            let open = gates.take_open(cx);
            assert!(!open.contains(0) && open.contains(1));
            gates.reopen(open);
            assert_eq!(gates.take_open(cx), open);
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_up_is_lost() {
        let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::channel(1)).unzip();
        for sender in senders {
            tokio::spawn(async move {
                for n in 0..10_000 {
                    sender.send(n).await.unwrap();
                }
            });
        }
        let gates = Gates::<3>::new();
        let (mut expected, mut ended) = ([0; 3], [false; 3]);
        poll_fn(|cx| {
            let open = gates.take_open(cx);
            for (n, receiver) in receivers.iter_mut().enumerate().filter(|(n, _)| open.contains(*n)) {
                while let Poll::Ready(received) = receiver.poll_recv(&mut Context::from_waker(gates.waker(n))) {
                    let Some(received) = received else {
                        ended[n] = true; // and again, if its gate opens once more
                        break;
                    };
                    assert_eq!(received, expected[n]);
                    expected[n] += 1;
                }
            }
            if ended == [true; 3] { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        assert_eq!(expected, [10_000; 3]);
    }
}
