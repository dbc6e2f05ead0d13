//! Entry points of the fuzz targets in `fuzz/` and of the corpus test, which runs the same seeds. Each panics when a parser breaks
//! its promise.

use crate::auth::credential::{Places, bearer, offers_subprotocol};
use crate::auth::{Credential, cookies};
use crate::config::{Config, Flag, Layers};
use crate::wire::inbound::parse;

/// A text frame of a client: one outcome, and what is refused names a reason.
pub fn inbound(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err(rejection) = parse(text, 10_240, &["story".into()]) {
        assert!(!rejection.message.is_empty(), "{text:?}");
    }
    if text.chars().count() > 8 {
        assert!(parse(text, 8, &[]).is_err(), "{text:?}"); // longer than allowed, whatever it says
    }
}

/// A handshake's places for a credential, one a line: query, path, `Authorization`, subprotocols, ticket, cookie.
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
    let _ = (bearer(text), offers_subprotocol(text), lines.next().and_then(|line| cookies::token(line, false)));
    assert!(cookies::csrf_fits(text, &cookies::csrf(text)));
}

/// A configuration file: an error names a line that the file has. And the same as a `--set`.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Err((line, what)) = Config::parse(text) {
        assert!(line >= 1 && line <= text.lines().count().max(1) + 1 && !what.is_empty(), "{line}: {what}");
    }
    if let Ok(flag) = Flag::set(text)
        && let Err(error) = Layers::new(None, std::iter::empty(), vec![flag]).read()
    {
        let said = error.to_string();
        assert!(said.starts_with("--set ") || said.contains(" is missing"), "{said}");
    }
}

/// The body of a REST call, as strangers may send it: an object, or an error that names what is wrong.
pub use crate::api::fuzz_body as body;
/// A key and a record of the mailbox: what can be read is written the same way.
pub use crate::store::fuzz_key as mailbox_key;
