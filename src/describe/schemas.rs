//! Schemas of requests and responses, by the names of their types as the table of routes has them.

use std::any::type_name;
use std::collections::BTreeMap;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::constraints::CONSTRAINTS;
use super::errors;
use crate::api::types as api;
use crate::health::Health;
use crate::history::{OverviewResponse, SeriesResponse};
use crate::http::list::List;
use crate::http::reply::Raw;
use crate::http::request::RequestBody;
use crate::store::CatalogEntry;

/// The form of `data` in an answer.
#[derive(Debug, Clone)]
pub enum Data {
    /// There is none.
    Nothing,
    /// A value.
    One(Value),
    /// A page of a list; the value is an item.
    Page(Value),
    /// No JSON.
    Raw,
}

/// The body of a request.
#[derive(Debug, Clone)]
pub struct Body {
    /// Its schema.
    pub schema: Value,
    /// False where it may be empty.
    pub required: bool,
}

/// The schemas of all types, by their names.
pub struct Schemas {
    /// The bodies of requests.
    pub requests: BTreeMap<&'static str, Body>,
    /// The data of answers.
    pub responses: BTreeMap<&'static str, Data>,
    /// Those that others refer to.
    pub components: Map<String, Value>,
}

/// Collects the schemas of one direction.
struct Collector(SchemaGenerator);

impl Collector {
    fn new(settings: SchemaSettings) -> Self {
        Self(settings.with(|settings| settings.definitions_path = "/components/schemas".into()).into_generator())
    }

    fn of<T: JsonSchema>(&mut self) -> Value {
        self.0.subschema_for::<T>().to_value()
    }
}

/// Makes a table of bodies: `[TYPE, …]`.
macro_rules! bodies {
    ($collector:ident, [$($type:ty),* $(,)?]) => {
        [$((type_name::<$type>(), Body { schema: $collector.of::<$type>(), required: <$type>::read(b"").is_err() })),*]
    };
}

/// Makes a table of values: `[TYPE, …]`.
macro_rules! values {
    ($collector:ident, [$($type:ty),* $(,)?]) => {
        [$((type_name::<$type>(), Data::One($collector.of::<$type>()))),*]
    };
}

/// Makes a table of pages: `[ITEM, …]`.
macro_rules! pages {
    ($collector:ident, [$($type:ty),* $(,)?]) => {
        [$((type_name::<List<$type>>(), Data::Page($collector.of::<$type>()))),*]
    };
}

impl Schemas {
    /// Returns the schemas of the types that routes have.
    ///
    /// # Panics
    /// When two types have one name.
    pub fn collect() -> Self {
        let mut input = Collector::new(SchemaSettings::draft2020_12().for_deserialize());
        let requests = bodies!(
            input,
            [
                api::LoginRequest,
                api::LinkRequest,
                api::RegisterRequest,
                api::ElevateRequest,
                api::ChangePasswordRequest,
                api::CreateTokenRequest,
                api::CreateUserRequest,
                api::ChangeUserRequest,
                api::CreateDeviceRequest,
                api::ChangeDeviceRequest,
                api::SetPrimaryRequest,
                api::PairRequest,
                api::ClaimRequest,
                api::SendRequest,
                api::SendToUserRequest,
                api::SendMessageRequest,
                api::ObserveRequest,
                api::SetCatalogRequest,
            ]
        );
        let mut output = Collector::new(SchemaSettings::draft2020_12().for_serialize());
        let values = values!(output, [
            api::LoginResponse,
            api::MeResponse,
            api::TicketResponse,
            api::ElevateResponse,
            api::CreatedTokenResponse,
            api::UserResponse,
            api::DeviceResponse,
            api::PresenceResponse,
            api::PairResponse,
            api::SentResponse,
            api::ReceiptResponse,
            api::QueueResponse,
            api::ClearedResponse,
            api::ConnectionsResponse,
            api::PerformanceResponse,
            api::SettingsResponse,
            OverviewResponse,
            SeriesResponse,
            api::AliveResponse,
            api::GreetingResponse,
            Vec<CatalogEntry>,
            Health,
        ]);
        let pages = pages!(
            output,
            [
                api::TokenResponse,
                api::UserResponse,
                api::OnlineUserResponse,
                api::DeviceResponse,
                api::MessageResponse,
                api::ClientResponse,
                api::MailboxResponse,
                api::QueuedResponse,
                api::AuditResponse,
            ]
        );
        let other = [(type_name::<()>(), Data::Nothing), (type_name::<Raw>(), Data::Raw)];
        let mut components = Map::new();
        let inputs = input.0.take_definitions(true);
        let outputs = output.0.take_definitions(true).into_iter().map(|(name, mut schema)| {
            if !inputs.contains_key(&name) {
                without_null(&mut schema);
            }
            (name, schema)
        });
        for (name, schema) in outputs.collect::<Vec<_>>().into_iter().chain(inputs) {
            let schema = tidied(schema);
            let known = components.insert(name.clone(), schema.clone());
            assert!(known.is_none_or(|known| known == schema), "{name} means something else in requests");
        }
        components.insert("Error".into(), errors::schema());
        for (name, place, more) in CONSTRAINTS {
            constrain(&mut components, name, place, more);
        }
        Self {
            requests: requests.into_iter().collect(),
            responses: values.into_iter().chain(pages).chain(other).collect(),
            components,
        }
    }
}

