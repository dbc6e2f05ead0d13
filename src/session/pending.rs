//! Requests in flight on one connection: answers that wait for an upstream, answers that another device performs, and the
//! delivery status of those.
//!
//! Each upstream is waited for in its own task. Answers for devices go through one queue, in the order in which they were
//! requested or their answers came: a stop never overtakes its start. All of it ends with the connection, and is allocated at the
//! first such request, since most connections never make one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;

use crate::accounts::policy::{self, Requester};
use crate::app::App;
use crate::core::ids::{DeviceId, MessageId, Recipient};
use crate::core::subject::about_the_same;
use crate::core::time::Timestamp;
use crate::handlers::{CommandContext, Stop};
use crate::mailbox::{MailboxError, Outcome, OutcomeSender, Outgoing};
use crate::store::{EndState, Store, StoreError};
use crate::telemetry::metrics::{MeasuredCommand, Refused};
use crate::wire::inbound::Target;
use crate::wire::{Command, ErrorCode, Event};

/// The largest number of upstreams that are waited for at once on one connection.
const MAX_CONCURRENT_REQUESTS: usize = 16;
/// The largest number of answers that wait to be queued for devices: more than a minute's messages.
const MAX_QUEUED_COMMANDS: usize = 256;
/// The largest number of messages whose outcome a connection is notified of; beyond that it polls receipts.
const MAX_WATCHED_MESSAGES: usize = 256;

/// The device that performs an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeviceCommand {
    pub(super) requester: Requester,
    pub(super) device: DeviceId,
    /// The requester's own connection is subscribed to the device's group: it is not counted as the device.
    pub(super) requester_subscribed: bool,
}

/// An event for the requester.
#[derive(Debug)]
pub struct Reply {
    /// The event.
    pub event: Event,
    /// The `ref` of the request.
    pub reference: Option<String>,
}

/// A reply on its way to the connection.
#[derive(Debug)]
struct Completed {
    reply: Reply,
    /// The message whose outcome follows.
    watched: Option<(MessageId, DeviceId)>,
    /// Set in a part of an answer: it is not sent once its question was stopped.
    part_of: Option<Stop>,
}

impl Completed {
    fn new(event: Event, reference: Option<String>) -> Self {
        Self { reply: Reply { event, reference }, watched: None, part_of: None }
    }
}

/// A request that is not answered: the error's code and text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal(ErrorCode, &'static str);

impl Refusal {
    /// The code of the `error` event.
    pub(super) fn code(self) -> ErrorCode {
        self.0
    }
}

impl From<Refusal> for Event {
    fn from(Refusal(code, message): Refusal) -> Self {
        Self::Error { message: message.into(), code }
    }
}

const INTERNAL: Refusal = Refusal(ErrorCode::InternalError, "Internal server error");
const TOO_MANY: Refusal = Refusal(ErrorCode::UpstreamError, "too many answers are under way on this connection");
const NO_SCOPE: Refusal = Refusal(ErrorCode::Forbidden, "target: this token lacks the scope \"send\"; create one that has it");
const NOT_YOURS: Refusal = Refusal(ErrorCode::Forbidden, "target: no such device of yours");

/// An answer on its way to a device.
struct QueuedCommand {
    command: DeviceCommand,
    event: Event,
    reference: Option<String>,
}

/// The requests in flight.
pub(super) struct PendingReplies {
    tasks: JoinSet<()>,
    completed_sender: Sender<Completed>,
    completed: Receiver<Completed>,
    commands: Sender<QueuedCommand>,
    /// Questions with their `ref`; those that are answered are removed at the next one.
    questions: Vec<(Option<String>, Stop)>,
    outcomes: Receiver<(MessageId, Outcome)>,
    watched: HashMap<MessageId, (DeviceId, Option<String>)>,
    /// The number of watched messages, those included whose first status has not been sent yet.
    watch_count: Arc<AtomicUsize>,
    /// Outcomes that came before the message's first status was sent.
    early: VecDeque<(MessageId, Outcome)>,
}

impl PendingReplies {
    fn new(app: &Arc<App>) -> Box<Self> {
        let (completed_sender, completed) = channel(MAX_CONCURRENT_REQUESTS);
        let (commands, queue) = channel(MAX_QUEUED_COMMANDS);
        let (outcome_sender, outcomes) = channel(MAX_WATCHED_MESSAGES); // each message has one outcome
        let (mut tasks, watch_count) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        let perform = perform_all(app.clone(), queue, completed_sender.clone(), outcome_sender, watch_count.clone());
        tasks.spawn(about_the_same(perform));
        Box::new(Self {
            tasks,
            completed_sender,
            completed,
            commands,
            questions: Vec::new(),
            outcomes,
            watched: HashMap::new(),
            watch_count,
            early: VecDeque::new(),
        })
    }

