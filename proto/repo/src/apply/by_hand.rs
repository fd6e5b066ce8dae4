//! Changes that a person brought in without an apply, as with `git apply`: nothing knows of them, and only the
//! files tell that they are there.

use std::collections::BTreeSet;

use super::{ApplyError, Attempted, By, Here, Work, check, paths};
use crate::{
    error::Result,
    manifest::{Raw, Renames, diff},
    names::shown,
};

impl Work<'_> {
    /// Whether each file of the change is as the change has it, whatever git makes of the others.
    pub(super) fn is_there(&self) -> Result<bool, ApplyError> {
        let own: BTreeSet<Vec<u8>> = paths(&self.whole).collect();
        let here = self.read(&own)?;
        let git = self.quarantine.git();
        let since = diff(git, self.change.commit, &here.tree, Renames::Ignore)?;
        let is_there = paths(&since).all(|path| !own.contains(&path));
        if is_there {
            self.note(&here)?;
        }
        Ok(is_there)
    }

    /// Puts files into the record that are as the change has them and not committed: whoever applies it says
    /// that they are its. So a later change can be merged with them.
    pub(super) fn note(&self, here: &Here) -> Result<()> {
        let mut new = self.unrecorded(here).peekable();
        match new.peek() {
            None => Ok(()),
            Some(_) => self.record.with(new, &By::of(self.change)).save(),
        }
    }

    /// The differences from HEAD that are as the change has them, and in no record.
    pub(super) fn unrecorded<'h>(&'h self, here: &'h Here) -> impl Iterator<Item = &'h Raw> {
        let known: BTreeSet<&Vec<u8>> = self.record.known(here.uncommitted.values()).collect();
        self.whole.iter().filter_map(move |file| {
            let left = here.uncommitted.get(&file.path)?;
            let is_it = (left.new_mode, &left.new_id) == (file.new_mode, &file.new_id);
            (is_it && !known.contains(&file.path)).then_some(left)
        })
    }

    /// Of the uncommitted files, those that are no edits of the user's. Attempts count that came by hand, if
    /// they are to: as long as a file is as one of them made it, it holds nothing else.
    pub(super) fn known(
        &self,
        here: &Here,
        bases: &[&str],
        by_hand: bool,
    ) -> Result<BTreeSet<Vec<u8>>> {
        let git = self.quarantine.git();
        let mut known = check::known(git, here, bases, &self.record)?;
        if by_hand && !here.uncommitted.is_empty() {
            for attempt in self.attempts.by_hand() {
                known.extend(attempt.files(git, &here.tree)?.there);
            }
        }
        Ok(known)
    }

    /// The latest attempt that came by hand and made what is at one of these paths.
    pub(super) fn at_hand(&self, here: &Here, paths: &BTreeSet<Vec<u8>>) -> Result<Option<String>> {
        for attempt in self.attempts.by_hand() {
            let files = attempt.files(self.quarantine.git(), &here.tree)?;
            if !files.there.is_disjoint(paths) {
                return Ok(Some(attempt.commit.to_owned()));
            }
        }
        Ok(None)
    }

    /// What of an attempt is not there.
    pub(super) fn attempted(&self, here: &Here, commit: String) -> Result<Box<Attempted>> {
        let differ = match self.attempts.find(&commit) {
            Some(attempt) => attempt.files(self.quarantine.git(), &here.tree)?.differ,
            None => BTreeSet::new(),
        };
        let differ = differ.iter().map(|path| shown(path)).collect();
        Ok(Box::new(Attempted { commit, differ }))
    }
}
