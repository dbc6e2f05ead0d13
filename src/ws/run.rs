//! The task of one connection: reads the socket, runs the session, frames and writes.

use std::future::Future;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::Instrument;

use super::gate::Gate;
use super::socket::{Incoming, Socket, Step};
use crate::app::App;
use crate::auth::Caller;
use crate::core::awake::AwakeInstant;
use crate::core::ids::MessageId;
use crate::core::time::Timestamp;
use crate::hub::{Announcement, Identity, Lagged, Subscription};
use crate::mailbox::Gap;
use crate::net::peer::Peer;
use crate::session::{End, Ended, Options, Reply, Session};
use crate::telemetry::metrics::Sent;
use crate::wire::frame::{self, PING, TEXT};
use crate::wire::{CloseCode, ErrorCode, Event};

/// The number of bytes of answers, of live messages or of the log that are gathered into one write.
const BATCH_BYTES: usize = 64 * 1024;

/// The number of batches of announcements in a row after which the client's messages are read, whether or not more wait.
const MAX_PUSHES: u8 = 8;

/// The time for which a write may wait before the client is looked at, where no write deadline is set.
const WRITE_CHECK: Duration = Duration::from_secs(10);
/// The shortest and the longest time between two such looks.
const WRITE_CHECK_PERIOD: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// The WebSocket below a session.
pub(super) struct Transport<S> {
    /// The stream.
    pub(super) socket: Socket<S>,
    /// The other end of its TCP connection.
    pub(super) peer: Peer,
}

/// A session and its socket.
struct Driver<S> {
    session: Session,
    socket: Socket<S>,
    peer: Peer,
    /// The number of batches of announcements written since the last look at what the client sent.
    pushes: u8,
}

/// An event from within the server.
enum FromServer {
    /// The connection is to be closed.
    Close(CloseCode),
    /// Messages for the groups of the connection.
    Announced((Subscription, Result<Vec<Arc<Announcement>>, Lagged>)),
}

/// Starts the session of `caller` and returns the future that runs the connection until either side ends it.
///
/// Not an `async fn`, which would keep its arguments beside the values made of them for as long as the connection lasts.
pub(super) fn serve<S>(
    app: Arc<App>,
    transport: Transport<S>,
    caller: &Caller,
    identity: Identity,
    options: Options,
) -> impl Future<Output = ()> + use<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (session, subscription) = Session::start(app, caller, identity, options);
    let span = session.span();
    let Transport { socket, peer } = transport;
    let mut driver = Driver { session, socket, peer, pushes: 0 };
    let connection = async move {
        tracing::info!("connected");
        // No caller would notice a panic: the task is detached.
        let end = AssertUnwindSafe(driver.run(subscription)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!("the connection's task panicked");
            CloseCode::Internal.into()
        });
        let end = driver.read_last(end);
        let mut ended = driver.session.end(end);
        driver.socket.finish(end, |incoming| receive_late(&mut ended, incoming)).await;
        ended.finish();
    };
    connection.instrument(span)
}

