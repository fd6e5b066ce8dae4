//! What an attempt starts from: the snapshot of its task, with the changes of the tasks before it.

use crate::{
    cache::Cache,
    error::{Error, Result},
    git::{Git, check_commit},
    import::check_branch,
    merge::{Merge, contains, merge},
    names::shown,
    snapshot::commit_tree,
};

/// What a task that comes before has left, as commits of a cache.
#[derive(Clone, Copy, Debug)]
pub struct Predecessor<'a> {
    /// The branch of its result.
    pub branch: &'a str,
    /// The snapshot that it started from.
    pub start: &'a str,
    /// Its result, which comes after `start`.
    pub commit: &'a str,
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
    /// The snapshot with the changes of `predecessors`, merged one after the other. A change that does
    /// not go together with what is there is left out as a whole. The same input gives the same commit.
    ///
    /// # Errors
    /// When a commit is not in the cache, or git fails.
    pub fn build_on(&self, snapshot: &str, predecessors: &[Predecessor<'_>]) -> Result<Base> {
        let git = self.git();
        for predecessor in predecessors {
            check_branch(predecessor.branch)?;
            self.require(predecessor.start)?;
            self.require(predecessor.commit)?;
        }
        self.require(snapshot)?;
        let mut tip = joined(git, snapshot, predecessors)?;
        let mut conflicts = Vec::new();
        for predecessor in predecessors {
            let added = add(git, &tip, predecessor)?;
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

/// The files of the snapshot, as a commit after every snapshot that a predecessor started from: what
/// the user changed between two submissions is no change of a task, and stands.
fn joined(git: &Git, snapshot: &str, predecessors: &[Predecessor<'_>]) -> Result<String> {
    let mut parents = vec![snapshot];
    for predecessor in predecessors {
        let is_new = !parents.contains(&predecessor.start);
        if is_new && !contains(git, snapshot, predecessor.start)? {
            parents.push(predecessor.start);
        }
    }
    if parents.len() == 1 {
        return Ok(snapshot.to_owned());
    }
    let tree = format!("{snapshot}^{{tree}}");
    let tree = git.line(&["rev-parse", &tree])?;
    commit_tree(git, &tree, &parents, b"Uncommitted work\n")
}

/// `tip` with one change more, or the paths that stand in its way.
fn add(
    git: &Git,
    tip: &str,
    predecessor: &Predecessor<'_>,
) -> Result<std::result::Result<String, Vec<String>>> {
    let Predecessor { branch, commit, .. } = *predecessor;
    if contains(git, tip, commit)? {
        return Ok(Ok(tip.to_owned()));
    }
    if contains(git, commit, tip)? {
        return Ok(Ok(commit.to_owned()));
    }
    match merge(git, tip, commit)? {
        Merge::Tree(tree) => {
            let message = format!("Merge {branch}\n");
            commit_tree(git, &tree, &[tip, commit], message.as_bytes()).map(Ok)
        }
        Merge::Conflict(paths) => Ok(Err(paths.iter().map(|path| shown(path)).collect())),
    }
}
