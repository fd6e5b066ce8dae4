//! Branches of Orchestra that lie in the user's repository: whose they are, which other branch has their
//! commits too, and the removal of one.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use orchestra_types::TaskId;

use crate::{
    checkout::Checkout,
    error::{Error, Result},
    git::{Git, Input},
    import::{PREFIX, check_branch, tip},
    in_use::{AtWork, Held, refuse_in_use},
    severed::severed,
};

const HEADS: &str = "refs/heads/";
const REMOTES: &str = "refs/remotes/";

/// A branch that has the name of a task's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskBranch {
    /// `orchestra/task_001`, or beside it `orchestra/task_001-1-fix`.
    pub name: String,
    /// The task that the name says.
    pub task: TaskId,
    /// The attempt that left it beside its result; none of the result itself.
    pub beside: Option<u32>,
    /// What it is.
    pub commit: String,
    /// When that commit was made, in seconds since 1970; none where the repository lacks it.
    pub committed_at: Option<u64>,
    /// Whether the repository lacks a commit before it.
    pub severed: bool,
    /// A branch that has all of its commits, and is none of ours nor a copy of one.
    pub within: Option<Keeper>,
    /// The work tree that is at work on it.
    pub held: Option<(Held, PathBuf)>,
    /// A ref that is only another name of it.
    pub alias: Option<String>,
}

/// A branch, or a remote-tracking one, as it was when it had all commits of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keeper {
    /// `refs/heads/main` or `refs/remotes/origin/main`.
    pub full: String,
    /// What it was.
    pub commit: String,
}

impl Keeper {
    /// As people call it: `main` or `origin/main`.
    #[must_use]
    pub fn name(&self) -> &str {
        short(&self.full)
    }
}

/// What came of the removal of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is removed.
    Done,
    /// Somebody had removed it.
    Gone,
    /// It is another commit by now, and stays.
    Changed,
    /// The branch that had its commits is gone or another commit by now, and it stays.
    KeeperChanged,
}

impl TaskBranch {
    /// Whether the repository has its commit and, as far as was looked, all before it.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.committed_at.is_some() && !self.severed
    }

    /// What keeps it, whatever its commits are; none where nothing does.
    #[must_use]
    pub fn in_use(&self) -> Option<String> {
        match (&self.held, &self.alias) {
            (Some((Held::Gone, dir)), _) => Some(format!(
                "it {} in `{}`; {}",
                Held::Gone.words(),
                dir.display(),
                Held::Gone.way_out()
            )),
            (Some((held @ (Held::CheckedOut | Held::Rebased | Held::Bisected), dir)), _) => {
                Some(format!("it {} in `{}`", held.words(), dir.display()))
            }
            (None, Some(alias)) => Some(format!("`{alias}` is another name of it")),
            (None, None) => None,
        }
    }
}

/// A branch or a remote-tracking one.
struct Ref {
    commit: String,
    full: String,
    /// The ref that it is another name of; empty where it is none.
    symref: String,
}

/// All branches of the repository that have the name of a task's.
///
/// # Errors
/// When git fails, or what a work tree is at cannot be read.
pub fn task_branches(checkout: &Checkout) -> Result<Vec<TaskBranch>> {
    let git = checkout.git();
    let mut ours = own(&git)?;
    if ours.is_empty() {
        return Ok(ours);
    }
    let refs = refs(&git)?;
    let mut kept = keepers(&git, &refs)?;
    date(&git, &mut ours)?;
    let alone = match alone(&git, &ours, &kept) {
        Err(failed @ Error::Git { .. }) => {
            set_severed_apart(&git, &mut ours, &mut kept, failed)?;
            alone(&git, &ours, &kept)?
        }
        found => found?,
    };
    // None of them where HEAD is a branch without a commit yet.
    let head = head(&git)?.and_then(|full| kept.iter().find(|r| r.full == full));
    let in_head = match head {
        Some(head) => merged(&git, &head.commit)?,
        None => BTreeSet::new(),
    };
    let at_work = AtWork::read(checkout)?;
    for branch in &mut ours {
        let full = format!("{HEADS}{}", branch.name);
        // Git itself need not keep HEAD as a file.
        branch.held = at_work.on(&branch.name).or(branch.held.take());
        let alias = refs.iter().find(|r| r.symref == full);
        branch.alias = alias.map(|r| short(&r.full).to_owned());
        let within = match head {
            _ if !branch.is_whole() || alone.contains(&branch.commit) => None,
            Some(head) if in_head.contains(&full) => Some(*head),
            Some(_) | None => first_with(&git, &branch.commit, &kept)?,
        };
        branch.within = within.map(|r| Keeper {
            full: r.full.clone(),
            commit: r.commit.clone(),
        });
    }
    ours.sort_by(|a, b| (a.task, a.beside, &a.name).cmp(&(b.task, b.beside, &b.name)));
    Ok(ours)
}

