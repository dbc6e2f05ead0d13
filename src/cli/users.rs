//! `qy-lty user`.

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::control_client::ControlClient;
use super::output::{Column, Output};
use super::password::read_password;

/// The commands below `user`. A user is named by name, or by `id:` and the number.
#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Create a user with a password that is typed or read from standard input
    #[command(alias = "add")]
    Create {
        /// Name of the user
        name: String,
        /// Let the user administer the server
        #[arg(long)]
        admin: bool,
    },
    /// List users
    List,
    /// Set a user's password, typed or read from standard input, and end their logins
    #[command(alias = "passwd")]
    SetPassword {
        /// Name, or id:NUMBER
        user: String,
    },
    /// Disable a user: refuse their credentials and close their connections
    Disable {
        /// Name, or id:NUMBER
        user: String,
    },
    /// Enable a disabled user
    Enable {
        /// Name, or id:NUMBER
        user: String,
    },
    /// Set a user's role
    #[command(alias = "role")]
    SetRole {
        /// Name, or id:NUMBER
        user: String,
        /// New role
        role: Role,
    },
    /// Delete a user with their tokens, and the devices that no other user has
    #[command(alias = "remove")]
    Delete {
        /// Name, or id:NUMBER
        user: String,
    },
}

/// A role on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Role {
    /// May administer the server
    Admin,
    /// May use what belongs to the user
    User,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::User => "user",
        }
    }
}

const COLUMNS: [Column; 5] =
    [("ID", "id"), ("NAME", "username"), ("ROLE", "role"), ("DISABLED", "disabled"), ("CREATED", "created_at")];

impl UserCommand {
    /// Runs the command.
    pub(super) async fn run(self, client: &ControlClient, out: Output) -> anyhow::Result<()> {
        let (user, change, done) = match self {
            Self::Create { name, admin } => {
                let role = if admin { Role::Admin } else { Role::User }.name();
                let body = json!({"username": name, "password": read_password()?, "role": role});
                let user = client.post("/api/users", &body).await?;
                return out.done(&user, &format!("Created user {}, id {}", user["username"], user["id"]));
            }
            Self::List => return out.table(&client.list("/api/users").await?, &COLUMNS, "No users"),
            Self::Delete { user } => {
                let id = client.user_id(&user).await?;
                client.delete(&format!("/api/users/{id}")).await?;
                return out.done(&json!({"id": id}), &format!("Deleted user {user}"));
            }
            Self::SetPassword { user } => {
                let user = client.user(&user).await?; // before the password is read
                (user, json!({"password": read_password()?}), "Set the password of")
            }
            Self::Disable { user } => (client.user(&user).await?, json!({"disabled": true}), "Disabled"),
            Self::Enable { user } => (client.user(&user).await?, json!({"disabled": false}), "Enabled"),
            Self::SetRole { user, role } => (client.user(&user).await?, json!({"role": role.name()}), "Set the role of"),
        };
        let user = client.patch(&format!("/api/users/{}", user["id"]), &change).await?;
        out.done(&user, &format!("{done} user {}", user["username"]))
    }
}
