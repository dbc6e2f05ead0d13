//! Observations of weather stations, and the catalogues of songs and dances.

use super::records::{Catalog, CatalogEntry, CatalogKey, Observation};
use super::table::WriteSet;
use super::trees::Trees;
use super::{Result, Store};

/// The highest number of observed cities.
pub const MAX_CITIES: usize = 1000;

/// Keeps `seen` where it is the newest observation of `city`; where there are too many cities, the oldest one is removed.
///
/// # Errors
/// If the store fails.
pub fn observe(trees: &Trees, city: &str, seen: &Observation) -> Result<()> {
    match trees.observations.get(city)? {
        Some(kept) if kept.at > seen.at => return Ok(()),
        Some(_) => {}
        None => make_room(trees)?,
    }
    trees.observations.insert(city, seen)
}

/// Removes the oldest observation when there are as many as there may be.
fn make_room(trees: &Trees) -> Result<()> {
    let mut all = Vec::new();
    for entry in trees.observations.tree() {
        let (city, bytes) = entry?;
        all.push((super::trees::decode::<Observation>(&bytes, "observations")?.at, city));
    }
    if all.len() >= MAX_CITIES
        && let Some((_, oldest)) = all.into_iter().min()
    {
        trees.observations.remove_stored(&oldest)?;
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
        let seen = |temp: &str| Observation { temp: temp.into(), text: "晴".into(), icon: "100".into(), at: Timestamp::now() };
        let observe = |city: &str, seen: &Observation| observe(&store.trees, city, seen).unwrap();
        assert_eq!(store.observation("北京").unwrap(), None);
        let (first, second) = (seen("1"), seen("2"));
        observe("北京", &first);
        observe("北京", &second);
        observe("北京", &Observation { at: second.at.minus(std::time::Duration::from_secs(1)), ..seen("0") });
        assert_eq!(store.observation("北京").unwrap(), Some(second));
        for n in 0..MAX_CITIES {
            observe(&n.to_string(), &seen("3"));
        }
        assert_eq!(store.observation("北京").unwrap(), None, "the oldest is removed");
        assert!(store.observation("0").unwrap().is_some());
    }
}
