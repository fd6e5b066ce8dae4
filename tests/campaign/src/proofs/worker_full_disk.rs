//! Somebody else takes all space of the disk that a worker writes to, and later frees it, while agents
//! work; or the disk takes nothing for a while. It takes longer than a lease: a worker that was silent
//! meanwhile would lose its work. In some rounds the worker is killed on the full disk, and comes back
//! before there is room; in others the disk is full for moments only, again and again, so that there is
//! room when somebody asks why a write failed.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use orchestra_proto::v1::{self, admin_client::AdminClient};
use orchestra_tests::{Deadline, Marker, Need, until};
use serde_json::json;

use super::{
    Campaign, Proof,
    full_disk::{fill, fill_for_moments},
};
use crate::{
    Row,
    agents::{Agents, Work},
    daemon::{Daemon, Post},
    head::{Head, Site},
    helper::Mount,
    results::{self, Compared, Runs},
};

/// See the file's documentation.
pub(super) const PROOF: Proof = Proof {
    name: "worker-full-disk",
    sentence: "a_worker_waits_for_room_on_its_disk_says_so_and_loses_nothing",
    needs: NEEDS,
    run,
};

const NEEDS: &[Need] = &[
    Need::Root,
    Need::Program("mount"),
    Need::Program("mkfs.ext4"),
    Need::Program("fsfreeze"),
    Need::LoopDevice,
];

/// The worker's disk.
const DISK_MB: u64 = 96;
/// How many agents work at once.
const SLOTS: usize = 4;
/// So many tasks are open when the disk fills.
const OPEN: usize = 6;
/// How long an agent works at most, in milliseconds.
const LONGEST_MS: u32 = 5000;
/// How long a worker may go unheard, in seconds; the head waits half as long once more.
const LEASE_SECS: u64 = 6;
/// How long the disk takes nothing.
const TROUBLED: Duration = Duration::from_millis(LEASE_SECS * 1500 + 1000);
/// How long a worker may take to notice, and to say so to the head.
const SAID: Deadline = Deadline::secs(40);
/// How often the disk is full for a moment, and how long one is at most, in milliseconds.
const MOMENTS: usize = 30;
const MOMENT_MS: u64 = 400;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long everything may take to end, when the disk has room.
const ALL_ENDED: Deadline = Deadline::secs(180);

struct Cluster {
    agents: Agents,
    post: Post,
    site: Site,
    worker: Option<Daemon>,
    _head: Head,
    marker: Marker,
    filler: PathBuf,
    /// A cache that nobody needs.
    cache: PathBuf,
    disk: Mount,
}

/// What happens to the disk in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Full,
    FullAndWorkerKilled,
    Frozen,
    FullForMoments,
}

impl Trouble {
    fn of(round: u64) -> Self {
        match round % 4 {
            0 => Self::Full,
            1 => Self::FullAndWorkerKilled,
            2 => Self::Frozen,
            _ => Self::FullForMoments,
        }
    }
}

fn run(campaign: &Campaign) -> anyhow::Result<Row> {
    let mut row = campaign.row(PROOF.name, 4, 20);
    let mut compared = Compared::default();
    let mut cluster = Cluster::start(campaign)?;
    let (mut kills, mut frozen, mut moments) = (0, 0, 0);
    while row.rounds < row.figure {
        let mut rng = campaign.rng(PROOF.name, row.rounds);
        let trouble = Trouble::of(row.rounds);
        kills += u64::from(trouble == Trouble::FullAndWorkerKilled);
        frozen += u64::from(trouble == Trouble::Frozen);
        moments += u64::from(trouble == Trouble::FullForMoments) * MOMENTS as u64;
        let passed = cluster.round(campaign, &mut rng, trouble);
        passed.with_context(|| format!("round {}\n{}", row.rounds, cluster.post.log_tail()))?;
        row.round_ended();
    }
    row.violated(row.rounds, cluster.close(campaign, &mut compared)?);
    row.detail = format!(
        "{} tasks, {} events and {} bytes of output compared; {kills} kills on a full disk, {frozen} times a \
         disk that took nothing, {moments} moments of a full disk",
        compared.tasks, compared.events, compared.bytes
    );
    Ok(row)
}

impl Cluster {
    fn start(campaign: &Campaign) -> anyhow::Result<Self> {
        let dir = campaign.dir("worker-full-disk")?;
        let (state, on_disk) = (dir.join("state"), dir.join("disk"));
        fs::create_dir_all(&state)?;
        fs::create_dir_all(&on_disk)?;
        let disk = Mount::ext4(&on_disk, DISK_MB)?;
        let config = format!("queue: {{lease: {LEASE_SECS}s}}\n");
        fs::write(state.join("orchestra.yaml"), config)?;
        let site = campaign.site(&state);
        let head = site.start()?;
        copy(&state.join("worker/pki"), &on_disk.join("worker/pki"))?;
        let config = format!("worker: {{slots: {SLOTS}}}\n");
        fs::write(on_disk.join("orchestra.yaml"), config)?;
        let marker = Marker::new(dir.clone());
        let post = Post::new(&site.binary, &on_disk, &marker)?;
        fs::copy(state.join("worker/id"), on_disk.join("worker/id"))?;
        Ok(Self {
            agents: Agents::new(&site, &dir)?,
            worker: Some(post.start()?),
            post,
            site,
            _head: head,
            marker,
            filler: on_disk.join("filler"),
            cache: on_disk.join("worker/cache/bundles/unused"),
            disk,
        })
    }

