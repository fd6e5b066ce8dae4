//! A head and two workers, each in a network of its own, and cables between them that break while
//! agents work: nothing passes, or only one way, connections are reset, the cable flaps, every
//! fifth packet is lost. Shorter than the lease, and longer.

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    net::TcpListener,
    path::PathBuf,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context;
use orchestra_proto::v1::{self, admin_client::AdminClient};
use orchestra_tests::{Cable, Deadline, Fault, Marker, Need, Neighbour, until};
use serde_json::json;

use super::{Campaign, Proof};
use crate::{
    Row,
    agents::{Agents, Work},
    head::{Head, Site},
    results::{self, Compared, Runs},
};

/// See the file's documentation.
pub(super) const PROOF: Proof = Proof {
    name: "network",
    sentence: "a_broken_network_costs_no_run_below_the_lease_and_leaves_one_result_above_it",
    needs: &[Need::Isolation, Need::Program("iptables")],
    run,
};

/// How long a worker may go unheard, in seconds; the head waits half as long once more.
const LEASE_SECS: u64 = 6;
/// The longest break that must cost nothing, in milliseconds.
const BELOW_MS: u64 = LEASE_SECS * 800;
/// A break that ends every lease, in milliseconds.
const ABOVE_MS: u64 = LEASE_SECS * 1500 + 2000;
/// One round of this many breaks a cable for longer than the lease.
const ONE_ABOVE_IN: u64 = 6;
/// How many agents each worker runs at once.
const SLOTS: usize = 4;
/// So many tasks are open when a cable breaks.
const OPEN: usize = 10;
/// How long an agent works at most, in milliseconds.
const LONGEST_MS: u32 = 6000;
/// A cluster is compared, and a new one made, after this many rounds.
const ROUNDS_FOR_ONE: u64 = 20;
/// How long a worker may take to be heard of again.
const BACK: Deadline = Deadline::secs(60);
/// How long everything may take to end, when nothing breaks any more.
const ALL_ENDED: Deadline = Deadline::secs(180);

/// What is wrong in one round.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    /// All the time.
    Fault(Fault),
    /// Unplugged and plugged in again and again.
    Flapping,
}

/// What the rounds were like.
#[derive(Debug, Default)]
struct Seen {
    below: u64,
    above: u64,
    flapping: u64,
}

struct Cluster {
    agents: Agents,
    site: Site,
    head: Head,
    workers: Vec<(Cable, Neighbour)>,
    marker: Marker,
    /// Tasks that were open while a lease ended.
    again: BTreeSet<u64>,
}

fn run(campaign: &Campaign) -> anyhow::Result<Row> {
    let mut row = campaign.row(PROOF.name, 6, 100);
    let (mut compared, mut seen) = (Compared::default(), Seen::default());
    while row.rounds < row.figure && row.violations == 0 {
        let dir = campaign.dir(&format!("network-{}", row.rounds))?;
        let mut cluster = Cluster::start(campaign, dir)?;
        let until = row.figure.min(row.rounds + ROUNDS_FOR_ONE);
        while row.rounds < until {
            let mut rng = campaign.rng(PROOF.name, row.rounds);
            let above = row.rounds % ONE_ABOVE_IN == ONE_ABOVE_IN - 1;
            let broke = cluster.round(campaign, &mut rng, above, &mut seen);
            broke.with_context(|| format!("round {}\n{}", row.rounds, cluster.picture()))?;
            row.round_ended();
        }
        row.violated(row.rounds, cluster.close(campaign, &mut compared)?);
    }
    row.detail = format!(
        "{} breaks below the lease, {} above it, {} by flapping; {} tasks, {} events and {} bytes \
         of output compared; {} runs repeated, all above it, and {} late results kept",
        seen.below,
        seen.above,
        seen.flapping,
        compared.tasks,
        compared.events,
        compared.bytes,
        compared.again,
        compared.late
    );
    Ok(row)
}

impl Cluster {
    fn start(campaign: &Campaign, dir: PathBuf) -> anyhow::Result<Self> {
        let state = dir.join("state");
        fs::create_dir_all(&state)?;
        let config = format!("queue: {{lease: {LEASE_SECS}s}}\n");
        fs::write(state.join("orchestra.yaml"), config)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut site = campaign.site(&state);
        site.listen = format!("0.0.0.0:{port}");
        let head = site.start()?;
        let mut cluster = Self {
            agents: Agents::new(&site, &dir)?,
            site,
            head,
            workers: Vec::new(),
            marker: Marker::new(dir.clone()),
            again: BTreeSet::new(),
        };
        for name in ["one", "two"] {
            let worker = cluster.join(name, &dir.join(name), port)?;
            cluster.workers.push(worker);
        }
        cluster.heard_since(campaign, 1)?;
        Ok(cluster)
    }

