//! The policy: may an actor send to, read, own or command an object? One table, used by REST, WebSocket and control socket alike.
//!
//! A decision needs the [`Actor`], the [`Action`] and the [`Relation`] between actor and object. The table is pure;
//! [`Requester`] looks the relation up in the store. What an actor may not see does not exist for it
//! ([`Decision::Hide`], 404), so that nobody learns about other users' things by trying ids.

use super::access::Access;
use crate::auth::{Actor, Caller};
use crate::core::ids::{DeviceId, Recipient, UserId};
use crate::store::{Scope, Scopes, Store, StoreError};

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// An action on a kind of object.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action {
            $($(#[$doc])* $name,)*
        }

        impl Action {
            /// All actions.
            pub const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];
        }
    };
}

actions! {
    /// Send a message to a user.
    SendToUser,
    /// Send a message to a device.
    SendToDevice,
    /// Send a message to every user.
    Broadcast,
    /// Read the receipt of a message.
    ReadReceipt,
    /// Take back a message that was not received.
    CancelMessage,
    /// List or forget the clients of a user.
    ManageClients,
    /// Measure or clear a user's mailbox.
    ManageUserQueue,
    /// Measure or clear a device's mailbox.
    ManageDeviceQueue,
    /// Measure or clear all mailboxes.
    ManageAllQueues,
    /// Read, change or delete a device, make it primary, or make a token for it.
    ManageDevice,
    /// Choose the users that a device is bound to.
    AssignDevice,
    /// Act on a user's behalf: list, create or claim its devices, choose its primary one. On `Relation::Everyone`: list all.
    ActForUser,
    /// Have a device perform an answer (a WebSocket message's `target`).
    CommandDevice,
    /// Create, list, change or delete accounts.
    ManageAccounts,
    /// Change the password with the present one.
    ChangePassword,
    /// Elevate one's browser session with the password.
    Elevate,
    /// Create a user token, or a link that logs in as the user.
    CreateToken,
    /// Create a service token.
    CreateServiceToken,
    /// List or revoke tokens.
    ManageTokens,
    /// Revoke the token that the request came with.
    LogOut,
}

/// The relation between an actor and an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// The actor's account, the device or token that it came with, or a message addressed to that account or device.
    Itself,
    /// Of the actor's account: a device bound to it, a token of it, a message sent by it or addressed to one of its devices.
    Own,
    /// Another account's.
    Other,
    /// All users at once: broadcasts, all mailboxes, all devices.
    Everyone,
}

impl Relation {
    /// All relations.
    pub const ALL: [Self; 4] = [Self::Itself, Self::Own, Self::Other, Self::Everyone];
}

/// The answer of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Permitted.
    Allow,
    /// Refused as if the object did not exist.
    Hide,
    /// Refused: this actor never does this.
    Forbid,
    /// Refused until the actor shows a credential.
    Authenticate,
}

/// A refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No credential.
    #[error("authentication required")]
    Unauthenticated,
    /// Not for this actor.
    #[error("not allowed")]
    Forbidden,
    /// Not for this actor, which shall not learn that it exists.
    #[error("no such {0}")]
    Hidden(&'static str),
}

/// The settings that the table depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Users may send to other users (`messages.cross_user`).
    pub cross_user: bool,
}

/// One row: the actors that may use the action at all (others get 403, without a credential 401), then those that may use it by
/// relation, then the refusal.
struct Row {
    callers: Access,
    itself: Access,
    own: Access,
    other: Access,
    everyone: Access,
    refusal: Decision,
}

const fn cells(callers: Access, [itself, own, other, everyone]: [Access; 4], refusal: Decision) -> Row {
    Row { callers, itself, own, other, everyone, refusal }
}

