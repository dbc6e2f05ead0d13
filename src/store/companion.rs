//! What the companion knows: observations of weather stations, and the songs and dances that the devices know.

use serde::{Deserialize, Serialize};
use sled::{Batch, Tree};

use super::catalogue::{decode, encode};
use super::{Result, Store};
use crate::core::time::Timestamp;

/// How many cities may be observed.
const MOST_CITIES: usize = 1000;

/// What a weather station has said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Degrees Celsius, as text.
    pub temp: String,
    /// For people.
    pub text: String,
    /// QWeather's icon number.
    pub icon: String,
    /// When it was so.
    pub at: Timestamp,
}

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Catalog {
    /// Songs.
    Songs,
    /// Dances.
    Dances,
}

impl Catalog {
    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Songs => b"s",
            Self::Dances => b"d",
        }
    }
}

/// A song or a dance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogEntry {
    /// Its title.
    pub name: String,
    /// Of a song: who sings it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artist: Option<String>,
    /// Of a dance: its style.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub style: Option<String>,
}

/// Lets go of the oldest observation when there are as many as there may be.
fn make_room(tree: &Tree) -> Result<()> {
    let mut all = Vec::new();
    for entry in tree.iter() {
        let (city, bytes) = entry?;
        all.push((decode::<Observation>(&bytes, "observations")?.at, city));
    }
    if all.len() >= MOST_CITIES
        && let Some((_, oldest)) = all.into_iter().min()
    {
        tree.remove(oldest)?;
    }
    Ok(())
}

impl Store {
    /// What was last observed in `city`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn observation(&self, city: &str) -> Result<Option<Observation>> {
        self.trees.observations.get(city)?.map(|bytes| decode(&bytes, "observations")).transpose()
    }

    /// Keeps the newest observation of `city`; where there are too many cities, the oldest one makes room.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn observe(&self, city: String, seen: Observation) -> Result<()> {
        self.write(move |trees| {
            let tree = &trees.observations;
            match tree.get(&city)?.map(|bytes| decode::<Observation>(&bytes, "observations")).transpose()? {
                Some(kept) if kept.at > seen.at => return Ok(()),
                Some(_) => {}
                None => make_room(tree)?,
            }
            tree.insert(&city, encode(&seen)?)?;
            Ok(())
        })
        .await
    }

    /// All pieces of a repertoire, by name.
    ///
    /// # Errors
    /// When the store fails.
    pub fn catalog(&self, which: Catalog) -> Result<Vec<CatalogEntry>> {
        let records = self.trees.repertoire.scan_prefix(which.prefix()).values();
        records.map(|bytes| decode(&bytes?, "repertoire")).collect()
    }

    /// Replaces a repertoire.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn set_catalog(&self, which: Catalog, pieces: Vec<CatalogEntry>) -> Result<()> {
        self.write(move |trees| {
            let mut batch = Batch::default();
            for key in trees.repertoire.scan_prefix(which.prefix()).keys() {
                batch.remove(key?);
            }
            for piece in &pieces {
                batch.insert([which.prefix(), piece.name.as_bytes()].concat(), encode(piece)?);
            }
            trees.repertoire.apply_batch(batch)?; // all of it or nothing
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fresh;
    use super::*;

    fn piece(name: &str) -> CatalogEntry {
        CatalogEntry { name: name.into(), artist: None, style: None }
    }

    #[tokio::test]
    async fn a_repertoire_is_replaced_whole_and_apart_from_the_other() {
        let (_dir, store) = fresh();
        store.set_catalog(Catalog::Songs, vec![piece("b"), piece("a")]).await.unwrap();
        store.set_catalog(Catalog::Dances, vec![piece("c")]).await.unwrap();
        assert_eq!(store.catalog(Catalog::Songs).unwrap(), [piece("a"), piece("b")]);
        store.set_catalog(Catalog::Songs, vec![piece("d")]).await.unwrap();
        assert_eq!(store.catalog(Catalog::Songs).unwrap(), [piece("d")]);
        store.set_catalog(Catalog::Songs, vec![]).await.unwrap();
        assert_eq!(store.catalog(Catalog::Songs).unwrap(), []);
        assert_eq!(store.catalog(Catalog::Dances).unwrap(), [piece("c")]);
    }

    #[tokio::test]
    async fn the_newest_observation_counts() {
        let (_dir, store) = fresh();
        let seen = |temp: &str| Observation { temp: temp.into(), text: "晴".into(), icon: "100".into(), at: Timestamp::now() };
        assert_eq!(store.observation("北京").unwrap(), None);
        let (first, second) = (seen("1"), seen("2"));
        store.observe("北京".into(), first).await.unwrap();
        store.observe("北京".into(), second.clone()).await.unwrap();
        store
            .observe("北京".into(), Observation { at: second.at.minus(std::time::Duration::from_secs(1)), ..seen("0") })
            .await
            .unwrap();
        assert_eq!(store.observation("北京").unwrap(), Some(second));
        for n in 0..MOST_CITIES {
            store.observe(n.to_string(), seen("3")).await.unwrap();
        }
        assert_eq!(store.observation("北京").unwrap(), None, "the oldest made room");
        assert!(store.observation("0").unwrap().is_some());
    }
}
