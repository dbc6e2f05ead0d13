//! What a connection has asked for and does not have yet: answers that wait for an upstream, answers that another device is to
//! perform, and what became of them.
//!
//! Each runs as a task of its own, so that waiting for it keeps nobody from being heard; all of them end with the connection. Made when the first is asked, since most connections never do.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;

use crate::app::App;
use crate::handlers::Asked;
use crate::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::mailbox::{Fate, MailboxError, Outgoing, Teller};
use crate::store::{Store, StoreError};
use crate::wire::inbound::Target;
use crate::wire::{Command, ErrorCode, Event, Request, Timestamp};

/// How many may be under way at once on one connection.
const AT_ONCE: usize = 16;
/// How many messages a connection is told the fate of; beyond that it asks for receipts.
const WATCHED: usize = 256;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    pub(super) user: UserId,
    /// What the connection stands for.
    pub(super) device: Option<DeviceId>,
    /// Where the credential is a device's: the only one it may have perform something.
    pub(super) only: Option<DeviceId>,
}

/// An event for the asker.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) event: Event,
    pub(super) reference: Option<String>,
    /// The message whose fate is still to come.
    watched: Option<(MessageId, DeviceId)>,
}

/// Why an answer can't be performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal(ErrorCode, &'static str);

impl From<Refusal> for Event {
    fn from(Refusal(code, message): Refusal) -> Self {
        Self::Error { message: message.into(), code }
    }
}

/// What is under way.
pub(super) struct Asks {
    tasks: JoinSet<()>,
    say: Sender<Said>,
    said: Receiver<Said>,
    tell: Teller,
    told: Receiver<(MessageId, Fate)>,
    watched: HashMap<MessageId, (DeviceId, Option<String>)>,
}

impl Asks {
    fn new() -> Box<Self> {
        let (say, said) = channel(AT_ONCE);
        let (tell, told) = channel(WATCHED + AT_ONCE);
        Box::new(Self { tasks: JoinSet::new(), say, said, tell, told, watched: HashMap::new() })
    }

    /// Has the device that `target` names perform `event`.
    pub(super) fn start(
        asks: &mut Option<Box<Self>>,
        app: &Arc<App>,
        asker: Asker,
        Request { reference, target, command }: Request,
    ) -> Result<(), Refusal> {
        let device = if target == Target::Asker { None } else { Some(device(&app.store, asker, target)?) };
        let asks = asks.get_or_insert_with(Self::new);
        while asks.tasks.try_join_next().is_some() {}
        if asks.tasks.len() >= AT_ONCE {
            return Err(Refusal(ErrorCode::UpstreamError, "too many answers are under way on this connection"));
        }
        let tell = (asks.watched.len() < WATCHED).then(|| asks.tell.clone());
        let asked = Asked { user: asker.user, device: asker.device, reference };
        let (app, say) = (app.clone(), asks.say.clone());
        asks.tasks.spawn(async move {
            let pieces = device.is_none() && matches!(command, Command::Chat { stream: true, .. });
            let piece = |text: &str| -> BoxFuture<'static, ()> {
                if !pieces {
                    return Box::pin(std::future::ready(()));
                }
                let event = Event::ChatDelta { message: text.to_owned() };
                let (said, say) = (Said { event, reference: asked.reference.clone(), watched: None }, say.clone());
                Box::pin(async move { drop(say.send(said).await) })
            };
            let event = app.handlers.answer(&asked, command, &piece).await;
            match device {
                // What went wrong is for who asked, not for the device.
                Some(device) if !matches!(event, Event::Error { .. }) => perform(&app, asked, device, &event, &say, tell).await,
                _ => drop(say.send(Said { event, reference: asked.reference, watched: None }).await),
            }
        });
        Ok(())
    }

    /// The next event for the asker. Dropping the future loses nothing.
    pub(super) async fn next(asks: &mut Option<Box<Self>>) -> Said {
        let Some(asks) = asks else { return std::future::pending().await };
        loop {
            tokio::select! {
                biased;
                Some(said) = asks.said.recv() => {
                    if let Some((id, device)) = said.watched {
                        asks.watched.insert(id, (device, said.reference.clone()));
                    }
                    return said;
                }
                Some((id, fate)) = asks.told.recv() => {
                    let Some((device_id, reference)) = asks.watched.remove(&id) else { continue };
                    let status = match fate {
                        Fate::Received => "acked",
                        Fate::Expired => "expired",
                    };
                    return Said { event: Event::DeliveryStatus { status, id, device_id }, reference, watched: None };
                }
            }
        }
    }
}

