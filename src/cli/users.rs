//! `qy-lty user`.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::confirm::confirm;
use super::control_client::ControlClient;
use super::output::{Column, Output, bytes, count};
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
    /// Show a user with their devices, clients, tokens and queued messages
    Show {
        /// Name, or id:NUMBER
        user: String,
    },
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
        /// Delete the user without asking
        #[arg(long)]
        yes: bool,
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
            Self::Show { user } => return show(client, out, client.user(&user).await?).await,
            Self::Delete { user, yes } => {
                let user = client.user(&user).await?;
                confirm(&deletion(client, &user).await?, yes)?;
                client.delete(&format!("/api/users/{}", user["id"])).await?;
                return out.done(&json!({"id": user["id"]}), &format!("Deleted user {}", user["username"]));
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

/// Returns the devices of a user.
async fn devices_of(client: &ControlClient, user: &Value) -> anyhow::Result<Vec<Value>> {
    client.list(&format!("/api/devices?user_id={}", user["id"])).await
}

/// Returns the tokens of a user.
async fn tokens_of(client: &ControlClient, user: &Value) -> anyhow::Result<Vec<Value>> {
    client.list(&format!("/control/users/{}/tokens", user["id"])).await
}

/// Returns the question before a user is deleted, with what goes with them.
async fn deletion(client: &ControlClient, user: &Value) -> anyhow::Result<String> {
    let devices = devices_of(client, user).await?;
    let alone = devices.iter().filter(|device| device["user_ids"].as_array().is_some_and(|users| users.len() == 1)).count();
    let queue = client.get(&format!("/api/queue/user/{}", user["id"])).await?;
    Ok(format!(
        "Delete user {} (id {}) with {}, {} and {}?",
        user["username"],
        user["id"],
        count(tokens_of(client, user).await?.len() as u64, "token"),
        count(alone as u64, "device"),
        count(queue["messages"].as_u64().unwrap_or(0), "queued message"),
    ))
}

const FIELDS: [Column; 9] = [
    ("user", "username"),
    ("id", "id"),
    ("role", "role"),
    ("disabled", "disabled"),
    ("created", "created_at"),
    ("devices", "device_names"),
    ("clients", "client_names"),
    ("tokens", "token_count"),
    ("queued", "queued"),
];

/// Shows a user.
async fn show(client: &ControlClient, out: Output, mut user: Value) -> anyhow::Result<()> {
    let (devices, tokens) = (devices_of(client, &user).await?, tokens_of(client, &user).await?);
    let clients = client.list(&format!("/api/clients?user_id={}", user["id"])).await?;
    let queue = client.get(&format!("/api/queue/user/{}", user["id"])).await?;
    if out.is_json() {
        for (name, value) in
            [("devices", devices.into()), ("clients", clients.into()), ("tokens", tokens.into()), ("queue", queue)]
        {
            user[name] = value;
        }
        return out.line(&user.to_string());
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let device = |device: &Value| {
        let marks = [("primary", "primary"), ("online", "online")];
        let marks = marks.iter().filter(|(field, _)| device[field] == true).map(|(_, mark)| format!(", {mark}"));
        format!("{} ({}{})", text(&device["name"]), device["id"], marks.collect::<String>())
    };
    let client = |client: &Value| {
        let online = if client["online"] == true { ", online" } else { "" };
        format!("{} ({} waiting{online})", text(&client["name"]), client["waiting"])
    };
    user["device_names"] = devices.iter().map(device).collect::<Vec<_>>().into();
    user["client_names"] = clients.iter().map(client).collect::<Vec<_>>().into();
    user["token_count"] = tokens.len().into();
    let (messages, size) = (queue["messages"].as_u64().unwrap_or(0), queue["bytes"].as_u64().unwrap_or(0));
    user["queued"] = format!("{}, {}", count(messages, "message"), bytes(size)).into();
    for field in ["device_names", "client_names"] {
        if user[field].as_array().is_some_and(Vec::is_empty) {
            user[field] = "none".into();
        }
    }
    out.fields(&user, &FIELDS)
}
