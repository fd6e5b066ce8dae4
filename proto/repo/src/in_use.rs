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
fn in_use(checkout: &Checkout, branch: &str) -> Result<Option<(Held, PathBuf)>> {
    match AtWork::read(checkout)?.on(branch) {
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

/// The one that git itself names: it need not keep HEAD as a file.
fn checked_out(checkout: &Checkout, branch: &str) -> Result<Option<(Held, PathBuf)>> {
    let full = format!("refs/heads/{branch}");
    let args = ["for-each-ref", "--format=%(worktreepath)", &full];
    let found = checkout.git().output(&args)?;
    let found = String::from_utf8_lossy(&found);
    let dir = found.lines().find(|line| !line.is_empty());
    Ok(dir.map(|dir| (Held::CheckedOut, PathBuf::from(dir))))
}

/// What the work trees of a repository are at.
pub(crate) struct AtWork {
    trees: Vec<(PathBuf, At)>,
}

impl AtWork {
    /// # Errors
    /// When what one is at cannot be read.
    pub fn read(checkout: &Checkout) -> Result<Self> {
        let trees = trees(checkout)?.into_iter();
        let read = |tree: Tree| Ok((tree.dir, At::read(&tree.git_dir)?));
        Ok(Self {
            trees: trees.map(read).collect::<Result<_>>()?,
        })
    }

    /// The first work tree that has the branch.
    pub fn on(&self, branch: &str) -> Option<(Held, PathBuf)> {
        self.trees.iter().find_map(|(dir, at)| {
            let held = at.held(branch)?;
            let held = if dir.exists() { held } else { Held::Gone };
            Some((held, dir.clone()))
        })
    }
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

/// What a work tree is at.
struct At {
    head: Option<String>,
    /// In full, alone or below another branch.
    rebased: Vec<String>,
    /// Where a bisection began: a branch, not in full, or a commit.
    bisected: Option<String>,
}

impl At {
    fn read(git_dir: &Path) -> Result<Self> {
        let mut rebased = Vec::new();
        // Those that are rebased along are one a line, between commits.
        for file in ["head-name", "update-refs"].map(|file| format!("rebase-merge/{file}")) {
            let text = text(git_dir, &file)?.unwrap_or_default();
            rebased.extend(text.lines().map(|line| line.trim().to_owned()));
        }
        let name = text(git_dir, "rebase-apply/head-name")?;
        rebased.extend(name.map(|name| name.trim().to_owned()));
        Ok(Self {
            head: text(git_dir, "HEAD")?,
            rebased,
            bisected: text(git_dir, "BISECT_START")?,
        })
    }

    fn held(&self, branch: &str) -> Option<Held> {
        let full = format!("refs/heads/{branch}");
        let is = |text: &Option<String>, what: &str| {
            let text = text.as_deref();
            text.is_some_and(|text| text.trim() == what)
        };
        if self.rebased.contains(&full) {
            Some(Held::Rebased)
        } else if is(&self.bisected, branch) {
            Some(Held::Bisected)
        } else if is(&self.head, &format!("ref: {full}")) {
            Some(Held::CheckedOut)
        } else {
            None
        }
    }
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
