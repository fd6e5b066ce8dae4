//! Somebody else fills the disk below the head, and later frees it.
//!
//! While it is full, what would write is refused with a clear error and what reads is answered.
//! When there is space again the head goes on by itself. Before that it is full for moments only, so that
//! there is room when somebody asks why a write failed.

use std::{
    fs::{self, File},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use orchestra_proto::v1;
use rustix::fs::{FallocateFlags, fallocate};
use tonic::{Code, Status};

use super::{Campaign, Proof};
use crate::{
    Row,
    client::{self, Clients},
    head::{Head, Site},
    helper::{self, Mount},
    ledger::{Kind, Shared},
    load::{self, Load, Running},
    verify::{self, Scope},
};

/// See the file's documentation.
pub(super) const PROOF: Proof = Proof {
    name: "full-disk",
    sentence: "a_full_disk_refuses_writes_answers_reads_and_recovers_by_itself",
    needs: helper::FILE_SYSTEMS,
    run,
};

/// A store with this many tasks makes place for a new one, so that a round stays short.
const TASKS_MAX: usize = 3_000;
const IMAGE_MEGABYTES: u64 = 384;
/// How long the load runs between two full disks.
const LOAD: Duration = Duration::from_millis(200);
/// A full disk is refused, and a free one used again, within this.
const WITHIN: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The filler grows by this much, then by half, …
const FILL_BYTES: u64 = 64 << 20;
const FILL_BYTES_MIN: u64 = 4096;
/// So often it is full for a moment before, and one is at most so long.
const MOMENTS: usize = 20;
const MOMENT_MS: u64 = 60;
/// One round of this many kills the head while the disk is full.
const ONE_KILLS_IN: u64 = 3;
/// More violations say nothing new.
const VIOLATIONS_MAX: u64 = 5;

struct Machine {
    filler: PathBuf,
    site: Site,
    ledger: Shared,
    head: Option<Head>,
    clients: Clients,
    running: Option<Running>,
    /// The load, while no head is there for it.
    load: Option<Load>,
    probes: u64,
    /// Last, so that it is unmounted after the head has gone.
    _mount: Mount,
}

/// How a call that writes was answered.
enum Write {
    Done,
    Full(Status),
    /// Neither: the head is gone, or says something else.
    Other(Status),
}

fn run(campaign: &Campaign) -> anyhow::Result<Row> {
    let mut row = campaign.row(PROOF.name, 3, 50);
    let mut machine = Machine::new(campaign)?;
    let (mut slowest, mut killed, mut acknowledged) = (Duration::ZERO, 0, 0);
    while row.rounds < row.figure && row.violations < VIOLATIONS_MAX {
        let round = row.rounds;
        let kills = round % ONE_KILLS_IN == ONE_KILLS_IN - 1;
        killed += u64::from(kills);
        let mut found = Vec::new();
        let mut rng = campaign.rng(PROOF.name, round);
        let took = machine.round(campaign, kills, &mut rng, &mut found)?;
        slowest = slowest.max(took);
        row.violated(round, found);
        row.round_ended();
        if machine.ledger.lock().tasks.len() > TASKS_MAX {
            acknowledged += machine.ledger.lock().acknowledged();
            machine.kill(campaign)?;
            drop(machine);
            machine = Machine::new(campaign)?;
        }
    }
    machine.kill(campaign)?;
    acknowledged += machine.ledger.lock().acknowledged();
    row.detail = format!(
        "{acknowledged} acknowledged; at work again at most {:.2} s after the space came back; \
         {killed} heads killed while it was full",
        slowest.as_secs_f64()
    );
    Ok(row)
}

impl Machine {
    fn new(campaign: &Campaign) -> anyhow::Result<Self> {
        let dir = campaign.dir("full-disk")?;
        let mount = Mount::ext4(&dir, IMAGE_MEGABYTES)?;
        let site = campaign.site(&dir.join("state")).with_long_leases()?;
        let (head, ledger) = (site.start()?, Shared::default());
        let (clients, running) = campaign.runtime.block_on(async {
            let clients = Clients::connect(&site).await?;
            let load = Load::new(&site, &ledger, "full", campaign.seed)?;
            let running = load.start(&clients);
            anyhow::Ok((clients, running))
        })?;
        Ok(Self {
            filler: dir.join("filler"),
            site,
            ledger,
            head: Some(head),
            clients,
            running: Some(running),
            load: None,
            probes: 0,
            _mount: mount,
        })
    }

    /// Gives how long it took until the head was at work again.
    fn round(
        &mut self,
        campaign: &Campaign,
        kills: bool,
        rng: &mut fastrand::Rng,
        found: &mut Vec<String>,
    ) -> anyhow::Result<Duration> {
        // The load goes on meanwhile.
        thread::sleep(LOAD);
        fill_for_moments(&self.filler, MOMENTS, MOMENT_MS, rng)?;
        fill(&self.filler)?;
        campaign.runtime.block_on(self.while_full(found))?;
        if kills {
            self.kill(campaign)?;
            match self.start(campaign) {
                Ok(()) => campaign.runtime.block_on(self.while_full(found))?,
                Err(error) if self.site.log_text().contains("error: ") => drop(error),
                Err(error) => found.push(format!("no clear error at the start: {error:#}")),
            }
        }
        fs::remove_file(&self.filler)?;
        let freed = Instant::now();
        if self.head.is_none() {
            self.start(campaign)?;
        }
        let took = campaign.runtime.block_on(async {
            self.until_accepted(freed, found).await;
            let took = freed.elapsed();
            if let Some(ended) = self.head.as_mut().and_then(|head| head.ended().ok()?) {
                found.push(format!("the head ended by itself: {ended}"));
                return Ok(took);
            }
            load::settle(&self.clients, &self.ledger).await?;
            found.extend(verify::compare(&self.clients, &self.ledger, Scope::All).await?);
            found.append(&mut self.ledger.lock().broken);
            anyhow::Ok(took)
        })?;
        self.start_if_ended(campaign)?;
        Ok(took)
    }

    /// So that the next round is one again.
    fn start_if_ended(&mut self, campaign: &Campaign) -> anyhow::Result<()> {
        let ended = self.head.as_mut().map(Head::ended).transpose()?.flatten();
        if ended.is_some() {
            self.head = None;
            self.kill(campaign)?;
            self.start(campaign)?;
        }
        Ok(())
    }

    /// What writes is refused, what reads is answered.
    async fn while_full(&mut self, found: &mut Vec<String>) -> anyhow::Result<()> {
        let filled = Instant::now();
        loop {
            match self.write().await {
                Write::Full(status) if is_clear(&status) => break,
                Write::Full(status) => {
                    found.push(format!("refused without saying what to do: {status}"));
                    break;
                }
                Write::Other(status) => {
                    found.push(format!(
                        "not refused, but: {status}\n{}",
                        self.site.log_tail()
                    ));
                    break;
                }
                Write::Done if filled.elapsed() > WITHIN => {
                    found.push(format!("accepted for {WITHIN:?} although the disk is full"));
                    break;
                }
                Write::Done => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
        let served = verify::compare(&self.clients, &self.ledger, Scope::All).await;
        match served {
            Ok(differences) => found.extend(differences),
            Err(error) => found.push(format!("reads do not go on: {error:#}")),
        }
        Ok(())
    }

    async fn until_accepted(&mut self, freed: Instant, found: &mut Vec<String>) {
        loop {
            match self.write().await {
                Write::Done => return,
                Write::Full(status) | Write::Other(status) if freed.elapsed() > WITHIN => {
                    found.push(format!(
                        "does not recover: {status}\n{}",
                        self.site.log_tail()
                    ));
                    return;
                }
                Write::Full(_) | Write::Other(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    async fn write(&mut self) -> Write {
        self.probes += 1;
        let key = format!("probe-{}", self.probes);
        self.ledger.lock().submitting(&key, 1, Kind::Waits);
        let request = client::submission(&key, 1, Kind::Waits);
        let mut admin = self.clients.nth(0);
        match admin.submit(request).await.map(tonic::Response::into_inner) {
            Ok(v1::SubmitResponse { ids, .. }) => {
                self.ledger.lock().submitted(&key, ids);
                Write::Done
            }
            Err(status) if status.code() == Code::ResourceExhausted => Write::Full(status),
            Err(status) => Write::Other(status),
        }
    }

    fn kill(&mut self, campaign: &Campaign) -> anyhow::Result<()> {
        if let Some(head) = self.head.take() {
            head.kill()?;
        }
        if let Some(running) = self.running.take() {
            let load = campaign.runtime.block_on(running.ended())?;
            self.load = Some(load);
        }
        Ok(())
    }

    fn start(&mut self, campaign: &Campaign) -> anyhow::Result<()> {
        let head = self.site.start()?;
        campaign.runtime.block_on(async {
            self.clients = Clients::connect(&self.site).await?;
            let load = self.load.take().context("the load has ended")?;
            self.running = Some(load.start(&self.clients));
            self.head = Some(head);
            Ok(())
        })
    }
}

/// Fills and frees a disk so often, each for as many milliseconds at most.
pub(super) fn fill_for_moments(
    filler: &std::path::Path,
    moments: usize,
    moment_ms: u64,
    rng: &mut fastrand::Rng,
) -> anyhow::Result<()> {
    for _ in 0..moments {
        fill(filler)?;
        thread::sleep(Duration::from_millis(rng.u64(0..moment_ms)));
        fs::remove_file(filler)?;
        thread::sleep(Duration::from_millis(rng.u64(0..moment_ms)));
    }
    Ok(())
}

/// Whether an error says that the disk is full, and what to do.
fn is_clear(status: &Status) -> bool {
    let text = status.message().to_lowercase();
    text.contains("disk") && text.contains("free")
}

/// Takes all the space that there is.
pub(super) fn fill(path: &std::path::Path) -> anyhow::Result<()> {
    let file = File::create(path).context("failed to make the filler")?;
    let (mut at, mut bytes) = (0, FILL_BYTES);
    while bytes >= FILL_BYTES_MIN {
        match fallocate(&file, FallocateFlags::empty(), at, bytes) {
            Ok(()) => at += bytes,
            Err(rustix::io::Errno::NOSPC) => bytes /= 2,
            Err(error) => return Err(error).context("failed to fill the disk"),
        }
    }
    Ok(())
}
