//! The task of one console.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep_until};

use super::connections::ConnectionsTopic;
use super::events::{ConsoleEvent, PlainEvent, append};
use super::request::{Request, Subscribe, Topic, Unusable};
use crate::admission::rates::SingleRateLimit;
use crate::app::App;
use crate::auth::{Actor, Caller, Rights};
use crate::core::awake::AwakeInstant;
use crate::core::ids::{DeviceId, Recipient, UserId};
use crate::history::OverviewResponse;
use crate::hub::{ConnectionFilter, Identity, Registration};
use crate::monitor;
use crate::session::End;
use crate::telemetry::live::{ReceiptEvent, TrafficEvent, Watcher, Weigh};
use crate::telemetry::metrics::Refused;
use crate::wire::CloseCode;
use crate::wire::frame::{self, PING, PONG};
use crate::ws::reader::Incoming;
use crate::ws::socket::Socket;
use crate::ws::stream::ClientStream;

/// The time between two looks at the overview.
const OVERVIEW_INTERVAL: Duration = Duration::from_secs(1);
/// The time after which an overview is sent although nothing has changed.
const OVERVIEW_REPEAT: Duration = Duration::from_secs(10);
/// The time between two frames of connections.
const CONNECTIONS_INTERVAL: Duration = Duration::from_millis(500);
/// The time between two frames of receipts or traffic.
const EVENTS_INTERVAL: Duration = Duration::from_millis(100);
/// The most items in a frame of receipts or traffic.
const MAX_ITEMS: usize = 250;
/// The most bytes of contents in a frame of traffic; one item may have more.
const MAX_CONTENTS_BYTES: usize = 256 * 1024;
/// "Never" as a timer's duration: tokio's own far future.
const NEVER: Duration = Duration::from_secs(86_400 * 365 * 30);

/// The subscription to the overview.
struct Overview {
    due: Instant,
    /// The one that was sent last, and when.
    sent: Option<(Instant, Arc<OverviewResponse>)>,
}

/// The subscription to events.
struct Events<T> {
    due: Instant,
    watcher: Watcher<T>,
}

impl<T> Events<T> {
    fn new(watcher: Watcher<T>) -> Self {
        Self { due: Instant::now() + EVENTS_INTERVAL, watcher }
    }
}

/// The subscriptions of a console, one to each topic.
#[derive(Default)]
struct Subscriptions {
    overview: Option<Overview>,
    connections: Option<(Instant, ConnectionsTopic)>,
    receipts: Option<Events<ReceiptEvent>>,
    traffic: Option<Events<TrafficEvent>>,
}

impl Subscriptions {
    /// The next moment at which something is due.
    fn due(&self) -> Option<Instant> {
        let connections = self.connections.as_ref().map(|(due, _)| *due);
        let (receipts, traffic) = (self.receipts.as_ref().map(|e| e.due), self.traffic.as_ref().map(|e| e.due));
        [self.overview.as_ref().map(|o| o.due), connections, receipts, traffic].into_iter().flatten().min()
    }

    fn end(&mut self, topic: Topic) {
        match topic {
            Topic::Overview => self.overview = None,
            Topic::Connections => self.connections = None,
            Topic::Receipts => self.receipts = None,
            Topic::Traffic => self.traffic = None,
        }
    }
}

/// One console.
pub(super) struct ConsoleTask {
    app: Arc<App>,
    socket: Socket<ClientStream>,
    caller: Caller,
    actor: Actor,
    /// The state of all rights at the last look.
    rights: Rights,
    registration: Registration,
    rate: SingleRateLimit,
    subscriptions: Subscriptions,
    next_ping: Instant,
    /// The last frame of the client.
    heard: AwakeInstant,
}