/// Returns the row of `action`. `N`obody, `O`perator, `R`oot (administrators), `W`atchers, `U`sers, `P`rograms, all `T`okens.
const fn row(action: Action, rules: Rules) -> Row {
    use Decision::{Forbid, Hide};
    const N: Access = Access::NOBODY;
    const O: Access = Access::OPERATOR;
    const R: Access = Access::ADMINS;
    const W: Access = Access::WATCHERS;
    const U: Access = Access::USERS;
    const P: Access = Access::PROGRAMS;
    const T: Access = Access::TOKENS;
    let to_others = if rules.cross_user { P } else { W };
    match action {
        //                                callers itself own other everyone refusal
        Action::SendToUser => cells(P, [P, P, to_others, N], Hide),
        Action::SendToDevice => cells(P, [P, P, W, N], Hide),
        Action::Broadcast => cells(W, [N, N, N, W], Forbid),
        Action::ReadReceipt => cells(T, [T, P, R, T], Hide),
        // An ordinary recipient of a broadcast may read its receipt, but not take it back.
        Action::CancelMessage => cells(P, [P, P, R, R], Hide),
        Action::ManageClients => cells(U, [U, U, R, N], Hide),
        Action::ManageUserQueue => cells(U, [U, U, R, N], Hide),
        Action::ManageDeviceQueue => cells(U, [U, U, R, N], Hide),
        Action::ManageAllQueues => cells(R, [N, N, N, R], Forbid),
        Action::ManageDevice => cells(U, [U, U, R, N], Hide),
        Action::AssignDevice => cells(U, [R, R, R, N], Forbid),
        Action::ActForUser => cells(U, [U, U, R, R], Hide),
        // Not even administrators command another user's device.
        Action::CommandDevice => cells(T, [T, P, N, N], Forbid),
        Action::ManageAccounts => cells(R, [R, R, R, R], Forbid),
        Action::ChangePassword => cells(U, [U, N, N, N], Forbid),
        Action::Elevate => cells(U, [U, N, N, N], Forbid),
        Action::CreateToken => cells(U, [U, N, O, N], Hide),
        // It has an administrator's reach.
        Action::CreateServiceToken => cells(U, [R, N, O, N], Forbid),
        Action::ManageTokens => cells(U, [U, U, R, N], Hide),
        Action::LogOut => cells(P, [P, N, N, N], Forbid),
    }
}

/// Decides whether `actor` may use `action` on an object of that `relation`.
pub const fn decide(actor: Actor, action: Action, relation: Relation, rules: Rules) -> Decision {
    let row = row(action, rules);
    if matches!(actor, Actor::Anonymous) {
        return Decision::Authenticate;
    }
    if !row.callers.allows(actor) {
        return Decision::Forbid;
    }
    let allowed = match relation {
        Relation::Itself => row.itself,
        Relation::Own => row.own,
        Relation::Other => row.other,
        Relation::Everyone => row.everyone,
    };
    if allowed.allows(actor) { Decision::Allow } else { row.refusal }
}

/// Returns the [`decision`](decide) as a result; `what` names the object where it is hidden.
///
/// # Errors
/// [`Denied`].
pub fn check(actor: Actor, action: Action, relation: Relation, rules: Rules, what: &'static str) -> Result<(), Denied> {
    let decision = decide(actor, action, relation, rules);
    tracing::debug!(?actor, ?action, ?relation, ?decision, "policy decision");
    match decision {
        Decision::Allow => Ok(()),
        Decision::Hide => Err(Denied::Hidden(what)),
        Decision::Forbid => Err(Denied::Forbidden),
        Decision::Authenticate => Err(Denied::Unauthenticated),
    }
}

/// The subject of decisions: an actor with its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requester {
    /// The account; no account's id for [`Actor::Anonymous`].
    pub user: UserId,
    /// The kind of caller.
    pub actor: Actor,
    /// The device that its token is for.
    pub device: Option<DeviceId>,
    /// Set where its token allows it to send; that of a service needs the scope.
    pub may_send: bool,
}

impl From<&Caller> for Requester {
    fn from(caller: &Caller) -> Self {
        let may_send = caller.token.allows(Scopes::of(Scope::Send));
        Self { user: caller.user.id, actor: caller.actor(), device: caller.token.device_id, may_send }
    }
}

