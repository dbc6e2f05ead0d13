//! The names of the library that the tests use. Nothing else here imports it.

pub use qy_lty::{Config, ServeError, serve};

/// The functions that the fuzzers call.
pub use qy_lty::fuzzing as fuzz;

/// The configuration file that `config default` prints.
pub use qy_lty::DEFAULT as DEFAULT_CONFIG;

/// A caller of the REST API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    Anonymous,
    Device,
    Service,
    User,
    Admin,
}

impl Caller {
    pub const ALL: [Self; 5] = [Self::Anonymous, Self::Device, Self::Service, Self::User, Self::Admin];

    fn actor(self) -> qy_lty::Actor {
        use qy_lty::Actor;
        match self {
            Self::Anonymous => Actor::Anonymous,
            Self::Device => Actor::Device,
            Self::Service => Actor::Service,
            Self::User => Actor::User,
            Self::Admin => Actor::Admin,
        }
    }
}

/// A route of the REST API.
#[derive(Clone, Copy)]
pub struct Route {
    /// The HTTP method.
    pub method: &'static str,
    /// The path, with `{id}` and `{name}` for its parameters.
    pub path: &'static str,
    row: &'static qy_lty::Route,
}

impl Route {
    pub fn allows(&self, caller: Caller) -> bool {
        self.row.access.allows(caller.actor())
    }

    /// Returns the smallest body that the method takes.
    pub fn empty_body(&self) -> Option<&'static str> {
        matches!(self.method, "POST" | "PUT" | "PATCH").then_some("{}")
    }
}

/// Returns every route.
pub fn routes() -> impl Iterator<Item = Route> {
    qy_lty::ROUTES.iter().map(|row| Route { method: row.verb.name(), path: row.path, row })
}
