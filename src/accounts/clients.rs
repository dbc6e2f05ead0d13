//! Clients: the readers of a user's messages.

use super::policy::Action;
use super::{Accounts, AccountsError, By};
use crate::core::client::ClientName;
use crate::core::ids::UserId;
use crate::wire::CloseCode;

impl Accounts<'_> {
    /// Forgets a client of `user`, and closes its connections with 1001.
    ///
    /// # Errors
    /// [`AccountsError`]: denied, no such user or client, the store.
    pub async fn forget_client(&self, by: &By<'_>, user: UserId, name: ClientName) -> Result<(), AccountsError> {
        self.user(by, Action::ManageClients, user)?;
        self.app.mailbox.forget_reader(user, name.clone()).await?;
        for connection in self.app.hub.presence().of_user(user).iter().filter(|c| c.reader.as_ref() == Some(&name)) {
            tracing::debug!(conn = %connection.id, %user, client = %name, "closing a connection whose client was forgotten");
            connection.close(CloseCode::GoingAway);
        }
        Ok(())
    }
}
