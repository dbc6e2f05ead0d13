//! The form of a route's description.

use crate::http::{Access, Verb};

/// The caller of an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Nobody in particular.
    Anonymous,
    /// The device 1, by its own token.
    Device,
    /// A program with a service token.
    Service,
    /// The user 2, `ana`.
    User,
    /// The administrator, whose id is 1.
    Admin,
}

impl By {
    /// The caller as the documents name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Device => "device",
            Self::Service => "service",
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

/// A request and the status of its answer, which is recorded in `recorded.json`.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// Its key in the document.
    pub name: &'static str,
    /// The caller.
    pub by: By,
    /// The path with its parameters, and the query.
    pub path: &'static str,
    /// Headers besides those of the credential and the body.
    pub headers: &'static [(&'static str, &'static str)],
    /// The body, JSON; empty for none.
    pub body: &'static str,
    /// The status of the answer.
    pub status: u16,
}

/// An example of a request without a body.
pub const fn plain(name: &'static str, by: By, path: &'static str) -> Example {
    Example { name, by, path, headers: &[], body: "", status: 200 }
}

/// An example of a request with a body.
pub const fn with_body(name: &'static str, by: By, path: &'static str, body: &'static str) -> Example {
    Example { name, by, path, headers: &[], body, status: 200 }
}

impl Example {
    /// The same, answered with 201.
    pub const fn created(self) -> Self {
        Self { status: 201, ..self }
    }
}

/// A parameter of a query, or a header.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// `query` or `header`.
    pub place: &'static str,
    /// A sentence about it.
    pub text: &'static str,
    /// Its schema, as JSON.
    pub schema: &'static str,
}

/// An id in a query.
pub const fn id_query(name: &'static str, text: &'static str) -> Parameter {
    Parameter { name, place: "query", text, schema: r#"{"type":"integer","format":"uint64","minimum":0}"# }
}

/// The `after` of a list in the order of ids.
pub const AFTER: Parameter = id_query("after", "The `next` of the page before.");
/// The length of a page.
pub const LIMIT: Parameter = Parameter {
    name: "limit",
    place: "query",
    text: "The length of the page.",
    schema: r#"{"type":"integer","minimum":1,"maximum":1000,"default":100}"#,
};
/// The parameters of every list.
pub const PAGE: &[Parameter] = &[AFTER, LIMIT];

/// The description of a route.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The method.
    pub verb: Verb,
    /// The path, as in the table of routes.
    pub path: &'static str,
    /// A line about it.
    pub summary: &'static str,
    /// More, in Markdown; may be empty.
    pub text: &'static str,
    /// The parameters of its query, and its headers.
    pub parameters: &'static [Parameter],
    /// The codes of its errors besides those that follow from its callers and its body.
    pub errors: &'static [&'static str],
    /// True where the answer has the token at its top level, too.
    pub token: bool,
    /// The media type of its answer where it is not JSON in the usual envelope.
    pub media_type: Option<&'static str>,
    /// What the route takes of a body that several routes have, as JSON; may be empty.
    pub narrowed: &'static str,
    /// The callers, where the route is not one of the table.
    pub access: Option<Access>,
    /// At least one.
    pub examples: &'static [Example],
}

/// A row with only its head.
pub const fn row(verb: Verb, path: &'static str, summary: &'static str, examples: &'static [Example]) -> Row {
    Row {
        verb,
        path,
        summary,
        text: "",
        parameters: &[],
        errors: &[],
        token: false,
        media_type: None,
        narrowed: "",
        access: None,
        examples,
    }
}

impl Row {
    /// The same with more about it.
    pub const fn text(self, text: &'static str) -> Self {
        Self { text, ..self }
    }

    /// The same with parameters.
    pub const fn parameters(self, parameters: &'static [Parameter]) -> Self {
        Self { parameters, ..self }
    }

    /// The same with errors.
    pub const fn errors(self, errors: &'static [&'static str]) -> Self {
        Self { errors, ..self }
    }

    /// The same with a token at the top level of its answer.
    pub const fn with_token(self) -> Self {
        Self { token: true, ..self }
    }

    /// The same with an answer of another kind.
    pub const fn answers(self, media_type: &'static str) -> Self {
        Self { media_type: Some(media_type), ..self }
    }

    /// The same with a part of the body only.
    pub const fn narrowed(self, narrowed: &'static str) -> Self {
        Self { narrowed, ..self }
    }

    /// The same for a route that is not in the table.
    pub const fn open_to(self, access: Access) -> Self {
        Self { access: Some(access), ..self }
    }

    /// The first part of its path behind `/api`, under which it is listed.
    pub fn tag(&self) -> &'static str {
        match self.path.trim_start_matches("/api/").split('/').next().unwrap_or_default() {
            "auth" => "auth",
            "users" => "users",
            "devices" => "devices",
            "messages" => "messages",
            "clients" => "clients",
            "queue" | "queues" => "queue",
            "weather" | "catalog" => "companion",
            "monitor" | "metrics" => "monitor",
            _ => "server",
        }
    }
}
