//! `campaign`: runs the proofs and prints a table.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, bail};
use clap::Parser;
use orchestra_campaign::{Campaign, PROOFS, Proof, Row, Share, print};
use orchestra_tests::enter;

/// Break the built head on purpose, and compare what is left with what was acknowledged
///
/// Without names all proofs are run. The exit status is 0 only if every proof holds; a proof that
/// this machine cannot run is skipped by name, and then the status is 3.
#[derive(Parser)]
#[command(name = "campaign", version)]
struct Args {
    /// Which proofs; `--list` names them
    names: Vec<String>,
    /// How many rounds: the promised figures, or the share that tests run
    #[arg(long, value_enum, default_value = "full")]
    share: Share,
    /// The number of rounds, instead of the share's
    #[arg(long)]
    rounds: Option<u64>,
    /// Repeats the choices of an earlier run. Default: a new one, which is printed
    #[arg(long)]
    seed: Option<u64>,
    /// The head to break. Default: `orchestra-head` beside this program
    #[arg(long, value_name = "FILE")]
    head: Option<PathBuf>,
    /// Print one JSON document instead of the table
    #[arg(long)]
    json: bool,
    /// Print the proofs and what they need
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    if let Some(hidden) = orchestra_campaign::hidden() {
        return hidden;
    }
    let args = Args::parse();
    enter();
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let proofs = chosen(&args.names)?;
    if args.list {
        for proof in proofs {
            println!("{:<16} {}", proof.name, proof.sentence);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let head = match &args.head {
        Some(head) => head.clone(),
        None => beside_this_program()?,
    };
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("seed {seed}");
    let campaign = Campaign::new(&head, args.share, args.rounds, seed)?;
    let (mut rows, mut skipped) = (Vec::new(), Vec::new());
    for proof in proofs {
        match proof.needs.iter().find_map(|need| need.lacking()) {
            Some(why) => skipped.push(format!("{}: {why}", proof.name)),
            None => rows.push(one(&campaign, proof)),
        }
    }
    match args.json {
        true => println!(
            "{}",
            serde_json::json!({"seed": seed, "rows": rows, "skipped": skipped})
        ),
        false => print(&rows, seed),
    }
    for skip in &skipped {
        eprintln!("skipped on this machine: {skip}");
    }
    Ok(match (rows.iter().all(Row::holds), skipped.is_empty()) {
        (false, _) => ExitCode::FAILURE,
        (true, true) => ExitCode::SUCCESS,
        (true, false) => ExitCode::from(3),
    })
}

fn one(campaign: &Campaign, proof: &Proof) -> Row {
    eprintln!("{} …", proof.name);
    let row = campaign.run(proof);
    eprintln!(
        "{}: {} of {} rounds, {} violations, {:.1} s",
        row.proof, row.rounds, row.figure, row.violations, row.seconds
    );
    row
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Proof>> {
    let known: Vec<_> = PROOFS.iter().map(|proof| proof.name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!(
            "there is no proof `{unknown}`; there are: {}",
            known.join(", ")
        );
    }
    let wanted = |proof: &&Proof| names.is_empty() || names.iter().any(|name| name == proof.name);
    Ok(PROOFS.iter().filter(wanted).collect())
}

fn beside_this_program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("failed to find this program")?;
    let head = own.with_file_name("orchestra-head");
    if !head.exists() {
        bail!(
            "there is no `{}`; build it with `cargo build -p orchestra-head` and the same profile, \
             or name one with --head",
            head.display()
        );
    }
    Ok(head)
}
