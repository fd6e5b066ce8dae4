//! The campaign's share for a run of all tests: one test for each proof.

use std::process::ExitCode;

use anyhow::bail;
use orchestra_campaign::{Campaign, PROOFS, Proof, Share};
use orchestra_tests::{Binaries, Suite, Test, enter};

fn main() -> ExitCode {
    if let Some(hidden) = orchestra_campaign::hidden() {
        return hidden;
    }
    if let Err(error) = Binaries::build() {
        eprintln!("error: {error:?}");
        return ExitCode::FAILURE;
    }
    enter();
    Suite::default()
        .with("campaign", PROOFS.iter().map(test).collect())
        .run()
}

fn test(proof: &'static Proof) -> Test {
    Test::new(proof.sentence, || holds(proof)).needs(proof.needs)
}

fn holds(proof: &Proof) -> anyhow::Result<()> {
    let seed = fastrand::u64(..);
    let campaign = Campaign::new(&Binaries::get().head(), Share::Ci, None, seed)?;
    let row = campaign.run(proof);
    if !row.holds() {
        bail!(
            "{} of {} rounds, {} violations; again: `cargo run -p orchestra-campaign -- {} --share ci --seed {seed}`\n{}",
            row.rounds,
            row.figure,
            row.violations,
            proof.name,
            row.texts.join("\n")
        );
    }
    println!("{}: {}", proof.name, row.detail);
    Ok(())
}
