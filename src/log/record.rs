//! One record of the log: an event's message and fields, those of the connection that it is about, and those of the spans around it.

use std::fmt;

use serde::{Serialize, Serializer};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::core::subject::Subject;

/// The value of a field. Displays as in a line of text: strings in quotes, everything else as it is.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// A string.
    Text(String),
    /// The output of `Debug`, or of `Display` where the field is written `%field`.
    Formatted(String),
    /// A number without a sign.
    Unsigned(u64),
    /// A number with a sign.
    Signed(i64),
    /// A floating-point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Formatted(text) => f.write_str(text),
            Self::Unsigned(number) => write!(f, "{number}"),
            Self::Signed(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Bool(value) => write!(f, "{value}"),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) | Self::Formatted(text) => serializer.serialize_str(text),
            Self::Unsigned(number) => serializer.serialize_u64(*number),
            Self::Signed(number) => serializer.serialize_i64(*number),
            Self::Float(number) => serializer.serialize_f64(*number),
            Self::Bool(value) => serializer.serialize_bool(*value),
        }
    }
}

/// Fields in the order in which they were recorded, each name once.
#[derive(Debug, Default, Clone)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// Appends a field; one of the same name is removed.
    fn set(&mut self, name: &'static str, value: Value) {
        self.0.retain(|(other, _)| *other != name);
        self.0.push((name, value));
    }

    /// Appends the names of a connection.
    fn set_subject(&mut self, Subject { connection, user, device, address }: Subject) {
        self.set("conn", Value::Unsigned(connection.0));
        self.set("user", Value::Unsigned(user.0));
        if let Some(device) = device {
            self.set("device", Value::Unsigned(device.0));
        }
        self.set("address", Value::Formatted(address.to_string()));
    }

    /// Returns the fields, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }
}

/// The name of a field as it is written: `r#type` is `type`.
fn name_of(field: &Field) -> &'static str {
    field.name().trim_start_matches("r#")
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(name_of(field), Value::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(name_of(field), Value::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(name_of(field), Value::Unsigned(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(name_of(field), Value::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(name_of(field), Value::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(name_of(field), Value::Formatted(format!("{value:?}")));
    }
}

/// An event, ready to be written.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// The level and the target, among others.
    pub(super) metadata: &'static Metadata<'static>,
    /// The message; `None` for an event of fields alone.
    pub(super) message: Option<String>,
    /// Those of the connection, those of the spans, the outermost first, then those of the event. Where a name occurs several times, the event's field
    /// is kept, else the innermost span's.
    pub(super) fields: Fields,
}

/// The name of the field that holds an event's message.
const MESSAGE: &str = "message";

impl Record {
    /// Moves the message out of the fields, where `tracing` records it.
    fn new(metadata: &'static Metadata<'static>, mut fields: Fields) -> Self {
        let at = fields.0.iter().position(|(name, _)| *name == MESSAGE);
        let message = at.map(|at| match fields.0.remove(at).1 {
            Value::Text(text) | Value::Formatted(text) => text,
            other => other.to_string(),
        });
        Self { metadata, message, fields }
    }

    /// Adds a field; one of the same name is replaced.
    pub(super) fn set(&mut self, name: &'static str, number: u64) {
        self.fields.set(name, Value::Unsigned(number));
    }
}

/// The destination of records.
pub(super) trait Sink: Send + Sync + 'static {
    /// Writes one record. Errors are not reported: there is no other place to report them to.
    fn write(&self, record: &Record);
}

/// Collects a record for each event and hands it to a sink. A span's values are stored once, when the span is created or a value is
/// recorded; text is made of them only when an event is logged.
pub(super) struct Records<T>(pub(super) T);

/// The fields of one span, among the span's extensions.
struct SpanFields(Fields);

impl<S, T> Layer<S> for Records<T>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    T: Sink,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields(Vec::with_capacity(attributes.values().len()));
        attributes.record(&mut fields);
        span.extensions_mut().replace(SpanFields(fields));
    }

    fn on_record(&self, id: &Id, values: &SpanRecord<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(SpanFields(fields)) = span.extensions_mut().get_mut() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        if let Some(subject) = Subject::current() {
            fields.set_subject(subject);
        }
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(SpanFields(of_span)) = span.extensions().get() {
                of_span.iter().filter(|(name, _)| *name != MESSAGE).for_each(|(name, value)| fields.set(name, value.clone()));
            }
        }
        event.record(&mut fields);
        self.0.write(&Record::new(event.metadata(), fields));
    }
}
