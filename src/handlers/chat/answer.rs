//! The answer of a model, put together from what its server sends: a stream of events or one object.

use std::mem;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use serde_json::{Deserializer, Value};

use super::completion::{Completion, without_lone_surrogates};
use super::events::{DONE, EventParser, ServerEvent};
use super::reasoning::{Piece, ReasoningFilter};
use crate::core::awake::{Deadline, timeout, timeout_at};
use crate::handlers::ChunkSink;
use crate::handlers::upstream::UpstreamError;

/// The maximum size of a streamed answer, in bytes on the wire: an event takes some 250 bytes for a word, and reasoning is streamed
/// as well.
const MAX_STREAM_BYTES: usize = 16 << 20;
/// The maximum size of an answer that is not streamed, and of one event of a stream, in bytes.
const MAX_OBJECT_BYTES: usize = 1 << 20;
/// The maximum length of the text, in characters; the stream is closed when it is reached.
const MAX_TEXT_CHARS: usize = 8_000;
/// The time for the rest of a stream once the model has stopped: with some servers, text still follows.
const FINISHED_TIMEOUT: Duration = Duration::from_secs(3);
/// The time for the end of a body behind `[DONE]`: with it, the connection can be used again.
const BODY_END_TIMEOUT: Duration = Duration::from_millis(50);

/// The form of a body, told by its first byte that is no white space. The `Content-Type` does not tell: proxies change it.
enum Body {
    Unknown(Vec<u8>),
    Events(EventParser),
    Objects(Vec<u8>),
}

/// An answer on its way.
pub(super) struct Answer<'a> {
    sink: ChunkSink<'a>,
    /// The deadline of the whole answer.
    end: Deadline,
    idle: Duration,
    filter: ReasoningFilter,
    text: String,
    chars: usize,
    /// The model has stopped.
    finished: bool,
    /// The time until which the rest of a stream is waited for, once the model has stopped.
    rest: Option<Deadline>,
    /// A part of the text has come, which may be held back.
    has_parts: bool,
    /// It was stopped by the limit of tokens.
    truncated: bool,
    /// An event said that it is the last one.
    done: bool,
    /// An object of this API was read.
    read_any: bool,
    restarted: bool,
}

impl<'a> Answer<'a> {
    /// Creates an answer that passes its parts to `sink`. It must be complete at `end`, with no pause longer than `idle`. With
    /// `held`, nothing is passed on before the end of reasoning that has no opening tag.
    pub(super) fn new(sink: ChunkSink<'a>, end: Deadline, idle: Duration, held: bool) -> Self {
        Self {
            sink,
            end,
            idle,
            filter: ReasoningFilter::new(held),
            text: String::new(),
            chars: 0,
            finished: false,
            rest: None,
            has_parts: false,
            truncated: false,
            done: false,
            read_any: false,
            restarted: false,
        }
    }

    /// Returns whether parts were passed on that turned out to be reasoning.
    pub(super) fn restarted(&self) -> bool {
        self.restarted
    }

    /// Returns whether the text had reasoning.
    pub(super) fn has_reasoning(&self) -> bool {
        self.filter.has_reasoning()
    }

    /// Reads the body of a response, and returns the text.
    ///
    /// # Errors
    /// When the server reports an error, or the text is incomplete, empty, or too slow.
    pub(super) async fn read(&mut self, mut response: Response) -> Result<String, UpstreamError> {
        // The end of any other body can't be told from a connection that broke.
        let has_end = [CONTENT_LENGTH, TRANSFER_ENCODING].iter().any(|name| response.headers().contains_key(name));
        let (mut body, mut received) = (Body::Unknown(Vec::new()), 0);
        while !self.is_complete() {
            if self.end.is_over() {
                return self.broken(UpstreamError::TooSlow).await;
            }
            // Without a text, the reason may have been that of the reasoning: some servers give one for each.
            let rest = self.rest.filter(|_| self.has_text()).map_or(self.idle, |rest| self.idle.min(rest.left()));
            let chunk = match timeout_at(self.end.or_after(rest), response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => {
                    self.end_of_body(body).await?;
                    self.finished |= has_end && self.read_any;
                    break;
                }
                Ok(Err(error)) => return self.broken(error.into()).await,
                Err(_) => return self.broken(UpstreamError::TooSlow).await,
            };
            received += chunk.len();
            if received > MAX_STREAM_BYTES {
                return self.broken(UpstreamError::TooLarge).await;
            }
            self.receive(&mut body, &chunk).await?;
        }
        if self.done && self.chars < MAX_TEXT_CHARS {
            let _ = timeout(BODY_END_TIMEOUT, response.chunk()).await;
        }
        self.result().await
    }

