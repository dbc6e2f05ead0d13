//! The one task that is a connection.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant as Began;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::asks::{Asker, Asks, Order, device};
use super::count::{self, append};
use super::heartbeat::Heartbeat;
use super::socket::{End, Incoming, Progress, Socket};
use super::window::Window;
use crate::admission::rates::SingleRate;
use crate::app::App;
use crate::auth::Caller;
use crate::core::ids::{DeviceId, MessageId, UserId};
use crate::core::time::Timestamp;
use crate::handlers::CommandContext;
use crate::hub::presence::Identity;
use crate::hub::{Announcement, Connection, Lagged, Subscription};
use crate::mailbox::{LogReader, Welcome};
use crate::store::TokenHash;
use crate::telemetry::metrics::{MeasuredCommand, Received, Refused, Sent};
use crate::wire::frame;
use crate::wire::inbound::{Rejection, Request, Target, parse};
use crate::wire::{CloseCode, ErrorCode, Event, Inbound};

/// How many bytes of answers, of live messages or of the log are gathered into one write.
const BATCH_BYTES: usize = 64 * 1024;

/// What a client asked for in the handshake.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wish {
    /// Replay what is still there after this id.
    pub(super) since: Option<MessageId>,
    /// It will send `ack`s: pongs prove nothing.
    pub(super) client_acks: bool,
}

/// A live connection.
pub(super) struct Session<S> {
    app: Arc<App>,
    socket: Socket<S>,
    user: UserId,
    token: TokenHash,
    device: Option<DeviceId>,
    connection: Arc<Connection>,
    rate: SingleRate,
    clock: Heartbeat,
    feed: LogReader,
    welcome: Welcome,
    window: Window,
    client_acks: bool,
    /// The device, where the credential is a device's own.
    only: Option<DeviceId>,
    /// The device whose messages come here.
    reads: Option<DeviceId>,
    asks: Option<Box<Asks>>,
    /// There may be something in the log that no announcement will bring.
    behind: bool,
}

/// Lists the caller, hears its groups and serves it until the connection ends, by whomever.
pub(super) async fn serve<S>(app: Arc<App>, socket: Socket<S>, caller: Caller, identity: Identity, wish: Wish)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (hub, device) = (app.hub.clone(), identity.device_id);
    let reads = device.filter(|&device| reads(&app, &caller, device));
    // Only who hears a device's messages makes it be online.
    let present = hub.presence().enter(Identity { hears: reads, ..identity });
    app.metrics.sessions.started.inc();
    // A stop or a revocation between the handshake and this line has not seen this connection: look again, now that it is
    // listed.
    if app.stopping.is_cancelled() {
        present.connection.close(CloseCode::GoingAway);
    } else if !app.auth.still_valid(&caller) {
        present.connection.close(CloseCode::Unauthorized);
    } else if device.is_some_and(|device| !app.store.owns(caller.user.id, device).unwrap_or(false)) {
        present.connection.close(CloseCode::GoingAway); // its device has been taken away: it belongs to other groups
    }
    let connection = present.connection.clone();
    let (rate, clock) = {
        let limits = &app.config().limits;
        let expires = caller.token.expires_at.map(Timestamp::remaining);
        (SingleRate::per_minute(limits.messages_per_minute), Heartbeat::new(limits.ping_seconds, limits.idle_seconds, expires))
    };
    tracing::info!(conn = %connection.id, user = %caller.user.id, ?device, address = %identity.address, "connected");
    // Groups before the look at the log: what is committed after that look is announced to us.
    let groups = app.hub.subscribe(caller.user.id, reads);
    let (feed, welcome) = app.mailbox.reader(&caller.user, reads, wish.since);
    let mut session = Session {
        socket,
        feed,
        welcome,
        window: Window::new(),
        client_acks: wish.client_acks,
        only: caller.token.device_id,
        reads,
        asks: None,
        behind: welcome.pending > 0 || wish.since.is_some(),
        user: caller.user.id,
        token: caller.hash,
        device,
        rate,
        clock,
        connection: connection.clone(),
        app: app.clone(),
    };
    // A panic here would be nobody's: the task is detached from any caller.
    let end = AssertUnwindSafe(session.live(groups)).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(conn = %connection.id, "a session panicked");
        CloseCode::Internal.into()
    });
    app.auth.seen(caller.hash, device);
    count::ended(&app.metrics, end);
    tracing::info!(conn = %connection.id, user = %caller.user.id, ?end, "disconnected");
    drop(present);
    session.asks = None; // what is under way ends now, not when the last words are out
    session.socket.finish(end).await;
}

