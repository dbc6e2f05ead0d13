//! The log on a real server. Without one they say so, and pass: `QY_LTY_NATS_SERVER` is its program; `.ci/run` has it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::*;
use crate::cluster::memory::Faults;
use crate::cluster::simulation::{Node, World};
use crate::cluster::tests::{ends, judge_by};
use crate::cluster::{BootId, LEVEL};

/// Servers of one cluster, killed with their guard.
struct Servers {
    program: PathBuf,
    dir: tempfile::TempDir,
    ports: Vec<u16>,
    processes: Vec<Option<Child>>,
}

/// Returns a port that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Servers {
    /// Starts so many that sync before they acknowledge; `None` where there is no program.
    fn start(count: usize) -> Option<Self> {
        let Some(program) = std::env::var_os("QY_LTY_NATS_SERVER") else {
            eprintln!("SKIPPED: no QY_LTY_NATS_SERVER");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let (ports, routes): (Vec<u16>, Vec<u16>) = (0..count).map(|_| (free_port(), free_port())).unzip();
        let all: Vec<String> = routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        for n in 0..count {
            let cluster = format!("cluster {{ name: c, listen: \"127.0.0.1:{}\", routes: [{}] }}\n", routes[n], all.join(", "));
            let config = format!(
                "server_name: s{n}\nlisten: \"127.0.0.1:{}\"\njetstream {{ store_dir: {:?}, sync_interval: always }}\n{}",
                ports[n],
                dir.path().join(format!("js{n}")),
                if count > 1 { &cluster } else { "" }
            );
            std::fs::write(dir.path().join(format!("{n}.conf")), config).unwrap();
        }
        let processes = (0..count).map(|_| None).collect();
        let mut servers = Self { program: program.into(), dir, ports, processes };
        (0..count).for_each(|n| servers.run(n));
        Some(servers)
    }

    fn run(&mut self, n: usize) {
        let log = std::fs::File::options().append(true).create(true).open(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.dir.path().join(format!("{n}.conf")));
        self.processes[n] = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    fn kill(&mut self, n: usize) {
        if let Some(mut process) = self.processes[n].take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn wipe(&self, n: usize) {
        std::fs::remove_dir_all(self.dir.path().join(format!("js{n}"))).unwrap();
    }

    async fn log(&self) -> NatsLog {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let options = NatsOptions {
                servers: self.ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect(),
                user: None,
                root_certificates: None,
                cluster: "test".into(),
                generation: 1,
            };
            match NatsLog::connect(options).await {
                Ok(log) if log.api.call("INFO", &json!({})).await.is_ok() => return log,
                _ => assert!(Instant::now() < deadline, "{}", self.output()),
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn new_log(&self) -> NewLog {
        NewLog { replicas: self.ports.len(), ..NEW }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        (0..self.processes.len()).for_each(|n| self.kill(n));
    }
}

const NEW: NewLog = NewLog { replicas: 1, max_bytes: 64 << 20 };

fn id(n: u64) -> EntryId {
    EntryId { boot: BootId(7), n }
}

async fn append(log: &NatsLog, n: u64, text: &str) -> Result<Position, LogError> {
    log.append(id(n), Bytes::copy_from_slice(text.as_bytes())).await
}

fn file(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[tokio::test]
async fn log_keeps_order_knows_repetitions_and_says_what_is_gone() {
    let Some(server) = Servers::start(1) else { return };
    let log = server.log().await;
    assert!(append(&log, 1, "a").await.is_err(), "there is none yet");
    log.create(NEW).await.unwrap();
    let mut feed = log.follow().await.unwrap();
    assert_eq!(log.end().await.unwrap(), Position(0));
    assert_eq!(append(&log, 1, "a").await.unwrap(), Position(1));
    assert_eq!(append(&log, 2, "b").await.unwrap(), Position(2));
    assert_eq!(append(&log, 1, "a").await.unwrap(), Position(1), "a repetition");
    assert_eq!(append(&log, 3, "c").await.unwrap(), Position(3));
    for (n, text) in (1..).zip(["a", "b", "c"]) {
        let followed = timeout(Duration::from_secs(20), feed.recv()).await.unwrap().unwrap();
        assert_eq!((followed.position, &followed.bytes[..]), (Position(n), text.as_bytes()));
        assert_eq!(log.read(Position(n)).await.unwrap(), Read::Entry(followed), "in both ways");
    }
    assert_eq!(log.read(Position(4)).await.unwrap(), Read::Beyond);
    log.trim(Position(0)).await.unwrap();
    assert!(matches!(log.read(Position(1)).await.unwrap(), Read::Entry(_)), "nothing is removed");
    log.trim(Position(2)).await.unwrap();
    assert_eq!(log.read(Position(2)).await.unwrap(), Read::Gone);
    assert!(matches!(log.read(Position(3)).await.unwrap(), Read::Entry(_)));
    log.trim(Position(3)).await.unwrap();
    assert_eq!((log.read(Position(3)).await.unwrap(), log.end().await.unwrap()), (Read::Gone, Position(3)));
    assert_eq!(append(&log, 4, "d").await.unwrap(), Position(4), "positions go on");
    // Another log of the same name is none.
    assert!(matches!(log.create(NewLog { max_bytes: 1 << 20, ..NEW }).await, Err(LogError::Refused(_))));
}

#[tokio::test]
async fn full_log_refuses_and_has_room_again() {
    let Some(server) = Servers::start(1) else { return };
    let log = server.log().await;
    log.create(NewLog { max_bytes: 100_000, ..NEW }).await.unwrap();
    let text = "x".repeat(30_000);
    let mut n = 0;
    let full = loop {
        n += 1;
        assert!(n < 20);
        if let Err(error) = append(&log, n, &text).await {
            break error;
        }
    };
    assert!(matches!(full, LogError::Full), "{full}");
    log.trim(Position(n - 2)).await.unwrap();
    append(&log, 100, &text).await.unwrap();
}

#[tokio::test]
async fn snapshots_come_back_whole_and_only_those_that_are_kept() {
    let Some(server) = Servers::start(1) else { return };
    let log = server.log().await;
    log.create(NEW).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("to");
    assert_eq!(log.newest_snapshot(&to).await.unwrap(), None);
    let content = |n: u64| (0..600_000 + n).map(|i| (i * n / 7) as u8).collect::<Vec<u8>>();
    for n in 1..=3 {
        let path = file(dir.path(), "from", &content(n));
        log.put_snapshot(Position(n), &path, &[Position(n - 1)]).await.unwrap();
        assert_eq!(log.newest_snapshot(&to).await.unwrap(), Some(Position(n)));
        assert_eq!(std::fs::read(&to).unwrap(), content(n));
    }
    assert_eq!(log.snapshot_positions().await.unwrap(), [Position(2), Position(3)]);
    // One that was cut off is none, and its next attempt is whole.
    let piece = format!("{}.9.5.0", log.pieces);
    log.api.publish(&piece, HeaderMap::new(), Bytes::from_static(b"old")).await.unwrap();
    assert_eq!(log.newest_snapshot(&to).await.unwrap(), Some(Position(3)));
    let path = file(dir.path(), "from", b"");
    log.put_snapshot(Position(9), &path, &[]).await.unwrap();
    assert_eq!((log.newest_snapshot(&to).await.unwrap(), std::fs::read(&to).unwrap()), (Some(Position(9)), Vec::new()));
    assert_eq!(log.snapshot_positions().await.unwrap(), [Position(9)]);
}

/// Starts three nodes, whose callers ask for so many operations.
async fn started(server: &Servers, operations: usize) -> (World, Vec<Node>, NatsLog) {
    let log = server.log().await;
    let deadline = Instant::now() + Duration::from_secs(180);
    while let Err(error) = log.create(server.new_log()).await {
        assert!(Instant::now() < deadline, "{error}: {}", server.output()); // servers that have just started have no leader
        sleep(Duration::from_millis(200)).await;
    }
    let (world, mut nodes) = World::new(3, Faults::default());
    for (node, boot) in nodes.iter_mut().zip(1..) {
        node.start_on(server.log().await, &world, boot, operations);
    }
    (world, nodes, log)
}

/// Compares answers and copies with those of one machine.
async fn end(world: &World, mut nodes: Vec<Node>, log: &NatsLog) {
    world.settle(&nodes).await;
    let ends = ends(&nodes);
    let last = ends.iter().map(|(_, progress)| progress.position).max().unwrap();
    let mut entries = Vec::new();
    while entries.len() < usize::try_from(last.0).unwrap() {
        match log.read(Position(entries.len() as u64 + 1)).await.unwrap() {
            Read::Entry(entry) => entries.push(entry),
            other => panic!("{other:?}"),
        }
    }
    judge_by(world, &ends, &entries);
    assert!(ends.iter().all(|(_, progress)| progress.level == LEVEL));
    for node in &mut nodes {
        node.kill().await;
    }
}

/// The faults of a run; more of them with `QY_LTY_CLUSTER_TRIALS`.
fn trials(default: usize) -> usize {
    std::env::var("QY_LTY_CLUSTER_TRIALS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_and_server_are_killed_and_nothing_is_lost_or_made_twice() {
    let Some(mut server) = Servers::start(1) else { return };
    let (world, mut nodes, log) = started(&server, 40).await;
    for n in 0..trials(6) {
        sleep(Duration::from_millis(700)).await;
        if n % 2 == 0 {
            server.kill(0);
            sleep(Duration::from_millis(300)).await;
            server.run(0);
        } else {
            let node = &mut nodes[n % 3];
            node.kill().await;
            node.start_on(server.log().await, &world, 10 + n as u64, 20);
        }
    }
    sleep(Duration::from_secs(3)).await;
    end(&world, nodes, &log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_are_killed_one_by_one_and_all_at_once_and_nothing_is_lost() {
    let Some(mut servers) = Servers::start(3) else { return };
    let (world, mut nodes, log) = started(&servers, 60).await;
    for n in 0..trials(5) {
        sleep(Duration::from_millis(1500)).await;
        let killed = if n % 4 == 3 { vec![0, 1, 2] } else { vec![n % 3] };
        killed.iter().for_each(|&n| servers.kill(n));
        sleep(Duration::from_millis(500)).await;
        killed.iter().for_each(|&n| servers.run(n));
        let node = &mut nodes[n % 3];
        node.kill().await;
        node.start_on(servers.log().await, &world, 10 + n as u64, 20);
    }
    sleep(Duration::from_secs(8)).await;
    end(&world, nodes, &log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_that_has_lost_everything_is_noticed() {
    let Some(mut server) = Servers::start(1) else { return };
    let (world, mut nodes, _) = started(&server, 5).await;
    world.settle(&nodes).await;
    for node in &mut nodes {
        node.kill().await;
    }
    server.kill(0);
    server.wipe(0);
    server.run(0);
    let log = server.log().await;
    let data = nodes[0].store().parent().unwrap().to_owned();
    let open = async |log: NatsLog| {
        let options = crate::cluster::member::MemberOptions::for_tests(&data);
        crate::cluster::member::Member::open(log, options).await.err().map(|error| error.to_string())
    };
    let refused = open(log.clone()).await.unwrap();
    assert!(refused.contains("can't be reached"), "{refused}");
    log.create(NEW).await.unwrap();
    let refused = open(log).await.unwrap();
    assert!(refused.contains("the log has lost entries"), "{refused}");
}
