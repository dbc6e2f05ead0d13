//! The songs and dances that the devices know: with an empty list everything is accepted, as in the guide.

use std::sync::{Arc, PoisonError, RwLock};

use crate::store::{Piece, Repertoire, Result, Store, fold_name};
use crate::wire::{ErrorCode, Event};

/// How alike a name must be to be proposed, 0 to 1, and how many are.
const ALIKE: f64 = 0.4;
const PROPOSED: usize = 3;

/// The lists, in memory for the look-up.
pub struct Catalog {
    store: Store,
    songs: RwLock<Arc<Vec<Piece>>>,
    dances: RwLock<Arc<Vec<Piece>>>,
}

impl Catalog {
    /// Reads them.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn open(store: Store) -> Result<Self> {
        let (songs, dances) = (store.repertoire(Repertoire::Songs)?, store.repertoire(Repertoire::Dances)?);
        Ok(Self { store, songs: RwLock::new(Arc::new(songs)), dances: RwLock::new(Arc::new(dances)) })
    }

    fn list(&self, which: Repertoire) -> &RwLock<Arc<Vec<Piece>>> {
        match which {
            Repertoire::Songs => &self.songs,
            Repertoire::Dances => &self.dances,
        }
    }

    /// All of a list, by name.
    pub fn get(&self, which: Repertoire) -> Arc<Vec<Piece>> {
        self.list(which).read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces a list.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn set(&self, which: Repertoire, pieces: Vec<Piece>) -> Result<()> {
        self.store.set_repertoire(which, pieces).await?;
        let kept = self.store.repertoire(which)?;
        *self.list(which).write().unwrap_or_else(PoisonError::into_inner) = Arc::new(kept);
        Ok(())
    }

    /// The error for a `name` that the list does not hold, with those that are like it. An empty name leaves the choice to the
    /// device.
    pub(super) fn refusal(&self, which: Repertoire, name: &str) -> Option<Event> {
        let list = self.get(which);
        let wanted = fold_name(name.trim());
        if list.is_empty() || wanted.is_empty() || list.iter().any(|piece| fold_name(&piece.name) == wanted) {
            return None;
        }
        let likeness = |piece: &Piece| {
            let known = fold_name(&piece.name);
            let within = known.contains(&wanted) || wanted.contains(&known);
            if within { 1.0 } else { strsim::normalized_damerau_levenshtein(&known, &wanted) }
        };
        let mut alike: Vec<(f64, &str)> = list.iter().map(|piece| (likeness(piece), piece.name.as_str())).collect();
        alike.retain(|(likeness, _)| *likeness >= ALIKE);
        alike.sort_by(|a, b| b.0.total_cmp(&a.0));
        let names: Vec<&str> = alike.iter().take(PROPOSED).map(|(_, name)| *name).collect();
        let (field, what) = match which {
            Repertoire::Songs => ("song", "song"),
            Repertoire::Dances => ("dance", "dance"),
        };
        let hint = if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(", ")) };
        let message = format!("Message validation error: message.{field}: no device knows the {what} \"{name}\"{hint}");
        Some(Event::Error { message, code: ErrorCode::ValidationError })
    }
}
