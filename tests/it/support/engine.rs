//! NATS servers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::api::Config;
use super::program::{output, program};
use super::{eventually, free_address};

/// Servers of one cluster that sync before they acknowledge; killed with this.
pub struct Engine {
    program: PathBuf,
    dir: tempfile::TempDir,
    ports: Vec<u16>,
    processes: Vec<Option<Child>>,
}

impl Engine {
    /// Starts so many servers; `None` where there is no program.
    pub async fn start(count: usize) -> Option<Self> {
        let Some(program) = std::env::var_os("QY_LTY_NATS_SERVER") else {
            eprintln!("SKIPPED: no QY_LTY_NATS_SERVER");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let ports: Vec<[u16; 2]> = (0..count).map(|_| [free_address().port(), free_address().port()]).collect();
        let routes: Vec<String> = ports.iter().map(|[_, route]| format!("\"nats://127.0.0.1:{route}\"")).collect();
        for (n, [port, route]) in ports.iter().enumerate() {
            let store = dir.path().join(format!("js{n}"));
            let cluster = format!("cluster {{ name: c, listen: \"127.0.0.1:{route}\", routes: [{}] }}\n", routes.join(", "));
            let config = format!(
                "server_name: s{n}\nlisten: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?}, sync_interval: always }}\n{}",
                if count > 1 { &cluster } else { "" }
            );
            std::fs::write(dir.path().join(format!("{n}.conf")), config).unwrap();
        }
        let (ports, processes) = (ports.iter().map(|[port, _]| *port).collect(), (0..count).map(|_| None).collect());
        let mut this = Self { program: program.into(), dir, ports, processes };
        (0..count).for_each(|n| this.run(n));
        this.ready().await;
        Some(this)
    }

    /// Starts a server that does not run.
    pub fn run(&mut self, n: usize) {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.dir.path().join(format!("{n}.conf"))).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.processes[n] = Some(command.spawn().unwrap());
    }

    /// Waits until the servers accept connections; those of a cluster choose a leader after that.
    async fn ready(&self) {
        for &port in &self.ports {
            let open = async || tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok();
            eventually("the engine listens", open).await;
        }
    }

    /// Kills a server.
    pub async fn kill(&mut self, n: usize) {
        if let Some(mut process) = self.processes[n].take() {
            process.kill().await.unwrap();
        }
    }

    /// The number of servers.
    pub fn count(&self) -> usize {
        self.ports.len()
    }

    /// Their addresses.
    pub fn urls(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect()
    }
}

/// Makes the server with the data below `place` the only node of a cluster, which it founds where there is no data, where
/// `QY_LTY_TEST_CLUSTER` is the address of an engine: the tests of one machine are then those of a node.
pub async fn take_part(place: &Path, config: &mut Config) {
    let Ok(url) = std::env::var("QY_LTY_TEST_CLUSTER") else { return };
    let name = place.file_name().unwrap().to_string_lossy().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    let section = format!("name = \"t{name}\"\nnode = \"a\"\nnats = [\"{url}\"]\nreplicas = 1\nlog_max_bytes = 67108864\n");
    config.cluster = Some(toml::from_str(&section).unwrap());
    if !config.server.data_dir.join("store").exists() {
        // The limits that all nodes have.
        let limits = [("mailbox", toml::Table::try_from(&config.mailbox)), ("history", toml::Table::try_from(&config.history))];
        let limits: String = limits.map(|(section, keys)| format!("[{section}]\n{}\n", keys.unwrap())).concat();
        let text = format!("[server]\ndata_dir = {:?}\n{limits}[cluster]\n{section}", config.server.data_dir);
        std::fs::write(place.join("found.toml"), text).unwrap();
        let found = output(program(place, &["cluster", "found", "--config", "found.toml"])).await;
        assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    }
}

/// The names of the nodes beside the first, as many as `QY_LTY_TEST_NODES` asks for.
pub fn further_nodes() -> impl Iterator<Item = &'static str> {
    let count = std::env::var("QY_LTY_TEST_NODES").map_or(1, |text| text.parse().unwrap());
    ["b", "c", "d", "e"].into_iter().take(count - 1)
}

/// Names the node of a configuration.
pub fn rename(config: &mut Config, name: &str) {
    config.cluster.as_mut().unwrap().node = Some(name.to_owned());
}

/// Passes each connection on to another of the nodes than the one before, until the task is aborted. Returns the address for them.
pub async fn in_turn(nodes: Vec<SocketAddr>) -> (SocketAddr, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let passing = async move {
        let mut connections = JoinSet::new();
        for node in nodes.iter().cycle() {
            let (mut client, _) = listener.accept().await.unwrap();
            let node = *node;
            connections.spawn(async move {
                let Ok(mut server) = TcpStream::connect(node).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await; // one end may be cut off
            });
            while connections.try_join_next().is_some() {}
        }
    };
    (address, AbortOnDropHandle::new(tokio::spawn(passing)))
}
