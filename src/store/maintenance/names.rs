//! Names and texts from before today's rules: they go on working, and are listed.

use serde::Serialize;

use super::check::Findings;
use crate::core::ids::{DeviceId, UserId};
use crate::core::names::{Looks, fold, fold_serial, looks, prepare_username};
use crate::core::text::hidden_character;
use crate::store::records::{Device, Token, User};
use crate::store::table::{Key, Table, Value};
use crate::store::trees::Trees;
use crate::store::{Result, Store, StoreError};
use std::collections::HashMap;

/// The most of them that are listed one by one.
const MAX_LISTED_NAMES: usize = 100;

/// A name or text that today's rules refuse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OldName {
    /// `user`, `device` or `token`.
    pub of: &'static str,
    /// Its id.
    pub id: u64,
    /// The name of the field.
    pub field: &'static str,
    /// The text.
    pub text: String,
    /// The reason it would be refused, for people.
    pub problem: String,
}

/// The names and texts that today's rules refuse. They are no damage.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct OldNames {
    /// Their number.
    pub total: u64,
    /// The first of them, at most 100.
    pub listed: Vec<OldName>,
}

impl OldNames {
    fn add(&mut self, of: &'static str, id: u64, field: &'static str, text: &str, problem: String) {
        self.total += 1;
        if self.listed.len() < MAX_LISTED_NAMES {
            self.listed.push(OldName { of, id, field, text: text.to_owned(), problem });
        }
    }

    fn add_text(&mut self, of: &'static str, id: u64, field: &'static str, text: &str) {
        if let Some(hidden) = hidden_character(text) {
            self.add(of, id, field, text, format!("has a character that can't be seen, U+{:04X}", u32::from(hidden)));
        }
    }
}

