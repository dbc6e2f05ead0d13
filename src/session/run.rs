//! The one task that is a connection.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::socket::{End, Incoming, Socket};
use crate::app::App;
use crate::auth::Caller;
use crate::door::rates::SingleRate;
use crate::handlers;
use crate::hub::presence::Identity;
use crate::hub::{Connection, Lagged, Subscription};
use crate::ids::{DeviceId, UserId};
use crate::store::TokenHash;
use crate::wire::inbound::{Rejection, parse};
use crate::wire::{CloseCode, ErrorCode, Event, Frame, Timestamp};

/// How many bytes of answers or pushes are gathered into one write.
const BATCH_BYTES: usize = 64 * 1024;

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
}

/// Lists the caller, hears its groups and serves it until the connection ends, by whomever.
pub(super) async fn serve<S>(app: Arc<App>, socket: Socket<S>, caller: Caller, identity: Identity)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (hub, device) = (app.hub.clone(), identity.device_id);
    let present = hub.presence().enter(identity);
    // A stop or a revocation between the handshake and this line has not seen this connection: look again, now that it is
    // listed.
    if app.stopping.is_cancelled() {
        present.connection.close(CloseCode::GoingAway);
    } else if !app.auth.still_valid(&caller) {
        present.connection.close(CloseCode::Unauthorized);
    }
    let (connection, limits) = (present.connection.clone(), &app.config.limits);
    tracing::info!(conn = %connection.id, user = %caller.user.id, ?device, address = %identity.address, "connected");
    let mut session = Session {
        socket,
        user: caller.user.id,
        token: caller.hash,
        device,
        rate: SingleRate::per_minute(limits.messages_per_minute),
        clock: Heartbeat::new(limits.ping_seconds, limits.idle_seconds),
        connection: connection.clone(),
        app: app.clone(),
    };
    // Groups before the first event: nothing published after it is missed.
    let mut groups = app.hub.subscribe(caller.user.id, device);
    // A panic here would be nobody's: the task is detached from any caller.
    let end = AssertUnwindSafe(session.live(&mut groups)).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(conn = %connection.id, "a session panicked");
        CloseCode::Internal.into()
    });
    drop(groups);
    app.auth.seen(caller.hash, device);
    tracing::info!(conn = %connection.id, user = %caller.user.id, ?end, "disconnected");
    drop(present);
    session.socket.finish(end).await;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Runs until something ends the connection.
    async fn live(&mut self, groups: &mut Subscription) -> End {
        let hello = Event::ConnectionStatus {
            status: "connected",
            user_id: self.user,
            device_id: self.device,
            epoch: self.app.store.epoch().to_owned(),
            last_id: 0,
            pending: 0,
        };
        let mut out = Vec::new();
        append(&mut out, &hello, None);
        let mut outcome = self.socket.write(&out).await;
        drop(out);
        while outcome.is_ok() {
            outcome = tokio::select! {
                code = self.connection.closing() => Err(code.into()),
                frame = groups.next() => push(&mut self.socket, frame, groups).await,
                incoming = self.socket.read() => receive(self.app.as_ref(), &mut self.socket, &self.connection, &self.rate, self.user, incoming).await,
                () = self.clock.due() => self.beat().await,
            };
        }
        outcome.err().unwrap_or(End::Gone)
    }

    /// Pings, or gives up on a client that has been silent for too long.
    async fn beat(&mut self) -> Result<(), End> {
        let now = Instant::now();
        let silence = self.connection.silence(now.into_std());
        if self.clock.given_up(silence) {
            return Err(CloseCode::NoPong.into());
        }
        if self.clock.advance(now, silence) {
            self.app.auth.seen(self.token, self.device);
            self.socket.write(Frame::ping(b"").as_bytes()).await?;
        }
        Ok(())
    }
}

/// Writes what was published, together with what has been published meanwhile.
async fn push<S>(socket: &mut Socket<S>, first: Result<Arc<Frame>, Lagged>, groups: &mut Subscription) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let behind = |_: Lagged| End::from(CloseCode::TooSlow);
    let first = first.map_err(behind)?;
    let Some(second) = groups.try_next().map_err(behind)? else {
        return socket.write(first.as_bytes()).await;
    };
    let mut batch = [first.as_bytes(), second.as_bytes()].concat();
    while batch.len() < BATCH_BYTES
        && let Some(frame) = groups.try_next().map_err(behind)?
    {
        batch.extend_from_slice(frame.as_bytes());
    }
    socket.write(&batch).await
}

