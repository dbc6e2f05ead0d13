//! Stand-ins for what a type alone does not tell: JSON that is carried as it was written, and texts with a form of their own.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::core::time::Timestamp;
use crate::http::request::BodyUserId;
use crate::wire::outbound::RESERVED_TYPES;

/// Implements [`JsonSchema`] for a type, whose schema stands where it is used.
macro_rules! inline_schema {
    ($($type:ty: $schema:tt;)*) => {
        $(impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        })*
    };
}

/// Any JSON value that ordinary parsers read.
pub struct AnyJson;

/// The `message` of `POST /api/messages`, where the values that Python takes for false count as missing.
pub struct SentValue;

/// The type of a message that a client sends.
pub struct SentType;

/// A number of degrees.
pub struct Degrees;

/// The outcome of a health check.
pub struct CheckResult;

/// An id as a text, as the guide has it in one place.
pub struct IdText;

/// A message as it was pushed.
pub struct PushedMessage;

inline_schema! {
    AnyJson: {};
    SentValue: { "not": { "enum": [null, "", 0, false, {}, []] } };
    SentType: { "type": "string", "minLength": 1, "maxLength": 64, "not": { "enum": RESERVED_TYPES } };
    Degrees: {
        "anyOf": [
            { "type": "number", "minimum": -100, "maximum": 100 },
            { "type": "string", "pattern": "^-?[0-9]{1,2}(\\.[0-9]{1,6})?$" }
        ]
    };
    CheckResult: { "type": "string", "enum": ["ok", "failed"] };
    IdText: { "type": "string", "pattern": "^[0-9]+$" };
    Timestamp: { "type": "string", "format": "date-time" };
    BodyUserId: {
        "anyOf": [
            { "type": "integer", "minimum": 1, "maximum": u64::MAX },
            { "type": "string", "pattern": "^0*[1-9][0-9]{0,18}$" }
        ]
    };
    PushedMessage: {
        "type": "object",
        "required": ["type", "message", "timestamp", "id"],
        "properties": {
            "type": { "type": "string", "minLength": 1, "maxLength": 64 },
            "message": { "description": "As its sender wrote it." },
            "sender": { "type": "string", "description": "The sender's user name; absent after POST /api/messages." },
            "via": { "type": "string", "description": "The label of the service token that it was sent with; absent without one." },
            "timestamp": { "type": "string", "format": "date-time" },
            "id": { "type": "integer", "minimum": 1 }
        }
    };
}
