//! The client of the control socket. Commands reach a running server through the socket in its data directory; where none is
//! running, this process opens the directory and serves the same socket itself. So a command does the same and prints the same
//! whether a server is running or not.

use std::path::Path;

use anyhow::{Context, bail};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::endpoint::{Endpoint, LOCK_RETRY_INTERVAL, is_served};
use super::failure::{NoServer, Refused};
use super::output::{Output, ReplyUnreadable, note};
use super::run_as::{self, RunAs};
use super::runtime::block_on;
use crate::config::Config;
use crate::core::disk::Explained;
use crate::data_dir;
use crate::store;

/// The most times that a request is made, where other commands that serve the socket end meanwhile.
const MAX_ATTEMPTS: usize = 5;

/// The number of items that one request for a list asks for.
const PAGE_ITEMS: usize = 1000;

/// A client of the control socket.
pub(super) struct ControlClient {
    config: Config,
    /// Whether this process may open the data directory itself: what root creates there would not belong to its owner.
    may_open: bool,
    endpoint: Mutex<Endpoint>,
}

/// Runs `job` with a client of the server that `config` describes.
///
/// # Errors
/// A data directory without a store or that can't be opened, and the job's own errors.
pub(super) fn run<T>(
    config: Config,
    out: Output,
    job: impl AsyncFnOnce(&ControlClient, Output) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    require_data(&config.server.data_dir)?;
    run_anywhere(config, out, job)
}

/// Runs `job` as [`run`] does, and creates the data where there is none.
///
/// # Errors
/// A data directory that can't be opened, and the job's own errors.
pub(super) fn run_anywhere<T>(
    mut config: Config,
    out: Output,
    job: impl AsyncFnOnce(&ControlClient, Output) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    // Compacting takes long; only a server does it when it opens its store.
    config.storage.compact_ratio = 0;
    let run_as = if is_served(&config.server.data_dir) { None } else { RunAs::owner_of(&mut config)? };
    let may_open = run_as.is_some() || !run_as::is_wanted(&config.server.data_dir);

    block_on(async move {
        let client = ControlClient::open(config, may_open).await?;
        let outcome = job(&client, out).await;
        match (client.close().await, outcome) {
            // What the job has done is on the disk.
            (Err(error), Ok(done)) => {
                note(&format!("done, but the store was not closed properly: {error:#}"));
                Ok(done)
            }
            (_, outcome) => outcome,
        }
    })
}

/// Refuses a data directory without a store.
pub(super) fn require_data(data: &Path) -> anyhow::Result<()> {
    let shown = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let store = data.join(data_dir::STORE_DIRECTORY);
    match store.try_exists() {
        Ok(true) => Ok(()),
        // Opening it names the reason.
        Ok(false) if store::is_unfinished(&store) => Ok(()),
        Ok(false) if data.is_dir() => {
            bail!("No data in {}. Start the server once, or pass --data-dir", shown.display())
        }
        Ok(false) => bail!("No data directory at {}. Start the server once, or pass --data-dir", shown.display()),
        Err(error) => bail!("can't read {}: {}", shown.display(), Explained(&error)),
    }
}

/// Reports whether there is certainly no store in the data directory `data`.
pub(super) fn has_no_data(data: &Path) -> bool {
    let store = data.join(data_dir::STORE_DIRECTORY);
    matches!(store.try_exists(), Ok(false)) && !store::is_unfinished(&store)
}

/// Makes an object of the fields that have a value.
pub(super) fn object(fields: &[(&str, Option<Value>)]) -> Value {
    let given = fields.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?)));
    json!(given.collect::<serde_json::Map<_, _>>())
}

impl ControlClient {
    async fn open(config: Config, may_open: bool) -> anyhow::Result<Self> {
        let endpoint = Mutex::new(Endpoint::open(&config, may_open).await?);
        Ok(Self { config, may_open, endpoint })
    }

    async fn close(self) -> anyhow::Result<()> {
        self.endpoint.into_inner().close().await
    }

