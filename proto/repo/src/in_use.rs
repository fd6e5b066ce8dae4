//! Work trees of the user's that are at work on a branch: it is checked out there, or it will be moved when
//! what git is at there ends. A branch that changes meanwhile would lose what is done there, or be lost.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{
    checkout::Checkout,
    error::{Error, IoContext, Result},
};

/// How a work tree has a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// It is checked out.
    CheckedOut,
    /// It is being rebased, alone or below another branch.
    Rebased,
    /// A bisection began on it, and goes back to it.
    Bisected,
    /// The work tree is gone, and git keeps it in mind.
    Gone,
}

impl Held {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::CheckedOut => "is checked out",
            Self::Rebased => "is being rebased",
            Self::Bisected => "is being bisected",
            Self::Gone => "is checked out",
        }
    }

    pub(crate) fn way_out(self) -> &'static str {
        match self {
            Self::CheckedOut => "switch to another one there",
            Self::Rebased => {
                "end that there (`git rebase --continue`, or `git rebase --abort` to take it back), and \
                 switch to another one"
            }
            Self::Bisected => "end that there (`git bisect reset`), and switch to another one",
            Self::Gone => "that is no longer there: `git worktree prune` has git forget it",
        }
    }
}

/// The work tree that is at work on the branch.
pub(crate) fn in_use(checkout: &Checkout, branch: &str) -> Result<Option<(Held, PathBuf)>> {
    match holder(checkout, branch)? {
        None => checked_out(checkout, branch),
        held => Ok(held),
    }
}

/// Refuses where a work tree is at work on the branch.
pub(crate) fn refuse_in_use(checkout: &Checkout, branch: &str) -> Result<()> {
    match in_use(checkout, branch)? {
        None => Ok(()),
        Some((held, dir)) => Err(Error::BranchInUse {
            dir: dir.to_string_lossy().into_owned(),
            branch: branch.to_owned(),
            held,
        }),
    }
}

/// The first work tree that has it.
fn holder(checkout: &Checkout, branch: &str) -> Result<Option<(Held, PathBuf)>> {
    let full = format!("refs/heads/{branch}");
    for tree in trees(checkout)? {
        match held(&tree.git_dir, branch, &full)? {
            None => {}
            Some(_) if !tree.dir.exists() => return Ok(Some((Held::Gone, tree.dir))),
            Some(held) => return Ok(Some((held, tree.dir))),
        }
    }
    Ok(None)
}

/// The one that git itself names: it need not keep HEAD as a file.
fn checked_out(checkout: &Checkout, branch: &str) -> Result<Option<(Held, PathBuf)>> {
    let full = format!("refs/heads/{branch}");
    let args = ["for-each-ref", "--format=%(worktreepath)", &full];
    let found = checkout.git().output(&args)?;
    let found = String::from_utf8_lossy(&found);
    let dir = found.lines().find(|line| !line.is_empty());
    Ok(dir.map(|dir| (Held::CheckedOut, PathBuf::from(dir))))
}

/// A work tree, and what git keeps of it.
struct Tree {
    git_dir: PathBuf,
    dir: PathBuf,
}

/// All of the repository.
fn trees(checkout: &Checkout) -> Result<Vec<Tree>> {
    let common = checkout.common_dir();
    let own = checkout.git_dir();
    let main = match (own == common, common.file_name()) {
        (true, _) => checkout.top(),
        (false, Some(name)) if name == ".git" => common.parent().unwrap_or(common),
        (false, _) => common,
    };
    let mut trees = vec![Tree {
        git_dir: common.to_owned(),
        dir: main.to_owned(),
    }];
    let entries = fs::read_dir(common.join("worktrees"));
    for entry in entries.into_iter().flatten().flatten() {
        let git_dir = entry.path();
        // The path of its `.git`.
        let Some(link) = text(&git_dir, "gitdir")? else {
            continue;
        };
        let link = git_dir.join(link.trim_end());
        let dir = link.parent().unwrap_or(&link).to_owned();
        trees.push(Tree { git_dir, dir });
    }
    Ok(trees)
}

fn held(git_dir: &Path, branch: &str, full: &str) -> Result<Option<Held>> {
    let is = |file: &str, what: &str| {
        let text = text(git_dir, file)?;
        Ok::<_, Error>(text.is_some_and(|text| text.trim() == what))
    };
    let along = text(git_dir, "rebase-merge/update-refs")?;
    let is_along = along.is_some_and(|refs| refs.lines().any(|line| line == full));
    let is_rebased = is("rebase-merge/head-name", full)? || is("rebase-apply/head-name", full)?;
    Ok(if is_rebased || is_along {
        Some(Held::Rebased)
    } else if is("BISECT_START", branch)? {
        Some(Held::Bisected)
    } else if is("HEAD", &format!("ref: {full}"))? {
        Some(Held::CheckedOut)
    } else {
        None
    })
}

/// None where it is not there. What cannot be read is refused: the branch may be at work there.
fn text(git_dir: &Path, file: &str) -> Result<Option<String>> {
    let path = git_dir.join(file);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).at("read", &path),
    }
}
