//! How commands reach a server: through the socket in its data directory where one runs, and else by opening the directory and
//! serving the same console from this process. So a command does the same and prints the same, whether a server runs or not.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use super::block_on;
use super::print::Printer;
use super::run_as::{self, AsOwner};
use crate::app::{App, OpenError};
use crate::config::Config;
use crate::control::server::ControlServer;
use crate::control::socket::SocketPath;
use crate::data_dir;
use crate::net::tls;
use crate::store::StoreError;

/// How long to wait for who has the store, and how soon to look again.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(100);

/// A list is fetched in pages of so many.
const PAGE: usize = 1000;

/// A way to the control.
pub(super) struct Control {
    client: Client,
    path: SocketPath,
    /// Where no server runs.
    own: Option<(Arc<App>, ControlServer)>,
}

/// Runs `job` with a console of the server that `config` describes.
pub(super) fn run<T>(
    mut config: Config,
    out: Printer,
    job: impl AsyncFnOnce(&Control, Printer) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    look_for_data(&config.server.data_dir)?;
    // Only a server has the time to write its store anew.
    config.storage.compact_ratio = 0;
    let _owner = if is_served(&config.server.data_dir) { None } else { AsOwner::of(&mut config)? };

    block_on(async move {
        let control = Control::open(config).await?;
        let outcome = job(&control, out).await;
        control.close().await?;
        outcome
    })
}

/// Refuses a directory without a store.
pub(super) fn look_for_data(data: &Path) -> anyhow::Result<()> {
    match data.join(data_dir::STORE_DIRECTORY).try_exists() {
        Ok(true) => Ok(()),
        Ok(false) => {
            bail!("there is no data in {}: no server has run there (--config names another configuration)", data.display())
        }
        Err(error) => bail!("can't look into {}: {error}", data.display()),
    }
}

/// Whether a server, or another command, listens to the console of the data directory `data`.
pub(super) fn is_served(data: &Path) -> bool {
    SocketPath::of(data).is_ok_and(|path| UnixStream::connect(path.as_path()).is_ok())
}

impl Control {
    async fn open(config: Config) -> anyhow::Result<Self> {
        let data = config.server.data_dir.clone();
        let patience = Instant::now() + PATIENCE;
        let own = loop {
            if is_served(&data) {
                break None;
            }
            run_as::prepare(&data)?;
            let (config, place) = (config.clone(), data.clone());
            match tokio::task::spawn_blocking(move || App::open(config, &place)).await? {
                Ok(app) => {
                    let served = ControlServer::serve(&app, &data).await;
                    let served = served.map_err(|error| anyhow!("no socket in {}: {error}", data.display()))?;
                    break Some((app, served));
                }
                // A server that starts or stops, or another command: it will be there in a moment, or gone.
                Err(OpenError::Store(StoreError::Locked(_))) if Instant::now() < patience => tokio::time::sleep(AGAIN).await,
                Err(error) => return Err(error.into()),
            }
        };
        let path = SocketPath::of(&data)?;
        // Nothing is ever encrypted here, but the client wants to know with what it would be.
        tls::provide();
        let client = Client::builder().unix_socket(path.as_path()).no_proxy().build()?;
        Ok(Self { client, path, own })
    }

    async fn close(self) -> anyhow::Result<()> {
        drop((self.client, self.path));
        if let Some((app, served)) = self.own {
            app.stopping.cancel();
            app.sessions.close();
            served.stop().await;
            app.sessions.wait().await; // a backup under way ends when nobody takes it
            app.close().await?;
        }
        Ok(())
    }

    /// Refuses where no server runs, for what only a server knows; `why` says what that is.
    pub(super) async fn needs_server(&self, why: &str) -> anyhow::Result<()> {
        if self.get("/control/status").await?["running"] == true { Ok(()) } else { Err(anyhow!("no server runs: {why}")) }
    }

