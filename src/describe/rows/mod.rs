//! The descriptions of all routes.

mod accounts;
mod devices;
mod messages;
mod server;

use super::row::Row;

/// Returns the description of every route.
pub fn all() -> impl Iterator<Item = &'static Row> {
    [accounts::ROWS, devices::ROWS, messages::ROWS, server::ROWS].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::ROUTES;
    use crate::http::Verb;

    #[test]
    fn every_route_has_one_row_and_every_row_a_route() {
        let routes: Vec<(Verb, &str)> = ROUTES.iter().map(|route| (route.verb, route.path)).collect();
        let rows: Vec<(Verb, &str)> = all().map(|row| (row.verb, row.path)).collect();
        for route in &routes {
            let found = rows.iter().filter(|row| *row == route).count();
            assert_eq!(found, 1, "{} {} must be described once, in src/describe/rows", route.0.name(), route.1);
        }
        for row in all() {
            let routed = routes.contains(&(row.verb, row.path));
            assert_eq!(routed, row.access.is_none(), "{} {}", row.verb.name(), row.path);
        }
    }

    #[test]
    fn every_row_says_what_the_route_does_and_has_an_example_with_a_name_of_its_own() {
        for row in all() {
            let what = format!("{} {}", row.verb.name(), row.path);
            assert!(!row.examples.is_empty(), "{what} has no example");
            assert!(row.summary.chars().next().is_some_and(char::is_uppercase) && !row.summary.ends_with('.'), "{what}");
            let names: BTreeSet<_> = row.examples.iter().map(|example| example.name).collect();
            assert_eq!(names.len(), row.examples.len(), "{what}");
            let pattern: Vec<&str> = row.path.split('/').collect();
            for example in row.examples {
                let path: Vec<&str> = example.path.split('?').next().unwrap().split('/').collect();
                let fits = |(part, given): (&&str, &&str)| part.starts_with('{') || part == given;
                assert!(pattern.len() == path.len() && pattern.iter().zip(&path).all(fits), "{what}: {}", example.path);
            }
        }
    }
}