    /// Refuses unless a server is running; `reason` says what needs one.
    pub(super) async fn require_server(&self, reason: &'static str) -> anyhow::Result<()> {
        if self.get("/control/status").await?["running"] == true { Ok(()) } else { Err(NoServer(reason).into()) }
    }

    async fn request(&self, method: Method, path: &str, body: Option<String>) -> anyhow::Result<Response> {
        let changes = method != Method::GET;
        let mut attempts = 1;
        let response = loop {
            let client = self.endpoint.lock().await.client.clone();
            let request = client.request(method.clone(), format!("http://control{path}"));
            let request = match &body {
                Some(body) => request.header("content-type", "application/json").body(body.clone()),
                None => request,
            };
            match request.send().await {
                Ok(response) => break response,
                Err(error) if (error.is_connect() || !changes) && attempts < MAX_ATTEMPTS && self.reconnect().await? => {
                    attempts += 1
                }
                Err(error) if changes && !error.is_connect() => {
                    bail!("the server did not respond, and may have done it or not; look before you repeat it, and see its log")
                }
                Err(_) => bail!("the server did not respond; see its log"),
            }
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.bytes().await.unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let field = |name: &str| body[name].as_str().map(str::to_owned);
        let message =
            field("message").unwrap_or_else(|| format!("the server refused the request with status {}", status.as_u16()));
        Err(Refused { code: field("code"), message }.into())
    }

    /// Finds the server anew where it is another process: a command that served the socket has ended, perhaps. Returns whether it did.
    async fn reconnect(&self) -> anyhow::Result<bool> {
        let mut endpoint = self.endpoint.lock().await;
        if endpoint.is_foreign() {
            tokio::time::sleep(LOCK_RETRY_INTERVAL).await;
            *endpoint = Endpoint::open(&self.config, self.may_open).await?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Returns the reply to a question.
    async fn reply(&self, path: &str) -> anyhow::Result<Value> {
        let body = self.request(Method::GET, path, None).await?.bytes().await?;
        serde_json::from_slice(&body).context("the server's reply can't be read")
    }

    /// Changes something and returns the `data` of the reply. From its status on, the change has been made.
    ///
    /// # Errors
    /// [`ReplyUnreadable`] when it was made; any other when it was refused, or the server did not respond.
    async fn change(&self, method: Method, path: &str, body: Option<String>) -> anyhow::Result<Value> {
        let body = self.request(method, path, body).await?.bytes().await.unwrap_or_default();
        data_of(&body).ok_or_else(|| ReplyUnreadable.into())
    }

    /// Returns the `data` of the reply.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.reply(path).await?["data"].take())
    }

    /// Returns a reply whose body is read as it arrives.
    pub(super) async fn stream(&self, path: &str) -> anyhow::Result<Response> {
        self.request(Method::GET, path, None).await
    }

    /// Sends a body and returns the `data` of the reply.
    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.post_raw(path, body.to_string()).await
    }

    /// Sends a body that is JSON already and returns the `data` of the reply.
    pub(super) async fn post_raw(&self, path: &str, body: String) -> anyhow::Result<Value> {
        self.change(Method::POST, path, Some(body)).await
    }

    /// Sends a body and returns the `data` of the reply.
    pub(super) async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.change(Method::PATCH, path, Some(body.to_string())).await
    }

