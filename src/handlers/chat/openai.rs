//! The chat completions API that Ollama, llama.cpp, vLLM and cloud services speak
//! (platform.openai.com/docs/api-reference/chat/create, and .../chat-streaming for the events).
//!
//! `POST {url}/chat/completions` with `"stream": true` answers server-sent events, each `data: {…}` with
//! `choices[0].delta.content`, and `data: [DONE]` at the end. A server that does not stream answers one object with
//! `choices[0].message.content`.

use std::time::Duration;

use reqwest::{Client, Response};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::memory::Turn;
use crate::config::ChatConfig;
use crate::handlers::Chunk;
use crate::handlers::upstream::{UpstreamError, read, send};

/// The longest answer, in bytes as it comes over the wire: an event takes some 250 for a word, and models think aloud.
const MOST_BYTES: usize = 16 << 20;
/// The longest answer that comes in one piece, in bytes.
const MOST_WHOLE_BYTES: usize = 1 << 20;
/// The longest line of a stream.
const MOST_LINE_BYTES: usize = 64 * 1024;
/// The longest text, in characters; what follows is not asked for any more.
const MOST_CHARS: usize = 8_000;

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
}

#[derive(Deserialize)]
struct Answer {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    /// Of an event.
    delta: Option<Content>,
    /// Of a whole answer.
    message: Option<Content>,
}

#[derive(Deserialize)]
struct Content {
    content: Option<String>,
}

impl Answer {
    fn text(self) -> String {
        let choice = self.choices.into_iter().next();
        choice.and_then(|c| c.delta.or(c.message)).and_then(|c| c.content).unwrap_or_default()
    }
}

/// Asks, hands each piece of the answer to `piece` as it comes, and returns the whole.
pub(super) async fn complete(
    client: &Client,
    config: &ChatConfig,
    before: &[Turn],
    question: &str,
    piece: Chunk<'_>,
) -> Result<String, UpstreamError> {
    let mut messages = Vec::with_capacity(before.len() * 2 + 2);
    let mut say = |role, content| messages.push(Message { role, content });
    if !config.system.is_empty() {
        say("system", &config.system);
    }
    for turn in before {
        say("user", &turn.question);
        say("assistant", &turn.answer);
    }
    say("user", question);
    let (max_tokens, temperature) = (config.max_tokens, config.temperature);
    let body = Request { model: &config.model, messages, stream: true, max_tokens, temperature };
    let url = format!("{}/chat/completions", config.url.trim_end_matches('/'));
    let mut request = client.post(url).header("content-type", "application/json");
    if let Some(key) = config.key.as_ref().filter(|key| !key.is_empty()) {
        request = request.bearer_auth(key.reveal());
    }
    let within = Duration::from_secs(config.timeout_seconds.into());
    let end = Instant::now() + within;
    let response = send(request.body(serde_json::to_vec(&body).map_err(|_| UpstreamError::Unreadable)?), within).await?;
    let streams = response.headers().get("content-type").is_some_and(|v| v.as_bytes().starts_with(b"text/event-stream"));
    if !streams {
        let whole = read(response, MOST_WHOLE_BYTES, end.saturating_duration_since(Instant::now())).await?;
        let answer: Answer = serde_json::from_slice(&whole).map_err(|_| UpstreamError::Unreadable)?;
        let text: String = answer.text().chars().take(MOST_CHARS).collect();
        if text.is_empty() {
            return Err(UpstreamError::Unreadable);
        }
        timeout_at(end, piece(&text)).await.map_err(|_| UpstreamError::NotTaken)?;
        return Ok(text);
    }
    let text = follow(response, Duration::from_secs(config.idle_seconds.into()), end, piece).await?;
    if text.is_empty() { Err(UpstreamError::Unreadable) } else { Ok(text) }
}

/// Reads the events until the last one.
async fn follow(mut response: Response, idle: Duration, end: Instant, piece: Chunk<'_>) -> Result<String, UpstreamError> {
    let (mut text, mut chars, mut events, mut taken) = (String::new(), 0, Events::default(), 0);
    loop {
        if Instant::now() >= end {
            return Err(UpstreamError::TooSlow);
        }
        let deadline = end.min(Instant::now() + idle);
        let chunk = timeout_at(deadline, response.chunk()).await.map_err(|_| UpstreamError::TooSlow)??;
        let Some(chunk) = chunk else {
            return Err(UpstreamError::BrokeOff); // half an answer is none
        };
        taken += chunk.len();
        if taken > MOST_BYTES {
            return Err(UpstreamError::TooLarge);
        }
        events.push(&chunk);
        if events.unfinished() > MOST_LINE_BYTES {
            return Err(UpstreamError::TooLarge);
        }
        while let Some(data) = events.next() {
            if data == "[DONE]" {
                return Ok(text);
            }
            let answer: Answer = serde_json::from_str(&data).map_err(|_| UpstreamError::Unreadable)?;
            let more: String = answer.text().chars().take(MOST_CHARS - chars).collect();
            if !more.is_empty() {
                text.push_str(&more);
                chars += more.chars().count();
                timeout_at(end, piece(&more)).await.map_err(|_| UpstreamError::NotTaken)?;
            }
            if chars >= MOST_CHARS {
                return Ok(text);
            }
        }
    }
}

/// Server-sent events (HTML Living Standard, section 9.2.6), as far as this API uses them: the `data` of each.
#[derive(Debug, Default)]
struct Events {
    buffer: Vec<u8>,
    /// Lines before here have been handed out.
    start: usize,
    /// No line ends before here.
    looked: usize,
}

impl Events {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.looked -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// How much of a line is there whose end is not.
    fn unfinished(&self) -> usize {
        self.buffer.iter().rev().take_while(|&&b| b != b'\n').count()
    }

    /// The next event's data, once a whole line of it is there. This API never splits one over several lines.
    fn next(&mut self) -> Option<String> {
        loop {
            let Some(length) = self.buffer[self.looked..].iter().position(|&b| b == b'\n') else {
                self.looked = self.buffer.len();
                return None;
            };
            let line = &self.buffer[self.start..self.looked + length];
            (self.start, self.looked) = (self.looked + length + 1, self.looked + length + 1);
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
        fn however_they_are_cut_the_events_are_the_same(cuts in prop::collection::vec(1usize..9, 1..20)) {
            let stream = ": hello\r\n\r\ndata: {\"a\":\"长\"}\r\n\r\nevent: x\ndata:two\n\ndata: [DONE]\n\n".as_bytes();
            let (mut events, mut seen, mut rest) = (Events::default(), Vec::new(), stream);
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                events.push(now);
                while let Some(data) = events.next() {
                    seen.push(data);
                }
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(seen, ["{\"a\":\"长\"}", "two", "[DONE]"]);
        }
    }
}
