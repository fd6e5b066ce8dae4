//! Is everything that is kept whole, and does it fit together?
//!
//! Reads all rows, all stored files and all segments of events, and changes nothing. While the
//! head serves, rows are read between its turns; what changes meanwhile is not judged.

mod index;
mod offline;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    path::Path,
};

use anyhow::Context;
use orchestra_types::{Digest, TaskId};
use sha2::{Digest as _, Sha256};

use crate::{
    blobs::{Blobs, Stored},
    context, events,
    progress::{self, Counting, Progress},
    store::{self, Page, Row},
};

pub use index::Index;
pub use offline::{Error, Repair, check};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something is lost or not what was written.
    Damage,
    /// Something that nothing refers to; it does no harm.
    Leftover,
}

impl Level {
    /// The name, as in `--json`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damage => "damage",
            Self::Leftover => "leftover",
        }
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// A row, a file.
    pub what: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do.
    pub advice: &'static str,
    /// The row, when removing it is a repair.
    pub leftover: Option<Vec<u8>>,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows that were read.
    pub rows: u64,
    /// Tasks among them.
    pub tasks: u64,
    /// Stored files that were read.
    pub blobs: u64,
    /// Segments of events that were read.
    pub segments: u64,
    /// Files of the shared context that were read.
    pub documents: u64,
    /// Bytes of all of these.
    pub bytes: u64,
    /// What is not as it should be, the worst first.
    pub findings: Vec<Finding>,
}

pub(crate) const RESTORE: &str =
    "restore a backup, or go on without it if the head starts all the same";

/// What to do about a damaged file of the shared context.
const PUSH: &str = "restore a backup, or write it anew with `ctl context push`";
/// What to do about one that was set aside.
const LOOK: &str = "take from it what you need into the project's context, then remove it";

/// Reads all rows, a page at a time.
pub fn read_rows(
    index: &mut Index,
    progress: &Progress,
    mut page: impl FnMut(Option<Vec<u8>>) -> anyhow::Result<Page>,
) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let page = page(after)?;
        page.rows.iter().for_each(|row| index.add(row));
        if let Some(lost) = page.lost
            && !index.lose(lost)
        {
            return Ok(());
        }
        let bytes = |row: &Row| row.key.len() + row.message.as_ref().map_or(0, Vec::len);
        let bytes = page.rows.iter().map(bytes).sum::<usize>() as u64;
        progress.expect(bytes);
        progress.passed(bytes)?;
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

/// What is read besides the rows.
pub struct Beside<'a> {
    /// The directory of the store.
    pub db: &'a Path,
    /// Stored files.
    pub blobs: &'a Blobs,
    /// The directory of events.
    pub events: &'a Path,
    /// The directory of the shared context.
    pub context: &'a Path,
    /// How far events are durable, where a head serves.
    pub reached: Option<events::Reached>,
    /// Who waits for it.
    pub progress: &'a Progress,
}

/// Judges the rows, and reads the files. Tasks in `changing` changed while rows were read.
pub fn judge(
    index: Index,
    changing: &BTreeSet<TaskId>,
    beside: &Beside<'_>,
) -> anyhow::Result<Report> {
    let blobs = beside.blobs;
    expect(beside)?;
    let mut report = Report::default();
    let references = index.judge(changing, &mut report);
    let mut seen = BTreeSet::new();
    for stored in blobs.stored()? {
        for stored in stored? {
            seen.insert(stored.digest);
            report.blobs += 1;
            report.bytes += stored.size;
            let user = references.get(&stored.digest);
            report
                .findings
                .extend(look_at(beside, &stored, user.map(|(row, _)| row.as_str()))?);
        }
    }
    for (digest, (row, size)) in references {
        let path = blobs.path(&digest);
        let found = std::fs::metadata(&path).map(|meta| meta.len());
        let problem = match (found, size) {
            (Err(_), _) => "is not there",
            (Ok(found), Some(size)) if found != size => "has another size than its row says",
            (Ok(_), _) => continue,
        };
        report.findings.push(Finding {
            level: Level::Damage,
            what: path.display().to_string(),
            problem: format!("{problem}; {row} refers to it"),
            advice: RESTORE,
            leftover: None,
        });
    }
    look_at_mark(beside.db, &mut report)?;
    look_at_events(beside, &mut report)?;
    look_at_context(beside.context, &mut report)?;
    report.findings.sort_by_key(|finding| finding.level);
    Ok(report)
}