/// Removes the branch if it is the same commit still, and so is the one that has its commits: somebody may
/// have gone on with either, or removed it.
///
/// # Errors
/// When a work tree is at work on it by now, or git fails.
pub fn remove_branch(checkout: &Checkout, branch: &TaskBranch) -> Result<Removal> {
    if task_of(&branch.name).is_none() {
        return Err(Error::BadBranch {
            branch: branch.name.clone(),
        });
    }
    refuse_in_use(checkout, &branch.name)?;
    let git = checkout.git();
    let full = format!("{HEADS}{}", branch.name);
    let verify = branch.within.as_ref();
    // A keeper that has become another name of the branch is refused, as nothing else is done to it.
    let verify = verify.map(|keeper| format!("verify {} {}\n", keeper.full, keeper.commit));
    // Whatever the name has become meanwhile, what that points to stays.
    let delete = format!("option no-deref\ndelete {full} {}\n", branch.commit);
    let both = verify.unwrap_or_default() + &delete;
    match git.output_of(&["update-ref", "--stdin"], Input::Bytes(both.as_bytes())) {
        Ok(_) => {
            forget_settings(&git, &branch.name);
            Ok(Removal::Done)
        }
        Err(error) => match tip(&git, &full)? {
            None => Ok(Removal::Gone),
            Some(tip) if tip != branch.commit => Ok(Removal::Changed),
            Some(_) if keeps_no_more(&git, branch)? => Ok(Removal::KeeperChanged),
            Some(_) => Err(error),
        },
    }
}

/// Removes what the repository's config says of the branch, as `git branch -D` does. That is not there as a
/// rule, and where it stays it harms nothing: the branch is gone either way.
fn forget_settings(git: &Git, branch: &str) {
    let section = format!("branch.{branch}");
    let args = ["config", "--local", "--remove-section", &section];
    let _ = git.ended(&args, Input::Nothing);
}

/// Whether the branch that had its commits is not what it was.
fn keeps_no_more(git: &Git, branch: &TaskBranch) -> Result<bool> {
    let Some(keeper) = &branch.within else {
        return Ok(false);
    };
    let refs = refs(git)?;
    let mut now = refs.iter().filter(|r| r.symref.is_empty());
    Ok(!now.any(|r| r.full == keeper.full && r.commit == keeper.commit))
}

/// The task and, of a branch beside its result, the attempt that the name of a branch says; none of any
/// other name.
fn task_of(branch: &str) -> Option<(TaskId, Option<u32>)> {
    check_branch(branch).ok()?;
    let name = branch.strip_prefix(PREFIX)?;
    let (id, rest) = match name.split_once('-') {
        Some((id, rest)) => (id, Some(rest)),
        None => (name, None),
    };
    let task: TaskId = id.parse().ok()?;
    if task.to_string() != id {
        return None;
    }
    let Some(rest) = rest else {
        return Some((task, None));
    };
    let (number, name) = rest.split_once('-')?;
    let attempt: u32 = number.parse().ok()?;
    (attempt.to_string() == number && !name.is_empty()).then_some((task, Some(attempt)))
}

/// As people call it: without `refs/heads/` or `refs/remotes/`.
fn short(full: &str) -> &str {
    let local = full.strip_prefix(HEADS);
    local.or(full.strip_prefix(REMOTES)).unwrap_or(full)
}

/// Whether it is one of ours, or a remote's copy of one.
pub(crate) fn is_ours(full: &str) -> bool {
    let Some(name) = full.strip_prefix(REMOTES) else {
        return task_of(short(full)).is_some();
    };
    // What a remote is called may have slashes, and what a task's branch is called has one.
    let at = name.rmatch_indices('/').nth(1);
    let name = at.map_or(name, |(at, _)| &name[at + 1..]);
    task_of(name).is_some()
}

