//! Is everything that is stored of events what was written?

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Error,
    index::Summary,
    io_error,
    segment::{self, Name},
};

/// What a look at all segments found.
#[derive(Debug, Default)]
pub struct Checked {
    /// How many there are.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that are not what was written: in which file, from which byte on.
    pub damaged: Vec<(PathBuf, u64)>,
    /// An end that reads as nothing: torn by a crash, or damaged.
    pub torn: Vec<(PathBuf, u64)>,
    /// Indexes that do not say what is in their segment. They are made anew when they are read.
    pub indexes: Vec<PathBuf>,
}

/// Reads all segments below `root`; changes nothing.
pub fn check(root: &Path) -> Result<Checked, Error> {
    let mut checked = Checked::default();
    for name in names(root)?.into_values() {
        let path = name.segment(root);
        match one(root, name, &mut checked) {
            // Its time was over meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => read.map_err(|e| io_error("read", &path, e))?,
        }
    }
    Ok(checked)
}

fn one(root: &Path, name: Name, checked: &mut Checked) -> io::Result<()> {
    let path = name.segment(root);
    let scan = segment::scan(&path)?;
    let bytes = fs::metadata(&path)?.len();
    checked.segments += 1;
    checked.bytes += bytes;
    let damaged = scan.damaged.iter().map(|at| (path.clone(), u64::from(*at)));
    checked.damaged.extend(damaged);
    let index = name.index(root);
    let summary = Summary::read(&index)?;
    if bytes > u64::from(scan.bytes) && (summary.is_none() || scan.damaged.is_empty()) {
        checked.torn.push((path, u64::from(scan.bytes)));
    }
    let Some(summary) = summary else {
        if index.exists() {
            checked.indexes.push(index);
        }
        return Ok(());
    };
    if summary
        .read_places(&index)?
        .is_none_or(|places| places != scan.places)
    {
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
