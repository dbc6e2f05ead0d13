//! `docs/api/openapi.json`: the REST API in the terms of OpenAPI 3.1.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::errors::{self, Code};
use super::row::{Example, Parameter, Row};
use super::rows;
use super::schemas::{Data, Schemas, envelope};
use crate::api::ROUTES;
use crate::auth::Actor;
use crate::http::{Access, Route, Verb};
use crate::store::Scopes;

/// The answers to the examples, which `tests/it/rest/described.rs` records.
const RECORDED: &str = include_str!("recorded.json");

/// The description of the whole, in Markdown.
const TEXT: &str = "Realtime messages for companion devices, apps and web pages. docs/protocol.md describes the protocol, and \
    `/api/asyncapi.json` the WebSocket.\n\nA trailing slash is optional on every path; HEAD is answered as GET without the body; another \
    method is answered with 405 and `Allow`. Success is `{status, message, data}`, failure `{status, message, code}`. Every operation names \
    its callers in `x-roles`; one with `x-scopes` takes service tokens with one of those scopes only, and one with `x-elevated` takes a \
    browser's cookie only after a log-in, or `POST /api/auth/elevate`, of the last ten minutes.";

/// The tags, with a line about each.
const TAGS: [(&str, &str); 9] = [
    ("auth", "Log-ins, tokens, tickets"),
    ("users", "Accounts"),
    ("devices", "Devices and pairing"),
    ("messages", "Sends, receipts, history"),
    ("clients", "The installations of a user"),
    ("queue", "Queued messages"),
    ("companion", "Weather and catalogs"),
    ("monitor", "Connections, durations, metrics"),
    ("server", "The server itself"),
];

/// A route with its description.
struct Operation<'a> {
    row: &'a Row,
    access: Access,
    route: Option<&'a Route>,
}

impl Operation<'_> {
    /// The roles that may call it.
    fn roles(&self) -> Vec<&'static str> {
        let roles = [
            (Actor::Anonymous, "anonymous"),
            (Actor::Device, "device"),
            (Actor::Service, "service"),
            (Actor::User, "user"),
            (Actor::Admin, "admin"),
        ];
        roles.into_iter().filter(|(actor, _)| self.access.allows(*actor)).map(|(_, name)| name).collect()
    }

    /// Reports whether a browser's session must be elevated.
    fn is_elevated(&self) -> bool {
        self.route.is_some_and(|route| route.elevated)
    }

    /// The scopes any one of which a service token must have; `None` where every service token will do, or none.
    fn scopes(&self) -> Option<Scopes> {
        self.route.and_then(|route| route.scopes).filter(|scopes| *scopes != Scopes::ALL)
    }

    /// The codes of all its errors.
    fn codes(&self) -> BTreeSet<&'static str> {
        let mut codes: BTreeSet<&'static str> = self.row.errors.iter().copied().collect();
        codes.extend(["invalid", "foreign_origin", "unknown_host", "expectation_failed", "unsupported_transfer_encoding"]);
        codes.extend(["busy", "internal"]);
        if !self.access.allows(Actor::Anonymous) {
            codes.extend(["unauthorized", "too_many_requests"]);
            if self.roles().len() < 4 {
                codes.insert("forbidden");
            }
            if self.row.verb != Verb::Get {
                codes.insert("csrf");
            }
        }
        if self.is_elevated() {
            codes.insert("elevation_required");
        }
        if self.scopes().is_some() {
            codes.insert("scope_missing");
        }
        if matches!(self.row.verb, Verb::Post | Verb::Put | Verb::Patch) {
            codes.extend(["too_large", "too_slow", "unsupported_media_type", "unsupported_encoding"]);
        }
        if self.route.is_some_and(|route| route.request.is_some()) {
            codes.insert("invalid_json");
        }
        if self.row.path.contains("{id}") {
            codes.insert("not_found");
        }
        codes
    }
}

