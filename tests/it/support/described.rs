//! The documents of `docs/api`, and whether what a server sends is what they describe.

use std::collections::HashMap;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

static OPENAPI: LazyLock<Value> = LazyLock::new(|| serde_json::from_str(include_str!("../../../docs/api/openapi.json")).unwrap());
static ASYNCAPI: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../docs/api/asyncapi.json")).unwrap());

/// An operation of the REST API.
#[derive(Clone)]
pub struct Operation {
    /// In capitals.
    pub method: String,
    /// With `{id}` and `{name}` for its parameters.
    pub path: String,
    /// The object of the document.
    pub value: &'static Value,
}

/// A request with its answer.
#[derive(Debug, Clone)]
pub struct Example {
    pub name: String,
    pub caller: String,
    pub status: u16,
    /// With the values of its parameters.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Value>,
    /// `null` where the answer is not JSON in the usual envelope.
    pub answer: Value,
}

/// Returns every operation.
pub fn operations() -> Vec<Operation> {
    let paths = OPENAPI["paths"].as_object().unwrap();
    let of_path = |(path, methods): (&String, &'static Value)| {
        let path = path.clone();
        let methods = methods.as_object().unwrap().iter();
        methods
            .map(move |(method, value)| Operation { method: method.to_ascii_uppercase(), path: path.clone(), value })
            .collect::<Vec<_>>()
    };
    paths.iter().flat_map(of_path).collect()
}

/// Returns what a reference of the document stands for.
fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => OPENAPI.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{reference}")),
        None => value,
    }
}

/// Compiles a schema of the document, with what it refers to.
fn compiled(schema: &Value) -> Validator {
    let mut schema = schema.clone();
    schema["components"] = json!({ "schemas": OPENAPI["components"]["schemas"] });
    jsonschema::draft202012::options().build(&schema).unwrap_or_else(|error| panic!("{error}"))
}

/// Fails where `value` is not as `validator` has it.
#[track_caller]
fn assert_valid(validator: &Validator, value: &Value, what: &str) {
    let faults: Vec<String> = validator.iter_errors(value).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{what}: {value} is not as described: {faults:#?}");
}

impl Operation {
    pub fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub fn roles(&self) -> Vec<&'static str> {
        self.value["x-roles"].as_array().unwrap().iter().map(|role| role.as_str().unwrap()).collect()
    }

    fn responses(&self) -> &'static Map<String, Value> {
        self.value["responses"].as_object().unwrap()
    }

    /// Returns the codes of its errors, each with its status.
    pub fn codes(&self) -> Vec<(u16, &'static str)> {
        let mut out = Vec::new();
        for (status, response) in self.responses() {
            let codes = &resolved(response)["content"]["application/json"]["schema"]["properties"]["code"]["enum"];
            out.extend(codes.as_array().into_iter().flatten().map(|code| (status.parse().unwrap(), code.as_str().unwrap())));
        }
        out
    }

    /// Fails where an answer is not described: its status, its headers, its body.
    #[track_caller]
    pub fn assert_describes(&self, answer: &super::Answer) {
        let (what, status) = (self.name(), answer.status.as_u16().to_string());
        let response = self.responses().get(&status);
        let response = resolved(response.unwrap_or_else(|| panic!("{what}: {status} is not described: {}", answer.text)));
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            assert!(header["required"] != true || answer.headers.contains_key(name.as_str()), "{what}: no {name}");
        }
        let (media_type, content) = response["content"].as_object().unwrap().iter().next().unwrap();
        let given = answer.headers["content-type"].to_str().unwrap();
        assert_eq!(given.split(';').next(), Some(media_type.as_str()), "{what}");
        if media_type == "application/json" {
            assert_valid(&compiled(&content["schema"]), &answer.json, &what);
        }
    }

    /// Fails where `body` is not what it takes.
    #[track_caller]
    pub fn assert_takes(&self, body: &Value) {
        let schema = &self.value["requestBody"]["content"]["application/json"]["schema"];
        assert_valid(&compiled(schema), body, &self.name());
    }

    /// Returns its examples.
    pub fn examples(&self) -> Vec<Example> {
        let mut out = Vec::new();
        for (status, response) in self.responses() {
            let Some(content) = resolved(response)["content"].as_object().and_then(|content| content.values().next()) else {
                continue;
            };
            for (name, example) in content["examples"].as_object().into_iter().flatten() {
                let Some(caller) = example["x-caller"].as_str() else { continue }; // that of an error
                out.push(self.example(name, caller, status.parse().unwrap(), &example["value"]));
            }
        }
        out
    }

    fn example(&self, name: &str, caller: &str, status: u16, answer: &Value) -> Example {
        let (mut path, mut query, mut headers) = (self.path.clone(), Vec::new(), Vec::new());
        for parameter in self.value["parameters"].as_array().into_iter().flatten() {
            let value = match &parameter["examples"][name]["value"] {
                Value::Null => continue,
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let parameter_name = parameter["name"].as_str().unwrap();
            match parameter["in"].as_str() {
                Some("path") => path = path.replace(&format!("{{{parameter_name}}}"), &value),
                Some("query") => query.push(format!("{parameter_name}={value}")),
                _ => headers.push((parameter_name.to_owned(), value)),
            }
        }
        if !query.is_empty() {
            path = format!("{path}?{}", query.join("&"));
        }
        let body = &self.value["requestBody"]["content"]["application/json"]["examples"][name]["value"];
        let body = (!body.is_null()).then(|| body.clone());
        let (name, caller, answer) = (name.to_owned(), caller.to_owned(), answer.clone());
        Example { name, caller, status, path, headers, body, answer }
    }
}

