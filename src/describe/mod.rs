//! The API described: `docs/api/openapi.json` and `docs/api/asyncapi.json`, made from the table of routes and the types of requests,
//! responses and events.
//!
//! Only tests are made of this, so that nothing of it is in the program but the documents themselves. A route has a [`Row`](row::Row)
//! here with its summary, errors and examples; its path, callers and types are those of [`ROUTES`](crate::api::ROUTES), and its schemas
//! those of its types. `QY_LTY_WRITE_API=1 cargo test --lib describe::` writes the documents; without the variable, the tests compare
//! them. `tests/it/rest/described.rs` sends every example to a server.

mod asyncapi;
pub mod console;
mod constraints;
mod errors;
mod frames;
mod openapi;
mod row;
mod rows;
mod schemas;
pub mod types;

use std::path::Path;

use serde_json::Value;

/// Reports whether the documents are to be written.
fn writes() -> bool {
    std::env::var_os("QY_LTY_WRITE_API").is_some()
}

/// Compares a document with the committed one, or writes it where `QY_LTY_WRITE_API` is set.
///
/// # Panics
/// When they differ.
fn check(name: &str, document: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api").join(name);
    let text = format!("{document:#}\n");
    if writes() {
        std::fs::write(&path, &text).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(text.lines()).position(|(one, other)| one != other);
    assert!(
        committed == text,
        "docs/api/{name} is not what the code describes, from line {} on; run `QY_LTY_WRITE_API=1 cargo test --lib describe::`",
        differs.unwrap_or_default() + 1
    );
}

#[test]
fn openapi_document_is_what_the_code_describes() {
    check("openapi.json", &openapi::document());
}

#[test]
fn asyncapi_document_is_what_the_code_describes() {
    check("asyncapi.json", &asyncapi::document());
}
