//! `qy-lty device`.

use anyhow::{anyhow, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use super::control_client::{ControlClient, object};
use super::lookup::Names;
use super::output::{Column, Output, bytes, count};

/// The commands below `device`.
#[derive(Debug, Subcommand)]
pub(super) enum DeviceCommand {
    /// Create a device
    #[command(alias = "add")]
    Create {
        /// Name of the device
        name: String,
        /// User of the device: a name, or id:NUMBER
        #[arg(long)]
        user: String,
        /// Serial number, unique among all devices
        #[arg(long)]
        serial: Option<String>,
        /// Model, shown to people
        #[arg(long)]
        model: Option<String>,
        /// Make it the user's primary device
        #[arg(long)]
        primary: bool,
    },
    /// List all devices, or a user's
    List {
        /// Name, or id:NUMBER
        #[arg(long)]
        user: Option<String>,
    },
    /// Show a device with its users and queued messages
    Show {
        /// Number of the device, or a name that only one device has
        device: String,
    },
    /// Rename a device
    Rename {
        /// Number of the device, or a name that only one device has
        device: String,
        /// New name
        name: String,
    },
    /// Make a device the primary device of its user
    Primary {
        /// Number of the device, or a name that only one device has
        device: String,
        /// Name, or id:NUMBER; needed where the device has several users
        #[arg(long)]
        user: Option<String>,
    },
    /// Bind a device to a further user
    Bind {
        /// Number of the device, or a name that only one device has
        device: String,
        /// Name, or id:NUMBER
        user: String,
    },
    /// Unbind a device from one of its users
    Unbind {
        /// Number of the device, or a name that only one device has
        device: String,
        /// Name, or id:NUMBER
        user: String,
    },
    /// Pair the device that shows a code with a user
    Pair {
        /// Pairing code of six characters
        code: String,
        /// Name, or id:NUMBER
        user: String,
        /// Name of the device
        #[arg(long)]
        name: Option<String>,
        /// Make it the user's primary device
        #[arg(long)]
        primary: bool,
    },
    /// Delete a device with its tokens and its mailbox
    #[command(alias = "remove")]
    Delete {
        /// Number of the device, or a name that only one device has
        device: String,
    },
}

const COLUMNS: [Column; 8] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("SERIAL", "serial"),
    ("MODEL", "model"),
    ("PRIMARY", "primary"),
    ("ONLINE", "online"),
    ("SEEN", "last_seen"),
    ("USERS", "users"),
];

impl DeviceCommand {
    /// Runs the command.
    pub(super) async fn run(self, client: &ControlClient, out: Output) -> anyhow::Result<()> {
        match self {
            Self::Create { name, user, serial, model, primary } => {
                let user = client.user_id(&user).await?;
                let fields = [
                    ("name", Some(json!(name))),
                    ("user_id", Some(json!(user))),
                    ("serial", serial.map(Value::from)),
                    ("model", model.map(Value::from)),
                    ("primary", Some(json!(primary))),
                ];
                let device = client.post("/api/devices", &object(&fields)).await?;
                out.done(&device, &format!("Created device {}, id {}", device["name"], device["id"]))
            }
            Self::List { user } => {
                let query = match user {
                    Some(user) => format!("?user_id={}", client.user_id(&user).await?),
                    None => String::new(),
                };
                let mut devices = client.list(&format!("/api/devices{query}")).await?;
                if !out.is_json() {
                    let mut names = Names::new(client);
                    names.expect_users(devices.len()).await?;
                    for device in &mut devices {
                        device["users"] = names.users(&device["user_ids"]).await?.into();
                    }
                }
                out.table(&devices, &COLUMNS, "No devices")
            }
            Self::Show { device } => show(client, out, client.device(&device).await?).await,
            Self::Rename { device, name } => {
                let id = client.device_id(&device).await?;
                let device = client.patch(&format!("/api/devices/{id}"), &json!({"name": name})).await?;
                out.done(&device, &format!("Renamed device {id} to {}", device["name"]))
            }
            Self::Primary { device, user } => primary(client, out, &device, user.as_deref()).await,
            Self::Bind { device, user } => bind(client, out, client.device_id(&device).await?, &user).await,
            Self::Unbind { device, user } => unbind(client, out, client.device_id(&device).await?, &user).await,
            Self::Pair { code, user, name, primary } => {
                let fields =
                    [("code", Some(json!(code))), ("name", name.map(Value::from)), ("primary", primary.then_some(json!(true)))];
                pair(client, out, &user, &fields).await
            }
            Self::Delete { device } => {
                let id = client.device_id(&device).await?;
                client.delete(&format!("/api/devices/{id}")).await?;
                out.done(&json!({"id": id}), &format!("Deleted device {id}"))
            }
        }
    }
}