/// A WebSocket by what is spoken there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Device,
    Console,
    /// None that the document has, such as the one of the Autobahn suite.
    Other,
}

impl Channel {
    /// Returns that of a path.
    pub fn of(path: &str) -> Self {
        match path {
            path if path.starts_with("/ws/device") => Self::Device,
            path if path.starts_with("/ws/console") => Self::Console,
            _ => Self::Other,
        }
    }
}

/// The schemas of the server's frames on a channel.
struct Frames {
    by_type: HashMap<&'static str, Validator>,
    /// Those whose type is not theirs alone.
    any: Vec<Validator>,
}

impl Frames {
    /// Compiles those whose names begin with `prefix`; `any` are those whose type may be another one.
    fn new(prefix: &str, any: &[&str]) -> Self {
        let schemas = ASYNCAPI["components"]["schemas"].as_object().unwrap();
        // Nothing beyond what is described: the document itself leaves room for later fields.
        let strict = |name: &str| {
            let mut schema = schemas[&format!("{prefix}{name}")].clone();
            schema["additionalProperties"] = false.into();
            jsonschema::draft7::new(&schema).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let names = schemas.keys().filter_map(|name| name.strip_prefix(prefix));
        let by_type = names.filter(|name| !any.contains(name)).map(|name| (name, strict(name))).collect();
        Self { by_type, any: any.iter().map(|name| strict(name)).collect() }
    }
}

static DEVICE_FRAMES: LazyLock<Frames> = LazyLock::new(|| Frames::new("server.", &["push", "custom_response"]));
static CONSOLE_FRAMES: LazyLock<Frames> = LazyLock::new(|| Frames::new("console.server.", &[]));

/// Fails where a frame of the server is not one that `asyncapi.json` describes.
#[track_caller]
pub fn assert_frame(channel: Channel, text: &str) {
    let frames = match channel {
        Channel::Device => &*DEVICE_FRAMES,
        Channel::Console => &*CONSOLE_FRAMES,
        Channel::Other => return,
    };
    let Ok(frame) = serde_json::from_str::<Value>(text) else { panic!("a frame that is no JSON: {text}") };
    let own = frame["type"].as_str().and_then(|kind| frames.by_type.get(kind));
    if frames.any.iter().chain(own).any(|validator| validator.is_valid(&frame)) {
        return;
    }
    let nearest = own.or(frames.any.first()).unwrap_or_else(|| panic!("a frame that is not described: {text}"));
    assert_valid(nearest, &frame, "a frame");
}