impl ConsoleTask {
    /// Registers a console of `caller`.
    pub(super) fn start(app: Arc<App>, socket: Socket<ClientStream>, caller: Caller, address: IpAddr) -> Self {
        let rights = app.auth.rights();
        let identity =
            Identity { user_id: caller.user.id, device_id: None, receives_for: None, token_id: caller.token.id, address };
        let registration = app.consoles.register(identity, None);
        // A shutdown or a revocation since the handshake has not seen this one: check again, now that it is listed.
        if app.stopping.is_cancelled() {
            registration.connection.close(CloseCode::GoingAway);
        } else if !app.auth.still_valid(&caller) {
            registration.connection.close(CloseCode::Unauthorized);
        }
        let rate = SingleRateLimit::per_minute(app.config().limits.messages_per_minute);
        let mut task = Self {
            actor: caller.actor(),
            caller,
            socket,
            rights,
            registration,
            rate,
            subscriptions: Subscriptions::default(),
            next_ping: Instant::now(),
            heard: AwakeInstant::now(),
            app,
        };
        task.next_ping = Instant::now() + task.ping_interval();
        task
    }

    /// The time between two pings.
    fn ping_interval(&self) -> Duration {
        match self.app.config().limits.ping_seconds {
            0 => NEVER,
            seconds => Duration::from_secs(seconds.into()),
        }
    }