const FIELDS: [Column; 10] = [
    ("device", "name"),
    ("id", "id"),
    ("serial", "serial"),
    ("model", "model"),
    ("largest message", "max_bytes"),
    ("primary", "primary"),
    ("online", "online"),
    ("seen", "last_seen"),
    ("users", "users"),
    ("queued", "queued"),
];

/// Shows a device.
async fn show(client: &ControlClient, out: Output, mut device: Value) -> anyhow::Result<()> {
    let queue = client.get(&format!("/api/queue/device/{}", device["id"])).await?;
    if out.is_json() {
        device["queue"] = queue;
        return out.line(&device.to_string());
    }
    device["users"] = Names::new(client).users(&device["user_ids"]).await?.into();
    let (messages, size) = (queue["messages"].as_u64().unwrap_or(0), queue["bytes"].as_u64().unwrap_or(0));
    device["queued"] = format!("{}, {}", count(messages, "message"), bytes(size)).into();
    out.fields(&device, &FIELDS)
}

/// Makes a device the primary device of a user, or of the only one that it has.
async fn primary(client: &ControlClient, out: Output, device: &str, user: Option<&str>) -> anyhow::Result<()> {
    let id = client.device_id(device).await?;
    let user = match user {
        Some(user) => client.user_id(user).await?,
        None => match users_of(client, id).await?[..] {
            [only] => only,
            _ => bail!("device {id} has several users; pass --user for the one whose primary device it becomes"),
        },
    };
    let device = client.put(&format!("/api/devices/{id}/primary"), &json!({"user_id": user})).await?;
    let user = Names::new(client).users(&json!([user])).await?;
    out.done(&device, &format!("Device {} is the primary device of user {user}", device["name"]))
}

async fn bind(client: &ControlClient, out: Output, id: u64, user: &str) -> anyhow::Result<()> {
    let user_id = client.user_id(user).await?;
    let mut users = users_of(client, id).await?;
    users.retain(|&other| other != user_id);
    users.push(user_id);
    let device = set_users(client, id, &users).await?;
    out.done(&device, &format!("Bound device {} to user {user}", device["name"]))
}

async fn unbind(client: &ControlClient, out: Output, id: u64, user: &str) -> anyhow::Result<()> {
    let user_id = client.user_id(user).await?;
    let mut users = users_of(client, id).await?;
    if !users.contains(&user_id) {
        bail!("device {id} is not bound to user {user}");
    }
    users.retain(|&other| other != user_id);
    if users.is_empty() {
        bail!("device {id} has no other user; delete it with `qy-lty device delete {id}`");
    }
    let device = set_users(client, id, &users).await?;
    out.done(&device, &format!("Unbound device {} from user {user}", device["name"]))
}

/// Returns the ids of a device's users.
async fn users_of(client: &ControlClient, id: u64) -> anyhow::Result<Vec<u64>> {
    let device = client.get(&format!("/api/devices/{id}")).await?;
    let users = device["user_ids"].as_array().ok_or_else(|| anyhow!("the server's reply has no user_ids"))?;
    Ok(users.iter().filter_map(Value::as_u64).collect())
}

/// Sets a device's users, and returns the device.
async fn set_users(client: &ControlClient, id: u64, users: &[u64]) -> anyhow::Result<Value> {
    client.patch(&format!("/api/devices/{id}"), &json!({"user_ids": users})).await
}

/// Claims a pairing code for a user.
async fn pair(client: &ControlClient, out: Output, user: &str, fields: &[(&str, Option<Value>)]) -> anyhow::Result<()> {
    client.require_server("a pairing code is known only to the server that issued it").await?;
    let mut body = object(fields);
    body["user_id"] = client.user_id(user).await?.into();
    let device = client.post("/api/devices/claim", &body).await?;
    out.done(&device, &format!("Paired device {}, id {}", device["name"], device["id"]))
}
