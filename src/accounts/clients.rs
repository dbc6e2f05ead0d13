//! Clients: the readers of a user's messages.

use super::policy::Action;
use super::{Accounts, AccountsError, By};
use crate::core::client::ClientName;
use crate::core::ids::UserId;

impl Accounts<'_> {
    /// Forgets a client of `user`, whose connections are closed with 1001.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, no such user or client, the store.
    pub async fn forget_client(&self, by: &By<'_>, user: UserId, name: ClientName) -> Result<(), AccountsError> {
        self.user(by, Action::ManageClients, user)?;
        Ok(self.app.mailbox.forget_reader(user, name).await?)
    }
}
