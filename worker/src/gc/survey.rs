//! What lies in the worker's directory, how large it is, and whether an attempt needs it.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use orchestra_repo::Generation;

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
    /// The agents' directories.
    pub workspaces: PathBuf,
    /// Attempts that were put aside.
    pub aside: PathBuf,
    /// What is known of the clock.
    pub clock: PathBuf,
}

impl Places {
    /// Those below a worker's directory. Its workspaces may lie elsewhere.
    #[must_use]
    pub fn below(worker: &Path, workspaces: Option<PathBuf>) -> Self {
        let cache = worker.join("cache");
        Self {
            bundles: cache.join("bundles"),
            repositories: cache.join("repositories"),
            attempts: worker.join("attempts"),
            workspaces: workspaces.unwrap_or_else(|| worker.join("workspaces")),
            aside: worker.join("aside"),
            clock: worker.join("clock"),
        }
    }
}

/// The directories of attempts that have not been delivered, and how large each is.
pub fn workspaces(places: &Places) -> Vec<(PathBuf, u64)> {
    let mut found: Vec<_> = entries(&places.workspaces)
        .filter_map(|path| Some((size(&path).ok()?, path)))
        .map(|(bytes, path)| (path, bytes))
        .collect();
    found.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    found
}

/// Everything that could be removed. What cannot be read is left out: it stays.
pub fn items(places: &Places) -> Vec<Item> {
    let mut items = Vec::new();
    items.extend(entries(&places.bundles).filter_map(|path| item(path, Kind::Bundle, 0)));
    items.extend(repositories(places));
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

/// The projects' repositories. A damaged one has a newer one beside it, which stays as long: else the damaged
/// one would be the newest again.
fn repositories(places: &Places) -> Vec<Item> {
    let lenders = lenders(places);
    let mut all: BTreeMap<String, BTreeMap<u32, PathBuf>> = BTreeMap::new();
    for path in entries(&places.repositories) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Generation { project, number } = Generation::of(&name);
        all.entry(project).or_default().insert(number, path);
    }
    let mut items = Vec::new();
    for mut generations in all.into_values() {
        let newest = generations.pop_last();
        let follows = (!generations.is_empty()).then(|| "follows a damaged one".to_owned());
        let damaged = generations.into_values();
        let damaged = damaged.map(|path| (path, Kind::Damaged, None));
        let newest = newest.map(|(_, path)| (path, Kind::Repository, follows));
        for (path, kind, stays) in damaged.chain(newest) {
            let spare = item(path.join("spares/ready"), Kind::Spare, 0);
            let below = spare.as_ref().map_or(0, |spare| spare.bytes);
            items.extend(spare);
            let used = path.join("orchestra-ready");
            let borrower = path.file_name().and_then(|name| lenders.get(name));
            if let Some(found) = item(path, kind, below) {
                items.push(Item {
                    idle: idle(&used).unwrap_or(found.idle),
                    needed_by: borrower
                        .map(|who| format!("{who} borrows from it"))
                        .or(stays),
                    ..found
                });
            }
        }
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
        needed_by: None,
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

/// The names of the repositories that attempts borrow objects from, each with one that does. A name is
/// enough, and the same however the way to it is written.
fn lenders(places: &Places) -> BTreeMap<OsString, String> {
    let mut lenders = BTreeMap::new();
    for dir in entries(&places.attempts).chain(entries(&places.aside)) {
        let Ok(text) = fs::read_to_string(dir.join("git/objects/info/alternates")) else {
            continue;
        };
        let attempt = dir.file_name().unwrap_or_default().to_string_lossy();
        for line in text.lines() {
            let objects = Path::new(line.trim_matches('"'));
            let repository = objects.parent().and_then(Path::file_name);
            if let Some(repository) = repository {
                lenders.insert(repository.to_owned(), attempt.clone().into_owned());
            }
        }
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