/// Returns the document.
pub fn document() -> Value {
    let mut schemas = Schemas::collect();
    let recorded: Value = serde_json::from_str(RECORDED).unwrap();
    let codes = errors::codes();
    let (mut paths, mut responses) = (Map::new(), Map::new());
    for row in rows::all() {
        let route = ROUTES.iter().find(|route| (route.verb, route.path) == (row.verb, row.path));
        let access = row.access.or(route.map(|route| route.access)).unwrap_or(Access::NOBODY);
        let operation = Operation { row, access, route };
        let key = format!("{} {}", row.verb.name(), row.path);
        let described = describe(&operation, &schemas, &recorded[key.as_str()], &codes, &mut responses);
        let path = paths.entry(row.path).or_insert_with(|| json!({}));
        path[row.verb.name().to_ascii_lowercase()] = described;
    }
    let examples: Map<String, Value> = codes.iter().map(|code| (code.code.to_owned(), json!({ "value": code.body }))).collect();
    schemas.components.retain(|_, schema| !schema.is_null());
    let tags: Vec<Value> = TAGS.iter().map(|(name, text)| json!({ "name": name, "description": text })).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "qy-lty",
            "version": env!("CARGO_PKG_VERSION"),
            "description": TEXT,
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": responses,
            "examples": examples,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "A token; `Authorization: Token …` means the same." },
                "cookie": {
                    "type": "apiKey", "in": "cookie", "name": "qy_lty_session",
                    "description": "The cookie of a browser's log-in; over HTTPS its name is `__Host-qy_lty_session`.",
                },
                "csrf": {
                    "type": "apiKey", "in": "header", "name": "X-CSRF-Token",
                    "description": "The second secret of a browser's log-in, which everything but GET needs beside the cookie.",
                },
            },
        },
    })
}

