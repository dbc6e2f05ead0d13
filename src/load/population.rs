//! The accounts that a load uses: those of a server of its own, or some that are created on a running one and deleted again.

use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::http::Http;
use super::{LoadError, Result, Target};

/// The beginning of names on a server that the load did not start; a random number follows.
pub const PREFIX: &str = "bench-";
/// Devices of each user that is created on a running server: with the user's own connection, below the default of
/// `limits.connections_per_user`.
const DEVICES_PER_USER: usize = 15;
/// Devices of each user on a server of the load's own.
const OWN_DEVICES_PER_USER: usize = 50;
/// Accounts that are created at the same time.
const CREATIONS: usize = 8;
/// How often the deletion is tried again that a rate limit refuses, and the pause before it: two minutes in all.
const MAX_ATTEMPTS: u32 = 120;
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The items of a page of a list.
const PAGE_ITEMS: usize = 1000;

/// Somebody who receives.
#[derive(Debug, Clone)]
pub struct Recipient {
    /// The token that it connects with.
    pub token: String,
    /// The path that messages to it are posted to.
    pub path: String,
}

/// A user with a program of its own, and the devices that it sends to.
#[derive(Debug, Clone)]
pub struct Home {
    /// The user's token.
    pub token: String,
    /// Its devices.
    pub devices: Vec<Recipient>,
}

/// A user.
#[derive(Debug, Clone)]
struct User {
    id: u64,
    token: Option<String>,
    name: String,
    password: String,
    devices: Vec<Recipient>,
}

/// The accounts of a load.
#[derive(Debug)]
pub struct Population {
    target: Target,
    admin: String,
    /// Imported beforehand; else created as they are asked for.
    imported: bool,
    prefix: String,
    users: Vec<User>,
}

impl Population {
    /// Returns the name of an imported user.
    pub fn imported_name(n: usize) -> String {
        format!("user{n}")
    }

    /// Looks up users that were imported with those tokens, under the names of [`Population::imported_name`].
    ///
    /// # Errors
    /// A server that does not answer, or lacks one of them.
    pub fn imported<'a>(target: &'a Target, admin: &'a str, tokens: &'a [String]) -> BoxFuture<'a, Result<Self>> {
        Box::pin(async move {
            let mut ids = std::collections::HashMap::new();
            for user in list(&mut Http::new(target, admin), "/api/users").await? {
                if let (Some(name), Some(id)) = (user["username"].as_str(), user["id"].as_u64()) {
                    ids.insert(name.to_owned(), id);
                }
            }
            let user = |(n, token): (usize, &String)| {
                let name = Self::imported_name(n);
                let id = *ids.get(&name).ok_or_else(|| LoadError::Other(format!("the server has no user {name}")))?;
                Ok(User { id, token: Some(token.clone()), name, password: String::new(), devices: Vec::new() })
            };
            let users = tokens.iter().enumerate().map(user).collect::<Result<_>>()?;
            Ok(Self { target: target.clone(), admin: admin.to_owned(), imported: true, prefix: String::new(), users })
        })
    }

    /// For a running server, with the token of an administrator. Nothing is created yet.
    pub fn on(target: &Target, admin: &str) -> Self {
        let prefix = format!("{PREFIX}{:08x}-", rand::random::<u32>());
        Self { target: target.clone(), admin: admin.to_owned(), imported: false, prefix, users: Vec::new() }
    }

    /// Returns the server's address.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Returns the token of the administrator.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// Reports whether the accounts are those of a server of the load's own.
    pub fn is_imported(&self) -> bool {
        self.imported
    }

    /// Returns the beginning of the names of what is created.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns `count` recipients: users where they were imported, else devices, since a device needs no password, which takes a
    /// server long to hash.
    ///
    /// # Errors
    /// Accounts that can't be created.
    pub fn recipients(&mut self, count: usize) -> BoxFuture<'_, Result<Vec<Recipient>>> {
        Box::pin(async move {
            if self.imported {
                let path = |id| format!("/api/messages/user/{id}/");
                let all = self.users.iter().take(count);
                return Ok(all.filter_map(|user| Some(Recipient { token: user.token.clone()?, path: path(user.id) })).collect());
            }
            let homes = self.with_devices(count).await?;
            Ok(self.users[..homes].iter().flat_map(|user| user.devices.iter().cloned()).take(count).collect())
        })
    }

    /// Returns users with programs of their own, and `devices` devices in all.
    ///
    /// # Errors
    /// Accounts that can't be created, or log in.
    pub fn homes(&mut self, devices: usize) -> BoxFuture<'_, Result<Vec<Home>>> {
        Box::pin(async move {
            let homes = self.with_devices(devices).await?;
            let mut left = devices;
            let mut all = Vec::new();
            for user in &mut self.users[..homes] {
                let token = match &user.token {
                    Some(token) => token.clone(),
                    None => user.token.insert(log_in(&self.target, &user.name, &user.password).await?).clone(),
                };
                let devices: Vec<Recipient> = user.devices.iter().take(left).cloned().collect();
                left -= devices.len();
                all.push(Home { token, devices });
            }
            Ok(all)
        })
    }

    /// Returns a user of the population with `devices` devices: the path to send to it, and the devices.
    ///
    /// # Errors
    /// Accounts that can't be created.
    pub async fn user_with_devices(&mut self, at: usize, devices: usize) -> Result<(String, Vec<Recipient>)> {
        let user = self.users.get(at).ok_or_else(|| LoadError::Other("too few users".into()))?;
        let (id, has) = (user.id, user.devices.len());
        for n in has..devices {
            let device = device(&mut Http::new(&self.target, &self.admin), &format!("d{n}"), id).await?;
            self.users[at].devices.push(device);
        }
        Ok((format!("/api/messages/user/{id}/"), self.users[at].devices[..devices].to_vec()))
    }

    /// Creates devices, and users for them, until there are `count`; returns how many users have them.
    fn with_devices(&mut self, count: usize) -> BoxFuture<'_, Result<usize>> {
        Box::pin(async move {
            let each = if self.imported { OWN_DEVICES_PER_USER } else { DEVICES_PER_USER };
            let homes = count.div_ceil(each);
            if self.imported && homes > self.users.len() {
                return Err(LoadError::Other(format!("{count} devices need {homes} users, and there are {}", self.users.len())));
            }
            let (permits, mut tasks) = (Arc::new(Semaphore::new(CREATIONS)), JoinSet::new());
            for at in 0..homes {
                let user = self.users.get(at).cloned();
                let (target, admin, name) = (self.target.clone(), self.admin.clone(), format!("{}{at}", self.prefix));
                let (permits, wanted) = (permits.clone(), each.min(count - at * each));
                tasks.spawn(async move {
                    let _permit = permits.acquire().await;
                    let mut http = Http::new(&target, &admin);
                    let mut user = match user {
                        Some(user) => user,
                        None => create_user(&mut http, name).await?,
                    };
                    for n in user.devices.len()..wanted {
                        user.devices.push(device(&mut http, &format!("{}-{n}", user.name), user.id).await?);
                    }
                    Ok::<_, LoadError>((at, user))
                });
            }
            let mut made = Vec::new();
            while let Some(done) = tasks.join_next().await {
                made.push(done.map_err(|error| LoadError::Other(error.to_string()))??);
            }
            made.sort_by_key(|(at, _)| *at);
            for (at, user) in made {
                match self.users.get_mut(at) {
                    Some(place) => *place = user,
                    None => self.users.push(user),
                }
            }
            Ok(homes)
        })
    }

    /// Deletes users whose names have the prefix. From the server's list: one that was cut off while it was created may be there.
    async fn remove_listed(&self, removed: &mut usize) -> Result<()> {
        let mut http = Http::new(&self.target, &self.admin);
        for user in list(&mut http, "/api/users").await? {
            if user["username"].as_str().is_some_and(|name| name.starts_with(&self.prefix)) {
                http.call("DELETE", &format!("/api/users/{}", user["id"]), &Value::Null).await?;
                *removed += 1;
            }
        }
        Ok(())
    }

    /// Deletes what was created on a running server: every user whose name has the prefix, and with them their devices and messages.
    /// Returns their number.
    ///
    /// # Errors
    /// Users that can't be deleted.
    pub fn remove(&mut self) -> BoxFuture<'_, Result<usize>> {
        Box::pin(async move {
            if self.imported {
                return Ok(0);
            }
            let (mut removed, mut attempts) = (0, 0);
            loop {
                match self.remove_listed(&mut removed).await {
                    // The load before may have used up the rate.
                    Err(LoadError::Refused(refusal)) if refusal.status == 429 && attempts < MAX_ATTEMPTS => attempts += 1,
                    outcome => break outcome?,
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            self.users.clear();
            Ok(removed)
        })
    }
}

