//! One bit is flipped in one file of a store that nobody uses: one whose head ended in order, or one
//! whose head was killed after its last acknowledgement. A head on it either names the damage, at
//! its start or when the row is asked for, or serves exactly what the undamaged store held.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};

use super::{Campaign, Proof};
use crate::{
    Row,
    client::Clients,
    head::Site,
    helper,
    ledger::Shared,
    load::{self, Load},
    picture::{self, Difference, Picture},
};

/// See the file's documentation.
pub(super) const PROOF: Proof = Proof {
    name: "flips",
    sentence: "a_flipped_bit_is_named_and_never_served",
    needs: &[],
    run,
};

/// What of the head's directory is the store.
const ROOMS: [&str; 4] = ["db", "blobs", "events", "context"];
/// Bodies that are kept beside the store's rows.
const BLOBS: usize = 6;
const BLOB_BYTES_MAX: usize = 100_000;
/// How long the load makes the store.
const LOAD: Duration = Duration::from_millis(200);
/// More violations say nothing new.
const VIOLATIONS_MAX: u64 = 10;

/// Where a bit is flipped.
#[derive(Debug)]
struct Flip {
    file: PathBuf,
    byte: usize,
    bit: u8,
}

/// How the head ended that left a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    InOrder,
    Killed,
}

/// A store that nobody uses, and what it serves.
struct Base {
    ended: Ended,
    state: PathBuf,
    picture: Picture,
    /// Files of the store, below the state directory.
    files: Vec<PathBuf>,
}

/// How a flip was taken.
enum Taken {
    /// The head did not start, and said why.
    Refused,
    /// What was asked for was refused by name.
    Named,
    /// Everything was as before.
    Unchanged,
    /// A broken promise.
    Violation(String),
}

fn run(campaign: &Campaign) -> anyhow::Result<Row> {
    let mut row = campaign.row(PROOF.name, 200, 3000);
    let bases = [
        Base::new(campaign, Ended::InOrder)?,
        Base::new(campaign, Ended::Killed)?,
    ];
    let (mut refused, mut named, mut unchanged) = (0, 0, 0);
    for base in bases.iter().cycle() {
        if row.rounds >= row.figure || row.violations >= VIOLATIONS_MAX {
            break;
        }
        let mut rng = campaign.rng(PROOF.name, row.rounds);
        let flip = base.choose(&mut rng)?;
        match base.flipped(campaign, &flip)? {
            Taken::Refused => refused += 1,
            Taken::Named => named += 1,
            Taken::Unchanged => unchanged += 1,
            Taken::Violation(text) => {
                let ended = base.ended;
                row.violated(row.rounds, [format!("{flip:?} ({ended:?}): {text}")]);
            }
        }
        row.round_ended();
    }
    row.detail = format!(
        "{refused} heads refused to start, {named} named what is damaged, {unchanged} flips changed \
         nothing; {} files, {} answers compared",
        bases.iter().map(|base| base.files.len()).sum::<usize>(),
        bases.iter().map(|base| base.picture.len()).sum::<usize>(),
    );
    Ok(row)
}

impl Base {
    /// Makes a store with tasks in all states, events and blobs, and stops its head.
    fn new(campaign: &Campaign, ended: Ended) -> anyhow::Result<Self> {
        let state = campaign.dir(&format!("flips-{ended:?}"))?;
        let site = campaign.site(&state);
        let ledger = Shared::default();
        let mut head = site.start()?;
        campaign.runtime.block_on(async {
            let clients = Clients::connect(&site).await?;
            picture::upload(&site, BLOBS, BLOB_BYTES_MAX).await?;
            picture::put_context(&site).await?;
            let running = Load::new(&site, &ledger, "flips", campaign.seed)?.start(&clients);
            tokio::time::sleep(LOAD).await;
            head.kill_9()?;
            running.ended().await
        })?;
        drop(head);
        let head = site.start()?;
        campaign.runtime.block_on(async {
            let clients = Clients::connect(&site).await?;
            load::settle(&clients, &ledger).await?;
            settled(&site).await
        })?;
        match ended {
            Ended::InOrder => head.stop()?,
            Ended::Killed => head.kill()?,
        }
        let files = files_of_store(&state)?;
        let mut base = Self {
            ended,
            state,
            picture: Picture::default(),
            files,
        };
        // On a copy, as every flip: what a start changes is the same for all.
        let site = base.copy(campaign)?;
        let head = site.start()?;
        base.picture = campaign.runtime.block_on(settled(&site))?;
        head.stop()?;
        ensure!(
            base.picture.is_whole(),
            "the undamaged store is not readable"
        );
        Ok(base)
    }

