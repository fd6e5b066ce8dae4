//! The changes of the tasks that one comes after: in the files from the beginning, or at hand.

use orchestra_config::durable;
use orchestra_repo::{Base, Cache, listed, task_branch};
use orchestra_types::{BuiltOn, Digest, Failure, TaskId};
use serde::{Deserialize, Serialize};

use super::{
    files::Files,
    order::Predecessor,
    prepare::{Unmade, fetch_one, not_written},
    run::Shared,
};
use crate::{blobs::Held, blocking::blocking, prompt::Document};

/// The document that tells the agent of it.
const DOCUMENT: &str = "earlier_changes.md";

/// What became of the changes before an attempt. Kept beside its record: the outcome and the agent are
/// told of it later.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Earlier {
    /// The snapshot with the changes; empty where there is none.
    base: String,
    /// The tasks whose changes are in the files.
    tasks: Vec<TaskId>,
    /// Those whose changes conflict, and the paths.
    left_out: Vec<(TaskId, Vec<String>)>,
    /// Those that did not succeed and left something all the same.
    unfinished: Vec<TaskId>,
}

/// Predecessors, and the bundles of each that the cache needs.
pub(super) type Fetched = Vec<(Predecessor, Vec<Held>)>;

/// Brings what the predecessors have left, as far as the cache of the project does not have it. Waits for a head that is away. One that did not succeed and cannot be fetched is passed over:
/// nothing is built on it.
pub(super) async fn fetch(
    shared: &Shared,
    cache: Cache,
    predecessors: Vec<Predecessor>,
) -> Result<Fetched, Unmade> {
    let mut fetched = Vec::new();
    for (predecessor, digests) in blocking(move || needed(&cache, predecessors)).await? {
        match fetch_all(shared, &digests).await {
            Ok(paths) => fetched.push((predecessor, paths)),
            Err(failure) if predecessor.succeeded => return Err(failure.into()),
            Err(failure) => {
                let task = predecessor.task;
                tracing::warn!(%task, %failure, "what a task has left cannot be fetched");
            }
        }
    }
    Ok(fetched)
}

/// The bundles that the cache needs of each: all, the last one, or none.
fn needed(
    cache: &Cache,
    predecessors: Vec<Predecessor>,
) -> orchestra_repo::Result<Vec<(Predecessor, Vec<Digest>)>> {
    let mut all = Vec::new();
    for predecessor in predecessors {
        let has_start = cache.has(&predecessor.change.start)?;
        let digests = match predecessor.bundles.as_slice() {
            _ if cache.has(&predecessor.change.commit)? => Vec::new(),
            [.., last] if has_start => vec![*last],
            bundles => bundles.to_vec(),
        };
        all.push((predecessor, digests));
    }
    Ok(all)
}

async fn fetch_all(shared: &Shared, digests: &[Digest]) -> Result<Vec<Held>, Failure> {
    let mut paths = Vec::new();
    for digest in digests {
        paths.push(fetch_one(&shared.blobs, &shared.bulk, *digest).await?);
    }
    Ok(paths)
}

/// The commit to start from, and what there is to tell.
pub(super) fn build(
    cache: &Cache,
    snapshot: &str,
    fetched: &Fetched,
    below: &[orchestra_repo::Earlier],
) -> orchestra_repo::Result<Earlier> {
    let mut earlier = Earlier::default();
    if fetched.is_empty() {
        return Ok(earlier);
    }
    for (predecessor, bundles) in fetched {
        if !cache.has(&predecessor.change.commit)? {
            cache.fetch_bundles(bundles, &predecessor.change.commit)?;
        }
    }
    let (wanted, unfinished): (Vec<_>, Vec<_>) = fetched
        .iter()
        .map(|(predecessor, _)| predecessor)
        .partition(|predecessor| predecessor.succeeded);
    let branches: Vec<String> = wanted.iter().map(|p| task_branch(p.task)).collect();
    let each = wanted.iter().zip(&branches);
    let changes: Vec<_> = each
        .map(|(predecessor, branch)| orchestra_repo::Predecessor {
            branch,
            change: &predecessor.change,
        })
        .collect();
    let Base { commit, conflicts } = cache.build_on(snapshot, &changes, below)?;
    for (predecessor, conflict) in wanted.iter().zip(conflicts) {
        match conflict {
            None => earlier.tasks.push(predecessor.task),
            Some(paths) => earlier.left_out.push((predecessor.task, paths)),
        }
    }
    if commit != snapshot {
        earlier.base = commit;
    }
    earlier.unfinished = unfinished.iter().map(|p| p.task).collect();
    Ok(earlier)
}