    /// Runs until either side ends it.
    pub(super) async fn run(mut self) {
        let Identity { user_id, address, .. } = self.registration.connection.identity;
        tracing::info!(user = %user_id, %address, "console connected");
        // No caller would notice a panic: the task is detached.
        let end = AssertUnwindSafe(self.serve()).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!("the task of a console panicked");
            CloseCode::Internal.into()
        });
        self.app.auth.seen(self.caller.hash, None, self.registration.connection.last_activity());
        tracing::info!(user = %user_id, reason = %end, code = end.code(), "console disconnected");
        let Self { mut socket, registration, subscriptions, .. } = self;
        drop((registration, subscriptions)); // now, not when the close frame has been written
        socket.finish(end, |_| ()).await;
    }

    async fn serve(&mut self) -> End {
        let mut out = Vec::new();
        let contents = self.app.metrics.live.contents();
        let role = if self.actor == Actor::Admin { "admin" } else { "user" };
        append(&mut out, &PlainEvent::Hello { version: env!("CARGO_PKG_VERSION"), role, console_contents: contents });
        let mut outcome = self.write(&out).await;
        while outcome.is_ok() {
            outcome = self.turn().await;
        }
        outcome.err().unwrap_or(End::Gone(None))
    }

    /// Waits for the next thing to do, and does it.
    async fn turn(&mut self) -> Result<(), End> {
        let due = self.subscriptions.due().map_or(self.next_ping, |due| due.min(self.next_ping));
        let connection = self.registration.connection.clone();
        tokio::select! {
            biased;
            code = connection.closing() => return Err(code.into()),
            () = sleep_until(due) => {}
            () = self.socket.readable() => return self.receive().await,
        }
        self.check_rights()?;
        self.beat().await?;
        self.send_due().await
    }

    /// Checks that the credential and the role are as they were.
    fn check_rights(&mut self) -> Result<(), End> {
        let rights = self.app.auth.rights();
        if self.app.auth.unchanged(&self.caller, self.rights) {
            return Ok(());
        }
        match self.app.auth.present_actor(&self.caller) {
            None => Err(CloseCode::Unauthorized.into()),
            Some(actor) if actor != self.actor => Err(CloseCode::GoingAway.into()), // it returns with its new role
            Some(_) => {
                self.rights = rights;
                Ok(())
            }
        }
    }

    /// Sends the ping that is due, or ends a console that has been silent for too long.
    async fn beat(&mut self) -> Result<(), End> {
        if Instant::now() < self.next_ping {
            return Ok(());
        }
        let idle = self.app.config().limits.idle_seconds;
        if idle > 0 && self.heard.elapsed() >= Duration::from_secs(idle.into()) {
            return Err(CloseCode::NoPong.into());
        }
        self.next_ping = Instant::now() + self.ping_interval();
        let mut out = Vec::new();
        frame::append(&mut out, PING, b"");
        self.socket.expect_pongs(1);
        self.write(&out).await
    }

    /// Answers what has arrived.
    async fn receive(&mut self) -> Result<(), End> {
        let mut out = Vec::new();
        let mut outcome = Ok(());
        while outcome.is_ok()
            && let Some(next) = self.socket.next()
        {
            let text = match next {
                Ok(Incoming::Ping(payload)) => {
                    frame::append(&mut out, PONG, &payload);
                    None
                }
                Ok(Incoming::Pong(_)) => None,
                Ok(Incoming::Text(text)) => Some(text.into_owned()),
                Ok(Incoming::Binary(_)) => Some(String::new()), // no JSON
                Err(end) => {
                    outcome = Err(end);
                    break;
                }
            };
            self.heard = AwakeInstant::now();
            self.registration.connection.note_activity(std::time::Instant::now());
            if let Some(text) = text {
                outcome = self.rate.check().map_err(|wait| {
                    self.app.metrics.refused.inc(Refused::MessagesRate);
                    End::too_many(wait)
                });
                if outcome.is_ok() {
                    self.answer(&text, &mut out);
                }
            }
        }
        if !out.is_empty() {
            self.write(&out).await?; // requests that came before the end are still answered
        }
        outcome
    }

    /// Appends the answer to one message.
    fn answer(&mut self, text: &str, out: &mut Vec<u8>) {
        let answered = Request::parse(text).and_then(|request| match request {
            Request::Ping => Ok(PlainEvent::Pong),
            Request::Unsubscribe(topic) => {
                self.subscriptions.end(topic);
                Ok(PlainEvent::Unsubscribed { topic: topic.name() })
            }
            Request::Subscribe(subscribe) => {
                let topic = subscribe.topic();
                self.subscribe(subscribe)?;
                Ok(PlainEvent::Subscribed { topic: topic.name() })
            }
        });
        match answered {
            Ok(event) => append(out, &event),
            Err(Unusable { code, message, topic }) => {
                append(out, &PlainEvent::Error { code, message: &message, topic: topic.map(Topic::name) });
            }
        }
    }

    /// Begins a subscription, in the place of an earlier one to its topic.
    fn subscribe(&mut self, subscribe: Subscribe) -> Result<(), Unusable> {
        let (topic, is_admin, user) = (subscribe.topic(), self.actor == Actor::Admin, self.caller.user.id);
        let forbidden = |message: &str| Unusable { code: "forbidden", message: message.into(), topic: Some(topic) };
        let (now, live) = (Instant::now(), &self.app.metrics.live);
        match subscribe {
            Subscribe::Overview | Subscribe::Traffic(_) if !is_admin => {
                return Err(forbidden("this topic is for administrators"));
            }
            Subscribe::Connections(filter) if !is_admin && filter.user_id.is_some_and(|asked| asked != user) => {
                return Err(forbidden("filter: users see their own connections only"));
            }
            Subscribe::Overview => self.subscriptions.overview = Some(Overview { due: now, sent: None }),
            Subscribe::Connections(filter) => {
                let filter = if is_admin { filter } else { ConnectionFilter { user_id: Some(user), ..filter } };
                self.subscriptions.connections = Some((now, ConnectionsTopic::new(filter)));
            }
            Subscribe::Receipts => {
                let watcher = if is_admin { live.receipts.watch(|_| true) } else { live.receipts.watch(self.own_receipts()) };
                self.subscriptions.receipts = Some(Events::new(watcher));
            }
            Subscribe::Traffic(filter) => {
                self.subscriptions.traffic = Some(Events::new(live.traffic.watch(move |event| filter.matches(event))));
            }
        }
        Ok(())
    }

    /// Returns the filter of a user's receipts: of what the user has sent, and of what the user and the user's devices get.
    fn own_receipts(&self) -> impl Fn(&ReceiptEvent) -> bool + Send + 'static {
        let user = self.caller.user.id;
        let devices: Vec<DeviceId> = self.app.store.bound_devices(user, DeviceId(0)).flatten().collect();
        move |event| is_own(event, user, &devices)
    }

    /// Sends what is due of the topics.
    async fn send_due(&mut self) -> Result<(), End> {
        let (now, mut out) = (Instant::now(), Vec::new());
        self.append_overview(now, &mut out).await;
        self.append_connections(now, &mut out).await;
        if self.subscriptions.receipts.as_ref().is_some_and(|events| events.due <= now) && self.actor != Actor::Admin {
            let filter = self.own_receipts(); // devices come and go
            if let Some(events) = &self.subscriptions.receipts {
                events.watcher.set_filter(filter);
            }
        }
        if let Some(events) = self.subscriptions.receipts.as_mut().filter(|events| events.due <= now) {
            append_events(events, Topic::Receipts, now, &mut out, |items| ConsoleEvent::Receipts { items });
        }
        if let Some(events) = self.subscriptions.traffic.as_mut().filter(|events| events.due <= now) {
            append_events(events, Topic::Traffic, now, &mut out, |items| ConsoleEvent::Traffic { items });
        }
        if out.is_empty() { Ok(()) } else { self.write(&out).await }
    }

    async fn append_overview(&mut self, now: Instant, out: &mut Vec<u8>) {
        let Some(topic) = self.subscriptions.overview.as_mut().filter(|topic| topic.due <= now) else { return };
        topic.due = now + OVERVIEW_INTERVAL;
        let overview = monitor::overview(&self.app).await;
        let is_news = topic.sent.as_ref().is_none_or(|(at, sent)| now - *at >= OVERVIEW_REPEAT || overview.differs(sent));
        if is_news {
            append(out, &PlainEvent::Overview { data: &overview });
            topic.sent = Some((now, overview));
        }
    }

    async fn append_connections(&mut self, now: Instant, out: &mut Vec<u8>) {
        let Some((_, mut topic)) = self.subscriptions.connections.take_if(|(due, _)| *due <= now) else { return };
        let app = self.app.clone();
        let compared = tokio::task::spawn_blocking(move || {
            let frame = topic.next(&app);
            (topic, frame)
        });
        let Ok((topic, frame)) = compared.await else { return };
        if let Some(frame) = frame {
            append(out, &frame);
        }
        self.subscriptions.connections = Some((now + CONNECTIONS_INTERVAL, topic));
    }

    /// Writes whole frames; a write that waits ends when the console is closed.
    async fn write(&mut self, frames: &[u8]) -> Result<(), End> {
        let connection = self.registration.connection.clone();
        if let Some(code) = connection.close_code() {
            return Err(code.into()); // a revoked credential receives nothing more
        }
        self.socket.write(frames, connection.closing()).await.map(drop)
    }
}

