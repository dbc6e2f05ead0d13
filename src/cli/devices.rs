//! `qy-lty device`.

use anyhow::{anyhow, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use super::control::{Control, object};
use super::print::{Column, Printer};

#[derive(Debug, Subcommand)]
pub(super) enum Device {
    /// Make a device known
    Add {
        /// Its name
        name: String,
        /// Whose it is: a name, or id:NUMBER
        #[arg(long)]
        user: String,
        /// Unique among all devices
        #[arg(long)]
        serial: Option<String>,
        /// For people
        #[arg(long)]
        model: Option<String>,
        /// Make it the user's primary device
        #[arg(long)]
        primary: bool,
    },
    /// All devices, or a user's
    List {
        /// A name, or id:NUMBER
        #[arg(long)]
        user: Option<String>,
    },
    /// Let a further user have a device
    Bind {
        /// As listed
        id: u64,
        /// A name, or id:NUMBER
        user: String,
    },
    /// Take a device from one of its users
    Unbind {
        /// As listed
        id: u64,
        /// A name, or id:NUMBER
        user: String,
    },
    /// Give the device that shows a code to a user
    Pair {
        /// The six characters that it shows
        code: String,
        /// A name, or id:NUMBER
        user: String,
        /// What to call it
        #[arg(long)]
        name: Option<String>,
        /// Make it the user's primary device
        #[arg(long)]
        primary: bool,
    },
    /// Take a device from everybody, with its tokens and its mailbox
    Remove {
        /// As listed
        id: u64,
    },
}

const DEVICES: [Column; 8] = [
    ("ID", "id"),
    ("NAME", "name"),
    ("SERIAL", "serial"),
    ("MODEL", "model"),
    ("PRIMARY", "primary"),
    ("ONLINE", "online"),
    ("SEEN", "last_seen"),
    ("USERS", "user_ids"),
];

impl Device {
    pub(super) async fn run(self, control: &Control, out: Printer) -> anyhow::Result<()> {
        match self {
            Self::Add { name, user, serial, model, primary } => {
                let user = control.user_id(&user).await?;
                let fields = [
                    ("name", Some(json!(name))),
                    ("user_id", Some(json!(user))),
                    ("serial", serial.map(Value::from)),
                    ("model", model.map(Value::from)),
                    ("primary", Some(json!(primary))),
                ];
                let device = control.post("/api/devices", &object(&fields)).await?;
                out.done(&device, &format!("device {} created, id {}", device["name"], device["id"]))
            }
            Self::List { user } => {
                let query = match user {
                    Some(user) => format!("?user_id={}", control.user_id(&user).await?),
                    None => String::new(),
                };
                out.table(&control.list(&format!("/api/devices{query}")).await?, &DEVICES, "no devices")
            }
            Self::Bind { id, user } => {
                let user = control.user_id(&user).await?;
                bound(control, out, id, "bound", |users| {
                    users.retain(|&other| other != user);
                    users.push(user);
                    Ok(())
                })
                .await
            }
            Self::Unbind { id, user } => {
                let user = control.user_id(&user).await?;
                bound(control, out, id, "unbound", |users| {
                    if !users.contains(&user) {
                        bail!("the device is not bound to that user");
                    }
                    users.retain(|&other| other != user);
                    if users.is_empty() {
                        bail!("nobody else has the device; `qy-lty device remove {id}` removes it");
                    }
                    Ok(())
                })
                .await
            }
            Self::Pair { code, user, name, primary } => {
                let fields = [("code", Some(json!(code))), ("name", name.map(Value::from)), ("primary", Some(json!(primary)))];
                pair(control, out, &user, &fields).await
            }
            Self::Remove { id } => {
                control.delete(&format!("/api/devices/{id}")).await?;
                out.done(&json!({"id": id}), &format!("device {id} removed"))
            }
        }
    }
}

/// Claims a code for a user.
async fn pair(control: &Control, out: Printer, user: &str, fields: &[(&str, Option<Value>)]) -> anyhow::Result<()> {
    control.needs_server("what a device shows is known to the server that it asked").await?;
    let mut body = object(fields);
    body["user_id"] = control.user_id(user).await?.into();
    let device = control.post("/api/devices/claim", &body).await?;
    out.done(&device, &format!("device {} paired, id {}", device["name"], device["id"]))
}

/// Changes whom a device is bound to.
async fn bound(
    control: &Control,
    out: Printer,
    id: u64,
    done: &str,
    change: impl FnOnce(&mut Vec<u64>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let device = control.get(&format!("/api/devices/{id}")).await?;
    let users = device["user_ids"].as_array().ok_or_else(|| anyhow!("the server's answer names no users"))?;
    let mut users: Vec<u64> = users.iter().filter_map(Value::as_u64).collect();
    change(&mut users)?;
    let device = control.patch(&format!("/api/devices/{id}"), &json!({"user_ids": users})).await?;
    out.done(&device, &format!("device {} {done}", device["name"]))
}
