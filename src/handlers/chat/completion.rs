//! The objects of the chat completions API, read leniently: servers leave out, null and add what they like, and only the text, the
//! end and an error matter here.
//!
//! An event of a stream has `choices[0].delta.content`, a complete answer `choices[0].message.content`. Reasoning in fields of its
//! own (`reasoning_content` of DeepSeek, Qwen, vLLM and llama.cpp, `reasoning` of Ollama and LM Studio) is not read.

use serde_json::{Map, Value};

use crate::handlers::upstream::UpstreamError;

/// The content of one object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Completion {
    /// The text of `delta`.
    pub(super) delta: String,
    /// The text of `message`, where there is no `delta`: it is the whole answer.
    pub(super) message: String,
    /// Set when the model has stopped; the number of tokens may follow, and with some servers more text.
    pub(super) finished: bool,
    /// Set when the model was stopped by the limit of tokens.
    pub(super) truncated: bool,
}

impl Completion {
    /// Reads an object. What is none, and one without choices (a ping, the number of tokens), has no content.
    ///
    /// # Errors
    /// The error that the object reports instead.
    pub(super) fn read(value: &Value, is_error: bool) -> Result<Self, UpstreamError> {
        let Value::Object(object) = value else {
            return if is_error { Err(UpstreamError::Reported) } else { Ok(Self::default()) };
        };
        if let Some(error) = reported_error(object, is_error) {
            return Err(error);
        }
        let Some(choice) = choice(object.get("choices")) else { return Ok(Self::default()) };
        if let Some(error) = reported_error(choice, false) {
            return Err(error);
        }
        let reason = choice.get("finish_reason").and_then(Value::as_str).unwrap_or_default();
        if reason == "error" {
            return Err(UpstreamError::Reported);
        }
        let mut completion = Self {
            finished: !matches!(reason, "" | "null"),
            truncated: matches!(reason, "length" | "max_tokens"),
            ..Self::default()
        };
        match choice.get("delta") {
            Some(Value::Object(delta)) => completion.delta = said(|field| delta.get(field)),
            _ => match choice.get("message") {
                Some(Value::Object(message)) => completion.message = said(|field| message.get(field)),
                // The older form, of completions.
                _ => completion.message = text(choice.get("text")),
            },
        }
        Ok(completion)
    }
}

/// Returns the first choice: that with the index 0, where they have one.
fn choice(choices: Option<&Value>) -> Option<&Map<String, Value>> {
    let choices = || choices?.as_array().map(|choices| choices.iter().filter_map(Value::as_object));
    let is_first = |choice: &&Map<String, Value>| choice.get("index").is_none_or(|index| index.is_null() || *index == 0);
    choices()?.find(is_first)
}

/// Returns what the model says: its content, or why it refuses to answer.
fn said<'a>(field: impl Fn(&str) -> Option<&'a Value>) -> String {
    let content = text(field("content"));
    if content.is_empty() { text(field("refusal")) } else { content }
}

/// Returns the text of a content: a string, or the parts of type `text` of an array.
fn text(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().map(text_of_part).collect(),
        Some(part @ Value::Object(_)) => text_of_part(part).to_owned(),
        _ => String::new(),
    }
}

fn text_of_part(part: &Value) -> &str {
    match part {
        Value::String(text) => text,
        Value::Object(fields) => {
            let kind = fields.get("type").and_then(Value::as_str).unwrap_or("text");
            let text = fields.get("text").filter(|_| matches!(kind, "text" | "output_text"));
            text.and_then(Value::as_str).unwrap_or_default()
        }
        _ => "",
    }
}

/// Returns the error that an object reports: `{"error": …}`, and `{"object": "error", …}` of older versions of vLLM. The number of an
/// HTTP status in it is treated as if the server had answered so.
fn reported_error(object: &Map<String, Value>, is_error: bool) -> Option<UpstreamError> {
    let of_kind = |key: &str| object.get(key).is_some_and(|kind| kind == "error");
    let inner = match object.get("error") {
        None | Some(Value::Null | Value::Bool(false)) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::Object(fields)) if fields.is_empty() => None,
        Some(error) => Some(error),
    };
    if inner.is_none() && !is_error && !of_kind("object") && !of_kind("type") {
        return None;
    }
    let fields = inner.and_then(Value::as_object).unwrap_or(object);
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let numbers = ["code", "status", "status_code"].iter().filter_map(|key| fields.get(*key).and_then(number));
    let status = numbers.filter_map(|number| u16::try_from(number).ok()).find(|status| (400..600).contains(status));
    Some(status.map_or(UpstreamError::Reported, UpstreamError::Status))
}

