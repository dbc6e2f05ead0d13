//! One-time links: codes that log a browser in without a password, made by the owner of the data directory. In memory only.
//!
//! # Invariants
//! - A code is good once, for [`LINK_SECONDS`], and no longer than its user's password stays the same.
//! - Kept are hashes of codes. All of them are compared, each in constant time.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use subtle::{Choice, ConstantTimeEq};

use super::Secret;
use crate::core::boot::BootInstant;
use crate::core::ids::UserId;
use crate::store::{TokenHash, User};

/// The lifetime of a link, in seconds.
pub const LINK_SECONDS: u64 = 600;
/// The largest number of open links; beyond it the oldest is removed.
const MAX_LINKS: usize = 32;

/// The user that a code stands for, as it was when the link was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Linked {
    /// The account.
    pub(super) user: UserId,
    /// The stored form of its password.
    pub(super) password_hash: String,
}

/// An open link.
struct Link {
    code: TokenHash,
    linked: Linked,
    end: BootInstant,
}

/// The open links, oldest first.
#[derive(Default)]
pub(super) struct Links(Mutex<VecDeque<Link>>);

impl Links {
    /// Adds a link that stands for `user`.
    pub(super) fn put(&self, code: &Secret, user: &User) {
        let linked = Linked { user: user.id, password_hash: user.password_hash.clone() };
        let mut open = self.0.lock();
        if open.len() >= MAX_LINKS {
            open.pop_front();
        }
        open.push_back(Link { code: code.hash(), linked, end: BootInstant::now() + Duration::from_secs(LINK_SECONDS) });
    }

    /// Uses up the link with that code; returns what it stood for, unless it had expired.
    pub(super) fn redeem(&self, code: &str) -> Option<Linked> {
        let given = TokenHash::of(code).bytes();
        let mut open = self.0.lock();
        let fits: Vec<Choice> = open.iter().map(|link| link.code.bytes().ct_eq(&given)).collect();
        let place = fits.iter().position(|fits| bool::from(*fits))?;
        open.remove(place).filter(|link| link.end > BootInstant::now()).map(|link| link.linked)
    }

    /// Removes expired links.
    pub(super) fn sweep(&self) {
        let now = BootInstant::now();
        self.0.lock().retain(|link| link.end > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Caller;

    fn user(id: u64) -> User {
        User { id: UserId(id), password_hash: format!("hash {id}"), ..User::clone(&Caller::operator().user) }
    }

    fn put(links: &Links, id: u64) -> Secret {
        let code = Secret::link().unwrap();
        links.put(&code, &user(id));
        code
    }

    #[test]
    fn link_is_redeemed_once_and_for_its_user() {
        let links = Links::default();
        let codes = [put(&links, 1), put(&links, 2)];
        links.sweep();
        for wrong in
            ["", "qll_", "qll_00000000000000000000000000000000", &codes[0].reveal()[..35], &codes[0].reveal().to_uppercase()]
        {
            assert_eq!(links.redeem(wrong), None, "{wrong}");
        }
        let linked = |id| Some(Linked { user: UserId(id), password_hash: format!("hash {id}") });
        assert_eq!(links.redeem(codes[1].reveal()), linked(2));
        assert_eq!(links.redeem(codes[1].reveal()), None);
        assert_eq!(links.redeem(codes[0].reveal()), linked(1));
        assert!(links.0.lock().is_empty());
    }

    #[test]
    fn expired_link_is_not_redeemed_and_swept() {
        let links = Links::default();
        let code = put(&links, 1);
        for link in links.0.lock().iter_mut() {
            link.end = BootInstant::now();
        }
        assert_eq!(links.redeem(code.reveal()), None);
        put(&links, 1);
        links.0.lock()[0].end = BootInstant::now();
        links.sweep();
        assert!(links.0.lock().is_empty());
    }

    #[test]
    fn open_links_are_bounded_and_the_oldest_gives_way() {
        let links = Links::default();
        let codes: Vec<Secret> = (0..=MAX_LINKS as u64).map(|id| put(&links, id)).collect();
        assert_eq!(links.0.lock().len(), MAX_LINKS);
        assert_eq!(links.redeem(codes[0].reveal()), None);
        assert!(codes[1..].iter().all(|code| links.redeem(code.reveal()).is_some()));
    }
}
