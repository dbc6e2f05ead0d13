//! The fuzzers' seeds on the stable toolchain: every file of `fuzz/corpus`, and thousands of small changes to each.

use std::fs;
use std::path::Path;

use crate::support::api::fuzz;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// A change that a fuzzer would try, too.
#[derive(Debug, Clone)]
enum Change {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Double(prop::sample::Index, prop::sample::Index),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let piece = prop_oneof![
        any::<[u8; 2]>().prop_map(|b| b.to_vec()),
        proptest::sample::select(vec!["null", "\"", "\\", "{", "[", "1e999", "\u{202e}", "\r\n", ";", ",", "="])
            .prop_map(|s| s.into()),
    ];
    let change = prop_oneof![
        (any::<prop::sample::Index>(), 1u8..).prop_map(|(at, bits)| Change::Flip(at, bits)),
        any::<prop::sample::Index>().prop_map(Change::Cut),
        (any::<prop::sample::Index>(), piece).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(|(a, b)| Change::Double(a, b)),
    ];
    prop::collection::vec(change, 0..6)
}

fn apply(seed: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for change in changes {
        let end = bytes.len() + 1;
        match change {
            Change::Flip(at, bits) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            Change::Flip(..) => {}
            Change::Cut(at) => bytes.truncate(at.index(end)),
            Change::Insert(at, piece) => drop(bytes.splice(at.index(end)..at.index(end), piece.iter().copied())),
            Change::Double(a, b) => {
                let (a, b) = (a.index(end), b.index(end));
                bytes.extend_from_within(a.min(b)..a.max(b));
            }
        }
    }
    bytes
}

fn run(name: &str, target: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let seeds: Vec<Vec<u8>> = fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(seeds.len() >= 4, "{name}");
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    for seed in &seeds {
        target(seed);
        let outcome = runner.run(&changes(), |changes| {
            target(&apply(seed, &changes));
            Ok(())
        });
        outcome.unwrap();
    }
}

#[test]
fn inbound_parser_survives_mutated_seeds() {
    run("inbound", fuzz::inbound);
}

#[test]
fn credential_parser_survives_mutated_seeds() {
    run("credential", fuzz::credential);
}

#[test]
fn body_parser_survives_mutated_seeds() {
    run("body", fuzz::body);
}

#[test]
fn message_block_parser_survives_mutated_seeds() {
    run("message_block", fuzz::message_block);
}

#[test]
fn config_parser_survives_mutated_seeds() {
    run("config", fuzz::config);
}

#[test]
fn frame_reader_survives_mutated_seeds() {
    run("frames", fuzz::frames);
}
