//! Observations of weather stations, and the catalogues of songs and dances.

use serde::{Deserialize, Serialize};

use super::table::{DecodeKey, Key, WriteSet, json_values};
use super::trees::Trees;
use super::{Result, Store};
use crate::core::time::Timestamp;

/// The highest number of observed cities.
pub const MAX_CITIES: usize = 1000;

/// An observation of a weather station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Degrees Celsius, as text.
    pub temp: String,
    /// For people.
    pub text: String,
    /// QWeather's icon number.
    pub icon: String,
    /// The time of the observation.
    pub at: Timestamp,
}

/// A catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Catalog {
    /// Songs.
    Songs,
    /// Dances.
    Dances,
}

impl Key for Catalog {
    type Bytes<'a> = &'static [u8];
    fn encode(&self) -> &'static [u8] {
        match self {
            Self::Songs => b"s",
            Self::Dances => b"d",
        }
    }
}

/// A catalogue and the name of one of its entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogKey(pub Catalog, pub String);

impl Key for CatalogKey {
    type Bytes<'a> = Vec<u8>;
    fn encode(&self) -> Vec<u8> {
        [self.0.encode(), self.1.as_bytes()].concat()
    }
}

impl DecodeKey for CatalogKey {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (letter, name) = bytes.split_first()?;
        let catalog = match letter {
            b's' => Catalog::Songs,
            b'd' => Catalog::Dances,
            _ => return None,
        };
        Some(Self(catalog, String::from_utf8(name.to_vec()).ok()?))
    }
}

/// A song or a dance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogEntry {
    /// Its title.
    pub name: String,
    /// Of a song: the singer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artist: Option<String>,
    /// Of a dance: its style.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style: Option<String>,
}

json_values!(Observation, CatalogEntry);

/// Keeps `seen` where it is the newest observation of `city`; where there are too many cities, the oldest one is removed.
///
/// # Errors
/// When the store fails.
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
        trees.observations.tree().remove(oldest)?;
    }
    Ok(())
}

/// Replaces a catalogue: all of it or nothing.
///
/// # Errors
/// When the store fails.
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
    /// When the store fails.
    pub fn observation(&self, city: &str) -> Result<Option<Observation>> {
        self.trees.observations.get(city)
    }

    /// Returns all entries of a catalogue, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub fn catalog(&self, which: Catalog) -> Result<Vec<CatalogEntry>> {
        self.trees.repertoire.values_of(&which).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
