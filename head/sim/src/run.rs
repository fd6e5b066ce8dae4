//! Runs worlds, on all processors, and says which one failed.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use crate::{
    cast::Cast,
    cover::Coverage,
    plan::Limits,
    rule::{Checked, Rule, Violation, broken},
    trace::Trace,
    world::World,
};

/// One world in this many is run twice, and both must be the same to the byte.
const TWICE_ONE_IN: u64 = 256;
/// Worlds that a thread takes at once.
const CHUNK: u64 = 64;

/// A world that broke a rule.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// How.
    pub violation: Violation,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.violation)?;
        write!(
            f,
            "replay: cargo run -p orchestra-sim --profile sim -- --seed {} --trace",
            self.seed
        )
    }
}

/// What many worlds came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How many were run.
    pub worlds: u64,
    /// What they went through.
    pub cover: Coverage,
    /// The first that broke a rule, by its seed.
    pub failure: Option<Failure>,
}

/// Runs one world.
pub fn world(seed: u64, limits: &Limits, cast: &Cast, cover: &mut Coverage) -> Checked {
    let twice = seed.is_multiple_of(TWICE_ONE_IN);
    let mut first = World::new(seed, limits, cast, std::mem::take(cover), Trace::default());
    if twice {
        first.keep_digest();
    }
    let result = guarded(&mut first);
    *cover = first.take_cover();
    result?;
    if !twice {
        return Ok(());
    }
    let mut second = World::new(seed, limits, cast, Coverage::default(), Trace::default());
    second.keep_digest();
    guarded(&mut second)?;
    if first.digest() != second.digest() {
        return Err(broken(Rule::Deterministic, "two runs of a seed differ"));
    }
    Ok(())
}

/// The fewest steps before healing after which a world still breaks a rule.
#[must_use]
pub fn shrunk(seed: u64, limits: &Limits, cast: &Cast) -> u32 {
    /// More than any world has.
    const STEPS_MAX: u32 = 200;
    let fails = |steps: u32| {
        let limits = Limits { steps, ..*limits };
        world(seed, &limits, cast, &mut Coverage::default()).is_err()
    };
    (0..STEPS_MAX)
        .find(|steps| fails(*steps))
        .unwrap_or(STEPS_MAX)
}

/// Runs one world and writes down what happens in it.
pub fn traced(seed: u64, limits: &Limits, cast: &Cast) -> (Vec<String>, Checked) {
    let mut world = World::new(seed, limits, cast, Coverage::default(), Trace::on());
    let result = guarded(&mut world);
    (world.take_trace(), result)
}

/// A panic of the core is a broken rule like any other.
fn guarded(world: &mut World<'_>) -> Checked {
    match catch_unwind(AssertUnwindSafe(|| world.run())) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(broken(Rule::NoPanic, text.unwrap_or("a panic")))
        }
    }
}

/// Runs worlds from `first` on, `count` of them, with `threads`; ends at the first failure.
/// `prepare` is called at the start of each thread.
pub fn worlds(
    first: u64,
    count: u64,
    threads: usize,
    limits: &Limits,
    prepare: &(dyn Fn() + Sync),
) -> Summary {
    let next = AtomicU64::new(first);
    let end = first + count;
    let failed = AtomicBool::new(false);
    let part = || {
        prepare();
        let cast = Cast::new();
        let mut summary = Summary::default();
        while !failed.load(Ordering::Relaxed) {
            let from = next.fetch_add(CHUNK, Ordering::Relaxed);
            for seed in from..end.min(from + CHUNK) {
                summary.worlds += 1;
                if let Err(violation) = world(seed, limits, &cast, &mut summary.cover) {
                    failed.store(true, Ordering::Relaxed);
                    let violation = *violation;
                    summary.failure = Some(Failure { seed, violation });
                    return summary;
                }
            }
            if from >= end {
                break;
            }
        }
        summary
    };
    let parts = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(part)).collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined.filter_map(Result::ok).collect::<Vec<Summary>>()
    });
    let mut all = Summary::default();
    for part in parts {
        all.worlds += part.worlds;
        all.cover.add(&part.cover);
        all.failure = match (all.failure, part.failure) {
            (Some(a), Some(b)) if b.seed < a.seed => Some(b),
            (a, b) => a.or(b),
        };
    }
    all
}
