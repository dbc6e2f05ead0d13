//! A row of a table of routes.

use futures_util::future::BoxFuture;

use super::error::ApiError;
use super::reply::Answer;
use super::request::Call;
use crate::accounts::access::Access;
use crate::store::Scopes;

/// The HTTP methods in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Also answers HEAD.
    Get,
    /// Create or do.
    Post,
    /// Set.
    Put,
    /// Change some fields.
    Patch,
    /// Remove.
    Delete,
}

impl Verb {
    /// The method's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// A handler of calls, with its body read and its reply encoded.
pub type Run = fn(Call) -> BoxFuture<'static, Result<Answer, ApiError>>;

/// Returns the name of a request's or response's type.
pub type TypeName = fn() -> &'static str;

/// A route: its address, its callers, its types and its handler.
pub struct Route {
    /// The method.
    pub verb: Verb,
    /// The path; `{id}` stands for a decimal id, `{name}` for any text. A trailing slash is optional.
    pub path: &'static str,
    /// The actors that may call it.
    pub access: Access,
    /// The scopes of service tokens that may call it, any one of which is enough; `None` where the route is not for services, or needs no
    /// credential.
    pub scopes: Option<Scopes>,
    /// Set where a browser's session must be elevated: its log-in is fresh, or its user has shown the password again.
    pub elevated: bool,
    /// The type of the body; `None` where the route takes none.
    pub request: Option<TypeName>,
    /// The type of `data` in a successful reply; `()` for none.
    pub response: TypeName,
    /// The handler.
    pub run: Run,
}
