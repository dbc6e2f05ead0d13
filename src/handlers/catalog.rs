//! The songs and dances that the devices know. An empty catalog accepts every name, as in the guide.

use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard};

use crate::change::{Changes, SetCatalog};
use crate::core::names::fold;
use crate::store::{Catalog, CatalogEntry, Result, Store};
use crate::wire::{ErrorCode, Event};

/// The minimum similarity, 0 to 1, of a name that is suggested.
const MIN_SIMILARITY: f64 = 0.4;
/// The maximum number of suggestions.
const MAX_SUGGESTIONS: usize = 3;
/// The maximum length of a name that is compared by edit distance, whose cost grows with the square of the length.
const MAX_COMPARED_CHARS: usize = 40;
/// The maximum length of the name that an error repeats.
const MAX_REPEATED_CHARS: usize = 100;

/// The entries of a catalog, and their names in the form that is compared.
#[derive(Default)]
struct Entries {
    /// The version of the catalogs in the store that these were read from.
    version: u64,
    entries: Arc<Vec<CatalogEntry>>,
    folded_names: Vec<String>,
}

impl Entries {
    /// Reads a catalog.
    fn load(store: &Store, which: Catalog) -> Result<Self> {
        // First the version: what is changed meanwhile is read again.
        let (version, entries) = (store.catalog_version(), store.catalog(which)?);
        let folded_names = entries.iter().map(|entry| fold(&entry.name)).collect();
        Ok(Self { version, entries: Arc::new(entries), folded_names })
    }
}

/// The catalogs of songs and dances, cached in memory until they are changed, also by another node.
pub struct Catalogs {
    store: Store,
    changes: Changes,
    songs: RwLock<Entries>,
    dances: RwLock<Entries>,
}

impl Catalogs {
    /// Loads the catalogs from the store.
    ///
    /// # Errors
    /// A failure of the store.
    pub(super) fn open(store: Store, changes: Changes) -> Result<Self> {
        let (songs, dances) = (Entries::load(&store, Catalog::Songs)?, Entries::load(&store, Catalog::Dances)?);
        Ok(Self { store, changes, songs: RwLock::new(songs), dances: RwLock::new(dances) })
    }

    /// Returns a catalog as it is in the store.
    fn entries(&self, which: Catalog) -> RwLockReadGuard<'_, Entries> {
        let cached = match which {
            Catalog::Songs => &self.songs,
            Catalog::Dances => &self.dances,
        };
        if cached.read().version != self.store.catalog_version() {
            match Entries::load(&self.store, which) {
                Ok(entries) => *cached.write() = entries,
                Err(error) => tracing::error!(%error, "a catalog can't be read; the former one stays in use"),
            }
        }
        cached.read()
    }

    /// Returns all entries of a catalog, ordered by name.
    pub fn get(&self, which: Catalog) -> Arc<Vec<CatalogEntry>> {
        self.entries(which).entries.clone()
    }

    /// Replaces a catalog.
    ///
    /// # Errors
    /// A failure of the store.
    pub async fn set(&self, which: Catalog, entries: Vec<CatalogEntry>) -> Result<()> {
        self.changes.run(SetCatalog { catalog: which, entries }).await
    }

    /// Returns an error, with similar names, if the catalog does not contain `name`. An empty name is valid: it leaves the choice
    /// to the device.
    pub(super) fn unknown_name_error(&self, which: Catalog, name: &str) -> Option<Event> {
        let catalog = self.entries(which);
        let wanted = fold(name.trim());
        if catalog.folded_names.is_empty() || wanted.is_empty() || catalog.folded_names.contains(&wanted) {
            return None;
        }
        let short = wanted.chars().count() <= MAX_COMPARED_CHARS;
        let similarity = |known: &String| match known.contains(&wanted) || wanted.contains(known.as_str()) {
            true => 1.0,
            false if short && known.chars().count() <= MAX_COMPARED_CHARS => {
                strsim::normalized_damerau_levenshtein(known, &wanted)
            }
            false => 0.0,
        };
        let names = catalog.entries.iter().map(|entry| entry.name.as_str());
        let known = catalog.folded_names.iter().map(similarity).zip(names);
        let mut similar: Vec<(f64, &str)> = known.filter(|(similarity, _)| *similarity >= MIN_SIMILARITY).collect();
        similar.sort_by(|a, b| b.0.total_cmp(&a.0));
        let suggestions: Vec<&str> = similar.iter().take(MAX_SUGGESTIONS).map(|(_, name)| *name).collect();
        let name: String = name.chars().take(MAX_REPEATED_CHARS).collect();
        let what = match which {
            Catalog::Songs => "song",
            Catalog::Dances => "dance",
        };
        let hint = if suggestions.is_empty() { String::new() } else { format!("; did you mean {}?", suggestions.join(", ")) };
        let message = format!("Message validation error: message.{what}: no device knows the {what} \"{name}\"{hint}");
        Some(Event::Error { message, code: ErrorCode::ValidationError })
    }
}