    /// Starts a task that answers `command`, however long that takes: for the requester or, with `device`, for a device.
    ///
    /// # Errors
    /// If too many requests are in flight.
    pub(super) fn request(
        pending: &mut Option<Box<Self>>,
        app: &Arc<App>,
        asked: CommandContext,
        command: Command,
        device: Option<DeviceCommand>,
    ) -> Result<(), Refusal> {
        let pending = pending.get_or_insert_with(|| Self::new(app));
        while let Some(ended) = pending.tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "the task of a request failed");
            }
        }
        if pending.tasks.len() > MAX_CONCURRENT_REQUESTS {
            app.metrics.refused.inc(Refused::Answers);
            return Err(TOO_MANY);
        }
        pending.questions.retain(|(_, stop)| stop.is_running());
        if matches!(command, Command::Chat { .. }) {
            pending.questions.push((asked.reference.clone(), asked.stop.clone()));
        }
        let (completed, commands) = (pending.completed_sender.clone(), pending.commands.clone());
        pending.tasks.spawn(about_the_same(answer(app.clone(), asked, command, device, completed, commands)));
        Ok(())
    }

    /// Stops the questions with this `ref`, or all. Returns whether there was one that is not answered yet. No part of its answer
    /// follows.
    pub(super) fn cancel(pending: &Option<Box<Self>>, reference: Option<&str>) -> bool {
        let questions = pending.iter().flat_map(|pending| &pending.questions);
        let named = questions.filter(|(question, _)| reference.is_none() || question.as_deref() == reference);
        named.fold(false, |any, (_, stop)| stop.stop() || any)
    }

    /// Queues `event` for the device of `command`.
    ///
    /// # Errors
    /// If too many commands are queued.
    pub(super) fn perform(
        pending: &mut Option<Box<Self>>,
        app: &Arc<App>,
        command: DeviceCommand,
        event: Event,
        reference: Option<String>,
    ) -> Result<(), Refusal> {
        let pending = pending.get_or_insert_with(|| Self::new(app));
        pending.commands.try_send(QueuedCommand { command, event, reference }).map_err(|_| {
            app.metrics.refused.inc(Refused::Answers);
            TOO_MANY
        })
    }

    /// Waits for the next event for the requester. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Reply {
        loop {
            if let Some(at) = self.early.iter().position(|(id, _)| self.watched.contains_key(id))
                && let Some((id, outcome)) = self.early.remove(at)
                && let Some(reply) = self.outcome(id, outcome)
            {
                return reply;
            }
            tokio::select! {
                biased;
                Some(Completed { reply, watched, part_of }) = self.completed.recv() => {
                    if part_of.is_some_and(|question| question.is_stopped()) {
                        continue;
                    }
                    if let Some((id, device)) = watched {
                        self.watched.insert(id, (device, reply.reference.clone()));
                    }
                    return reply;
                }
                Some((id, outcome)) = self.outcomes.recv() => match self.outcome(id, outcome) {
                    Some(reply) => return reply,
                    None => self.early.push_back((id, outcome)),
                },
            }
        }
    }

    /// The event for a watched message's outcome; `None` while its first status has not been sent.
    fn outcome(&mut self, id: MessageId, outcome: Outcome) -> Option<Reply> {
        let (device_id, reference) = self.watched.remove(&id)?;
        self.watch_count.fetch_sub(1, Ordering::Relaxed);
        let status = match outcome {
            Outcome::Received => "acked",
            Outcome::Expired => "expired",
            Outcome::Dropped(EndState::Cancelled) => "cancelled",
            Outcome::Dropped(EndState::Cleared) => "cleared",
            Outcome::Dropped(_) => "undeliverable",
        };
        Some(Reply { event: Event::DeliveryStatus { status, id, device_id }, reference })
    }
}

/// Answers `command`, and sends the answer to the requester or, with `device`, to the queue of commands.
async fn answer(
    app: Arc<App>,
    asked: CommandContext,
    command: Command,
    device: Option<DeviceCommand>,
    completed: Sender<Completed>,
    commands: Sender<QueuedCommand>,
) {
    let streams = device.is_none() && matches!(command, Command::Chat { stream: true, .. });
    let piece = |text: &str| -> BoxFuture<'static, ()> {
        if !streams {
            return Box::pin(std::future::ready(()));
        }
        let delta = Completed::new(Event::ChatDelta { message: text.to_owned() }, asked.reference.clone());
        let delta = Completed { part_of: Some(asked.stop.clone()), ..delta };
        let completed = completed.clone();
        Box::pin(async move { drop(completed.send(delta).await) })
    };
    let (measured, began) = (MeasuredCommand::from(&command), Instant::now());
    let handlers = Arc::clone(&app.handlers()); // a reload meanwhile does not disturb the answer
    let event = handlers.answer(&asked, command, &piece).await;
    app.metrics.record_command(&measured, &event, began.elapsed(), Timestamp::now());
    let reference = asked.reference.clone();
    match device {
        // Errors go to the requester, not to the device.
        Some(command) if !matches!(event, Event::Error { .. } | Event::ChatCancelled {}) => {
            drop(commands.send(QueuedCommand { command, event, reference }).await);
        }
        _ => drop(completed.send(Completed::new(event, reference)).await),
    }
}

