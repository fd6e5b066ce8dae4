//! Opens the segments that a head left behind, whichever way it ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
    sync::Arc,
};

use orchestra_types::Timestamp;

use super::{
    Error,
    catalog::{Catalog, Open, Sealed},
    index::Summary,
    io_error,
    listed::{self, Cut, Listed},
    segment::{self, Durable, Name, Scan, Writer},
};

/// Finds all segments. The last one goes on, unless it is damaged. What is not found is noted.
pub(super) fn open(root: &Path, now: Timestamp) -> Result<(Catalog, Writer, Listed), Error> {
    let mut sealed = BTreeMap::new();
    let mut open = None;
    let names = names(root)?;
    let found: BTreeSet<u64> = names.iter().map(|name| name.number).collect();
    let (before, mut listed) = list(root, &found, now)?;
    for name in &names {
        let is_last = names.last() == Some(name);
        let durable = before.durable(*name);
        match one(root, *name, is_last, durable)? {
            Found::Full { summary, is_cut } => {
                let name = *name;
                if is_cut {
                    let noted = before.cut.get(&name.number).map_or(now, |cut| cut.noted);
                    listed.cut.insert(name.number, Cut { durable, noted });
                }
                sealed.insert(name.number, Arc::new(Sealed { name, summary }));
            }
            Found::Open(scan) => open = Some((*name, scan)),
        }
    }
    let (name, scan) = match open {
        Some(found) => found,
        None => {
            // The number of one that is lost is not given again.
            let last = found.last().max(listed.lost.keys().next_back());
            let number = last.map_or(1, |last| last + 1);
            let generation = 0;
            (Name { number, generation }, Scan::default())
        }
    };
    let path = name.segment(root);
    let writer = match scan.bytes {
        0 => Writer::create(&path),
        _ => Writer::reopen(&path, &scan),
    };
    let writer = writer.map_err(|e| io_error("open", &path, e))?;
    let mut state = Open::new(name, writer.bytes());
    state.frames = scan.places.values().map(Vec::len).sum();
    state.newest = scan.newest;
    state.places = scan.places;
    listed.present.insert(name.number);
    // All of what is left is durable by now.
    listed.end = Some((name.number, writer.bytes()));
    unless_full(listed.write(root)).map_err(|e| io_error("write", &listed::path(root), e))?;
    let catalog = Catalog::new(root, sealed, state);
    catalog.write().lost = listed.lost.clone();
    catalog.write().cut = listed.noted_cuts();
    Ok((catalog, writer, listed))
}

/// The list that was there, and that of what was found, with what is missing.
fn list(root: &Path, found: &BTreeSet<u64>, now: Timestamp) -> Result<(Listed, Listed), Error> {
    let path = listed::path(root);
    let before = Listed::read(root).map_err(|e| io_error("read", &path, e))?;
    let before = before.unwrap_or_default();
    let listed = before.renewed(found, now);
    for number in listed.lost.keys() {
        let name = Name {
            number: *number,
            generation: 0,
        };
        let path = name.segment(root);
        tracing::error!(path = %path.display(), "a segment of events is gone; readers are told; restore a backup, or go on without it");
    }
    Ok((before, listed))
}

/// Whether it was written. On a full disk the list stays what it was.
pub(super) fn unless_full(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(false),
        written => written.map(|()| true),
    }
}

enum Found {
    Full {
        summary: Summary,
        /// Whether less of it is there than was durable.
        is_cut: bool,
    },
    Open(Scan),
}

/// Looks at one of which at least so much was `durable`.
fn one(root: &Path, name: Name, is_last: bool, durable: u32) -> Result<Found, Error> {
    let (path, index) = (name.segment(root), name.index(root));
    let length = fs::metadata(&path).map_err(|e| io_error("read", &path, e))?;
    let summary = Summary::read(&index).map_err(|e| io_error("read", &index, e))?;
    if let Some(summary) = summary
        && u64::from(summary.bytes) == length.len()
    {
        let is_cut = summary.bytes < durable;
        return Ok(Found::Full { summary, is_cut });
    }
    let known = match is_last {
        true => Durable::Told,
        false => Durable::All,
    };
    let scan = segment::scan(&path, known).map_err(|e| io_error("read", &path, e))?;
    let (scan, is_cut) = scan.at_least(durable);
    for offset in &scan.damaged {
        tracing::error!(path = %path.display(), offset, "events are damaged on disk");
    }
    if is_last && scan.damaged.is_empty() {
        return Ok(Found::Open(scan));
    }
    // Its length is what it is: what is torn or damaged in it is never looked at.
    let bytes = u32::try_from(length.len()).unwrap_or(u32::MAX);
    let summary = Summary::write(&index, bytes, scan.newest, &scan.places);
    Ok(Found::Full { summary, is_cut })
}

/// The newest generation of each segment, in order; older ones are removed.
fn names(root: &Path) -> Result<Vec<Name>, Error> {
    let failed = |e| io_error("list", root, e);
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(name) = name.to_str().and_then(Name::parse) else {
            continue;
        };
        let newest = found.entry(name.number).or_insert(name);
        let older = (*newest).min(name);
        *newest = (*newest).max(name);
        if older != *newest {
            remove(root, older)?;
        }
    }
    Ok(found.into_values().collect())
}

/// Removes a segment and its index.
pub(super) fn remove(root: &Path, name: Name) -> Result<(), Error> {
    for path in [name.segment(root), name.index(root)] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_error("remove", &path, error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}
