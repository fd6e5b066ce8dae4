//! A check while no head serves.

use anyhow::Context;
use orchestra_config::StateDir;

use super::{Beside, Finding, Index, Level, RESTORE, Report, judge, read_rows};
use crate::{
    blobs::Blobs,
    lock::{self, Lock},
    progress::Progress,
    store::{self, Store},
};

/// How much is read at once.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

const PUT_BACK: &str = "put it back, or restore a backup with `ctl restore FILE --force`";

/// Whether leftovers are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Nothing is changed.
    No,
    /// Rows that nothing refers to are removed.
    Leftovers,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no head.
    #[error("there is no head in `{0}`")]
    Nothing(std::path::PathBuf),
    /// A head runs there.
    #[error(transparent)]
    Running(#[from] lock::Error),
    /// Something else failed.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

/// Checks the head of a state directory. Opening its store replays the journal, as a start does.
pub fn check(state: &StateDir, repair: Repair, progress: &Progress) -> Result<Report, Error> {
    let dir = state.head();
    let db = dir.join("db");
    if !db.is_dir() && !store::was_made(&db).context("failed to look for the store")? {
        return Err(Error::Nothing(dir));
    }
    let _lock = Lock::take(&dir)?;
    let blobs = Blobs::open(&dir.join("blobs")).context("failed to open the stored files")?;
    let mut store = match Store::open(&db, blobs.clone()) {
        Ok(store) => store,
        Err(error) if error.is_denied() => {
            return Err(anyhow::Error::new(error)
                .context("failed to open the store")
                .into());
        }
        Err(error) => return Ok(unreadable(&error)),
    };
    let mut index = Index::default();
    let read = read_rows(&mut index, progress, |after| {
        Ok(store.page_past_damage(after.as_deref(), PAGE_BYTES)?)
    });
    read?;
    let beside = Beside {
        db: &db,
        blobs: &blobs,
        events: &dir.join("events"),
        context: &dir.join("context"),
        reached: None,
        progress,
    };
    let mut report = judge(index, &Default::default(), &beside)?;
    if repair == Repair::Leftovers {
        let leftovers: Vec<_> = report
            .findings
            .iter()
            .filter_map(|f| f.leftover.clone())
            .collect();
        store
            .discard(&leftovers)
            .context("failed to remove leftovers")?;
        report.findings.retain(|finding| finding.leftover.is_none());
    }
    Ok(report)
}

/// The whole store cannot be read.
fn unreadable(why: &store::Error) -> Report {
    let advice = match why {
        store::Error::Gone { .. } => PUT_BACK,
        _ => RESTORE,
    };
    Report {
        findings: vec![Finding {
            level: Level::Damage,
            what: "the store".to_owned(),
            problem: why.problem(),
            advice,
            leftover: None,
        }],
        ..Report::default()
    }
}
