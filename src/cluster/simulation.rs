//! Clusters in simulation: three nodes on a log in memory, and time that passes as fast as the work is done.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::contact::Standing;
use super::entry::{Committed, Entry};
use super::log::Log;
use super::member::{Member, MemberError, MemberOptions, drop_copy, found};
use super::memory::{Faults, MemoryLog};
use super::progress::{Copy, Progress};
use super::replica::SharedReplica;
use super::{BootId, NodeName};
use crate::change::simulated;
use crate::change::{Change, Changes, ClockState, Delta, Expire};
use crate::core::time::Timestamp;
use crate::data_dir::STORE_DIRECTORY;
use crate::store::{MetaKey, Store, StoreError};

/// The nodes of a cluster.
pub const NODES: usize = 3;
/// The age of the last entry from which a copy is stale.
const STALE: Duration = Duration::from_secs(15);
/// The time within which a healed cluster must have made everything.
const RECOVERY: Duration = Duration::from_secs(180);

thread_local! {
    static SIMULATED: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether this thread runs a simulation.
pub fn is_simulated() -> bool {
    SIMULATED.get()
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future that other threads complete, while everything on this one waits.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Operations by chance.
struct Operations(TestRunner);

impl Operations {
    fn new(seed: u64) -> Self {
        let bytes: Vec<u8> = seed.to_le_bytes().into_iter().cycle().take(32).collect();
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        Self(TestRunner::new_with_rng(Config::default(), random))
    }

    fn next(&mut self) -> Change {
        simulated::change().new_tree(&mut self.0).unwrap().current()
    }
}

/// What runs of nodes were asked for, and what they have answered.
#[derive(Default)]
pub struct Asked {
    /// How often each operation was asked for.
    pub asked: BTreeMap<(BootId, String), usize>,
    /// Operations and results, as text.
    pub answers: Vec<(BootId, String, String)>,
}

/// Asks a node for a change; returns its answer.
async fn ask(running: &Running, change: Change, all: &Mutex<Asked>) -> String {
    let (text, is_local) = (serde_json::to_string(&change).unwrap(), change.is_local());
    *all.lock().asked.entry((running.boot, text.clone())).or_default() += 1;
    let result = change.run(&running.changes).await;
    if !is_local && !["Unavailable", "Stopped", "LogFull"].iter().any(|none| result.contains(none)) {
        all.lock().answers.push((running.boot, text, result.clone()));
    }
    result
}

/// A node, whether it runs or not.
pub struct Node {
    pub index: usize,
    data: PathBuf,
    life: JoinSet<()>,
    running: Slot,
}

/// What a node that runs has in memory.
#[derive(Clone)]
pub struct Running {
    pub changes: Changes,
    pub store: Store,
    pub replica: SharedReplica,
    pub boot: BootId,
}

type Slot = Arc<Mutex<Option<Running>>>;

impl Node {
    pub fn store(&self) -> PathBuf {
        self.data.join(STORE_DIRECTORY)
    }

    /// What it has in memory.
    pub fn running(&self) -> Running {
        self.running.lock().clone().unwrap()
    }

    /// How current its copy is.
    pub fn standing(&self) -> Standing {
        self.running().replica.contact.standing(Instant::now(), STALE)
    }

    /// Starts the node, with callers that ask for so many operations each.
    pub fn start(&mut self, world: &World, boot: u64, operations: usize) {
        self.start_on(world.log.of(self.index), world, boot, operations);
    }

    /// Starts the node on a log that is not that of the simulation.
    pub fn start_on<L: Log>(&mut self, log: L, world: &World, boot: u64, operations: usize) {
        let node = NodeName(format!("n{}", self.index));
        let options = MemberOptions { node, boot: BootId(boot), ..MemberOptions::for_tests(&self.data) };
        let callers = Callers { seed: world.seed * 1_000_003 + boot * 31, operations, asked: world.asked.clone() };
        self.life.spawn(live(log, options, self.running.clone(), callers));
    }

    /// Kills the process. What it had in memory is lost.
    pub async fn kill(&mut self) {
        self.life.shutdown().await;
        *self.running.lock() = None;
        // Tasks of tasks end when they are run once more.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    /// Deletes its copy; it is not running.
    pub fn wipe(&self) {
        let _ = drop_copy(&self.data); // it may have been killed before it had one
    }

    /// Notes as much as a crash in the middle of an entry does.
    pub fn tear(&self) {
        if !self.store().exists() {
            return; // it was killed before it had one
        }
        let store = Store::open(&self.store()).unwrap();
        let Copy::Whole(progress) = Progress::load(store.trees()).unwrap() else { return };
        Progress::begin(store.trees(), progress.position.next()).unwrap();
        // A part of what it changes, or nothing yet.
        store.trees().meta.next(MetaKey::NextUser).unwrap();
        store.close().unwrap();
    }
}

/// Those who ask a node for operations.
struct Callers {
    seed: u64,
    operations: usize,
    asked: Arc<Mutex<Asked>>,
}

impl Callers {
    fn start(&self, running: &Running) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for caller in 0..2 {
            let (running, asked, operations, seed) = (running.clone(), self.asked.clone(), self.operations, self.seed + caller);
            tasks.spawn(async move {
                let (mut made, mut random) = (Operations::new(seed), StdRng::seed_from_u64(seed));
                for _ in 0..operations {
                    sleep(Duration::from_millis(random.random_range(0..400))).await;
                    ask(&running, made.next(), &asked).await;
                }
            });
        }
        tasks
    }
}

/// A node's life: it starts again by itself where its copy can't go on.
async fn live<L: Log>(log: L, mut options: MemberOptions, running: Slot, mut callers: Callers) {
    loop {
        let member = match Member::open(log.clone(), options.clone()).await {
            Ok(member) => member,
            // The process before is not wholly gone yet, on a busy machine.
            Err(MemberError::Log(_) | MemberError::Store(StoreError::Locked(_))) => {
                sleep(Duration::from_millis(200)).await;
                continue;
            }
            Err(error) if error.is_of_copy() => {
                drop_copy(&options.data).unwrap();
                continue;
            }
            Err(error) => panic!("seed {}: node {} can't start: {error}", callers.seed, options.node),
        };
        let (changes, store, replica) = (member.changes(), member.store(), member.replica());
        let now = Running { changes, store, replica, boot: options.boot };
        let mut tasks = callers.start(&now);
        *running.lock() = Some(now);
        let ended = member.run().await;
        tasks.shutdown().await;
        *running.lock() = None;
        match ended {
            Err(error) if error.is_of_copy() => {
                drop_copy(&options.data).unwrap();
                options.boot.0 += 1_000_000;
                callers.operations = 0;
            }
            ended => panic!("seed {}: node {} ended: {ended:?}", callers.seed, options.node),
        }
    }
}

/// A cluster that has just been founded.
struct Founded {
    data: tempfile::TempDir,
    log: MemoryLog,
}

/// Returns the one that all simulations begin with.
fn founded() -> &'static Founded {
    static FOUNDED: OnceLock<Founded> = OnceLock::new();
    FOUNDED.get_or_init(|| {
        let data = tempfile::tempdir().unwrap();
        simulated::begin(data.path());
        let clock = ClockState::test(1000).stepped(0, 1_800_000_000_000);
        let wall = Timestamp::from_unix_micros(1_800_000_000_000_000);
        let progress = Progress::founded(1, wall, clock, simulated::settings());
        let log = MemoryLog::new();
        // On a thread of its own, which may wait.
        let founding = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(found(&log, data.path(), move |_| Ok(progress))).unwrap();
        };
        std::thread::scope(|scope| scope.spawn(founding).join().unwrap());
        Founded { data, log }
    })
}

