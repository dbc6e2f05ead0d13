//! The surroundings of a command: its origin, the channel for parts of its answer, and the way to stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::core::ids::{DeviceId, UserId};

/// The origin of a command.
#[derive(Debug, Clone)]
pub struct CommandContext {
    /// The user of the connection.
    pub user: UserId,
    /// The device that the connection represents.
    pub device: Option<DeviceId>,
    /// The client's `ref`, which is copied into the reply.
    pub reference: Option<String>,
    /// Stops the command, where it is a question.
    pub stop: Stop,
}

/// Receives the parts of a streamed answer.
pub type ChunkSink<'a> = &'a (dyn Fn(&str) -> BoxFuture<'static, ()> + Send + Sync);

/// Stops a question, unless its answer is complete: one of both happens, and never both.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<StopState>);

#[derive(Debug, Default)]
struct StopState {
    /// [`RUNNING`], [`ANSWERED`] or [`STOPPED`].
    state: AtomicU8,
    stopped: Notify,
}

const RUNNING: u8 = 0;
const ANSWERED: u8 = 1;
const STOPPED: u8 = 2;

impl Stop {
    /// Stops the question. Returns `false` when it is answered or stopped already.
    pub fn stop(&self) -> bool {
        let stopped = self.end(STOPPED).is_ok();
        if stopped {
            self.0.stopped.notify_waiters();
        }
        stopped
    }

    /// Notes that the answer is complete. Returns `false` when the question was stopped before: it has no answer then.
    pub fn answered(&self) -> bool {
        self.end(ANSWERED).is_ok() || self.0.state.load(Ordering::Acquire) == ANSWERED
    }

    /// Returns whether the question was stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == STOPPED
    }

    /// Returns whether the question is neither answered nor stopped.
    pub fn is_running(&self) -> bool {
        self.0.state.load(Ordering::Acquire) == RUNNING
    }

    /// Waits until the question is stopped.
    pub async fn stopped(&self) {
        // Made before the look at the state, it is woken by a stop that comes in between.
        let notified = self.0.stopped.notified();
        if !self.is_stopped() {
            notified.await;
        }
    }

    fn end(&self, state: u8) -> Result<(), u8> {
        self.0.state.compare_exchange(RUNNING, state, Ordering::AcqRel, Ordering::Acquire).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_is_either_answered_or_stopped() {
        let stop = Stop::default();
        assert!(stop.is_running() && stop.answered() && stop.answered());
        assert!(!stop.stop() && !stop.is_stopped() && !stop.is_running());
        let stop = Stop::default();
        assert!(stop.stop() && !stop.stop() && !stop.answered() && stop.is_stopped());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn stop_wakes_whoever_waits_for_it() {
        for _ in 0..500 {
            let stop = Stop::default();
            let waiting = tokio::spawn({
                let stop = stop.clone();
                async move { stop.stopped().await }
            });
            assert!(stop.stop());
            waiting.await.unwrap();
            stop.stopped().await;
        }
    }
}
