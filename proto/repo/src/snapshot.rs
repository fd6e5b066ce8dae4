//! What the user has in front of them, as a commit: HEAD when nothing is changed, else a commit
//! on top of it. The user's repository is only read.

use std::path::Path;

use crate::{
    absent, beneath,
    checkout::Checkout,
    error::{Error, IoContext, Result},
    git::{Git, Input, check_commit},
    hidden, ignore_rules, index,
    quarantine::{Quarantine, has_commit},
    stage::{Conflicts, Nested, Sizes, Stage, Warnings},
};

/// Date of a snapshot where there is no commit that it could take it from: 2000-01-01.
const NO_DATE: i64 = 946_684_800;
/// Whose commits ours are.
pub(crate) const EMAIL: &str = "orchestra@orchestra.invalid";
/// What a commit of ours says that holds what the user has not committed.
pub(crate) const UNCOMMITTED: &str = "Uncommitted work\n";
const SOURCE_REF: &str = "refs/orchestra/source";

/// A checkout as a commit. Its objects vanish with this value, so bundle it first.
#[derive(Debug)]
pub struct Snapshot {
    /// The commit to start from. The same files on the same HEAD give the same commit.
    pub commit: String,
    /// The user's commit below it; empty where there is none, or where it cannot be used.
    pub head: String,
    /// The branch that the checkout was on; empty when detached.
    pub branch: String,
    /// Whether there is more in the snapshot than in `head`.
    pub dirty: bool,
    /// What the user's git ignores beside the `.gitignore` files of the repository: lines of such a file.
    pub ignore_rules: String,
    /// What could not be taken, by name.
    pub warnings: Vec<String>,
    quarantine: Quarantine,
    /// Objects may be missing in the checkout.
    pub(crate) is_partial: bool,
}

/// What bundling did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bundled {
    /// There is a bundle.
    Written,
    /// The receiver has everything already; no file was written.
    Nothing,
}

impl Checkout {
    /// Takes a snapshot: HEAD, uncommitted changes and untracked files that are not ignored.
    ///
    /// # Errors
    /// When the work tree cannot be read, or git fails.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let quarantine = Quarantine::new(self.format(), &[self.objects()])?;
        let index = quarantine.path().join("snapshot-index");
        index::copy_of_checkout(self, &index)?;
        let git = self
            .git()
            .env("GIT_INDEX_FILE", &index)
            .env("GIT_OBJECT_DIRECTORY", quarantine.objects());
        hidden::show(&git, &beneath::root(self.top()).at("open", self.top())?)?;
        let mut warnings = Warnings::default();
        let skip = &self.excluded;
        Stage {
            git: &git,
            root: self.top(),
            skip,
            also: Vec::new(),
            nested: Nested::Skip,
            conflicts: Conflicts::Possible,
            sizes: Sizes::KEPT,
        }
        .run(&mut warnings)?;
        absent::warn(&git, &mut warnings)?;
        let ignore_rules = ignore_rules::of_user(self, &mut warnings)?;
        let tree = git.line(&["write-tree"])?;
        let head = self.usable_head(&mut warnings);
        let head_tree = head
            .map(|h| git.line(&["rev-parse", &format!("{h}^{{tree}}")]))
            .transpose()?;
        let (commit, dirty) = match head {
            Some(head) if head_tree.as_ref() == Some(&tree) => (head.to_owned(), false),
            Some(_) | None => (
                commit_tree(
                    quarantine.git(),
                    &tree,
                    head.as_slice(),
                    UNCOMMITTED.as_bytes(),
                )?,
                true,
            ),
        };
        quarantine
            .git()
            .output(&["update-ref", SOURCE_REF, &commit])?;
        Ok(Snapshot {
            commit,
            head: head.unwrap_or_default().to_owned(),
            branch: self.branch().unwrap_or_default().to_owned(),
            dirty,
            ignore_rules,
            warnings: warnings.into_list(),
            quarantine,
            is_partial: self.is_partial(),
        })
    }

    /// HEAD, unless its history is not here as a whole: a bundle cannot say so.
    fn usable_head(&self, warnings: &mut Warnings) -> Option<&str> {
        match self.lacks_history() {
            Some(kind) => {
                warnings.add(format!(
                    "the clone is {kind}: agents get its files without history"
                ));
                None
            }
            None => self.head(),
        }
    }
}

/// A commit of ours: the same tree on the same parents gives the same one. Its time is that of the
/// last parent.
pub(crate) fn commit_tree(
    git: &Git,
    tree: &str,
    parents: &[&str],
    message: &[u8],
) -> Result<String> {
    let date = match parents.last() {
        Some(parent) => commit_date(git, parent)?,
        None => NO_DATE,
    };
    let git = git.clone().identity("Orchestra", EMAIL, date);
    let mut args = vec!["commit-tree", tree];
    args.extend(parents.iter().flat_map(|p| ["-p", *p]));
    git.line_of(&args, Input::Bytes(message))
}

fn commit_date(git: &Git, commit: &str) -> Result<i64> {
    let text = git.line(&["show", "--no-patch", "--format=%ct", commit])?;
    text.trim().parse().map_err(|_| Error::Output {
        command: "show --format=%ct".to_owned(),
        what: text,
    })
}

impl Snapshot {
    /// Writes a bundle of the snapshot for somebody who has the commits `have` already; those
    /// that are unknown here are passed over.
    ///
    /// # Errors
    /// When the bundle cannot be written.
    pub fn bundle(&self, have: &[String], to: &Path) -> Result<Bundled> {
        self.bundle_without(have, &[], to)
    }

    /// The same without these files, which the receiver has too: of those that [`Self::would_send`] names.
    ///
    /// # Errors
    /// When the bundle cannot be written.
    pub fn bundle_without(&self, have: &[String], files: &[String], to: &Path) -> Result<Bundled> {
        match bundle(self.git(), &[SOURCE_REF], have, files, to) {
            Err(Error::Git { .. }) if self.is_partial => Err(Error::PartialClone),
            bundled => bundled,
        }
    }

    /// git that has its objects.
    pub(crate) fn git(&self) -> &Git {
        self.quarantine.git()
    }
}

/// Writes these refs as a bundle without what is reachable from `have`, and without these `files`.
pub(crate) fn bundle(
    git: &Git,
    names: &[&str],
    have: &[String],
    files: &[String],
    to: &Path,
) -> Result<Bundled> {
    let mut revisions = names.join("\n");
    revisions.push('\n');
    for commit in have {
        check_commit(commit)?;
        if has_commit(git, commit)? {
            revisions.push_str(&format!("^{commit}\n"));
        }
    }
    for file in files {
        check_commit(file)?;
        revisions.push_str(&format!("^{file}\n"));
    }
    bundle_of(git, &revisions, to)
}

/// Writes these revisions as a bundle.
pub(crate) fn bundle_of(git: &Git, revisions: &str, to: &Path) -> Result<Bundled> {
    let input = || Input::Bytes(revisions.as_bytes());
    let to = std::path::absolute(to).at("find", to)?;
    let args = [
        "bundle".as_ref(),
        "create".as_ref(),
        "--quiet".as_ref(),
        to.as_os_str(),
        "--stdin".as_ref(),
    ];
    let Err(error) = git.output_of(&args, input()) else {
        return Ok(Bundled::Written);
    };
    // Git refuses to write one without a commit.
    let first = git.output_of(&["rev-list", "--max-count=1", "--stdin"], input())?;
    match first.is_empty() {
        true => Ok(Bundled::Nothing),
        false => Err(error),
    }
}
