//! Operations on accounts, tokens and devices.
//!
//! Each makes its whole change: an account or a device that is deleted or handed over takes its mailbox with it. Those after
//! which connections may have lost their right tell the machine whose: see [`Touched`](super::machine::Touched).

use serde::{Deserialize, Serialize};

use super::clock::{self, Moment};
use super::log::remove_mailbox;
use super::machine::{Machine, Operation};
use crate::core::client::ClientName;
use crate::core::ids::{DeviceId, Recipient, TokenId, UserId};
use crate::core::time::Timestamp;
use crate::store::accounts::write;
use crate::store::{
    Authority, Device, DeviceChange, NewDevice, NewToken, NewUser, Result, StoreError, Token, TokenHash, User, UserChange,
};

/// Removes the mailbox of `device` if the device is gone.
fn remove_mailbox_of_deleted(machine: &mut Machine<'_>, device: DeviceId, moment: Moment) -> Result<()> {
    if machine.trees.devices.contains(&device)? { Ok(()) } else { remove_mailbox(machine, Recipient::Device(device), moment) }
}

/// Removes the places that `device`, which has been taken from `users`, has in their messages.
fn forget_device_readers(machine: &mut Machine<'_>, device: DeviceId, users: &[UserId], moment: Moment) -> Result<()> {
    for &user in users {
        let effects = machine.memory().index.forget_reader(user, &ClientName::of_device(device), moment.service);
        if let Some(effects) = effects {
            machine.follow(&effects, moment)?;
        }
    }
    Ok(())
}

/// Adds an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateUser {
    /// The account.
    pub new: NewUser,
    /// The right that it is made with.
    pub authority: Authority,
}

impl Operation for CreateUser {
    type Output = User;
    /// [`StoreError::Taken`], [`StoreError::Alike`], [`StoreError::Revoked`].
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<User> {
        self.authority.check(machine.trees, None)?;
        let joined = machine.memory().newest;
        let user = write::create_user(machine.trees, self.new, moment.wall, joined)?;
        machine.memory().index.add_user(user.id, user.joined);
        Ok(user)
    }
}

/// Changes an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeUser {
    /// The account.
    pub id: UserId,
    /// The change.
    pub change: UserChange,
    /// The right that it is made with.
    pub authority: Authority,
}

impl Operation for ChangeUser {
    /// The account as it is now.
    type Output = User;
    /// [`StoreError::Missing`], [`StoreError::LastAdmin`], [`StoreError::Revoked`].
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<User> {
        self.authority.check(machine.trees, Some(self.id))?;
        let user = write::change_user(machine.trees, self.id, self.change)?;
        machine.touch(self.id);
        Ok(user)
    }
}

/// Replaces the hash of a password by another one of the same password, which ends no log-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehash {
    /// The account.
    pub id: UserId,
    /// The hash that the password was compared with.
    pub from: String,
    /// The hash that replaces it.
    pub to: String,
}

impl Operation for Rehash {
    /// `false` where the account has another hash by now, or is gone.
    type Output = bool;
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<bool> {
        write::replace_hash(machine.trees, self.id, &self.from, self.to)
    }
}

/// Deletes an account with its tokens, bindings and mailbox; devices that nobody else has are deleted with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteUser {
    /// The account.
    pub id: UserId,
}

impl Operation for DeleteUser {
    type Output = ();
    /// [`StoreError::Missing`], [`StoreError::LastAdmin`].
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<()> {
        let devices = write::delete_user(machine.trees, self.id)?;
        remove_mailbox(machine, Recipient::User(self.id), moment)?;
        for device in devices {
            remove_mailbox_of_deleted(machine, device, moment)?;
        }
        machine.touch(self.id);
        Ok(())
    }
}

/// Adds a token where its user has fewer than `limit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateToken {
    /// The token.
    pub new: NewToken,
    /// The most tokens that a user may have.
    pub limit: usize,
}

