//! Secrets that are good once: tickets, which stand for a browser page's token, and links, which log a browser in.
//!
//! # Invariants
//! - A secret is kept as its hash, and is good once: of several that show it, one is given what it stands for.
//! - The number of tickets is bounded, also for each user, and that of links; the oldest gives way.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::machine::{Machine, Operation};
use crate::core::ids::UserId;
use crate::store::{Grant, Pass, Result, StoreError, TokenHash, Trees};

/// The lifetime of a ticket, in seconds.
pub const TICKET_SECONDS: u64 = 30;
/// The lifetime of a link, in seconds.
pub const LINK_SECONDS: u64 = 600;
/// The largest number of open tickets.
const MAX_TICKETS: usize = 10_000;
/// The largest number of open tickets of one user; beyond it the oldest is removed. Not of one token: users make tokens.
const MAX_TICKETS_PER_USER: usize = 64;
/// The largest number of open links; beyond it the oldest is removed.
const MAX_LINKS: usize = 32;
/// The most that one operation removes because their time is over.
const MAX_EXPIRED: usize = 1000;

/// The open passes.
#[derive(Debug, Default)]
pub struct Passes {
    open: HashMap<TokenHash, Pass>,
    /// All of them, oldest first.
    numbers: BTreeMap<u64, TokenHash>,
    /// The tickets of each user, oldest first.
    tickets: BTreeSet<(UserId, u64)>,
}

impl Passes {
    /// Reads those in the store.
    ///
    /// # Errors
    /// If the store fails.
    pub fn load(trees: &Trees) -> Result<Self> {
        let mut passes = Self::default();
        for entry in trees.passes.iter() {
            let (secret, pass) = entry?;
            passes.insert(secret, pass);
        }
        Ok(passes)
    }

    /// Adds a pass, or replaces that of the same secret.
    fn insert(&mut self, secret: TokenHash, pass: Pass) {
        self.remove(&secret);
        self.numbers.insert(pass.number, secret);
        if matches!(pass.grant, Grant::Token(_)) {
            self.tickets.insert((pass.user, pass.number));
        }
        self.open.insert(secret, pass);
    }

    fn remove(&mut self, secret: &TokenHash) -> Option<Pass> {
        let pass = self.open.remove(secret)?;
        self.numbers.remove(&pass.number);
        self.tickets.remove(&(pass.user, pass.number));
        Some(pass)
    }

    /// Returns the token that a ticket stands for at `now`, by the clock of credentials.
    pub fn ticket(&self, secret: &TokenHash, now: u64) -> Option<TokenHash> {
        match self.open.get(secret)? {
            Pass { grant: Grant::Token(token), until, .. } if *until > now => Some(*token),
            _ => None,
        }
    }

    /// Returns up to `most` of those whose time is over.
    fn expired(&self, now: u64, most: usize) -> Vec<TokenHash> {
        // All tickets live equally long, so that the oldest end first; links, which live longer, are few.
        let passes = self.numbers.values().filter_map(|secret| Some((secret, self.open.get(secret)?)));
        let over = passes.take_while(|(_, pass)| pass.until <= now || matches!(pass.grant, Grant::LogIn { .. }));
        over.filter(|(_, pass)| pass.until <= now).take(most).map(|(secret, _)| *secret).collect()
    }

    /// Returns the one that has to go for another one of that kind, if any; `None` where there is no room at all.
    fn excess(&self, user: UserId, grant: &Grant) -> Option<Option<TokenHash>> {
        let links = || self.numbers.iter().filter(|(_, secret)| !self.is_ticket(secret));
        match grant {
            Grant::LogIn { .. } if self.open.len() - self.tickets.len() >= MAX_LINKS => {
                Some(links().next().map(|(_, link)| *link))
            }
            Grant::LogIn { .. } => Some(None),
            Grant::Token(_) => {
                let mut own = self.tickets.range((user, 0)..=(user, u64::MAX));
                let oldest = own.next().and_then(|(_, number)| self.numbers.get(number).copied());
                if own.count() + 1 >= MAX_TICKETS_PER_USER {
                    Some(oldest)
                } else if self.tickets.len() >= MAX_TICKETS {
                    None
                } else {
                    Some(None)
                }
            }
        }
    }

    fn is_ticket(&self, secret: &TokenHash) -> bool {
        self.open.get(secret).is_some_and(|pass| matches!(pass.grant, Grant::Token(_)))
    }

    /// Returns the number of the next one: a function of what is there.
    fn next(&self) -> u64 {
        self.numbers.last_key_value().map_or(1, |(last, _)| last + 1)
    }
}

/// Removes a pass; returns it.
fn remove(machine: &Machine<'_>, secret: &TokenHash) -> Result<Option<Pass>> {
    let pass = machine.memory().passes.remove(secret);
    if pass.is_some() {
        machine.trees.passes.remove(secret)?;
    }
    Ok(pass)
}

/// Removes passes whose time is over: a bounded number of them.
pub(super) fn expire(machine: &Machine<'_>, moment: Moment) -> Result<()> {
    let over = machine.memory().passes.expired(moment.clock.lived, MAX_EXPIRED);
    over.iter().try_for_each(|secret| remove(machine, secret).map(drop))
}

/// Adds a secret that is good once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenPass {
    /// The hash of the secret.
    pub secret: TokenHash,
    /// The user who acts by it.
    pub user: UserId,
    /// What it is good for.
    pub grant: Grant,
}

