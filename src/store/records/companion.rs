//! Records of weather observations and catalogues.

use serde::{Deserialize, Serialize};

use crate::core::ids::UserId;
use crate::core::time::Timestamp;
use crate::store::table::{DecodeKey, Key, json_values};

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
    /// The user that reported it; `None` for those of version 0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reporter: Option<UserId>,
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
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
