//! The start, the heartbeat and the end of a session.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::count;
use super::delivery::Delivery;
use super::end::End;
use super::heartbeat::{Beat, Heartbeat};
use super::pending::{PendingReplies, Reply};
use super::window::{Pings, Unproven};
use crate::accounts::policy::Requester;
use crate::admission::rates::SingleRateLimit;
use crate::app::App;
use crate::auth::Caller;
use crate::core::client::ClientName;
use crate::core::ids::{DeviceId, MessageId};
use crate::core::subject::Subject;
use crate::core::time::Timestamp;
use crate::hub::{Announcement, Connection, Identity, Registration, Subscription};
use crate::mailbox::{Gap, ReaderOptions, Since, Welcome};
use crate::store::{Token, TokenHash};
use crate::telemetry::live::{Direction, Frame};
use crate::telemetry::metrics::{Metrics, Sent};
use crate::wire::{CloseCode, Event};

/// The options of a connection.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The name of the reader that the client is.
    pub client: ClientName,
    /// The client only looks on: it proves nothing, moves nothing and is not presence.
    pub peek: bool,
    /// The longest payload that the client accepts, in bytes.
    pub max_bytes: Option<u32>,
    /// Replay what the log still holds after this id.
    pub since: Option<Since>,
    /// The client sends `ack`s: pongs prove nothing.
    pub client_acks: bool,
}

/// A live connection.
pub struct Session {
    pub(super) app: Arc<App>,
    registration: Registration,
    token: TokenHash,
    /// The credential, where it expires.
    expiring: Option<Arc<Token>>,
    /// The subject of requests: the user and, where the credential is a device's own, that device.
    pub(super) requester: Requester,
    pub(super) rate: SingleRateLimit,
    /// The `ref` of the message that exceeded a rate.
    pub(super) refused_reference: Option<String>,
    heartbeat: Heartbeat,
    welcome: Welcome,
    pub(super) delivery: Delivery,
    pub(super) pending: Option<Box<PendingReplies>>,
}

/// Returns whether `caller`'s connection receives the messages for `device`: its own, or the user's primary one as long as that
/// has no token of its own. Otherwise an app of the user would take away what waits for the device.
fn receives_for(app: &App, caller: &Caller, device: DeviceId) -> bool {
    caller.token.device_id.is_some() || !app.store.has_own_token(device, &app.changes.clock().present()).unwrap_or(false)
}

impl Session {
    /// Registers a connection of `caller` and subscribes to its groups.
    pub fn start(app: Arc<App>, caller: &Caller, identity: Identity, options: Options) -> (Self, Subscription) {
        let (user, device) = (caller.user.id, identity.device_id);
        // Only a connection that receives a device's messages makes it online.
        let receives_for = device.filter(|&device| receives_for(&app, caller, device));
        let reader = (!options.peek).then(|| options.client.clone());
        let registration = app.hub.presence().register(Identity { receives_for, ..identity }, reader);
        let connection = &registration.connection;
        app.metrics.sessions.started.inc();
        // A shutdown or a revocation between the handshake and this line has not seen this connection: check again, now that it
        // is listed.
        if app.stopping.is_cancelled() {
            connection.close(CloseCode::GoingAway);
        } else if !app.auth.still_valid(caller) {
            connection.close(CloseCode::Unauthorized);
        } else if device.is_some_and(|device| !app.store.owns(user, device).unwrap_or(false)) {
            connection.close(CloseCode::GoingAway); // its device has another owner now: it belongs to other groups
        }
        let (rate, heartbeat) = {
            let limits = &app.config().limits;
            let expires = caller.token.remaining(&app.changes.clock().present());
            (SingleRateLimit::per_minute(limits.messages_per_minute), Heartbeat::new(limits, expires))
        };
        // Groups before the log: what is committed after the log has been looked at is announced to this connection.
        let subscription = app.hub.subscribe(user, receives_for, options.peek);
        let behind = options.since.is_some();
        let Options { client, peek, max_bytes, since, client_acks } = options;
        let of_device = receives_for.and_then(|device| app.store.device(device).ok().flatten()?.max_bytes);
        let max_bytes = max_bytes.into_iter().chain(of_device).min();
        let position = connection.position().clone();
        let place = ReaderOptions { user, client, device: receives_for, since, max_bytes, peek, position };
        let (reader, welcome) = app.mailbox.reader(place);
        let behind = welcome.pending > 0 || behind;
        // Forgotten between the handshake and this line.
        if !peek && !app.mailbox.has_reader(user, reader.reader().1) {
            registration.connection.close(CloseCode::GoingAway);
        }
        let (cautious, client_acks) = (app.mailbox.is_cautious(&reader), client_acks && !peek);
        let session = Self {
            registration,
            token: caller.hash,
            expiring: caller.token.expires_at.map(|_| caller.token.clone()),
            requester: Requester::from(caller),
            rate,
            refused_reference: None,
            heartbeat,
            welcome,
            delivery: Delivery::new(reader, welcome.last_id, client_acks, behind, cautious),
            pending: None,
            app,
        };
        (session, subscription)
    }