impl Operation for OpenPass {
    /// `false` where too many are open.
    type Output = bool;
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<bool> {
        let Self { secret, user, grant } = self;
        let seconds = if matches!(grant, Grant::Token(_)) { TICKET_SECONDS } else { LINK_SECONDS };
        expire(machine, moment)?;
        let Some(excess) = machine.memory().passes.excess(user, &grant) else { return Ok(false) };
        if let Some(oldest) = excess {
            remove(machine, &oldest)?;
        }
        let number = machine.memory().passes.next();
        let pass = Pass { number, user, grant, until: moment.clock.lived.saturating_add(seconds * 1000) };
        machine.trees.passes.insert(&secret, &pass)?;
        machine.memory().passes.insert(secret, pass);
        Ok(true)
    }
}

/// Uses up a secret that is good once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedeemPass {
    /// The hash of the secret.
    pub secret: TokenHash,
}

impl Operation for RedeemPass {
    /// What it stood for, unless it was used up before or its time is over.
    type Output = Option<Pass>;
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<Option<Pass>> {
        Ok(remove(machine, &self.secret)?.filter(|pass| pass.until > moment.clock.lived))
    }
}

/// Removes all secrets that are good once. One machine does so when it starts: that one was used up may not have reached the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetPasses {}

impl Operation for ForgetPasses {
    type Output = ();
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<()> {
        let all: Vec<TokenHash> = machine.memory().passes.numbers.values().copied().collect();
        all.iter().try_for_each(|secret| remove(machine, secret).map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::testing::World;

    fn secret(n: usize) -> TokenHash {
        TokenHash::of(&n.to_string())
    }

    /// Opens ticket number `n` of a user; returns whether there was room.
    fn open(world: &World, n: usize, user: u64) -> bool {
        let grant = Grant::Token(secret(user as usize));
        world.run(OpenPass { secret: secret(n), user: UserId(user), grant }).unwrap()
    }

    fn link(world: &World, n: usize) {
        let grant = Grant::LogIn { password_hash: format!("hash {n}") };
        assert!(world.run(OpenPass { secret: secret(n), user: UserId(1), grant }).unwrap());
    }

    fn redeem(world: &World, n: usize) -> Option<Grant> {
        world.run(RedeemPass { secret: secret(n) }).unwrap().map(|pass| pass.grant)
    }

    #[test]
    fn pass_is_redeemed_once_and_before_its_end() {
        let mut world = World::new();
        assert!(open(&world, 1, 7));
        link(&world, 2);
        let ticket = |world: &World, n: usize| world.memory().passes.ticket(&secret(n), world.now().clock.lived);
        assert_eq!((ticket(&world, 1), ticket(&world, 2), ticket(&world, 3)), (Some(secret(7)), None, None));
        assert_eq!(redeem(&world, 3), None);
        assert_eq!(redeem(&world, 1), Some(Grant::Token(secret(7))));
        assert_eq!((redeem(&world, 1), ticket(&world, 1)), (None, None));
        assert!(open(&world, 4, 7) && open(&world, 5, 7));
        world.pass(TICKET_SECONDS);
        assert_eq!((ticket(&world, 4), redeem(&world, 4)), (None, None));
        assert_eq!(redeem(&world, 2), Some(Grant::LogIn { password_hash: "hash 2".into() }), "a link lives for longer");
        link(&world, 6);
        assert_eq!(world.memory().passes.open.len(), 1, "the expired ticket has made room");
        world.pass(LINK_SECONDS);
        assert_eq!(redeem(&world, 6), None);
        assert!(world.store.trees().passes.is_empty().unwrap());
    }

    #[test]
    fn passes_are_there_after_a_restart_until_they_are_forgotten() {
        let world = World::new();
        open(&world, 1, 7);
        link(&world, 2);
        let world = world.restart();
        assert_eq!(redeem(&world, 2), Some(Grant::LogIn { password_hash: "hash 2".into() }));
        world.run(ForgetPasses {}).unwrap();
        assert_eq!(redeem(&world, 1), None);
        let world = world.restart();
        assert_eq!(world.memory().passes.open.len(), 0);
    }

    #[test]
    fn one_user_cannot_use_up_all_tickets() {
        let world = World::new();
        for n in 0..2 * MAX_TICKETS_PER_USER {
            assert!(open(&world, n, 1));
        }
        assert_eq!(world.memory().passes.tickets.len(), MAX_TICKETS_PER_USER);
        assert_eq!(redeem(&world, MAX_TICKETS_PER_USER - 1), None, "the oldest were removed");
        assert!(redeem(&world, MAX_TICKETS_PER_USER).is_some());
    }

    #[test]
    fn open_tickets_are_bounded_and_expired_ones_make_room() {
        let mut world = World::new();
        for n in 0..MAX_TICKETS {
            assert!(open(&world, n, 1 + (n / MAX_TICKETS_PER_USER) as u64));
        }
        assert!(!open(&world, MAX_TICKETS, 100_000));
        link(&world, MAX_TICKETS + 1);
        world.pass(TICKET_SECONDS);
        assert!(open(&world, MAX_TICKETS, 100_000));
        assert_eq!(world.memory().passes.tickets.len(), MAX_TICKETS - MAX_EXPIRED + 1, "a bounded number at once");
    }

    #[test]
    fn open_links_are_bounded_and_the_oldest_gives_way() {
        let world = World::new();
        open(&world, 1000, 1);
        (0..=MAX_LINKS).for_each(|n| link(&world, n));
        assert_eq!(redeem(&world, 0), None);
        assert!((1..=MAX_LINKS).chain([1000]).all(|n| redeem(&world, n).is_some()));
    }
}
