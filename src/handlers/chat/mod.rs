//! `chat_message`: answered by a language model if one is configured, else by the guide's responder, which repeats the message
//! (guide section 3.1, `process_chat_message`).

mod answer;
mod completion;
mod conversations;
mod events;
mod openai;
mod questions;
mod reasoning;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::upstream::{CircuitBreaker, UpstreamClient, UpstreamError, recorded};
use super::{ChunkSink, CommandContext};
use crate::admission::RateLimit;
use crate::config::{ChatConfig, Responder};
use crate::core::awake::timeout;
use crate::core::boot::BootInstant;
use crate::core::ids::UserId;
use crate::telemetry::metrics::{Metrics, Refused, Upstream};
use crate::wire::{ErrorCode, Event};
use conversations::{Conversations, Turn};
use questions::Questions;

/// The handler of `chat_message`.
pub(super) struct Chat {
    config: ChatConfig,
    /// Set when a model is configured.
    client: Option<UpstreamClient>,
    conversations: Arc<Conversations>,
    questions: Arc<Questions>,
    rate: Arc<RateLimit<UserId>>,
    permits: Semaphore,
    breaker: CircuitBreaker,
    /// The model's answers begin with reasoning that has no opening tag.
    reasons_first: AtomicBool,
    metrics: Arc<Metrics>,
}

/// A question without an answer.
enum ChatError {
    /// The user exceeds the rate limit; the next question is accepted after this many seconds.
    RateLimited(u64),
    /// The call of the model failed.
    Upstream(UpstreamError),
}

impl From<UpstreamError> for ChatError {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

/// Returns the answer of the guide's responder.
fn builtin_answer(text: &str) -> String {
    format!("收到消息:{text}")
}

impl Chat {
    /// Creates the handler; `client` calls the model.
    pub(super) fn new(config: &ChatConfig, client: Option<UpstreamClient>, metrics: Arc<Metrics>) -> Self {
        Self {
            client: client.filter(|_| config.responder == Responder::Openai),
            conversations: Arc::default(),
            questions: Arc::default(),
            rate: Arc::new(RateLimit::per_minute(config.per_minute)),
            permits: Semaphore::new(config.concurrency),
            breaker: CircuitBreaker::default(),
            reasons_first: AtomicBool::new(false),
            metrics,
            config: config.clone(),
        }
    }

    /// Creates the handler for a new configuration, with the conversations and questions of this one and, if the limit is unchanged, its rates.
    pub(super) fn changed(&self, config: &ChatConfig, client: Option<UpstreamClient>) -> Self {
        let (conversations, questions) = (self.conversations.clone(), self.questions.clone());
        let new = Self { conversations, questions, ..Self::new(config, client, self.metrics.clone()) };
        if config.per_minute == self.config.per_minute { Self { rate: self.rate.clone(), ..new } } else { new }
    }

    /// Answers without waiting, if no model is configured.
    pub(super) fn answer_immediately(&self, text: &str) -> Option<Event> {
        self.client.is_none().then(|| Event::ChatResponse { message: builtin_answer(text), source: None })
    }

    /// Calls the model; the parts of its answer are passed to `sink` as they arrive. A question that is stopped drops its call, and
    /// thereby the connection to the model's server.
    pub(super) async fn answer(&self, context: &CommandContext, text: &str, sink: ChunkSink<'_>) -> Event {
        let _listed = self.questions.add(context.user, &context.stop);
        let event = tokio::select! {
            biased;
            () = context.stop.stopped() => Event::ChatCancelled {},
            event = self.answer_unstopped(context, text, sink) => event,
        };
        if context.stop.answered() { event } else { Event::ChatCancelled {} }
    }

    async fn answer_unstopped(&self, context: &CommandContext, text: &str, sink: ChunkSink<'_>) -> Event {
        let user = context.user;
        let answer = match &self.client {
            None => Ok(builtin_answer(text)),
            Some(client) => self.ask(client, context, text, sink).await,
        };
        match answer {
            Ok(message) => Event::ChatResponse { message, source: None },
            Err(ChatError::RateLimited(seconds)) => {
                let message = format!("Chat processing error: too many questions; retry in {seconds} s");
                Event::Error { message, code: ErrorCode::UpstreamError }
            }
            Err(ChatError::Upstream(error)) => {
                tracing::warn!(%user, %error, "chat model failed");
                if self.config.fallback {
                    return Event::ChatResponse { message: builtin_answer(text), source: Some("builtin") };
                }
                Event::Error { message: format!("Chat processing error: {error}"), code: ErrorCode::UpstreamError }
            }
        }
    }

    async fn ask(
        &self,
        client: &UpstreamClient,
        context: &CommandContext,
        text: &str,
        sink: ChunkSink<'_>,
    ) -> Result<String, ChatError> {
        self.rate.check(&context.user).map_err(|wait| {
            self.metrics.refused.inc(Refused::ChatRate);
            ChatError::RateLimited(wait.as_secs() + 1)
        })?;
        Ok(recorded(&self.metrics, Upstream::Chat, self.call(client, context, text, sink)).await?)
    }

    async fn call(
        &self,
        client: &UpstreamClient,
        context: &CommandContext,
        text: &str,
        sink: ChunkSink<'_>,
    ) -> Result<String, UpstreamError> {
        self.breaker.check(Instant::now())?;
        let permit_timeout = Duration::from_secs(self.config.timeout_seconds.into());
        let permit = timeout(permit_timeout, self.permits.acquire()).await;
        let _permit = permit.map_err(|_| UpstreamError::Busy)?.map_err(|_| UpstreamError::Busy)?;
        let (turns, generation) = self.conversations.get(context.user, BootInstant::now());
        let answer = openai::complete(client, &self.config, &turns, text, &self.reasons_first, sink).await;
        self.breaker.record(&answer, Instant::now());
        let answer = answer?;
        // Who stopped the question was told that it has no answer: the model is not told otherwise.
        if context.stop.answered() {
            let turn = Turn { question: text.to_owned(), answer: answer.clone() };
            self.conversations.append(context.user, turn, self.config.turns, generation, BootInstant::now());
        }
        Ok(answer)
    }

    /// Stops the questions of `user`, and clears the conversation.
    pub(super) fn reset(&self, user: UserId) -> Event {
        self.questions.stop(user);
        self.conversations.clear(user);
        Event::ChatReset {}
    }

    /// Evicts the rate-limit state of idle users.
    pub(super) fn sweep(&self) {
        self.rate.sweep();
    }
}
