//! Complete JSON objects as text: the payloads of messages.

use std::io::Write as _;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use serde_json::value::RawValue;

use crate::core::ids::MessageId;

/// The capacity of a new object's buffer, in bytes: most messages fit, their id included.
const USUAL_BYTES: usize = 256;

/// A value that is no payload.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// It cannot be serialised.
    #[error(transparent)]
    Serialize(#[from] serde_json::Error),
    /// It is another kind of JSON value.
    #[error("the value is not a JSON object")]
    NotAnObject,
}

/// One JSON object as text, without white space around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonObject(Vec<u8>);

impl JsonObject {
    /// Serialises `value`.
    ///
    /// # Errors
    /// If `value`'s own `Serialize` fails, or it serialises to anything but an object.
    pub fn new(value: &impl Serialize) -> Result<Self, ObjectError> {
        Self::written(|text| serde_json::to_writer(text, value))
    }

    /// Takes what `write` appends, which is one JSON value.
    ///
    /// # Errors
    /// If `write` fails, or the value is anything but an object.
    pub fn written(write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>) -> Result<Self, ObjectError> {
        let mut text = Vec::with_capacity(USUAL_BYTES);
        write(&mut text)?;
        if text.starts_with(b"{") { Ok(Self(text)) } else { Err(ObjectError::NotAnObject) }
    }

    /// The length of the text, in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the text.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Returns the text with `"id":id` as the object's last field: the payload of a queued message.
    pub fn with_id(self, id: MessageId) -> Vec<u8> {
        let mut text = self.0;
        text.pop(); // the closing brace
        let separator = if text.len() == 1 { "" } else { "," };
        let _ = write!(text, "{separator}\"id\":{}}}", id.0); // writing to a vector does not fail
        text
    }
}

/// The object itself, its text as it is.
impl Serialize for JsonObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(&self.0).map_err(ser::Error::custom)?;
        <&RawValue>::deserialize(&mut serde_json::Deserializer::from_str(text)).map_err(ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for JsonObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&<Box<RawValue>>::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn id_becomes_the_last_field_of_any_object() {
        for (value, expected) in [
            (json!({}), r#"{"id":18446744073709551615}"#),
            (json!({"a": {}}), r#"{"a":{},"id":18446744073709551615}"#),
            (json!({"a": "}"}), r#"{"a":"}","id":18446744073709551615}"#),
        ] {
            let text = JsonObject::new(&value).unwrap().with_id(MessageId(u64::MAX));
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }

    #[test]
    fn other_values_are_refused() {
        for value in [json!([]), json!("{}"), json!(1), json!(null)] {
            assert!(matches!(JsonObject::new(&value), Err(ObjectError::NotAnObject)), "{value}");
        }
    }
}