/// Returns whether an event is of a message that `user` has sent, or that is for the user or one of `devices`.
fn is_own(event: &ReceiptEvent, user: UserId, devices: &[DeviceId]) -> bool {
    event.sender == Some(user)
        || match event.recipient {
            Recipient::User(recipient) => recipient == user,
            Recipient::Device(device) => devices.contains(&device),
            // Others' clients are nobody's business.
            Recipient::All => event.client.is_some() && event.user_id == Some(user),
        }
}

/// Appends the events that have come, and the number of those that were dropped in front of them.
fn append_events<T: Weigh + serde::Serialize>(
    events: &mut Events<T>,
    topic: Topic,
    now: Instant,
    out: &mut Vec<u8>,
    frame: impl Fn(&[Arc<T>]) -> ConsoleEvent<'_, T>,
) {
    events.due = now + EVENTS_INTERVAL;
    let (items, lost) = events.watcher.take(MAX_ITEMS, MAX_CONTENTS_BYTES);
    if lost > 0 {
        append(out, &PlainEvent::lost(topic, lost));
    }
    if !items.is_empty() {
        append(out, &frame(&items));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::client::ClientName;
    use crate::core::ids::MessageId;

    #[test]
    fn receipts_of_a_user_are_those_it_sent_and_those_for_it_and_its_devices() {
        let (ana, bob, lamp) = (UserId(1), UserId(2), DeviceId(7));
        let of = |recipient, sender| ReceiptEvent::of_message(MessageId(1), recipient, sender, "queued");
        let own = |event: &ReceiptEvent| is_own(event, ana, &[lamp]);
        assert!(own(&of(Recipient::User(ana), bob)) && own(&of(Recipient::User(bob), ana)));
        assert!(own(&of(Recipient::Device(lamp), bob)) && !own(&of(Recipient::Device(DeviceId(8)), bob)));
        assert!(!own(&of(Recipient::User(bob), bob)) && !own(&of(Recipient::All, bob)));
        let read = |user| ReceiptEvent::of_client(MessageId(1), Recipient::All, bob, "acked", (user, ClientName::default()));
        assert!(own(&read(ana)) && !own(&read(bob)));
    }
}
