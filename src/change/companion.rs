//! Operations on weather observations and catalogues.

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::machine::{Machine, Operation};
use crate::store::companion::{observe, set_catalog};
use crate::store::{Catalog, CatalogEntry, Observation, Result, StoreError};

/// Keeps the newest observation of a city.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observe {
    /// The city's canonical name.
    pub city: String,
    /// The observation.
    pub observation: Observation,
}

impl Operation for Observe {
    type Output = ();
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<()> {
        observe(machine.trees, &self.city, &self.observation)
    }
}

/// Replaces a catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetCatalog {
    /// The catalogue.
    pub catalog: Catalog,
    /// All of its entries.
    pub entries: Vec<CatalogEntry>,
}

impl Operation for SetCatalog {
    type Output = ();
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<()> {
        set_catalog(machine.trees, self.catalog, &self.entries)
    }
}
