//! Tickets: short-lived stand-ins for a browser page's token, so that no lasting secret appears in a URL. In memory only.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::Mutex;

use super::Secret;
use crate::core::boot::BootInstant;
use crate::core::ids::UserId;
use crate::store::TokenHash;

/// The lifetime of a ticket, in seconds.
pub const TICKET_SECONDS: u64 = 30;
/// The largest number of open tickets.
const MAX_TICKETS: usize = 10_000;
/// The largest number of open tickets of one user; beyond it the oldest is removed. Not of one token: users make tokens.
const MAX_TICKETS_PER_USER: usize = 64;

/// The open tickets.
#[derive(Default)]
pub(super) struct Tickets(Mutex<Open>);

#[derive(Default)]
struct Open {
    /// Ticket → the token that it stands for, and its expiry.
    tickets: HashMap<TokenHash, (TokenHash, BootInstant)>,
    /// The tickets of each user, oldest first.
    of_user: HashMap<UserId, VecDeque<TokenHash>>,
}

impl Open {
    fn remove_expired(&mut self) {
        let now = BootInstant::now();
        self.tickets.retain(|_, (_, end)| *end > now);
        let tickets = &self.tickets;
        self.of_user.retain(|_, own| {
            own.retain(|ticket| tickets.contains_key(ticket));
            !own.is_empty()
        });
    }
}

impl Tickets {
    /// Adds a ticket that stands for `token` of `user`; `false` when too many are open.
    pub(super) fn put(&self, ticket: &Secret, user: UserId, token: TokenHash) -> bool {
        let mut open = self.0.lock();
        if open.tickets.len() >= MAX_TICKETS {
            open.remove_expired();
        }
        let own = open.of_user.entry(user).or_default();
        if own.len() >= MAX_TICKETS_PER_USER
            && let Some(oldest) = own.pop_front()
        {
            open.tickets.remove(&oldest);
        }
        let room = open.tickets.len() < MAX_TICKETS;
        if room {
            let end = BootInstant::now() + Duration::from_secs(TICKET_SECONDS);
            open.tickets.insert(ticket.hash(), (token, end));
            open.of_user.entry(user).or_default().push_back(ticket.hash());
        }
        room
    }

    /// Returns the token that a ticket stands for, unless it has expired.
    pub(super) fn get(&self, ticket: &str) -> Option<TokenHash> {
        let open = self.0.lock();
        open.tickets.get(&TokenHash::of(ticket)).filter(|(_, end)| *end > BootInstant::now()).map(|(token, _)| *token)
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
        open.of_user.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticket_is_redeemed_once() {
        let (tickets, token) = (Tickets::default(), TokenHash::of("t"));
        let ticket = Secret::ticket().unwrap();
        assert!(tickets.put(&ticket, UserId(1), token));
        tickets.sweep();
        assert_eq!(tickets.redeem("qlx_other"), None);
        assert_eq!((tickets.get("qlx_other"), tickets.get(ticket.reveal())), (None, Some(token)));
        assert_eq!(tickets.redeem(ticket.reveal()), Some(token));
        assert_eq!(tickets.get(ticket.reveal()), None);
        assert_eq!(tickets.redeem(ticket.reveal()), None);
    }

    #[test]
    fn open_tickets_are_bounded_and_expired_ones_make_room() {
        let (tickets, token) = (Tickets::default(), TokenHash::of("t"));
        for n in 0..MAX_TICKETS {
            let stale = (token, BootInstant::now());
            tickets.0.lock().tickets.insert(TokenHash::of(&n.to_string()), stale);
        }
        assert!(tickets.put(&Secret::ticket().unwrap(), UserId(1), token));
        assert_eq!(tickets.0.lock().tickets.len(), 1);
    }

    #[test]
    fn one_user_cannot_use_up_all_tickets_with_however_many_tokens() {
        let (tickets, greedy, other) = (Tickets::default(), UserId(1), UserId(2));
        let token = |n: usize| TokenHash::of(&n.to_string());
        let first = Secret::ticket().unwrap();
        tickets.put(&first, greedy, token(0));
        for n in 0..2 * MAX_TICKETS_PER_USER {
            assert!(tickets.put(&Secret::ticket().unwrap(), greedy, token(n)));
        }
        assert_eq!(tickets.redeem(first.reveal()), None, "the oldest was removed");
        assert_eq!(tickets.0.lock().tickets.len(), MAX_TICKETS_PER_USER);
        assert!(tickets.put(&Secret::ticket().unwrap(), other, token(0)));
    }
}
