//! Observations of weather stations, and the catalogues of songs and dances.

use std::collections::{BTreeMap, BTreeSet};

use super::records::{Catalog, CatalogEntry, CatalogKey, Observation};
use super::table::WriteSet;
use super::trees::Trees;
use super::{Result, Store};
use crate::core::ids::UserId;

/// The highest number of observed cities.
pub const MAX_CITIES: usize = 1000;

/// The highest number of cities whose newest observation is of the same reporter.
pub const MAX_CITIES_OF_REPORTER: usize = MAX_CITIES / 10;

/// Keeps `seen` where it is the newest observation of `city`; where there are too many cities of its reporter, or of all, the oldest one
/// is removed: of the reporter, or of the one who has the most.
///
/// # Errors
/// If the store fails.
pub fn observe(trees: &Trees, city: &str, seen: &Observation) -> Result<()> {
    if let Some(kept) = trees.observations.get(city)? {
        if kept.at > seen.at {
            return Ok(());
        }
        if kept.reporter == seen.reporter {
            return trees.observations.insert(city, seen);
        }
    }
    make_room(trees, city, seen.reporter)?;
    trees.observations.insert(city, seen)
}

/// Removes an observation when there is no room for one of `city` by `reporter`.
fn make_room(trees: &Trees, city: &str, reporter: Option<UserId>) -> Result<()> {
    let mut of_reporters: BTreeMap<Option<UserId>, BTreeSet<_>> = BTreeMap::new();
    let mut others = 0;
    for entry in trees.observations.tree() {
        let (name, bytes) = entry?;
        if &*name != city.as_bytes() {
            let Observation { at, reporter, .. } = super::trees::decode(&bytes, "observations")?;
            of_reporters.entry(reporter).or_default().insert((at, name));
            others += 1;
        }
    }
    let own = of_reporters.get(&reporter).filter(|cities| cities.len() >= MAX_CITIES_OF_REPORTER);
    let most = of_reporters.values().max_by_key(|cities| cities.len()).filter(|_| others >= MAX_CITIES);
    if let Some((_, oldest)) = own.or(most).and_then(BTreeSet::first) {
        trees.observations.remove_stored(oldest)?;
    }
    Ok(())
}

/// Replaces a catalogue: all of it or nothing.
///
/// # Errors
/// If the store fails.
pub fn set_catalog(trees: &Trees, which: Catalog, entries: &[CatalogEntry]) -> Result<()> {
    let mut writes = WriteSet::default();
    for key in trees.repertoire.keys_of(&which) {
        writes.remove(&trees.repertoire, &key?);
    }
    for entry in entries {
        writes.put(&trees.repertoire, &CatalogKey(which, entry.name.clone()), entry)?;
    }
    writes.apply()
}

impl Store {
    /// Returns the newest observation of `city`.
    ///
    /// # Errors
    /// If the store fails.
    pub fn observation(&self, city: &str) -> Result<Option<Observation>> {
        self.trees.observations.get(city)
    }

    /// Returns a number that differs from then on when a catalog has been changed.
    pub fn catalog_version(&self) -> u64 {
        self.trees().repertoire.version()
    }

    /// Returns all entries of a catalogue, by name.
    ///
    /// # Errors
    /// If the store fails.
    pub fn catalog(&self, which: Catalog) -> Result<Vec<CatalogEntry>> {
        self.trees.repertoire.values_of(&which).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Timestamp;
    use crate::store::tests::fresh;

    fn entry(name: &str) -> CatalogEntry {
        CatalogEntry { name: name.into(), artist: None, style: None }
    }

    #[test]
    fn set_catalog_replaces_all_of_one_and_nothing_of_the_other() {
        let (_dir, store) = fresh();
        set_catalog(&store.trees, Catalog::Songs, &[entry("b"), entry("a")]).unwrap();
        set_catalog(&store.trees, Catalog::Dances, &[entry("c")]).unwrap();
        assert_eq!(store.catalog(Catalog::Songs).unwrap(), [entry("a"), entry("b")]);
        set_catalog(&store.trees, Catalog::Songs, &[entry("d")]).unwrap();
        assert_eq!(store.catalog(Catalog::Songs).unwrap(), [entry("d")]);
        set_catalog(&store.trees, Catalog::Songs, &[]).unwrap();
        assert_eq!(store.catalog(Catalog::Songs).unwrap(), []);
        assert_eq!(store.catalog(Catalog::Dances).unwrap(), [entry("c")]);
    }

    #[test]
    fn newest_observation_is_kept_and_oldest_city_removed() {
        let (_dir, store) = fresh();
        let seen = |temp: &str| observation(temp, 1);
        let observe = |city: &str, seen: &Observation| observe(&store.trees, city, seen).unwrap();
        assert_eq!(store.observation("北京").unwrap(), None);
        let (first, second) = (seen("1"), seen("2"));
        observe("北京", &first);
        observe("北京", &second);
        observe("北京", &Observation { at: second.at.minus(std::time::Duration::from_secs(1)), ..seen("0") });
        assert_eq!(store.observation("北京").unwrap(), Some(second));
        for n in 0..MAX_CITIES_OF_REPORTER {
            observe(&n.to_string(), &seen("3"));
        }
        assert_eq!(store.observation("北京").unwrap(), None, "the oldest is removed");
        assert!(store.observation("0").unwrap().is_some());
    }

    #[test]
    fn nobody_pushes_out_the_observations_of_others() {
        let (_dir, store) = fresh();
        let keep = |city: String, reporter| observe(&store.trees, &city, &observation("1", reporter)).unwrap();
        let count = || store.trees.observations.tree().iter().count();
        keep("home".into(), 1);
        (0..2 * MAX_CITIES_OF_REPORTER).for_each(|n| keep(format!("a{n}"), 2));
        assert!(store.observation("home").unwrap().is_some());
        assert_eq!(count(), 1 + MAX_CITIES_OF_REPORTER);
        for reporter in 3..15 {
            (0..MAX_CITIES_OF_REPORTER).for_each(|n| keep(format!("b{reporter}.{n}"), reporter));
        }
        assert_eq!(count(), MAX_CITIES);
        assert!(store.observation("home").unwrap().is_some(), "those who have most make room");
        keep("home".into(), 14);
        assert_eq!(store.observation("home").unwrap().unwrap().reporter, Some(UserId(14)));
        assert!(count() <= MAX_CITIES);
    }

    fn observation(temp: &str, reporter: u64) -> Observation {
        let (text, icon, at, reporter) = ("晴".into(), "100".into(), Timestamp::now(), Some(UserId(reporter)));
        Observation { temp: temp.into(), text, icon, at, reporter }
    }
}
