//! The task of one connection: reads the socket, runs the session, frames and writes.

mod waiting;

use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};

use super::alarm::{Alarm, Ring};
use super::buffers;
use super::reader::Incoming;
use super::socket::Socket;
use crate::app::App;
use crate::auth::Caller;
use crate::core::ids::MessageId;
use crate::core::subject::about;
use crate::core::time::Timestamp;
use crate::hub::{Announcement, Identity, Lagged, Subscription};
use crate::mailbox::Gap;
use crate::net::peer::Peer;
use crate::session::{End, Ended, Options, Reply, Session, Turn};
use crate::telemetry::live::Direction;
use crate::telemetry::metrics::Sent;
use crate::wire::frame::{self, PING, PONG, TEXT};
use crate::wire::{CloseCode, ErrorCode, Event};

/// The number of bytes of answers, of live messages or of the log that are gathered into one write.
const BATCH_BYTES: usize = 64 * 1024;

/// The number of batches of announcements in a row after which the client's messages are read, whether or not more wait.
const MAX_PUSHES: u8 = 8;

/// The WebSocket below a session.
pub(super) struct Transport<S, P> {
    /// The stream.
    pub(super) socket: Socket<S>,
    /// The other end of its TCP connection.
    pub(super) peer: Peer,
    /// The permits that it holds until it has ended.
    pub(super) permits: P,
}

/// A session and its socket.
struct Driver<S> {
    session: Session,
    socket: Socket<S>,
    peer: Peer,
    /// The number of batches of announcements written since the last look at what the client sent.
    pushes: u8,
    /// A write has waited, for the close of the connection, too.
    waited: bool,
}

/// What a connection has to do next.
enum Next {
    /// The heartbeat, or the end.
    Ring(Ring),
    /// Messages for the groups of the connection.
    Push(Result<Vec<Arc<Announcement>>, Lagged>),
    /// A reply to an earlier request.
    Reply(Reply),
    /// The client has sent something, or is gone.
    Receive,
    /// The log holds messages for which there is room.
    CatchUp,
}

/// Starts the session of `caller` and returns the future that runs the connection until either side ends it.
///
/// Not an `async fn`, which would keep its arguments beside the values made of them for as long as the connection lasts.
pub(super) fn serve<S, P>(
    app: Arc<App>,
    transport: Transport<S, P>,
    caller: &Caller,
    identity: Identity,
    options: Options,
) -> impl Future<Output = ()> + use<S, P>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (session, mut subscription) = Session::start(app, caller, identity, options);
    let subject = session.subject();
    let Transport { socket, peer, permits } = transport;
    let mut driver = Driver { session, socket, peer, pushes: 0, waited: false };
    let connection = async move {
        tracing::info!("connected");
        // No caller would notice a panic: the task is detached.
        let end = AssertUnwindSafe(driver.run(&mut subscription)).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!("the connection's task panicked");
            CloseCode::Internal.into()
        });
        drop(subscription);
        let end = driver.read_last(end);
        let mut ended = driver.session.end(end);
        // Boxed: it is larger than the rest, which lasts for as long as the connection.
        Box::pin(driver.socket.finish(end, |incoming| receive_late(&mut ended, incoming))).await;
        ended.finish();
        drop(permits);
    };
    about(subject, connection)
}