    /// Returns whether nothing more is to be read.
    fn is_complete(&self) -> bool {
        self.done || self.chars >= MAX_TEXT_CHARS
    }

    /// Returns whether there is text, which may be held back.
    fn has_text(&self) -> bool {
        !self.text.is_empty() || self.filter.is_holding()
    }

    /// Returns the text where the body broke with `error` behind its end.
    async fn broken(&mut self, error: UpstreamError) -> Result<String, UpstreamError> {
        if self.finished && self.has_text() { self.result().await } else { Err(error) }
    }

    async fn result(&mut self) -> Result<String, UpstreamError> {
        if self.chars < MAX_TEXT_CHARS {
            let rest = self.filter.finish(self.truncated);
            self.add(rest).await?;
        }
        if self.text.is_empty() {
            let only_reasoning = self.filter.has_reasoning() || self.truncated;
            return Err(if only_reasoning { UpstreamError::OnlyReasoning } else { UpstreamError::Unreadable });
        }
        let complete = self.finished || self.is_complete();
        if complete { Ok(mem::take(&mut self.text)) } else { Err(UpstreamError::Interrupted) }
    }

    /// Applies the next bytes of the body.
    async fn receive(&mut self, body: &mut Body, bytes: &[u8]) -> Result<(), UpstreamError> {
        if let Body::Unknown(head) = body {
            head.extend_from_slice(bytes);
            let head = mem::take(head);
            *body = match first_byte(&head) {
                None => Body::Unknown(head),
                Some(b'{' | b'[') => Body::Objects(head),
                Some(_) => {
                    let mut events = EventParser::default();
                    events.push(&head);
                    Body::Events(events)
                }
            };
        } else if let Body::Events(events) = body {
            events.push(bytes);
        } else if let Body::Objects(text) = body {
            text.extend_from_slice(bytes);
        }
        match body {
            Body::Events(events) => {
                while !self.is_complete()
                    && let Some(event) = events.next()
                {
                    self.event(event).await?;
                }
                if events.pending_bytes() > MAX_OBJECT_BYTES { Err(UpstreamError::TooLarge) } else { Ok(()) }
            }
            Body::Unknown(text) | Body::Objects(text) if text.len() > MAX_OBJECT_BYTES => Err(UpstreamError::TooLarge),
            Body::Unknown(_) | Body::Objects(_) => Ok(()),
        }
    }

    /// Applies what the end of the body completes.
    async fn end_of_body(&mut self, body: Body) -> Result<(), UpstreamError> {
        match body {
            Body::Unknown(_) => Ok(()),
            Body::Events(mut events) => match events.finish() {
                Some(event) => self.event(event).await,
                None => Ok(()),
            },
            Body::Objects(text) => {
                let text = String::from_utf8_lossy(&text);
                let text = without_lone_surrogates(text.trim_start_matches('\u{feff}'));
                // One object, or one a line.
                for value in Deserializer::from_str(&text).into_iter::<Value>() {
                    self.object(&value.map_err(|_| UpstreamError::Unreadable)?, false).await?;
                }
                self.finished = true;
                Ok(())
            }
        }
    }