/// Answers what came, together with what has come meanwhile, in one write.
async fn receive<S>(
    app: &App,
    socket: &mut Socket<S>,
    connection: &Connection,
    rate: &SingleRate,
    user: UserId,
    first: Result<Incoming, End>,
) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut out, mut next) = (Vec::new(), Some(first));
    let mut outcome = Ok(());
    let now = Timestamp::now();
    while let Some(incoming) = next.take() {
        outcome = incoming.and_then(|incoming| answer(app, rate, user, incoming, now, &mut out));
        if outcome.is_ok() && out.len() < BATCH_BYTES {
            next = socket.try_read();
        }
    }
    connection.heard(std::time::Instant::now());
    if !out.is_empty() {
        // What was asked before the end is still answered.
        socket.write(&out).await?;
    }
    outcome
}

/// Appends the answer to one message.
fn answer(app: &App, rate: &SingleRate, user: UserId, incoming: Incoming, now: Timestamp, out: &mut Vec<u8>) -> Result<(), End> {
    if matches!(incoming, Incoming::Alive) {
        return Ok(());
    }
    if let Err(wait) = rate.check().and_then(|()| app.door.messages.check(&user)) {
        append(out, &Event::Error { message: "Rate limit exceeded".into(), code: ErrorCode::RateLimited }, None);
        let seconds = (wait.as_secs_f64() * 10.0).ceil() / 10.0;
        return Err(End::Close(CloseCode::RateLimited, Some(seconds)));
    }
    let request = match incoming {
        Incoming::Text(text) => parse(&text, app.config.limits.max_message_chars),
        Incoming::Binary | Incoming::Alive => Err(Rejection::binary()),
    };
    match request {
        Ok(request) => append(out, &handlers::answer(request.command, now), request.reference.as_deref()),
        Err(Rejection { code, message, reference }) => append(out, &Event::Error { message, code }, reference.as_deref()),
    }
    Ok(())
}

/// Appends `event` as a frame.
fn append(out: &mut Vec<u8>, event: &Event, reference: Option<&str>) {
    match event.frame(reference, Timestamp::now()) {
        Ok(frame) => out.extend_from_slice(frame.as_bytes()),
        Err(error) => tracing::error!(%error, "an event could not be encoded"),
    }
}

/// When to ping and when to give up.
struct Heartbeat {
    ping: Option<Duration>,
    idle: Option<Duration>,
    next_ping: Instant,
    /// The next moment at which something may be due; `None` when both are switched off.
    due: Option<Instant>,
}

impl Heartbeat {
    fn new(ping_seconds: u32, idle_seconds: u32) -> Self {
        let seconds = |n: u32| (n > 0).then(|| Duration::from_secs(n.into()));
        let (ping, idle) = (seconds(ping_seconds), seconds(idle_seconds));
        let next_ping = Instant::now() + ping.unwrap_or_default();
        let due = ping.map(|_| next_ping).or_else(|| idle.map(|idle| Instant::now() + idle));
        Self { ping, idle, next_ping, due }
    }

    async fn due(&self) {
        match self.due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    fn given_up(&self, silence: Duration) -> bool {
        self.idle.is_some_and(|idle| silence >= idle)
    }

    /// Sets the next moment, and says whether a ping is due now.
    fn advance(&mut self, now: Instant, silence: Duration) -> bool {
        let ping = self.ping.filter(|_| now >= self.next_ping);
        if let Some(every) = ping {
            self.next_ping = now + every;
        }
        let give_up = self.idle.map(|idle| now + idle.saturating_sub(silence));
        self.due = [self.ping.map(|_| self.next_ping), give_up].into_iter().flatten().min();
        ping.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pings_at_30_and_60_and_gives_up_at_75() {
        let start = Instant::now();
        let mut clock = Heartbeat::new(30, 75);
        let mut seen = Vec::new();
        loop {
            clock.due().await;
            let silence = start.elapsed();
            if clock.given_up(silence) {
                break;
            }
            seen.push((silence.as_secs(), clock.advance(Instant::now(), silence)));
        }
        assert_eq!(seen, [(30, true), (60, true)]);
        assert_eq!(start.elapsed().as_secs(), 75);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lively_client_is_never_given_up() {
        let mut clock = Heartbeat::new(30, 75);
        for _ in 0..10 {
            clock.due().await;
            assert!(!clock.given_up(Duration::from_secs(1)));
            clock.advance(Instant::now(), Duration::from_secs(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn switched_off_is_never_due() {
        let off = Heartbeat::new(0, 0);
        assert!(tokio::time::timeout(Duration::from_secs(86_400), off.due()).await.is_err());
    }
}
