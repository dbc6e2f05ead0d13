//! What simulations of clusters compare nodes with: one machine, which makes the same operations.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::arbitrary::{self, beginning, moment};
use super::clock::Moment;
use super::load::load;
use super::machine::{Machine, State};
use super::stage::Due;
use super::{Change, CreateUser, Settings};
use crate::data_dir::STORE_DIRECTORY;
use crate::store::{Authority, MetaKey, NewUser, Role, Store, Trees};

/// All records that nodes have in common, by tree and key.
pub type Dump = BTreeMap<(usize, Vec<u8>), Vec<u8>>;

/// The limits at first.
pub fn settings() -> Settings {
    arbitrary::settings(6, 3, 100)
}

/// Any operation but those that a start makes.
pub fn change() -> impl Strategy<Value = Change> {
    arbitrary::change().prop_filter("made by starts", |change| !matches!(change, Change::ForgetPasses(_)))
}

/// A new account.
pub fn new_user(name: &str) -> Change {
    let new = NewUser { username: name.into(), role: Role::User, password_hash: "p0".into() };
    Change::CreateUser(CreateUser { new, authority: Authority::System })
}

/// Makes a store in the data directory `data`, with the records that most operations need.
pub fn begin(data: &Path) {
    let store = Store::open(&data.join(STORE_DIRECTORY)).unwrap();
    let mut machine = OneMachine::new(&store, settings());
    for change in beginning() {
        machine.apply(store.trees(), change, moment(0));
    }
    machine.write(store.trees());
    store.close().unwrap();
}

/// One machine on a store.
pub struct OneMachine(State);

impl OneMachine {
    /// One with these limits.
    pub fn new(store: &Store, settings: Settings) -> Self {
        Self(load(store.trees(), settings, moment(0)).unwrap())
    }

    /// Makes a change, and returns its result as text.
    pub fn apply(&mut self, trees: &Trees, change: Change, at: Moment) -> String {
        change.apply(&mut Machine::new(trees, &self.0), at)
    }

    /// Writes what operations have left to be written.
    pub fn write(&self, trees: &Trees) {
        self.0.write(trees, Due::Now).unwrap();
    }

    /// The limits in force.
    pub fn settings(&self) -> Settings {
        self.0.settings()
    }
}

/// Returns the records that nodes have in common.
pub fn dump(store: &Store) -> Dump {
    let mut dump = Dump::new();
    for (n, (tree, name)) in store.trees().all().into_iter().zip(Trees::NAMES).enumerate() {
        if ["audit", "samples", "online", "cluster"].contains(name) {
            continue;
        }
        for entry in tree {
            let (key, value) = entry.unwrap();
            if *name != "meta" || *key != *MetaKey::Proofs.name().as_bytes() {
                dump.insert((n, key.to_vec()), value.to_vec());
            }
        }
    }
    dump
}