/// Replaces the escapes of lone surrogates in JSON text by those of U+FFFD. Some servers cut a text between the halves of a
/// character, and no JSON parser for Unicode text reads a half.
pub(super) fn without_lone_surrogates(json: &str) -> String {
    let unit = |at: usize| {
        let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok().filter(|unit| (0xd800..0xe000).contains(unit))
    };
    let (mut out, mut at) = (String::with_capacity(json.len()), 0);
    while let Some(found) = json[at..].find('\\').map(|offset| at + offset) {
        out.push_str(&json[at..found]);
        let is_high = |unit: u16| unit < 0xdc00;
        let (length, replaced) = match unit(found) {
            Some(high) if is_high(high) && unit(found + 6).is_some_and(|low| !is_high(low)) => (12, false),
            Some(_) => (6, true),
            // An escape of one character, which may be a backslash.
            None => (1 + json[found + 1..].chars().next().map_or(0, char::len_utf8), false),
        };
        out.push_str(if replaced { "\\ufffd" } else { &json[found..found + length] });
        at = found + length;
    }
    out + &json[at..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: &Value) -> Completion {
        Completion::read(value, false).unwrap()
    }

    #[test]
    fn object_without_content_is_empty() {
        for value in [
            json!({}),
            json!(null),
            json!([]),
            json!("x"),
            json!({"type": "ping"}),
            json!({"choices": null}),
            json!({"choices": []}),
            json!({"choices": {}}),
            json!({"choices": [null]}),
            json!({"choices": [{}]}),
            json!({"choices": [{"delta": null}]}),
            json!({"choices": [{"delta": {}}]}),
            json!({"choices": [{"delta": []}]}),
            json!({"choices": [{"delta": {"content": null}, "finish_reason": null}]}),
            json!({"choices": [{"delta": {"content": 7}, "finish_reason": ""}]}),
            json!({"choices": [{"delta": {"content": "", "reasoning_content": "why"}, "finish_reason": "null"}]}),
            json!({"choices": [{"delta": {"reasoning": "why"}}]}),
            json!({"choices": [{"delta": {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "why"}]}]}}]}),
            json!({"choices": [{"index": 1, "delta": {"content": "of another choice"}}]}),
            json!({"choices": [{"message": null}]}),
            json!({"choices": [], "usage": {"total_tokens": 7}, "error": null}),
        ] {
            assert_eq!(read(&value), Completion::default(), "{value}");
        }
    }

    #[test]
    fn refusals_and_the_older_form_are_read() {
        let refused = json!({"choices": [{"delta": {"content": null, "refusal": "I can't"}}]});
        assert_eq!(read(&refused).delta, "I can't");
        let refused = json!({"choices": [{"message": {"content": null, "refusal": "I can't"}}]});
        assert_eq!(read(&refused).message, "I can't");
        let older = json!({"choices": [{"text": "a b", "finish_reason": "stop"}]});
        assert_eq!((read(&older).message.as_str(), read(&older).finished), ("a b", true));
    }

    #[test]
    fn text_is_read_from_each_form_of_content() {
        for content in [
            json!("a b"),
            json!(["a", " ", "b"]),
            json!([{"type": "text", "text": "a "}, {"type": "reasoning", "text": "x"}, {"text": "b"}, {"type": "image_url"}]),
            json!({"type": "text", "text": "a b"}),
        ] {
            assert_eq!(read(&json!({"choices": [{"delta": {"content": content}}]})).delta, "a b", "{content}");
            assert_eq!(read(&json!({"choices": [{"message": {"content": content}}]})).message, "a b", "{content}");
        }
        let both = json!({"choices": [{"index": 0, "delta": {"content": "b"}, "message": {"content": "ab"}}]});
        assert_eq!((read(&both).delta.as_str(), read(&both).message.as_str()), ("b", ""));
        let second = json!({"choices": [{"index": 1, "delta": {"content": "x"}}, {"index": 0, "delta": {"content": "a"}}]});
        assert_eq!(read(&second).delta, "a");
    }

    #[test]
    fn end_is_read_from_the_finish_reason() {
        let reason = |reason: &str| read(&json!({"choices": [{"delta": {}, "finish_reason": reason}]}));
        assert!(reason("stop").finished && !reason("stop").truncated);
        assert!(reason("length").finished && reason("length").truncated);
        assert!(!reason("").finished);
    }

    #[test]
    fn error_is_read_from_each_form() {
        for (value, error) in [
            (json!({"error": {"message": "m", "code": 429}}), UpstreamError::Status(429)),
            (json!({"error": {"message": "m", "code": "503"}}), UpstreamError::Status(503)),
            (json!({"error": {"message": "m", "code": "invalid_api_key"}}), UpstreamError::Reported),
            (json!({"error": "m"}), UpstreamError::Reported),
            (json!({"error": {"code": 7}, "choices": []}), UpstreamError::Reported),
            (json!({"object": "error", "message": "m", "code": 400}), UpstreamError::Status(400)),
            (json!({"type": "error", "error": {"type": "overloaded_error"}}), UpstreamError::Reported),
            (json!({"choices": [{"delta": {"content": ""}, "error": {"code": 502}}]}), UpstreamError::Status(502)),
            (json!({"choices": [{"delta": {"content": ""}, "finish_reason": "error"}]}), UpstreamError::Reported),
        ] {
            assert_eq!(Completion::read(&value, false), Err(error), "{value}");
        }
        for value in [json!({"error": null}), json!({"error": ""}), json!({"error": {}}), json!({"error": false})] {
            assert_eq!(read(&value), Completion::default(), "{value}");
        }
        assert_eq!(Completion::read(&json!({"message": "m"}), true), Err(UpstreamError::Reported), "named so by its event");
    }

    #[test]
    fn lone_surrogates_are_replaced() {
        for (json, text) in [
            (r#""\ud83d""#, "\u{fffd}"),
            (r#""\ude00 x""#, "\u{fffd} x"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}😀"),
            (r#""\ud83d\n\\ud83d""#, "\u{fffd}\n\\ud83d"),
            (r#""\ud83d\ude00\u0041长""#, "😀A长"),
        ] {
            assert_eq!(serde_json::from_str::<String>(&without_lone_surrogates(json)).unwrap(), text, "{json}");
        }
        for broken in [r#""\"#, r#""\u"#, r#""\ud8"#, r#""\长"#, ""] {
            assert_eq!(without_lone_surrogates(broken), broken);
        }
    }
}
