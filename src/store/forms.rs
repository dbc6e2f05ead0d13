//! The forms in which names and serials are compared, found in memory: the trees on disk list them as they are written.
//!
//! The forms are a function of the records. They are read when they are first needed, and kept from then on by the writer thread, which
//! is the only one that changes names and serials.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use parking_lot::Mutex;

use super::records::{Device, User};
use super::table::{Key, Table, Value};
use super::{Result, StoreError};
use crate::core::ids::{DeviceId, UserId};
use crate::core::names::{Looks, fold, fold_serial, looks};

/// A record that is found by the forms of a text in it.
pub trait Formed: Value {
    /// The key of its table.
    type Id: Key;

    /// Returns the key with that number.
    fn id(number: u64) -> Self::Id;

    /// Returns the number of its key.
    fn number(&self) -> u64;

    /// Returns the forms that it is found by.
    fn forms(&self) -> Vec<String>;
}

/// The form that the name of a user is found by at a log-in. The forms of its looks begin with a digit.
pub fn login_form(username: &str) -> String {
    format!("={}", fold(username))
}

impl Formed for User {
    type Id = UserId;

    fn id(number: u64) -> UserId {
        UserId(number)
    }

    fn number(&self) -> u64 {
        self.id.0
    }

    fn forms(&self) -> Vec<String> {
        let Looks { own, .. } = looks(&self.username);
        own.into_iter().chain([login_form(&self.username)]).collect()
    }
}

impl Formed for Device {
    type Id = DeviceId;

    fn id(number: u64) -> DeviceId {
        DeviceId(number)
    }

    fn number(&self) -> u64 {
        self.id.0
    }

    fn forms(&self) -> Vec<String> {
        self.serial.iter().map(|serial| fold_serial(serial)).collect()
    }
}

/// The records of one table by the hashes of their forms: 16 bytes for each form, whatever its length.
#[derive(Debug, Default)]
pub struct Forms(Mutex<Option<BTreeSet<(u64, u64)>>>);

/// The hash of a form, the same in every process.
fn hash(form: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    form.hash(&mut hasher);
    hasher.finish()
}

/// Returns the entries of a record.
fn entries<R: Formed>(record: &R) -> impl Iterator<Item = (u64, u64)> {
    let number = record.number();
    record.forms().into_iter().map(move |form| (hash(&form), number))
}

impl Forms {
    /// Returns the records of `table` that have one of the forms, in the order of their ids.
    ///
    /// # Errors
    /// If the store fails.
    pub fn find<R: Formed>(&self, table: &Table<R::Id, R>, wanted: &[String]) -> Result<Vec<R>> {
        let mut numbers = BTreeSet::new();
        {
            // Held while the records are read, so that none is missed that is written meanwhile.
            let mut known = self.0.lock();
            let known = match &mut *known {
                Some(known) => known,
                none => none.insert(read(table)?),
            };
            for form in wanted {
                let hash = hash(form);
                numbers.extend(known.range((hash, 0)..=(hash, u64::MAX)).map(|&(_, number)| number));
            }
        }
        let mut found = Vec::new();
        for number in numbers {
            // It may have been deleted meanwhile, and another form may have the same hash.
            let record = table.get(&R::id(number))?;
            found.extend(record.filter(|record| record.forms().iter().any(|form| wanted.contains(form))));
        }
        Ok(found)
    }

    /// Replaces the forms of a record that has been written: `before` is what it was, `after` what it is now. For the writer thread.
    pub fn replace<R: Formed>(&self, before: Option<&R>, after: Option<&R>) {
        if let Some(known) = &mut *self.0.lock() {
            for entry in before.into_iter().flat_map(entries) {
                known.remove(&entry);
            }
            known.extend(after.into_iter().flat_map(entries));
        }
    }
}

/// Reads the forms of all records. One that is damaged has none: it is left out by everything else, too.
fn read<R: Formed>(table: &Table<R::Id, R>) -> Result<BTreeSet<(u64, u64)>> {
    let mut known = BTreeSet::new();
    for record in table.values() {
        match record {
            Ok(record) => known.extend(entries(&record)),
            Err(StoreError::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(known)
}
