//! Puts a change into the user's work tree: all of it or nothing, and never over anything that
//! is not committed.

mod check;
mod write;

use std::{collections::BTreeSet, path::Path};

use crate::{
    checkout::Checkout,
    error::Error,
    git::{Input, check_commit, records},
    import::check_branch,
    lock,
    manifest::{Raw, Renames, diff},
    names::shown,
    quarantine::{Quarantine, has_commit},
};

const CHANGE_REF: &str = "refs/orchestra/change";
/// How many paths an error names.
const NAMED_MAX: usize = 10;

/// A change that an attempt made.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// The bundle that holds it.
    pub bundle: &'a Path,
    /// The branch inside of the bundle.
    pub branch: &'a str,
    /// The commit that the branch must be.
    pub commit: &'a str,
    /// The commit that the attempt started from.
    pub base: &'a str,
}

/// What was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// How many files now are as the change has them.
    pub files: u64,
}

/// Why a change was not applied. The work tree is as it was.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// What happened in the repository since contradicts the change.
    #[error("the change conflicts with later {} in {}", later(branch), list(paths))]
    Conflict {
        /// The files.
        paths: Vec<String>,
        /// The branch that has the change; none where the directory is in no repository.
        branch: Option<String>,
    },
    /// Files have edits that are not committed, or untracked files are in the way.
    #[error(
        "uncommitted edits or untracked files are in the way in {}; commit them, then apply again",
        list(paths)
    )]
    InTheWay {
        /// The files.
        paths: Vec<String>,
    },
    /// The change would write where no change may write.
    #[error("the change is refused because of `{path}`: {why}")]
    Unsafe {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
    /// Git or the disk failed.
    #[error(transparent)]
    Repo(#[from] Error),
}

fn later(branch: &Option<String>) -> &'static str {
    match branch {
        Some(_) => "commits",
        None => "edits",
    }
}

fn list(paths: &[String]) -> String {
    let named = paths.iter().take(NAMED_MAX).map(|p| format!("`{p}`"));
    let mut text = named.collect::<Vec<_>>().join(", ");
    if paths.len() > NAMED_MAX {
        text.push_str(&format!(" and {} more", paths.len() - NAMED_MAX));
    }
    text
}

/// Puts the change into the user's work tree. The index, HEAD and all branches stay as they are.
/// Where HEAD has moved on since the attempt started, the two are merged. Applying again what is
/// there already is no error.
///
/// # Errors
/// See [`ApplyError`]; nothing was touched then.
pub fn apply(checkout: &Checkout, change: &Change<'_>) -> Result<Applied, ApplyError> {
    // One at a time: another change must not be written between the check and the moves.
    let _lock = lock::exclusive(&checkout.git_dir().join("orchestra-apply.lock"))?;
    let quarantine = receive(checkout, change)?;
    let old = head_tree(checkout, &quarantine)?;
    let new = target_tree(checkout, &quarantine, change, &old)?;
    let files = diff(quarantine.git(), &old, &new, Renames::Ignore)?;
    check::refuse_unsafe(&quarantine, &files)?;
    let todo = check::require_clean(checkout, &quarantine, &files)?;
    write::write(checkout, &quarantine, &new, &todo)?;
    Ok(Applied {
        files: files.len() as u64,
    })
}

/// Takes the change into a repository that vanishes, its objects checked.
fn receive(checkout: &Checkout, change: &Change<'_>) -> Result<Quarantine, ApplyError> {
    check_branch(change.branch)?;
    check_commit(change.commit)?;
    check_commit(change.base)?;
    let quarantine = Quarantine::new(checkout.format(), &[checkout.objects()])?;
    quarantine.take(
        change.bundle,
        &format!("refs/heads/{}", change.branch),
        CHANGE_REF,
    )?;
    let missing = |commit: &str| Error::MissingCommit {
        commit: commit.to_owned(),
        path: change.bundle.to_owned(),
    };
    if quarantine.git().line(&["rev-parse", CHANGE_REF])? != change.commit {
        return Err(missing(change.commit).into());
    }
    if !has_commit(quarantine.git(), change.base)? {
        return Err(missing(change.base).into());
    }
    Ok(quarantine)
}

fn head_tree(checkout: &Checkout, quarantine: &Quarantine) -> Result<String, Error> {
    match checkout.head() {
        Some(head) => quarantine
            .git()
            .line(&["rev-parse", &format!("{head}^{{tree}}")]),
        None => quarantine.git().line_of(&["mktree"], Input::Bytes(b"")),
    }
}

/// The tree that the work tree shall have: the change's own, or merged with what came since.
fn target_tree(
    checkout: &Checkout,
    quarantine: &Quarantine,
    change: &Change<'_>,
    head_tree: &str,
) -> Result<String, ApplyError> {
    let git = quarantine.git();
    let tree = |commit: &str| git.line(&["rev-parse", &format!("{commit}^{{tree}}")]);
    if tree(change.base)? == head_tree {
        return Ok(tree(change.commit)?);
    }
    // HEAD's files on top of the base, so that the base is what both sides started from.
    let ours = git
        .clone()
        .identity("Orchestra", "orchestra@orchestra.invalid", 0)
        .line_of(
            &["commit-tree", head_tree, "-p", change.base],
            Input::Bytes(b"HEAD\n"),
        )?;
    let args = [
        "merge-tree",
        "--write-tree",
        "-z",
        "--name-only",
        "--no-messages",
        &ours,
        change.commit,
    ];
    let ended = git.ended(&args, Input::Nothing)?;
    let mut fields = records(&ended.value);
    let merged = fields.next().map(shown);
    match (ended.code, merged) {
        (0, Some(tree)) => Ok(tree),
        (1, Some(_)) => Err(conflict(checkout, fields.collect(), change.branch)?),
        (code, _) => Err(Error::Git {
            command: "merge-tree".to_owned(),
            status: format!("exit code {code}"),
            stderr: ended.stderr,
        }
        .into()),
    }
}

/// What the two sides disagree about. The attempt may have started from edits that are not
/// committed: then it is those that stand in the way, and no commit came later.
fn conflict(
    checkout: &Checkout,
    paths: BTreeSet<&[u8]>,
    branch: &str,
) -> Result<ApplyError, Error> {
    let named = |paths: &mut dyn Iterator<Item = &[u8]>| paths.map(shown).collect::<Vec<_>>();
    let edited = check::uncommitted(checkout)?;
    let in_the_way = named(&mut paths.iter().copied().filter(|p| edited.contains(*p)));
    Ok(if in_the_way.is_empty() {
        ApplyError::Conflict {
            paths: named(&mut paths.into_iter()),
            branch: checkout.has_own_repository().then(|| branch.to_owned()),
        }
    } else {
        ApplyError::InTheWay { paths: in_the_way }
    })
}

/// One file to write or delete.
#[derive(Clone, Debug)]
struct Todo {
    file: Raw,
    /// What was there when it was checked; none when nothing was.
    was: Option<Stamp>,
}

/// What tells whether somebody wrote to a file since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: i64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(stat: &rustix::fs::Stat) -> Self {
        Self {
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (
                stat.st_mtime,
                i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            ),
        }
    }
}
