//! One system call on a worker's files fails, in the worker, its supervisors or the gits that it runs: each
//! kind of call, each place in the order of calls, while agents come and end.
//!
//! A disk that was full for one call costs nothing: every task succeeds. After another error a task
//! may fail, with words that say why, and the worker may end; but what is recorded as a success is what the
//! agent said and wrote, whatever failed.

use std::{collections::BTreeMap, fs, path::PathBuf, process::ExitStatus};

use anyhow::Context;
use orchestra_tests::{Deadline, Marker, until};
use serde_json::json;

use super::{
    Campaign, Proof,
    faults::{self, Case, EIO, Faults},
};
use crate::{
    Row,
    agents::{Agents, Work},
    daemon::{Daemon, Post},
    head::{Head, Site},
    helper,
    results::{self, Compared, Runs},
};

/// See the file's documentation.
pub(super) const PROOF: Proof = Proof {
    name: "worker-io-errors",
    sentence: "an_error_of_the_disk_below_a_worker_never_makes_a_result_wrong",
    needs: helper::PRELOAD,
    run,
};

/// How many agents work at once, and in one round.
const SLOTS: usize = 4;
/// How long an agent works at most, in milliseconds.
const LONGEST_MS: u32 = 600;
/// A cluster is made anew after this many rounds.
const ROUNDS_FOR_ONE: u64 = 10;
/// A round in which nothing was hit does not count; so many are tried for each that does.
const TRIES_OF_ROUND: u64 = 4;
/// How long everything may take to end.
const ALL_ENDED: Deadline = Deadline::secs(120);

/// A cluster on one machine.
struct Cluster {
    agents: Agents,
    post: Post,
    site: Site,
    _head: Head,
    marker: Marker,
    faults: Faults,
    /// What may become of each task.
    runs: BTreeMap<u64, Runs>,
}

/// What came of rounds.
#[derive(Default)]
struct Seen {
    hit: u64,
    quiet: u64,
    ended: u64,
}

fn run(campaign: &Campaign) -> anyhow::Result<Row> {
    let mut row = campaign.row(PROOF.name, 16, 400);
    let mut compared = Compared::default();
    let mut seen = Seen::default();
    let mut cluster = Cluster::start(campaign, 0)?;
    let mut rng = campaign.rng(PROOF.name, 0);
    cluster.round(campaign, &mut rng, Case::NONE, &mut seen)?;
    let mut cases = faults::cases(&cluster.faults.counts()?);
    rng.shuffle(&mut cases);
    seen = Seen::default();
    for round in 1..=row.figure * TRIES_OF_ROUND {
        if seen.hit == row.figure {
            break;
        }
        if round.is_multiple_of(ROUNDS_FOR_ONE) {
            drop(cluster);
            cluster = Cluster::start(campaign, round)?;
        }
        let case = cases[usize::try_from(round)? % cases.len()];
        let found = cluster.round(campaign, &mut rng, case, &mut seen);
        let mut found = found.with_context(|| cluster.told(case))?;
        found.extend(cluster.compare(campaign, &mut compared)?);
        let told = cluster.told(case);
        row.violated(round, found.iter().map(|text| format!("{told}: {text}")));
        if !found.is_empty() {
            drop(cluster);
            cluster = Cluster::start(campaign, round)?;
        }
        row.rounds = seen.hit;
    }
    row.detail = format!(
        "{} places; {} tasks, {} events and {} bytes of output compared; {} workers ended with an error, {} \
         more rounds were not hit",
        cases.len(),
        compared.tasks,
        compared.events,
        compared.bytes,
        seen.ended,
        seen.quiet
    );
    Ok(row)
}

impl Cluster {
    fn start(campaign: &Campaign, number: u64) -> anyhow::Result<Self> {
        let dir = campaign.dir(&format!("worker-io-errors-{number}"))?;
        let state = dir.join("state");
        fs::create_dir_all(&state)?;
        let config = format!("worker: {{slots: {SLOTS}}}\n");
        fs::write(state.join("orchestra.yaml"), config)?;
        let site = campaign.site(&state);
        let head = site.start()?;
        let marker = Marker::new(dir.clone());
        Ok(Self {
            agents: Agents::new(&site, &dir)?,
            post: Post::new(&site.binary, &state, &marker)?,
            site,
            _head: head,
            marker,
            faults: Faults::new(campaign)?,
            runs: BTreeMap::new(),
        })
    }

    /// One life of a worker that meets `case`.
    fn round(
        &mut self,
        campaign: &Campaign,
        rng: &mut fastrand::Rng,
        case: Case,
        seen: &mut Seen,
    ) -> anyhow::Result<Vec<String>> {
        let works: Vec<Work> = (0..SLOTS).map(|_| Work::some(rng, LONGEST_MS)).collect();
        let before = self.agents.tasks.clone();
        self.agents.add(&works, &json!({}))?;
        let runs = match case.errno {
            EIO => Runs::AgainOrFailed,
            _ => Runs::OnceBegun,
        };
        let added = self.agents.tasks.difference(&before);
        self.runs.extend(added.map(|id| (*id, runs)));
        let env = self.faults.environment(case, &self.worker_dir())?;
        let mut worker = self.post.start_with(&env)?;
        let ended = self.until_ended(campaign, &mut worker)?;
        let mut found = Vec::new();
        if let Some(status) = ended {
            seen.ended += 1;
            let log = self.post.log_tail();
            if status.code() != Some(1) || !log.contains("error: ") {
                found.push(format!("ended with {status} and without an error:\n{log}"));
            }
            worker = self.post.start()?;
            let again = self.until_ended(campaign, &mut worker)?;
            found.extend(again.map(|status| format!("ended again, with {status} and no fault")));
        }
        match self.faults.hits().is_empty() {
            true => seen.quiet += 1,
            false => seen.hit += 1,
        }
        worker.kill(&self.post)?;
        Ok(found)
    }

    /// Waits until every task has ended, or the worker by itself: how it did.
    fn until_ended(
        &self,
        campaign: &Campaign,
        worker: &mut Daemon,
    ) -> anyhow::Result<Option<ExitStatus>> {
        let ended = || {
            if let Some(status) = worker.ended()? {
                return Ok(Some(Some(status)));
            }
            let open = results::open(&self.site, &self.agents);
            let open = campaign.runtime.block_on(open)?;
            Ok(open.is_empty().then_some(None))
        };
        until("every task has ended", ALL_ENDED, ended).with_context(|| self.post.log_tail())
    }

    fn compare(&self, campaign: &Campaign, compared: &mut Compared) -> anyhow::Result<Vec<String>> {
        let runs = |id| self.runs.get(&id).copied().unwrap_or(Runs::OnceBegun);
        let differences = results::compare(&self.site, &self.agents, runs, compared);
        campaign.runtime.block_on(differences)
    }

    fn worker_dir(&self) -> PathBuf {
        self.site.state.join("worker/")
    }

    fn told(&self, case: Case) -> String {
        format!("{case:?} on {}", self.faults.hits().trim())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.marker.kill_all();
    }
}
