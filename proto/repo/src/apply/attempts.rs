//! Whether an earlier attempt of the same task is in the work tree. The change then takes its place: both
//! began from the same snapshot, and what they have in common would conflict with itself.

use std::collections::BTreeSet;

use super::{Here, Work};
use crate::{
    checkout::Checkout,
    earlier::{self, Earlier, Read},
    error::Result,
    git::Git,
    manifest::{Renames, diff},
    merge::contains,
};

/// Earlier attempts whose commits are here, the latest one first.
pub(super) struct Attempts<'a> {
    all: Vec<Attempt<'a>>,
}

/// One of them.
pub(super) struct Attempt<'a> {
    pub commit: &'a str,
    change: Earlier,
    read: Read,
    came: Came,
}

/// How an attempt may have come into the work tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// It was applied here, or is in HEAD.
    Known,
    /// Nobody knows of it: a person may have brought it in with `git apply`, or has written the same.
    ByHand,
}

impl<'a> Attempts<'a> {
    /// Those of `commits`; `was_applied` says which of them were applied here.
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
            let is_known = was_applied(commit) || checkout.head().map_or(Ok(false), in_head)?;
            let change = Earlier {
                start: start.to_owned(),
                base: start.to_owned(),
                commit: commit.to_owned(),
                applied: true,
            };
            let read = earlier::read_one(git, &change)?;
            if !read.files.is_empty() {
                all.push(Attempt {
                    commit,
                    change,
                    read,
                    came: if is_known { Came::Known } else { Came::ByHand },
                });
            }
        }
        Ok(Self { all })
    }

    /// Whether there are some that nobody knows to be in the work tree.
    pub fn are_by_hand(&self) -> bool {
        self.by_hand().next().is_some()
    }

    /// Those, the latest one first.
    pub fn by_hand(&self) -> impl Iterator<Item = &Attempt<'a>> {
        self.all
            .iter()
            .filter(|attempt| attempt.came == Came::ByHand)
    }

    /// Whether nobody knows that this one is in the work tree.
    pub fn is_by_hand(&self, commit: &str) -> bool {
        self.by_hand().any(|attempt| attempt.commit == commit)
    }

    /// The one that is this commit.
    pub fn find(&self, commit: &str) -> Option<&Attempt<'a>> {
        self.all.iter().find(|attempt| attempt.commit == commit)
    }

    /// Those that count: what a person wrote by hand may look the same, and is the person's as long as the
    /// change fits beside it.
    fn counted(&self, by_hand: bool) -> impl Iterator<Item = &Attempt<'a>> {
        let counts = move |came| came == Came::Known || by_hand;
        self.all.iter().filter(move |attempt| counts(attempt.came))
    }

    /// The files that those that count changed.
    pub fn paths(&self, by_hand: bool) -> impl Iterator<Item = Vec<u8>> + '_ {
        self.counted(by_hand)
            .flat_map(|attempt| super::paths(&attempt.read.files))
    }
}

impl Attempt<'_> {
    /// Its files that are, or are not, in the tree `here` as it made them.
    pub fn files(&self, git: &Git, here: &str) -> Result<Files> {
        let since = diff(git, self.commit, here, Renames::Ignore)?;
        let other: BTreeSet<Vec<u8>> = super::paths(&since).collect();
        let all: BTreeSet<Vec<u8>> = super::paths(&self.read.files).collect();
        Ok(Files {
            there: &all - &other,
            differ: &all & &other,
        })
    }
}

/// The files that an attempt changed.
pub(super) struct Files {
    /// Those that are as it made them.
    pub there: BTreeSet<Vec<u8>>,
    /// The others.
    pub differ: BTreeSet<Vec<u8>>,
}

impl<'a> Work<'a> {
    /// The latest earlier attempt that is in the files as a whole. What was taken back of one, also by a commit
    /// that reverts it, is not there, whatever came to its place: as a base of the merge it would take that
    /// out of the change.
    pub(super) fn replaced(&self, here: &Here, by_hand: bool) -> Result<Option<&'a str>> {
        for attempt in self.attempts.counted(by_hand) {
            let (git, change) = (self.quarantine.git(), &attempt.change);
            if earlier::is_in_files(git, &here.tree, change, &attempt.read)? {
                return Ok(Some(attempt.commit));
            }
        }
        Ok(None)
    }
}
