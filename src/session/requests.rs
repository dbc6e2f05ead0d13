//! The messages of a client: checked against the rates, parsed, and answered or dispatched.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::count;
use super::end::End;
use super::pending::{DeviceCommand, PendingReplies, Refusal, Reply, resolve_target};
use super::state::Session;
use super::window::Proof;
use crate::core::ids::MessageId;
use crate::core::time::Timestamp;
use crate::handlers::{CommandContext, Handlers, Stop};
use crate::telemetry::live::Direction;
use crate::telemetry::metrics::{Label, MeasuredCommand, Received, Refused, SentError};
use crate::wire::inbound::{Rejection, Request, Target, parse};
use crate::wire::{Command, Event, Inbound};

/// One turn of a connection's task, in which it answers everything that has arrived: its time, and the settings that hold for it.
pub struct Turn {
    /// The time of all answers.
    pub now: Timestamp,
    /// The beginning of the turn: that of the client's activity.
    pub began: Instant,
    /// The most characters of a message; 0: any number.
    max_chars: usize,
    handlers: Arc<Handlers>,
    /// The end of the last message. Each message is timed from there on, so that the clock is read once for each.
    last: Instant,
}

impl Turn {
    /// Returns the time since the last message.
    #[inline]
    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now.saturating_duration_since(std::mem::replace(&mut self.last, now))
    }
}

impl Session {
    /// Begins a turn.
    #[inline]
    pub fn begin_turn(&self) -> Turn {
        let began = Instant::now();
        let max_chars = self.app.config().limits.max_message_chars;
        Turn { now: Timestamp::now(), began, max_chars, handlers: Arc::clone(&self.app.handlers()), last: began }
    }

    /// Counts that reading has ended with `end`.
    pub fn reading_ended(&self, end: End) {
        tracing::debug!(reason = %end, "reading ended");
        count::reading_ended(&self.app.metrics, end);
    }

    /// Applies a pong.
    pub fn receive_pong(&mut self, payload: &[u8]) {
        let size = self.delivery.window_size();
        self.delivery.pong(&self.app.mailbox, payload);
        self.note_proof(size);
    }

    /// Applies a text message of a client that has vanished, where it is an acknowledgement.
    pub fn receive_late_text(&mut self, text: &str) {
        self.show(Direction::In, None, text.as_bytes());
        self.delivery.late_text(&self.app.mailbox, text);
    }

    /// Notes the effects of a proof: `size` is that of the window before it.
    fn note_proof(&self, size: usize) {
        if self.delivery.window_size() != size {
            self.app.metrics.traffic.windows.observe(self.delivery.window_size() as u64);
        }
        if self.connection().unproved() && !self.delivery.unproved() {
            self.connection().set_unproved(false);
        }
    }

    /// Processes a text message and returns the reply, where there is one at once.
    ///
    /// # Errors
    /// The end of the connection when a rate limit is exceeded.
    #[inline]
    pub fn receive_text(&mut self, text: &str, turn: &mut Turn) -> Result<Option<Reply>, End> {
        self.show(Direction::In, None, text.as_bytes());
        let message = parse(text, turn.max_chars, turn.handlers.custom_types());
        let request = match message {
            Ok(Inbound::Ack { id, reference }) => return self.receive_ack(id, reference),
            Ok(Inbound::Request(request)) => Ok(request),
            Err(rejection) => Err(rejection),
        };
        self.check_rates_of(match &request {
            Ok(request) => request.reference.as_deref(),
            Err(rejection) => rejection.reference.as_deref(),
        })?;
        Ok(match request {
            Ok(request) => self.dispatch(request, turn),
            Err(rejection) => Some(self.reject(rejection)),
        })
    }

    /// Processes an acknowledgement. One that proves something counts against no rate: their number is that of the messages.
    fn receive_ack(&mut self, id: MessageId, reference: Option<String>) -> Result<Option<Reply>, End> {
        if !self.delivery.client_acks() {
            self.check_rates_of(reference.as_deref())?;
            return Ok(Some(self.reject(Rejection::ack_not_enabled().referring(reference))));
        }
        let proof = self.delivery.acknowledge(&self.app.mailbox, id);
        if proof != Proof::New {
            self.check_rates_of(reference.as_deref())?;
        }
        if proof == Proof::NeverSent {
            return Ok(Some(self.reject(Rejection::ack_never_sent(id).referring(reference))));
        }
        self.app.metrics.traffic.received.inc(Received::Ack);
        Ok(None)
    }

