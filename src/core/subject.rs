//! The connection that a task works for, as the lines that it logs name it.
//!
//! A connection lasts for days and logs two lines. A span of `tracing` for all that time costs half a kilobyte of each: its fields, a map of
//! extensions, and a place in the registry. This costs a pointer in the task, and a word on the thread while it runs.

use std::cell::Cell;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::ids::{ConnId, DeviceId, UserId};

thread_local! {
    static CURRENT: Cell<Option<Subject>> = const { Cell::new(None) };
}

/// A connection, as log lines name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// `conn`.
    pub connection: ConnId,
    /// `user`.
    pub user: UserId,
    /// `device`, where it stands for one.
    pub device: Option<DeviceId>,
    /// `address`: the client's.
    pub address: IpAddr,
}

impl Subject {
    /// Returns the subject of what runs on this thread at present.
    pub fn current() -> Option<Self> {
        CURRENT.get()
    }
}

/// Puts the former subject back.
struct Entered(Option<Subject>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

pin_project! {
    /// A future with a subject; see [`about`].
    pub struct About<S, F> {
        subject: S,
        #[pin]
        future: F,
    }
}

/// Returns `future` as one whose log lines name what `subject` returns; it is asked each time that the future runs.
pub fn about<S, F>(subject: S, future: F) -> About<S, F>
where
    S: Fn() -> Option<Subject>,
    F: Future,
{
    About { subject, future }
}

/// Returns `future` as one whose log lines name what those of the present task do.
pub fn about_the_same<F: Future>(future: F) -> About<impl Fn() -> Option<Subject>, F> {
    let subject = Subject::current();
    about(move || subject, future)
}

impl<S: Fn() -> Option<Subject>, F: Future> Future for About<S, F> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = Entered(CURRENT.replace((this.subject)()));
        this.future.poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn subject_is_that_of_the_innermost_future_while_it_runs() {
        let subject = |n| Subject { connection: ConnId(n), user: UserId(n), device: None, address: [127, 0, 0, 1].into() };
        let inner = about(move || Some(subject(2)), async {
            tokio::task::yield_now().await;
            Subject::current()
        });
        let outer = about(move || Some(subject(1)), async {
            (inner.await, Subject::current(), about_the_same(async { Subject::current() }))
        });
        let (inner, after, same) = outer.await;
        assert_eq!((inner, after, same.await), (Some(subject(2)), Some(subject(1)), Some(subject(1))));
        assert_eq!(Subject::current(), None);
    }

    #[tokio::test]
    async fn subject_is_gone_after_a_panic() {
        use futures_util::FutureExt;
        let subject = Subject { connection: ConnId(1), user: UserId(1), device: None, address: [127, 0, 0, 1].into() };
        let panics = std::panic::AssertUnwindSafe(about(move || Some(subject), async { panic!("on purpose") }));
        assert!(panics.catch_unwind().await.is_err());
        assert_eq!(Subject::current(), None);
    }
}
