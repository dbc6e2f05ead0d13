//! What a connection has asked for and does not have yet: answers that wait for an upstream, answers that another device is to
//! perform, and what became of them.
//!
//! Upstreams are waited for in tasks of their own. What devices are to perform goes through one queue, in the order in which it
//! was asked for or its answer came: a stop never overtakes its start. All of it ends with the connection, and is made
//! when the first is asked, since most connections never do.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;

use crate::app::App;
use crate::core::ids::{DeviceId, MessageId, Recipient, UserId};
use crate::core::time::Timestamp;
use crate::handlers::CommandContext;
use crate::mailbox::{MailboxError, Outcome, OutcomeSender, Outgoing};
use crate::store::{Store, StoreError};
use crate::telemetry::metrics::{MeasuredCommand, Refused};
use crate::wire::inbound::Target;
use crate::wire::{Command, ErrorCode, Event};

/// How many upstreams may be waited for at once on one connection.
const AT_ONCE: usize = 16;
/// How many answers may wait to be queued for devices: more than a minute's messages.
const ORDERS: usize = 256;
/// How many messages a connection is told the fate of; beyond that it asks for receipts.
const WATCHED: usize = 256;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    pub(super) user: UserId,
    /// Where the credential is a device's: the only one it may have perform something.
    pub(super) only: Option<DeviceId>,
}

/// Who is to perform an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) asker: Asker,
    pub(super) device: DeviceId,
    /// The asker's own connection hears the device's group: it does not count as the device.
    pub(super) beside: bool,
}

/// An event for the asker.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) event: Event,
    pub(super) reference: Option<String>,
    /// The message whose fate is still to come.
    watched: Option<(MessageId, DeviceId)>,
}

/// Why an answer can't be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal(ErrorCode, &'static str);

impl From<Refusal> for Event {
    fn from(Refusal(code, message): Refusal) -> Self {
        Self::Error { message: message.into(), code }
    }
}

const INTERNAL: Refusal = Refusal(ErrorCode::InternalError, "Internal server error");
const TOO_MANY: Refusal = Refusal(ErrorCode::UpstreamError, "too many answers are under way on this connection");
const NOT_YOURS: Refusal = Refusal(ErrorCode::Forbidden, "target: no such device of yours");

/// An answer on its way to a device.
struct Ordered {
    order: Order,
    event: Event,
    reference: Option<String>,
}

/// What is under way.
pub(super) struct Asks {
    tasks: JoinSet<()>,
    say: Sender<Said>,
    said: Receiver<Said>,
    orders: Sender<Ordered>,
    told: Receiver<(MessageId, Outcome)>,
    watched: HashMap<MessageId, (DeviceId, Option<String>)>,
    /// How many messages are watched, those included whose status has not been said yet.
    open: Arc<AtomicUsize>,
    /// Fates that were told before the message's status was said.
    early: VecDeque<(MessageId, Outcome)>,
}

impl Asks {
    fn new(app: &Arc<App>) -> Box<Self> {
        let (say, said) = channel(AT_ONCE);
        let (orders, queue) = channel(ORDERS);
        let (tell, told) = channel(WATCHED); // room for the one word that is told of each
        let (mut tasks, open) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        tasks.spawn(perform_all(app.clone(), queue, say.clone(), tell, open.clone()));
        Box::new(Self { tasks, say, said, orders, told, watched: HashMap::new(), open, early: VecDeque::new() })
    }

    /// Has `command` answered, however long it takes: for the asker, or, with an `order`, for a device.
    pub(super) fn ask(
        asks: &mut Option<Box<Self>>,
        app: &Arc<App>,
        asked: CommandContext,
        command: Command,
        order: Option<Order>,
    ) -> Result<(), Refusal> {
        let asks = asks.get_or_insert_with(|| Self::new(app));
        while let Some(ended) = asks.tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "an answer came to nothing");
            }
        }
        if asks.tasks.len() > AT_ONCE {
            app.metrics.refused.inc(Refused::Answers);
            return Err(TOO_MANY);
        }
        let (app, say, orders) = (app.clone(), asks.say.clone(), asks.orders.clone());
        asks.tasks.spawn(async move {
            let pieces = order.is_none() && matches!(command, Command::Chat { stream: true, .. });
            let piece = |text: &str| -> BoxFuture<'static, ()> {
                if !pieces {
                    return Box::pin(std::future::ready(()));
                }
                let event = Event::ChatDelta { message: text.to_owned() };
                let (said, say) = (Said { event, reference: asked.reference.clone(), watched: None }, say.clone());
                Box::pin(async move { drop(say.send(said).await) })
            };
            let (measured, began) = (MeasuredCommand::from(&command), Instant::now());
            let handlers = Arc::clone(&app.handlers()); // a change meanwhile does not disturb the answer
            let event = handlers.answer(&asked, command, &piece).await;
            app.metrics.record_command(&measured, &event, began, Timestamp::now());
            let reference = asked.reference.clone();
            match order {
                // What went wrong is for who asked, not for the device.
                Some(order) if !matches!(event, Event::Error { .. }) => {
                    drop(orders.send(Ordered { order, event, reference }).await);
                }
                _ => drop(say.send(Said { event, reference, watched: None }).await),
            }
        });
        Ok(())
    }

    /// Has a device perform `event`.
    pub(super) fn perform(
        asks: &mut Option<Box<Self>>,
        app: &Arc<App>,
        order: Order,
        event: Event,
        reference: Option<String>,
    ) -> Result<(), Refusal> {
        let asks = asks.get_or_insert_with(|| Self::new(app));
        asks.orders.try_send(Ordered { order, event, reference }).map_err(|_| {
            app.metrics.refused.inc(Refused::Answers);
            TOO_MANY
        })
    }

    /// The next event for the asker. Dropping the future loses nothing.
    pub(super) async fn next(asks: &mut Option<Box<Self>>) -> Said {
        let Some(asks) = asks else { return std::future::pending().await };
        loop {
            if let Some(at) = asks.early.iter().position(|(id, _)| asks.watched.contains_key(id))
                && let Some((id, fate)) = asks.early.remove(at)
                && let Some(said) = asks.fate(id, fate)
            {
                return said;
            }
            tokio::select! {
                biased;
                Some(said) = asks.said.recv() => {
                    if let Some((id, device)) = said.watched {
                        asks.watched.insert(id, (device, said.reference.clone()));
                    }
                    return said;
                }
                Some((id, fate)) = asks.told.recv() => match asks.fate(id, fate) {
                    Some(said) => return said,
                    None => asks.early.push_back((id, fate)),
                },
            }
        }
    }

    /// What to say of a watched message's fate; `None` when its status has not been said yet.
    fn fate(&mut self, id: MessageId, fate: Outcome) -> Option<Said> {
        let (device_id, reference) = self.watched.remove(&id)?;
        self.open.fetch_sub(1, Ordering::Relaxed);
        let status = match fate {
            Outcome::Received => "acked",
            Outcome::Expired => "expired",
        };
        Some(Said { event: Event::DeliveryStatus { status, id, device_id }, reference, watched: None })
    }
}

