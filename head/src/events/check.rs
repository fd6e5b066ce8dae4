//! Is everything that is stored of events what was written?

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use orchestra_types::Timestamp;

use super::{
    Error,
    catalog::Catalog,
    index::Summary,
    io_error,
    listed::{self, Listed},
    segment::{self, Durable, Name},
};
use crate::progress::Progress;

/// How far the events of a head that serves are durable.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    pub(super) number: u64,
    pub(super) bytes: u32,
    /// When the last of them came.
    pub(super) newest: Timestamp,
}

impl Reached {
    pub(super) fn of(catalog: &Catalog) -> Self {
        let open = &catalog.read().open;
        Self {
            number: open.name.number,
            bytes: open.bytes,
            newest: open.newest,
        }
    }
}

/// What a look at all segments found.
#[derive(Debug, Default)]
pub struct Checked {
    /// How many there are.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that are not what was written: in which file, from which byte on.
    pub damaged: Vec<(PathBuf, u64)>,
    /// An end that reads as nothing, and that nothing knows as durable: torn by a crash.
    pub torn: Vec<(PathBuf, u64)>,
    /// Indexes that do not say what is in their segment. They are made anew when they are read.
    pub indexes: Vec<PathBuf>,
    /// Segments that should be there and are not.
    pub lost: Vec<PathBuf>,
}

/// Reads all segments below `root`; changes nothing. With a head that serves there, what comes
/// behind `reached` is not looked at.
pub fn check(root: &Path, reached: Option<Reached>, progress: &Progress) -> Result<Checked, Error> {
    let mut checked = Checked::default();
    let names = names(root)?;
    let listed = list(root)?;
    checked.lost = lost(root, &listed, &names, reached);
    let last = names.keys().next_back().copied();
    for name in names.into_values() {
        let durable = match reached {
            Some(reached) if name.number > reached.number => continue,
            Some(reached) if name.number == reached.number => Durable::UpTo(reached.bytes),
            None if Some(name.number) == last => Durable::Told,
            Some(_) | None => Durable::All,
        };
        let before = checked.bytes;
        let at_least = match durable {
            Durable::UpTo(_) => 0,
            Durable::Told | Durable::All => listed.durable(name),
        };
        match one(root, name, durable, at_least, &mut checked) {
            // Its time was over meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => read.map_err(|e| io_error("read", &name.segment(root), e))?,
        }
        let passed = progress
            .passed(checked.bytes - before)
            .map_err(io::Error::other);
        passed.map_err(|e| io_error("read", root, e))?;
    }
    Ok(checked)
}

/// The list. IMPORTANT: it is read after the directory: what a head removes meanwhile went out of the list first.
fn list(root: &Path) -> Result<Listed, Error> {
    let path = listed::path(root);
    let listed = Listed::read(root).map_err(|e| io_error("read", &path, e))?;
    Ok(listed.unwrap_or_default())
}

/// What is listed and not there.
fn lost(
    root: &Path,
    listed: &Listed,
    names: &BTreeMap<u64, Name>,
    reached: Option<Reached>,
) -> Vec<PathBuf> {
    // What is newer may have been made meanwhile.
    let known = |number: &u64| reached.is_none_or(|reached| *number <= reached.number);
    let found: BTreeSet<u64> = names.keys().copied().filter(known).collect();
    let missing = listed.missing(&found).into_iter();
    let path = |number| {
        let generation = 0;
        Name { number, generation }.segment(root)
    };
    missing.filter(known).map(path).collect()
}

fn one(
    root: &Path,
    name: Name,
    durable: Durable,
    at_least: u32,
    checked: &mut Checked,
) -> io::Result<()> {
    let path = name.segment(root);
    let (scan, _is_damage) = segment::scan(&path, durable)?.at_least(at_least);
    let bytes = fs::metadata(&path)?.len();
    checked.segments += 1;
    checked.bytes += bytes;
    let damaged = scan.damaged.iter().map(|at| (path.clone(), u64::from(*at)));
    checked.damaged.extend(damaged);
    if matches!(durable, Durable::UpTo(_)) {
        return Ok(()); // It has no index yet.
    }
    if bytes > u64::from(scan.bytes) {
        checked.torn.push((path, u64::from(scan.bytes)));
    }
    let index = name.index(root);
    let Some(summary) = Summary::read(&index)? else {
        if index.exists() {
            checked.indexes.push(index);
        }
        return Ok(());
    };
    let places = summary.read_places(&index)?;
    if places.is_none_or(|places| places != scan.places) {
        checked.indexes.push(index);
    }
    Ok(())
}

/// The newest generation of each segment.
fn names(root: &Path) -> Result<BTreeMap<u64, Name>, Error> {
    let failed = |e| io_error("list", root, e);
    let mut found: BTreeMap<u64, Name> = BTreeMap::new();
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        if let Some(name) = name.to_str().and_then(Name::parse) {
            let newest = found.entry(name.number).or_insert(name);
            *newest = (*newest).max(name);
        }
    }
    Ok(found)
}