/// Says how much there is to read.
fn expect(beside: &Beside<'_>) -> anyhow::Result<()> {
    for stored in beside.blobs.stored()? {
        let bytes = stored?.iter().map(|stored| stored.size).sum();
        beside.progress.expect(bytes);
    }
    let events = std::fs::read_dir(beside.events).into_iter().flatten();
    let sizes = events.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
    beside.progress.expect(sizes.sum());
    Ok(())
}

fn look_at(
    beside: &Beside<'_>,
    stored: &Stored,
    user: Option<&str>,
) -> anyhow::Result<Option<Finding>> {
    let path = beside.blobs.path(&stored.digest);
    let hashed = File::open(&path).and_then(|file| hash(beside.progress.counting(file)));
    let problem = match hashed {
        Err(error) if progress::caused(&error) => return Err(error.into()),
        Ok(found) if found == stored.digest => return Ok(None),
        Ok(_) => "its bytes are not those that its name says".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => format!("cannot be read: {error}"),
    };
    let problem = match user {
        Some(row) => format!("{problem}; {row} refers to it"),
        None => format!("{problem}; nothing refers to it"),
    };
    Ok(Some(Finding {
        level: Level::Damage,
        what: path.display().to_string(),
        problem,
        advice: if user.is_some() {
            RESTORE
        } else {
            "`ctl purge` removes it when it is old enough"
        },
        leftover: None,
    }))
}

fn hash(mut file: Counting<File>) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 256 * 1024];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(Digest(hash.finalize().into())),
            read => hash.update(&chunk[..read]),
        }
    }
}

fn look_at_mark(db: &Path, report: &mut Report) -> anyhow::Result<()> {
    let damaged = store::damaged_mark(db).context("failed to look at the journal's mark")?;
    report.findings.extend(damaged.map(|path| Finding {
        level: Level::Damage,
        what: path.display().to_string(),
        problem: "does not say any more how far the journal is durable".to_owned(),
        advice: "nothing: the head writes it anew with its next commits",
        leftover: None,
    }));
    Ok(())
}

fn look_at_events(beside: &Beside<'_>, report: &mut Report) -> anyhow::Result<()> {
    let checked = events::check(beside.events, beside.reached, beside.progress)
        .context("failed to look at events")?;
    report.segments = checked.segments;
    report.bytes += checked.bytes;
    let finding = |path: &Path, problem: String, advice| Finding {
        level: Level::Damage,
        what: path.display().to_string(),
        problem,
        advice,
        leftover: None,
    };
    for (path, at) in &checked.damaged {
        let problem = format!("damaged at byte {at}; readers are told of the gap");
        report.findings.push(finding(path, problem, RESTORE));
    }
    for path in &checked.lost {
        let problem = "is not there; readers are told of the gap".to_owned();
        report.findings.push(finding(path, problem, RESTORE));
    }
    for (path, at) in &checked.torn {
        let problem = format!("nothing reads from byte {at} on: torn by a crash");
        let advice = "start the head: it cuts a torn end off, and workers send what they have";
        report.findings.push(finding(path, problem, advice));
    }
    for path in &checked.indexes {
        let problem = "does not say what is in its segment".to_owned();
        let advice = "nothing: it is made anew from its segment when it is needed";
        report.findings.push(finding(path, problem, advice));
    }
    Ok(())
}

fn look_at_context(root: &Path, report: &mut Report) -> anyhow::Result<()> {
    let checked = context::check(root).context("failed to look at the shared context")?;
    report.documents = checked.files;
    report.bytes += checked.bytes;
    let finding = |path: &Path, problem: &str, advice| Finding {
        level: Level::Damage,
        what: path.display().to_string(),
        problem: problem.to_owned(),
        advice,
        leftover: None,
    };
    let damaged = checked.damaged.iter();
    let problem = "its text is not the one that its first line says";
    report
        .findings
        .extend(damaged.map(|path| finding(path, problem, PUSH)));
    let aside = checked.aside.iter();
    let problem = "was found damaged and set aside";
    report
        .findings
        .extend(aside.map(|path| finding(path, problem, LOOK)));
    Ok(())
}
