//! Events of the former layout: `<task / 1000>/<attempt>.log`, one file for each attempt.
//!
//! ```text
//! file = magic | records      record = length u32 | CRC-32C u32 | message     all little endian
//! ```
//! The number of an event is its place in its file. At the first opening they are appended to the
//! segments as if workers sent them: what is there already is passed over. A file goes when all of
//! it is durable, so that a crash in between only means that some of it is passed over next time.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use orchestra_types::AttemptId;

use super::{
    Error,
    frame::{BODY_BYTES, FRAME_BYTES_MAX, HEAD_BYTES, u32_at},
    io_error,
    owner::{Files, TURN_BYTES, TURN_COMMANDS_MAX, Turn},
};
use crate::points;

const MAGIC: &[u8; 8] = b"ORCHEVT\x01";
/// Longest message: a frame has room for it behind a body that was nearly full.
const MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX - BODY_BYTES - 4096;

/// Events that are added to a turn at once.
const PART_EVENTS: usize = 512;

/// A file whose events are all in a turn.
struct Added {
    attempt: AttemptId,
    path: PathBuf,
    events: u64,
    broken_at: Option<usize>,
}

impl Files {
    /// Takes over what the former layout left. Without room on the disk the rest waits for the next
    /// start.
    pub(super) fn import_former(&mut self) -> Result<(), Error> {
        let root = self.catalog.root().to_owned();
        let found = list(&root)?;
        if found.is_empty() {
            return Ok(());
        }
        let count = found.len();
        tracing::info!(files = count, "taking over events of the former layout");
        match self.import(found)? {
            Room::Left => {
                tracing::info!(files = count, "events of the former layout are taken over")
            }
            Room::Full => {
                tracing::warn!(
                    "no room for events of the former layout; free space and start again"
                );
                return Ok(());
            }
        }
        tidy(&root)
    }

    fn import(&mut self, found: BTreeMap<AttemptId, PathBuf>) -> Result<Room, Error> {
        let (mut turn, mut added) = (Turn::default(), Vec::new());
        for (attempt, path) in found {
            let Former { events, broken_at } = read(&path)?;
            for (part, first) in events.chunks(PART_EVENTS).zip((1..).step_by(PART_EVENTS)) {
                let known = self.attempt(attempt)?.last;
                turn.add(attempt, known, first, part.to_vec());
                if turn.bytes >= TURN_BYTES && self.settle(&mut turn, &mut added)? == Room::Full {
                    return Ok(Room::Full);
                }
            }
            let events = events.len() as u64;
            added.push(Added {
                attempt,
                path,
                events,
                broken_at,
            });
            if added.len() >= TURN_COMMANDS_MAX && self.settle(&mut turn, &mut added)? == Room::Full
            {
                return Ok(Room::Full);
            }
        }
        self.settle(&mut turn, &mut added)
    }

    /// Makes a turn durable. IMPORTANT: only then the files go whose events are all in it.
    fn settle(&mut self, turn: &mut Turn, added: &mut Vec<Added>) -> Result<Room, Error> {
        self.finish(std::mem::take(turn))?;
        for added in added.drain(..) {
            if self.attempt(added.attempt)?.last < added.events {
                return Ok(Room::Full);
            }
            done_with(&added.path, added.broken_at)?;
        }
        Ok(Room::Left)
    }
}

#[derive(PartialEq, Eq)]
enum Room {
    Left,
    Full,
}

/// Where the former layout left something, by attempt.
fn list(root: &Path) -> Result<BTreeMap<AttemptId, PathBuf>, Error> {
    let mut found = BTreeMap::new();
    for dir in directories(root)? {
        for path in entries(&dir)? {
            let name = path.file_name().and_then(|name| name.to_str());
            let id = name.and_then(|name| name.strip_suffix(".log"));
            if let Some(id) = id.and_then(|id| id.parse().ok()) {
                found.insert(id, path);
            }
        }
    }
    Ok(found)
}

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
struct Former {
    /// Its events, from the first one on.
    events: Vec<Bytes>,
    /// From which byte on it does not read: its end was torn, or is damaged.
    broken_at: Option<usize>,
}

fn read(path: &Path) -> Result<Former, Error> {
    let bytes = fs::read(path).map_err(|e| io_error("read", path, e))?;
    Ok(parse(&bytes.into()))
}

fn parse(bytes: &Bytes) -> Former {
    let mut events = Vec::new();
    if bytes.get(..MAGIC.len()) != Some(MAGIC) {
        let broken_at = (!bytes.is_empty()).then_some(0);
        return Former { events, broken_at };
    }
    let mut at = MAGIC.len();
    while let Some(message) = message(bytes, at) {
        at += HEAD_BYTES + message.len();
        events.push(message);
    }
    let broken_at = (at < bytes.len()).then_some(at);
    Former { events, broken_at }
}

/// The message at `at`; none at the end, and where the bytes are not what was written.
fn message(bytes: &Bytes, at: usize) -> Option<Bytes> {
    let head = bytes.get(at..at + HEAD_BYTES)?;
    let (length, crc) = (u32_at(head, 0) as usize, u32_at(head, 4));
    let place = at + HEAD_BYTES..at + HEAD_BYTES + length;
    let message = bytes.get(place.clone())?;
    let right = length <= MESSAGE_BYTES_MAX && crc32c::crc32c(message) == crc;
    right.then(|| bytes.slice(place))
}

/// Removes a file whose events are durable elsewhere; what of it does not read is kept for a person.
fn done_with(path: &Path, broken_at: Option<usize>) -> Result<(), Error> {
    match broken_at {
        None => {
            let removed = points::reach("events.former").and_then(|()| fs::remove_file(path));
            removed.map_err(|e| io_error("remove", path, e))
        }
        Some(offset) => {
            let kept = path.with_extension("log.damaged");
            tracing::error!(path = %kept.display(), offset, "the end of an old file of events is torn or damaged; it is kept aside");
            fs::rename(path, &kept).map_err(|e| io_error("rename", path, e))
        }
    }
}

/// Removes the directories that have become empty.
fn tidy(root: &Path) -> Result<(), Error> {
    for dir in directories(root)? {
        match fs::remove_dir(&dir) {
            Err(error) if error.kind() != io::ErrorKind::DirectoryNotEmpty => {
                return Err(io_error("remove", &dir, error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

fn directories(root: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut all = entries(root)?;
    all.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.parse::<u64>().is_ok()) && path.is_dir()
    });
    Ok(all)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |e| io_error("list", dir, e);
    let entries = fs::read_dir(dir).map_err(failed)?;
    entries
        .map(|entry| Ok(entry.map_err(failed)?.path()))
        .collect()
}

#[cfg(test)]
mod tests;
