//! The tables of routes as a tree of path segments: a request's route is found by its segments, however many routes there are.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::route::{Route, Verb};

/// Routes by path and method.
#[derive(Default)]
pub struct RouteTree {
    root: Node,
}

/// The routes whose paths begin with the same segments.
#[derive(Default)]
struct Node {
    /// The next segments that are fixed texts.
    fixed: Vec<(&'static str, Node)>,
    /// The next segment where it is a parameter.
    parameter: Option<(Kind, Box<Node>)>,
    /// The routes whose paths end here.
    routes: Vec<&'static Route>,
}

/// The kinds of parameters in paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Id,
    Name,
}

/// The value of a path's parameter; a path has one at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Parameter {
    /// The path has none.
    #[default]
    None,
    /// `{id}`; `None` where the text is not a decimal id.
    Id(Option<u64>),
    /// `{name}`, decoded.
    Name(String),
}

/// A route with the parameter of a request's path.
#[derive(Clone)]
pub struct Match {
    /// The route.
    pub route: &'static Route,
    /// The value of its parameter.
    pub parameter: Parameter,
}

/// The outcome of a look-up.
#[derive(Clone)]
pub enum Lookup {
    /// The path has a route for the method.
    Found(Match),
    /// The path has routes for these methods only.
    OtherMethods(Vec<Verb>),
    /// The path has no routes.
    Missing,
}

impl RouteTree {
    /// Adds the routes of a table.
    pub fn add(&mut self, table: &'static [Route]) {
        for route in table {
            let node = segments(route.path).fold(&mut self.root, Node::child);
            node.routes.push(route);
        }
    }

    /// Returns the route for `method` and `path`. Empty segments don't count, a fixed segment is preferred to a parameter, and HEAD
    /// has the routes of GET.
    pub fn find(&self, method: &str, path: &str) -> Lookup {
        let method = if method == "HEAD" { "GET" } else { method };
        let mut search = Search { method, found: None, others: Vec::new() };
        self.root.search(segments(path), Parameter::None, &mut search);
        match search {
            Search { found: Some(found), .. } => Lookup::Found(found),
            Search { others, .. } if others.is_empty() => Lookup::Missing,
            Search { others, .. } => Lookup::OtherMethods(others),
        }
    }
}

/// A look-up under way.
struct Search<'a> {
    method: &'a str,
    found: Option<Match>,
    /// The methods of routes with the path but another method.
    others: Vec<Verb>,
}

impl Node {
    /// Returns the node of the next segment of a route's path, which is added where there is none.
    fn child(&mut self, segment: &'static str) -> &mut Self {
        let kind = match segment {
            "{id}" => Kind::Id,
            "{name}" => Kind::Name,
            fixed => {
                let at = self.fixed.iter().position(|(text, _)| *text == fixed).unwrap_or_else(|| {
                    self.fixed.push((fixed, Self::default()));
                    self.fixed.len() - 1
                });
                return &mut self.fixed[at].1;
            }
        };
        let (known, node) = self.parameter.get_or_insert_with(|| (kind, Box::default()));
        debug_assert_eq!(*known, kind, "one place has parameters of two kinds");
        node
    }

    /// Looks for the rest of a path below this node, and returns whether it has found a route. A dead end below a fixed segment leads
    /// back to the parameter beside it; but a text that is no id is not taken for one where the fixed path has routes for other methods.
    fn search<'p>(&self, mut rest: impl Iterator<Item = &'p str> + Clone, parameter: Parameter, search: &mut Search<'_>) -> bool {
        let Some(segment) = rest.next() else { return self.end(parameter, search) };
        let text = decoded(segment);
        let others = search.others.len();
        if let Some((_, node)) = self.fixed.iter().find(|(fixed, _)| *fixed == text)
            && node.search(rest.clone(), parameter.clone(), search)
        {
            return true;
        }
        let Some((kind, node)) = &self.parameter else { return false };
        let value = kind.value(&text);
        (search.others.len() == others || value != Parameter::Id(None)) && node.search(rest, value, search)
    }

    /// Looks among the routes whose paths end here.
    fn end(&self, parameter: Parameter, search: &mut Search<'_>) -> bool {
        match self.routes.iter().find(|route| route.verb.name() == search.method) {
            Some(route) => search.found = Some(Match { route, parameter }),
            None => search.others.extend(self.routes.iter().map(|route| route.verb)),
        }
        search.found.is_some()
    }
}

