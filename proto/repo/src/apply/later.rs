//! Whether a change is in the work tree as a part of a later one, which may have undone some of it.

use super::{ApplyError, Work, paths};
use crate::{
    earlier::{self, Earlier},
    error::Result,
    git::records,
    merge::contains,
    quarantine::has_commit,
};

/// Below it, the branches that `ctl apply` makes.
const BRANCHES: &str = "refs/heads/orchestra/";
/// Most later changes that are looked at: the newest ones.
const LATER_MAX: usize = 16;

impl Work<'_> {
    /// The branch of a later change that holds this one and is in the work tree: merged, or applied as
    /// this one then was, too. Without a branch nobody knows of a later change.
    pub(super) fn within(&self) -> Result<Option<String>, ApplyError> {
        for (commit, branch) in self.later()? {
            let is_merged = match self.checkout.head() {
                Some(head) => contains(self.quarantine.git(), head, &commit)?,
                None => false,
            };
            if is_merged || self.change.applied && self.has(commit)? {
                return Ok(Some(branch));
            }
        }
        Ok(None)
    }

    /// Whether a person has merged the change into what is checked out, and has settled what conflicted.
    pub(super) fn is_merged(&self) -> Result<bool> {
        match self.checkout.head() {
            Some(head) => contains(self.quarantine.git(), head, self.change.commit),
            None => Ok(false),
        }
    }

    /// Whether a later change is in the files.
    fn has(&self, commit: String) -> Result<bool> {
        let (git, start) = (self.quarantine.git(), self.change.start);
        let later = [Earlier {
            start: start.to_owned(),
            base: start.to_owned(),
            commit,
            applied: true,
        }];
        let read = earlier::read(git, &later)?;
        let touched = read.iter().flat_map(|read| paths(&read.files)).collect();
        let here = self.read(&touched)?;
        let head = self.checkout.head();
        Ok(earlier::are_in(git, head, &here.tree, &later, &read)? == [true])
    }

    /// Later changes in the user's repository: commits, and the names of their branches.
    fn later(&self) -> Result<Vec<(String, String)>> {
        let (git, commit) = (self.checkout.git(), self.change.commit);
        if !has_commit(&git, commit)? {
            return Ok(Vec::new());
        }
        let contains = format!("--contains={commit}");
        let count = format!("--count={LATER_MAX}");
        let format = "--format=%(objectname) %(refname:lstrip=2)%00";
        let args = ["for-each-ref", &contains, &count, "--sort=-refname", format];
        let output = git.output(&[&args[..], &[BRANCHES]].concat())?;
        let parse = |record: &[u8]| {
            let text = std::str::from_utf8(record).ok()?;
            let (later, branch) = text.trim_ascii_start().split_once(' ')?;
            (later != commit).then(|| (later.to_owned(), branch.to_owned()))
        };
        Ok(records(&output).filter_map(parse).collect())
    }
}
