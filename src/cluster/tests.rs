//! Everything that goes wrong by chance, and the kinds of it one by one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep};

use super::contact::Standing;
use super::entry::Committed;
use super::member::{Member, MemberError, MemberOptions};
use super::memory::Faults;
use super::progress::Progress;
use super::simulation::{NODES, Node, Reference, World, run};
use crate::change::simulated::{self, Dump};
use crate::change::{Change, DeleteUser, Expire};
use crate::core::ids::UserId;
use crate::store::MetaKey;

/// Runs a cluster of that seed to its end: what is answered must be what one machine would have answered that had made all operations in the
/// order of the log, and all copies must end as that machine's.
async fn simulate(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let level = random.random_range(0..3);
    let faults = Faults { lost: 30 * level, slow: 20 * level, repeated: 30 * level, unseen: 40 * level, behind: 60 * level };
    let (world, mut nodes) = World::new(seed, faults);
    let mut boots = 0;
    let mut next_boot = || {
        boots += 1;
        boots
    };
    nodes.iter_mut().for_each(|node| node.start(&world, next_boot(), 7));
    for _ in 0..random.random_range(1..6) {
        sleep(Duration::from_millis(random.random_range(100..2500))).await;
        let index = random.random_range(0..NODES);
        let node = &mut nodes[index];
        match random.random_range(0..9) {
            0 => world.log.cut(index, true),
            1 => (0..NODES).for_each(|index| world.log.cut(index, false)),
            2 => (0..NODES).for_each(|index| world.log.cut(index, true)),
            3 => world.log.jump([3600, -3600, 86_400 * 400][random.random_range(0..3)]),
            what => {
                node.kill().await;
                match what {
                    4 => node.tear(),
                    5 => node.wipe(),
                    _ => {}
                }
                node.start(&world, next_boot(), 5);
            }
        }
    }
    end(&world, nodes).await;
}

/// The records and places of nodes.
pub fn ends(nodes: &[Node]) -> Vec<(Dump, Progress)> {
    let end = |node: &Node| (simulated::dump(&node.running().store), node.running().replica.progress());
    nodes.iter().map(end).collect()
}

/// Compares answers and copies with those of one machine.
fn judge(world: &World, ends: &[(Dump, Progress)]) {
    judge_by(world, ends, &world.log.entries());
}

/// The same, by the entries of a log.
pub fn judge_by(world: &World, ends: &[(Dump, Progress)], entries: &[Committed]) {
    let seed = world.seed;
    let mut reference = Reference::new();
    let mut at_ends = BTreeMap::new();
    for entry in entries {
        reference.apply(entry);
        if ends.iter().any(|(_, progress)| progress.position == entry.position) {
            at_ends.insert(entry.position, (simulated::dump(&reference.store), reference.progress.clone()));
        }
    }
    for (node, (records, progress)) in ends.iter().enumerate() {
        let (expected, place) = &at_ends[&progress.position];
        assert!(records == expected, "seed {seed}: the copy of node {node} differs");
        assert_eq!(serde_json::to_string(progress).unwrap(), serde_json::to_string(place).unwrap(), "seed {seed}");
    }
    let mut all = world.asked.lock();
    for (operation, results) in &reference.results {
        let asked = all.asked.get(operation).copied().unwrap_or(0);
        assert!(
            results.len() <= asked,
            "seed {seed}: {operation:?} was made {} times, and asked for {asked} times",
            results.len()
        );
    }
    // What was answered was made once, with that result.
    for (boot, operation, result) in all.answers.drain(..) {
        let results = reference.results.get_mut(&(boot, operation.clone())).into_iter().flatten();
        let all: Vec<&mut String> = results.collect();
        let found = all.into_iter().find(|made| **made == result);
        let found = found.unwrap_or_else(|| panic!("seed {seed}: {operation} was answered {result}, which was not made"));
        found.clear(); // it is no other one's result
    }
}

#[test]
fn copies_and_answers_are_those_of_one_machine() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (first, count) = (number("QY_LTY_CLUSTER_SEED", 0), number("QY_LTY_CLUSTER_SEEDS", 250));
    let next = AtomicU64::new(first);
    std::thread::scope(|scope| {
        // Each waits for the threads of its stores half of the time.
        for _ in 0..2 * std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < first + count) {
                    run(simulate(seed));
                }
            });
        }
    });
}

