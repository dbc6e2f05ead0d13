//! Entry points of the fuzz targets in `fuzz/` and of the corpus test, which runs the same seeds. Each panics when a parser violates
//! its invariants.

use crate::auth::credential::{Places, SUBPROTOCOL, bearer, offers_subprotocol};
use crate::auth::{Credential, cookies};
use crate::config::{Config, Flag, Layers};
use crate::wire::inbound::parse;

/// Parses a text frame of a client. A rejection has a message.
pub fn inbound(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(rejection) = parse(text, 10_240, &["story".into()]) {
        assert!(!rejection.message.is_empty(), "{text:?}");
    }
    if text.chars().count() > 8 {
        assert!(parse(text, 8, &[]).is_err(), "{text:?}"); // any text over the limit is rejected
    }
}

/// Parses the credentials of a handshake, one source per line: query, path, `Authorization`, subprotocols, ticket, cookie.
pub fn credential(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.lines();
    let places = Places {
        query_token: lines.next(),
        path_token: lines.next(),
        authorization: lines.next(),
        protocols: lines.next(),
        query_ticket: lines.next(),
    };
    if let Some(Credential::Token(secret) | Credential::Ticket(secret)) = places.credential() {
        assert!(!secret.is_empty() && text.contains(&secret), "{text:?}");
    }
    let _ = (bearer(text), offers_subprotocol(text, SUBPROTOCOL), lines.next().and_then(|line| cookies::token(line, false)));
    assert!(cookies::csrf_fits(text, &cookies::csrf(text)));
}

/// Parses a configuration file, where an error has a valid line, and the same text as an argument of `--set`.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err((line, message)) = Config::parse(text) {
        assert!(line >= 1 && line <= text.lines().count().max(1) + 1 && !message.is_empty(), "{line}: {message}");
    }
    if let Ok(flag) = Flag::set(text)
        && let Err(error) = Layers::new(None, std::iter::empty(), vec![flag]).read()
    {
        let message = error.to_string();
        assert!(message.starts_with("--set ") || message.contains(" is missing"), "{message}");
    }
}

/// Parses the body of a REST call: the result is an object, or an error with a message.
pub use crate::api::fuzz_body as body;
/// Parses a block of messages: whatever can be parsed is the same after it was encoded and parsed again.
pub use crate::store::fuzz_block as message_block;
/// Reads frames of a client: the same messages and the same end, however the stream is cut.
pub use crate::ws::fuzz_frames as frames;
