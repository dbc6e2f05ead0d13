//! Credentials of WebSocket handshakes.

/// A credential as it was received.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A token.
    Token(String),
    /// A ticket.
    Ticket(String),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential(…)")
    }
}

/// The subprotocol that the server supports and replies with.
pub const SUBPROTOCOL: &str = "qy-lty.v1";
/// The prefix of a token among the offered subprotocols: the only header that a browser's `WebSocket` lets a page set.
const TOKEN_PROTOCOL: &str = "token.";

/// The possible places of a credential, each as the request has it.
#[derive(Debug, Default)]
pub struct Places<'a> {
    /// `?token=`
    pub query_token: Option<&'a str>,
    /// `/ws/device/token/{token}/`
    pub path_token: Option<&'a str>,
    /// `Authorization`
    pub authorization: Option<&'a str>,
    /// `Sec-WebSocket-Protocol`, all values joined by commas
    pub protocols: Option<&'a str>,
    /// `?ticket=`
    pub query_ticket: Option<&'a str>,
}

impl Places<'_> {
    /// Returns the first credential in the order of the fields above. An empty value counts as absent, as in the guide.
    pub fn credential(&self) -> Option<Credential> {
        let given = |text: Option<&str>| text.filter(|t| !t.is_empty()).map(str::to_owned);
        given(self.query_token)
            .or_else(|| given(self.path_token))
            .or_else(|| given(self.authorization.and_then(bearer)))
            .or_else(|| given(self.protocols.and_then(protocol_token)))
            .map(Credential::Token)
            .or_else(|| given(self.query_ticket).map(Credential::Ticket))
    }
}

/// Returns the token in `Authorization: Token T` or `Bearer T`; schemes are case-insensitive (RFC 9110 section 11.1).
pub fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once([' ', '\t'])?;
    let known = scheme.eq_ignore_ascii_case("token") || scheme.eq_ignore_ascii_case("bearer");
    known.then(|| token.trim())
}

/// Returns the token among the offered subprotocols.
fn protocol_token(protocols: &str) -> Option<&str> {
    protocols.split(',').find_map(|p| p.trim().strip_prefix(TOKEN_PROTOCOL))
}

/// Returns whether the client offers the subprotocol `name`.
pub fn offers_subprotocol(protocols: &str, name: &str) -> bool {
    protocols.split(',').any(|p| p.trim() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(text: &str) -> Option<Credential> {
        Some(Credential::Token(text.into()))
    }

    #[test]
    fn credential_is_taken_from_the_first_place_that_has_one() {
        let mut places = Places {
            query_token: Some("q"),
            path_token: Some("p"),
            authorization: Some("Token a"),
            protocols: Some("qy-lty.v1, token.s"),
            query_ticket: Some("t"),
        };
        assert_eq!(places.credential(), token("q"));
        places.query_token = Some("");
        assert_eq!(places.credential(), token("p"));
        places.path_token = None;
        assert_eq!(places.credential(), token("a"));
        places.authorization = Some("Basic YTpi");
        assert_eq!(places.credential(), token("s"));
        places.protocols = Some("qy-lty.v1");
        assert_eq!(places.credential(), Some(Credential::Ticket("t".into())));
        places.query_ticket = None;
        assert_eq!(places.credential(), None);
    }

    #[test]
    fn authorization_takes_two_schemes_in_any_case() {
        assert_eq!(bearer("Bearer x"), Some("x"));
        assert_eq!(bearer("tOKEN  x "), Some("x"));
        for none in ["", "Token", "Bearer", "x", "Basic x", "Tokenx y"] {
            assert_eq!(bearer(none), None, "{none}");
        }
        assert!(offers_subprotocol("a,qy-lty.v1 , token.x", SUBPROTOCOL));
        assert!(!offers_subprotocol("qy-lty.v11", SUBPROTOCOL));
    }

    proptest! {
        #[test]
        fn any_header_parses_without_panic(a in "\\PC*", b in "\\PC*") {
            let _ = Places { authorization: Some(&a), protocols: Some(&b), ..Places::default() }.credential();
        }
    }
}
