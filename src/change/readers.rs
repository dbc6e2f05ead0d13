//! Operations on readers.

use serde::{Deserialize, Serialize};

use super::clock::Moment;
use super::index::{Effects, Joined, TooManyReaders};
use super::machine::{Machine, Operation};
use super::stage::Due;
use crate::core::client::ClientName;
use crate::core::ids::{Recipient, UserId};
use crate::store::{Result, Severity, StoreError};

/// The reason for which a reader was not added.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The user has as many as it may.
    #[error("too many clients")]
    TooMany,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<TooManyReaders> for JoinError {
    fn from(_: TooManyReaders) -> Self {
        Self::TooMany
    }
}

impl Severity for JoinError {
    fn fatal(&self) -> bool {
        matches!(self, Self::Store(error) if error.fatal())
    }
}

/// Notes that a reader has connected, and adds one that is new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinReader {
    /// The user.
    pub user: UserId,
    /// The reader.
    pub client: ClientName,
}

impl Operation for JoinReader {
    /// Whether it has to be on disk before the reader receives anything: what other readers have received, and this one therefore
    /// does not, may not be lost with it by a crash, or the reader receives it later, out of order.
    type Output = bool;
    /// [`JoinError::TooMany`], [`StoreError::Missing`] user.
    type Error = JoinError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<bool, JoinError> {
        let recipient = Recipient::User(self.user);
        if !machine.log().recipient_exists(recipient)? {
            return Err(StoreError::Missing("user").into());
        }
        let joined = machine.memory().index.join(self.user, &self.client, moment.service, moment.wall)?;
        if joined != Joined::Unchanged {
            let effects = Effects { places: [recipient].into(), ..Effects::default() };
            let due = if joined == Joined::Further { Due::Now } else { Due::Later };
            machine.follow_by(&effects, moment, due)?;
        }
        Ok(joined == Joined::Further)
    }
}

/// Removes a reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForgetReader {
    /// The user.
    pub user: UserId,
    /// The reader.
    pub client: ClientName,
}

impl Operation for ForgetReader {
    type Output = ();
    /// [`StoreError::Missing`] client.
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<()> {
        let effects = machine.memory().index.forget_reader(self.user, &self.client, moment.service);
        machine.follow(&effects.ok_or(StoreError::Missing("client"))?, moment)?;
        machine.forget(self.user, self.client);
        Ok(())
    }
}

/// Notes that readers are connected still, so that they are not taken for unused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TouchReaders {
    /// The readers.
    pub readers: Vec<(UserId, ClientName)>,
}

impl Operation for TouchReaders {
    type Output = ();
    type Error = StoreError;

    fn apply(self, machine: &mut Machine<'_>, moment: Moment) -> Result<()> {
        let mut effects = Effects::default();
        {
            let mut memory = machine.memory();
            for (user, client) in &self.readers {
                // One that was deleted meanwhile is not added again.
                if memory.index.has_reader(*user, client)
                    && memory.index.join(*user, client, moment.service, moment.wall) == Ok(Joined::Again)
                {
                    effects.places.insert(Recipient::User(*user));
                }
            }
        }
        machine.follow(&effects, moment)
    }
}