impl Requester {
    /// A request without a credential.
    pub const ANONYMOUS: Self = Self { user: UserId(0), actor: Actor::Anonymous, device: None, may_send: false };

    /// Returns the relation to an account, or to a user's mailbox.
    pub fn to_user(self, user: UserId) -> Relation {
        if user == self.user { Relation::Itself } else { Relation::Other }
    }

    /// Returns the relation to a device, or to its mailbox, as the store has it now.
    ///
    /// # Errors
    /// If the store fails.
    pub fn to_device(self, store: &Store, device: DeviceId) -> Result<Relation, StoreError> {
        Ok(match store.owns(self.user, device)? {
            true if self.device == Some(device) => Relation::Itself,
            true => Relation::Own,
            false => Relation::Other,
        })
    }

    /// Returns the relation to a message from `sender` to `recipient`. A device token sees what is addressed to its device or its
    /// user, and nothing of what its user sends elsewhere.
    ///
    /// # Errors
    /// If the store fails.
    pub fn to_message(self, store: &Store, sender: UserId, recipient: Recipient) -> Result<Relation, StoreError> {
        Ok(match recipient {
            Recipient::All => Relation::Everyone,
            Recipient::User(user) if user == self.user => Relation::Itself,
            Recipient::Device(device) if self.device == Some(device) => Relation::Itself,
            _ if sender == self.user => Relation::Own,
            Recipient::Device(device) if store.owns(self.user, device)? => Relation::Own,
            Recipient::Device(_) | Recipient::User(_) => Relation::Other,
        })
    }
}

/// Returns whether `requester` may have `device` perform something. Asked again before an answer is sent to the device: an
/// upstream takes its time, and the device may have another owner by then.
///
/// # Errors
/// If the store fails.
pub fn may_command(store: &Store, requester: Requester, device: DeviceId) -> Result<bool, StoreError> {
    let relation = requester.to_device(store, device)?;
    let rules = Rules { cross_user: false }; // not about messages
    Ok(check(requester.actor, Action::CommandDevice, relation, rules, "device").is_ok())
}

#[cfg(test)]
mod tests {
    use super::Decision::{Allow as A, Authenticate as L, Forbid as F, Hide as H};
    use super::*;

    const STRICT: Rules = Rules { cross_user: false };
    const OPEN: Rules = Rules { cross_user: true };

    /// The decisions of one action, written out by hand: an actor a row (anonymous, device, service, user, admin, operator), a
    /// relation a column (itself, own, other, everyone).
    type Table = [[Decision; 4]; 6];