impl Earlier {
    /// What was written for an attempt; nothing where nothing was.
    pub fn load(files: &Files) -> Self {
        let path = files.earlier();
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(path = %path.display(), %error, "not understood");
                Self::default()
            }),
            Err(_) => Self::default(),
        }
    }

    /// Writes it beside the record.
    pub fn save(&self, files: &Files) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(self).expect("it is JSON");
        let path = files.earlier();
        durable::replace(&path, &bytes, durable::Access::Private)
            .map_err(|error| not_written(&path, &error))
    }

    /// The commit to start from, if it is not the snapshot.
    pub fn base(&self) -> Option<&str> {
        (!self.base.is_empty()).then_some(self.base.as_str())
    }

    /// Events: what is told while the workspace is made.
    pub fn notes(&self) -> Vec<(&'static str, String)> {
        let mut notes = Vec::new();
        if !self.tasks.is_empty() {
            let of = changes_of(&self.tasks);
            notes.push(("built_on", format!("{of} in the files already")));
        }
        for (task, paths) in &self.left_out {
            let paths = listed(paths);
            notes.push((
                "left_out",
                format!("the change of {task} is left out: it conflicts in {paths}"),
            ));
        }
        notes
    }

    /// What the agent is told; nothing where there is nothing to tell.
    pub fn document(&self) -> Option<Document> {
        let mut text = String::new();
        if !self.tasks.is_empty() {
            let of = changes_of(&self.tasks);
            text.push_str(&format!("{of} in your working directory already.\n"));
        }
        for (task, paths) in &self.left_out {
            let (branch, paths) = (task_branch(*task), listed(paths));
            text.push_str(&format!(
                "The change of {task} is not: it conflicts in {paths}. It is the branch \
                 `{branch}`: `git diff HEAD...{branch}` shows it, `git merge {branch}` takes it over.\n"
            ));
        }
        for task in &self.unfinished {
            let branch = task_branch(*task);
            text.push_str(&format!(
                "{task} did not succeed. What it had changed until then is not in your working \
                 directory; it is the branch `{branch}`.\n"
            ));
        }
        (!text.is_empty()).then(|| Document {
            name: DOCUMENT.to_owned(),
            text,
        })
    }
}

impl From<Earlier> for BuiltOn {
    fn from(earlier: Earlier) -> Self {
        Self {
            commit: earlier.base,
            tasks: earlier.tasks,
            left_out: earlier.left_out.into_iter().map(|(task, _)| task).collect(),
        }
    }
}

/// With the verb that goes on.
fn changes_of(tasks: &[TaskId]) -> String {
    let ids: Vec<String> = tasks.iter().map(ToString::to_string).collect();
    match ids.as_slice() {
        [one] => format!("The change of {one} is"),
        [first @ .., last] => format!("The changes of {} and {last} are", first.join(", ")),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_told_what_is_in_its_files_and_what_is_not() {
        assert_eq!(Earlier::default().document(), None);
        let earlier = Earlier {
            base: "c0ffee".to_owned(),
            tasks: vec![TaskId(1), TaskId(2)],
            left_out: vec![(TaskId(3), vec!["a.rs".to_owned()])],
            unfinished: vec![TaskId(4)],
        };
        assert_eq!(
            earlier.document().unwrap().text,
            "The changes of task_001 and task_002 are in your working directory already.\n\
             The change of task_003 is not: it conflicts in `a.rs`. It is the branch \
             `orchestra/task_003`: `git diff HEAD...orchestra/task_003` shows it, \
             `git merge orchestra/task_003` takes it over.\n\
             task_004 did not succeed. What it had changed until then is not in your working \
             directory; it is the branch `orchestra/task_004`.\n"
        );
        assert_eq!(earlier.notes().len(), 2);
    }

    #[test]
    fn what_is_kept_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let attempt = orchestra_types::AttemptId {
            task: TaskId(7),
            number: 1,
        };
        let files = Files::new(dir.path(), dir.path(), attempt);
        assert_eq!(Earlier::load(&files), Earlier::default());
        std::fs::create_dir_all(files.dir()).unwrap();
        let earlier = Earlier {
            base: "c0ffee".to_owned(),
            tasks: vec![TaskId(1)],
            ..Earlier::default()
        };
        earlier.save(&files).unwrap();
        assert_eq!(Earlier::load(&files), earlier);
    }
}
