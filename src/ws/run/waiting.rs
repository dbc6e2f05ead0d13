//! Writes that wait for the client to read.

use std::ops::ControlFlow;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};

use super::Driver;
use crate::core::awake::AwakeInstant;
use crate::session::End;
use crate::wire::CloseCode;
use crate::ws::socket::Step;

/// The time for which a write may wait before the client is looked at, where no write deadline is set.
const WRITE_CHECK: Duration = Duration::from_secs(10);
/// The shortest and the longest time between two such looks.
const WRITE_CHECK_PERIOD: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Waits until the client has read enough for the rest to be written, and reads meanwhile: proofs count at once.
    pub(super) async fn finish_write(&mut self) -> Result<(), End> {
        let connection = self.session.connection().clone();
        let mut closing = pin!(connection.closing());
        let deadline = self.socket.write_deadline();
        let period = (deadline.unwrap_or(WRITE_CHECK) / 4).clamp(WRITE_CHECK_PERIOD.0, WRITE_CHECK_PERIOD.1);
        let mut check = pin!(sleep(period));
        let mut progress = (self.socket.unsent_written(), AwakeInstant::now());
        loop {
            tokio::select! {
                biased;
                code = &mut closing => return Err(code.into()),
                () = &mut check => {
                    self.check_write(&mut progress).await?;
                    check.as_mut().reset(Instant::now() + period);
                }
                step = self.socket.step() => if self.apply(step?).is_break() {
                    return Ok(());
                },
            }
        }
    }

    /// Applies an event during a write that waits; breaks when everything is written.
    fn apply(&mut self, step: Step) -> ControlFlow<()> {
        if self.socket.read_end().is_none() {
            self.session.note_activity(std::time::Instant::now()); // a client that reads or sends is alive, even where its pongs are far behind
        }
        match step {
            Step::Written => return ControlFlow::Break(()),
            Step::Pong(payload) => self.session.receive_pong(&payload),
            Step::Received => {}
        }
        ControlFlow::Continue(())
    }

    /// Judges a write that waits; `progress` is the number of bytes written at the last progress, and its time.
    ///
    /// # Errors
    /// The end of the connection when it may not last, or when nothing has been written for the write deadline and nothing can be:
    /// the peer's TCP does not acknowledge, or the client has closed.
    async fn check_write(&mut self, progress: &mut (usize, AwakeInstant)) -> Result<(), End> {
        let written = self.socket.unsent_written();
        if written != progress.0 {
            *progress = (written, AwakeInstant::now());
            self.session.note_activity(std::time::Instant::now());
        }
        self.session.check_time(true)?;
        if progress.1.elapsed() < self.socket.write_deadline().unwrap_or(WRITE_CHECK) {
            return Ok(());
        }
        if let Some(end) = self.socket.read_end() {
            self.session.reading_ended(end);
            return Err(end);
        }
        if self.socket.write_deadline().is_some() && !self.peer.acknowledges().await {
            return Err(CloseCode::TooSlow.into());
        }
        Ok(())
    }
}
