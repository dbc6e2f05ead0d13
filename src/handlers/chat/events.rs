//! Server-sent events (HTML Living Standard, section 9.2.6), as servers of the chat completions API really write them.
//!
//! Read as the standard has it: lines end with CR, LF or both, a byte order mark may come first, comments and unknown fields are
//! ignored, the `data` lines of an event are joined. Beyond it, since servers and proxies differ:
//! - An event whose first `data` line is complete JSON, or `[DONE]`, needs no blank line behind it.
//! - The last event needs no line end.
//! - A field `error`, which older versions of llama.cpp write, is the data of an event that reports an error.

use serde::de::IgnoredAny;

/// The mark that may precede UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The data of the last event.
pub(super) const DONE: &str = "[DONE]";

/// An event with its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerEvent {
    /// The lines of data, joined by line feeds.
    pub(super) data: String,
    /// Set when the event is named `error`.
    pub(super) is_error: bool,
}

/// A parser of events, independent of how the bytes are cut into pieces.
#[derive(Debug, Default)]
pub(super) struct EventParser {
    buffer: Vec<u8>,
    /// Start of the first line that was not yet read.
    start: usize,
    /// End of the part that was searched for a line end.
    searched: usize,
    /// Set once it is known whether the text begins with a byte order mark.
    begun: bool,
    /// The last line ended with a CR: a LF that follows belongs to it.
    after_cr: bool,
    /// The data of the event that is being read, if it has any.
    data: Option<String>,
    is_error: bool,
}

impl EventParser {
    /// Adds the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the number of bytes of the event that is not complete yet.
    pub(super) fn pending_bytes(&self) -> usize {
        self.buffer.len() - self.start + self.data.as_ref().map_or(0, String::len)
    }

    /// Returns the next complete event that has data.
    pub(super) fn next(&mut self) -> Option<ServerEvent> {
        loop {
            let line = self.line()?;
            if let Some(event) = self.accept(&line) {
                return Some(event);
            }
        }
    }

    /// Returns the event that the end of the stream completes. Call it after the last [`next`](Self::next).
    pub(super) fn finish(&mut self) -> Option<ServerEvent> {
        let rest = std::mem::take(&mut self.buffer);
        let rest = String::from_utf8_lossy(&rest[self.start..]).into_owned();
        (self.start, self.searched) = (0, 0);
        self.accept(&rest).or_else(|| self.dispatch())
    }

    /// Returns the next complete line, without its end.
    fn line(&mut self) -> Option<String> {
        if !self.begun {
            let head = &self.buffer[self.start..];
            if head.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(head) {
                return None;
            }
            self.start += if head.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
            (self.begun, self.searched) = (true, self.start);
        }
        if self.after_cr {
            let next = *self.buffer.get(self.start)?;
            self.start += usize::from(next == b'\n');
            (self.after_cr, self.searched) = (false, self.start);
        }
        let Some(length) = self.buffer[self.searched..].iter().position(|&b| matches!(b, b'\n' | b'\r')) else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + length;
        let line = String::from_utf8_lossy(&self.buffer[self.start..end]).into_owned();
        self.after_cr = self.buffer[end] == b'\r';
        (self.start, self.searched) = (end + 1, end + 1);
        Some(line)
    }

    /// Applies a line, and returns the event that is complete with it.
    fn accept(&mut self, line: &str) -> Option<ServerEvent> {
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.is_error = value.trim() == "error",
            "data" | "error" => {
                self.is_error |= field == "error";
                return self.add(value);
            }
            _ => {} // a comment, or a field that this API does not use
        }
        None
    }

    /// Adds a line of data, and returns the event where it is complete with it.
    fn add(&mut self, value: &str) -> Option<ServerEvent> {
        let first = self.data.as_ref().is_none_or(|data| data.trim().is_empty());
        match &mut self.data {
            Some(data) if !first => {
                data.push('\n');
                data.push_str(value);
            }
            data => *data = Some(value.to_owned()),
        }
        let complete = || value.trim() == DONE || serde_json::from_str::<IgnoredAny>(value).is_ok();
        if first && complete() { self.dispatch() } else { None }
    }

    fn dispatch(&mut self) -> Option<ServerEvent> {
        let is_error = std::mem::take(&mut self.is_error);
        self.data.take().map(|data| ServerEvent { data, is_error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<(String, bool)> {
        let (mut parser, mut events) = (EventParser::default(), Vec::new());
        for piece in pieces {
            parser.push(piece);
            while let Some(event) = parser.next() {
                events.push((event.data, event.is_error));
            }
        }
        events.extend(parser.finish().map(|event| (event.data, event.is_error)));
        events
    }

    fn data(text: &str) -> Vec<String> {
        parsed([text.as_bytes()]).into_iter().map(|(data, _)| data).collect()
    }

    #[test]
    fn events_are_read_with_every_line_end() {
        for end in ["\n", "\r\n", "\r"] {
            let text = [
                ": hello",
                "",
                "data: {\"a\":\"长\"}",
                "",
                "id: 7",
                "event: x",
                "retry: 10",
                "data:two",
                "",
                "data: [DONE]",
                "",
                "",
            ];
            assert_eq!(data(&text.join(end)), ["{\"a\":\"长\"}", "two", "[DONE]"], "{end:?}");
        }
        assert_eq!(data("\u{feff}data: 1\n\ndata: 2"), ["1", "2"], "a byte order mark, and no end of the last line");
        assert_eq!(data("\u{feff}"), [""; 0]);
    }

    #[test]
    fn lines_of_one_event_are_joined() {
        assert_eq!(data("data: {\"a\":\ndata: 1}\n\ndata: 2\n\n"), ["{\"a\":\n1}", "2"]);
        assert_eq!(data("data:\n\ndata\n\ndata: {}\n\n"), ["", "", "{}"], "events without content");
        assert_eq!(data("data:\ndata: {}\ndata: {\"b\":1}\n"), ["{}", "{\"b\":1}"], "events without blank lines between them");
    }

    #[test]
    fn error_is_recognised_by_its_name() {
        let errors = |text: &str| parsed([text.as_bytes()]).into_iter().map(|(_, is_error)| is_error).collect::<Vec<_>>();
        assert_eq!(errors("event: error\ndata: {}\n\ndata: {}\n\n"), [true, false]);
        assert_eq!(errors("error: {\"code\":500}\n\n"), [true]);
        assert_eq!(errors("event: message\ndata: {}\n\n"), [false]);
    }

    proptest! {
        #[test]
        fn events_are_independent_of_the_cuts(
            lines in prop::collection::vec(prop_oneof![
                Just(""), Just(":x"), Just("data: {\"a\":\"长\"}"), Just("data: {\"a\":"), Just("data: 1}"), Just("data:"), Just("event: error"),
                Just("data: [DONE]"), Just("nothing"), Just("error: {}"),
            ], 0..12),
            ends in prop::collection::vec(prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], 12),
            mark in any::<bool>(),
        ) {
            let mut text = if mark { "\u{feff}".to_owned() } else { String::new() };
            for (line, end) in lines.iter().zip(&ends) {
                text.push_str(line);
                text.push_str(end);
            }
            let whole = parsed([text.as_bytes()]);
            prop_assert_eq!(&parsed(text.as_bytes().chunks(1)), &whole, "byte by byte");
            for at in 0..=text.len() {
                let (first, second) = text.as_bytes().split_at(at);
                prop_assert_eq!(&parsed([first, second]), &whole, "cut at {}", at);
            }
        }
    }
}