impl Operation for CreateToken {
    /// The token, and the one that was deleted for it.
    type Output = (Token, Option<TokenId>);
    /// [`StoreError::Full`], [`StoreError::Missing`] user or device, [`StoreError::Revoked`].
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<(Token, Option<TokenId>)> {
        let user = self.new.user_id;
        if !machine.trees.users.contains(&user)? {
            return Err(StoreError::Missing("user"));
        }
        self.new.because.check(machine.trees, Some(user))?;
        let made = write::create_token(machine.trees, self.new, self.limit, &moment.present(machine.trees)?)?;
        if made.1.is_some() {
            machine.touch(user);
        }
        // No token is younger than what is saved: the next stop counts for all of them.
        clock::save(machine.trees, moment, None)?;
        Ok(made)
    }
}

/// Deletes a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteToken {
    /// Its user.
    pub user: UserId,
    /// The token.
    pub id: TokenId,
}

impl Operation for DeleteToken {
    type Output = ();
    /// [`StoreError::Missing`] when the user has no such token.
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<()> {
        write::delete_token(machine.trees, self.user, self.id)?;
        machine.touch(self.user);
        Ok(())
    }
}

/// Adds a device, bound to a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateDevice {
    /// The device.
    pub new: NewDevice,
    /// Its user.
    pub user: UserId,
    /// The most devices that a user may have; 0: any number.
    pub limit: usize,
}

impl Operation for CreateDevice {
    type Output = Device;
    /// [`StoreError::Missing`] user, [`StoreError::Taken`] serial, [`StoreError::Full`].
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<Device> {
        write::create_device(machine.trees, self.new, self.user, self.limit, moment.wall)
    }
}

/// Changes a device. One that none of its users keeps is handed over: its mailbox, the earlier users' messages, is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeDevice {
    /// The device.
    pub id: DeviceId,
    /// The change.
    pub change: DeviceChange,
}

impl Operation for ChangeDevice {
    /// The device as it is now.
    type Output = Device;
    /// [`StoreError::Missing`] device or user, [`StoreError::Taken`] serial.
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<Device> {
        change_device(machine, self.id, self.change, moment)
    }
}

/// Changes a device.
pub(super) fn change_device(machine: &mut Machine<'_>, id: DeviceId, change: DeviceChange, moment: Moment) -> Result<Device> {
    let trees = machine.trees;
    let hand_over = || {
        let newest = machine.memory().newest;
        remove_mailbox(machine, Recipient::Device(id), moment).map(|()| newest)
    };
    let (device, taken_from) = write::change_device(trees, id, change, hand_over)?;
    forget_device_readers(machine, id, &taken_from, moment)?;
    machine.take(id, taken_from);
    Ok(device)
}

/// Makes a device the primary device of a user, or no longer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPrimary {
    /// The user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// Make it the primary one.
    pub primary: bool,
}

impl Operation for SetPrimary {
    type Output = ();
    /// [`StoreError::Missing`] when the device is not bound to the user.
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<()> {
        write::set_primary(machine.trees, self.user, self.device, self.primary)
    }
}

/// Takes a device from a user; without further users it is deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnbindDevice {
    /// The user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
}

impl Operation for UnbindDevice {
    type Output = ();
    /// [`StoreError::Missing`] when the device is not bound to the user.
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<()> {
        write::unbind_device(machine.trees, self.user, self.device)?;
        remove_mailbox_of_deleted(machine, self.device, moment)?;
        forget_device_readers(machine, self.device, &[self.user], moment)?;
        machine.take(self.device, [self.user]);
        Ok(())
    }
}

/// Deletes a device with its bindings, tokens and mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteDevice {
    /// The device.
    pub id: DeviceId,
}

impl Operation for DeleteDevice {
    type Output = ();
    /// [`StoreError::Missing`].
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<()> {
        let users = write::delete_device(machine.trees, self.id)?;
        remove_mailbox(machine, Recipient::Device(self.id), moment)?;
        forget_device_readers(machine, self.id, &users, moment)?;
        machine.take(self.id, users);
        Ok(())
    }
}

