//! Housekeeping: what may be removed from a worker's directory, why, and its removal.
//!
//! What an attempt made is here only until the head has it; that is removed by the attempt itself. This is
//! about the rest: caches, work trees made in advance, and what was put aside for a person.

mod clock;
mod plan;
mod remove;
mod survey;

use std::{
    path::{Path, PathBuf},
    slice,
    time::Duration,
};

use orchestra_config::KeepConfig;
use orchestra_proto::v1;
use orchestra_types::limits;

pub use plan::{Item, Kind, Removal, Why, plan};
pub use survey::Places;

use crate::{attempt, room::Room};

/// Removes what may be removed, or finds out what that is. Reads all directories: call it from a
/// blocking thread.
#[must_use]
pub fn collect(places: &Places, keep: &KeepConfig, dry_run: bool) -> v1::Garbage {
    collect_for(places, keep, &Room::default(), dry_run)
}

/// The same for a worker that knows which results wait for room.
pub(crate) fn collect_for(
    places: &Places,
    keep: &KeepConfig,
    told: &Room,
    dry_run: bool,
) -> v1::Garbage {
    // Where all lies that may be removed. Workspaces may lie elsewhere.
    let [room, work] = [&places.attempts, &places.workspaces]
        .map(|dir| told.seen_again(Room::look(slice::from_ref(dir))));
    let mut items = survey::items(places);
    // IMPORTANT: before anything goes that is nowhere else: else a wrong clock takes it.
    let evenly = clock::evenly_for(&places.clock, !dry_run);
    for item in items.iter_mut().filter(|item| item.kind == Kind::Aside) {
        item.idle = item.idle.min(evenly);
    }
    let removals = plan(items.clone(), keep, room.wanting());
    let mut kept: Vec<v1::Removal> = plan::damaged_that_stay(&items, &removals)
        .iter()
        .map(stays)
        .collect();
    if room.lacking().or(work.lacking()).is_some() {
        kept.extend(survey::workspaces(places).iter().map(undelivered));
    }
    let aside = plan::aside_that_stays(&items, &removals, keep);
    let aside = aside.iter().map(put_aside).collect();
    let done = match dry_run {
        true => Done::as_planned(removals),
        false => Done::sweep(removals),
    };
    answer(&done, kept, aside)
}

/// What became of what was to go. What is in use again is in neither list.
#[derive(Debug, Default)]
struct Done {
    gone: Vec<Removal>,
    /// What could not be removed, and why.
    failed: Vec<(Item, String)>,
}

impl Done {
    /// As if all of it went.
    fn as_planned(gone: Vec<Removal>) -> Self {
        Self {
            gone,
            failed: Vec::new(),
        }
    }

    fn sweep(removals: Vec<Removal>) -> Self {
        let mut done = Self::default();
        for removal in removals {
            match sweep(&removal) {
                Swept::Gone => done.gone.push(removal),
                Swept::InUse => {}
                Swept::Failed(why) => done.failed.push((removal.item, why)),
            }
        }
        done
    }
}

/// In as many words as a message has room for, with how many there are beside these.
fn answer(done: &Done, kept: Vec<v1::Removal>, aside: Vec<v1::Aside>) -> v1::Garbage {
    let (removals, unlisted) = listed(done.gone.iter().map(gone).collect());
    let (failed, unlisted_failed) = listed(done.failed.iter().map(stays).collect());
    let (kept, unlisted_kept) = listed(kept);
    let (aside, unlisted_aside) = listed(aside);
    v1::Garbage {
        removals,
        bytes: done.gone.iter().map(|removal| removal.item.bytes).sum(),
        unlisted,
        kept,
        aside,
        unlisted_kept,
        unlisted_aside,
        failed,
        unlisted_failed,
    }
}

/// The first ones, and how many there are beside them.
fn listed<T>(mut all: Vec<T>) -> (Vec<T>, u64) {
    let more = all.len().saturating_sub(limits::REMOVALS_MAX);
    all.truncate(limits::REMOVALS_MAX);
    (all, u64::try_from(more).unwrap_or(u64::MAX))
}

fn gone(removal: &Removal) -> v1::Removal {
    in_words(&removal.item, removal.why.to_string())
}

fn stays((item, why): &(Item, String)) -> v1::Removal {
    in_words(item, why.clone())
}

fn put_aside((item, left): &(Item, Duration)) -> v1::Aside {
    let name = item.path.file_name().unwrap_or_default().to_string_lossy();
    let attempt = attempt::put_aside_as(&name);
    v1::Aside {
        attempt: attempt.map(|id| id.to_string()).unwrap_or_default(),
        path: shown(&item.path),
        bytes: item.bytes,
        kept_for_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
    }
}

/// What may be what fills the disk, and is removed by nobody but a person.
fn undelivered((path, bytes): &(PathBuf, u64)) -> v1::Removal {
    v1::Removal {
        path: shown(path),
        kind: "workspace".to_owned(),
        bytes: *bytes,
        why: "its attempt runs, or its result waits; files in it that nobody needs can be removed by hand".to_owned(),
    }
}

fn shown(path: &Path) -> String {
    limits::cut(&path.to_string_lossy(), limits::REMOVAL_PATH_BYTES_MAX)
}

fn in_words(item: &Item, why: String) -> v1::Removal {
    v1::Removal {
        path: shown(&item.path),
        kind: item.kind.as_str().to_owned(),
        bytes: item.bytes,
        why,
    }
}

/// Finds out what may be removed when so many bytes are to become free. Nothing is changed.
#[cfg(test)]
fn look(places: &Places, keep: &KeepConfig, wanted: u64) -> Vec<Removal> {
    plan(survey::items(places), keep, wanted)
}

/// What became of one that was to go.
#[derive(Debug, PartialEq, Eq)]
enum Swept {
    Gone,
    /// Somebody has begun to use it.
    InUse,
    /// Why it is there still, at least a part of it. It is tried again the next time.
    Failed(String),
}

/// Removes one, unless somebody has begun to use it.
fn sweep(removal: &Removal) -> Swept {
    let path = removal.item.path.display();
    match remove::remove(&removal.item) {
        Ok(true) => {
            tracing::info!(%path, why = %removal.why, "removed");
            Swept::Gone
        }
        Ok(false) => {
            tracing::debug!(%path, "in use again");
            Swept::InUse
        }
        Err(error) => {
            let why = attempt::chain(&error);
            tracing::warn!(%path, error = %why, "cannot be removed");
            Swept::Failed(limits::cut(&why, limits::LABEL_VALUE_BYTES_MAX))
        }
    }
}

#[cfg(test)]
mod tests;
