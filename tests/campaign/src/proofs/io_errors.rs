//! One system call on the head's files fails: each kind of call, each place in the order of calls.
//!
//! The head stops with an error, or it refuses what it could not do; it never goes on as if nothing
//! had happened. The next head opens the store, and what was acknowledged is there.

use std::{
    fs,
    path::Path,
    process::ExitStatus,
    time::{Duration, Instant},
};

use super::{
    Campaign, Proof,
    faults::{self, Case, EIO, Faults},
};
use crate::{
    Row,
    client::Clients,
    head::{Head, Site},
    helper,
    ledger::Shared,
    load::{self, Load},
    verify::{self, Scope},
};

/// See the file's documentation.
pub(super) const PROOF: Proof = Proof {
    name: "io-errors",
    sentence: "an_error_of_the_disk_stops_the_head_and_loses_nothing",
    needs: helper::PRELOAD,
    run,
};

/// The load runs this long for the calls of a round to be counted.
const COUNTED_FOR: Duration = Duration::from_millis(250);
/// The load runs this long when nothing was hit: a slower round than the counted one comes as far.
const HIT_WITHIN: Duration = Duration::from_secs(1);
/// A head that must stop has ended after this: it gives calls that are open some seconds first.
const END_WITHIN: Duration = Duration::from_secs(30);
/// A head that may refuse what failed is looked at so long, and no longer: the load goes on beside it,
/// and all that it writes is compared.
const REFUSES_WITHIN: Duration = Duration::from_millis(500);
/// Every so many rounds the store is made anew, so that its making is hit too.
const ROUNDS_OF_STORE: u64 = 6;
/// A round in which nothing was hit does not count; so many are tried for each that does.
const TRIES_OF_ROUND: u64 = 4;
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How a head took it.
enum Took {
    /// Nothing was hit.
    Nothing,
    /// It ended by itself, with an error.
    Stopped,
    /// It went on.
    WentOn,
}

fn run(campaign: &Campaign) -> anyhow::Result<Row> {
    let mut cases = faults::cases(&calls_of_a_round(campaign)?);
    campaign.rng(PROOF.name, 0).shuffle(&mut cases);
    let mut row = campaign.row(PROOF.name, 24, 400);
    let (mut stopped, mut went_on, mut quiet) = (0, 0, 0);
    let mut store = Store::new(campaign, 0)?;
    for round in 0..row.figure * TRIES_OF_ROUND {
        if row.rounds == row.figure {
            break;
        }
        let case = cases[usize::try_from(round)? % cases.len()];
        if round > 0 && round.is_multiple_of(ROUNDS_OF_STORE) {
            fs::remove_dir_all(&store.site.state)?;
            store = Store::new(campaign, round)?;
        }
        let mut found = Vec::new();
        match store.hit(campaign, case, round, &mut found)? {
            Took::Nothing => quiet += 1,
            Took::Stopped => stopped += 1,
            Took::WentOn => went_on += 1,
        }
        found.extend(store.compare(campaign)?);
        let named = found.into_iter().map(|text| format!("{case:?}: {text}"));
        row.violated(round, named);
        row.rounds = stopped + went_on;
    }
    row.detail = format!(
        "{} places; {stopped} heads stopped with an error, {went_on} refused what failed and went on, \
         {quiet} more were not hit",
        cases.len()
    );
    Ok(row)
}

/// How often each kind of call is made by a head on a new store, its load and its end.
fn calls_of_a_round(campaign: &Campaign) -> anyhow::Result<Vec<u64>> {
    let mut store = Store::new(campaign, u64::MAX)?;
    store.hit(campaign, Case::NONE, u64::MAX, &mut Vec::new())?;
    store.faults.counts()
}

struct Store {
    site: Site,
    ledger: Shared,
    load: Option<Load>,
    faults: Faults,
}

