//! Users and devices by name or id, and the names beside ids.

use std::collections::HashMap;

use anyhow::{Context, anyhow, bail};
use serde_json::Value;

use super::control_client::ControlClient;
use super::failure::Refused;
use crate::core::names::ID_PREFIX;

/// The most devices of one name that an error lists.
const MAX_LISTED: usize = 10;

/// The number of lookups from which on all names are read at once.
const MANY: usize = 100;

/// The most names that are remembered.
const MAX_NAMES: usize = 100_000;

/// Returns the id in a text: a number, or a number after `id:`.
fn id_in(text: &str) -> Option<u64> {
    text.strip_prefix(ID_PREFIX).unwrap_or(text).parse().ok()
}

/// Returns a name that means no character to a query.
pub(super) fn encoded(name: &str) -> String {
    name.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Returns `None` in place of the error that something does not exist.
fn found(reply: anyhow::Result<Value>) -> anyhow::Result<Option<Value>> {
    match reply {
        Err(error) if error.downcast_ref::<Refused>().is_some_and(|refused| refused.code.as_deref() == Some("not_found")) => {
            Ok(None)
        }
        reply => reply.map(Some),
    }
}

impl ControlClient {
    /// Returns the user with a name, or with a number after `id:`; also with a number alone, where that is nobody's name.
    pub(super) async fn user(&self, name: &str) -> anyhow::Result<Value> {
        if let Some(id) = name.strip_prefix(ID_PREFIX) {
            let id: u64 = id.parse().map_err(|_| anyhow!("invalid user {name}: a number must follow id:"))?;
            // Earlier versions accepted such a name: whoever asked for it must not get an administrator's account changed.
            if let Some(named) = self.named(name).await?.filter(|user| user["id"] != id) {
                bail!(
                    "{name} stands for the user with that number and is the name of another, which begins with {ID_PREFIX}; \
                     pass {ID_PREFIX}{} for the one with the name, or the name of the other",
                    named["id"]
                );
            }
            return self.get(&format!("/api/users/{id}")).await;
        }
        let numbered = match name.parse::<u64>() {
            Ok(id) => found(self.get(&format!("/api/users/{id}")).await)?,
            Err(_) => None,
        };
        match (self.named(name).await?, numbered) {
            (Some(named), Some(other)) if named["id"] != other["id"] => bail!(
                "{name} is the name of one user and the number of another; pass {ID_PREFIX}{} for the one with the name, \
                 {ID_PREFIX}{name} for {}",
                named["id"],
                text(&other["username"])
            ),
            (Some(user), _) | (None, Some(user)) => Ok(user),
            (None, None) => bail!("no such user: {name}"),
        }
    }

    /// Returns the user with a name.
    async fn named(&self, name: &str) -> anyhow::Result<Option<Value>> {
        Ok(self.get(&format!("/api/users?username={}", encoded(name))).await?.get(0).cloned())
    }

    /// Returns the id of the user with a name, or with a number, as [`user`](Self::user) does.
    pub(super) async fn user_id(&self, name: &str) -> anyhow::Result<u64> {
        self.user(name).await?["id"].as_u64().context("the server's reply has no user id")
    }

    /// Returns the id of the device with a number, also after `id:`, or with a name that no other device has. A number is never a
    /// name: users name their devices, and could take the place of another.
    pub(super) async fn device_id(&self, name: &str) -> anyhow::Result<u64> {
        if let Some(id) = id_in(name) {
            return Ok(id);
        }
        let named: Vec<Value> = self.list("/api/devices").await?.into_iter().filter(|device| device["name"] == name).collect();
        match &named[..] {
            [] => bail!("no such device: {name}"),
            [device] => device["id"].as_u64().context("the server's reply has no device id"),
            several => {
                let (mut names, mut listed) = (Names::new(self), Vec::new());
                for device in several.iter().take(MAX_LISTED) {
                    listed.push(format!("{} of {}", device["id"], names.users(&device["user_ids"]).await?));
                }
                let more = if several.len() > MAX_LISTED { ", …" } else { "" };
                bail!("{} devices have the name {name}: {}{more}; pass the number of one", several.len(), listed.join(", "))
            }
        }
    }

    /// Returns the device with a number or a name, as [`device_id`](Self::device_id) does.
    pub(super) async fn device(&self, name: &str) -> anyhow::Result<Value> {
        let id = self.device_id(name).await?;
        self.get(&format!("/api/devices/{id}")).await
    }
}

/// Returns a text without quotes.
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The names of users and devices, each looked up once.
pub(super) struct Names<'c> {
    client: &'c ControlClient,
    users: HashMap<u64, Option<String>>,
    devices: HashMap<u64, Option<String>>,
}