/// Whether `caller`'s connection takes the messages for `device`: its own, or the user's primary one as long as that has no
/// token of its own. Else an app of the user would take away what waits for the device.
fn reads(app: &App, caller: &Caller, device: DeviceId) -> bool {
    caller.token.device_id.is_some() || !app.store.has_own_token(device).unwrap_or(false)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Runs until something ends the connection.
    async fn live(&mut self, groups: Subscription) -> End {
        let hello = Event::ConnectionStatus {
            status: "connected",
            user_id: self.user,
            device_id: self.device,
            epoch: self.app.store.epoch().to_owned(),
            last_id: self.welcome.last_id,
            pending: self.welcome.pending,
            recovered: self.welcome.recovered,
        };
        let mut out = Vec::new();
        append(&self.app.metrics, &mut out, &hello, None, Timestamp::now());
        let mut outcome = self.write(&out).await;
        drop(out);
        // These three outlive a turn of the loop: making them anew for each message costs more than answering it.
        let connection = self.connection.clone();
        let mut closing = pin!(connection.closing());
        let mut hearing = pin!(groups.hear());
        let mut timer = pin!(sleep_until(self.clock.due));
        while outcome.is_ok() {
            outcome = tokio::select! {
                biased;
                code = &mut closing => Err(code.into()),
                // Before what is pushed: a flood of pushes must not keep pings from going out.
                () = &mut timer => {
                    let beat = self.beat().await;
                    timer.as_mut().reset(self.clock.due);
                    beat
                }
                (groups, heard) = &mut hearing => {
                    hearing.set(groups.hear());
                    self.push(heard).await
                }
                said = Asks::next(&mut self.asks) => {
                    let mut out = Vec::new();
                    append(&self.app.metrics, &mut out, &said.event, said.reference.as_deref(), Timestamp::now());
                    match self.write(&out).await {
                        // A model that talks without a pause must not keep the client from being heard.
                        Ok(()) => match self.socket.try_read() {
                            Some(incoming) => self.receive(incoming).await,
                            None => Ok(()),
                        },
                        ended => ended,
                    }
                }
                incoming = self.socket.read() => self.receive(incoming).await,
                // Last, so that a long backlog keeps nobody from being heard.
                () = std::future::ready(()), if self.behind && self.window.open() => self.catch_up().await,
            };
        }
        outcome.err().unwrap_or(End::Gone)
    }

    /// Writes what was announced.
    async fn push(&mut self, heard: Result<Vec<Arc<Announcement>>, Lagged>) -> Result<(), End> {
        match heard {
            Ok(heard) => self.write_announced(heard).await?,
            Err(Lagged) => {
                // What was queued is in the log. What was live is gone, at most once being its promise; the hub counts it.
                self.app.metrics.traffic.rereads.inc();
                self.behind = true;
            }
        }
        // Under a flood of pushes this is the only moment at which the client is heard: else it would be given up for silent.
        match self.socket.try_read() {
            Some(incoming) => self.receive(incoming).await,
            None => Ok(()),
        }
    }

    async fn write_announced(&mut self, mut heard: Vec<Arc<Announcement>>) -> Result<(), End> {
        if let [one] = &heard[..]
            && one.id.is_none()
        {
            self.app.metrics.traffic.sent.inc(Sent::Live);
            return self.write(one.encoded(frame::text)).await;
        }
        heard.sort_by_key(|a| a.id); // stable: what is live comes first, in its own order
        let (mut out, mut newest, mut messages, mut live) = (Vec::new(), None, 0, 0);
        for announced in heard {
            if !self.feed.wants(&announced) {
                continue;
            }
            if announced.id.is_some() {
                if self.behind || !self.window.open_for(messages, out.len()) {
                    self.behind = true; // it is in the log, and will be read when its turn comes
                    continue;
                }
                messages += 1;
                newest = announced.id;
            } else {
                if !out.is_empty() && out.len() + announced.payload().len() > BATCH_BYTES {
                    // What waits for a slow reader waits where all share it; only so much is copied for this one.
                    self.write(&out).await?;
                    out.clear();
                }
                live += 1;
            }
            frame::append(&mut out, frame::TEXT, announced.payload());
        }
        self.app.metrics.traffic.sent.of(Sent::Live).add(live);
        match newest {
            Some(newest) => self.write_queued(out, messages, newest).await,
            None if out.is_empty() => Ok(()),
            None => self.write(&out).await,
        }
    }

    /// Writes the next messages of the log.
    async fn catch_up(&mut self) -> Result<(), End> {
        let read = self.feed.read(&self.app.mailbox, BATCH_BYTES, self.window.room()).await;
        let chunk = read.map_err(|error| {
            tracing::error!(%error, user = %self.user, "the log can't be read");
            End::from(CloseCode::Internal)
        })?;
        self.behind = !chunk.complete;
        let count = chunk.messages.len();
        let Some(&(last, _)) = chunk.messages.last() else {
            self.feed.advance(chunk.upto);
            return Ok(());
        };
        let mut out = Vec::new();
        for (_, payload) in chunk.messages {
            frame::append(&mut out, frame::TEXT, &payload);
        }
        // The proof is asked for the last one written; the feed may stand further on, where nothing was left to read.
        self.write_queued(out, count, last).await?;
        self.feed.advance(chunk.upto);
        Ok(())
    }

    /// Writes queued messages up to `upto` and, behind them, the ping whose pong will prove that they were received.
    async fn write_queued(&mut self, mut bytes: Vec<u8>, messages: usize, upto: MessageId) -> Result<(), End> {
        self.window.sent(upto, messages, bytes.len());
        self.app.metrics.traffic.sent.of(Sent::Queued).add(messages as u64);
        if !self.client_acks {
            self.socket.pinged();
            frame::append(&mut bytes, frame::PING, &self.window.watermark(upto));
        }
        self.feed.advance(upto);
        self.write(&bytes).await?;
        self.app.mailbox.written(&self.feed.readers(), upto);
        Ok(())
    }

    /// Takes the client's proof that it has everything up to `upto`, if that was ever written to it.
    fn acknowledged(&mut self, upto: Option<MessageId>) {
        match upto.filter(|&id| self.window.received(id)) {
            Some(id) => self.app.mailbox.received(&self.feed.readers(), id, self.feed.joined()),
            None => self.app.mailbox.strange_ack(),
        }
    }

    /// Answers what came, together with what has come meanwhile, in one write.
    async fn receive(&mut self, first: Result<Incoming, End>) -> Result<(), End> {
        let now = Timestamp::now();
        let (mut out, mut next) = (Vec::new(), Some(first));
        let mut outcome = Ok(());
        while let Some(incoming) = next.take() {
            let incoming = incoming.inspect_err(|&end| count::hung_up_on(&self.app.metrics, end));
            outcome = incoming.and_then(|incoming| self.answer(incoming, now, &mut out));
            if outcome.is_ok() && out.len() < BATCH_BYTES {
                next = self.socket.try_read();
            }
        }
        self.connection.heard(std::time::Instant::now());
        if matches!(outcome, Err(End::Close(CloseCode::RateLimited, _))) {
            let error = Event::Error { message: "Rate limit exceeded".into(), code: ErrorCode::RateLimited };
            append(&self.app.metrics, &mut out, &error, None, now);
        }
        if !out.is_empty() {
            self.write(&out).await?; // what was asked before an end is still answered
        }
        outcome
    }

    /// Appends the answer to one message.
    fn answer(&mut self, incoming: Incoming, now: Timestamp, out: &mut Vec<u8>) -> Result<(), End> {
        match &incoming {
            Incoming::Alive => return Ok(()),
            Incoming::Pong(payload) => {
                // An empty one answers the heartbeat.
                if !payload.is_empty() {
                    let upto = self.window.read(payload).filter(|_| !self.client_acks);
                    self.acknowledged(upto);
                }
                return Ok(());
            }
            Incoming::Text(_) | Incoming::Binary(_) => {}
        }
        let metrics = &self.app.metrics;
        let of_user = || self.app.admission.messages.check(&self.user).map_err(|wait| (Refused::UserMessagesRate, wait));
        let checked = self.rate.check().map_err(|wait| (Refused::MessagesRate, wait)).and_then(|()| of_user());
        if let Err((why, wait)) = checked {
            metrics.refused.inc(why);
            return Err(End::too_many(wait));
        }
        let request = match incoming {
            Incoming::Text(text) => parse(&text, self.app.config().limits.max_message_chars, self.app.handlers().custom_types()),
            Incoming::Binary(_) | Incoming::Alive | Incoming::Pong(_) => Err(Rejection::binary()),
        };
        let request = match request {
            Ok(Inbound::Ask(request)) => Ok(request),
            Ok(Inbound::Ack(id)) if self.client_acks => {
                metrics.traffic.received.inc(Received::Ack);
                self.acknowledged(Some(id));
                return Ok(());
            }
            Ok(Inbound::Ack(_)) => Err(Rejection::ack_not_asked_for()),
            Err(rejection) => Err(rejection),
        };
        match request {
            Ok(request) => self.reply(request, now, out),
            Err(Rejection { code, message, reference }) => {
                count::rejected(metrics, code);
                append(metrics, out, &Event::Error { message, code }, reference.as_deref(), now);
            }
        }
        Ok(())
    }

    /// Appends the answer to a request where it takes no time; else has it come later.
    fn reply(&mut self, Request { reference, target, command }: Request, now: Timestamp, out: &mut Vec<u8>) {
        self.app.metrics.traffic.received.inc((&command).into());
        let (measured, began) = (MeasuredCommand::from(&command), Began::now());
        let quick = self.app.handlers().answer_immediately(self.user, command, now);
        if let Ok(answer) = &quick {
            self.app.metrics.record_command(&measured, answer, began, now);
        }
        let asked = || CommandContext { user: self.user, device: self.device, reference: reference.clone() };
        let outcome = if target == Target::Asker {
            match quick {
                Ok(answer) => return append(&self.app.metrics, out, &answer, reference.as_deref(), now),
                Err(command) => Asks::ask(&mut self.asks, &self.app, asked(), command, None),
            }
        } else {
            let asker = Asker { user: self.user, only: self.only };
            device(&self.app.store, asker, target).and_then(|device| {
                // Who commands a device is not that device: from here on its messages are for itself.
                let beside = self.reads == Some(device) && self.only.is_none();
                if beside {
                    self.feed.leave(device);
                }
                let order = Order { asker, device, beside };
                match quick {
                    Ok(refusal @ Event::Error { .. }) => {
                        append(&self.app.metrics, out, &refusal, reference.as_deref(), now);
                        Ok(())
                    }
                    Ok(answer) => Asks::perform(&mut self.asks, &self.app, order, answer, reference.clone()),
                    Err(command) => Asks::ask(&mut self.asks, &self.app, asked(), command, Some(order)),
                }
            })
        };
        if let Err(refusal) = outcome {
            append(&self.app.metrics, out, &refusal.into(), reference.as_deref(), now);
        }
    }

    /// Writes whole frames; a write that waits hears when the session is told to end.
    async fn write(&mut self, frames: &[u8]) -> Result<(), End> {
        if let Some(code) = self.connection.closed() {
            return Err(code.into()); // told while these were being read: who may hear nothing more hears nothing more
        }
        if self.socket.write(frames, self.connection.closing()).await? == Progress::Read {
            self.connection.heard(std::time::Instant::now()); // who reads is alive, even where its pongs are far behind
        }
        Ok(())
    }

    /// Pings, or gives up on a client that has been silent for too long.
    async fn beat(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.clock.expired(now) {
            return Err(CloseCode::Unauthorized.into());
        }
        let silence = self.connection.silence(now.into_std());
        if self.clock.given_up(silence) {
            return Err(CloseCode::NoPong.into());
        }
        if self.clock.advance(now, silence) {
            self.app.auth.seen(self.token, self.device);
            // A client may answer only the newest of several pings (RFC 6455 section 5.5.3): so while a proof is wanted, every
            // ping asks for it, or an empty one could swallow it.
            let mark = self.window.newest().filter(|_| !self.client_acks).map(|upto| self.window.watermark(upto));
            self.socket.pinged();
            let mut ping = Vec::new();
            frame::append(&mut ping, frame::PING, mark.as_ref().map_or(&[][..], |mark| mark));
            self.write(&ping).await?;
        }
        Ok(())
    }
}