    fn round(
        &mut self,
        campaign: &Campaign,
        rng: &mut fastrand::Rng,
        trouble: Trouble,
    ) -> anyhow::Result<()> {
        self.ready_is(campaign, true)?;
        let open = results::open(&self.site, &self.agents);
        let open = campaign.runtime.block_on(open)?.len();
        let works: Vec<Work> = (open..OPEN).map(|_| Work::some(rng, LONGEST_MS)).collect();
        self.agents.add(&works, &json!({}))?;
        thread::sleep(Duration::from_millis(rng.u64(0..1500)));
        match trouble {
            Trouble::Full => self.full(campaign)?,
            Trouble::FullAndWorkerKilled => self.full_and_killed(campaign)?,
            Trouble::Frozen => {
                let frozen = self.disk.freeze()?;
                self.is_heard(campaign)?;
                drop(frozen);
            }
            Trouble::FullForMoments => {
                fill_for_moments(&self.filler, MOMENTS, MOMENT_MS, rng)?;
            }
        }
        self.ready_is(campaign, true)
    }

    fn full(&self, campaign: &Campaign) -> anyhow::Result<()> {
        fs::write(&self.cache, "it can be fetched again")?;
        fill(&self.filler)?;
        self.ready_is(campaign, false)?;
        self.is_heard(campaign)?;
        ensure!(!self.cache.exists(), "a cache stays on a full disk");
        Ok(fs::remove_file(&self.filler)?)
    }

    fn full_and_killed(&mut self, campaign: &Campaign) -> anyhow::Result<()> {
        fill(&self.filler)?;
        self.ready_is(campaign, false)?;
        let worker = self.worker.take().context("a worker runs")?;
        worker.kill(&self.post)?;
        self.worker = Some(self.post.start()?);
        self.ready_is(campaign, false)?;
        self.is_heard(campaign)?;
        Ok(fs::remove_file(&self.filler)?)
    }

    /// The head hears from the worker all the time.
    fn is_heard(&self, campaign: &Campaign) -> anyhow::Result<()> {
        let until = Instant::now() + TROUBLED;
        while Instant::now() < until {
            let heard = self.shell(campaign)?;
            ensure!(heard.is_some(), "the worker is not connected any more");
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Waits until the head hears from this worker process that it can take something, or that its
    /// disk is full.
    fn ready_is(&self, campaign: &Campaign, want: bool) -> anyhow::Result<()> {
        until(&format!("the worker is ready: {want}"), SAID, || {
            let Some(shell) = self.shell(campaign)? else {
                return Ok(None);
            };
            let ready = shell.readiness == "ready";
            ensure!(
                ready || shell.reason.contains("disk is full"),
                "another reason: {}",
                shell.reason
            );
            Ok((ready == want).then_some(()))
        })
    }

    /// The runner `shell` of this worker process, while it is connected.
    fn shell(&self, campaign: &Campaign) -> anyhow::Result<Option<v1::RunnerInfo>> {
        let pid = self.worker.as_ref().context("a worker runs")?.pid();
        let asked = async {
            let mut admin = AdminClient::new(self.site.admin_channel().await?);
            let request = v1::ListWorkersRequest {};
            Ok::<_, anyhow::Error>(admin.list_workers(request).await?.into_inner().workers)
        };
        let workers = campaign.runtime.block_on(asked)?.into_iter();
        let connected = workers.filter(|w| w.state == "connected");
        let infos = connected.filter_map(|worker| worker.info);
        let this = infos.filter(|info| info.pid == pid);
        let mut runners = this.flat_map(|info| info.runners);
        Ok(runners.find(|runner| runner.name == "shell"))
    }

    /// Lets everything end, and compares.
    fn close(
        mut self,
        campaign: &Campaign,
        compared: &mut Compared,
    ) -> anyhow::Result<Vec<String>> {
        let ended = until("every task has ended", ALL_ENDED, || {
            let open = results::open(&self.site, &self.agents);
            let open = campaign.runtime.block_on(open)?;
            Ok(open.is_empty().then_some(()))
        });
        let differences = results::compare(&self.site, &self.agents, |_| Runs::OnceBegun, compared);
        let mut found = campaign.runtime.block_on(differences)?;
        found.extend(ended.err().map(|error| format!("{error:#}")));
        if !found.is_empty() {
            found.push(self.post.log_tail());
        }
        if let Some(worker) = self.worker.take() {
            worker.kill(&self.post)?;
        }
        Ok(found)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.worker = None;
        self.marker.kill_all();
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for file in fs::read_dir(from)? {
        let file = file?;
        fs::copy(file.path(), to.join(file.file_name()))?;
    }
    Ok(())
}
