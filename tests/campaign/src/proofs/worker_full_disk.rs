//! Somebody else takes all space of the disk that a worker writes to, and later frees it, while agents
//! work. It takes longer than a lease: a worker that was silent for want of room would lose its work.
//! In every third round the worker is killed meanwhile, and comes back before there is room.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use orchestra_proto::v1::{self, admin_client::AdminClient};
use orchestra_tests::{Deadline, Marker, until};
use serde_json::json;

use super::{Campaign, Proof, full_disk::fill};
use crate::{
    Row,
    agents::{Agents, Work},
    daemon::{Daemon, Post},
    head::{Head, Site},
    helper::{FILE_SYSTEMS, Mount},
    results::{self, Compared, Runs},
};

/// See the file's documentation.
pub(super) const PROOF: Proof = Proof {
    name: "worker-full-disk",
    sentence: "a_worker_waits_for_room_on_its_disk_says_so_and_loses_nothing",
    needs: FILE_SYSTEMS,
    run,
};

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
/// How long the disk stays full after the worker has said so.
const FULL: Duration = Duration::from_millis(LEASE_SECS * 1500 + 1000);
/// How long a worker may take to notice, and to say so to the head.
const SAID: Deadline = Deadline::secs(40);
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
    _disk: Mount,
}

fn run(campaign: &Campaign) -> anyhow::Result<Row> {
    let mut row = campaign.row(PROOF.name, 2, 20);
    let mut compared = Compared::default();
    let mut cluster = Cluster::start(campaign)?;
    let mut kills = 0;
    while row.rounds < row.figure {
        let mut rng = campaign.rng(PROOF.name, row.rounds);
        let kill = row.rounds % 3 == 1;
        kills += u64::from(kill);
        let filled = cluster.round(campaign, &mut rng, kill);
        filled.with_context(|| format!("round {}\n{}", row.rounds, cluster.post.log_tail()))?;
        row.round_ended();
    }
    row.violated(row.rounds, cluster.close(campaign, &mut compared)?);
    row.detail = format!(
        "{} tasks, {} events and {} bytes of output compared; {kills} kills on a full disk",
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
            _disk: disk,
        })
    }

    fn round(
        &mut self,
        campaign: &Campaign,
        rng: &mut fastrand::Rng,
        kill: bool,
    ) -> anyhow::Result<()> {
        self.ready_is(campaign, true)?;
        let open = results::open(&self.site, &self.agents);
        let open = campaign.runtime.block_on(open)?.len();
        let works: Vec<Work> = (open..OPEN).map(|_| Work::some(rng, LONGEST_MS)).collect();
        self.agents.add(&works, &json!({}))?;
        thread::sleep(Duration::from_millis(rng.u64(0..1500)));
        fill(&self.filler)?;
        self.ready_is(campaign, false)?;
        if kill {
            let worker = self.worker.take().context("a worker runs")?;
            worker.kill(&self.post)?;
            self.worker = Some(self.post.start()?);
            self.ready_is(campaign, false)?;
        }
        thread::sleep(FULL);
        fs::remove_file(&self.filler)?;
        self.ready_is(campaign, true)
    }

    /// Waits until the head hears from this worker process that it can take something, or that its
    /// disk is full.
    fn ready_is(&self, campaign: &Campaign, want: bool) -> anyhow::Result<()> {
        let pid = self.worker.as_ref().context("a worker runs")?.pid();
        until(&format!("the worker is ready: {want}"), SAID, || {
            let asked = async {
                let mut admin = AdminClient::new(self.site.admin_channel().await?);
                let request = v1::ListWorkersRequest {};
                Ok::<_, anyhow::Error>(admin.list_workers(request).await?.into_inner().workers)
            };
            let workers = campaign.runtime.block_on(asked)?;
            let connected = workers.into_iter().filter(|w| w.state == "connected");
            let infos = connected.filter_map(|worker| worker.info);
            let shell = infos
                .filter(|info| info.pid == pid)
                .flat_map(|info| info.runners)
                .find(|r| r.name == "shell");
            let Some(shell) = shell else { return Ok(None) };
            let ready = shell.readiness == "ready";
            ensure!(
                ready || shell.reason.contains("disk is full"),
                "another reason: {}",
                shell.reason
            );
            Ok((ready == want).then_some(()))
        })
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
        let differences = results::compare(&self.site, &self.agents, |_| Runs::Once, compared);
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
