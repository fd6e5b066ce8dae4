//! `orchestra-sim`: runs seeded worlds.

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use orchestra_sim::{cast::Cast, cover::Point, plan::Limits, run};

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
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let limits = Limits::default();
    if let Some(seed) = args.seed {
        let (lines, result) = run::traced(seed, &limits, &Cast::new());
        if args.trace {
            for line in lines {
                println!("{line}");
            }
        }
        return match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(violation) => {
                println!("seed {seed}: {violation}");
                ExitCode::FAILURE
            }
        };
    }
    let began = Instant::now();
    let summary = run::worlds(args.first, args.schedules, args.threads, &limits, &|| {});
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
        println!("{failure}");
        return ExitCode::FAILURE;
    }
    let missing = summary.cover.missing(summary.worlds);
    if !missing.is_empty() {
        println!("never or hardly seen: {}", missing.join(", "));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