/// Applies the proof in a message that came when the session had ended.
fn receive_late(ended: &mut Ended, incoming: Incoming<'_>) {
    match incoming {
        Incoming::Pong(payload) => ended.receive_pong(&payload),
        Incoming::Text(text) => ended.receive_text(&text),
        Incoming::Ping(_) | Incoming::Binary(_) => {}
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Runs until something ends the connection.
    async fn run(&mut self, announcements: &mut Subscription) -> End {
        let mut outcome = self.write_reply(Reply { event: self.session.connection_status(), reference: None }).await;
        let mut alarm = Alarm::new(self.session.next_beat(), self.session.connection().clone());
        while outcome.is_ok() {
            outcome = match poll_fn(|cx| self.poll_next(&mut alarm, announcements, cx)).await {
                Next::Ring(Ring::Close(code)) => Err(code.into()),
                Next::Ring(Ring::Beat) => {
                    let beat = self.beat().await;
                    alarm.set(self.session.next_beat());
                    beat
                }
                Next::Push(batch) => self.push(batch).await,
                Next::Reply(reply) => self.reply(reply).await,
                Next::Receive => self.receive().await,
                Next::CatchUp => Box::pin(self.catch_up()).await, // boxed: larger than all others
            };
            if std::mem::take(&mut self.waited) {
                alarm.renew();
            }
        }
        outcome.err().unwrap_or(End::Gone(None))
    }

    /// Polls what the connection waits for, the most urgent first.
    #[inline]
    fn poll_next(&mut self, alarm: &mut Alarm, announcements: &mut Subscription, cx: &mut Context<'_>) -> Poll<Next> {
        // Before announcements: a flood of them must not keep pings from going out.
        if let Poll::Ready(ring) = alarm.poll(cx) {
            return Poll::Ready(Next::Ring(ring));
        }
        if let Poll::Ready(batch) = announcements.poll_batch(cx) {
            return Poll::Ready(Next::Push(batch));
        }
        if let Poll::Ready(reply) = self.session.poll_reply(cx) {
            return Poll::Ready(Next::Reply(reply));
        }
        if self.socket.poll_readable(cx).is_ready() {
            return Poll::Ready(Next::Receive);
        }
        // Last, so that a long backlog does not keep the client's messages from being read.
        if self.session.must_read_log() { Poll::Ready(Next::CatchUp) } else { Poll::Pending }
    }

    /// Applies what a client that has vanished sent before: its proofs, and the close code, with which the end is returned.
    fn read_last(&mut self, end: End) -> End {
        while end == End::Gone(None)
            && let Some(last) = self.socket.read_last()
        {
            match last {
                Ok(Incoming::Pong(payload)) => self.session.receive_pong(&payload),
                Ok(Incoming::Text(text)) => self.session.receive_late_text(&text),
                Ok(Incoming::Ping(_) | Incoming::Binary(_)) => {}
                Err(last @ End::Gone(Some(_))) => return last,
                Err(_) => break,
            }
        }
        end
    }

    /// Writes what was announced.
    #[inline]
    async fn push(&mut self, batch: Result<Vec<Arc<Announcement>>, Lagged>) -> Result<(), End> {
        match batch {
            Ok(batch) => self.write_announced(batch).await?,
            Err(Lagged) => self.session.lagged(),
        }
        // Under a flood of announcements only this reads the client's messages: without it, it would time out as idle.
        self.pushes += 1;
        if self.pushes < MAX_PUSHES { Ok(()) } else { self.receive_ready().await }
    }

    #[inline]
    async fn write_announced(&mut self, mut batch: Vec<Arc<Announcement>>) -> Result<(), End> {
        if let [one] = &batch[..]
            && one.id.is_none()
        {
            self.session.metrics().traffic.sent.inc(Sent::Live);
            self.session.show(Direction::Out, None, one.payload());
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
                self.session.show(Direction::Out, None, payload);
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
        self.session.show(Direction::Out, Some(id), payload);
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
        append(&self.session, &mut out, &reply, Timestamp::now());
        async move { self.write(&out).await }
    }

    /// Processes the messages that are there already, if any.
    async fn receive_ready(&mut self) -> Result<(), End> {
        self.pushes = 0;
        match self.socket.readable().now_or_never() {
            Some(()) => self.receive().await,
            None => Ok(()),
        }
    }

    /// Answers what has arrived, in one write.
    #[inline]
    async fn receive(&mut self) -> Result<(), End> {
        self.pushes = 0;
        let (out, outcome) = self.answer_arrived();
        if !out.is_empty() {
            self.write(&out).await?; // requests that came before the end are still answered
        }
        buffers::give_back(out);
        outcome
    }

    /// Returns the answers to what has arrived, as frames, and whether the connection goes on behind them. Not `async`, so that what a turn
    /// needs takes no room in the task.
    #[inline]
    fn answer_arrived(&mut self) -> (Vec<u8>, Result<(), End>) {
        let (mut turn, mut out, mut outcome) = (self.session.begin_turn(), buffers::take(), Ok(()));
        while outcome.is_ok()
            && out.len() < BATCH_BYTES
            && let Some(next) = self.socket.next()
        {
            outcome = match next {
                Ok(incoming) => {
                    let answered = answer(&mut self.session, incoming, &mut turn, &mut out);
                    answered.map(|pings| self.socket.expect_pongs(pings))
                }
                Err(end) => {
                    self.session.reading_ended(end);
                    Err(end)
                }
            };
        }
        self.session.note_activity(turn.began);
        if matches!(outcome, Err(End::Close(CloseCode::RateLimited, _))) {
            let event = Event::Error { message: "Rate limit exceeded".into(), code: ErrorCode::RateLimited };
            let reference = self.session.take_refused_reference();
            append(&self.session, &mut out, &Reply { event, reference }, turn.now);
        }
        (out, outcome)
    }

    /// Appends a ping to `out`. Its pong is not counted against the client.
    fn append_ping(&mut self, out: &mut Vec<u8>, payload: &[u8]) {
        self.socket.expect_pongs(1);
        frame::append(out, PING, payload);
    }

    /// Writes whole frames; a write that waits ends when the session is closed.
    #[inline]
    async fn write(&mut self, frames: &[u8]) -> Result<(), End> {
        if let Some(code) = self.session.connection().close_code() {
            return Err(code.into()); // closed while these were gathered: a revoked credential receives nothing more
        }
        if self.socket.start_write(frames).await? {
            return Ok(());
        }
        self.waited = true;
        Box::pin(self.finish_write()).await // boxed, since few writes wait
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

/// Appends the reply to one message to `out`, where there is one at once. Returns the number of pings appended.
#[inline]
fn answer(session: &mut Session, incoming: Incoming<'_>, turn: &mut Turn, out: &mut Vec<u8>) -> Result<u32, End> {
    let reply = match incoming {
        Incoming::Ping(payload) => {
            frame::append(out, PONG, &payload);
            None
        }
        Incoming::Pong(payload) => {
            session.receive_pong(&payload);
            // One that had to wait until fewer pings were in flight.
            if let Some(watermark) = session.last_ping() {
                frame::append(out, PING, watermark.as_bytes());
                return Ok(1);
            }
            None
        }
        Incoming::Text(text) => session.receive_text(&text, turn)?,
        Incoming::Binary(payload) => Some(session.receive_binary(&payload)?),
    };
    if let Some(reply) = reply {
        append(session, out, &reply, turn.now);
    }
    Ok(0)
}

/// Appends `reply` to `out` as a frame, and counts it.
#[inline]
fn append(session: &Session, out: &mut Vec<u8>, reply: &Reply, now: Timestamp) {
    let start = out.len();
    match frame::append_json(out, |out| reply.event.stamped(reply.reference.as_deref(), now).write(out)) {
        Ok(()) => {
            session.metrics().traffic.record_sent(&reply.event);
            if session.is_watched() {
                session.show(Direction::Out, None, frame::payload(&out[start..]));
            }
        }
        Err(error) => tracing::error!(%error, "failed to encode an event"),
    }
}