/// Writes the times at which tokens were last used and devices last connected. Those deleted meanwhile are skipped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Tokens and times.
    pub tokens: Vec<(TokenHash, Timestamp)>,
    /// Devices and times.
    pub devices: Vec<(DeviceId, Timestamp)>,
}

impl Operation for Seen {
    type Output = ();
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<()> {
        write::note_seen(machine.trees, &self.tokens, &self.devices)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::super::load::load;
    use super::*;
    use crate::change::machine::Touched;
    use crate::change::testing::World;
    use crate::config::{HistoryConfig, MailboxConfig};
    use crate::core::ids::MessageId;
    use crate::store::{Role, TokenKind, fold_name};

    const NOW: Moment = Moment::test(Timestamp::EPOCH, 1);

    impl World {
        fn user(&self, name: &str, role: Role) -> Result<User> {
            let new = NewUser { username: name.into(), role, password_hash: "x".into() };
            self.run(CreateUser { new, authority: Authority::System })
        }

        fn change(&self, id: UserId, change: UserChange) -> Result<User> {
            self.run(ChangeUser { id, change, authority: Authority::System })
        }

        fn device(&self, user: UserId, serial: Option<&str>, primary: bool, limit: usize) -> Result<Device> {
            let new = NewDevice { name: "d".into(), serial: serial.map(Into::into), model: None, primary, max_bytes: None };
            self.run(CreateDevice { new, user, limit })
        }

        fn token(&self, new: NewToken, limit: usize) -> Result<(Token, Option<TokenId>)> {
            self.run(CreateToken { new, limit })
        }
    }

    #[test]
    fn names_are_unique_without_case_and_free_again_after_deletion() {
        let world = World::new();
        assert!(world.store.is_new().unwrap());
        let (root, ana) = (world.user("root", Role::Admin).unwrap(), world.user("Ana", Role::User).unwrap());
        assert_eq!((root.id, ana.id), (UserId(1), UserId(2)));
        assert!(matches!(world.user("aNA", Role::User), Err(StoreError::Taken("username"))));
        assert_eq!(world.store.user_by_name("ANA").unwrap().unwrap(), ana);
        world.run(DeleteUser { id: ana.id }).unwrap();
        assert_eq!(world.store.user_by_name("ana").unwrap(), None);
        assert_eq!(world.user("ana", Role::User).unwrap().id, UserId(3), "ids are not used again");
        assert!(matches!(world.run(DeleteUser { id: ana.id }), Err(StoreError::Missing("user"))));
    }

    /// Puts an account into the store as versions did that compared names as letters without case.
    fn old_account(world: &World, id: u64, name: &str) -> User {
        let template = world.store.users(UserId(0)).next().unwrap().unwrap();
        let user = User { id: UserId(id), username: name.into(), ..template };
        world.store.trees().users.insert(&user.id, &user).unwrap();
        world.store.trees().user_names.insert(&*fold_name(name), &user.id).unwrap();
        world.store.trees().name_forms.replace(None, Some(&user));
        user
    }

    #[test]
    fn names_that_are_taken_in_another_spelling_or_look_alike_are_refused() {
        let world = World::new();
        world.user("admin", Role::Admin).unwrap();
        world.user("Ren\u{e9}", Role::User).unwrap();
        for taken in ["ADMIN", "admin\u{3164}", "\u{ff41}dmin", "Rene\u{301}", "console"] {
            assert!(matches!(world.user(taken, Role::User), Err(StoreError::Taken("username"))), "{taken:?}");
            assert!(matches!(world.store.username_is_free(taken), Err(StoreError::Taken(_))), "{taken:?}");
        }
        for alike in ["аdmin", "admın", "АDМІN", "Rеné", "сonsole"] {
            assert!(matches!(world.user(alike, Role::User), Err(StoreError::Alike("username"))), "{alike:?}");
        }
        let free = world.user("adm1n", Role::User).unwrap();
        assert!(matches!(world.user("АDМІN", Role::User), Err(StoreError::Alike(_))), "still, with the forms kept by the writer");
        world.run(DeleteUser { id: free.id }).unwrap();
        world.user("adm1n", Role::User).unwrap();
    }

    #[test]
    fn names_from_before_are_found_as_they_are_written_first() {
        let world = World::new();
        world.user("admin", Role::Admin).unwrap();
        let old = [(5, "Rene\u{301}"), (6, "Ren\u{e9}"), (7, "admin\u{3164}"), (8, "a\u{ff42}c"), (9, "id:1")];
        let old = old.map(|(id, name)| old_account(&world, id, name));
        for user in &old {
            assert_eq!(world.store.user_by_name(&user.username).unwrap().as_ref(), Some(user), "{:?}", user.username);
        }
        let found = |name: &str| world.store.user_by_name(name).unwrap().map(|user| user.id.0);
        assert_eq!((found("ABC"), found("\u{ff41}bc"), found("ADMIN")), (Some(8), Some(8), Some(1)));
        assert_eq!(found("\u{ff32}en\u{e9}"), None, "two have that name, and neither as it is written here");
        assert_eq!(found("admin\u{200b}"), None);
        assert!(matches!(world.user("abc", Role::User), Err(StoreError::Taken(_))));
        world.run(DeleteUser { id: UserId(5) }).unwrap();
        assert_eq!(found("\u{ff32}en\u{e9}"), Some(6));
    }

    #[test]
    fn serials_are_compared_by_their_form_and_old_ones_stay() {
        let world = World::new();
        let user = world.user("ana", Role::Admin).unwrap().id;
        let first = world.device(user, Some("AA:BB"), false, 0).unwrap();
        for same in ["AA:BB", "aa:bb", "aa-bb", "AABB"] {
            assert!(matches!(world.device(user, Some(same), false, 0), Err(StoreError::Taken("serial"))), "{same}");
            assert_eq!(world.store.devices_by_serial(same).unwrap(), std::slice::from_ref(&first), "{same}");
        }
        // One from before, in another spelling.
        let old = Device { id: DeviceId(9), serial: Some("aa:bb".into()), ..first.clone() };
        world.store.trees().devices.insert(&old.id, &old).unwrap();
        world.store.trees().serials.insert("aa:bb", &old.id).unwrap();
        world.store.trees().serial_forms.replace(None, Some(&old));
        let ids = |serial: &str| world.store.devices_by_serial(serial).unwrap().iter().map(|d| d.id.0).collect::<Vec<_>>();
        assert_eq!((ids("AA:BB"), ids("aa:bb"), ids("AA-BB")), (vec![1, 9], vec![9, 1], vec![1, 9]));
        let change = |serial: Option<&str>, name: &str| {
            let change =
                DeviceChange { serial: Some(serial.map(Into::into)), name: Some(name.into()), ..DeviceChange::default() };
            world.run(ChangeDevice { id: old.id, change })
        };
        assert_eq!(change(Some("aa:bb"), "kept").unwrap().name, "kept");
        assert!(matches!(change(Some("AA-BB"), "x"), Err(StoreError::Taken("serial"))));
        change(Some("other"), "x").unwrap();
        assert_eq!((ids("aa:bb"), ids("OTHER")), (vec![1], vec![9]));
        change(None, "x").unwrap();
        assert!(ids("other").is_empty());
        world.run(DeleteDevice { id: first.id }).unwrap();
        assert!(ids("aa:bb").is_empty());
    }

    #[test]
    fn last_administrator_is_kept() {
        let world = World::new();
        let root = world.user("root", Role::Admin).unwrap().id;
        let demote = UserChange { role: Some(Role::User), ..UserChange::default() };
        let disable = UserChange { disabled: Some(true), ..UserChange::default() };
        assert!(matches!(world.change(root, demote.clone()), Err(StoreError::LastAdmin)));
        assert!(matches!(world.change(root, disable.clone()), Err(StoreError::LastAdmin)));
        assert!(matches!(world.run(DeleteUser { id: root }), Err(StoreError::LastAdmin)));
        let second = world.user("second", Role::Admin).unwrap().id;
        world.change(root, disable).unwrap();
        assert!(matches!(world.change(second, demote), Err(StoreError::LastAdmin)), "a disabled one does not count");
    }

    #[test]
    fn pages_cover_the_whole_list() {
        let world = World::new();
        for n in 0..5 {
            world.user(&format!("u{n}"), Role::User).unwrap();
        }
        let ids = |after| world.store.users(UserId(after)).map(|user| user.unwrap().id.0).collect::<Vec<_>>();
        assert_eq!((ids(0), ids(2), ids(5)), (vec![1, 2, 3, 4, 5], vec![3, 4, 5], vec![]));
        assert!(ids(u64::MAX).is_empty());
        for n in 0..3 {
            world.device(UserId(1), Some(&format!("a{n}")), false, 0).unwrap();
            world.device(UserId(2), Some(&format!("b{n}")), false, 0).unwrap();
            world.token(NewToken::login(UserId(1), TokenHash::of(&n.to_string())), 10).unwrap();
        }
        let devices = |after| world.store.devices(DeviceId(after)).map(|device| device.unwrap().id.0).collect::<Vec<_>>();
        assert_eq!((devices(0), devices(4), devices(u64::MAX)), (vec![1, 2, 3, 4, 5, 6], vec![5, 6], vec![]));
        for (user, all) in [(1, [1, 3, 5]), (2, [2, 4, 6])] {
            let found = |after| {
                let devices = world.store.devices_of(UserId(user), DeviceId(after)).map(|device| device.unwrap().id);
                let ids = world.store.bound_devices(UserId(user), DeviceId(after)).map(Result::unwrap);
                let devices: Vec<_> = devices.collect();
                assert_eq!(ids.collect::<Vec<_>>(), devices);
                devices.iter().map(|id| id.0).collect::<Vec<_>>()
            };
            assert_eq!((found(0), found(all[0]), found(all[1])), (all.to_vec(), all[1..].to_vec(), all[2..].to_vec()));
            assert_eq!((found(all[2]), found(u64::MAX)), (vec![], vec![]));
        }
        let tokens = |after| world.store.tokens(UserId(1), TokenId(after)).map(|token| token.unwrap().id.0).collect::<Vec<_>>();
        assert_eq!((tokens(0), tokens(1), tokens(u64::MAX)), (vec![1, 2, 3], vec![2, 3], vec![]));
    }

    #[test]
    fn new_password_deletes_log_ins_but_not_device_tokens() {
        let world = World::new();
        let user = world.user("u", Role::User).unwrap().id;
        let device = world.device(user, None, false, 9).unwrap().id;
        let (login, bound) = (TokenHash::of("a"), TokenHash::of("b"));
        world.token(NewToken::login(user, login), 9).unwrap();
        let of_device = NewToken { device_id: Some(device), kind: TokenKind::Device, ..NewToken::login(user, bound) };
        world.token(of_device, 9).unwrap();
        world.change(user, UserChange { password_hash: Some("y".into()), ..UserChange::default() }).unwrap();
        assert_eq!(world.store.token(&login).unwrap(), None);
        assert!(world.store.token(&bound).unwrap().is_some());
        assert_eq!(world.store.user(user).unwrap().unwrap().password_hash, "y");
    }

    #[test]
    fn one_primary_device_a_user_and_serials_are_unique() {
        let world = World::new();
        let ana = world.user("ana", Role::User).unwrap().id;
        let first = world.device(ana, Some("s1"), true, 0).unwrap().id;
        let second = world.device(ana, None, true, 0).unwrap().id;
        assert_eq!(world.store.primary_device(ana).unwrap(), Some(second));
        assert!(matches!(world.device(ana, Some("s1"), false, 0), Err(StoreError::Taken("serial"))));
        assert!(matches!(world.device(ana, None, false, 2), Err(StoreError::Full("devices"))));
        let rename = DeviceChange { serial: Some(Some("s2".into())), ..DeviceChange::default() };
        world.run(ChangeDevice { id: first, change: rename }).unwrap();
        world.device(ana, Some("s1"), false, 0).unwrap();
        world.run(SetPrimary { user: ana, device: second, primary: false }).unwrap();
        assert_eq!(world.store.primary_device(ana).unwrap(), None);
        assert_eq!(world.store.devices_of(ana, DeviceId(1)).count(), 2);
    }

    #[test]
    fn shared_device_is_deleted_with_its_last_user() {
        let world = World::new();
        let (ana, bob) = (world.user("ana", Role::User).unwrap().id, world.user("bob", Role::User).unwrap().id);
        let device = world.device(ana, Some("s"), true, 0).unwrap().id;
        let both = DeviceChange { users: Some(vec![ana, bob]), ..DeviceChange::default() };
        world.run(ChangeDevice { id: device, change: both }).unwrap();
        assert!(world.touched().is_empty());
        assert_eq!(world.store.device_users(device).unwrap(), [ana, bob]);
        let hash = TokenHash::of("t");
        let token = NewToken { device_id: Some(device), kind: TokenKind::Device, ..NewToken::login(ana, hash) };
        world.token(token, 9).unwrap();
        world.run(UnbindDevice { user: ana, device }).unwrap();
        assert_eq!(world.touched(), Touched { devices_taken: vec![(ana, device)], ..Touched::default() });
        assert_eq!(world.store.token(&hash).unwrap(), None, "the token that ana gave it is deleted");
        assert_eq!(world.store.primary_device(ana).unwrap(), None);
        assert!(!world.store.owns(ana, device).unwrap() && world.store.owns(bob, device).unwrap());
        world.run(DeleteUser { id: bob }).unwrap();
        assert_eq!(world.store.device(device).unwrap(), None);
        world.device(ana, Some("s"), false, 0).unwrap();
    }

    #[test]
    fn handed_over_device_is_emptied_before_its_new_user_sees_it() {
        let world = World::new();
        let (ana, bob) = (world.user("ana", Role::User).unwrap().id, world.user("bob", Role::User).unwrap().id);
        let new = NewDevice { name: "lamp".into(), serial: None, model: None, primary: false, max_bytes: None };
        let lamp = world.run(CreateDevice { new, user: ana, limit: 0 }).unwrap().id;
        let trees = world.store.trees();
        let to = |users: Vec<UserId>| DeviceChange { users: Some(users), ..DeviceChange::default() };
        let bound = |user: UserId| trees.user_devices.contains(&(user, lamp)).unwrap();
        let mut calls = 0;
        let refused = write::change_device(trees, lamp, to(vec![bob, UserId(99)]), || panic!("it is not handed over"));
        assert!(matches!(refused, Err(StoreError::Missing("user"))) && !bound(bob), "all of it or nothing");
        write::change_device(trees, lamp, to(vec![ana, bob]), || panic!("ana keeps it")).unwrap();
        write::change_device(trees, lamp, to(vec![ana]), || panic!("ana keeps it")).unwrap();
        let hand_over = || {
            calls += 1;
            assert!(bound(ana) && !bound(bob));
            Ok(MessageId(7))
        };
        let (device, _) = write::change_device(trees, lamp, to(vec![bob]), hand_over).unwrap();
        assert_eq!(device.emptied, Some(MessageId(7)));
        assert!(calls == 1 && bound(bob) && !bound(ana));
    }

    #[test]
    fn hand_over_that_a_crash_cut_off_hands_over_no_messages() {
        let mut world = World::new();
        let (ana, bob) = (world.user("ana", Role::User).unwrap().id, world.user("bob", Role::User).unwrap().id);
        let lamp = world.device(ana, None, false, 0).unwrap().id;
        let append = |recipient| {
            let object = crate::wire::JsonObject::new(&serde_json::json!({})).unwrap();
            world.run(super::super::Append { recipient, sender: ana, object, ttl: 60, key: None, privileged: false }).unwrap().id
        };
        append(Recipient::Device(lamp));
        append(Recipient::User(ana));
        // The first write of the commit, without what is staged.
        let (trees, newest) = (world.store.trees(), world.state.memory.lock().newest);
        let to_bob = DeviceChange { users: Some(vec![bob]), ..DeviceChange::default() };
        write::change_device(trees, lamp, to_bob, || Ok(newest)).unwrap();
        let settings = Settings { mailbox: MailboxConfig::default(), history: HistoryConfig::default() };
        for _ in 0..2 {
            let state = load(trees, settings.clone(), NOW).unwrap();
            let memory = state.memory.lock();
            assert!(!memory.index.contains(Recipient::Device(lamp), MessageId(1)), "ana's message");
            assert!(memory.index.contains(Recipient::User(ana), MessageId(2)));
            assert_eq!(memory.index.place_of(Recipient::Device(lamp)).map(|place| place.front), Some(newest));
        }
        // What comes after it is kept, whatever happens to the place.
        world.state = load(trees, settings.clone(), NOW).unwrap();
        let object = crate::wire::JsonObject::new(&serde_json::json!({})).unwrap();
        let to_lamp = super::super::Append {
            recipient: Recipient::Device(lamp),
            sender: bob,
            object,
            ttl: 60,
            key: None,
            privileged: false,
        };
        let id = world.run(to_lamp).unwrap().id;
        world.store.trees().places.remove(&Recipient::Device(lamp)).unwrap();
        let state = load(world.store.trees(), settings, NOW).unwrap();
        assert!(state.memory.lock().index.contains(Recipient::Device(lamp), id));
    }

    #[test]
    fn mailboxes_leave_with_their_owners_and_handed_over_devices() {
        let world = World::new();
        let (ana, bob) = (world.user("ana", Role::User).unwrap().id, world.user("bob", Role::User).unwrap().id);
        let (lamp, toy) = (world.device(ana, None, false, 0).unwrap().id, world.device(ana, None, false, 0).unwrap().id);
        let append = |recipient| {
            let object = crate::wire::JsonObject::new(&serde_json::json!({})).unwrap();
            let key = None;
            world.run(super::super::Append { recipient, sender: ana, object, ttl: 60, key, privileged: false }).unwrap().id
        };
        let waiting = || world.store.log().heads().flat_map(|block| block.unwrap().1).map(|head| head.id).collect::<Vec<_>>();
        for recipient in [Recipient::User(ana), Recipient::Device(lamp), Recipient::Device(toy)] {
            append(recipient);
        }
        let shared = DeviceChange { users: Some(vec![ana, bob]), ..DeviceChange::default() };
        world.run(ChangeDevice { id: lamp, change: shared }).unwrap();
        assert_eq!(waiting().len(), 3, "a device that is shared keeps its messages");
        let handed_over = DeviceChange { users: Some(vec![bob]), ..DeviceChange::default() };
        world.run(ChangeDevice { id: lamp, change: handed_over.clone() }).unwrap();
        assert_eq!(waiting().len(), 3, "bob had it already");
        world.run(ChangeDevice { id: toy, change: handed_over }).unwrap();
        assert_eq!(waiting(), [MessageId(1), MessageId(2)], "the earlier user's messages are not for the new one");
        world.run(DeleteDevice { id: lamp }).unwrap();
        world.run(DeleteUser { id: ana }).unwrap();
        assert_eq!(waiting(), []);
        assert_eq!(append(Recipient::User(bob)), MessageId(4), "ids are not given again");
    }

    #[test]
    fn token_is_found_by_hash_and_listed_by_owner_until_deleted() {
        let world = World::new();
        let user = world.user("u", Role::User).unwrap().id;
        let hash = TokenHash::of("secret");
        let (token, retired) = world.token(NewToken::login(user, hash), 10).unwrap();
        assert_eq!(retired, None);
        assert_eq!(*world.store.token(&hash).unwrap().unwrap(), token);
        assert_eq!(world.store.token(&TokenHash::of("Secret")).unwrap(), None);
        assert_eq!(world.store.tokens(user, TokenId(0)).map(Result::unwrap).collect::<Vec<_>>(), std::slice::from_ref(&token));
        let foreign = DeleteToken { user: UserId(9), id: token.id };
        assert!(matches!(world.run(foreign), Err(StoreError::Missing("token"))));
        world.run(DeleteToken { user, id: token.id }).unwrap();
        assert_eq!(world.store.token(&hash).unwrap(), None);
        assert_eq!(world.store.tokens(user, TokenId(0)).count(), 0);
    }

    #[test]
    fn log_in_replaces_the_token_unused_for_longest_and_others_are_refused() {
        let world = World::new();
        let user = world.user("u", Role::User).unwrap().id;
        let hashes = ["a", "b"].map(TokenHash::of);
        let ids = hashes.map(|hash| world.token(NewToken::login(user, hash), 2).unwrap().0.id);
        world.run(Seen { tokens: vec![(hashes[0], NOW.wall.plus_seconds(60))], devices: vec![] }).unwrap();
        let explicit = NewToken { make_room: false, ..NewToken::login(user, TokenHash::of("c")) };
        assert!(matches!(world.token(explicit, 2), Err(StoreError::Full("tokens"))));
        let (_, retired) = world.token(NewToken::login(user, TokenHash::of("d")), 2).unwrap();
        assert_eq!(retired, Some(ids[1]));
        assert_eq!(world.store.tokens(user, TokenId(0)).count(), 2);
    }

    #[test]
    fn service_tokens_do_not_keep_their_user_from_logging_in() {
        let world = World::new();
        let user = world.user("u", Role::User).unwrap().id;
        let service = NewToken { kind: TokenKind::Service, make_room: false, ..NewToken::login(user, TokenHash::of("s")) };
        world.token(service, 1).unwrap();
        let (first, retired) = world.token(NewToken::login(user, TokenHash::of("a")), 1).unwrap();
        assert_eq!(retired, None);
        let (_, retired) = world.token(NewToken::login(user, TokenHash::of("b")), 1).unwrap();
        assert_eq!(retired, Some(first.id));
    }

    #[test]
    fn token_for_a_deleted_user_is_refused() {
        let world = World::new();
        let orphan = NewToken::login(UserId(77), TokenHash::of("x"));
        assert!(matches!(world.token(orphan, 5), Err(StoreError::Missing("user"))));
    }

    #[test]
    fn revoked_authority_is_refused_inside_the_write() {
        let world = World::new();
        let (root, ana) = (world.user("root", Role::Admin).unwrap().id, world.user("ana", Role::Admin).unwrap().id);
        let hash = TokenHash::of("t");
        let (token, _) = world.token(NewToken::login(ana, hash), 9).unwrap();
        let rename = |authority| world.run(ChangeUser { id: root, change: UserChange::default(), authority });
        for authority in [Authority::Token(hash), Authority::Admin(hash), Authority::Password("x".into())] {
            rename(authority).unwrap();
        }
        assert!(matches!(rename(Authority::Password("y".into())), Err(StoreError::Revoked)));
        world.change(ana, UserChange { role: Some(Role::User), ..UserChange::default() }).unwrap();
        assert!(matches!(rename(Authority::Admin(hash)), Err(StoreError::Revoked)), "no administrator any more");
        rename(Authority::Token(hash)).unwrap();
        world.run(DeleteToken { user: ana, id: token.id }).unwrap();
        assert!(matches!(rename(Authority::Token(hash)), Err(StoreError::Revoked)), "no token any more");
    }
}