    fn copy(&self, campaign: &Campaign) -> anyhow::Result<Site> {
        let dir = campaign.scratch.path().join("flips-copy");
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        let (from, to) = (self.state.to_string_lossy(), dir.to_string_lossy());
        helper::command("cp", &["-a", "--sparse=always", &from, &to])?;
        Ok(campaign.site(&dir))
    }

    /// A file and a place in it; places that hold something are preferred, since large parts of
    /// some files are empty.
    fn choose(&self, rng: &mut fastrand::Rng) -> anyhow::Result<Flip> {
        let file = rng.choice(&self.files).context("the store has files")?;
        let bytes = fs::read(self.state.join(file))?;
        let mut byte = rng.usize(0..bytes.len());
        if rng.u8(0..4) > 0 {
            let used = bytes.iter().skip(byte).position(|byte| *byte != 0);
            byte += used.unwrap_or(0);
        }
        Ok(Flip {
            file: file.clone(),
            byte,
            bit: rng.u8(0..8),
        })
    }

    fn flipped(&self, campaign: &Campaign, flip: &Flip) -> anyhow::Result<Taken> {
        let site = self.copy(campaign)?;
        let path = site.state.join(&flip.file);
        let mut bytes = fs::read(&path)?;
        bytes[flip.byte] ^= 1 << flip.bit;
        fs::write(&path, bytes)?;
        let mut head = site.spawn()?;
        if head.wait_until_ready().is_err() {
            let ended = head.ended()?;
            let log = site.log_text();
            let said = ended.is_some_and(|status| status.code() == Some(1));
            return Ok(match said && names_damage(&log) {
                true => Taken::Refused,
                false => Taken::Violation(format!("not named: {ended:?}\n{log}")),
            });
        }
        let now = campaign.runtime.block_on(picture::take(&site));
        Ok(match now.map(|now| self.picture.compare(&now)) {
            Ok(Difference::None) => Taken::Unchanged,
            Ok(Difference::Refused) => Taken::Named,
            // A segment of events names the place in the log: whose they were nobody can tell.
            Ok(Difference::Events(text)) => match names_damage(&site.log_text()) {
                true => Taken::Named,
                false => Taken::Violation(format!("SERVED: {text}")),
            },
            Ok(Difference::Other(text)) => Taken::Violation(format!("SERVED: {text}")),
            // The head went down while it was asked.
            Err(error) => match names_damage(&site.log_text()) {
                true => Taken::Refused,
                false => Taken::Violation(format!("{error:#}\n{}", site.log_tail())),
            },
        })
    }
}

/// What a head serves once it has put the results in place that its predecessor left.
async fn settled(site: &Site) -> anyhow::Result<Picture> {
    let mut last = picture::take(site).await?;
    loop {
        let next = picture::take(site).await?;
        if matches!(last.compare(&next), Difference::None) {
            return Ok(next);
        }
        last = next;
    }
}

fn files_of_store(state: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let head = state.join("head");
    let mut files = Vec::new();
    for entry in fs::read_dir(&head)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if ROOMS.iter().any(|room| name.starts_with(room)) {
            walk(&head.join(name), &mut files)?;
        }
    }
    files.retain(|file| fs::metadata(file).is_ok_and(|file| file.len() > 0));
    files.sort();
    let below = |file: PathBuf| file.strip_prefix(state).map(Path::to_owned);
    Ok(files.into_iter().map(below).collect::<Result<_, _>>()?)
}

fn walk(path: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if path.is_file() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        walk(&entry?.path(), files)?;
    }
    Ok(())
}

/// Whether a log says which file or row is damaged.
fn names_damage(log: &str) -> bool {
    let lines = log
        .lines()
        .filter(|line| line.to_lowercase().contains("error"));
    let mut lines = lines.map(str::to_lowercase);
    lines.any(|line| {
        let damage = ["damaged", "corrupt", "checksum", "format", "magic"];
        damage.iter().any(|word| line.contains(word))
    })
}