    /// The first event of the connection.
    pub fn connection_status(&self) -> Event {
        Event::ConnectionStatus {
            status: "connected",
            user_id: self.requester.user,
            device_id: self.device(),
            epoch: self.app.store.epoch().to_owned(),
            last_id: self.welcome.last_id,
            pending: self.welcome.pending,
            recovered: self.welcome.recovered,
            missed: Some(self.welcome.missed).filter(|&missed| missed > 0),
        }
    }

    /// Returns what returns the subject of the connection's log lines.
    pub fn subject(&self) -> impl Fn() -> Option<Subject> + use<> {
        let connection = self.connection().clone();
        move || {
            let Identity { user_id: user, device_id: device, address, .. } = connection.identity;
            Some(Subject { connection: connection.id, user, device, address })
        }
    }

    /// Ends the session: counts and logs `end`, leaves the presence, and drops what is pending. Returns what still receives proofs
    /// while the socket is drained.
    pub fn end(self, end: End) -> Ended {
        self.note_seen();
        count::ended(&self.app.metrics, end);
        if let End::Close(code, retry_after) = end
            && code.announced()
            && self.is_watched()
        {
            let mut event = Vec::new();
            if Event::disconnect(code, retry_after).stamped(None, Timestamp::now()).write(&mut event).is_ok() {
                self.show_frame(Direction::Out, None, &event);
            }
        }
        tracing::info!(reason = %end, code = end.code(), client_code = end.client_code(), "disconnected");
        drop(self.registration);
        drop(self.pending); // now, not when the close frame has been written
        Ended { app: self.app, delivery: self.delivery, end }
    }

    /// The connection's entry in the presence.
    #[inline]
    pub fn connection(&self) -> &Arc<Connection> {
        &self.registration.connection
    }

    /// The server's metrics.
    #[inline]
    pub fn metrics(&self) -> &Metrics {
        &self.app.metrics
    }