    fn join(
        &self,
        name: &str,
        home: &std::path::Path,
        port: u16,
    ) -> anyhow::Result<(Cable, Neighbour)> {
        let state = home.join("state");
        fs::create_dir_all(&state)?;
        let config = format!("worker: {{slots: {SLOTS}}}\n");
        fs::write(state.join("orchestra.yaml"), config)?;
        let token = self.agents.ctl(&["token", "create"], "")?;
        let token = token["token"].as_str().context("a token")?;
        let worker = self.site.binary.with_file_name("orchestra-worker");
        let cable = Cable::new()?;
        let head = format!("{}:{port}", cable.here());
        let (worker, state) = (worker.to_string_lossy(), state.to_string_lossy());
        let line = [
            &*worker, "join", "--head", &head, "--token", token, "--state", &*state, "--name", name,
        ];
        let line = line.map(str::to_owned);
        let neighbour = Neighbour::start(cable, &line, home, &[], &self.marker)?;
        Ok((cable, neighbour))
    }

    fn round(
        &mut self,
        campaign: &Campaign,
        rng: &mut fastrand::Rng,
        above: bool,
        seen: &mut Seen,
    ) -> anyhow::Result<()> {
        let open = campaign
            .runtime
            .block_on(results::open(&self.site, &self.agents))?;
        let missing = OPEN.saturating_sub(open.len());
        let works: Vec<Work> = (0..missing).map(|_| Work::some(rng, LONGEST_MS)).collect();
        self.agents.add(&works, &json!({}))?;
        thread::sleep(Duration::from_millis(rng.u64(0..800)));
        if above {
            let open = campaign
                .runtime
                .block_on(results::open(&self.site, &self.agents))?;
            self.again.extend(open);
            seen.above += 1;
        } else {
            seen.below += 1;
        }
        let for_ms = if above {
            ABOVE_MS
        } else {
            rng.u64(100..=BELOW_MS)
        };
        let trouble = match rng.usize(0..6) {
            // A cable that flaps, or loses some, ends no lease.
            0 if !above => Trouble::Flapping,
            1 if !above => Trouble::Fault(Fault::Lossy),
            n => Trouble::Fault(Fault::ALL[n % 4]),
        };
        seen.flapping += u64::from(matches!(trouble, Trouble::Flapping));
        let cables: Vec<Cable> = self.workers.iter().map(|(cable, _)| *cable).collect();
        let hit = match rng.u8(0..3) {
            2 => &cables[..],
            n => &cables[usize::from(n)..=usize::from(n)],
        };
        trouble.befall(hit, for_ms, rng)?;
        self.heard_since(campaign, now_ms())
    }

    /// Waits until each worker has been heard of since then.
    fn heard_since(&self, campaign: &Campaign, since_ms: u64) -> anyhow::Result<()> {
        until("both workers are heard of", BACK, || {
            let asked = async {
                let mut admin = AdminClient::new(self.site.admin_channel().await?);
                let request = v1::ListWorkersRequest::default();
                Ok::<_, anyhow::Error>(admin.list_workers(request).await?.into_inner().workers)
            };
            let workers = campaign.runtime.block_on(asked)?;
            let heard = workers
                .iter()
                .filter(|worker| worker.last_seen_ms >= since_ms);
            Ok((heard.count() == 2).then_some(()))
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
        let runs = |id| match self.again.contains(&id) {
            true => Runs::Again,
            false => Runs::Once,
        };
        let differences = results::compare(&self.site, &self.agents, runs, compared);
        let mut found = campaign.runtime.block_on(differences)?;
        found.extend(ended.err().map(|error| format!("{error:#}")));
        if !found.is_empty() {
            found.push(self.picture());
        }
        self.workers.clear();
        self.marker.kill_all();
        if let Some(status) = self.head.ended()? {
            found.push(format!("the head ended: {status}"));
        }
        Ok(found)
    }

    fn picture(&self) -> String {
        let mut text = String::new();
        for (n, (_, worker)) in self.workers.iter().enumerate() {
            let log = worker.log();
            let lines: Vec<&str> = log.lines().collect();
            let end = &lines[lines.len().saturating_sub(60)..];
            // A string takes everything.
            let _ = writeln!(text, "--- worker {n}\n{}", end.join("\n"));
        }
        format!("{text}--- head\n{}", self.site.log_tail())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Their networks and cables end with them.
        self.workers.clear();
        self.marker.kill_all();
    }
}

impl Trouble {
    fn befall(self, cables: &[Cable], for_ms: u64, rng: &mut fastrand::Rng) -> anyhow::Result<()> {
        match self {
            Self::Fault(fault) => {
                cables.iter().try_for_each(|cable| cable.impair(fault))?;
                thread::sleep(Duration::from_millis(for_ms));
                cables.iter().try_for_each(|cable| cable.mend(fault))
            }
            Self::Flapping => {
                let mut left = for_ms;
                while left > 0 {
                    let down = rng.u64(50..600).min(left);
                    cables.iter().try_for_each(|cable| cable.unplug())?;
                    thread::sleep(Duration::from_millis(down));
                    cables.iter().try_for_each(|cable| cable.plug())?;
                    thread::sleep(Duration::from_millis(rng.u64(20..400)));
                    left -= down;
                }
                Ok(())
            }
        }
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
