//! Whether an earlier attempt of the same task is in the work tree. The change then takes its place: both
//! began from the same snapshot, and what they have in common would conflict with itself.

use super::{Here, Work};
use crate::{
    checkout::Checkout,
    earlier::{self, Earlier, Read},
    error::Result,
    git::Git,
    merge::contains,
};

/// Earlier attempts that came into this work tree, the latest one first.
pub(super) struct Attempts<'a> {
    all: Vec<(&'a str, Earlier, Read)>,
}

impl<'a> Attempts<'a> {
    /// Those of `commits` that were applied here, or are in HEAD. What a person wrote by hand may look the
    /// same, and is the person's.
    pub fn read(
        checkout: &Checkout,
        git: &Git,
        start: &str,
        commits: impl DoubleEndedIterator<Item = &'a str>,
        was_applied: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let mut all = Vec::new();
        for commit in commits.rev() {
            let in_head = |head| contains(git, head, commit);
            if !was_applied(commit) && !checkout.head().map_or(Ok(false), in_head)? {
                continue;
            }
            let attempt = Earlier {
                start: start.to_owned(),
                base: start.to_owned(),
                commit: commit.to_owned(),
                applied: true,
            };
            let read = earlier::read_one(git, &attempt)?;
            if !read.files.is_empty() {
                all.push((commit, attempt, read));
            }
        }
        Ok(Self { all })
    }

    /// The files that they changed.
    pub fn paths(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.all
            .iter()
            .flat_map(|(_, _, read)| super::paths(&read.files))
    }
}

impl<'a> Work<'a> {
    /// The latest earlier attempt that is in the files as a whole. What was taken back of one, also by a commit
    /// that reverts it, is not there, whatever came to its place: as a base of the merge it would take that
    /// out of the change.
    pub(super) fn replaced(&self, here: &Here) -> Result<Option<&'a str>> {
        for (commit, attempt, read) in &self.attempts.all {
            if earlier::is_in_files(self.quarantine.git(), &here.tree, attempt, read)? {
                return Ok(Some(commit));
            }
        }
        Ok(None)
    }
}
