//! `qy-lty client`.

use clap::Subcommand;

use super::control_client::ControlClient;
use super::output::{Column, Output};

/// The commands below `client`.
#[derive(Debug, Subcommand)]
pub(super) enum ClientCommand {
    /// List the clients of a user
    List {
        /// User: a name, or id:NUMBER
        user: String,
    },
    /// Delete a client, and close its connections
    Delete {
        /// User: a name, or id:NUMBER
        user: String,
        /// Name of the client
        name: String,
    },
}

const COLUMNS: [Column; 5] =
    [("NAME", "name"), ("CURSOR", "cursor"), ("WAITING", "waiting"), ("LAST CONNECTED", "last_connected"), ("ONLINE", "online")];

impl ClientCommand {
    /// Runs the command.
    pub(super) async fn run(self, client: &ControlClient, out: Output) -> anyhow::Result<()> {
        match self {
            Self::List { user } => {
                let path = format!("/api/clients?user_id={}", client.user_id(&user).await?);
                out.table(&client.list(&path).await?, &COLUMNS, "No clients")
            }
            Self::Delete { user, name } => {
                let path = format!("/api/clients/{name}?user_id={}", client.user_id(&user).await?);
                let deleted = client.delete(&path).await?;
                out.done(&deleted, &format!("Deleted client {name} of {user}"))
            }
        }
    }
}