impl Kind {
    /// Returns the value of a parameter with that text.
    fn value(self, text: &str) -> Parameter {
        match self {
            Self::Id => Parameter::Id(text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))),
            Self::Name => Parameter::Name(text.to_owned()),
        }
    }
}

/// Returns the segments of a path that are not empty.
fn segments(path: &str) -> impl Iterator<Item = &str> + Clone {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// Returns a segment without percent-encoding (RFC 3986 section 2.1).
fn decoded(segment: &str) -> Cow<'_, str> {
    if segment.contains('%') { percent_decode_str(segment).decode_utf8_lossy() } else { Cow::Borrowed(segment) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::error::ApiError;
    use crate::http::reply::Reply;
    use crate::http::request::Call;
    use crate::http::routes;

    async fn nothing(_: Call) -> Result<Reply<()>, ApiError> {
        Ok(Reply::done("done"))
    }

    static TABLE: &[Route] = routes! {
        Get    "/"                ANYONE nothing() -> ();
        Get    "/a"               ANYONE nothing() -> ();
        Post   "/a"               ANYONE nothing() -> ();
        Get    "/a/{id}"          ANYONE nothing() -> ();
        Delete "/a/{id}"          ANYONE nothing() -> ();
        Post   "/a/all"           ANYONE nothing() -> ();
        Put    "/a/{id}/first"    ANYONE nothing() -> ();
        Get    "/a/all/{name}/x"  ANYONE nothing() -> ();
    };

    /// Method and pattern of the route that is found with its parameter, or the other methods.
    fn find(method: &str, path: &str) -> String {
        let mut tree = RouteTree::default();
        tree.add(TABLE);
        match tree.find(method, path) {
            Lookup::Found(Match { route, parameter }) => format!("{} {} {parameter:?}", route.verb.name(), route.path),
            Lookup::OtherMethods(verbs) => format!("{verbs:?}"),
            Lookup::Missing => "-".into(),
        }
    }

    #[test]
    fn routes_are_found_by_method_and_segments() {
        for (method, path, found) in [
            ("GET", "/", "GET / None"),
            ("GET", "", "GET / None"),
            ("HEAD", "/a", "GET /a None"),
            ("POST", "/a/", "POST /a None"),
            ("POST", "//a//", "POST /a None"),
            ("GET", "/%61", "GET /a None"),
            ("GET", "/A", "-"),
            ("GET", "/b", "-"),
            ("GET", "/a/7", "GET /a/{id} Id(Some(7))"),
            ("GET", "/a/%37", "GET /a/{id} Id(Some(7))"),
            ("GET", "/a/007/", "GET /a/{id} Id(Some(7))"),
            ("GET", "/a/+7", "GET /a/{id} Id(None)"),
            ("GET", "/a/18446744073709551616", "GET /a/{id} Id(None)"),
            ("POST", "/a/all", "POST /a/all None"),
            ("GET", "/a/all", "[Post]"),
            ("PUT", "/a/all/first", "PUT /a/{id}/first Id(None)"),
            ("GET", "/a/all/b%2Fc%20d/x", "GET /a/all/{name}/x Name(\"b/c d\")"),
            ("GET", "/a/all/%FF/x", "GET /a/all/{name}/x Name(\"\u{fffd}\")"),
            ("PUT", "/a", "[Get, Post]"),
            ("PATCH", "/a/all", "[Post]"),
            ("DELETE", "/a/al", "DELETE /a/{id} Id(None)"),
            ("OPTIONS", "/a/7", "[Get, Delete]"),
            ("get", "/a", "[Get, Post]"),
            ("GET", "/a/7/first/x", "-"),
            ("GET", "/a/all/x", "-"),
        ] {
            assert_eq!(find(method, path), found, "{method} {path}");
        }
    }

    #[test]
    fn every_route_of_the_api_is_found_at_its_path() {
        let mut tree = RouteTree::default();
        tree.add(crate::api::ROUTES);
        for route in crate::api::ROUTES {
            let path = route.path.replace("{id}", "5").replace("{name}", "5");
            let Lookup::Found(found) = tree.find(route.verb.name(), &path) else { panic!("{path}") };
            assert!(std::ptr::eq(found.route, route), "{} {path}", route.verb.name());
        }
    }
}
