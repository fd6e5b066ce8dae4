//! What a proof found, and the table of all of them.

use std::time::{Duration, Instant};

use serde::Serialize;

/// Violations that are kept as text; more are only counted.
const TEXTS_MAX: usize = 10;
/// How often it is printed how far a proof is.
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// The result of one proof.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// The proof's name.
    pub proof: String,
    /// How many rounds were asked for.
    pub figure: u64,
    /// How many rounds were run.
    pub rounds: u64,
    /// How often a promise was broken.
    pub violations: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// What happened in those rounds, so that nobody takes an empty run for a proof.
    pub detail: String,
    /// The first violations, in words, each with the round and the seed that repeats it.
    pub texts: Vec<String>,
    /// When progress was printed last.
    #[serde(skip)]
    told: Option<Instant>,
}

impl Row {
    /// An empty row of `proof` that asks for `figure` rounds.
    #[must_use]
    pub fn new(proof: &str, figure: u64) -> Self {
        Self {
            proof: proof.to_owned(),
            figure,
            told: Some(Instant::now()),
            ..Self::default()
        }
    }

    /// Counts a round. Now and then it is printed how far the proof is: some take an hour.
    pub fn round_ended(&mut self) {
        self.rounds += 1;
        let due = self.told.is_none_or(|told| told.elapsed() >= TOLD_EVERY);
        if due {
            self.told = Some(Instant::now());
            eprintln!(
                "{}: {} of {} rounds, {} violations so far",
                self.proof, self.rounds, self.figure, self.violations
            );
        }
    }

    /// Notes violations of one round.
    pub fn violated(&mut self, round: u64, texts: impl IntoIterator<Item = String>) {
        for text in texts {
            self.violations += 1;
            if self.texts.len() < TEXTS_MAX {
                self.texts.push(format!("round {round}: {text}"));
            }
        }
    }

    /// Whether the proof holds: every round was run and no promise was broken.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.violations == 0 && self.rounds >= self.figure
    }
}

/// Prints the table for people.
pub fn print(rows: &[Row], seed: u64) {
    let head = ["proof", "figure", "rounds", "violations", "seconds"];
    println!(
        "\n{:<22} {:>8} {:>8} {:>10} {:>8}  what happened",
        head[0], head[1], head[2], head[3], head[4]
    );
    for row in rows {
        println!(
            "{:<22} {:>8} {:>8} {:>10} {:>8.1}  {}",
            row.proof, row.figure, row.rounds, row.violations, row.seconds, row.detail
        );
    }
    for row in rows.iter().filter(|row| !row.holds()) {
        println!("\n{} does not hold; again with --seed {seed}:", row.proof);
        for text in &row.texts {
            println!("  - {text}");
        }
    }
}