    async fn request(&self, method: Method, path: &str, body: Option<String>) -> anyhow::Result<Response> {
        let request = self.client.request(method, format!("http://control{path}"));
        let request = match body {
            Some(body) => request.header("content-type", "application/json").body(body),
            None => request,
        };
        let response = request.send().await.map_err(|_| anyhow!("the server did not answer; its log may tell why"))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let answer = response.bytes().await.unwrap_or_default();
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        Err(anyhow!("{}", answer["message"].as_str().unwrap_or("the server refused")))
    }

    async fn answer(&self, method: Method, path: &str, body: Option<String>) -> anyhow::Result<Value> {
        let answer = self.request(method, path, body).await?.bytes().await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    /// The `data` of an answer.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.answer(Method::GET, path, None).await?["data"].take())
    }

    /// What comes as it comes.
    pub(super) async fn stream(&self, path: &str) -> anyhow::Result<Response> {
        self.request(Method::GET, path, None).await
    }

    /// The `data` of the answer to a body.
    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.post_raw(path, body.to_string()).await
    }

    /// The same for a body that has been written already.
    pub(super) async fn post_raw(&self, path: &str, body: String) -> anyhow::Result<Value> {
        Ok(self.answer(Method::POST, path, Some(body)).await?["data"].take())
    }

    /// The same.
    pub(super) async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        Ok(self.answer(Method::PATCH, path, Some(body.to_string())).await?["data"].take())
    }

    /// The `data` of the answer to a removal.
    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.answer(Method::DELETE, path, None).await?["data"].take())
    }

    /// All of a list; `path` may have a query.
    pub(super) async fn list(&self, path: &str) -> anyhow::Result<Vec<Value>> {
        let (mut all, mut after) = (Vec::new(), 0);
        let joint = if path.contains('?') { '&' } else { '?' };
        loop {
            let mut page = self.answer(Method::GET, &format!("{path}{joint}limit={PAGE}&after={after}"), None).await?;
            if let Value::Array(items) = page["data"].take() {
                all.extend(items);
            }
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => return Ok(all),
            }
        }
    }

    /// The account that is meant by a name, or by `id:` and a number.
    pub(super) async fn user(&self, named: &str) -> anyhow::Result<Value> {
        if let Some(id) = named.strip_prefix("id:") {
            let id: u64 = id.parse().map_err(|_| anyhow!("{named}: after id: comes a number"))?;
            return self.get(&format!("/api/users/{id}")).await;
        }
        let query: String = named.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let found = self.get(&format!("/api/users?username={query}")).await?;
        found.get(0).cloned().ok_or_else(|| anyhow!("there is no user {named}"))
    }

    /// The id of that account.
    pub(super) async fn user_id(&self, named: &str) -> anyhow::Result<u64> {
        self.user(named).await?["id"].as_u64().context("the server's answer has no id")
    }
}

/// A password: asked for twice at a terminal, else the first line of standard input. Never an argument, which everybody on the
/// machine can read.
pub(super) fn read_password() -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        let first = rpassword::prompt_password("Password: ")?;
        if rpassword::prompt_password("Again: ")? != first {
            bail!("the two are not the same");
        }
        return Ok(first);
    }
    let mut text = String::new();
    let read = std::io::stdin().take(4096).read_to_string(&mut text);
    read.map_err(|error| anyhow!("the password on standard input can't be read: {error}"))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() { Err(anyhow!("no password on standard input")) } else { Ok(line.to_owned()) }
}

/// Opens a file for a backup to be read from, before anything is changed.
pub(super) fn open_file(path: &Path) -> anyhow::Result<File> {
    File::open(path).map_err(|error| anyhow!("can't read {}: {error}", path.display()))
}

/// `{name: value}` of what is given.
pub(super) fn object(fields: &[(&str, Option<Value>)]) -> Value {
    let given = fields.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?)));
    json!(given.collect::<serde_json::Map<_, _>>())
}
