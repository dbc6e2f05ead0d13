//! Tickets: short-lived stand-ins for a browser page's token, so that no lasting secret appears in a URL. In memory only.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;

use super::Secret;
use crate::core::boot::BootInstant;
use crate::store::TokenHash;

/// The lifetime of a ticket, in seconds.
pub const TICKET_SECONDS: u64 = 30;
/// The largest number of open tickets.
const MAX_TICKETS: usize = 10_000;
/// The largest number of open tickets of one token; beyond it the oldest is removed.
const MAX_TICKETS_PER_TOKEN: usize = 16;

/// The open tickets.
#[derive(Default)]
pub(super) struct Tickets(Mutex<Open>);

#[derive(Default)]
struct Open {
    /// Ticket → the token that it stands for, and its expiry.
    tickets: HashMap<TokenHash, (TokenHash, BootInstant)>,
    /// Token → its tickets, oldest first.
    of_token: HashMap<TokenHash, VecDeque<TokenHash>>,
}

impl Open {
    fn remove_expired(&mut self) {
        let now = BootInstant::now();
        self.tickets.retain(|_, (_, end)| *end > now);
        let tickets = &self.tickets;
        self.of_token.retain(|_, own| {
            own.retain(|ticket| tickets.contains_key(ticket));
            !own.is_empty()
        });
    }
}

impl Tickets {
    /// Adds a ticket that stands for `token`; `false` when too many are open.
    pub(super) fn put(&self, ticket: &Secret, token: TokenHash) -> bool {
        let mut open = self.0.lock();
        if open.tickets.len() >= MAX_TICKETS {
            open.remove_expired();
        }
        let own = open.of_token.entry(token).or_default();
        if own.len() >= MAX_TICKETS_PER_TOKEN
            && let Some(oldest) = own.pop_front()
        {
            open.tickets.remove(&oldest);
        }
        let room = open.tickets.len() < MAX_TICKETS;
        if room {
            let end = BootInstant::now() + Duration::from_secs(TICKET_SECONDS);
            open.tickets.insert(ticket.hash(), (token, end));
            open.of_token.entry(token).or_default().push_back(ticket.hash());
        }
        room
    }

    /// Uses up a ticket; returns the token that it stood for, unless it had expired.
    pub(super) fn redeem(&self, ticket: &str) -> Option<TokenHash> {
        let mut open = self.0.lock();
        let found = open.tickets.remove(&TokenHash::of(ticket));
        found.filter(|(_, end)| *end > BootInstant::now()).map(|(token, _)| token)
    }

    /// Removes expired tickets.
    pub(super) fn sweep(&self) {
        let mut open = self.0.lock();
        open.remove_expired();
        open.tickets.shrink_to_fit();
        open.of_token.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticket_is_redeemed_once() {
        let (tickets, token) = (Tickets::default(), TokenHash::of("t"));
        let ticket = Secret::ticket().unwrap();
        assert!(tickets.put(&ticket, token));
        tickets.sweep();
        assert_eq!(tickets.redeem("qlx_other"), None);
        assert_eq!(tickets.redeem(ticket.reveal()), Some(token));
        assert_eq!(tickets.redeem(ticket.reveal()), None);
    }

    #[test]
    fn open_tickets_are_bounded_and_expired_ones_make_room() {
        let (tickets, token) = (Tickets::default(), TokenHash::of("t"));
        for n in 0..MAX_TICKETS {
            let stale = (token, BootInstant::now());
            tickets.0.lock().tickets.insert(TokenHash::of(&n.to_string()), stale);
        }
        assert!(tickets.put(&Secret::ticket().unwrap(), token));
        assert_eq!(tickets.0.lock().tickets.len(), 1);
    }

    #[test]
    fn one_token_cannot_use_up_all_tickets() {
        let (tickets, greedy, other) = (Tickets::default(), TokenHash::of("greedy"), TokenHash::of("other"));
        let first = Secret::ticket().unwrap();
        tickets.put(&first, greedy);
        for _ in 0..MAX_TICKETS_PER_TOKEN {
            assert!(tickets.put(&Secret::ticket().unwrap(), greedy));
        }
        assert_eq!(tickets.redeem(first.reveal()), None, "the oldest was removed");
        assert!(tickets.0.lock().tickets.len() <= MAX_TICKETS_PER_TOKEN);
        assert!(tickets.put(&Secret::ticket().unwrap(), other));
    }
}
