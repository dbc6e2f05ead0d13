//! `qy-lty token`.

use anyhow::bail;
use clap::Subcommand;
use serde_json::{Value, json};

use super::control_client::{ControlClient, object};
use super::lookup::{Names, beside};
use super::output::{Column, Output};
use crate::config::parse_seconds;
use crate::store::Scope;

/// The commands below `token`.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Create a token and print it; it is not shown again
    Create {
        /// User of the token: a name, or id:NUMBER; not needed with --device
        #[arg(required_unless_present = "device")]
        user: Option<String>,
        /// Kind of the token: as good as its user, or a service of an administrator, which sends to anyone
        #[arg(long, value_parser = ["user", "service"], conflicts_with_all = ["device", "service"])]
        kind: Option<String>,
        /// Short form of --kind service
        #[arg(long, conflicts_with = "device")]
        service: bool,
        /// Limit a service to this; repeat it for several. Without it, a service has every scope
        #[arg(long = "scope", value_name = "SCOPE", value_parser = Scope::ALL.map(Scope::name), conflicts_with = "device")]
        scopes: Vec<String>,
        /// Create a token of a device (its number or its name), which reaches the device's WebSocket only
        #[arg(long, value_name = "DEVICE")]
        device: Option<String>,
        /// Text to identify the token in lists
        #[arg(long)]
        label: Option<String>,
        /// Time until the token expires, in seconds or with a unit: 12h, 30d
        #[arg(long, value_name = "TIME", value_parser = parse_seconds)]
        expires: Option<u64>,
    },
    /// List a user's tokens
    List {
        /// Name, or id:NUMBER
        user: String,
    },
    /// Delete a token and close its connections
    #[command(alias = "revoke")]
    Delete {
        /// Id of the token
        id: u64,
    },
}

const COLUMNS: [Column; 8] = [
    ("ID", "id"),
    ("KIND", "kind"),
    ("SCOPES", "scopes"),
    ("DEVICE", "device"),
    ("LABEL", "label"),
    ("CREATED", "created_at"),
    ("USED", "last_used_at"),
    ("EXPIRES", "expires_at"),
];

impl TokenCommand {
    /// Runs the command.
    pub(super) async fn run(self, client: &ControlClient, out: Output) -> anyhow::Result<()> {
        match self {
            Self::Create { user, kind, service, scopes, device, label, expires } => {
                let kind = if service { Some("service".into()) } else { kind };
                let body = object(&[
                    ("label", label.map(Value::from)),
                    ("kind", kind.map(Value::from)),
                    ("scopes", (!scopes.is_empty()).then(|| json!(scopes))),
                    ("expires_in", expires.map(Value::from)),
                ]);
                let path = match (device, user) {
                    (Some(device), _) => format!("/api/devices/{}/token", client.device_id(&device).await?),
                    (None, user) => format!("/control/users/{}/tokens", client.user_id(&user.unwrap_or_default()).await?),
                };
                let created = client.post(&path, &body).await?;
                let secret = created["token"].as_str().unwrap_or_default();
                let shown = if out.is_json() { out.line(&created.to_string()) } else { out.line(secret) };
                if let Err(error) = shown {
                    // Nobody has it: as if it had not been made.
                    client.delete(&format!("/control/tokens/{}", created["id"])).await?;
                    bail!("the new token could not be shown and was deleted again: {error:#}");
                }
                Ok(())
            }
            Self::List { user } => {
                let id = client.user_id(&user).await?;
                let mut tokens = client.list(&format!("/control/users/{id}/tokens")).await?;
                if !out.is_json() {
                    let mut names = Names::new(client);
                    for token in &mut tokens {
                        if let Some(device) = token["device_id"].as_u64() {
                            token["device"] = beside(names.device(device).await?, device).into();
                        }
                    }
                }
                out.table(&tokens, &COLUMNS, "No tokens")
            }
            Self::Delete { id } => {
                client.delete(&format!("/control/tokens/{id}")).await?;
                out.done(&json!({"id": id}), &format!("Deleted token {id}"))
            }
        }
    }
}
