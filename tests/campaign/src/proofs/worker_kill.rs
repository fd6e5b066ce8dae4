//! `kill -9` of the worker with eight agents at work, at random moments: while it starts, finds
//! agents again, runs, collects and reports; also while the head is down.

use std::{collections::BTreeMap, fs, path::PathBuf, thread, time::Duration};

use anyhow::Context;
use orchestra_tests::{Deadline, Marker, until};
use serde_json::json;

use super::{Campaign, Proof};
use crate::{
    Row,
    agents::{Agents, Work},
    daemon::{Daemon, Post},
    head::{Head, Site},
    results::{self, Compared, Runs},
};

/// See the file's documentation.
pub(super) const PROOF: Proof = Proof {
    name: "worker-kill",
    sentence: "agents_outlive_kill_9_of_their_worker_and_are_recorded_once_byte_for_byte",
    needs: &[],
    run,
};

/// How many agents work at once.
const SLOTS: usize = 8;
/// So many are most of them.
const MOST: u64 = 7;
/// So many tasks are open when a worker is killed, some of them waiting.
const OPEN: usize = 12;
/// A cluster is compared, and a new one made, after this many rounds.
const ROUNDS_FOR_ONE: u64 = 25;
/// How long an agent works at most, in milliseconds.
const LONGEST_MS: u32 = 20_000;
/// How long everything may take to end, when nothing is killed any more.
const ALL_ENDED: Deadline = Deadline::secs(180);

/// A cluster on one machine.
struct Cluster {
    agents: Agents,
    post: Post,
    site: Site,
    head: Option<Head>,
    marker: Marker,
}

fn run(campaign: &Campaign) -> anyhow::Result<Row> {
    let mut row = campaign.row(PROOF.name, 12, 200);
    let mut compared = Compared::default();
    let mut phases = BTreeMap::new();
    let mut without_head = 0;
    while row.rounds < row.figure && row.violations == 0 {
        let dir = campaign.dir(&format!("worker-kill-{}", row.rounds))?;
        let mut cluster = Cluster::start(campaign, dir)?;
        let until = row.figure.min(row.rounds + ROUNDS_FOR_ONE);
        while row.rounds < until {
            let mut rng = campaign.rng(PROOF.name, row.rounds);
            cluster.top_up(campaign, &mut rng)?;
            without_head += u64::from(cluster.round(&mut rng, &mut phases)?);
            row.round_ended();
        }
        row.violated(row.rounds, cluster.close(campaign, &mut compared)?);
    }
    row.detail = format!(
        "{} tasks, {} events and {} bytes of output compared; {without_head} kills without a head; \
         attempts at the kills: {phases:?}",
        compared.tasks, compared.events, compared.bytes
    );
    Ok(row)
}

impl Cluster {
    fn start(campaign: &Campaign, dir: PathBuf) -> anyhow::Result<Self> {
        let state = dir.join("state");
        fs::create_dir_all(&state)?;
        let config = format!("worker: {{slots: {SLOTS}}}\n");
        fs::write(state.join("orchestra.yaml"), config)?;
        let site = campaign.site(&state);
        let head = Some(site.start()?);
        let marker = Marker::new(dir.clone());
        Ok(Self {
            agents: Agents::new(&site, &dir)?,
            post: Post::new(&site.binary, &state, &marker)?,
            site,
            head,
            marker,
        })
    }

    /// Lets enough tasks be open that the worker is never idle.
    fn top_up(&mut self, campaign: &Campaign, rng: &mut fastrand::Rng) -> anyhow::Result<()> {
        if self.head.is_none() {
            return Ok(());
        }
        let open = results::open(&self.site, &self.agents);
        let open = campaign.runtime.block_on(open)?;
        let missing = OPEN.saturating_sub(open.len());
        let works: Vec<Work> = (0..missing).map(|_| Work::some(rng, LONGEST_MS)).collect();
        self.agents.add(&works, &json!({}))
    }

    /// One life of a worker; whether it met its end without a head.
    fn round(
        &mut self,
        rng: &mut fastrand::Rng,
        phases: &mut BTreeMap<String, u64>,
    ) -> anyhow::Result<bool> {
        let worker = self.post.start()?;
        thread::sleep(life(rng));
        // A head that was killed comes back while the worker lives, while it is down, or later.
        match (self.head.is_some(), rng.u8(0..8)) {
            (true, 0 | 1) => self.kill_head()?,
            (false, 0..4) => self.head = Some(self.site.start()?),
            (true | false, _) => {}
        }
        thread::sleep(life(rng) / 4);
        if self.head.is_some() && rng.bool() {
            self.wait_for_agents();
        }
        let gone = self.head.is_none();
        worker.kill(&self.post)?;
        for (phase, count) in self.post.phases() {
            *phases.entry(phase).or_default() += count;
        }
        if gone && rng.bool() {
            self.head = Some(self.site.start()?);
        }
        Ok(gone)
    }

    /// Waits until most agents are at work. They may end faster than that: then any moment is as good.
    fn wait_for_agents(&self) {
        let most = || Ok((self.post.phases().get("started") >= Some(&MOST)).then_some(()));
        drop(until("most agents are at work", Deadline::secs(6), most));
    }

    fn kill_head(&mut self) -> anyhow::Result<()> {
        self.head.take().map_or(Ok(()), Head::kill)
    }

    /// Lets everything end, and compares.
    fn close(
        mut self,
        campaign: &Campaign,
        compared: &mut Compared,
    ) -> anyhow::Result<Vec<String>> {
        if self.head.is_none() {
            self.head = Some(self.site.start()?);
        }
        let worker = self.post.start()?;
        let ended = until("every task has ended", ALL_ENDED, || {
            let open = results::open(&self.site, &self.agents);
            let open = campaign.runtime.block_on(open)?;
            Ok(open.is_empty().then_some(()))
        });
        let differences = results::compare(&self.site, &self.agents, |_| Runs::Once, compared);
        let mut found = campaign.runtime.block_on(differences)?;
        found.extend(
            ended
                .err()
                .map(|error| format!("{error:#}\n{}", self.post.log_tail())),
        );
        found.extend(self.end(worker).err().map(|error| format!("{error:#}")));
        Ok(found)
    }

    /// Nothing is left behind when all results are delivered.
    fn end(&self, worker: Daemon) -> anyhow::Result<()> {
        until("nothing of an attempt is left", Deadline::SOON, || {
            Ok(self.post.phases().is_empty().then_some(()))
        })
        .with_context(|| format!("{:?}", self.post.phases()))?;
        worker.kill(&self.post)?;
        self.marker.expect_none()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.marker.kill_all();
    }
}

/// How long a worker lives: not long enough to start, or so that it finds agents again, or so that
/// agents end.
fn life(rng: &mut fastrand::Rng) -> Duration {
    Duration::from_millis(match rng.u8(0..4) {
        0 => rng.u64(0..80),
        1 | 2 => rng.u64(80..900),
        _ => rng.u64(900..5000),
    })
}