/// The device that `target` names, where it is the asker's.
pub(super) fn device(store: &Store, asker: Asker, target: Target) -> Result<DeviceId, Refusal> {
    let primary = || store.primary_device(asker.user).inspect_err(|error| tracing::error!(%error, "a target can't be looked up"));
    let device = match target {
        Target::Asker => None,
        Target::Primary => asker.only.map_or_else(primary, |own| Ok(Some(own))).map_err(|_| INTERNAL)?,
        Target::Device(id) => Some(id),
    };
    let none = Refusal(ErrorCode::ValidationError, "Message validation error: target: there is no primary device");
    let device = device.ok_or(none)?;
    check(store, asker, device).map(|()| device)
}

/// Whether `device` is the asker's to command.
fn check(store: &Store, asker: Asker, device: DeviceId) -> Result<(), Refusal> {
    let owned = asker.only.is_none_or(|own| own == device) && store.owns(asker.user, device).map_err(|_| INTERNAL)?;
    if owned { Ok(()) } else { Err(NOT_YOURS) }
}

/// Queues what devices are to perform, one after another, and says how each stands.
async fn perform_all(
    app: Arc<App>,
    mut queue: Receiver<Ordered>,
    say: Sender<Said>,
    tell: OutcomeSender,
    open: Arc<AtomicUsize>,
) {
    while let Some(Ordered { order, event, reference }) = queue.recv().await {
        // Only this task adds, so what it has seen free stays free.
        let teller = (open.load(Ordering::Relaxed) < WATCHED).then(|| tell.clone());
        let watches = teller.is_some();
        let said = match send(&app, order, &event, teller).await {
            Ok((id, sent)) => {
                open.fetch_add(usize::from(watches), Ordering::Relaxed);
                let status = if sent { "sent" } else { "queued" };
                let event = Event::DeliveryStatus { status, id, device_id: order.device };
                Said { event, reference, watched: watches.then_some((id, order.device)) }
            }
            Err(refusal) => Said { event: refusal.into(), reference, watched: None },
        };
        if say.send(said).await.is_err() {
            return;
        }
    }
}

/// Queues `event` for a device; also says whether it was handed to a connection at once.
async fn send(app: &App, order: Order, event: &Event, teller: Option<OutcomeSender>) -> Result<(MessageId, bool), Refusal> {
    let Order { asker, device, beside } = order;
    check(&app.store, asker, device)?; // again: an upstream takes its time, and the device may be somebody else's by now
    let object = event.json(None, Timestamp::now()).map_err(|_| INTERNAL)?;
    let most = app.config().limits.push_bytes;
    if most > 0 && object.len() > most {
        return Err(Refusal(ErrorCode::UpstreamError, "the answer is too large for a message"));
    }
    let outgoing = Outgoing { teller, ..Outgoing::new(Recipient::Device(device), asker.user, object) };
    let accepted = app.mailbox.send(outgoing).await.map_err(explain)?;
    Ok((accepted.id, accepted.recipients > usize::from(beside)))
}

fn explain(error: MailboxError) -> Refusal {
    match error {
        MailboxError::Full => Refusal(ErrorCode::MailboxFull, "the device's mailbox is full"),
        MailboxError::DiskLow => Refusal(ErrorCode::MailboxFull, "the server's disk is nearly full"),
        MailboxError::Store(StoreError::Missing(_)) => NOT_YOURS,
        other => {
            tracing::error!(error = %other, "an answer could not be queued");
            INTERNAL
        }
    }
}
