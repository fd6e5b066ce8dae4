//! What is said where a change and what is there do not go together.

use std::collections::{BTreeMap, BTreeSet};

use super::{ApplyError, Work, check, here::Here, record::By};
use crate::{
    error::Error,
    manifest::{Renames, diff},
    merge::{Merge, merge},
    names::shown,
    quarantine::has_commit,
};

impl Work<'_> {
    /// What the two sides disagree about. Where it is edits that are not committed, it is those that
    /// stand in the way; what was applied before is none.
    pub(super) fn conflict(
        &self,
        here: &Here,
        bases: &[&str],
        paths: &BTreeSet<Vec<u8>>,
    ) -> Result<ApplyError, Error> {
        if let Err(unmerged) = check::refuse_unmerged(here, paths.iter()) {
            return Ok(unmerged);
        }
        let mut edited = check::uncommitted(self.checkout)?;
        edited.extend(here.uncommitted.keys().cloned());
        let known = self.known(here, bases, true)?;
        let named = |path: &Vec<u8>| shown(path);
        let not_committed = paths & &edited;
        let not_known = not_committed.difference(&known);
        let in_the_way: Vec<String> = not_known
            .filter(|path| !is_let_go(here, path))
            .map(named)
            .collect();
        if !in_the_way.is_empty() {
            return Ok(ApplyError::InTheWay { paths: in_the_way });
        }
        let makers = self.makers(here, bases, paths)?;
        let (own, others): (Vec<&By>, Vec<&By>) =
            makers.into_iter().partition(|by| self.is_of_task(by));
        let has_own = self.checkout.has_own_repository();
        let by_hand = self.at_hand(here, paths)?;
        let attempt = self.latest(&own).or(by_hand);
        let attempt = attempt.map(|commit| self.attempted(here, commit));
        Ok(ApplyError::Conflict {
            paths: paths.iter().map(named).collect(),
            branch: has_own.then(|| self.change.branch.to_owned()),
            makers: self.tasks(&others),
            attempt: attempt.transpose()?,
            uncommitted: edited.iter().any(|path| place(paths, path).is_some()),
        })
    }

    /// The commit of the latest of these attempts: those before it are no longer there.
    fn latest(&self, own: &[&By]) -> Option<String> {
        let is_own = |commit: &&String| own.iter().any(|by| by.commit == **commit);
        self.change.attempts.iter().rfind(is_own).cloned()
    }

    /// The names of the tasks that these are. One of the change's own name that is not of its task is of
    /// another cluster, which works on the same repository.
    fn tasks(&self, makers: &[&By]) -> Vec<String> {
        let task = |by: &&By| {
            let task = by.branch.rsplit('/').next().unwrap_or_default();
            match by.branch == self.change.branch {
                true => format!("another cluster's {task}"),
                false => task.to_owned(),
            }
        };
        let mut tasks: Vec<String> = makers.iter().map(task).collect();
        tasks.sort_unstable();
        tasks.dedup();
        tasks
    }

    fn is_of_task(&self, by: &By) -> bool {
        self.change.attempts.contains(&by.commit)
    }

    /// Those whose changes, applied before, are what is at these paths now, and conflict with this one; none
    /// that the change is built on, or takes the place of.
    fn makers(
        &self,
        here: &Here,
        bases: &[&str],
        paths: &BTreeSet<Vec<u8>>,
    ) -> Result<Vec<&By>, Error> {
        let since = diff(
            self.quarantine.git(),
            self.change.start,
            &here.tree,
            Renames::Ignore,
        )?;
        let mut places: BTreeMap<&str, (&By, BTreeSet<&[u8]>)> = BTreeMap::new();
        let contested = since
            .iter()
            .filter_map(|file| Some((file, place(paths, &file.path)?)));
        for (file, at) in contested {
            for by in self.record.makers(file) {
                let place = places.entry(&by.commit);
                place.or_insert((by, BTreeSet::new())).1.insert(at);
            }
        }
        let mut makers = Vec::new();
        for (by, places) in places.into_values() {
            if !bases.contains(&&*by.commit) && self.collides(by, &places)? {
                makers.push(by);
            }
        }
        Ok(makers)
    }

    /// Whether the two changes alone conflict at one of these paths.
    fn collides(&self, by: &By, places: &BTreeSet<&[u8]>) -> Result<bool, Error> {
        let git = self.quarantine.git();
        if !has_commit(git, &by.commit)? {
            // An attempt changes what another one of the same task changed, wherever its commit is.
            return Ok(self.is_of_task(by));
        }
        // One of another history cannot be merged.
        Ok(match merge(git, &by.commit, self.change.commit) {
            Ok(Merge::Conflict(paths)) => paths.iter().any(|path| places.contains(&**path)),
            Ok(Merge::Tree(_)) | Err(_) => false,
        })
    }
}

/// Whether only the index has let a file go, as after `git rm --cached`: HEAD has what is there.
fn is_let_go(here: &Here, path: &Vec<u8>) -> bool {
    let is_there = here.stamps.contains_key(path);
    is_there && !here.uncommitted.contains_key(path) && !here.index.contains_key(path)
}

/// Of these paths the one that is `path`, or a directory that it lies in.
fn place<'a>(paths: &'a BTreeSet<Vec<u8>>, path: &[u8]) -> Option<&'a [u8]> {
    let above = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let mut all = above
        .map(|(end, _)| &path[..end])
        .chain(std::iter::once(path));
    all.find_map(|path| paths.get(path)).map(Vec::as_slice)
}
