//! Loss of power: the file system below the head stops in the middle of the load, without writing
//! out anything more. What was acknowledged before must be there when it is mounted again.
//!
//! The control runs the same with a head whose `fsync` and `fdatasync` do nothing, and must see
//! losses: a proof that cannot fail proves nothing.

use std::{path::PathBuf, time::Duration};

use super::{Campaign, Proof};
use crate::{
    Row,
    client::Clients,
    head::Site,
    helper::{self, Fault, Mount},
    ledger::Shared,
    load::{self, Load},
    verify::{self, Scope},
    worker::Worker,
};

/// See the file's documentation.
pub(super) const PROOF: Proof = Proof {
    name: "power",
    sentence: "what_was_acknowledged_survives_a_loss_of_power",
    needs: helper::FILE_SYSTEMS,
    run: |campaign| run(campaign, Disk::Synced),
};

/// See the file's documentation.
pub(super) const CONTROL: Proof = Proof {
    name: "power-control",
    sentence: "without_sync_data_a_loss_of_power_loses_what_was_acknowledged",
    needs: helper::FILE_SYSTEMS,
    run: |campaign| run(campaign, Disk::Lies),
};

/// Fewer acknowledgements than this make an empty round.
const ACKNOWLEDGED_MIN: u64 = 100;
/// Empty rounds that are tried again.
const EMPTY_MAX: u64 = 20;
/// A new file system after this many rounds: until then the store ages.
const ROUNDS_OF_IMAGE: u64 = 8;
const IMAGE_MEGABYTES: u64 = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disk {
    Synced,
    /// `fsync` and `fdatasync` answer without having done anything.
    Lies,
}

/// One file system, one store in it, and what was acknowledged there.
struct Machine {
    mount: Mount,
    site: Site,
    ledger: Shared,
    worker: Option<Worker>,
    shutdown: PathBuf,
    rounds: u64,
}

/// What one round saw.
struct Round {
    acknowledged: u64,
    found: Vec<String>,
}

fn run(campaign: &Campaign, disk: Disk) -> anyhow::Result<Row> {
    let mut row = match disk {
        Disk::Synced => campaign.row(PROOF.name, 4, 50),
        Disk::Lies => campaign.row(CONTROL.name, 2, 10),
    };
    let (mut acknowledged, mut empty, mut with_losses) = (0, 0, 0);
    let mut example = String::new();
    let mut machine: Option<Machine> = None;
    while row.rounds < row.figure && empty < EMPTY_MAX {
        let mut at = match machine.take() {
            Some(at) => at,
            None => Machine::new(campaign, disk)?,
        };
        let mut rng = campaign.rng(&row.proof, row.rounds + empty);
        let round = at.round(campaign, &mut rng)?;
        if round.acknowledged < ACKNOWLEDGED_MIN {
            empty += 1;
            continue;
        }
        acknowledged += round.acknowledged;
        with_losses += u64::from(!round.found.is_empty());
        at.rounds += 1;
        if round.found.is_empty() && at.rounds < ROUNDS_OF_IMAGE {
            machine = Some(at);
        }
        match disk {
            Disk::Synced => row.violated(row.rounds, round.found),
            Disk::Lies => example = round.found.into_iter().next().unwrap_or(example),
        }
        row.round_ended();
    }
    if disk == Disk::Lies && with_losses == 0 {
        row.violated(row.rounds, ["no loss was seen without any sync".to_owned()]);
    }
    row.detail = format!(
        "{acknowledged} acknowledged before the cuts; losses in {with_losses} rounds; \
         {empty} rounds had too few and were run again; {example}"
    );
    Ok(row)
}

impl Machine {
    fn new(campaign: &Campaign, disk: Disk) -> anyhow::Result<Self> {
        let (dir, tools) = (campaign.dir("power")?, campaign.dir("tools")?);
        let mount = Mount::ext4(&dir, IMAGE_MEGABYTES)?;
        let mut site = campaign.site(&dir.join("state")).with_long_leases()?;
        // The cluster's keys and the empty store are on the disk before anything breaks.
        site.start()?.kill()?;
        helper::command("sync", &["--file-system", &site.state.to_string_lossy()])?;
        if disk == Disk::Lies {
            let library = helper::fault_library(&tools)?;
            let fault = Fault {
                path: &site.state,
                calls: ",sync,",
                at: 1,
                count: 0,
                errno: 0,
                log: &tools.join("hits"),
                counts: None,
            };
            site.env = fault.environment(&library);
        }
        Ok(Self {
            mount,
            site,
            ledger: Shared::default(),
            worker: None,
            shutdown: helper::shutdown_program(&tools)?,
            rounds: 0,
        })
    }

    /// Load, watermark, cut, power back, comparison.
    fn round(&mut self, campaign: &Campaign, rng: &mut fastrand::Rng) -> anyhow::Result<Round> {
        let head = self.site.start()?;
        let before = self.ledger.lock().acknowledged();
        let mark = campaign.runtime.block_on(async {
            let clients = Clients::connect(&self.site).await?;
            // Submitters would remember what may be gone, so each round has its own.
            let name = format!("power-{}", rng.u64(..));
            let load = Load::new(&self.site, &self.ledger, &name, rng.u64(..))?;
            let load = load.with_worker(self.worker.take());
            let running = load.start(&clients);
            tokio::time::sleep(Duration::from_millis(rng.u64(150..700))).await;
            // IMPORTANT: the mark is taken first, so that nothing that is on its way at the moment
            // of the cut counts as acknowledged.
            let mark = self.ledger.mark();
            let dir = self.site.state.to_string_lossy();
            helper::command(&self.shutdown.to_string_lossy(), &[&dir])?;
            // It may have ended by itself: nothing can be written any more.
            drop(head.kill());
            self.worker = running.ended().await?.into_worker();
            anyhow::Ok(mark)
        })?;
        self.mount.unmount()?;
        self.mount.mount()?;
        let acknowledged = mark.acknowledged() - before;
        self.ledger.lock().back_to(mark);
        Ok(Round {
            acknowledged,
            found: self.compare(campaign)?,
        })
    }

    fn compare(&self, campaign: &Campaign) -> anyhow::Result<Vec<String>> {
        let head = match self.site.start() {
            Ok(head) => head,
            Err(error) => return Ok(vec![format!("FAILED TO OPEN: {error:#}")]),
        };
        let found = campaign.runtime.block_on(async {
            let clients = Clients::connect(&self.site).await?;
            let mut found = verify::compare(&clients, &self.ledger, Scope::All).await?;
            load::settle(&clients, &self.ledger).await?;
            found.extend(verify::compare(&clients, &self.ledger, Scope::All).await?);
            found.append(&mut self.ledger.lock().broken);
            anyhow::Ok(found)
        });
        drop(head.kill());
        Ok(found.unwrap_or_else(|error| vec![format!("UNREADABLE: {error:#}")]))
    }
}
