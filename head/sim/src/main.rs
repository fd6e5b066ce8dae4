//! `orchestra-sim`: runs seeded worlds.

use std::{panic, process::ExitCode, time::Instant};

use clap::Parser;
use orchestra_sim::{
    cast::Cast,
    cover::Point,
    plan::{Limits, Switch, Switches},
    run,
};

/// Run seeded worlds of head, store, workers and clients
#[derive(Debug, Parser)]
struct Args {
    /// How many worlds to run.
    #[arg(long, default_value_t = 100_000)]
    schedules: u64,
    /// The seed of the first one.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Run this one world only.
    #[arg(long)]
    seed: Option<u64>,
    /// With --seed: print what happens in it.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// At most this many steps before a world heals.
    #[arg(long, default_value_t = u32::MAX)]
    steps: u32,
    /// Faults and features that are off in every world, by name: see head/sim/src/plan.rs.
    #[arg(long, value_delimiter = ',', value_parser = switch)]
    without: Vec<Switch>,
    /// Try every deliberate bug of the core, each in at most --schedules worlds.
    #[cfg(feature = "mutations")]
    #[arg(long)]
    mutations: bool,
    /// Switch on this deliberate bug: one of the names in head/core/src/mutation.rs.
    #[cfg(feature = "mutations")]
    #[arg(long)]
    mutation: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    // A panic of the core is caught, and reported as the rule that it breaks.
    panic::set_hook(Box::new(|_| {}));
    let good = match args.seed {
        Some(seed) => one(seed, &args),
        None => many(&args),
    };
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn limits(args: &Args) -> Limits {
    Limits {
        steps: args.steps,
        without: Switches::of(&args.without),
    }
}

fn switch(name: &str) -> Result<Switch, String> {
    let mut all = Switch::ALL.iter().copied();
    let known = all.find(|switch| switch.name() == name);
    known.ok_or_else(|| {
        let names: Vec<&str> = Switch::ALL.iter().map(|switch| switch.name()).collect();
        format!("no such switch; there are: {}", names.join(", "))
    })
}

fn one(seed: u64, args: &Args) -> bool {
    prepare(args)();
    let (lines, result) = run::traced(seed, &limits(args), &Cast::new());
    if args.trace {
        for line in lines {
            println!("{line}");
        }
    }
    match &result {
        Ok(()) => println!("seed {seed}: every rule holds"),
        Err(violation) => println!("seed {seed}: {violation}"),
    }
    result.is_ok()
}

fn many(args: &Args) -> bool {
    #[cfg(feature = "mutations")]
    if args.mutations {
        let mut print = |line: String| println!("{line}");
        return orchestra_sim::mutations::table(args.schedules, args.threads, &mut print);
    }
    let began = Instant::now();
    let prepare = prepare(args);
    let limits = limits(args);
    let summary = run::worlds(args.first, args.schedules, args.threads, &limits, &prepare);
    let seconds = began.elapsed().as_secs_f64();
    for point in Point::ALL {
        println!("{:>12}  {}", summary.cover.count(*point), point.name());
    }
    println!(
        "{} worlds in {seconds:.1} s: {:.0}/s",
        summary.worlds,
        summary.worlds as f64 / seconds
    );
    if let Some(failure) = summary.failure {
        prepare();
        let steps = run::shrunk(failure.seed, &limits, &Cast::new());
        println!("{failure} --steps {steps}");
        return false;
    }
    let missing = summary.cover.missing(summary.worlds);
    if !missing.is_empty() {
        println!("never or hardly seen: {}", missing.join(", "));
    }
    missing.is_empty()
}

#[cfg(not(feature = "mutations"))]
fn prepare(_args: &Args) -> impl Fn() + Sync + use<> {
    || {}
}

#[cfg(feature = "mutations")]
fn prepare(args: &Args) -> impl Fn() + Sync + use<> {
    let all = orchestra_core::Mutation::ALL.iter().copied();
    let wanted = args.mutation.clone();
    let mutation = wanted.and_then(|name| all.into_iter().find(|m| format!("{m:?}") == name));
    move || orchestra_core::mutate(mutation)
}
