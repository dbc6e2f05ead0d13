//! The chat completions API of Ollama, llama.cpp, vLLM and cloud services
//! (platform.openai.com/docs/api-reference/chat/create, and .../chat-streaming for the events).
//!
//! `POST {url}/chat/completions` with `"stream": true` returns server-sent events, and `data: [DONE]` at the end. A server that does
//! not stream returns one JSON object.
//!
//! An answer is complete with `[DONE]`, with a `finish_reason`, or at the end of a body whose length is known or that is chunked: what
//! happens behind that, or does not come, is no failure.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::RequestBuilder;
use serde::Serialize;

use super::answer::Answer;
use super::conversations::Turn;
use crate::config::ChatConfig;
use crate::core::awake::Deadline;
use crate::handlers::ChunkSink;
use crate::handlers::upstream::{UpstreamClient, UpstreamError, send};

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct CompletionRequest<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
}

/// Requests a completion, passes each part of the answer to `sink` as it arrives, and returns the whole text. `reasons_first` is set
/// while the model's answers begin with reasoning that has no opening tag.
pub(super) async fn complete(
    client: &UpstreamClient,
    config: &ChatConfig,
    turns: &[Turn],
    question: &str,
    reasons_first: &AtomicBool,
    sink: ChunkSink<'_>,
) -> Result<String, UpstreamError> {
    let timeout = Duration::from_secs(config.timeout_seconds.into());
    let end = Deadline::after(timeout);
    let response = send(client, request(client, config, turns, question)?, timeout).await?;
    let held = reasons_first.load(Ordering::Relaxed);
    let mut answer = Answer::new(sink, end, Duration::from_secs(config.idle_seconds.into()), held);
    let text = answer.read(response).await;
    if answer.restarted() {
        reasons_first.store(true, Ordering::Relaxed);
    } else if held && text.is_ok() && !answer.has_reasoning() {
        reasons_first.store(false, Ordering::Relaxed); // the model, or a setting of its server, has changed
    }
    text
}

/// Returns the request for a completion.
fn request(
    client: &UpstreamClient,
    config: &ChatConfig,
    turns: &[Turn],
    question: &str,
) -> Result<RequestBuilder, UpstreamError> {
    let mut messages = Vec::with_capacity(turns.len() * 2 + 2);
    let mut push = |role, content| messages.push(Message { role, content });
    if !config.system.is_empty() {
        push("system", &config.system);
    }
    for turn in turns {
        push("user", &turn.question);
        push("assistant", &turn.answer);
    }
    push("user", question);
    let (max_tokens, temperature) = (config.max_tokens, config.temperature);
    let body = CompletionRequest { model: &config.model, messages, stream: true, max_tokens, temperature };
    let url = format!("{}/chat/completions", config.url.trim_end_matches('/'));
    let mut request = client.post(&url).header("content-type", "application/json");
    if let Some(key) = config.key.as_ref().filter(|key| !key.is_empty()) {
        request = request.bearer_auth(key.reveal());
    }
    Ok(request.body(serde_json::to_vec(&body).map_err(|_| UpstreamError::Unreadable)?))
}
