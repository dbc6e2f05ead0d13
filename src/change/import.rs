//! Operations of an import of accounts, devices and tokens from another system.
//!
//! An import is many operations, so that none holds up the others' writes for long. The first one reserves the ids of all its records;
//! each of the rest adds some records and notes how far it has come. One that was cut off goes on from there.

use serde::{Deserialize, Serialize};

use super::clock::{self, Moment};
use super::machine::{Machine, Operation};
use crate::core::ids::{DeviceId, UserId};
use crate::store::accounts::write;
use crate::store::{ImportState, Imported, MetaKey, Severity, StoreError, TokenHash};

/// The most records that one operation adds.
pub const MAX_IMPORT_ROWS: usize = 64;

/// The reason a part of an import was not made.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Other users or devices were added since the ids were chosen, or another import began.
    #[error("accounts or devices were created meanwhile, or another import is running; run the import again")]
    Changed,
    /// More records than one operation adds, or none.
    #[error("an import is sent in parts of 1 to {MAX_IMPORT_ROWS} records")]
    Rows,
    /// A record was refused; those before it were added.
    #[error("{1}")]
    Refused(u64, StoreError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Severity for ImportError {
    fn fatal(&self) -> bool {
        match self {
            Self::Changed | Self::Rows => false,
            Self::Refused(_, error) | Self::Store(error) => error.fatal(),
        }
    }
}

/// Begins an import, or goes on with the one of the same records that was cut off: reserves the ids up to the highest that it uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginImport {
    /// The import as it is to be noted, with no record done.
    pub state: ImportState,
    /// The highest user id that it uses.
    pub last_user: UserId,
    /// The highest device id that it uses.
    pub last_device: DeviceId,
}

impl Operation for BeginImport {
    /// The state, with the number of records that are in the store.
    type Output = ImportState;
    /// [`ImportError::Changed`].
    type Error = ImportError;

    fn apply(self, machine: &mut Machine<'_>, _: Moment) -> Result<ImportState, ImportError> {
        if let Some(known) = write::last_import(machine.trees)?
            && (ImportState { done: 0, ..known.clone() }) == self.state
        {
            return Ok(known);
        }
        let meta = &machine.trees.meta;
        let (users, devices) = (meta.number(MetaKey::NextUser)?, meta.number(MetaKey::NextDevice)?);
        if (users, devices) != (self.state.users_before, self.state.devices_before) || self.state.done != 0 {
            return Err(ImportError::Changed);
        }
        // In this order: with the ids reserved and no note of it, a repeat begins anew.
        meta.set(MetaKey::NextUser, users.max(self.last_user.0))?;
        meta.set(MetaKey::NextDevice, devices.max(self.last_device.0))?;
        write::note_import(machine.trees, &self.state)?;
        Ok(self.state)
    }
}

/// Adds records of an import that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Import {
    /// The import.
    pub source: TokenHash,
    /// The number of its records before these.
    pub from: u64,
    /// At most [`MAX_IMPORT_ROWS`].
    pub rows: Vec<Imported>,
}

impl Operation for Import {
    /// The number of records that were added: those that are there already are passed over.
    type Output = u64;
    /// [`ImportError`].
    type Error = ImportError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<u64, ImportError> {
        let state = write::last_import(machine.trees)?.filter(|state| state.source == self.source && state.done == self.from);
        let mut state = state.ok_or(ImportError::Changed)?;
        if !(1..=MAX_IMPORT_ROWS).contains(&self.rows.len()) || self.from + self.rows.len() as u64 > state.rows {
            return Err(ImportError::Rows);
        }
        let (mut added, mut refused) = (0, None);
        for row in &self.rows {
            match allowed(&state, row).and_then(|()| add(machine, row, moment)) {
                Ok(new) => added += u64::from(new),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
            state.done += 1;
        }
        write::note_import(machine.trees, &state)?;
        // No token is younger than what is saved: the next stop counts for all of them.
        clock::save(machine.trees, moment, None)?;
        match refused {
            Some(error) => Err(ImportError::Refused(state.done, error)),
            None => Ok(added),
        }
    }
}

/// Refuses an id that was not reserved for the import.
fn allowed(state: &ImportState, row: &Imported) -> Result<(), StoreError> {
    match row {
        Imported::User(user) if user.id.0 <= state.users_before => Err(StoreError::Taken("user id")),
        Imported::Device(device) if device.id.0 <= state.devices_before => Err(StoreError::Taken("device id")),
        _ => Ok(()),
    }
}

fn add(machine: &mut Machine<'_>, row: &Imported, moment: Moment) -> Result<bool, StoreError> {
    let joined = machine.memory().newest;
    let added = write::import(machine.trees, row, moment.wall, joined)?;
    if let Imported::User(user) = row
        && added
    {
        machine.memory().index.add_user(user.id, joined);
    }
    Ok(added)
}