    /// Processes a binary message and returns the reply, which is always an error.
    ///
    /// # Errors
    /// The end of the connection when a rate limit is exceeded.
    pub fn receive_binary(&mut self, payload: &[u8]) -> Result<Reply, End> {
        self.show(Direction::In, None, payload);
        let rejection = Rejection::binary(payload);
        self.check_rates_of(rejection.reference.as_deref())?;
        Ok(self.reject(rejection))
    }

    /// Returns the `ref` of the message that exceeded a rate limit, for the error that precedes the close.
    pub fn take_refused_reference(&mut self) -> Option<String> {
        self.refused_reference.take()
    }

    /// Counts a message with that `ref` against the connection's and the user's rates.
    #[inline]
    fn check_rates_of(&mut self, reference: Option<&str>) -> Result<(), End> {
        self.check_rates().inspect_err(|_| self.refused_reference = reference.map(str::to_owned))
    }

    #[inline]
    fn check_rates(&self) -> Result<(), End> {
        let checked = self.rate.check().map_err(|wait| (Refused::MessagesRate, wait)).and_then(|()| {
            let user = self.app.admission.messages.check_after_sleep(&self.requester.user);
            user.map_err(|wait| (Refused::UserMessagesRate, wait))
        });
        checked.map_err(|(limit, wait)| {
            tracing::debug!(limit = limit.name(), retry_after = wait.as_secs_f64(), "message rate limit exceeded");
            self.app.metrics.refused.inc(limit);
            End::too_many(wait)
        })
    }

    fn reject(&self, rejection: Rejection) -> Reply {
        let Rejection { code, message, reference } = rejection;
        tracing::debug!(code = SentError::from(code).name(), "message rejected");
        count::rejected(&self.app.metrics, code);
        Reply { event: Event::Error { message, code }, reference }
    }

    /// Answers a request where that takes no time; otherwise its reply comes later.
    #[inline]
    fn dispatch(&mut self, request: Request, turn: &mut Turn) -> Option<Reply> {
        let Request { reference, target, command } = request;
        self.app.metrics.traffic.received.inc((&command).into());
        let measured = MeasuredCommand::from(&command);
        let quick = self.answer_immediately(command, turn);
        if let Ok(answer) = &quick {
            self.app.metrics.record_command(&measured, answer, turn.lap(), turn.now);
        }
        let outcome = match (target, quick) {
            (Target::Requester, Ok(event)) => return Some(Reply { event, reference }),
            (Target::Requester, Err(command)) => self.answer_later(command, reference.clone(), None).map(|()| None),
            (target, quick) => self.command_device(target, quick, reference.clone()),
        };
        outcome.unwrap_or_else(|refusal| {
            tracing::debug!(code = SentError::from(refusal.code()).name(), "request refused");
            Some(Reply { event: refusal.into(), reference })
        })
    }

    /// Answers a command that needs no waiting, or returns it.
    #[inline]
    fn answer_immediately(&self, command: Command, turn: &Turn) -> Result<Event, Command> {
        match &command {
            Command::ChatCancel { question } => {
                return Ok(Event::ChatCancel { cancelled: PendingReplies::cancel(&self.pending, Some(question)) });
            }
            // The handlers stop the user's questions, on every connection. One whose task has not begun is only known here.
            Command::ChatReset => _ = PendingReplies::cancel(&self.pending, None),
            _ => {}
        }
        turn.handlers.answer_immediately(self.requester.user, command, turn.now)
    }

    /// Has a device perform the answer to a command, which is either there already or takes time.
    fn command_device(
        &mut self,
        target: Target,
        quick: Result<Event, Command>,
        reference: Option<String>,
    ) -> Result<Option<Reply>, Refusal> {
        let device = resolve_target(&self.app.store, self.requester, target)?;
        // A connection that commands a device is not that device: from here on the device's messages are for the device alone.
        let requester_subscribed = self.connection().identity.receives_for == Some(device) && self.requester.device.is_none();
        if requester_subscribed {
            self.delivery.leave(device);
            self.connection().note_left_device();
        }
        let command = DeviceCommand { requester: self.requester, device, requester_subscribed };
        match quick {
            Ok(event @ Event::Error { .. }) => return Ok(Some(Reply { event, reference })),
            Ok(event) => PendingReplies::perform(&mut self.pending, &self.app, command, event, reference)?,
            Err(slow) => self.answer_later(slow, reference, Some(command))?,
        }
        Ok(None)
    }

    /// Starts a request whose answer takes time: for the requester, or for the device of `device`.
    fn answer_later(
        &mut self,
        command: Command,
        reference: Option<String>,
        device: Option<DeviceCommand>,
    ) -> Result<(), Refusal> {
        let asked = CommandContext { user: self.requester.user, device: self.device(), reference, stop: Stop::default() };
        PendingReplies::request(&mut self.pending, &self.app, asked, command, device)
    }
}
