//! The message of `send`: text or JSON, from an argument or standard input.

use std::io::Read;

use anyhow::{anyhow, bail};
use serde_json::value::{RawValue, to_raw_value};

use crate::wire::check_readable;

/// The argument that stands for standard input.
const STDIN: &str = "-";
/// The longest message that is read from standard input, in bytes; the server's own limit is lower.
const MAX_INPUT_BYTES: u64 = 16 << 20;

/// Returns the message that `argument` is, or that standard input has where it is `-`. `json`: any JSON, and nothing else.
///
/// # Errors
/// See [`parse`]; an input that can't be read, is too long or is no UTF-8.
pub(super) fn read(argument: &str, json: bool) -> anyhow::Result<Box<RawValue>> {
    if argument != STDIN {
        return parse(argument, json);
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MAX_INPUT_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| anyhow!("failed to read the message from standard input: {error}"))?;
    if bytes.len() as u64 > MAX_INPUT_BYTES {
        bail!("the message on standard input is longer than {} MiB", MAX_INPUT_BYTES >> 20);
    }
    let text = String::from_utf8(bytes).map_err(|_| anyhow!("the message on standard input is not UTF-8"))?;
    parse(without_line_end(&text), json)
}

/// Returns `text` without the line end that `echo` and editors add.
fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// Returns the message: `text` itself where it is a JSON object, list or string, or `json` and any JSON; else a JSON string with it.
///
/// Numbers, `true`, `false` and `null` are texts, or a text would change its kind with its contents. What begins like an object is one:
/// sent as a text, it would be a mistake that nobody notices.
///
/// # Errors
/// An empty text, a broken object, JSON that not every recipient could read, and with `json` anything else than JSON.
fn parse(text: &str, json: bool) -> anyhow::Result<Box<RawValue>> {
    let trimmed = text.trim_start();
    if trimmed.is_empty() {
        bail!("the message is empty");
    }
    if json || trimmed.starts_with(['{', '[', '"']) {
        // Sent unchanged: numbers keep their digits, keys their order.
        match serde_json::from_str::<Box<RawValue>>(text) {
            Ok(message) => {
                let unreadable = |why| anyhow!("the message can't be read by every recipient: {why}");
                return check_readable(message.get()).map_err(unreadable).map(|()| message);
            }
            Err(error) if json || trimmed.starts_with('{') => {
                let hint =
                    if json { "without --json, it is a text" } else { "a text that begins so needs quotes, '\"{like this}\"'" };
                bail!("the message is not JSON: {error} ({hint})");
            }
            Err(_) => {}
        }
    }
    Ok(to_raw_value(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sent(text: &str, json: bool) -> Result<String, String> {
        parse(text, json).map(|message| message.get().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn text_is_sent_as_string_and_json_as_it_is() {
        for (text, message) in [
            ("hello", r#""hello""#),
            ("你好 😀", r#""你好 😀""#),
            (" a\nb\t\"c\" \\ ", r#"" a\nb\t\"c\" \\ ""#),
            ("42", r#""42""#),
            ("-1e400", r#""-1e400""#),
            ("true", r#""true""#),
            ("null", r#""null""#),
            ("[urgent] call back", r#""[urgent] call back""#),
            (r#""so he said" and left"#, r#""\"so he said\" and left""#),
            (r#"{"b":1.0,"a":1e2}"#, r#"{"b":1.0,"a":1e2}"#),
            (" {\"a\" : 1} ", "{\"a\" : 1}"),
            ("[1, 2]", "[1, 2]"),
            (r#""quoted""#, r#""quoted""#),
        ] {
            assert_eq!(sent(text, false).as_deref(), Ok(message), "{text}");
        }
        for text in ["42", "1.50", "true", "null", r#"{"a":1}"#, "[]", r#""""#] {
            assert_eq!(sent(text, true).as_deref(), Ok(text), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_remedy() {
        for (text, json, why) in [
            ("{oops", false, "the message is not JSON"),
            ("{oops}", false, r#"needs quotes, '"{like this}"'"#),
            (r#"{"a":1} {"b":2}"#, false, "the message is not JSON"),
            ("hello", true, "without --json, it is a text"),
            ("[urgent]", true, "the message is not JSON"),
            ("", false, "the message is empty"),
            (" \n", true, "the message is empty"),
            (r#""\ud83d""#, false, "can't be read by every recipient"),
            (r#"{"a":1e400}"#, false, "can't be read by every recipient"),
            ("1e400", true, "can't be read by every recipient"),
        ] {
            let error = sent(text, json).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn one_line_end_is_not_part_of_the_message() {
        for (input, text) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a"), ("\n", "")] {
            assert_eq!(without_line_end(input), text, "{input:?}");
        }
    }

    proptest! {
        #[test]
        fn message_is_json_whose_text_is_the_one_given(text in "\\PC{1,40}") {
            let may_be_json = text.trim_start().starts_with(['{', '[', '"']);
            match sent(&text, false) {
                Ok(message) => {
                    let value: serde_json::Value = serde_json::from_str(&message).unwrap();
                    prop_assert!(may_be_json || value == text);
                }
                Err(error) => prop_assert!(may_be_json || error == "the message is empty", "{}", error),
            }
        }
    }
}