/// Those with the name of a task's, of which nothing more is known yet than where git says that each is
/// checked out.
fn own(git: &Git) -> Result<Vec<TaskBranch>> {
    // Nothing of the commit itself: one that is missing would stop all.
    let format = "--format=%(objectname) %(refname) %(symref) %(worktreepath)";
    let found = git.output(&["for-each-ref", format, &format!("{HEADS}{PREFIX}")])?;
    let found = String::from_utf8_lossy(&found);
    let branch = |line: &str| {
        // One that is another name of something is not as Orchestra makes them.
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let [commit, full, "", dir] = words[..] else {
            return None;
        };
        let name = full.strip_prefix(HEADS)?;
        let (task, beside) = task_of(name)?;
        Some(TaskBranch {
            name: name.to_owned(),
            task,
            beside,
            commit: commit.to_owned(),
            committed_at: None,
            severed: false,
            within: None,
            held: (!dir.is_empty()).then(|| (Held::CheckedOut, PathBuf::from(dir))),
            alias: None,
        })
    };
    Ok(found.lines().filter_map(branch).collect())
}

/// Notes when their commits were made.
fn date(git: &Git, ours: &mut [TaskBranch]) -> Result<()> {
    let here = commits(git, ours.iter().map(|branch| &*branch.commit))?;
    if here.is_empty() {
        return Ok(());
    }
    let asked: String = here.iter().map(|commit| format!("{commit}\n")).collect();
    let args = ["rev-list", "--no-walk=unsorted", "--timestamp", "--stdin"];
    let found = git.output_of(&args, Input::Bytes(asked.as_bytes()))?;
    let found = String::from_utf8_lossy(&found);
    let dated = found.lines().filter_map(|line| {
        let [at, commit] = words(line)?;
        Some((commit, at.parse().ok()?))
    });
    let dated: BTreeMap<&str, u64> = dated.collect();
    for branch in ours {
        branch.committed_at = dated.get(&*branch.commit).copied();
    }
    Ok(())
}

/// Those that the repository has as commits.
pub(crate) fn commits<'a>(
    git: &Git,
    named: impl Iterator<Item = &'a str>,
) -> Result<BTreeSet<String>> {
    let asked: String = named.map(|commit| format!("{commit}\n")).collect();
    let args = ["cat-file", "--batch-check=%(objecttype) %(objectname)"];
    let found = git.output_of(&args, Input::Bytes(asked.as_bytes()))?;
    let found = String::from_utf8_lossy(&found);
    let found = found
        .lines()
        .filter_map(|line| line.strip_prefix("commit "));
    Ok(found.map(str::to_owned).collect())
}

pub(crate) fn words<const N: usize>(line: &str) -> Option<[&str; N]> {
    let words: Vec<&str> = line.split(' ').collect();
    words.try_into().ok()
}

fn refs(git: &Git) -> Result<Vec<Ref>> {
    let format = "--format=%(objectname) %(refname) %(symref)";
    let found = git.output(&["for-each-ref", format, HEADS, REMOTES])?;
    let found = String::from_utf8_lossy(&found);
    let one = |line: &str| {
        let [commit, full, symref] = words(line)?;
        Some(Ref {
            commit: commit.to_owned(),
            full: full.to_owned(),
            symref: symref.to_owned(),
        })
    };
    Ok(found.lines().filter_map(one).collect())
}

/// Those that can keep the commits of ours: none of ours, no other name of a branch, which keeps nothing by
/// itself, and none whose commit is not here.
fn keepers<'a>(git: &Git, refs: &'a [Ref]) -> Result<Vec<&'a Ref>> {
    let others = |r: &&Ref| r.symref.is_empty() && !is_ours(&r.full);
    let others: Vec<&Ref> = refs.iter().filter(others).collect();
    let commits = commits(git, others.iter().map(|r| &*r.commit))?;
    let is_here = |r: &&Ref| commits.contains(&*r.commit);
    Ok(others.into_iter().filter(is_here).collect())
}

/// The ref that HEAD stands for, whether it is there or not; none where it is detached. Its short name
/// would be another one where a tag has the same.
fn head(git: &Git) -> Result<Option<String>> {
    let said = git.ended(&["symbolic-ref", "--quiet", "HEAD"], Input::Nothing)?;
    let full = String::from_utf8_lossy(said.value.trim_ascii_end()).into_owned();
    Ok((said.code == 0 && !full.is_empty()).then_some(full))
}

