//! The task of one connection: reads the socket, runs the session, frames and writes.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep_until;
use tracing::Instrument;

use super::socket::{Incoming, Progress, Socket};
use crate::app::App;
use crate::auth::Caller;
use crate::core::ids::MessageId;
use crate::core::time::Timestamp;
use crate::hub::{Announcement, Identity, Lagged, Subscription};
use crate::mailbox::Gap;
use crate::session::{Beat, End, Options, Reply, Session};
use crate::telemetry::metrics::Sent;
use crate::wire::frame::{self, PING, TEXT};
use crate::wire::{CloseCode, ErrorCode, Event};

/// The number of bytes of answers, of live messages or of the log that are gathered into one write.
const BATCH_BYTES: usize = 64 * 1024;

/// A session and its socket.
struct Driver<S> {
    session: Session,
    socket: Socket<S>,
}

/// Starts the session of `caller` and returns the future that runs the connection until either side ends it.
///
/// Not an `async fn`, which would keep its arguments beside the values made of them for as long as the connection lasts.
pub(super) fn serve<S>(
    app: Arc<App>,
    socket: Socket<S>,
    caller: &Caller,
    identity: Identity,
    options: Options,
) -> impl Future<Output = ()> + use<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (session, subscription) = Session::start(app, caller, identity, options);
    let span = session.span();
    let mut driver = Driver { session, socket };
    let connection = async move {
        tracing::info!("connected");
        // No caller would notice a panic: the task is detached.
        let end = AssertUnwindSafe(driver.run(subscription)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!("the connection's task panicked");
            CloseCode::Internal.into()
        });
        driver.session.end(end);
        driver.socket.finish(end).await;
    };
    connection.instrument(span)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Runs until something ends the connection.
    async fn run(&mut self, subscription: Subscription) -> End {
        let mut outcome = self.write_reply(Reply { event: self.session.connection_status(), reference: None }).await;
        // These three outlive a turn of the loop: making them anew for each message costs more than answering it.
        let connection = self.session.connection().clone();
        let mut closing = pin!(connection.closing());
        let mut announcements = pin!(subscription.next_batch());
        let mut timer = pin!(sleep_until(self.session.next_beat()));
        while outcome.is_ok() {
            outcome = tokio::select! {
                biased;
                code = &mut closing => Err(code.into()),
                // Before announcements: a flood of them must not keep pings from going out.
                () = &mut timer => {
                    let beat = self.beat().await;
                    timer.as_mut().reset(self.session.next_beat());
                    beat
                }
                (subscription, batch) = &mut announcements => {
                    announcements.set(subscription.next_batch());
                    self.push(batch).await
                }
                reply = self.session.next_reply() => self.reply(reply).await,
                incoming = self.socket.read() => self.receive(incoming).await,
                // Last, so that a long backlog does not keep the client's messages from being read.
                () = std::future::ready(()), if self.session.must_read_log() => self.catch_up().await,
            };
        }
        outcome.err().unwrap_or(End::Gone)
    }

    /// Writes what was announced.
    async fn push(&mut self, batch: Result<Vec<Arc<Announcement>>, Lagged>) -> Result<(), End> {
        match batch {
            Ok(batch) => self.write_announced(batch).await?,
            Err(Lagged) => self.session.lagged(),
        }
        // Under a flood of announcements only this reads the client's messages: without it, it would time out as idle.
        self.receive_ready().await
    }

    async fn write_announced(&mut self, mut batch: Vec<Arc<Announcement>>) -> Result<(), End> {
        if let [one] = &batch[..]
            && one.id.is_none()
        {
            self.session.metrics().traffic.sent.inc(Sent::Live);
            return self.write(one.encoded(frame::text)).await; // the bytes that all receivers share
        }
        batch.sort_by_key(|announcement| announcement.id); // stable: live messages come first, in their own order
        let (mut out, mut newest, mut messages, mut live) = (Vec::new(), None, 0, 0);
        for announcement in batch {
            if !self.session.accepts(&announcement, messages, out.len()) {
                continue;
            }
            let payload = announcement.payload();
            if announcement.id.is_some() {
                messages += 1;
                newest = announcement.id;
            } else {
                if !out.is_empty() && out.len() + payload.len() > BATCH_BYTES {
                    // Messages for a slow reader wait in the shared announcements; only so much is copied for this one.
                    self.write(&out).await?;
                    out.clear();
                }
                live += 1;
            }
            frame::append(&mut out, TEXT, payload);
        }
        self.session.metrics().traffic.sent.of(Sent::Live).add(live);
        match newest {
            Some(newest) => self.write_queued(out, messages, newest).await,
            None if out.is_empty() => Ok(()),
            None => self.write(&out).await,
        }
    }

    /// Writes the next messages of the log.
    async fn catch_up(&mut self) -> Result<(), End> {
        let (gap, messages) = self.session.read_log(BATCH_BYTES).await?;
        if let Some(Gap { after, upto }) = gap {
            self.write_reply(Reply { event: Event::Missed { after, upto }, reference: None }).await?;
        }
        let Some(&(last, _)) = messages.last() else { return Ok(()) };
        let (mut out, count) = (Vec::new(), messages.len());
        for (_, payload) in messages {
            frame::append(&mut out, TEXT, &payload);
        }
        self.write_queued(out, count, last).await
    }

    /// Writes queued messages up to `upto` and, behind them, the ping whose pong proves that they were received.
    async fn write_queued(&mut self, mut out: Vec<u8>, messages: usize, upto: MessageId) -> Result<(), End> {
        if let Some(watermark) = self.session.sending_queued(upto, messages, out.len()) {
            self.append_ping(&mut out, &watermark);
        }
        self.write(&out).await?;
        self.session.written(upto);
        Ok(())
    }

    /// Writes a reply that took its time.
    async fn reply(&mut self, reply: Reply) -> Result<(), End> {
        self.write_reply(reply).await?;
        // A stream of replies without a pause must not keep the client's messages from being read.
        self.receive_ready().await
    }

    fn write_reply(&mut self, reply: Reply) -> impl Future<Output = Result<(), End>> {
        let mut out = Vec::new();
        self.append(&mut out, reply, Timestamp::now());
        async move { self.write(&out).await }
    }

    /// Processes the messages that are there already, if any.
    async fn receive_ready(&mut self) -> Result<(), End> {
        match self.socket.try_read() {
            Some(incoming) => self.receive(incoming).await,
            None => Ok(()),
        }
    }

    /// Answers `first` and what else has arrived, in one write.
    async fn receive(&mut self, first: Result<Incoming, End>) -> Result<(), End> {
        let now = Timestamp::now();
        let (mut out, mut next) = (Vec::new(), Some(first));
        let mut outcome = Ok(());
        while let Some(incoming) = next.take() {
            let incoming = incoming.inspect_err(|&end| self.session.reading_ended(end));
            outcome = incoming.and_then(|incoming| self.answer(incoming, now, &mut out));
            if outcome.is_ok() && out.len() < BATCH_BYTES {
                next = self.socket.try_read();
            }
        }
        self.session.note_activity();
        if matches!(outcome, Err(End::Close(CloseCode::RateLimited, _))) {
            let event = Event::Error { message: "Rate limit exceeded".into(), code: ErrorCode::RateLimited };
            self.append(&mut out, Reply { event, reference: None }, now);
        }
        if !out.is_empty() {
            self.write(&out).await?; // requests that came before the end are still answered
        }
        outcome
    }

    /// Appends the reply to one message to `out`, where there is one at once.
    fn answer(&mut self, incoming: Incoming, now: Timestamp, out: &mut Vec<u8>) -> Result<(), End> {
        let reply = match incoming {
            Incoming::Ping => None,
            Incoming::Pong(payload) => {
                self.session.receive_pong(&payload);
                None
            }
            Incoming::Text(text) => self.session.receive_text(&text, now)?,
            Incoming::Binary(_) => Some(self.session.receive_binary()?),
        };
        if let Some(reply) = reply {
            self.append(out, reply, now);
        }
        Ok(())
    }

    /// Appends `reply` to `out` as a frame, and counts it.
    fn append(&self, out: &mut Vec<u8>, reply: Reply, now: Timestamp) {
        let Reply { event, reference } = reply;
        match frame::append_json(out, &event.stamped(reference.as_deref(), now)) {
            Ok(()) => self.session.metrics().traffic.record_sent(&event),
            Err(error) => tracing::error!(%error, "failed to encode an event"),
        }
    }

    /// Appends a ping to `out`. Its pong is not counted against the client.
    fn append_ping(&mut self, out: &mut Vec<u8>, payload: &[u8]) {
        self.socket.expect_pong();
        frame::append(out, PING, payload);
    }

    /// Writes whole frames; a write that waits ends when the session is closed.
    async fn write(&mut self, frames: &[u8]) -> Result<(), End> {
        let connection = self.session.connection();
        if let Some(code) = connection.close_code() {
            return Err(code.into()); // closed while these were gathered: a revoked credential receives nothing more
        }
        if self.socket.write(frames, connection.closing()).await? == Progress::Read {
            self.session.note_activity(); // a client that reads is alive, even where its pongs are far behind
        }
        Ok(())
    }

    /// Sends the ping that is due, or ends a connection that has been silent for too long.
    async fn beat(&mut self) -> Result<(), End> {
        let Beat::Ping(watermark) = self.session.beat()? else { return Ok(()) };
        let mut out = Vec::new();
        self.append_ping(&mut out, watermark.as_ref().map_or(&[], |watermark| watermark));
        self.write(&out).await
    }
}