    fn expected(action: Action) -> Table {
        match action {
            Action::SendToUser => [[L, L, L, L], [F, F, F, F], [A, A, A, H], [A, A, H, H], [A, A, A, H], [A, A, A, H]],
            Action::SendToDevice => [[L, L, L, L], [F, F, F, F], [A, A, A, H], [A, A, H, H], [A, A, A, H], [A, A, A, H]],
            Action::Broadcast => [[L, L, L, L], [F, F, F, F], [F, F, F, A], [F, F, F, F], [F, F, F, A], [F, F, F, A]],
            Action::ManageAllQueues => [[L, L, L, L], [F, F, F, F], [F, F, F, F], [F, F, F, F], [F, F, F, A], [F, F, F, A]],
            Action::ReadReceipt => [[L, L, L, L], [A, H, H, A], [A, A, H, A], [A, A, H, A], [A, A, A, A], [A, A, A, A]],
            Action::CancelMessage => [[L, L, L, L], [F, F, F, F], [A, A, H, H], [A, A, H, H], [A, A, A, A], [A, A, A, A]],
            Action::ManageUserQueue | Action::ManageDeviceQueue | Action::ManageDevice | Action::ManageClients => {
                [[L, L, L, L], [F, F, F, F], [F, F, F, F], [A, A, H, H], [A, A, A, H], [A, A, A, H]]
            }
            Action::AssignDevice => [[L, L, L, L], [F, F, F, F], [F, F, F, F], [F, F, F, F], [A, A, A, F], [A, A, A, F]],
            Action::ActForUser => [[L, L, L, L], [F, F, F, F], [F, F, F, F], [A, A, H, H], [A, A, A, A], [A, A, A, A]],
            Action::CommandDevice => [[L, L, L, L], [A, F, F, F], [A, A, F, F], [A, A, F, F], [A, A, F, F], [A, A, F, F]],
            Action::ManageAccounts => [[L, L, L, L], [F, F, F, F], [F, F, F, F], [F, F, F, F], [A, A, A, A], [A, A, A, A]],
            Action::ChangePassword | Action::Elevate => {
                [[L, L, L, L], [F, F, F, F], [F, F, F, F], [A, F, F, F], [A, F, F, F], [A, F, F, F]]
            }
            Action::CreateToken => [[L, L, L, L], [F, F, F, F], [F, F, F, F], [A, H, H, H], [A, H, H, H], [A, H, A, H]],
            Action::CreateServiceToken => [[L, L, L, L], [F, F, F, F], [F, F, F, F], [F, F, F, F], [A, F, F, F], [A, F, A, F]],
            Action::ManageTokens => [[L, L, L, L], [F, F, F, F], [F, F, F, F], [A, A, H, H], [A, A, A, H], [A, A, A, H]],
            Action::LogOut => [[L, L, L, L], [F, F, F, F], [A, F, F, F], [A, F, F, F], [A, F, F, F], [A, F, F, F]],
        }
    }

    #[test]
    fn policy_answers_every_actor_action_and_relation_as_written() {
        for action in Action::ALL {
            for (actor, decisions) in Actor::ALL.into_iter().zip(expected(action)) {
                for (relation, decision) in Relation::ALL.into_iter().zip(decisions) {
                    let made = decide(actor, action, relation, STRICT);
                    assert_eq!(made, decision, "{actor:?} {action:?} {relation:?}");
                }
            }
        }
    }

    #[test]
    fn cross_user_changes_sends_of_users_to_other_users_only() {
        for action in Action::ALL {
            for actor in Actor::ALL {
                for relation in Relation::ALL {
                    let (strict, open) = (decide(actor, action, relation, STRICT), decide(actor, action, relation, OPEN));
                    if (actor, action, relation) == (Actor::User, Action::SendToUser, Relation::Other) {
                        assert_eq!((strict, open), (Decision::Hide, Decision::Allow));
                    } else {
                        assert_eq!(strict, open, "{actor:?} {action:?} {relation:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn lists_hold_every_relation_and_actor_once() {
        for (n, relation) in Relation::ALL.into_iter().enumerate() {
            assert_eq!(relation as usize, n, "{relation:?}");
        }
        for (n, actor) in Actor::ALL.into_iter().enumerate() {
            assert_eq!(actor as usize, n, "{actor:?}");
        }
    }

    #[test]
    fn relation_to_a_message_tells_a_device_only_what_is_addressed_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let device = Requester { user: UserId(1), actor: Actor::Device, device: Some(DeviceId(5)), may_send: true };
        let to = |sender, recipient| device.to_message(&store, UserId(sender), recipient).unwrap();
        assert_eq!(to(2, Recipient::Device(DeviceId(5))), Relation::Itself);
        assert_eq!(to(2, Recipient::User(UserId(1))), Relation::Itself);
        assert_eq!(to(2, Recipient::All), Relation::Everyone);
        assert_eq!(to(1, Recipient::User(UserId(2))), Relation::Own);
        assert_eq!(to(1, Recipient::Device(DeviceId(6))), Relation::Own);
        assert_eq!(to(2, Recipient::Device(DeviceId(6))), Relation::Other);
        assert_eq!(to(2, Recipient::User(UserId(2))), Relation::Other);
    }
}
