//! The end of a connection: the last frames, and what the client still sends.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Incoming, Socket};
use crate::core::awake::timeout;
use crate::core::time::Timestamp;
use crate::session::End;
use crate::wire::frame::{append_close, append_json};
use crate::wire::{CloseCode, Event};

/// The time for reading on after the server's close frame, so that it is not lost to a reset and the last proofs arrive; also the
/// time for which the last write may wait without progress.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// The same when the server stops, which must not take long.
const STOP_DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// The time for the whole end of a connection, however slowly the client reads.
const FINISH_TIMEOUT: Duration = Duration::from_secs(30);
/// The number of bytes read on; a client that sends more gets the reset.
const MAX_DRAIN_BYTES: usize = 1 << 20;

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// Ends the connection: writes what is unsent, the `disconnect` event where there is one, and the close frame, then reads on
    /// until the client has closed. What comes meanwhile is passed to `late`.
    pub(in crate::ws) async fn finish(&mut self, end: End, mut late: impl FnMut(Incoming<'_>)) {
        let End::Close(code, retry_after) = end else {
            // The client's close frame is answered; where it has vanished, errors are of no interest.
            let _ = timeout(STOP_DRAIN_TIMEOUT, self.answer_close()).await;
            return;
        };
        if code == CloseCode::Unauthorized {
            self.discard_unsent();
        }
        let mut last = Vec::new();
        if code.announced() {
            // An event that can't be encoded costs the client the event, not the close frame.
            let event = Event::disconnect(code, retry_after);
            let _ = append_json(&mut last, |out| event.stamped(None, Timestamp::now()).write(out));
        }
        append_close(&mut last, code.code(), code.reason());
        let drain_timeout = if code == CloseCode::GoingAway { STOP_DRAIN_TIMEOUT } else { DRAIN_TIMEOUT };
        self.write_deadline = Some(drain_timeout);
        let closing = async {
            if self.start_write(&last).await? || self.write_with_deadline(&mut late).await.is_ok() {
                let _ = timeout(drain_timeout, self.drain(late)).await;
            }
            Ok::<_, End>(())
        };
        let _ = timeout(FINISH_TIMEOUT, closing).await;
    }

    /// Finishes a half-written frame, and writes the answer to the client's close frame behind it.
    async fn answer_close(&mut self) -> Option<()> {
        if let Some(answer) = self.reader.close_answer().map(<[u8]>::to_vec) {
            self.discard_unsent();
            self.waiting.get_or_insert_default().unsent.extend_from_slice(&answer);
        }
        poll_fn(|cx| self.poll_unsent(cx)).await.ok()?;
        self.stream.shutdown().await.ok()
    }

    /// Discards the frames of which nothing is written yet: a revoked credential receives no more of them.
    fn discard_unsent(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            waiting.pong = None;
            waiting.unsent.truncate(waiting.frame_end());
        }
    }

    /// Shuts down the writing side, and reads until the client has shut down its own.
    async fn drain(&mut self, mut late: impl FnMut(Incoming<'_>)) -> io::Result<()> {
        self.stream.shutdown().await?;
        let mut left = MAX_DRAIN_BYTES;
        loop {
            self.readable().await;
            let message = match self.next() {
                Some(Ok(message)) => message,
                Some(Err(_)) => break,
                None => continue,
            };
            left = left.saturating_sub(1 + message.bytes());
            if left == 0 {
                return Ok(());
            }
            late(message);
        }
        let mut rest = [0u8; 512];
        while left > 0 {
            match self.stream.read(&mut rest).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        Ok(())
    }
}
