//! Several nodes on one log, as processes. Without a NATS server they say so, and pass: `QY_LTY_NATS_SERVER` is its program; `.ci/run`
//! has it.

mod life;

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::support::engine::Engine;
use crate::support::program::{Running, configure, output, program};
use crate::support::{ADMIN_PASSWORD, http};

/// A cluster's nodes, by the directories that they run in.
struct Cluster {
    engine: Engine,
    dir: tempfile::TempDir,
    /// Further settings of every node, from `[cluster]` on.
    settings: &'static str,
}

impl Cluster {
    /// A founded one with so many servers of the engine, whose first node, `a`, has an administrator; none runs. `None` where there is no
    /// engine.
    async fn found(servers: usize, settings: &'static str) -> Option<Self> {
        let engine = Engine::start(servers).await?;
        let this = Self { engine, dir: tempfile::tempdir().unwrap(), settings };
        let place = this.place("a");
        Running::configured(&place, "").await.stop().await;
        let (code, said) = this.command("a", &["cluster", "found"]).await;
        assert_eq!(code, Some(0), "{said}");
        Some(this)
    }

    /// The directory of a node, with its configuration.
    fn place(&self, node: &str) -> PathBuf {
        let place = self.dir.path().join(node);
        std::fs::create_dir_all(&place).unwrap();
        place
    }

    fn configure(&self, node: &str) -> PathBuf {
        let place = self.place(node);
        configure(&place, &self.section(node));
        place
    }

    fn section(&self, node: &str) -> String {
        let (urls, replicas, settings) = (self.engine.urls(), self.engine.count(), self.settings);
        format!("[cluster]\nname = \"test\"\nnode = \"{node}\"\nnats = {urls:?}\nreplicas = {replicas}\n{settings}")
    }

    /// A node that is ready to run.
    fn node(&self, node: &str) -> Command {
        program(&self.configure(node), &["serve", "--config", "c.toml"])
    }

    /// Starts a node, which serves then.
    async fn start(&self, node: &str) -> Running {
        Running::spawn(self.node(node)).await
    }

    /// Runs a command for a node; returns its status and all that it has said.
    async fn command(&self, node: &str, args: &[&str]) -> (Option<i32>, String) {
        outcome(&self.configure(node), args).await
    }
}

/// Runs a command in a directory; returns its status and all that it has said.
async fn outcome(place: &Path, args: &[&str]) -> (Option<i32>, String) {
    let args: Vec<&str> = args.iter().copied().chain(["--config", "c.toml"]).collect();
    let output = output(program(place, &args)).await;
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.code(), said)
}

/// The administrator's token, by a log-in at a node.
async fn log_in(node: &Running) -> String {
    http::log_in(node.address, "admin", ADMIN_PASSWORD).await
}