/// Returns the device that `target` names, where the requester may command it.
///
/// # Errors
/// If there is none, it is another user's, or the store fails.
pub(super) fn resolve_target(store: &Store, requester: Requester, target: Target) -> Result<DeviceId, Refusal> {
    let primary =
        || store.primary_device(requester.user).inspect_err(|error| tracing::error!(%error, "failed to look up a target"));
    let device = match target {
        Target::Requester => None,
        Target::Primary => requester.device.map_or_else(primary, |own| Ok(Some(own))).map_err(|_| INTERNAL)?,
        Target::Device(id) => Some(id),
    };
    let none = Refusal(ErrorCode::ValidationError, "Message validation error: target: there is no primary device");
    let device = device.ok_or(none)?;
    check_target(store, requester, device).map(|()| device)
}

/// Checks that the requester may command `device`.
fn check_target(store: &Store, requester: Requester, device: DeviceId) -> Result<(), Refusal> {
    if !requester.may_send {
        return Err(NO_SCOPE);
    }
    let allowed = policy::may_command(store, requester, device).map_err(|error| {
        tracing::error!(%error, "failed to check a target");
        INTERNAL
    })?;
    if allowed { Ok(()) } else { Err(NOT_YOURS) }
}

/// Queues answers for devices, one after another, and reports the status of each.
async fn perform_all(
    app: Arc<App>,
    mut queue: Receiver<QueuedCommand>,
    completed: Sender<Completed>,
    outcomes: OutcomeSender,
    watch_count: Arc<AtomicUsize>,
) {
    while let Some(QueuedCommand { command, event, reference }) = queue.recv().await {
        // Only this task adds, so a number below the limit stays below it.
        let watcher = (watch_count.load(Ordering::Relaxed) < MAX_WATCHED_MESSAGES).then(|| outcomes.clone());
        let watches = watcher.is_some();
        let result = match send(&app, command, &event, watcher).await {
            Ok((id, sent)) => {
                watch_count.fetch_add(usize::from(watches), Ordering::Relaxed);
                let status = if sent { "sent" } else { "queued" };
                let event = Event::DeliveryStatus { status, id, device_id: command.device };
                Completed { watched: watches.then_some((id, command.device)), ..Completed::new(event, reference) }
            }
            Err(refusal) => Completed::new(refusal.into(), reference),
        };
        if completed.send(result).await.is_err() {
            return;
        }
    }
}

/// Queues `event` for a device. Returns its id, and whether a connection of the device received it at once.
async fn send(
    app: &App,
    command: DeviceCommand,
    event: &Event,
    watcher: Option<OutcomeSender>,
) -> Result<(MessageId, bool), Refusal> {
    let DeviceCommand { requester, device, requester_subscribed } = command;
    // Again: the upstream has taken its time, and the device may have another owner by now.
    check_target(&app.store, requester, device)?;
    let object = event.json(None, Timestamp::now()).map_err(|_| INTERNAL)?;
    let max_bytes = app.config().limits.push_bytes;
    if max_bytes > 0 && object.len() > max_bytes {
        return Err(Refusal(ErrorCode::UpstreamError, "the answer is too large for a message"));
    }
    let privileged = requester.actor.is_privileged();
    let outgoing = Outgoing { watcher, privileged, ..Outgoing::new(Recipient::Device(device), requester.user, object) };
    let accepted = app.mailbox.send(outgoing).await.map_err(refusal_of)?;
    Ok((accepted.id, accepted.recipients > usize::from(requester_subscribed)))
}

fn refusal_of(error: MailboxError) -> Refusal {
    match error {
        MailboxError::Full => Refusal(ErrorCode::MailboxFull, "the device's mailbox is full"),
        MailboxError::SenderFull => Refusal(ErrorCode::MailboxFull, "too much of what you have sent waits to be received"),
        MailboxError::DiskLow => Refusal(ErrorCode::MailboxFull, "the server's disk is nearly full"),
        MailboxError::MemoryLow => Refusal(ErrorCode::MailboxFull, "the server has no memory for more queued messages"),
        MailboxError::Store(StoreError::Missing(_)) => NOT_YOURS,
        other => {
            tracing::error!(error = %other, "failed to queue an answer for a device");
            INTERNAL
        }
    }
}