/// Copies the store of a data directory to another one.
fn copy(from: &Path, to: &Path) {
    let (from, to) = (from.join(STORE_DIRECTORY), to.join(STORE_DIRECTORY));
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// A cluster.
pub struct World {
    pub seed: u64,
    _dir: tempfile::TempDir,
    pub log: MemoryLog,
    pub asked: Arc<Mutex<Asked>>,
}

impl World {
    /// A founded cluster, whose nodes begin with copies of the first one.
    pub fn new(seed: u64, faults: Faults) -> (Self, Vec<Node>) {
        let dir = tempfile::tempdir().unwrap();
        let Founded { data, log } = founded();
        let log = log.again(seed, faults);
        let node = |index: usize| {
            let place = dir.path().join(format!("n{index}"));
            copy(data.path(), &place);
            Node { index, data: place, life: JoinSet::new(), running: Slot::default() }
        };
        let nodes = (0..NODES).map(node).collect();
        (Self { seed, _dir: dir, log, asked: Arc::default() }, nodes)
    }

    /// Asks a node for a change; returns its answer.
    pub async fn ask(&self, node: &Node, change: Change) -> String {
        ask(&node.running(), change, &self.asked).await
    }

    /// Waits until every node has applied everything and nothing more comes but empty entries.
    pub async fn settle(&self, nodes: &[Node]) {
        let deadline = Instant::now() + RECOVERY;
        for node in nodes {
            // What one node is told is made everywhere by then, or will be: the log is in one order.
            loop {
                let running = node.running.lock().clone();
                let probed = match running {
                    Some(running) => ask(&running, Change::Expire(Expire {}), &self.asked).await,
                    None => String::from("it has not started"),
                };
                if probed.starts_with("Ok") {
                    break;
                }
                assert!(Instant::now() < deadline, "seed {}: node {} does not recover: {probed}", self.seed, node.index);
                sleep(Duration::from_millis(100)).await;
            }
        }
        sleep(Duration::from_secs(3)).await;
    }
}

/// One machine that makes all operations in the order of the log.
pub struct Reference {
    _dir: tempfile::TempDir,
    pub store: Store,
    machine: simulated::OneMachine,
    pub progress: Progress,
    /// Results by run and operation, as often as it was made.
    pub results: BTreeMap<(BootId, String), Vec<String>>,
}

impl Reference {
    /// One that begins as every node does.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(founded().data.path(), dir.path());
        let store = Store::open(&dir.path().join(STORE_DIRECTORY)).unwrap();
        let Copy::Whole(progress) = Progress::load(store.trees()).unwrap() else { panic!("no progress") };
        let machine = simulated::OneMachine::new(&store, progress.settings.clone());
        Self { _dir: dir, store, machine, progress: *progress, results: BTreeMap::new() }
    }

    pub fn apply(&mut self, committed: &Committed) {
        let Committed { position, time, bytes } = committed;
        assert_eq!(*position, self.progress.position.next());
        let entry = Entry::decode(bytes, *position).unwrap();
        let moment = self.progress.moment(&entry, *time);
        let is_passed_over = self.progress.has_passed(entry.id());
        let trees = self.store.trees();
        let before = trees.tally.sum();
        if !is_passed_over {
            for text in &entry.ops {
                let change: Change = serde_json::from_str(text.get()).unwrap();
                let result = self.machine.apply(trees, change, moment);
                self.results.entry((entry.id().boot, text.get().to_owned())).or_default().push(result);
            }
        }
        self.machine.write(trees);
        self.progress.settings = self.machine.settings();
        let delta = Delta::since(before, trees);
        self.progress.pass((!is_passed_over).then_some(&entry), bytes, delta, moment);
    }
}

/// Runs `simulation` on a clock of its own.
pub fn run(simulation: impl Future<Output = ()>) {
    SIMULATED.set(true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(simulation);
    drop(runtime);
    SIMULATED.set(false);
}
