//! The share of the simulation that `cargo test` runs. The whole of it: see `docs/testing.md`.

use std::thread::available_parallelism;

use orchestra_sim::{plan::Limits, run};

/// As many as an unoptimised build does in seconds.
const WORLDS: u64 = 4_000;

#[test]
fn worlds_keep_every_rule_and_end() {
    let threads = available_parallelism().map_or(1, usize::from);
    let summary = run::worlds(0, WORLDS, threads, &Limits::default(), &|| {});
    if let Some(failure) = summary.failure {
        panic!("{failure}");
    }
    assert!(summary.worlds >= WORLDS);
    let missing = summary.cover.missing(WORLDS);
    assert!(missing.is_empty(), "never or hardly seen: {missing:?}");
}
