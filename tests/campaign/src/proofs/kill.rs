//! `kill -9` of the head under load, at random moments: while it starts, while it replays what the
//! last one left, and while it serves.

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

use super::{Campaign, Proof};
use crate::{
    Row,
    client::Clients,
    head::Site,
    ledger::{Ledger, Shared},
    load::{self, Load},
    verify::{self, Scope},
};

/// See the file's documentation.
pub(super) const PROOF: Proof = Proof {
    name: "kill",
    sentence: "what_was_acknowledged_survives_kill_9_under_32_submitters",
    needs: &[],
    run,
};

/// A store with this many tasks makes place for a new one, so that a round stays short.
const TASKS_MAX: usize = 20_000;
/// All of the store is compared after this many rounds; what is new, after each.
const ROUNDS_FOR_ALL: u64 = 25;
/// One round of this many is killed before it serves.
const ONE_STARTS_IN: u8 = 6;
/// How long the worker may take to attach before the clock of a round starts.
const ATTACHED_WITHIN: Duration = Duration::from_secs(2);
/// More violations say nothing new.
const VIOLATIONS_MAX: u64 = 5;

/// One store and those who use it.
struct Store {
    dir: PathBuf,
    site: Site,
    ledger: Shared,
    load: Option<Load>,
    /// What is below was compared in an earlier round.
    compared: u64,
    /// How long the last start took.
    start_took: Duration,
}

fn run(campaign: &Campaign) -> anyhow::Result<Row> {
    let mut row = campaign.row(PROOF.name, 100, 3000);
    let mut total = Ledger::default();
    let (mut stores, mut in_start) = (0, 0);
    let mut store: Option<Store> = None;
    while row.rounds < row.figure && row.violations < VIOLATIONS_MAX {
        let round = row.rounds;
        let mut rng = campaign.rng(PROOF.name, round);
        let mut at = match store.take() {
            Some(at) => at,
            None => {
                stores += 1;
                Store::new(campaign, stores)?
            }
        };
        if round > 0 && rng.u8(0..ONE_STARTS_IN) == 0 {
            in_start += 1;
            row.violated(round, at.kill_in_start(&mut rng)?);
        } else {
            row.violated(round, at.kill_under_load(campaign, &mut rng, round)?);
        }
        row.round_ended();
        let full = at.ledger.lock().tasks.len() > TASKS_MAX;
        if full || row.rounds == row.figure {
            row.violated(round, at.close(campaign, &mut total)?);
        } else {
            store = Some(at);
        }
    }
    let counts = total.counts;
    row.detail = format!(
        "{} submits, {} cancels, {} completions, {} events acknowledged; {} submits repeated; \
         {in_start} kills while starting; {stores} stores",
        counts.submits, counts.cancels, counts.completions, counts.events, counts.repeated
    );
    Ok(row)
}

impl Store {
    fn new(campaign: &Campaign, number: u64) -> anyhow::Result<Self> {
        let dir = campaign.dir(&format!("kill-{number}"))?;
        Ok(Self {
            site: campaign.site(&dir).with_long_leases()?,
            dir,
            ledger: Shared::default(),
            load: None,
            compared: 0,
            start_took: Duration::from_millis(100),
        })
    }

    /// Kills a head that has perhaps not opened its store yet.
    fn kill_in_start(&self, rng: &mut fastrand::Rng) -> anyhow::Result<Vec<String>> {
        let head = self.site.spawn()?;
        thread::sleep(self.start_took.mul_f64(rng.f64()));
        Ok(violation(head.kill()))
    }

    /// Compares what the last head left, then lets the load run for a moment.
    fn kill_under_load(
        &mut self,
        campaign: &Campaign,
        rng: &mut fastrand::Rng,
        round: u64,
    ) -> anyhow::Result<Vec<String>> {
        let starts = Instant::now();
        let head = match self.site.start() {
            Ok(head) => head,
            Err(error) => return Ok(vec![format!("FAILED TO OPEN: {error:#}")]),
        };
        self.start_took = starts.elapsed();
        campaign.runtime.block_on(async {
            let clients = Clients::connect(&self.site).await?;
            let all = round.is_multiple_of(ROUNDS_FOR_ALL);
            self.ledger.lock().attached = 0;
            let mut found = self.compare(&clients, all).await?;
            let load = match self.load.take() {
                Some(load) => load,
                None => {
                    let name = self.dir.file_name().context("it has a name")?;
                    Load::new(
                        &self.site,
                        &self.ledger,
                        &name.to_string_lossy(),
                        rng.u64(..),
                    )?
                }
            };
            let running = load.start(&clients);
            if rng.u8(0..4) > 0 {
                self.until_attached().await;
            }
            tokio::time::sleep(moment(rng)).await;
            found.extend(violation(head.kill()));
            self.load = Some(running.ended().await?);
            found.append(&mut self.ledger.lock().broken);
            Ok(found)
        })
    }

    /// On a busy machine a worker may take longer to attach than the head has to live.
    async fn until_attached(&self) {
        let until = Instant::now() + ATTACHED_WITHIN;
        while self.ledger.lock().attached == 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn compare(&mut self, clients: &Clients, all: bool) -> anyhow::Result<Vec<String>> {
        let scope = match all {
            true => Scope::All,
            false => Scope::From(self.compared + 1),
        };
        let found = verify::compare(clients, &self.ledger, scope).await?;
        // What still runs is looked at again, and what is cancelled late when all is compared.
        let ledger = self.ledger.lock();
        let open = ledger.tasks.keys().rev().nth(load::SUBMITTERS * 8);
        self.compared = open.copied().unwrap_or(0);
        Ok(found)
    }

    /// Sends again what has no answer, compares everything, and throws the store away.
    fn close(self, campaign: &Campaign, total: &mut Ledger) -> anyhow::Result<Vec<String>> {
        let head = match self.site.start() {
            Ok(head) => head,
            Err(error) => return Ok(vec![format!("FAILED TO OPEN: {error:#}")]),
        };
        let found = campaign.runtime.block_on(async {
            let clients = Clients::connect(&self.site).await?;
            load::settle(&clients, &self.ledger).await?;
            let mut found = verify::compare(&clients, &self.ledger, Scope::All).await?;
            found.append(&mut self.ledger.lock().broken);
            anyhow::Ok(found)
        })?;
        head.kill()?;
        let ledger = self.ledger.mark();
        total.counts.submits += ledger.counts.submits;
        total.counts.cancels += ledger.counts.cancels;
        total.counts.repeated += ledger.counts.repeated;
        total.counts.events += ledger.counts.events;
        let done = ledger.done.keys().filter(|id| ledger.is_done(**id));
        total.counts.completions += done.count() as u64;
        fs::remove_dir_all(&self.dir).context("failed to remove a store")?;
        Ok(found)
    }
}

/// How long the load may run: often a moment, sometimes long enough for a checkpoint.
fn moment(rng: &mut fastrand::Rng) -> Duration {
    let micros = match rng.u8(0..10) {
        0..3 => rng.u64(0..8_000),
        3..8 => rng.u64(5_000..60_000),
        _ => rng.u64(50_000..160_000),
    };
    Duration::from_micros(micros)
}

fn violation(killed: anyhow::Result<()>) -> Vec<String> {
    killed
        .err()
        .map(|error| format!("{error:#}"))
        .into_iter()
        .collect()
}
