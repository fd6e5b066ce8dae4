//! Tries every deliberate bug of the core: each must be found, and soon.

use std::time::{Duration, Instant};

use orchestra_core::{Mutation, mutate};

use crate::{
    plan::Limits,
    run::{self, Failure},
};

/// How one deliberate bug fared.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Which.
    pub mutation: Mutation,
    /// Worlds that were run.
    pub worlds: u64,
    /// How it was found; none means that it was not.
    pub failure: Option<Failure>,
    /// How long it took.
    pub took: Duration,
}

/// Runs worlds with a deliberate bug until one finds it, at most `schedules` of them.
#[must_use]
pub fn trial(mutation: Mutation, schedules: u64, threads: usize) -> Trial {
    let began = Instant::now();
    let limits = Limits::default();
    let switch_on = || mutate(Some(mutation));
    let summary = run::worlds(0, schedules, threads, &limits, &switch_on);
    Trial {
        mutation,
        worlds: summary.worlds,
        failure: summary.failure,
        took: began.elapsed(),
    }
}

/// Prints one line of the table for each deliberate bug; whether all were found.
pub fn table(schedules: u64, threads: usize, print: &mut dyn FnMut(String)) -> bool {
    print(format!(
        "{:>8}  {:>8}  {:<28}  deliberate bug",
        "worlds", "seed", "found by"
    ));
    let mut missed = 0;
    for mutation in Mutation::ALL {
        let trial = trial(*mutation, schedules, threads);
        let words = mutation.words();
        let line = match &trial.failure {
            Some(failure) => format!(
                "{:>8}  {:>8}  {:<28}  {words}",
                trial.worlds,
                failure.seed,
                failure.violation.rule.name()
            ),
            None => {
                missed += 1;
                format!(
                    "{:>8}  {:>8}  {:<28}  {words}",
                    trial.worlds, "-", "NOT FOUND"
                )
            }
        };
        print(line);
    }
    let all = Mutation::ALL.len();
    print(format!(
        "{} of {all} deliberate bugs were found",
        all - missed
    ));
    missed == 0
}