/// Calls `each` with every record that can be read.
fn readable<K: Key + ?Sized, V: Value>(table: &Table<K, V>, mut each: impl FnMut(V)) -> Result<()> {
    for record in table.values() {
        match record {
            Ok(record) => each(record),
            Err(StoreError::Damaged { .. }) => {} // a finding of its own
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lists the names of users that are not valid, or that an older user's is like.
fn users(trees: &Trees, found: &mut OldNames) -> Result<()> {
    let (mut names, mut by_look) = (HashMap::<String, UserId>::new(), HashMap::<String, UserId>::new());
    readable(&trees.users, |User { id, username, .. }| {
        if let Err(error) = prepare_username(&username) {
            found.add("user", id.0, "username", &username, format!("a name {error}"));
        }
        let Looks { own, foreign } = looks(&username);
        let same = names.get(&fold(&username)).copied();
        let alike = foreign.iter().find_map(|form| by_look.get(form)).copied();
        match (same, alike) {
            (Some(other), _) => {
                found.add("user", id.0, "username", &username, format!("the name of user {other} in another spelling"));
            }
            (None, Some(other)) => {
                found.add("user", id.0, "username", &username, format!("looks like the name of user {other}"));
            }
            (None, None) => {}
        }
        names.entry(fold(&username)).or_insert(id);
        for form in own {
            by_look.entry(form).or_insert(id);
        }
    })
}

/// Lists the serials that an older device has in another spelling, and texts of devices with hidden characters.
fn devices(trees: &Trees, found: &mut OldNames) -> Result<()> {
    let mut serials = HashMap::<String, DeviceId>::new();
    readable(&trees.devices, |Device { id, name, serial, model, .. }| {
        found.add_text("device", id.0, "name", &name);
        found.add_text("device", id.0, "model", model.as_deref().unwrap_or_default());
        let Some(serial) = serial else { return };
        found.add_text("device", id.0, "serial", &serial);
        match serials.get(&fold_serial(&serial)) {
            Some(other) => {
                found.add("device", id.0, "serial", &serial, format!("the serial of device {other} in another spelling"));
            }
            None => drop(serials.insert(fold_serial(&serial), id)),
        }
    })
}

/// Returns the names and texts that today's rules refuse.
///
/// # Errors
/// If the store can't be read.
pub(super) fn old_names(trees: &Trees) -> Result<OldNames> {
    let mut found = OldNames::default();
    users(trees, &mut found)?;
    devices(trees, &mut found)?;
    readable(&trees.tokens, |Token { id, label, .. }| found.add_text("token", id.0, "label", &label))?;
    Ok(found)
}

impl Findings {
    /// Adds the old names. Trees that can't be read are findings already.
    pub(super) fn with_names(mut self, trees: &Trees) -> Self {
        self.names = old_names(trees).unwrap_or_default();
        self
    }
}

impl Store {
    /// Returns the names and texts that today's rules refuse: those of users that are no longer valid or that can be mistaken for an
    /// older user's, serials that an older device has in another spelling, texts with hidden characters. Reads all accounts: blocks.
    ///
    /// # Errors
    /// If the store fails.
    pub fn old_names(&self) -> Result<OldNames> {
        old_names(&self.trees)
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::check;
    use super::super::check::tests::user;
    use super::*;
    use crate::core::lifetime::Present;
    use crate::core::time::Timestamp;
    use crate::store::Watch;
    use crate::store::accounts::write::{create_device, create_token};
    use crate::store::tests::fresh;
    use crate::store::{NewDevice, NewToken, TokenHash, fold_name};

    /// Puts an account into the store as versions did that compared names as letters without case.
    fn old_user(store: &Store, name: &str) -> u64 {
        let id = user(store, &format!("template{name}", name = store.users(UserId(0)).count()));
        let trees = store.trees();
        let mut user = trees.users.get(&id).unwrap().unwrap();
        trees.user_names.remove(&*fold_name(&user.username)).unwrap();
        user.username = name.into();
        trees.users.insert(&id, &user).unwrap();
        trees.user_names.insert(&*fold_name(name), &id).unwrap();
        id.0
    }

    #[test]
    fn names_and_texts_from_before_are_listed_and_are_no_damage() {
        let (dir, store) = fresh();
        for (n, name) in
            ["admin", "Ana Maria", "admin\u{3164}", "Ren\u{e9}", "Rene\u{301}", "аna maria", "id:1"].iter().enumerate()
        {
            assert_eq!(old_user(&store, name), n as u64 + 1);
        }
        let device = |name: &str, serial: &str| NewDevice {
            name: name.into(),
            serial: Some(serial.into()),
            model: Some("m\u{200b}".into()),
            ..NewDevice::default()
        };
        let (trees, now) = (store.trees(), Timestamp::now());
        create_device(trees, device("la\u{202e}mp", "AA:BB"), UserId(1), 0, now).unwrap();
        let second = create_device(trees, device("❤\u{fe0f}", "x"), UserId(1), 0, now).unwrap();
        let second = Device { serial: Some("aa:bb".into()), ..second };
        trees.devices.insert(&second.id, &second).unwrap();
        trees.serials.remove("x").unwrap();
        trees.serials.insert("aa:bb", &second.id).unwrap();
        let token = NewToken { label: "a\u{feff}".into(), ..NewToken::login(UserId(1), TokenHash::of("t")) };
        create_token(trees, token, 9, &Present::at(now)).unwrap();

        let found = store.check(Watch::NONE).unwrap();
        assert_eq!((found.wrong, found.names.total), (0, 10), "{found:#?}");
        let listed: Vec<_> =
            found.names.listed.iter().map(|name| (name.of, name.id, name.field, name.problem.as_str())).collect();
        let hidden = "has a character that can't be seen, U+";
        let expected = [
            ("user", 3, "username", "a name must have no control"),
            ("user", 3, "username", "the name of user 1 in another spelling"),
            ("user", 5, "username", "the name of user 4 in another spelling"),
            ("user", 6, "username", "looks like the name of user 2"),
            ("user", 7, "username", "a name must not begin with id:"),
            ("device", 1, "name", hidden),
            ("device", 1, "model", hidden),
            ("device", 2, "model", hidden),
            ("device", 2, "serial", "the serial of device 1 in another spelling"),
            ("token", 1, "label", hidden),
        ];
        for (is, wanted) in listed.iter().zip(expected) {
            assert!((is.0, is.1, is.2) == (wanted.0, wanted.1, wanted.2) && is.3.starts_with(wanted.3), "{is:?} {wanted:?}");
        }
        for n in 0..200 {
            old_user(&store, &format!("x{n}\u{ad}"));
        }
        let names = store.old_names().unwrap();
        assert_eq!((names.total, names.listed.len()), (210, MAX_LISTED_NAMES));
        store.close().unwrap();
        drop(store);
        let found = check(&dir.path().join("store"), Watch::NONE).unwrap();
        assert_eq!((found.wrong, found.names), (0, names));
    }
}
