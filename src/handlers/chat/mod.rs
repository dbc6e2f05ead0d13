//! `chat_message`: a language model where one is configured, else the guide's responder, which repeats what it heard (guide
//! section 3.1, `process_chat_message`).

mod memory;
mod openai;

use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::Client;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Chunk;
use super::upstream::{Breaker, UpstreamError, counted};
use crate::admission::Rate;
use crate::config::{ChatConfig, Responder};
use crate::core::ids::UserId;
use crate::telemetry::metrics::{Metrics, Refused, Upstream};
use crate::wire::{ErrorCode, Event};
use memory::{Memory, Turn};

/// Who answers.
pub(super) struct Chat {
    config: ChatConfig,
    /// Only with a model.
    client: Option<Client>,
    memory: Arc<Memory>,
    rate: Arc<Rate<UserId>>,
    at_once: Semaphore,
    breaker: Breaker,
    metrics: Arc<Metrics>,
}

/// Why there is no answer.
enum Unanswered {
    /// The user asks too often; again in so many seconds.
    TooMany(u64),
    /// The model's fault.
    Upstream(UpstreamError),
}

impl From<UpstreamError> for Unanswered {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

/// What the guide's responder says.
fn repeat(text: &str) -> String {
    format!("收到消息:{text}")
}

impl Chat {
    /// As configured; `client` for the model.
    pub(super) fn new(config: &ChatConfig, client: Option<Client>, metrics: Arc<Metrics>) -> Self {
        Self {
            client: client.filter(|_| config.responder == Responder::Openai),
            memory: Arc::default(),
            rate: Arc::new(Rate::per_minute(config.per_minute)),
            at_once: Semaphore::new(config.concurrency),
            breaker: Breaker::default(),
            metrics,
            config: config.clone(),
        }
    }

    /// The same for another configuration, with what was said before.
    pub(super) fn changed(&self, config: &ChatConfig, client: Option<Client>) -> Self {
        let new = Self { memory: self.memory.clone(), ..Self::new(config, client, self.metrics.clone()) };
        if config.per_minute == self.config.per_minute { Self { rate: self.rate.clone(), ..new } } else { new }
    }

    /// The answer, where it takes no time.
    pub(super) fn quick(&self, text: &str) -> Option<Event> {
        self.client.is_none().then(|| Event::ChatResponse { message: repeat(text), source: None })
    }

    /// Asks the model; pieces of its answer go to `piece` as they come.
    pub(super) async fn answer(&self, user: UserId, text: &str, piece: Chunk<'_>) -> Event {
        let asked = match &self.client {
            None => Ok(repeat(text)),
            Some(client) => self.ask(client, user, text, piece).await,
        };
        match asked {
            Ok(message) => Event::ChatResponse { message, source: None },
            Err(Unanswered::TooMany(seconds)) => {
                let message = format!("Chat processing error: too many questions, again in {seconds} s");
                Event::Error { message, code: ErrorCode::UpstreamError }
            }
            Err(Unanswered::Upstream(why)) => {
                tracing::warn!(%user, %why, "the chat model gave no answer");
                if self.config.fallback {
                    return Event::ChatResponse { message: repeat(text), source: Some("builtin") };
                }
                Event::Error { message: format!("Chat processing error: {why}"), code: ErrorCode::UpstreamError }
            }
        }
    }

    async fn ask(&self, client: &Client, user: UserId, text: &str, piece: Chunk<'_>) -> Result<String, Unanswered> {
        self.rate.check(&user).map_err(|wait| {
            self.metrics.refused.inc(Refused::ChatRate);
            Unanswered::TooMany(wait.as_secs() + 1)
        })?;
        Ok(counted(&self.metrics, Upstream::Chat, self.call(client, user, text, piece)).await?)
    }

    async fn call(&self, client: &Client, user: UserId, text: &str, piece: Chunk<'_>) -> Result<String, UpstreamError> {
        self.breaker.check(Instant::now())?;
        let patience = Duration::from_secs(self.config.timeout_seconds.into());
        let waiting = timeout(patience, self.at_once.acquire()).await;
        let _one = waiting.map_err(|_| UpstreamError::Busy)?.map_err(|_| UpstreamError::Busy)?;
        let (before, generation) = self.memory.recall(user, Instant::now());
        let asked = openai::complete(client, &self.config, &before, text, piece).await;
        self.breaker.note(&asked, Instant::now());
        let answer = asked?;
        let turn = Turn { question: text.to_owned(), answer: answer.clone() };
        self.memory.remember(user, turn, self.config.turns, generation, Instant::now());
        Ok(answer)
    }

    /// Forgets what was said.
    pub(super) fn reset(&self, user: UserId) -> Event {
        self.memory.forget(user);
        Event::ChatReset {}
    }

    /// Forgets who has not come for a while.
    pub(super) fn sweep(&self) {
        self.rate.sweep();
    }
}
