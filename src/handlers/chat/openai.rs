//! The chat completions API of Ollama, llama.cpp, vLLM and cloud services
//! (platform.openai.com/docs/api-reference/chat/create, and .../chat-streaming for the events).
//!
//! `POST {url}/chat/completions` with `"stream": true` returns server-sent events, each `data: {…}` with
//! `choices[0].delta.content`, and `data: [DONE]` at the end. A server that does not stream returns one object with
//! `choices[0].message.content`.

use std::time::Duration;

use reqwest::{Client, Response};
use serde::{Deserialize, Serialize};

use super::conversations::Turn;
use crate::config::ChatConfig;
use crate::core::awake::{Deadline, timeout_at};
use crate::handlers::ChunkSink;
use crate::handlers::upstream::{UpstreamError, read, send};

/// The maximum size of a streamed answer, in bytes on the wire: an event takes some 250 bytes for a word, and reasoning is streamed
/// as well.
const MAX_STREAM_BYTES: usize = 16 << 20;
/// The maximum size of an answer that is not streamed, in bytes.
const MAX_BODY_BYTES: usize = 1 << 20;
/// The maximum length of a line of a stream, in bytes.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// The maximum length of the text, in characters; the stream is closed when it is reached.
const MAX_TEXT_CHARS: usize = 8_000;

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

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    /// Set in an event of a stream.
    delta: Option<Content>,
    /// Set in a complete answer.
    message: Option<Content>,
}

#[derive(Deserialize)]
struct Content {
    content: Option<String>,
}

impl Completion {
    fn text(self) -> String {
        let choice = self.choices.into_iter().next();
        choice.and_then(|c| c.delta.or(c.message)).and_then(|c| c.content).unwrap_or_default()
    }
}

/// Requests a completion, passes each part of the answer to `sink` as it arrives, and returns the whole text.
pub(super) async fn complete(
    client: &Client,
    config: &ChatConfig,
    turns: &[Turn],
    question: &str,
    sink: ChunkSink<'_>,
) -> Result<String, UpstreamError> {
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
    let mut request = client.post(url).header("content-type", "application/json");
    if let Some(key) = config.key.as_ref().filter(|key| !key.is_empty()) {
        request = request.bearer_auth(key.reveal());
    }
    let timeout = Duration::from_secs(config.timeout_seconds.into());
    let end = Deadline::after(timeout);
    let response = send(request.body(serde_json::to_vec(&body).map_err(|_| UpstreamError::Unreadable)?), timeout).await?;
    let is_stream = response.headers().get("content-type").is_some_and(|v| v.as_bytes().starts_with(b"text/event-stream"));
    if !is_stream {
        let body = read(response, MAX_BODY_BYTES, end.left()).await?;
        let completion: Completion = serde_json::from_slice(&body).map_err(|_| UpstreamError::Unreadable)?;
        let text: String = completion.text().chars().take(MAX_TEXT_CHARS).collect();
        if text.is_empty() {
            return Err(UpstreamError::Unreadable);
        }
        timeout_at(end, sink(&text)).await.map_err(|_| UpstreamError::ClientTooSlow)?;
        return Ok(text);
    }
    let text = read_stream(response, Duration::from_secs(config.idle_seconds.into()), end, sink).await?;
    if text.is_empty() { Err(UpstreamError::Unreadable) } else { Ok(text) }
}

/// Reads events up to the last one.
async fn read_stream(
    mut response: Response,
    idle: Duration,
    end: Deadline,
    sink: ChunkSink<'_>,
) -> Result<String, UpstreamError> {
    let (mut text, mut chars, mut events, mut received) = (String::new(), 0, EventParser::default(), 0);
    loop {
        if end.is_over() {
            return Err(UpstreamError::TooSlow);
        }
        let chunk = timeout_at(end.or_after(idle), response.chunk()).await.map_err(|_| UpstreamError::TooSlow)??;
        let Some(chunk) = chunk else {
            return Err(UpstreamError::Interrupted); // an incomplete answer is discarded
        };
        received += chunk.len();
        if received > MAX_STREAM_BYTES {
            return Err(UpstreamError::TooLarge);
        }
        events.push(&chunk);
        if events.partial_line_bytes() > MAX_LINE_BYTES {
            return Err(UpstreamError::TooLarge);
        }
        while let Some(data) = events.next() {
            if data == "[DONE]" {
                return Ok(text);
            }
            let completion: Completion = serde_json::from_str(&data).map_err(|_| UpstreamError::Unreadable)?;
            let part: String = completion.text().chars().take(MAX_TEXT_CHARS - chars).collect();
            if !part.is_empty() {
                text.push_str(&part);
                chars += part.chars().count();
                timeout_at(end, sink(&part)).await.map_err(|_| UpstreamError::ClientTooSlow)?;
            }
            if chars >= MAX_TEXT_CHARS {
                return Ok(text);
            }
        }
    }
}

/// A parser of server-sent events (HTML Living Standard, section 9.2.6), limited to this API: yields the `data` of each event.
#[derive(Debug, Default)]
struct EventParser {
    buffer: Vec<u8>,
    /// Start of the first line that was not yet returned.
    start: usize,
    /// End of the part that was searched for a line feed.
    searched: usize,
}

impl EventParser {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the length of the last, incomplete line.
    fn partial_line_bytes(&self) -> usize {
        self.buffer.iter().rev().take_while(|&&b| b != b'\n').count()
    }

    /// Returns the data of the next event, if its line is complete. This API never splits data over several lines.
    fn next(&mut self) -> Option<String> {
        loop {
            let Some(length) = self.buffer[self.searched..].iter().position(|&b| b == b'\n') else {
                self.searched = self.buffer.len();
                return None;
            };
            let line = &self.buffer[self.start..self.searched + length];
            (self.start, self.searched) = (self.searched + length + 1, self.searched + length + 1);
            let line = String::from_utf8_lossy(line);
            if let Some(data) = line.trim_end().strip_prefix("data:") {
                return Some(data.trim_start().to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn event_parser_is_independent_of_chunk_boundaries(cuts in prop::collection::vec(1usize..9, 1..20)) {
            let stream = ": hello\r\n\r\ndata: {\"a\":\"长\"}\r\n\r\nevent: x\ndata:two\n\ndata: [DONE]\n\n".as_bytes();
            let (mut events, mut parsed, mut rest) = (EventParser::default(), Vec::new(), stream);
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                events.push(now);
                while let Some(data) = events.next() {
                    parsed.push(data);
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(parsed, ["{\"a\":\"长\"}", "two", "[DONE]"]);
        }
    }
}