    /// Returns whether anybody looks at messages.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.app.metrics.live.traffic.is_watched()
    }

    /// Shows a message of this connection to those who look on.
    #[inline]
    pub fn show(&self, direction: Direction, id: Option<MessageId>, payload: &[u8]) {
        if self.is_watched() {
            self.show_frame(direction, id, payload);
        }
    }

    #[cold]
    fn show_frame(&self, direction: Direction, id: Option<MessageId>, payload: &[u8]) {
        let connection = self.connection();
        let Identity { user_id, device_id, .. } = connection.identity;
        let frame = Frame { user: user_id, device: device_id, connection: connection.id };
        self.app.metrics.live.framed(frame, direction, id, payload);
    }

    /// The device that the connection stands for.
    pub(super) fn device(&self) -> Option<DeviceId> {
        self.connection().identity.device_id
    }

    /// Notes the time at which the client was last there, and the device, if its messages are received here: an app of its user, or one
    /// that only looks on, is not the device.
    fn note_seen(&self) {
        let connection = self.connection();
        let device = connection.identity.receives_for.filter(|_| connection.reader.is_some());
        self.app.auth.seen(self.token, device, connection.last_activity());
    }

    /// Notes activity of the client at `at`.
    #[inline]
    pub fn note_activity(&self, at: std::time::Instant) {
        self.connection().note_activity(at);
    }

    /// The next moment at which [`Session::beat`] is due.
    pub fn next_beat(&self) -> Instant {
        self.heartbeat.due
    }

    /// Checks that the connection may last; `writing`: a write waits for the client to read.
    ///
    /// # Errors
    /// The end of the connection when its credential has expired, or its client has shown no sign of life for too long.
    pub fn check_time(&mut self, writing: bool) -> Result<(), End> {
        let now = Instant::now();
        // What the client has sent meanwhile lies unread: it is read before the client is judged.
        let slept = self.heartbeat.slept();
        if !slept.is_zero() {
            self.connection().note_sleep(slept, now.into_std());
        }
        if self.heartbeat.expired(now) {
            tracing::debug!("credential expired");
            return Err(CloseCode::Unauthorized.into());
        }
        let silence = self.connection().silence(now.into_std());
        if self.heartbeat.stalled(silence, writing) {
            tracing::debug!(silent_seconds = silence.as_secs(), "stalled");
            self.app.metrics.sessions.stalled.inc();
            return Err(CloseCode::NoPong.into());
        }
        Ok(())
    }

    /// Returns what the heartbeat has due now.
    ///
    /// # Errors
    /// As [`check_time`](Self::check_time).
    pub fn beat(&mut self) -> Result<Beat, End> {
        if let Some(token) = &self.expiring {
            // Timers stand still while the machine sleeps, and a stop may turn out to have been longer than was known.
            let left = token.remaining(&self.app.changes.clock().present());
            self.heartbeat.set_end(left);
        }
        self.check_time(false)?;
        let now = Instant::now();
        let silence = self.connection().silence(now.into_std());
        let mut beat = Beat { ping: None, idle: self.heartbeat.idle(silence) };
        if self.heartbeat.advance(now, silence) {
            self.note_seen();
            // A client may answer only the newest of several pings (RFC 6455 section 5.5.3): so while a proof is wanted, every ping
            // asks for it, or an empty one could replace it.
            beat.ping = Some(self.delivery.periodic_ping());
            if self.delivery.unproved() && !beat.idle {
                self.note_unproved();
            }
        }
        Ok(beat)
    }

    /// Marks the connection as one that proves nothing although its client is alive, and logs that once.
    fn note_unproved(&self) {
        if !self.connection().set_unproved(true) {
            self.app.metrics.sessions.unproved.inc();
            let count = self.delivery.unproven().count;
            tracing::info!(count, "pings are not answered with their payload: messages stay queued; connect with ack=client");
        }
    }

    /// Returns whether the log is to be read now.
    #[inline]
    pub fn must_read_log(&self) -> bool {
        self.delivery.must_read()
    }

    /// Reads the next messages of the log, ids and payloads: about `max_bytes` of payloads; and the gap before them, where messages
    /// have been removed. The caller writes all of it.
    ///
    /// # Errors
    /// The end of the connection when the store fails.
    pub async fn read_log(&mut self, max_bytes: usize) -> Result<(Option<Gap>, Vec<(MessageId, Vec<u8>)>), End> {
        self.delivery.read(&self.app.mailbox, max_bytes).await.map_err(|error| {
            tracing::error!(%error, "failed to read the message log");
            End::from(CloseCode::Internal)
        })
    }

    /// Notes that announcements were missed. The queued ones are in the log; the live ones are lost, at most once being their
    /// promise, and the hub counts that.
    pub fn lagged(&mut self) {
        tracing::debug!("lagged behind the announcements: reading the log again");
        self.app.metrics.traffic.rereads.inc();
        self.delivery.missed();
    }

    /// Returns whether `announcement` is to be written now.
    #[inline]
    pub fn accepts(&mut self, announcement: &Announcement) -> bool {
        self.delivery.accepts(announcement)
    }

    /// Notes that a queued message of so many bytes is about to be written, and `rest` more behind it. Returns the pings to write
    /// around it.
    pub fn sending_queued(&mut self, id: MessageId, bytes: usize, rest: usize) -> Pings {
        self.app.metrics.traffic.sent.inc(Sent::Queued);
        self.delivery.sending(id, bytes, rest)
    }

    /// Returns the payload of the ping to write behind the last queued messages, if there is none yet: fewer may have followed than
    /// was said.
    pub fn last_ping(&mut self) -> Option<String> {
        self.delivery.last_ping()
    }

    /// Notes that queued messages up to `upto` have been written.
    pub fn written(&mut self, upto: MessageId) {
        self.delivery.written(&self.app.mailbox, upto);
    }

    /// Polls for the next reply to an earlier request.
    #[inline]
    pub fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Reply> {
        match &mut self.pending {
            Some(pending) => pin!(pending.next()).poll(cx), // dropping the future loses nothing
            None => Poll::Pending,
        }
    }
}

/// A session that has ended and whose socket is being drained: proofs that are on their way still count.
pub struct Ended {
    app: Arc<App>,
    delivery: Delivery,
    end: End,
}

impl Ended {
    /// Applies a pong.
    pub fn receive_pong(&mut self, payload: &[u8]) {
        self.delivery.pong(&self.app.mailbox, payload);
    }

    /// Applies a text message where it is an acknowledgement; others are ignored.
    pub fn receive_text(&mut self, text: &str) {
        self.delivery.late_text(&self.app.mailbox, text);
    }

    /// Notes and logs what stays unproved, once nothing more can arrive.
    pub fn finish(mut self) {
        let Unproven { first, count, proved_any } = self.delivery.unproven();
        let (id, client_code) = (first.map(|id| id.0), self.end.client_code());
        tracing::debug!(id, count, proved_any, client_code, "messages left unproved");
        self.delivery.ended(&self.app.mailbox, self.end);
    }
}