impl<'c> Names<'c> {
    /// Knows none yet.
    pub(super) fn new(client: &'c ControlClient) -> Self {
        Self { client, users: HashMap::new(), devices: HashMap::new() }
    }

    /// Reads all names of users, where the names in that many rows are wanted.
    pub(super) async fn expect_users(&mut self, rows: usize) -> anyhow::Result<()> {
        if rows >= MANY {
            self.users.extend(all(self.client, "/api/users", "username").await?);
        }
        Ok(())
    }

    /// Reads all names of devices, where the names in that many rows are wanted.
    pub(super) async fn expect_devices(&mut self, rows: usize) -> anyhow::Result<()> {
        if rows >= MANY {
            self.devices.extend(all(self.client, "/api/devices", "name").await?);
        }
        Ok(())
    }

    /// Returns the name of a user; `None` where there is none, as of the operator.
    pub(super) async fn user(&mut self, id: u64) -> anyhow::Result<Option<String>> {
        if !self.users.contains_key(&id) {
            let name = one(self.client, &format!("/api/users/{id}"), "username").await?;
            remember(&mut self.users, id, name);
        }
        Ok(self.users.get(&id).cloned().flatten())
    }

    /// Returns the name of a device; `None` where there is none.
    pub(super) async fn device(&mut self, id: u64) -> anyhow::Result<Option<String>> {
        if !self.devices.contains_key(&id) {
            let name = one(self.client, &format!("/api/devices/{id}"), "name").await?;
            remember(&mut self.devices, id, name);
        }
        Ok(self.devices.get(&id).cloned().flatten())
    }

    /// Returns the names of users beside their ids: `ana (2), bob (3)`.
    pub(super) async fn users(&mut self, ids: &Value) -> anyhow::Result<String> {
        let mut shown = Vec::new();
        for id in ids.as_array().into_iter().flatten().filter_map(Value::as_u64) {
            shown.push(beside(self.user(id).await?, id));
        }
        Ok(shown.join(", "))
    }

    /// Returns the name of a recipient: of `user:7`, `device:3` or `all`.
    pub(super) async fn recipient(&mut self, recipient: &str) -> anyhow::Result<Option<String>> {
        match recipient.split_once(':').and_then(|(kind, id)| Some((kind, id.parse().ok()?))) {
            Some(("user", id)) => self.user(id).await,
            Some(("device", id)) => self.device(id).await,
            _ => Ok((recipient == "all").then(|| "everybody".to_owned())),
        }
    }
}

/// Returns a name with its id, or the id alone.
pub(super) fn beside(name: Option<String>, id: u64) -> String {
    name.map_or_else(|| id.to_string(), |name| format!("{name} ({id})"))
}

fn remember(names: &mut HashMap<u64, Option<String>>, id: u64, name: Option<String>) {
    if names.len() >= MAX_NAMES {
        names.clear();
    }
    names.insert(id, name);
}

/// Returns one name; `None` where there is nothing at `path`.
async fn one(client: &ControlClient, path: &str, field: &str) -> anyhow::Result<Option<String>> {
    Ok(found(client.get(path).await)?.and_then(|item| item[field].as_str().map(str::to_owned)))
}

/// Returns all names of a list.
async fn all(client: &ControlClient, path: &str, field: &str) -> anyhow::Result<Vec<(u64, Option<String>)>> {
    let items = client.list(path).await?;
    Ok(items.iter().filter_map(|item| Some((item["id"].as_u64()?, item[field].as_str().map(str::to_owned)))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_ids_and_names_are_not() {
        assert_eq!((id_in("3"), id_in("id:3"), id_in("lamp"), id_in("-3"), id_in("id:x")), (Some(3), Some(3), None, None, None));
        assert_eq!((beside(Some("ana".into()), 2), beside(None, 0)), ("ana (2)".into(), "0".into()));
        assert_eq!(encoded("a&b 灯"), "%61%26%62%20%E7%81%AF");
    }
}