/// Returns one operation; adds the answers that it shares with others.
fn describe(
    operation: &Operation<'_>,
    schemas: &Schemas,
    recorded: &Value,
    codes: &[Code],
    shared: &mut Map<String, Value>,
) -> Value {
    let Operation { row, route, .. } = operation;
    let mut responses = Map::new();
    for status in row.examples.iter().map(|example| example.status).collect::<BTreeSet<_>>() {
        responses.insert(status.to_string(), success(operation, schemas, recorded, status));
    }
    let mut by_status: BTreeMap<u16, Vec<&Code>> = BTreeMap::new();
    for code in operation.codes() {
        let found = codes.iter().find(|known| known.code == code).unwrap_or_else(|| panic!("{}: no code {code}", row.path));
        by_status.entry(found.status).or_default().push(found);
    }
    for (status, codes) in by_status {
        let names: Vec<&str> = codes.iter().map(|code| code.code).collect();
        let name = format!("{status}.{}", names.join("."));
        shared.entry(name.clone()).or_insert_with(|| failure(status, &codes));
        responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{name}") }));
    }
    let mut out = json!({
        "operationId": operation_id(row),
        "tags": [row.tag()],
        "summary": row.summary,
        "x-roles": operation.roles(),
        "security": security(operation),
        "responses": responses,
    });
    if operation.is_elevated() {
        out["x-elevated"] = true.into();
    }
    if let Some(scopes) = operation.scopes() {
        out["x-scopes"] = json!(scopes);
    }
    if !row.text.is_empty() {
        out["description"] = row.text.into();
    }
    let parameters = parameters(row);
    if !parameters.is_empty() {
        out["parameters"] = parameters.into();
    }
    if let Some(request) = route.and_then(|route| route.request) {
        let body = &schemas.requests[request()];
        let examples: Map<String, Value> = row
            .examples
            .iter()
            .filter(|example| !example.body.is_empty())
            .map(|example| (example.name.to_owned(), json!({ "value": parsed(example.body) })))
            .collect();
        let mut schema = body.schema.clone();
        if let (false, Some(schema)) = (row.narrowed.is_empty(), schema.as_object_mut()) {
            schema.extend(serde_json::from_str::<Map<String, Value>>(row.narrowed).unwrap());
        }
        let content = json!({ "application/json": { "schema": schema, "examples": examples } });
        out["requestBody"] = json!({ "required": body.required, "content": content });
    }
    out
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Returns a name for programs that are made from the document: `patch_users_id`.
fn operation_id(row: &Row) -> String {
    let path = row.path.trim_start_matches("/api").replace(['{', '}'], "").replace(['/', '.'], "_");
    let path = if path == "_" { "_root".to_owned() } else { path };
    format!("{}{path}", row.verb.name().to_ascii_lowercase())
}

fn security(operation: &Operation<'_>) -> Value {
    let roles = operation.roles();
    if roles.contains(&"anonymous") {
        return json!([]);
    }
    let people: Vec<&str> = roles.iter().copied().filter(|role| ["user", "admin"].contains(role)).collect();
    match operation.row.verb {
        Verb::Get => json!([{ "token": roles }, { "cookie": people }]),
        _ => json!([{ "token": roles }, { "cookie": people, "csrf": [] }]),
    }
}

/// Returns the answer with a status below 400.
fn success(operation: &Operation<'_>, schemas: &Schemas, recorded: &Value, status: u16) -> Value {
    let row = operation.row;
    let data = operation.route.map_or(Data::Raw, |route| schemas.responses[(route.response)()].clone());
    let is_raw = matches!(data, Data::Raw);
    let schema = match row.media_type {
        Some("application/json") => json!({ "type": "object" }),
        Some("application/gzip") => json!({ "type": "string", "format": "binary" }),
        Some(_) => json!({ "type": "string" }),
        None => envelope(&data, row.token),
    };
    let example = |example: &Example| {
        let mut out = json!({ "x-caller": example.by.name() });
        if !is_raw {
            let answer = &recorded[example.name];
            // The first document that has an example is what its answer is recorded by.
            assert!(super::writes() || !answer.is_null(), "{} {}: no answer to {} yet", row.verb.name(), row.path, example.name);
            if !answer.is_null() {
                out["value"] = answer.clone();
            }
        } else {
            out["summary"] = row.summary.into();
        }
        (example.name.to_owned(), out)
    };
    let examples: Map<String, Value> = row.examples.iter().filter(|one| one.status == status).map(example).collect();
    let media_type = row.media_type.unwrap_or("application/json");
    let text = if status == 201 { "Created" } else { "Done" };
    let mut out = json!({ "description": text, "content": { media_type: { "schema": schema, "examples": examples } } });
    let header = |text: &str, schema: Value| json!({ "required": true, "description": text, "schema": schema });
    if status == 201 {
        let schema = json!({ "type": "string", "format": "uri-reference" });
        out["headers"] = json!({ "Location": header("The path of what was created.", schema) });
    }
    if row.media_type == Some("application/gzip") {
        out["headers"] = json!({ "Content-Disposition": header("A name for the file.", json!({ "type": "string" })) });
    }
    out
}

/// Returns the answer with these errors.
fn failure(status: u16, codes: &[&Code]) -> Value {
    let names: Vec<&str> = codes.iter().map(|code| code.code).collect();
    let reference = |name: &&str| ((*name).to_owned(), json!({ "$ref": format!("#/components/examples/{name}") }));
    let examples: Map<String, Value> = names.iter().map(reference).collect();
    let schema = json!({
        "allOf": [{ "$ref": "#/components/schemas/Error" }],
        "properties": { "code": { "enum": names } },
    });
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let mut out = json!({
        "description": quoted.join(", "),
        "content": { "application/json": { "schema": schema, "examples": examples } },
    });
    let seconds = |text: &str| json!({ "required": true, "description": text, "schema": { "type": "integer", "minimum": 1 } });
    match status {
        401 => {
            let schema = json!({ "const": "Token" });
            out["headers"] = json!({ "WWW-Authenticate": { "required": true, "schema": schema } });
        }
        429 => out["headers"] = json!({ "Retry-After": seconds("Seconds after which to try again.") }),
        _ => {}
    }
    out
}

/// Returns the parameters of a route.
fn parameters(row: &Row) -> Vec<Value> {
    let mut out = Vec::new();
    if let Some((name, schema)) = path_parameter(row.path) {
        let place = row.path.split('/').position(|part| part.starts_with('{')).unwrap_or_default();
        let value = |example: &Example| {
            let part = example.path.split('?').next()?.split('/').nth(place)?;
            Some(part.parse::<u64>().map_or_else(|_| part.into(), Value::from))
        };
        out.push(parameter(row, name, "path", "", &schema, value));
    }
    for Parameter { name, place, text, schema } in row.parameters {
        let value = |example: &Example| match *place {
            "header" => example.headers.iter().find(|(given, _)| given == name).map(|(_, value)| (*value).into()),
            _ => {
                let pairs = form_urlencoded::parse(example.path.split_once('?')?.1.as_bytes()).into_owned();
                let value = pairs.into_iter().find(|(given, _)| given == name)?.1;
                Some(value.parse::<u64>().map_or_else(|_| value.into(), Value::from))
            }
        };
        out.push(parameter(row, name, place, text, &parsed(schema), value));
    }
    out
}

/// The parameter of a path with its schema.
fn path_parameter(path: &str) -> Option<(&'static str, Value)> {
    if path.contains("{id}") {
        Some(("id", json!({ "type": "integer", "format": "uint64", "minimum": 0 })))
    } else if path.contains("/clients/{name}") {
        Some(("name", json!({ "type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9._:-]+$" })))
    } else if path.contains("{name}") {
        Some(("name", json!({ "type": "string", "minLength": 1, "maxLength": 100, "format": "qy-text" })))
    } else {
        None
    }
}

fn parameter(row: &Row, name: &str, place: &str, text: &str, schema: &Value, value: impl Fn(&Example) -> Option<Value>) -> Value {
    let given = |example: &Example| Some((example.name.to_owned(), json!({ "value": value(example)? })));
    let examples: Map<String, Value> = row.examples.iter().filter_map(given).collect();
    let mut out = json!({ "name": name, "in": place, "schema": schema });
    if place == "path" {
        out["required"] = true.into();
    }
    if !text.is_empty() {
        out["description"] = text.into();
    }
    if !examples.is_empty() {
        out["examples"] = examples.into();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document_has_every_route_with_its_roles_errors_and_examples() {
        let document = document();
        for route in ROUTES {
            let verb = route.verb.name().to_ascii_lowercase();
            let operation = &document["paths"][route.path][&verb];
            let what = format!("{verb} {}: {operation:#}", route.path);
            assert!(operation["summary"].is_string(), "{what}");
            let roles = operation["x-roles"].as_array().unwrap();
            for (actor, role) in
                [(Actor::Device, "device"), (Actor::Service, "service"), (Actor::User, "user"), (Actor::Admin, "admin")]
            {
                assert_eq!(roles.contains(&role.into()), route.access.allows(actor), "{what}");
            }
            let responses = operation["responses"].as_object().unwrap();
            let successes: Vec<&Value> = ["200", "201"].iter().filter_map(|status| responses.get(*status)).collect();
            assert!(!successes.is_empty(), "{what}");
            for success in successes {
                let content = success["content"].as_object().unwrap().values().next().unwrap();
                assert!(content["examples"].as_object().is_some_and(|examples| !examples.is_empty()), "{what}");
            }
            assert_eq!(
                responses.contains_key("401"),
                !route.access.allows(Actor::Anonymous)
                    || route.path.contains("/log")
                    || route.path.ends_with("/link")
                    || route.path.ends_with("/auth/token"),
                "{what}"
            );
        }
    }

    #[test]
    fn operations_have_names_of_their_own() {
        let names: BTreeSet<String> = rows::all().map(operation_id).collect();
        assert_eq!(names.len(), rows::all().count());
        assert!(names.contains("patch_users_id") && names.contains("get_root"), "{names:?}");
    }
}
