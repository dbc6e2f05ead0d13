//! `docs/api/openapi.json` against a server: every example is sent, and every error that it lists is provoked.

mod errors;
mod examples;
mod served;
mod world;