/// Applies the proof in a message that came when the session had ended.
fn receive_late(ended: &mut Ended, incoming: Incoming) {
    match incoming {
        Incoming::Pong(payload) => ended.receive_pong(&payload),
        Incoming::Text(text) => ended.receive_text(&text),
        Incoming::Ping | Incoming::Binary(_) => {}
    }
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
        let gate = Gate::new();
        while outcome.is_ok() {
            let from_server = gate.wait(|cx| match closing.as_mut().poll(cx) {
                Poll::Ready(code) => Poll::Ready(FromServer::Close(code)),
                Poll::Pending => announcements.as_mut().poll(cx).map(FromServer::Announced),
            });
            outcome = tokio::select! {
                biased;
                // Before announcements: a flood of them must not keep pings from going out.
                () = &mut timer => {
                    let beat = self.beat().await;
                    timer.as_mut().reset(self.session.next_beat());
                    beat
                }
                event = from_server => match event {
                    FromServer::Close(code) => Err(code.into()),
                    FromServer::Announced((subscription, batch)) => {
                        announcements.set(subscription.next_batch());
                        self.push(batch).await
                    }
                },
                reply = self.session.next_reply() => self.reply(reply).await,
                incoming = self.socket.read() => self.receive(incoming).await,
                // Last, so that a long backlog does not keep the client's messages from being read.
                () = std::future::ready(()), if self.session.must_read_log() => self.catch_up().await,
            };
        }
        outcome.err().unwrap_or(End::Gone(None))
    }

    /// Applies what a client that has vanished sent before: its proofs, and the close code, with which the end is returned.
    fn read_last(&mut self, end: End) -> End {
        while end == End::Gone(None)
            && let Some(last) = self.socket.read_last()
        {
            match last {
                Ok(Incoming::Pong(payload)) => self.session.receive_pong(&payload),
                Ok(Incoming::Text(text)) => self.session.receive_late_text(&text),
                Ok(Incoming::Ping | Incoming::Binary(_)) => {}
                Err(last @ End::Gone(Some(_))) => return last,
                Err(_) => break,
            }
        }
        end
    }

    /// Writes what was announced.
    async fn push(&mut self, batch: Result<Vec<Arc<Announcement>>, Lagged>) -> Result<(), End> {
        match batch {
            Ok(batch) => self.write_announced(batch).await?,
            Err(Lagged) => self.session.lagged(),
        }
        // Under a flood of announcements only this reads the client's messages: without it, it would time out as idle.
        self.pushes += 1;
        if self.pushes < MAX_PUSHES { Ok(()) } else { self.receive_ready().await }
    }

    async fn write_announced(&mut self, mut batch: Vec<Arc<Announcement>>) -> Result<(), End> {
        if let [one] = &batch[..]
            && one.id.is_none()
        {
            self.session.metrics().traffic.sent.inc(Sent::Live);
            return self.write(one.encoded(frame::text)).await; // the bytes that all receivers share
        }
        batch.sort_by_key(|announcement| announcement.id); // stable: live messages come first, in their own order
        let (mut out, mut newest, mut live) = (Vec::new(), None, 0);
        let mut rest = batch.iter().filter(|announcement| announcement.id.is_some()).count();
        for announcement in batch {
            rest -= usize::from(announcement.id.is_some());
            if !self.session.accepts(&announcement) {
                continue;
            }
            let payload = announcement.payload();
            if let Some(id) = announcement.id {
                self.append_queued(&mut out, id, payload, rest);
                newest = Some(id);
            } else {
                if !out.is_empty() && out.len() + payload.len() > BATCH_BYTES {
                    // Messages for a slow reader wait in the shared announcements; only so much is copied for this one.
                    self.write(&out).await?;
                    out.clear();
                }
                live += 1;
                frame::append(&mut out, TEXT, payload);
            }
        }
        self.session.metrics().traffic.sent.of(Sent::Live).add(live);
        match newest {
            Some(newest) => self.write_queued(out, newest).await,
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
        let (mut out, mut rest) = (Vec::new(), messages.len());
        for (id, payload) in messages {
            rest -= 1;
            self.append_queued(&mut out, id, &payload, rest);
        }
        self.write_queued(out, last).await
    }

    /// Appends a queued message to `out`, with the pings whose pongs prove what was received; `rest` more follow in the same write.
    fn append_queued(&mut self, out: &mut Vec<u8>, id: MessageId, payload: &[u8], rest: usize) {
        let pings = self.session.sending_queued(id, payload.len(), rest);
        if let Some(watermark) = pings.before {
            self.append_ping(out, watermark.as_bytes());
        }
        frame::append(out, TEXT, payload);
        if let Some(watermark) = pings.behind {
            self.append_ping(out, watermark.as_bytes());
        }
    }

    /// Writes queued messages up to `upto`.
    async fn write_queued(&mut self, mut out: Vec<u8>, upto: MessageId) -> Result<(), End> {
        if let Some(watermark) = self.session.last_ping() {
            self.append_ping(&mut out, watermark.as_bytes());
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
        self.pushes = 0;
        match self.socket.try_read() {
            Some(incoming) => self.receive(incoming).await,
            None => Ok(()),
        }
    }

    /// Answers `first` and what else has arrived, in one write.
    async fn receive(&mut self, first: Result<Incoming, End>) -> Result<(), End> {
        self.pushes = 0;
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
            let reference = self.session.take_refused_reference();
            self.append(&mut out, Reply { event, reference }, now);
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
                // One that had to wait until fewer pings were in flight.
                if let Some(watermark) = self.session.last_ping() {
                    self.append_ping(out, watermark.as_bytes());
                }
                None
            }
            Incoming::Text(text) => self.session.receive_text(&text, now)?,
            Incoming::Binary(payload) => Some(self.session.receive_binary(&payload)?),
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
        if let Some(code) = self.session.connection().close_code() {
            return Err(code.into()); // closed while these were gathered: a revoked credential receives nothing more
        }
        if self.socket.start_write(frames).await? { Ok(()) } else { self.finish_write().await }
    }

    /// Waits until the client has read enough for the rest to be written, and reads meanwhile: proofs count at once.
    async fn finish_write(&mut self) -> Result<(), End> {
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
            self.session.note_activity(); // a client that reads or sends is alive, even where its pongs are far behind
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
            self.session.note_activity();
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

    /// Sends the ping that is due, or ends a connection that has been silent for too long.
    async fn beat(&mut self) -> Result<(), End> {
        let beat = self.session.beat()?;
        if beat.idle && !self.peer.acknowledges().await {
            tracing::debug!("idle, and the peer does not acknowledge");
            return Err(CloseCode::NoPong.into());
        }
        let Some(watermark) = beat.ping else { return Ok(()) };
        let mut out = Vec::new();
        self.append_ping(&mut out, watermark.as_deref().unwrap_or_default().as_bytes());
        self.write(&out).await
    }
}