/// Has `device` perform `event`, and says how that stands; later, through `tell`, what became of it.
async fn perform(app: &App, asked: Asked, device: DeviceId, event: &Event, say: &Sender<Said>, tell: Option<Teller>) {
    let reference = asked.reference;
    let said = match send(app, asked.user, device, event).await {
        Ok((id, sent)) => {
            let status = if sent { "sent" } else { "queued" };
            let event = Event::DeliveryStatus { status, id, device_id: device };
            Said { event, reference, watched: tell.is_some().then_some((id, device)) }
        }
        Err(error) => Said { event: explain(error).into(), reference, watched: None },
    };
    let watched = said.watched;
    // First how it stands, then its fate: which may be known already.
    if say.send(said).await.is_ok()
        && let (Some(tell), Some((id, device))) = (tell, watched)
        && let Err(error) = app.mailbox.watch(Recipient::Device(device), id, tell)
    {
        tracing::error!(%error, "a message can't be watched");
    }
}

/// The device that `target` names, where it is the asker's.
fn device(store: &Store, asker: Asker, target: Target) -> Result<DeviceId, Refusal> {
    let failed = |error: StoreError| {
        tracing::error!(%error, "a target can't be looked up");
        Refusal(ErrorCode::InternalError, "Internal server error")
    };
    let device = match target {
        Target::Asker => None,
        Target::Primary => asker.only.map_or_else(|| store.primary_device(asker.user), |own| Ok(Some(own))).map_err(failed)?,
        Target::Device(id) => Some(id),
    };
    let no_primary = || Refusal(ErrorCode::ValidationError, "Message validation error: target: there is no primary device");
    let device = device.ok_or_else(no_primary)?;
    let owned = asker.only.is_none_or(|own| own == device) && store.owns(asker.user, device).map_err(failed)?;
    if owned { Ok(device) } else { Err(Refusal(ErrorCode::Forbidden, "target: no such device of yours")) }
}

/// Queues `event` for `device`; also says whether it was handed to a connection at once.
async fn send(app: &App, sender: UserId, device: DeviceId, event: &Event) -> Result<(MessageId, bool), MailboxError> {
    let now = Timestamp::now();
    let frame = event.frame(None, now).map_err(|_| MailboxError::Full)?;
    let mut text = String::from_utf8_lossy(frame.payload()).into_owned();
    text.pop(); // the closing brace: the id goes before it
    let outgoing = Outgoing { recipient: Recipient::Device(device), sender, text, ttl: None, key: None };
    let accepted = app.mailbox.send(outgoing).await?;
    Ok((accepted.id, accepted.recipients > 0))
}

fn explain(error: MailboxError) -> Refusal {
    match error {
        MailboxError::Full => Refusal(ErrorCode::MailboxFull, "the device's mailbox is full"),
        MailboxError::DiskLow => Refusal(ErrorCode::MailboxFull, "the server's disk is nearly full"),
        MailboxError::Store(StoreError::Missing(_)) => Refusal(ErrorCode::Forbidden, "target: no such device of yours"),
        other => {
            tracing::error!(error = %other, "an answer could not be queued");
            Refusal(ErrorCode::InternalError, "Internal server error")
        }
    }
}