/// Takes `null` from fields of an answer that are left out where they have no value.
fn without_null(schema: &mut Value) {
    let required = schema["required"].clone();
    let is_required = |name: &str| required.as_array().is_some_and(|all| all.iter().any(|one| one == name));
    for (name, field) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        if is_required(name) {
            continue;
        }
        if let Some(types) = field.get_mut("type")
            && let Some([Value::String(one), Value::String(null)]) = types.as_array().map(Vec::as_slice)
            && null == "null"
        {
            *types = one.clone().into();
        }
    }
}

/// Adds what a type does not tell to a place in a schema, a JSON pointer.
fn constrain(components: &mut Map<String, Value>, name: &str, place: &str, more: &str) {
    let schema = components.get_mut(name).unwrap_or_else(|| panic!("there is no schema {name}"));
    let more: Map<String, Value> = serde_json::from_str(more).unwrap();
    let text = format!("{schema:#}");
    match schema.pointer_mut(place) {
        Some(Value::Object(object)) => object.extend(more),
        _ => panic!("{name} has no {place}: {text}"),
    }
}

/// Returns a schema without what only Rust has: links of its documentation, the dialect, names of number types that JSON lacks.
pub fn tidied(mut schema: Value) -> Value {
    walk(&mut schema);
    schema
}

fn walk(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.remove("$schema");
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = plain_text(text);
            }
            let sized = |format: &str| format.starts_with("uint") && format != "uint64" || format == "double";
            if object.get("format").and_then(Value::as_str).is_some_and(sized) {
                object.remove("format");
            }
            object.values_mut().for_each(walk);
        }
        Value::Array(items) => items.iter_mut().for_each(walk),
        _ => {}
    }
}

/// Returns a doc comment without intra-doc links.
fn plain_text(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("[`") {
        let Some((name, behind)) = after.split_once("`]") else { break };
        out.push_str(before);
        out.push('`');
        out.push_str(name);
        out.push('`');
        rest = match behind.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((_, behind)) => behind,
            None => behind,
        };
    }
    out + rest
}

/// Returns the schema of an answer in the usual envelope.
pub fn envelope(data: &Data, token: bool) -> Value {
    let mut properties = json!({
        "status": { "const": "success" },
        "message": { "type": "string", "description": "For people." },
    });
    let mut required = vec!["status", "message"];
    match data {
        Data::Nothing | Data::Raw => {}
        Data::One(schema) => properties["data"] = schema.clone(),
        Data::Page(item) => {
            properties["data"] = json!({ "type": "array", "items": item });
            properties["next"] = json!({
                "type": ["integer", "string"],
                "description": "The `after` of the next page; absent on the last one."
            });
        }
    }
    if matches!(data, Data::One(_) | Data::Page(_)) {
        required.push("data");
    }
    if token {
        properties["token"] =
            json!({ "type": "string", "description": "The same as in `data`, for clients of the original system." });
    }
    json!({ "type": "object", "required": required, "properties": properties })
}

/// Returns the schema of a type in the dialect of AsyncAPI, without references.
pub fn inline<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().for_serialize().with(|settings| settings.inline_subschemas = true);
    let schema: Schema = settings.into_generator().into_root_schema_for::<T>();
    tidied(schema.to_value())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ROUTES;

    #[test]
    fn every_type_of_the_table_has_a_schema_and_no_other_one() {
        let schemas = Schemas::collect();
        let requests: Vec<_> = ROUTES.iter().filter_map(|route| route.request.map(|name| name())).collect();
        let responses: Vec<_> = ROUTES.iter().map(|route| (route.response)()).collect();
        assert_eq!(requests.iter().find(|name| !schemas.requests.contains_key(**name)), None);
        assert_eq!(responses.iter().find(|name| !schemas.responses.contains_key(**name)), None);
        assert_eq!(schemas.requests.keys().find(|name| !requests.contains(name)), None);
        assert_eq!(schemas.responses.keys().find(|name| !responses.contains(name)), None);
    }

    #[test]
    fn texts_have_no_links_of_rust() {
        assert_eq!(plain_text("At most [`MAX`], see [`Store`](crate::store::Store)."), "At most `MAX`, see `Store`.");
        assert_eq!(plain_text("`code` [as it is]"), "`code` [as it is]");
    }
}
