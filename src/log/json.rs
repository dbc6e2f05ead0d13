//! Lines of JSON: an object with `timestamp`, `level`, `message`, `target`, and the fields of the spans and of the event beside them.

use jiff::Timestamp;
use serde::Serializer as _;
use serde::ser::SerializeMap;

use super::escape::escape_json;
use super::record::{Record, Sink};

/// Names that no field may take.
const RESERVED: [&str; 4] = ["timestamp", "level", "message", "target"];

/// Writes records as objects, a line each, each with one call of `write`.
pub(super) struct JsonLines<F> {
    /// Receives a whole line, its end included.
    pub(super) write: F,
}

impl<F: Fn(&str) + Send + Sync + 'static> Sink for JsonLines<F> {
    fn write(&self, record: &Record) {
        let Some(object) = object(record) else { return };
        let mut line = escape_json(object);
        line.push('\n');
        (self.write)(&line);
    }
}

/// Returns the object of a record; `None` never occurs, since a number, a string or a truth value is always JSON.
fn object(record: &Record) -> Option<String> {
    let mut bytes = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::new(&mut bytes);
    let mut object = serializer.serialize_map(None).ok()?;
    object.serialize_entry("timestamp", &format_args!("{:.6}", Timestamp::now())).ok()?;
    object.serialize_entry("level", record.metadata.level().as_str()).ok()?;
    if let Some(message) = &record.message {
        object.serialize_entry("message", message).ok()?;
    }
    for (name, value) in record.fields.iter().filter(|(name, _)| !RESERVED.contains(name)) {
        object.serialize_entry(name, value).ok()?;
    }
    object.serialize_entry("target", record.metadata.target()).ok()?;
    object.end().ok()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::text::is_invisible;
    use crate::log::tests::{BAD, Kept, logged};
    use serde_json::{Value, json};

    fn lines(events: impl FnOnce()) -> String {
        let kept = Kept::default();
        let write = kept.clone();
        logged(JsonLines { write: move |line: &str| write.push(line) }, events);
        kept.take()
    }

    #[test]
    fn text_with_control_characters_makes_no_object_and_no_field() {
        let text = lines(|| {
            let bad = &format!("{BAD}\u{9b}d\u{7f}\u{e0041}é");
            let _span = tracing::info_span!("request", path = %bad).entered();
            tracing::warn!(target: "audit", plain = bad.as_str(), shown = %bad, debug = ?bad, number = 5, "received {bad}");
        });
        assert!(text.ends_with('\n') && text.lines().count() == 1, "{text}");
        assert!(!text.trim_end().chars().any(|c| c.is_control() || is_invisible(c)), "{text:?}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["target"], &line["number"]), (&"WARN".into(), &"audit".into(), &5.into()));
        assert!(line["message"].as_str().unwrap().ends_with("\u{2028}c\u{9b}d\u{7f}\u{e0041}é"), "{line}");
        assert!(line["timestamp"].is_string() && line["plain"].as_str().unwrap().starts_with("a\r\n{\"forged\""));
        assert!(line["path"] == line["shown"] && line.get("forged").is_none());
    }

    #[test]
    fn span_fields_stand_beside_those_of_the_event_which_win() {
        let text = lines(|| {
            let outer = tracing::info_span!("conn", conn = 7, user = tracing::field::Empty, level = "x", message = "x").entered();
            outer.record("user", 3);
            let _inner = tracing::info_span!("request", conn = -8, ratio = 0.5, kind = "inner").entered();
            tracing::info!(kind = "event", on = true, "done");
            tracing::info!(device = 4);
        });
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &mut lines {
            assert!(line.as_object_mut().unwrap().remove("timestamp").is_some_and(|time| time.as_str().unwrap().ends_with('Z')));
            assert_eq!(line.as_object_mut().unwrap().remove("target"), Some("qy_lty::log::json::tests".into()));
        }
        let done = json!({"level": "INFO", "message": "done", "conn": -8, "user": 3, "ratio": 0.5, "kind": "event", "on": true});
        assert_eq!(lines[0], done);
        assert_eq!(lines[1], json!({"level": "INFO", "conn": -8, "user": 3, "ratio": 0.5, "kind": "inner", "device": 4}));
        assert_eq!(text.lines().next().unwrap().matches("\"kind\"").count(), 1, "each name once");
    }
}
