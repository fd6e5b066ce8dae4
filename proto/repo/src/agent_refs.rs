//! The branches, stashes and tags of an agent, read from its `.git` as data: no link is followed, and the text
//! of each file is bounded.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    os::fd::OwnedFd,
};

use rustix::fs::FileType;

use crate::{
    action, beneath,
    git::check_commit,
    history::REF_BYTES_MAX,
    import::check_branch,
    names::{is_git_like, shown},
};

/// Most branches that are looked at.
const REFS_MAX: usize = 10_000;
/// Most stashes that are looked at: the latest ones.
const STASHES_MAX: usize = 100;
/// How deep the name of a branch may go.
const DEPTH_MAX: usize = 16;
/// Longest text of a loose ref: the rest of a longer one is no commit id.
const LOOSE_BYTES_MAX: u64 = 1024;
const NO_DIRECTORY: &str = "the agent's `.git` is no directory: commits on branches of its own, stashes and further \
     work trees are not looked for";
const HEADS: &[u8] = b"refs/heads/";
const TAGS: &[u8] = b"refs/tags/";
const STASH: &[u8] = b"refs/stash";

/// Something of the agent's that is a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AgentRef {
    /// What it is, for people.
    pub what: What,
    pub commit: String,
    pub holds: Holds,
}

/// What is new in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// What was not committed in a work tree, as a commit of ours.
    Edits,
    /// That, on commits of the agent.
    Both,
    /// Commits of the agent, as far as is known.
    Commits,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The branch of this name.
    Branch(String),
    /// The stash of this number.
    Stash(usize),
    /// The work tree of this name, which is on no branch.
    Tree(String),
    /// The tag of this name. Its commit may be an object that names one.
    Tag(String),
    /// A detached HEAD that was left.
    Detached,
}

/// What was found, and what could not be read.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Branches by name, then stashes, the latest first, then tags by name.
    pub refs: Vec<AgentRef>,
    /// Sentences for people.
    pub unread: Vec<String>,
    /// Whether there are more than are looked at.
    pub are_more: bool,
}

/// Everything of the `.git` below `root`; nothing but a sentence where that is no directory.
pub(crate) fn read(root: &OwnedFd) -> Found {
    let mut found = Found::default();
    match beneath::lstat(root, b".git") {
        Ok(Some(stat)) if beneath::kind(&stat) == FileType::Directory => {}
        Ok(Some(_)) => {
            found.unread.push(NO_DIRECTORY.to_owned());
            return found;
        }
        Ok(None) | Err(_) => return found,
    }
    let mut names = packed(root, &mut found);
    // A loose one stands above a packed one.
    loose(root, &mut names, &mut found);
    let stash = names.remove(STASH);
    let tags = names.split_off(TAGS);
    named(names, HEADS, &mut found);
    stashes(root, stash, &mut found);
    named(tags, TAGS, &mut found);
    found
}

/// Those of a kind, without what they all begin with.
fn named(names: BTreeMap<Vec<u8>, String>, kind: &[u8], found: &mut Found) {
    for (name, text) in names {
        let name = shown(name.strip_prefix(kind).unwrap_or(&name));
        let is_tag = kind == TAGS;
        match check_commit(&text) {
            Ok(()) => found.refs.push(AgentRef {
                what: match is_tag {
                    true => What::Tag(name),
                    false => What::Branch(name),
                },
                commit: text,
                holds: Holds::Commits,
            }),
            // Another name of one that is here too.
            Err(_) if text.starts_with("ref: ") => {}
            Err(_) => {
                let kind = if is_tag { "tag" } else { "branch" };
                let said = format!("the agent's {kind} `{name}` names no commit");
                found.unread.push(said);
            }
        }
    }
}

/// Branches, tags and the stash in the file that git packs refs into.
fn packed(root: &OwnedFd, found: &mut Found) -> BTreeMap<Vec<u8>, String> {
    let text = text(root, b".git/packed-refs", REF_BYTES_MAX).unwrap_or_else(|error| {
        let said = format!("the agent's packed branches cannot be read: {error}");
        found.unread.push(said);
        None
    });
    let mut names = BTreeMap::new();
    for line in text.unwrap_or_default().split(|b| *b == b'\n') {
        let Some(space) = line.iter().position(|b| *b == b' ') else {
            continue;
        };
        let (commit, name) = (&line[..space], &line[space + 1..]);
        if !name.starts_with(HEADS) && !name.starts_with(TAGS) && name != STASH {
            continue;
        }
        if names.len() == REFS_MAX {
            found.are_more = true;
            break;
        }
        names.insert(name.to_vec(), shown(commit));
    }
    names
}

