//! Accounts, devices and tokens that come from another system.

use super::policy::{Action, Relation};
use super::{Accounts, AccountsError, By};
use crate::change::{BeginImport, Import, ImportError};
use crate::core::ids::{DeviceId, UserId};
use crate::store::{ImportState, Imported, StoreError, TokenHash};
use crate::telemetry::audit::AuditEvent;

impl Accounts<'_> {
    /// Returns the records that would take the place of others, by their position, each with the reason.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, the store.
    pub fn check_import(&self, by: &By<'_>, rows: &[Imported]) -> Result<Vec<(usize, StoreError)>, AccountsError> {
        self.permit(by, Action::ManageAccounts, Relation::Everyone, "user")?;
        let mut refused = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            match self.app.store.import_is_free(row) {
                Ok(()) => {}
                Err(error @ (StoreError::Taken(_) | StoreError::Alike(_))) => refused.push((at, error)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(refused)
    }

    /// Begins an import, or goes on with one that was cut off; the ids up to those are reserved for it.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, changed meanwhile, the store.
    pub async fn begin_import(
        &self,
        by: &By<'_>,
        state: ImportState,
        (last_user, last_device): (UserId, DeviceId),
    ) -> Result<ImportState, AccountsError> {
        self.permit(by, Action::ManageAccounts, Relation::Everyone, "user")?;
        Ok(self.app.changes.run(BeginImport { state, last_user, last_device }).await?)
    }

    /// Adds records of an import, of which `from` are there already; returns the number of those that were added.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, changed meanwhile, a record that would take the place of another, the store.
    pub async fn import(&self, by: &By<'_>, source: TokenHash, from: u64, rows: Vec<Imported>) -> Result<u64, AccountsError> {
        self.permit(by, Action::ManageAccounts, Relation::Everyone, "user")?;
        // Before they are there: no log-in may be told apart by its time.
        for row in &rows {
            if let Imported::User(user) = row {
                self.app.auth.note_hash(&user.password_hash);
            }
        }
        let added = self.app.changes.run(Import { source, from, rows }).await?;
        by.audit(AuditEvent::Imported(added));
        Ok(added)
    }
}

impl From<ImportError> for AccountsError {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Store(error) => Self::Store(error),
            ImportError::Refused(_, error @ (StoreError::Engine(_) | StoreError::Disk(_) | StoreError::Stopped)) => {
                Self::Store(error)
            }
            other => Self::Import(other),
        }
    }
}
