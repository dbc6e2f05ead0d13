//! Tickets: what a browser page trades its token for, so that no lasting secret stands in a URL. In memory only.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Secret;
use crate::store::TokenHash;

/// How long a ticket is good for.
pub const TICKET_SECONDS: u64 = 30;
/// How many may be open at once.
const MAX_OPEN: usize = 10_000;

/// The open tickets.
#[derive(Default)]
pub(super) struct Tickets(Mutex<HashMap<TokenHash, (TokenHash, Instant)>>);

impl Tickets {
    /// Opens a ticket that stands for `token`; `false` when too many are open.
    pub(super) fn put(&self, ticket: &Secret, token: TokenHash) -> bool {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_OPEN {
            open.retain(|_, (_, end)| *end > Instant::now());
        }
        let room = open.len() < MAX_OPEN;
        if room {
            open.insert(ticket.hash(), (token, Instant::now() + Duration::from_secs(TICKET_SECONDS)));
        }
        room
    }

    /// Uses up a ticket; the token it stood for, when it was still good.
    pub(super) fn redeem(&self, ticket: &str) -> Option<TokenHash> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&TokenHash::of(ticket));
        found.filter(|(_, end)| *end > Instant::now()).map(|(token, _)| token)
    }

    /// Forgets what has run out.
    pub(super) fn sweep(&self) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, (_, end)| *end > Instant::now());
        open.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_only() {
        let (tickets, token) = (Tickets::default(), TokenHash::of("t"));
        let ticket = Secret::ticket().unwrap();
        assert!(tickets.put(&ticket, token));
        tickets.sweep();
        assert_eq!(tickets.redeem("qlx_other"), None);
        assert_eq!(tickets.redeem(ticket.reveal()), Some(token));
        assert_eq!(tickets.redeem(ticket.reveal()), None);
    }

    #[test]
    fn the_number_is_bounded_and_stale_ones_make_room() {
        let (tickets, token) = (Tickets::default(), TokenHash::of("t"));
        for n in 0..MAX_OPEN {
            let stale = (token, Instant::now());
            tickets.0.lock().unwrap().insert(TokenHash::of(&n.to_string()), stale);
        }
        assert!(tickets.put(&Secret::ticket().unwrap(), token));
        assert_eq!(tickets.0.lock().unwrap().len(), 1);
    }
}