/// Starts a cluster without callers or faults.
fn started() -> (World, Vec<Node>) {
    let (world, mut nodes) = World::new(1, Faults::default());
    (1..).zip(&mut nodes).for_each(|(boot, node)| node.start(&world, boot, 0));
    (world, nodes)
}

/// Ends a cluster; all of its copies are alike.
async fn end(world: &World, mut nodes: Vec<Node>) {
    world.log.heal();
    world.settle(&nodes).await;
    judge(world, &ends(&nodes));
    for node in &mut nodes {
        node.kill().await;
    }
}

async fn ask(world: &World, node: &Node) -> String {
    world.ask(node, Change::Expire(Expire {})).await
}

#[test]
fn node_that_is_cut_off_is_late_then_stale_and_answers_nobody_until_it_is_back() {
    run(async {
        let (world, nodes) = started();
        world.settle(&nodes).await;
        assert_eq!(nodes.iter().map(Node::standing).collect::<Vec<_>>(), [Standing::Fresh; NODES]);
        world.log.cut(1, true);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(nodes[1].standing(), Standing::Late);
        let began = Instant::now();
        let answer = ask(&world, &nodes[1]).await;
        assert!(answer.contains("Unavailable") && began.elapsed() <= Duration::from_secs(10), "{answer}");
        sleep(Duration::from_secs(3)).await;
        assert_eq!(nodes.iter().map(Node::standing).collect::<Vec<_>>(), [Standing::Fresh, Standing::Stale, Standing::Fresh]);
        assert!(ask(&world, &nodes[2]).await.starts_with("Ok"));
        world.log.cut(1, false);
        sleep(Duration::from_secs(5)).await;
        assert_eq!(nodes[1].standing(), Standing::Fresh);
        assert!(ask(&world, &nodes[1]).await.starts_with("Ok"));
        end(&world, nodes).await;
    });
}

#[test]
fn full_log_is_an_answer_and_no_end() {
    run(async {
        let (world, nodes) = started();
        world.settle(&nodes).await;
        world.log.set_room(0);
        assert!(ask(&world, &nodes[0]).await.contains("LogFull"));
        assert!(ask(&world, &nodes[1]).await.contains("LogFull"));
        world.log.set_room(1000);
        assert!(ask(&world, &nodes[0]).await.starts_with("Ok"));
        end(&world, nodes).await;
    });
}

#[test]
fn copy_that_differs_is_noticed_and_made_anew() {
    run(async {
        let (world, nodes) = started();
        world.settle(&nodes).await;
        let boots = |nodes: &[Node]| nodes.iter().map(|node| node.running().boot.0).collect::<Vec<_>>();
        assert_eq!(boots(&nodes), [1, 2, 3]);
        // A bit of what nobody looks at until it is changed.
        nodes[1].running().store.trees().meta.set(MetaKey::NextUser, 70_000).unwrap();
        assert!(world.ask(&nodes[0], simulated::new_user("z")).await.starts_with("Ok"));
        sleep(Duration::from_secs(90)).await; // each of the others has appended something
        assert_eq!(boots(&nodes), [1, 1_000_002, 3], "the one that differs has started again, and no other");
        end(&world, nodes).await;
    });
}

#[test]
fn node_that_was_away_for_long_begins_with_a_snapshot() {
    run(async {
        let (world, mut nodes) = started();
        world.settle(&nodes).await;
        nodes[2].kill().await;
        for n in 0..100 {
            world.ask(&nodes[(n % 2) as usize], Change::DeleteUser(DeleteUser { id: UserId(1000 + n) })).await;
            sleep(Duration::from_secs(2)).await;
        }
        let kept = nodes[0].running().replica.progress().snapshots;
        assert!(kept.len() == 2 && kept[0].0 > 40, "{kept:?}");
        nodes[2].start(&world, 4, 0);
        world.settle(&nodes).await;
        end(&world, nodes).await;
    });
}

#[test]
fn log_that_has_lost_entries_is_noticed() {
    run(async {
        let (world, mut nodes) = started();
        world.settle(&nodes).await;
        for node in &mut nodes {
            node.kill().await;
        }
        world.log.lose(3);
        let options = MemberOptions::for_tests(nodes[0].store().parent().unwrap());
        let opened = Member::open(world.log.of(0), options).await;
        assert!(matches!(opened, Err(MemberError::LostEntries(_))));
    });
}