    async fn event(&mut self, event: ServerEvent) -> Result<(), UpstreamError> {
        let ServerEvent { data, is_error } = event;
        let data = data.trim();
        if data == DONE {
            self.done = true;
            return Ok(());
        }
        let value = serde_json::from_str(data).or_else(|_| serde_json::from_str(&without_lone_surrogates(data)));
        match value {
            Ok(value) => self.object(&value, is_error).await,
            Err(_) if self.finished => Ok(()),
            Err(_) if is_error => Err(UpstreamError::Reported),
            // A part of the text is lost.
            Err(_) if data.starts_with('{') => Err(UpstreamError::Unreadable),
            Err(_) => Ok(()), // a word to keep the connection alive
        }
    }

    async fn object(&mut self, value: &Value, is_error: bool) -> Result<(), UpstreamError> {
        let completion = match Completion::read(value, is_error) {
            Ok(completion) => completion,
            Err(_) if self.finished && self.has_text() => return Ok(()),
            Err(error) => return Err(error),
        };
        let Completion { delta, message, finished, truncated } = completion;
        self.read_any |= value.get("choices").is_some();
        self.truncated |= truncated;
        // Some servers repeat the whole answer at the end of a stream.
        let text = if !self.has_parts && delta.is_empty() { message } else { delta };
        if (finished && !self.finished) || (self.finished && !text.is_empty()) {
            self.rest = Some(Deadline::after(FINISHED_TIMEOUT));
        }
        self.finished |= finished;
        if text.is_empty() {
            return Ok(());
        }
        self.has_parts = true;
        let pieces = self.filter.push(&text);
        self.add(pieces).await
    }

    /// Adds parts of the text, and passes them on.
    async fn add(&mut self, pieces: Vec<Piece>) -> Result<(), UpstreamError> {
        for piece in pieces {
            let Piece::Text(text) = piece else {
                self.text.clear();
                (self.chars, self.restarted) = (0, true);
                continue;
            };
            let part: String = text.chars().take(MAX_TEXT_CHARS - self.chars).collect();
            if !part.is_empty() {
                self.chars += part.chars().count();
                self.text.push_str(&part);
                timeout_at(self.end, (self.sink)(&part)).await.map_err(|_| UpstreamError::ClientTooSlow)?;
            }
        }
        Ok(())
    }
}

