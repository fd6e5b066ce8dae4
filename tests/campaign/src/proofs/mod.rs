//! One file for each way to break a head, a worker or the network between them.

mod faults;
mod flips;
mod full_disk;
mod hostile;
mod io_errors;
mod kill;
mod network;
mod power;
mod trees;
mod worker_full_disk;
mod worker_io_errors;
mod worker_kill;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context;
use orchestra_tests::Need;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{Row, Share, head::Site};

/// A way to break something, and what it takes.
#[derive(Clone, Copy, Debug)]
pub struct Proof {
    /// Its name, as the command line has it.
    pub name: &'static str,
    /// The promise, as a sentence: the name of the test.
    pub sentence: &'static str,
    /// What it cannot do without.
    pub needs: &'static [Need],
    run: fn(&Campaign) -> anyhow::Result<Row>,
}

/// All of them, in the order in which they are run.
pub const PROOFS: &[Proof] = &[
    kill::PROOF,
    power::PROOF,
    power::CONTROL,
    full_disk::PROOF,
    io_errors::PROOF,
    flips::PROOF,
    trees::PROOF,
    worker_kill::PROOF,
    network::PROOF,
    worker_full_disk::PROOF,
    worker_io_errors::PROOF,
    hostile::PROOF,
    hostile::CONTROL,
];

/// What all proofs share.
#[derive(Debug)]
pub struct Campaign {
    binary: PathBuf,
    share: Share,
    rounds: Option<u64>,
    seed: u64,
    runtime: Runtime,
    scratch: TempDir,
}

impl Campaign {
    /// A campaign against the head at `binary`. `rounds` replaces every figure.
    pub fn new(
        binary: &Path,
        share: Share,
        rounds: Option<u64>,
        seed: u64,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()?;
        Ok(Self {
            binary: binary.to_owned(),
            share,
            rounds,
            seed,
            runtime,
            scratch: TempDir::with_prefix("orchestra-campaign-")?,
        })
    }

    /// Runs one proof. An error is of the campaign itself, and counts as a violation.
    pub fn run(&self, proof: &Proof) -> Row {
        let started = Instant::now();
        let ran = (proof.run)(self);
        let mut row = ran.unwrap_or_else(|error| {
            let mut row = Row::new(proof.name, 0);
            row.violated(0, [format!("the campaign failed: {error:#}")]);
            row
        });
        row.seconds = started.elapsed().as_secs_f64();
        row
    }

    fn row(&self, name: &str, ci: u64, full: u64) -> Row {
        Row::new(name, self.rounds.unwrap_or(self.share.of(ci, full)))
    }

    /// A random stream of its own for one round of one proof.
    fn rng(&self, proof: &str, round: u64) -> fastrand::Rng {
        let name = proof.bytes().fold(0_u64, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(u64::from(byte))
        });
        fastrand::Rng::with_seed(self.seed ^ name ^ round.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// A new directory below the scratch directory.
    fn dir(&self, name: &str) -> anyhow::Result<PathBuf> {
        let dir = self.scratch.path().join(name);
        std::fs::create_dir_all(&dir)
            .with_context(|| format!("failed to make `{}`", dir.display()))?;
        Ok(dir)
    }

    /// A head's site with its state in `state`.
    fn site(&self, state: &Path) -> Site {
        Site {
            binary: self.binary.clone(),
            listen: "127.0.0.1:0".to_owned(),
            state: state.to_owned(),
            log: self.scratch.path().join("head.log"),
            env: Vec::new(),
        }
    }
}