    /// Sends a body and returns the `data` of the reply.
    pub(super) async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.change(Method::PUT, path, Some(body.to_string())).await
    }

    /// Deletes something and returns the `data` of the reply.
    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.change(Method::DELETE, path, None).await
    }

    /// Returns all items of a list, page by page; `path` may have a query.
    pub(super) async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let (mut all, mut after) = (Vec::new(), String::new());
        let separator = if path.contains('?') { '&' } else { '?' };
        loop {
            let mut page = self.reply(&format!("{path}{separator}limit={PAGE_ITEMS}{after}")).await?;
            if let Value::Array(items) = page["data"].take() {
                all.extend(items);
            }
            // An id, or a name without characters that have a meaning in a query.
            after = match &page["next"] {
                Value::Number(id) => format!("&after={id}"),
                Value::String(name) => format!("&after={name}"),
                _ => return Ok(all),
            };
        }
    }

    /// Returns the first `limit` items of a list that begins with the newest; `path` has a query, which may be empty.
    pub(super) async fn newest(&self, path: &str, limit: u64) -> anyhow::Result<Vec<Value>> {
        let (mut all, mut before) = (Vec::new(), String::new());
        loop {
            let left = limit.saturating_sub(all.len() as u64).min(PAGE_ITEMS as u64);
            let mut page = self.reply(&format!("{path}&limit={left}{before}")).await?;
            if let Value::Array(items) = page["data"].take() {
                all.extend(items);
            }
            match &page["next"] {
                Value::Number(id) if (all.len() as u64) < limit => before = format!("&before={id}"),
                _ => return Ok(all),
            }
        }
    }
}

/// Returns the `data` of a reply, `null` where it has none; `None` where it is not an object.
fn data_of(reply: &[u8]) -> Option<Value> {
    match serde_json::from_slice(reply) {
        Ok(Value::Object(mut reply)) => Some(reply.remove("data").unwrap_or_default()),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ids::UserId;
    use crate::store::{NewUser, Role, Store};

    /// Makes a data directory with an administrator and, as an earlier version made them, users of those names.
    fn data_with(names: &[&str]) -> (tempfile::TempDir, Config) {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.server.data_dir = dir.path().join("data");
        let data = data_dir::prepare(&config.server.data_dir).unwrap();
        let store = Store::open(&data.join(data_dir::STORE_DIRECTORY)).unwrap();
        for (n, name) in std::iter::once(&"admin").chain(names).enumerate() {
            let new = NewUser { username: format!("u{n}"), role: Role::Admin, password_hash: "x".into() };
            let now = crate::core::time::Timestamp::now();
            let id = store::accounts::write::create_user(store.trees(), new, now, crate::core::ids::MessageId(0)).unwrap().id;
            let trees = store.trees();
            let user = store::User { username: (*name).into(), ..trees.users.get(&id).unwrap().unwrap() };
            trees.users.insert(&id, &user).unwrap();
            trees.user_names.remove(&*format!("u{n}")).unwrap();
            trees.user_names.insert(&*store::fold_name(name), &id).unwrap();
        }
        assert_eq!(store.users(UserId(0)).count(), names.len() + 1);
        store.close().unwrap();
        (dir, config)
    }

    #[test]
    fn reply_that_cant_be_read_is_told_from_one_without_data() {
        assert_eq!(data_of(br#"{"status":"success","data":{"id":7}}"#), Some(json!({"id": 7})));
        assert_eq!(data_of(br#"{"status":"success"}"#), Some(Value::Null));
        for reply in [&br#"{"data":{"message":"\ud83d"}}"#[..], br#"{"data":1e400}"#, b"", b"{", b"[]", b"1", b"\xff"] {
            assert_eq!(data_of(reply), None, "{reply:?}");
        }
    }

    #[test]
    fn id_that_is_another_users_name_is_refused() {
        let (_dir, config) = data_with(&["id:1", "id:3"]);
        let found = |name: &'static str| {
            run(config.clone(), Output::new(true), async |client, _| client.user(name).await.map(|user| user["username"].clone()))
                .map_err(|error| error.to_string())
        };
        let error = found("id:1").unwrap_err();
        assert!(error.contains("pass id:2 for the one with the name"), "{error}");
        assert_eq!((found("admin"), found("id:2")), (Ok(json!("admin")), Ok(json!("id:1"))));
        assert_eq!(found("id:3"), Ok(json!("id:3")), "its own number");
        assert!(found("id:4").unwrap_err().contains("no such user"));
    }
}
