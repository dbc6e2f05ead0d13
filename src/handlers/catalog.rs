//! The songs and dances that the devices know: with an empty list everything is accepted, as in the guide.

use std::sync::Arc;

use parking_lot::RwLock;

use tokio::sync::Mutex;

use crate::store::{Catalog, CatalogEntry, Result, Store, fold_name};
use crate::wire::{ErrorCode, Event};

/// How alike a name must be to be proposed, 0 to 1, and how many are.
const ALIKE: f64 = 0.4;
const PROPOSED: usize = 3;
/// The longest name that is compared letter by letter: the work grows with the square.
const COMPARED_CHARS: usize = 40;
/// The longest name that an error repeats.
const REPEATED_CHARS: usize = 100;

/// A list, and its names as they are compared.
#[derive(Default)]
struct List {
    pieces: Arc<Vec<CatalogEntry>>,
    folded: Vec<String>,
}

impl From<Vec<CatalogEntry>> for List {
    fn from(pieces: Vec<CatalogEntry>) -> Self {
        let folded = pieces.iter().map(|piece| fold_name(&piece.name)).collect();
        Self { pieces: Arc::new(pieces), folded }
    }
}

/// The lists, in memory for the look-up.
pub struct Catalogs {
    store: Store,
    songs: RwLock<List>,
    dances: RwLock<List>,
    /// One change at a time: what is in memory is what is on disk.
    changing: Mutex<()>,
}

impl Catalogs {
    /// Reads them.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn open(store: Store) -> Result<Self> {
        let (songs, dances) = (store.catalog(Catalog::Songs)?, store.catalog(Catalog::Dances)?);
        Ok(Self { store, songs: RwLock::new(songs.into()), dances: RwLock::new(dances.into()), changing: Mutex::default() })
    }

    fn list(&self, which: Catalog) -> &RwLock<List> {
        match which {
            Catalog::Songs => &self.songs,
            Catalog::Dances => &self.dances,
        }
    }

    /// All of a list, by name.
    pub fn get(&self, which: Catalog) -> Arc<Vec<CatalogEntry>> {
        self.list(which).read().pieces.clone()
    }

    /// Replaces a list.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn set(&self, which: Catalog, pieces: Vec<CatalogEntry>) -> Result<()> {
        let _one = self.changing.lock().await;
        self.store.set_catalog(which, pieces).await?;
        let kept = self.store.catalog(which)?;
        *self.list(which).write() = kept.into();
        Ok(())
    }

    /// The error for a `name` that the list does not hold, with those that are like it. An empty name leaves the choice to the
    /// device.
    pub(super) fn refusal(&self, which: Catalog, name: &str) -> Option<Event> {
        let list = self.list(which).read();
        let wanted = fold_name(name.trim());
        if list.folded.is_empty() || wanted.is_empty() || list.folded.contains(&wanted) {
            return None;
        }
        let short = wanted.chars().count() <= COMPARED_CHARS;
        let likeness = |known: &String| match known.contains(&wanted) || wanted.contains(known.as_str()) {
            true => 1.0,
            false if short && known.chars().count() <= COMPARED_CHARS => strsim::normalized_damerau_levenshtein(known, &wanted),
            false => 0.0,
        };
        let known = list.folded.iter().map(likeness).zip(list.pieces.iter().map(|piece| piece.name.as_str()));
        let mut alike: Vec<(f64, &str)> = known.filter(|(likeness, _)| *likeness >= ALIKE).collect();
        alike.sort_by(|a, b| b.0.total_cmp(&a.0));
        let names: Vec<&str> = alike.iter().take(PROPOSED).map(|(_, name)| *name).collect();
        let name: String = name.chars().take(REPEATED_CHARS).collect();
        let what = match which {
            Catalog::Songs => "song",
            Catalog::Dances => "dance",
        };
        let hint = if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(", ")) };
        let message = format!("Message validation error: message.{what}: no device knows the {what} \"{name}\"{hint}");
        Some(Event::Error { message, code: ErrorCode::ValidationError })
    }
}