/// Returns a token of that user.
async fn log_in(target: &Target, name: &str, password: &str) -> Result<String> {
    let body = json!({"username": name, "password": password});
    let answer = Http::new(target, "").call("POST", "/api/auth/login", &body).await?;
    Ok(answer["token"].as_str().unwrap_or_default().to_owned())
}

async fn create_user(http: &mut Http, name: String) -> Result<User> {
    let password = crate::core::hex::hex(&rand::random::<[u8; 16]>());
    let made = http.call("POST", "/api/users", &json!({"username": name, "password": password})).await?;
    Ok(User { id: id_of(&made)?, token: None, name, password, devices: Vec::new() })
}

/// Creates a device of that user, with a token.
fn device<'a>(http: &'a mut Http, name: &'a str, user: u64) -> BoxFuture<'a, Result<Recipient>> {
    Box::pin(async move {
        let id = id_of(&http.call("POST", "/api/devices", &json!({"name": name, "user_id": user})).await?)?;
        let made = http.call("POST", &format!("/api/devices/{id}/token"), &json!({})).await?;
        let token = made["data"]["token"].as_str().unwrap_or_default().to_owned();
        Ok(Recipient { token, path: format!("/api/messages/device/{id}/") })
    })
}

fn id_of(made: &Value) -> Result<u64> {
    made["data"]["id"].as_u64().ok_or_else(|| LoadError::Protocol("what was created has no id".into()))
}

/// Returns all items of a list, page by page.
fn list<'a>(http: &'a mut Http, path: &'a str) -> BoxFuture<'a, Result<Vec<Value>>> {
    Box::pin(async move {
        let (mut all, mut after) = (Vec::new(), String::new());
        loop {
            let mut page = http.call("GET", &format!("{path}?limit={PAGE_ITEMS}{after}"), &Value::Null).await?;
            if let Value::Array(items) = page["data"].take() {
                all.extend(items);
            }
            match page["next"].as_u64() {
                Some(id) => after = format!("&after={id}"),
                None => return Ok(all),
            }
        }
    })
}