/// The same in files of their own.
fn loose(root: &OwnedFd, names: &mut BTreeMap<Vec<u8>, String>, found: &mut Found) {
    if let Some(text) = loose_text(root, STASH, found) {
        names.insert(STASH.to_vec(), text);
    }
    let mut seen = 0;
    let roots = [TAGS, HEADS].map(|kind| (kind[..kind.len() - 1].to_vec(), 0));
    let mut dirs = Vec::from(roots);
    while let Some((dir, depth)) = dirs.pop() {
        let mut entries = match beneath::list(root, &[b".git/", &dir[..]].concat()) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                let dir = shown(&dir);
                found
                    .unread
                    .push(format!("the agent's `{dir}` cannot be read: {error}"));
                continue;
            }
        };
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (name, kind) in entries {
            seen += 1;
            if seen > REFS_MAX {
                found.are_more = true;
                return;
            }
            let path = [&dir, &b"/"[..], &name].concat();
            match kind {
                FileType::Directory if depth < DEPTH_MAX => dirs.push((path, depth + 1)),
                _ if name.ends_with(b".lock") || is_git_like(&name) => {}
                _ => {
                    if let Some(text) = loose_text(root, &path, found) {
                        names.insert(path, text);
                    }
                }
            }
        }
    }
}

fn loose_text(root: &OwnedFd, name: &[u8], found: &mut Found) -> Option<String> {
    match text(root, &[b".git/", name].concat(), LOOSE_BYTES_MAX) {
        Ok(text) => text.map(|text| shown(text.trim_ascii())),
        Err(error) => {
            let name = shown(name);
            found
                .unread
                .push(format!("the agent's `{name}` cannot be read: {error}"));
            None
        }
    }
}

/// The latest stash is a ref; those before it are only in the log of that.
fn stashes(root: &OwnedFd, latest: Option<String>, found: &mut Found) {
    let log = text(root, b".git/logs/refs/stash", REF_BYTES_MAX);
    let log = log.ok().flatten().unwrap_or_default();
    let lines = log.split(|b| *b == b'\n').rev();
    let logged = lines.filter_map(|line| line.split(|b| *b == b' ').nth(1).map(shown));
    let mut commits: Vec<String> = latest.into_iter().collect();
    for commit in logged.take(STASHES_MAX) {
        if !commits.contains(&commit) {
            commits.push(commit);
        }
    }
    for (number, commit) in commits.into_iter().enumerate() {
        match check_commit(&commit) {
            Ok(()) => found.refs.push(AgentRef {
                what: What::Stash(number),
                commit,
                holds: Holds::Commits,
            }),
            Err(_) => found.unread.push(format!(
                "the agent's stash `stash@{{{number}}}` names no commit"
            )),
        }
    }
}

/// Whether it is a branch that Orchestra put there for a task that the agent queued, and that is as it was
/// put there: the last line of its log is ours. That task's own result has all of it.
pub(crate) fn is_put_there(root: &OwnedFd, of: &AgentRef) -> bool {
    let What::Branch(name) = &of.what else {
        return false;
    };
    if check_branch(name).is_err() {
        return false;
    }
    let path = [b".git/logs/", HEADS, name.as_bytes()].concat();
    let log = text(root, &path, REF_BYTES_MAX).ok().flatten();
    let log = log.unwrap_or_default();
    let last = log.trim_ascii_end().rsplit(|b| *b == b'\n').next();
    let last = String::from_utf8_lossy(last.unwrap_or_default());
    let is_ours = last
        .split_once('\t')
        .is_some_and(|(_, what)| action::read(what).is_some());
    is_ours && last.split(' ').nth(1) == Some(&*of.commit)
}

pub(crate) fn too_many() -> String {
    format!("the agent has more than {REFS_MAX} branches and tags; the others were not looked at")
}

/// The beginning of a file; none where there is none.
pub(crate) fn text(root: &OwnedFd, path: &[u8], bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match beneath::open_regular(root, path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