impl Store {
    fn new(campaign: &Campaign, number: u64) -> anyhow::Result<Self> {
        let dir = campaign.dir(&format!("io-errors-{number}"))?;
        Ok(Self {
            site: campaign.site(&dir).with_long_leases()?,
            ledger: Shared::default(),
            load: None,
            faults: Faults::new(campaign)?,
        })
    }

    /// Runs a head that is hit, with a load, until it has ended or was not impressed.
    fn hit(
        &mut self,
        campaign: &Campaign,
        case: Case,
        round: u64,
        found: &mut Vec<String>,
    ) -> anyhow::Result<Took> {
        let mut site = self.site.clone();
        site.env = self.faults.environment(case, &self.site.state)?;
        let mut head = site.spawn()?;
        let ended = match head.wait_until_ready() {
            Ok(()) => campaign
                .runtime
                .block_on(self.under_load(&mut head, case, round))?,
            Err(_) => head.ended()?,
        };
        drop(head);
        let hit = self.faults.hits();
        found.append(&mut self.ledger.lock().broken);
        Ok(match (hit.is_empty(), ended) {
            (true, None) => Took::Nothing,
            (_, Some(status)) => {
                let log = self.site.log_text();
                if status.code() != Some(1) || !log.contains("error: ") {
                    found.push(format!("ended with {status} and without an error:\n{log}"));
                }
                Took::Stopped
            }
            (false, None) => {
                if must_stop(case, &hit, &self.site.state) {
                    found.push(format!("WENT ON after {} on {hit}", case.error));
                }
                Took::WentOn
            }
        })
    }

    /// How the head ended by itself; none when it did not.
    async fn under_load(
        &mut self,
        head: &mut Head,
        case: Case,
        round: u64,
    ) -> anyhow::Result<Option<ExitStatus>> {
        // The error may hit here as well.
        let Ok(clients) = Clients::connect(&self.site).await else {
            return wait(END_WITHIN, || head.ended()).await;
        };
        let load = match self.load.take() {
            Some(load) => load,
            None => Load::new(&self.site, &self.ledger, &format!("io-{round}"), round)?,
        };
        let running = load.start(&clients);
        let load_for = if case.at == 0 {
            COUNTED_FOR
        } else {
            HIT_WITHIN
        };
        wait(load_for, || {
            let over = head.ended()?.is_some() || !self.faults.hits().is_empty();
            Ok(over.then_some(()))
        })
        .await?;
        let mut ended = head.ended()?;
        let hit = self.faults.hits();
        if ended.is_none() && !hit.is_empty() {
            let within = if must_stop(case, &hit, &self.site.state) {
                END_WITHIN
            } else {
                REFUSES_WITHIN
            };
            ended = wait(within, || head.ended()).await?;
        }
        if ended.is_none() {
            // The load ends only with its head. What was acknowledged must survive this too.
            head.kill_9()?;
        }
        self.load = Some(running.ended().await?);
        if hit.is_empty() && ended.is_none() {
            // An error that hit between the look and the kill had no time to show what it does.
            self.faults.forget_hits()?;
        }
        Ok(ended)
    }

    /// A head that nothing hits opens the store and has everything.
    fn compare(&self, campaign: &Campaign) -> anyhow::Result<Vec<String>> {
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
        drop(head);
        Ok(found)
    }
}

/// Looks until there is something to see, or the time is over.
async fn wait<T>(
    within: Duration,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<Option<T>> {
    let until = Instant::now() + within;
    loop {
        let seen = look()?;
        if seen.is_some() || Instant::now() > until {
            return Ok(seen);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a head may not go on: what it keeps could be ahead of the disk. No space is an answer that
/// it may pass on.
fn must_stop(case: Case, hit: &str, state: &Path) -> bool {
    case.errno == EIO && is_of_store(hit, state)
}

fn is_of_store(hit: &str, state: &Path) -> bool {
    let head = state.join("head");
    ["db", "journal", "events"]
        .iter()
        .any(|part| hit.contains(&*head.join(part).to_string_lossy()))
}