/// Marks those of ours that lack a commit before them, and takes such others away: git says of one that it
/// has the commits of another where it cannot walk to the end of either. One of them made a walk fail.
fn set_severed_apart(
    git: &Git,
    ours: &mut [TaskBranch],
    kept: &mut Vec<&Ref>,
    failed: Error,
) -> Result<()> {
    let here = ours.iter().filter(|branch| branch.committed_at.is_some());
    let tips = here.map(|branch| &*branch.commit);
    let all: BTreeSet<&str> = tips.chain(kept.iter().map(|r| &*r.commit)).collect();
    let all: Vec<&str> = all.into_iter().collect();
    let severed = severed(git, &all)?;
    if severed.is_empty() {
        return Err(failed);
    }
    for branch in ours {
        branch.severed = severed.contains(&branch.commit);
    }
    kept.retain(|r| !severed.contains(&r.commit));
    Ok(())
}

/// The tips of ours that none of the others has.
fn alone(git: &Git, ours: &[TaskBranch], kept: &[&Ref]) -> Result<BTreeSet<String>> {
    let whole = ours.iter().filter(|branch| branch.is_whole());
    let tips: BTreeSet<&str> = whole.map(|branch| &*branch.commit).collect();
    if tips.is_empty() {
        return Ok(BTreeSet::new());
    }
    let asked = tips.iter().map(|commit| format!("{commit}\n"));
    let others = kept.iter().map(|r| format!("^{}\n", r.commit));
    let input: String = asked.chain(others).collect();
    let found = git.output_of(&["rev-list", "--stdin"], Input::Bytes(input.as_bytes()))?;
    let found = String::from_utf8_lossy(&found);
    let alone = found.lines().filter(|commit| tips.contains(commit));
    Ok(alone.map(str::to_owned).collect())
}

/// The refs of ours whose commits this one has.
fn merged(git: &Git, commit: &str) -> Result<BTreeSet<String>> {
    let merged = format!("--merged={commit}");
    let below = format!("{HEADS}{PREFIX}");
    let found = git.output(&["for-each-ref", "--format=%(refname)", &merged, &below])?;
    let found = String::from_utf8_lossy(&found);
    Ok(found.lines().map(str::to_owned).collect())
}

/// The first of the others that has this commit.
fn first_with<'a>(git: &Git, commit: &str, kept: &[&'a Ref]) -> Result<Option<&'a Ref>> {
    let contains = format!("--contains={commit}");
    let args = [
        "for-each-ref",
        "--format=%(refname)",
        &contains,
        HEADS,
        REMOTES,
    ];
    let found = git.output(&args)?;
    let found = String::from_utf8_lossy(&found);
    let kept = |full: &str| kept.iter().copied().find(|r| r.full == full);
    for other in found.lines().filter_map(kept) {
        if has(git, other, commit)? {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// Whether it has this commit, by a walk: `--contains` also names one that lacks a commit before it, since its
/// own walk fails there.
fn has(git: &Git, other: &Ref, commit: &str) -> Result<bool> {
    let but_those = format!("^{}", other.commit);
    let lacking = git.output(&["rev-list", "--max-count=1", commit, &but_those])?;
    Ok(lacking.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_of_ours_in_a_remote_is_ours_whatever_the_remote_is_called() {
        for ours in [
            "refs/heads/orchestra/task_007",
            "refs/remotes/origin/orchestra/task_007",
            "refs/remotes/origin/orchestra/task_007-2-fix-it",
            "refs/remotes/team/one/orchestra/task_007",
        ] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in [
            "refs/heads/main",
            "refs/heads/mine/orchestra/task_007",
            "refs/remotes/origin/main",
            "refs/remotes/origin/orchestra/mine",
            "refs/remotes/origin/task_007",
            "refs/remotes/main",
        ] {
            assert!(!is_ours(other), "{other}");
        }
    }

    #[test]
    fn only_names_that_orchestra_gives_are_ours() {
        let of = |name: &str| task_of(name).map(|(task, beside)| (task.0, beside));
        assert_eq!(of("orchestra/task_007"), Some((7, None)));
        assert_eq!(of("orchestra/task_1234"), Some((1234, None)));
        assert_eq!(of("orchestra/task_007-2-fix-it"), Some((7, Some(2))));
        for other in [
            "orchestra/task_7",
            "orchestra/7",
            "orchestra/task_007-mine",
            "orchestra/task_007-2",
            "orchestra/task_007-2-",
            "orchestra/task_007-02-x",
            "orchestra/task_007/x",
            "orchestra/task_000",
            "orchestra/mine",
            "task_007",
            "main",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
