//! What lies in the worker's directory, how large it is, and whether an attempt needs it.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use super::plan::{Item, Kind};

/// Where a worker keeps things.
#[derive(Clone, Debug)]
pub struct Places {
    /// Bytes fetched from the head.
    pub bundles: PathBuf,
    /// One bare repository for each project.
    pub repositories: PathBuf,
    /// The attempts' own directories.
    pub attempts: PathBuf,
    /// Attempts that were put aside.
    pub aside: PathBuf,
}

impl Places {
    /// Those below a worker's directory.
    #[must_use]
    pub fn below(worker: &Path) -> Self {
        let cache = worker.join("cache");
        Self {
            bundles: cache.join("bundles"),
            repositories: cache.join("repositories"),
            attempts: worker.join("attempts"),
            aside: worker.join("aside"),
        }
    }
}

/// Everything that could be removed. What cannot be read is left out: it stays.
pub fn items(places: &Places) -> Vec<Item> {
    let mut items = Vec::new();
    items.extend(entries(&places.bundles).filter_map(|path| item(path, Kind::Bundle, 0)));
    let lenders = lenders(places);
    for path in entries(&places.repositories) {
        let spare = item(path.join("spares/ready"), Kind::Spare, 0);
        let below = spare.as_ref().map_or(0, |spare| spare.bytes);
        items.extend(spare);
        let used = path.join("orchestra-ready");
        if let Some(found) = item(path.clone(), Kind::Repository, below) {
            items.push(Item {
                idle: idle(&used).unwrap_or(found.idle),
                in_use: path.file_name().is_some_and(|name| lenders.contains(name)),
                ..found
            });
        }
    }
    for path in entries(&places.aside) {
        let built: Vec<_> = build_output(&path.join("workspace"))
            .into_iter()
            .filter_map(|path| item(path, Kind::BuildOutput, 0))
            .collect();
        let below = built.iter().map(|item| item.bytes).sum();
        items.extend(built);
        items.extend(item(path, Kind::Aside, below));
    }
    items
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path())
}

/// What is at `path`, without `below` bytes of it that count for themselves.
fn item(path: PathBuf, kind: Kind, below: u64) -> Option<Item> {
    Some(Item {
        kind,
        bytes: size(&path).ok()?.saturating_sub(below),
        idle: idle(&path)?,
        in_use: false,
        path,
    })
}

/// How long ago something was written; none when it is not there.
fn idle(path: &Path) -> Option<Duration> {
    let modified = fs::symlink_metadata(path).ok()?.modified().ok()?;
    Some(modified.elapsed().unwrap_or_default())
}

/// The disk space of all files, links not followed.
fn size(path: &Path) -> io::Result<u64> {
    let meta = fs::symlink_metadata(path)?;
    if !meta.is_dir() {
        return Ok(meta.blocks() * 512);
    }
    Ok(entries(path).filter_map(|path| size(&path).ok()).sum())
}

/// The names of the repositories that attempts borrow objects from. A name is enough, and the same
/// however the way to it is written.
fn lenders(places: &Places) -> BTreeSet<OsString> {
    let attempts = entries(&places.attempts).chain(entries(&places.aside));
    let files = attempts.map(|dir| dir.join("git/objects/info/alternates"));
    let texts = files.filter_map(|file| fs::read_to_string(file).ok());
    let mut lenders = BTreeSet::new();
    for text in texts {
        let objects = text.lines().map(|line| Path::new(line.trim_matches('"')));
        let names = objects.filter_map(|objects| objects.parent()?.file_name());
        lenders.extend(names.map(OsStr::to_owned));
    }
    lenders
}

/// Directories that say themselves that they are caches, and those of node: not looked for within
/// each other.
fn build_output(workspace: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![workspace.to_owned()];
    while let Some(dir) = dirs.pop() {
        for path in entries(&dir) {
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_dir() => {}
                Ok(_) | Err(_) => continue,
            }
            let tagged = path.join("CACHEDIR.TAG").exists();
            match tagged || path.file_name().is_some_and(|name| name == "node_modules") {
                true => found.push(path),
                false => dirs.push(path),
            }
        }
    }
    found
}
