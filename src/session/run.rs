//! The one task that is a connection.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
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
use crate::hub::{Connection, Heard, Lagged, Subscription};
use crate::ids::{DeviceId, UserId};
use crate::store::TokenHash;
use crate::wire::inbound::{Rejection, parse};
use crate::wire::{CloseCode, ErrorCode, Event, Frame, Timestamp};

/// How many bytes of answers are gathered into one write.
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
    let groups = app.hub.subscribe(caller.user.id, device);
    // A panic here would be nobody's: the task is detached from any caller.
    let end = AssertUnwindSafe(session.live(groups)).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(conn = %connection.id, "a session panicked");
        CloseCode::Internal.into()
    });
    app.auth.seen(caller.hash, device);
    tracing::info!(conn = %connection.id, user = %caller.user.id, ?end, "disconnected");
    drop(present);
    session.socket.finish(end).await;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    /// Runs until something ends the connection.
    async fn live(&mut self, groups: Subscription) -> End {
        let hello = Event::ConnectionStatus {
            status: "connected",
            user_id: self.user,
            device_id: self.device,
            epoch: self.app.store.epoch().to_owned(),
            last_id: 0,
            pending: 0,
        };
        let mut out = Vec::new();
        append(&mut out, &hello, None, Timestamp::now());
        let mut outcome = self.socket.write(&out).await;
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
                (groups, heard) = &mut hearing => {
                    hearing.set(groups.hear());
                    self.push(heard).await
                }
                () = &mut timer => {
                    let beat = self.beat().await;
                    timer.as_mut().reset(self.clock.due);
                    beat
                }
                incoming = self.socket.read() => self.receive(incoming).await,
            };
        }
        outcome.err().unwrap_or(End::Gone)
    }

    /// Writes what was published.
    async fn push(&mut self, heard: Result<Heard, Lagged>) -> Result<(), End> {
        let heard = heard.map_err(|_| End::from(CloseCode::TooSlow))?;
        self.socket.write(heard.as_bytes()).await?;
        // Under a flood of pushes this is the only moment at which the client is heard: else it would be given up for silent.
        match self.socket.try_read() {
            Some(incoming) => self.receive(incoming).await,
            None => Ok(()),
        }
    }

    /// Answers what came, together with what has come meanwhile, in one write.
    async fn receive(&mut self, first: Result<Incoming, End>) -> Result<(), End> {
        let now = Timestamp::now();
        let (mut out, mut next) = (Vec::new(), Some(first));
        let mut outcome = Ok(());
        while let Some(incoming) = next.take() {
            outcome = incoming.and_then(|incoming| self.answer(incoming, now, &mut out));
            if outcome.is_ok() && out.len() < BATCH_BYTES {
                next = self.socket.try_read();
            }
        }
        self.connection.heard(std::time::Instant::now());
        if !out.is_empty() {
            self.socket.write(&out).await?; // what was asked before an end is still answered
        }
        outcome
    }

    /// Appends the answer to one message.
    fn answer(&self, incoming: Incoming, now: Timestamp, out: &mut Vec<u8>) -> Result<(), End> {
        if matches!(incoming, Incoming::Alive) {
            return Ok(());
        }
        if let Err(wait) = self.rate.check().and_then(|()| self.app.door.messages.check(&self.user)) {
            append(out, &Event::Error { message: "Rate limit exceeded".into(), code: ErrorCode::RateLimited }, None, now);
            let seconds = (wait.as_secs_f64() * 10.0).ceil() / 10.0;
            return Err(End::Close(CloseCode::RateLimited, Some(seconds)));
        }
        let request = match incoming {
            Incoming::Text(text) => parse(&text, self.app.config.limits.max_message_chars),
            Incoming::Binary | Incoming::Alive => Err(Rejection::binary()),
        };
        match request {
            Ok(request) => append(out, &handlers::answer(request.command, now), request.reference.as_deref(), now),
            Err(Rejection { code, message, reference }) => {
                append(out, &Event::Error { message, code }, reference.as_deref(), now);
            }
        }
        Ok(())
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

/// Appends `event` as a frame.
fn append(out: &mut Vec<u8>, event: &Event, reference: Option<&str>, now: Timestamp) {
    match event.frame(reference, now) {
        Ok(frame) => out.extend_from_slice(frame.as_bytes()),
        Err(error) => tracing::error!(%error, "an event could not be encoded"),
    }
}

/// When to ping and when to give up.
struct Heartbeat {
    ping: Option<Duration>,
    idle: Option<Duration>,
    next_ping: Instant,
    /// The next moment at which something may be due.
    due: Instant,
}

/// What "never" is to a timer: tokio's own far future.
const NEVER: Duration = Duration::from_secs(86_400 * 365 * 30);

impl Heartbeat {
    fn new(ping_seconds: u32, idle_seconds: u32) -> Self {
        let seconds = |n: u32| (n > 0).then(|| Duration::from_secs(n.into()));
        let (ping, idle) = (seconds(ping_seconds), seconds(idle_seconds));
        let now = Instant::now();
        let first = ping.or(idle).unwrap_or(NEVER);
        Self { ping, idle, next_ping: now + ping.unwrap_or(NEVER), due: now + first }
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
        let give_up = now + self.idle.map_or(NEVER, |idle| idle.saturating_sub(silence));
        self.due = self.next_ping.min(give_up);
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
            sleep_until(clock.due).await;
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
            sleep_until(clock.due).await;
            assert!(!clock.given_up(Duration::from_secs(1)));
            clock.advance(Instant::now(), Duration::from_secs(1));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn switched_off_is_never_due() {
        let off = Heartbeat::new(0, 0);
        assert!(off.due >= Instant::now() + NEVER);
        assert!(!off.given_up(NEVER));
    }
}
