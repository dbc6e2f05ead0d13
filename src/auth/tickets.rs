//! Tickets: what a browser page trades its token for, so that no lasting secret stands in a URL. In memory only.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Secret;
use crate::store::TokenHash;

/// How long a ticket is good for.
pub const TICKET_SECONDS: u64 = 30;
/// How many may be open at once.
const MAX_OPEN: usize = 10_000;
/// How many may be open for one token; the oldest makes room.
const MAX_OF_TOKEN: usize = 16;

/// The open tickets.
#[derive(Default)]
pub(super) struct Tickets(Mutex<Open>);

#[derive(Default)]
struct Open {
    /// ticket → the token it stands for, and its end.
    tickets: HashMap<TokenHash, (TokenHash, Instant)>,
    /// token → its tickets, oldest first.
    of_token: HashMap<TokenHash, VecDeque<TokenHash>>,
}

impl Open {
    fn forget_stale(&mut self) {
        let now = Instant::now();
        self.tickets.retain(|_, (_, end)| *end > now);
        let tickets = &self.tickets;
        self.of_token.retain(|_, own| {
            own.retain(|ticket| tickets.contains_key(ticket));
            !own.is_empty()
        });
    }
}

impl Tickets {
    /// Opens a ticket that stands for `token`; `false` when too many are open.
    pub(super) fn put(&self, ticket: &Secret, token: TokenHash) -> bool {
        let mut open = self.0.lock();
        if open.tickets.len() >= MAX_OPEN {
            open.forget_stale();
        }
        let own = open.of_token.entry(token).or_default();
        if own.len() >= MAX_OF_TOKEN
            && let Some(oldest) = own.pop_front()
        {
            open.tickets.remove(&oldest);
        }
        let room = open.tickets.len() < MAX_OPEN;
        if room {
            let end = Instant::now() + Duration::from_secs(TICKET_SECONDS);
            open.tickets.insert(ticket.hash(), (token, end));
            open.of_token.entry(token).or_default().push_back(ticket.hash());
        }
        room
    }

    /// Uses up a ticket; the token it stood for, when it was still good.
    pub(super) fn redeem(&self, ticket: &str) -> Option<TokenHash> {
        let mut open = self.0.lock();
        let found = open.tickets.remove(&TokenHash::of(ticket));
        found.filter(|(_, end)| *end > Instant::now()).map(|(token, _)| token)
    }

    /// Forgets what has run out.
    pub(super) fn sweep(&self) {
        let mut open = self.0.lock();
        open.forget_stale();
        open.tickets.shrink_to_fit();
        open.of_token.shrink_to_fit();
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
            tickets.0.lock().tickets.insert(TokenHash::of(&n.to_string()), stale);
        }
        assert!(tickets.put(&Secret::ticket().unwrap(), token));
        assert_eq!(tickets.0.lock().tickets.len(), 1);
    }

    #[test]
    fn one_token_can_not_take_all_the_room() {
        let (tickets, greedy, other) = (Tickets::default(), TokenHash::of("greedy"), TokenHash::of("other"));
        let first = Secret::ticket().unwrap();
        tickets.put(&first, greedy);
        for _ in 0..MAX_OF_TOKEN {
            assert!(tickets.put(&Secret::ticket().unwrap(), greedy));
        }
        assert_eq!(tickets.redeem(first.reveal()), None, "the oldest made room");
        assert!(tickets.0.lock().tickets.len() <= MAX_OF_TOKEN);
        assert!(tickets.put(&Secret::ticket().unwrap(), other));
    }
}
