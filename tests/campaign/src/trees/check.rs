//! Whether a manifest says what two trees say.

use std::collections::BTreeMap;

use orchestra_types::{FileChange, Manifest, ManifestEntry};
use sha2::{Digest as _, Sha256};

use super::model::{Node, Tree};

const LINK: u32 = 0o120_000;

/// Paths as a manifest has them: two names that are not UTF-8 may look the same.
type Paths = Vec<String>;

/// What is wrong with a manifest of the change from `before` to `after`.
pub fn manifest(manifest: &Manifest, before: &Tree, after: &Tree) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut came, mut gone, mut changed) = (Paths::new(), Paths::new(), Paths::new());
    for entry in &manifest.entries {
        match &entry.change {
            FileChange::Added => came.push(entry.path.clone()),
            FileChange::Deleted => gone.push(entry.path.clone()),
            FileChange::Modified | FileChange::ModeChanged => changed.push(entry.path.clone()),
            FileChange::Renamed { from } => {
                gone.push(from.clone());
                came.push(entry.path.clone());
            }
        }
        wrong.extend(details(entry, before, after));
    }
    let only = |one: &Tree, other: &Tree| {
        let paths = one.0.keys().filter(|path| !other.0.contains_key(*path));
        paths.map(|path| shown(path)).collect::<Paths>()
    };
    let both = after.0.iter().filter(|(path, node)| {
        let then = before.0.get(*path);
        then.is_some_and(|then| then != *node)
    });
    let both: Paths = both.map(|(path, _)| shown(path)).collect();
    wrong.extend(same("new", came, only(after, before)));
    wrong.extend(same("deleted", gone, only(before, after)));
    wrong.extend(same("changed", changed, both));
    wrong
}

fn same(what: &str, mut said: Paths, mut wanted: Paths) -> Option<String> {
    said.sort();
    wanted.sort();
    (said != wanted)
        .then(|| format!("the manifest says that {said:?} are {what}, and they are {wanted:?}"))
}

/// Size, mode, hash and lines of one entry.
fn details(entry: &ManifestEntry, before: &Tree, after: &Tree) -> Option<String> {
    let said = (entry.size, entry.mode, entry.sha256.map(|digest| digest.0));
    let wrong = || Some(format!("the manifest's entry is wrong: {entry:?}"));
    if entry.change == FileChange::Deleted {
        return if said == (0, 0, None) { None } else { wrong() };
    }
    let old = match &entry.change {
        FileChange::Renamed { from } => from,
        FileChange::Added
        | FileChange::Deleted
        | FileChange::Modified
        | FileChange::ModeChanged => &entry.path,
    };
    let candidates = named(after, &entry.path);
    let fits = candidates.iter().any(|node| {
        let regular = node.mode() != LINK;
        let digest = regular.then(|| Sha256::digest(node.bytes()).into());
        (node.bytes().len() as u64, node.mode(), digest) == said
            && lines_fit(entry, &named(before, old), node)
    });
    if fits { None } else { wrong() }
}

/// Lines are what a text has more than before; of binary files nothing is said.
fn lines_fit(entry: &ManifestEntry, old: &[&Node], new: &Node) -> bool {
    let (Some(added), Some(removed)) = (entry.lines_added, entry.lines_removed) else {
        return entry.binary;
    };
    let grew = |old: u64| old + added == lines(new) + removed;
    // A file that became a link is told as one deleted and one made.
    match entry.change {
        FileChange::Added => grew(0),
        _ => old.iter().any(|old| grew(lines(old))),
    }
}

fn lines(node: &Node) -> u64 {
    let bytes = node.bytes();
    let whole = bytes.iter().filter(|b| **b == b'\n').count() as u64;
    whole + u64::from(bytes.last().is_some_and(|last| *last != b'\n'))
}

fn named<'t>(tree: &'t Tree, name: &str) -> Vec<&'t Node> {
    let all: &BTreeMap<_, _> = &tree.0;
    all.iter()
        .filter(|(path, _)| shown(path) == name)
        .map(|(_, node)| node)
        .collect()
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
