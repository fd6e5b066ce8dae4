//! What an attempt starts from: the snapshot of its task, with the changes of the tasks before it.

use crate::{
    cache::Cache,
    common::merge_from_common,
    earlier::{self, Earlier},
    error::{Error, Result},
    git::{Git, check_commit},
    import::check_branch,
    merge::{Merge, contains, merge},
    names::shown,
    snapshot::{UNCOMMITTED, commit_tree},
};

/// What a task that comes before has left, as commits of a cache.
#[derive(Clone, Copy, Debug)]
pub struct Predecessor<'a> {
    /// The branch of its result.
    pub branch: &'a str,
    /// Its result.
    pub change: &'a Earlier,
}

/// What an attempt starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The commit: the snapshot itself where there is nothing to build on.
    pub commit: String,
    /// For each predecessor, in their order, the paths that stand in the way of its change; none where
    /// it is in.
    pub conflicts: Vec<Option<Vec<String>>>,
}

impl Cache {
    /// The snapshot with the changes of `predecessors`, merged one after the other; `below` are changes
    /// that those build on. What was applied before the snapshot was taken is in it already. A change that
    /// does not go together with what is there is left out as a whole. The same input gives the same commit.
    ///
    /// # Errors
    /// When a commit is not in the cache, or git fails.
    pub fn build_on(
        &self,
        snapshot: &str,
        predecessors: &[Predecessor<'_>],
        below: &[Earlier],
    ) -> Result<Base> {
        let git = self.git();
        for predecessor in predecessors {
            check_branch(predecessor.branch)?;
            self.require(&predecessor.change.start)?;
            self.require(&predecessor.change.commit)?;
        }
        self.require(snapshot)?;
        let mut tip = joined(git, snapshot, predecessors, below)?;
        let mut conflicts = Vec::new();
        for predecessor in predecessors {
            let added = add(git, &tip, predecessor, below)?;
            conflicts.push(match added {
                Ok(next) => {
                    tip = next;
                    None
                }
                Err(paths) => Some(paths),
            });
        }
        // Where nothing came in, the joint alone is of no use.
        let is_in = conflicts.iter().any(Option::is_none);
        let commit = if is_in { tip } else { snapshot.to_owned() };
        let _lock = self.lock()?;
        git.output(&["update-ref", &format!("refs/cache/{commit}"), &commit])?;
        Ok(Base { commit, conflicts })
    }

    fn require(&self, commit: &str) -> Result<()> {
        check_commit(commit)?;
        match self.has(commit)? {
            true => Ok(()),
            false => Err(Error::MissingCommit {
                commit: commit.to_owned(),
                path: self.path().to_owned(),
            }),
        }
    }
}

/// The files of the snapshot, as a commit after every snapshot that a predecessor started from and every
/// change that is in it: what the user changed between two submissions is no change of a task, and
/// stands.
fn joined(
    git: &Git,
    snapshot: &str,
    predecessors: &[Predecessor<'_>],
    below: &[Earlier],
) -> Result<String> {
    let tree = git.line(&["rev-parse", &format!("{snapshot}^{{tree}}")])?;
    let mut parents = vec![snapshot];
    // What started from the same snapshot is not in it. Whether another one that was applied was so
    // before the snapshot, only the files say.
    let others: Vec<Earlier> = predecessors
        .iter()
        .map(|predecessor| predecessor.change)
        .chain(below)
        .filter(|earlier| earlier.start != snapshot)
        .map(Earlier::not_known_to_be_applied)
        .collect();
    let read = earlier::read(git, &others)?;
    let is_in = earlier::are_in(git, Some(snapshot), &tree, &others, &read)?;
    let applied = others.iter().zip(is_in).filter(|(_, is)| *is);
    let applied = applied.map(|(earlier, _)| earlier.commit.as_str());
    let starts = predecessors.iter().map(|p| p.change.start.as_str());
    for commit in starts.chain(applied) {
        if !parents.contains(&commit) && !contains(git, snapshot, commit)? {
            parents.push(commit);
        }
    }
    if parents.len() == 1 {
        return Ok(snapshot.to_owned());
    }
    commit_tree(git, &tree, &parents, UNCOMMITTED.as_bytes())
}

/// `tip` with one change more, or the paths that stand in its way.
fn add(
    git: &Git,
    tip: &str,
    predecessor: &Predecessor<'_>,
    below: &[Earlier],
) -> Result<std::result::Result<String, Vec<String>>> {
    let (branch, commit) = (predecessor.branch, predecessor.change.commit.as_str());
    if contains(git, tip, commit)? {
        return Ok(Ok(tip.to_owned()));
    }
    if contains(git, commit, tip)? {
        return Ok(Ok(commit.to_owned()));
    }
    let tree = match merge(git, tip, commit)? {
        Merge::Tree(tree) => tree,
        Merge::Conflict(paths) => match merge_from_common(git, tip, predecessor.change, below)? {
            Some(tree) => tree,
            None => return Ok(Err(paths.iter().map(|path| shown(path)).collect())),
        },
    };
    let message = format!("Merge {branch}\n");
    commit_tree(git, &tree, &[tip, commit], message.as_bytes()).map(Ok)
}