/// Returns the first byte of a body that is neither white space nor of a byte order mark.
fn first_byte(body: &[u8]) -> Option<u8> {
    let mark = b"\xef\xbb\xbf";
    let body = if mark.starts_with(&body[..body.len().min(3)]) { body.get(3..)? } else { body };
    body.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::LazyLock;

    use futures_util::FutureExt;
    use futures_util::future::{BoxFuture, ready};
    use parking_lot::Mutex;
    use proptest::prelude::*;
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    /// The answer of all recorded forms.
    const HELLO: &str = "Hello, 世界!";

    /// Returns the recorded forms: names and bytes.
    fn recorded(errors: bool) -> Vec<(String, Vec<u8>)> {
        let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/models");
        let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
        let named = files.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()));
        let mut recorded: Vec<_> =
            named.filter(|(name, _)| !name.ends_with(".md") && name.starts_with("error_") == errors).collect();
        recorded.sort();
        assert!(recorded.len() > 5);
        recorded
    }

    /// A text, or the error, and all parts that were passed on, joined.
    type Outcome = (Result<String, UpstreamError>, String);

    fn fed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, held: bool) -> Outcome {
        let parts = Mutex::new(String::new());
        let sink = |part: &str| -> BoxFuture<'static, ()> {
            parts.lock().push_str(part);
            ready(()).boxed()
        };
        let minute = Duration::from_secs(60);
        let mut answer = Answer::new(&sink, Deadline::after(minute), minute, held);
        let reading = async {
            let mut body = Body::Unknown(Vec::new());
            for piece in pieces {
                answer.receive(&mut body, piece).await?;
                if answer.is_complete() {
                    return answer.result().await;
                }
            }
            answer.end_of_body(body).await?;
            answer.result().await
        };
        // Nothing of it waits, but the deadlines ask for a timer.
        static TIMER: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());
        let _entered = TIMER.enter();
        let text = reading.now_or_never().unwrap();
        let parts = parts.lock().clone();
        (text, parts)
    }

    fn text(body: &str) -> Result<String, UpstreamError> {
        fed([body.as_bytes()], false).0
    }

    #[test]
    fn recorded_forms_are_read() {
        for (name, body) in recorded(false) {
            let (text, parts) = fed([body.as_slice()], false);
            assert_eq!(text.as_deref(), Ok(HELLO), "{name}");
            assert!(parts.ends_with(HELLO) && (parts == HELLO || name == "vllm_no_opening_tag.sse"), "{name}: {parts}");
            assert_eq!(fed([body.as_slice()], true), (Ok(HELLO.into()), HELLO.into()), "{name}, held back");
        }
    }

    #[test]
    fn recorded_forms_are_read_in_pieces_of_every_size() {
        for (name, body) in recorded(false) {
            let whole = fed([body.as_slice()], false);
            for size in 1..=48 {
                assert_eq!(fed(body.chunks(size), false), whole, "{name} in pieces of {size} bytes");
            }
        }
    }

    #[test]
    fn recorded_forms_are_read_in_two_pieces_cut_at_every_byte() {
        let tricky = ["gateway.sse", "gateway_cr.sse", "ollama_think.sse", "vllm_no_opening_tag.sse", "whole.json"];
        for (name, body) in recorded(false).into_iter().filter(|(name, _)| tricky.contains(&name.as_str())) {
            let whole = fed([body.as_slice()], false);
            for at in 0..=body.len() {
                let (first, second) = body.split_at(at);
                assert_eq!(fed([first, second], false), whole, "{name} cut at {at}");
            }
        }
    }

    #[test]
    fn recorded_errors_are_errors() {
        for (name, body) in recorded(true) {
            for size in [1, 7, body.len()] {
                let error = fed(body.chunks(size), false).0.unwrap_err();
                assert!(matches!(error, UpstreamError::Reported | UpstreamError::Status(400..600)), "{name}: {error}");
            }
        }
    }

    /// A stream of events.
    fn events(data: &[&str]) -> String {
        data.iter().map(|data| format!("data: {data}\n\n")).collect()
    }

    const HI: &str = r#"{"choices":[{"delta":{"content":"hi"}}]}"#;
    const STOP: &str = r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#;

    #[test]
    fn nothing_behind_the_end_of_the_text_is_a_failure() {
        for rest in ["", "{\"broken", r#"{"error":{"code":500}}"#, r#"{"choices":null}"#, "x", r#"{"object":"error"}"#] {
            assert_eq!(text(&events(&[HI, STOP, rest])).as_deref(), Ok("hi"), "{rest}");
            assert_eq!(text(&events(&[HI, STOP, rest, "[DONE]"])).as_deref(), Ok("hi"), "{rest}");
            assert_eq!(fed([events(&[HI, STOP, rest]).as_bytes()], true).0.as_deref(), Ok("hi"), "{rest}, held back");
        }
        let late = r#"{"choices":[{"delta":{"content":"!"},"finish_reason":"stop"}]}"#;
        assert_eq!(text(&events(&[HI, STOP, late, "[DONE]"])).as_deref(), Ok("hi!"), "a reason in every event");
        let whole = r#"{"choices":[{"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
        assert_eq!(text(&events(&[HI, whole])).as_deref(), Ok("hi"), "the whole answer again");
        assert_eq!(text(&events(&[whole])).as_deref(), Ok("hi"), "and as the only event");
        assert_eq!(fed([events(&[HI, whole]).as_bytes()], true).0.as_deref(), Ok("hi"), "and while it is held back");
    }

    #[test]
    fn incomplete_text_is_a_failure() {
        assert_eq!(text(&events(&[HI])), Err(UpstreamError::Interrupted));
        assert_eq!(text(&events(&[HI, "{\"choices\":[{", "[DONE]"])), Err(UpstreamError::Unreadable));
        assert_eq!(text(&events(&[HI, r#"{"error":"overloaded"}"#, "[DONE]"])), Err(UpstreamError::Reported));
        assert_eq!(text(""), Err(UpstreamError::Unreadable));
        assert_eq!(text("no json"), Err(UpstreamError::Unreadable));
        assert_eq!(text("{}"), Err(UpstreamError::Unreadable));
        assert_eq!(text("{\"choices\":["), Err(UpstreamError::Unreadable));
        assert_eq!(text(&events(&["[DONE]"])), Err(UpstreamError::Unreadable));
    }

    #[test]
    fn reasoning_without_answer_is_told_apart() {
        let delta = |content: &str, reason: &str| {
            serde_json::json!({"choices": [{"delta": {"content": content}, "finish_reason": reason}]}).to_string()
        };
        assert_eq!(text(&events(&[&delta("<think>so", ""), &delta("", "length")])), Err(UpstreamError::OnlyReasoning));
        assert_eq!(text(&events(&[&delta("<think>so</think>\n", "stop")])), Err(UpstreamError::OnlyReasoning));
        assert_eq!(text(&events(&[&delta("", "length")])), Err(UpstreamError::OnlyReasoning), "in a field of its own");
        let held = events(&[&delta("so it goes", ""), &delta("", "length")]);
        assert_eq!(fed([held.as_bytes()], true).0, Err(UpstreamError::OnlyReasoning));
        assert_eq!(fed([held.replace("length", "stop").as_bytes()], true).0.as_deref(), Ok("so it goes"));
    }

    #[test]
    fn halves_of_characters_are_replaced() {
        let stream =
            events(&[r#"{"choices":[{"delta":{"content":"a\ud83d"}}]}"#, r#"{"choices":[{"delta":{"content":"b"}}]}"#, STOP]);
        assert_eq!(text(&stream).as_deref(), Ok("a\u{fffd}b"));
    }

    #[test]
    fn sizes_are_bounded() {
        let endless = [b'x'; 4096];
        let start: &[u8] = b"data: ";
        let line = || std::iter::once(start).chain(std::iter::repeat_n(&endless[..], 300));
        assert_eq!(fed(line(), false).0, Err(UpstreamError::TooLarge));
        let object: &[u8] = b"{\"x\":\"";
        assert_eq!(
            fed(std::iter::once(object).chain(std::iter::repeat_n(&endless[..], 300)), false).0,
            Err(UpstreamError::TooLarge)
        );
        assert_eq!(fed(std::iter::repeat_n(&[b'\n'; 4096][..], 300), false).0, Err(UpstreamError::TooLarge));
        let long = serde_json::json!({"choices": [{"delta": {"content": format!("<think>{}</think>{}", "r".repeat(20_000), "长".repeat(9_000))}}]});
        assert_eq!(text(&events(&[&long.to_string()])).map(|text| text.chars().count()), Ok(MAX_TEXT_CHARS));
    }

    proptest! {
        #[test]
        fn any_form_is_independent_of_the_cuts(which in any::<prop::sample::Index>(), cuts in prop::collection::vec(1usize..200, 1..30)) {
            let all = recorded(false);
            let (name, body) = which.get(&all);
            let (mut pieces, mut rest) = (Vec::new(), body.as_slice());
            for cut in cuts.iter().cycle() {
                let (piece, later) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(fed(pieces, false).0, Ok(HELLO.to_owned()), "{}", name);
        }

        #[test]
        fn any_bytes_have_an_outcome(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10), json in ".*") {
            let _ = fed(pieces.iter().map(Vec::as_slice), false);
            let _ = text(&format!("data: {json}\n\n"));
        }
    }
}
