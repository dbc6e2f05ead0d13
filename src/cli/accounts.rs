//! `qy-lty user` and `qy-lty token`.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::control::{Control, object, read_password};
use super::print::{Column, Printer};

/// A user is named by name, or by `id:` and the number.
#[derive(Debug, Subcommand)]
pub(super) enum User {
    /// Create an account; its password is asked for, or read from standard input
    Add {
        /// Its name
        name: String,
        /// Let it administer the server
        #[arg(long)]
        admin: bool,
    },
    /// All accounts
    List,
    /// Set a password, which is asked for, or read from standard input; ends the user's log-ins
    Passwd {
        /// A name, or id:NUMBER
        user: String,
    },
    /// Refuse an account's credentials; its connections end at once
    Disable {
        /// A name, or id:NUMBER
        user: String,
    },
    /// Accept them again
    Enable {
        /// A name, or id:NUMBER
        user: String,
    },
    /// Change what an account may do
    Role {
        /// A name, or id:NUMBER
        user: String,
        /// What it is to be
        role: Role,
    },
    /// Remove an account with its tokens, and the devices that nobody else has
    Remove {
        /// A name, or id:NUMBER
        user: String,
    },
}

/// What an account may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Role {
    /// Everything
    Admin,
    /// Its own things
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

const USERS: [Column; 5] =
    [("ID", "id"), ("NAME", "username"), ("ROLE", "role"), ("DISABLED", "disabled"), ("CREATED", "created_at")];

impl User {
    pub(super) async fn run(self, control: &Control, out: Printer) -> anyhow::Result<()> {
        let (user, change, done) = match self {
            Self::Add { name, admin } => {
                let role = if admin { Role::Admin } else { Role::User }.name();
                let body = json!({"username": name, "password": read_password()?, "role": role});
                let user = control.post("/api/users", &body).await?;
                return out.done(&user, &format!("user {} created, id {}", user["username"], user["id"]));
            }
            Self::List => return out.table(&control.list("/api/users").await?, &USERS, "no accounts"),
            Self::Remove { user } => {
                let id = control.user_id(&user).await?;
                control.delete(&format!("/api/users/{id}")).await?;
                return out.done(&json!({"id": id}), &format!("user {user} removed"));
            }
            Self::Passwd { user } => {
                let known = control.user(&user).await?; // before a password is asked for
                (known, json!({"password": read_password()?}), "has a new password")
            }
            Self::Disable { user } => (control.user(&user).await?, json!({"disabled": true}), "disabled"),
            Self::Enable { user } => (control.user(&user).await?, json!({"disabled": false}), "enabled"),
            Self::Role { user, role } => (control.user(&user).await?, json!({"role": role.name()}), "has a new role"),
        };
        let user = control.patch(&format!("/api/users/{}", user["id"]), &change).await?;
        out.done(&user, &format!("user {} {done}", user["username"]))
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Make a token and print it, this once
    Create {
        /// Whose: a name, or id:NUMBER; not needed for a device
        #[arg(required_unless_present = "device")]
        user: Option<String>,
        /// Let it send to anyone and do nothing else; for administrators
        #[arg(long, conflicts_with = "device")]
        service: bool,
        /// Of this device: reaches its WebSocket only
        #[arg(long, value_name = "ID")]
        device: Option<u64>,
        /// What it is for
        #[arg(long)]
        label: Option<String>,
        /// Refused after so many seconds
        #[arg(long, value_name = "SECONDS")]
        expires: Option<u64>,
    },
    /// A user's tokens
    List {
        /// A name, or id:NUMBER
        user: String,
    },
    /// End a token and its connections
    Revoke {
        /// As listed
        id: u64,
    },
}

const TOKENS: [Column; 7] = [
    ("ID", "id"),
    ("KIND", "kind"),
    ("DEVICE", "device_id"),
    ("LABEL", "label"),
    ("CREATED", "created_at"),
    ("USED", "last_used_at"),
    ("EXPIRES", "expires_at"),
];

impl Token {
    pub(super) async fn run(self, control: &Control, out: Printer) -> anyhow::Result<()> {
        match self {
            Self::Create { user, service, device, label, expires } => {
                let kind = service.then(|| json!("service"));
                let body = object(&[("label", label.map(Value::from)), ("kind", kind), ("expires_in", expires.map(Value::from))]);
                let path = match (device, user) {
                    (Some(id), _) => format!("/api/devices/{id}/token"),
                    (None, user) => format!("/control/users/{}/tokens", control.user_id(&user.unwrap_or_default()).await?),
                };
                let made = control.post(&path, &body).await?;
                out.done(&made, made["token"].as_str().unwrap_or_default())
            }
            Self::List { user } => {
                let id = control.user_id(&user).await?;
                out.table(&control.list(&format!("/control/users/{id}/tokens")).await?, &TOKENS, "no tokens")
            }
            Self::Revoke { id } => {
                control.delete(&format!("/control/tokens/{id}")).await?;
                out.done(&json!({"id": id}), &format!("token {id} revoked"))
            }
        }
    }
}
