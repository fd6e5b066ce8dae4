//! What tasks have left that others come after.

use std::collections::{BTreeSet, VecDeque};

use orchestra_core::TaskView;
use orchestra_proto::v1;
use orchestra_types::{
    ApplyResult, AttemptId, BuiltOn, Outcome, Place, TaskId, TaskSpec, TaskStatus,
};

use crate::{engine::View, store};

/// Most tasks that are looked at for one result: those nearest to it.
const TASKS_MAX: usize = 64;

/// A change that a result builds on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The task that made it; none for all of them together.
    pub task: Option<TaskId>,
    /// What it is.
    pub change: orchestra_repo::Earlier,
}

impl From<Earlier> for v1::Earlier {
    fn from(earlier: Earlier) -> Self {
        let Earlier { task, change } = earlier;
        Self {
            task_id: task.map_or(0, |task| task.0),
            start: change.start,
            base: change.base,
            commit: change.commit,
            applied: change.applied,
        }
    }
}

/// The changes below the result of a task: all of those that its files began with, then each of the
/// tasks before it and before those.
pub fn below(view: &View<'_>, spec: &TaskSpec, built_on: &BuiltOn) -> store::Result<Vec<Earlier>> {
    let Place::Repository { commit: start, .. } = &spec.place else {
        return Ok(Vec::new());
    };
    if built_on.commit.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = vec![Earlier {
        task: None,
        change: orchestra_repo::Earlier {
            start: start.clone(),
            base: start.clone(),
            commit: built_on.commit.clone(),
            // Each of them is, or is not.
            applied: false,
        },
    }];
    found.extend(chain(view, &built_on.tasks)?);
    Ok(found)
}

/// What a result that builds on `earlier` may be made of, besides its own snapshot: results of tasks, and
/// the snapshots that those started from. None where that cannot be said: a task before it is forgotten,
/// or there are more of them than are looked at.
pub fn sources(
    view: &View<'_>,
    spec: &TaskSpec,
    built_on: &BuiltOn,
    earlier: &[Earlier],
) -> Option<Vec<String>> {
    let of_tasks = || earlier.iter().filter(|earlier| earlier.task.is_some());
    let is_gone = |task: &TaskId| spec.after.contains(task) && view.core.task(*task).is_none();
    if built_on.tasks.iter().any(is_gone) || of_tasks().count() >= TASKS_MAX {
        return None;
    }
    let commits = of_tasks().map(|earlier| &earlier.change);
    Some(
        commits
            .flat_map(|change| [change.start.clone(), change.commit.clone()])
            .collect(),
    )
}

/// The changes of these tasks and of those that they were built on, the nearest first.
fn chain(view: &View<'_>, tasks: &[TaskId]) -> store::Result<Vec<Earlier>> {
    let mut found = Vec::new();
    let mut next: VecDeque<TaskId> = tasks.iter().copied().collect();
    let mut seen: BTreeSet<TaskId> = next.iter().copied().collect();
    while let Some(task) = next.pop_front().filter(|_| found.len() < TASKS_MAX) {
        let Some(left) = left_by(view, task)? else {
            continue;
        };
        let below = left.outcome.built_on.tasks.iter().copied();
        next.extend(below.filter(|task| seen.insert(*task)));
        // What it only passed on, others made.
        if left.outcome.has_own_change() {
            found.push(Earlier {
                task: Some(task),
                change: left.change(),
            });
        }
    }
    Ok(found)
}

/// What the tasks that one comes after have left in its own repository, and the changes below that.
pub fn before(
    view: &View<'_>,
    spec: &TaskSpec,
) -> store::Result<(Vec<v1::Predecessor>, Vec<v1::Earlier>)> {
    let (mut found, mut below) = (Vec::new(), Vec::new());
    if !matches!(spec.place, Place::Repository { .. }) {
        return Ok((found, Vec::new()));
    }
    for task in &spec.after {
        let left = left_by(view, *task)?;
        let Some(left) = left.filter(|left| is_same_project(&left.spec, spec)) else {
            continue;
        };
        below.extend(left.outcome.built_on.tasks.iter().copied());
        found.extend(left.into_predecessor());
    }
    let below = chain(view, &below)?.into_iter().map(Into::into);
    Ok((found, below.collect()))
}

/// Whether two tasks are of one project. A place that got its first commit in between is known by
/// another id since.
fn is_same_project(one: &TaskSpec, other: &TaskSpec) -> bool {
    match (&one.project, &other.project) {
        (Some(one), Some(other)) => {
            let is_same_place = one.machine == other.machine && one.dir == other.dir;
            let had_no_commit = one.id.is_of_place() || other.id.is_of_place();
            one.id == other.id || is_same_place && had_no_commit
        }
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// What a task has left in a repository.
struct Left {
    task: TaskId,
    succeeded: bool,
    applied: bool,
    spec: TaskSpec,
    start: String,
    outcome: Box<Outcome>,
}

/// What counts as the result of a task, and which attempt has left it: the latest that has left
/// anything, else the latest of all.
pub fn result(view: &View<'_>, task: TaskId) -> store::Result<Option<(AttemptId, Box<Outcome>)>> {
    let mut latest = None;
    let last = view.core.task(task).map_or(0, |found| found.row.attempts);
    for number in (1..=last).rev() {
        let id = AttemptId { task, number };
        let end = match view.store.outcome(id)? {
            Some(end) => end.result.ok().map(|outcome| (id, outcome)),
            // It has not ended: what it leaves will count.
            None => return Ok(None),
        };
        match end {
            Some((id, outcome)) if !outcome.is_of_nothing() => return Ok(Some((id, outcome))),
            end => latest = latest.or(end),
        }
    }
    Ok(latest)
}

fn left_by(view: &View<'_>, task: TaskId) -> store::Result<Option<Left>> {
    let Some(found) = view.core.task(task) else {
        return Ok(None);
    };
    let (Some(spec), Some((_, outcome))) = (view.store.spec(task)?, result(view, task)?) else {
        return Ok(None);
    };
    let Place::Repository { commit: start, .. } = &spec.place else {
        return Ok(None);
    };
    Ok(Some(Left {
        task,
        succeeded: found.status == TaskStatus::Succeeded,
        applied: applied(&found),
        start: start.clone(),
        spec,
        outcome,
    }))
}

fn applied(task: &TaskView<'_>) -> bool {
    matches!(task.row.apply.as_deref(), Some(ApplyResult::Applied { .. }))
}

impl Left {
    fn change(&self) -> orchestra_repo::Earlier {
        orchestra_repo::Earlier {
            start: self.start.clone(),
            base: self.outcome.built_on.base(&self.start).to_owned(),
            commit: self.outcome.commit.clone(),
            applied: self.applied,
        }
    }

    /// None where it left nothing to build on.
    fn into_predecessor(self) -> Option<v1::Predecessor> {
        let bundle = self.outcome.result_bundle()?.digest;
        let change = Earlier {
            task: Some(self.task),
            change: self.change(),
        };
        let Place::Repository { bundles, .. } = &self.spec.place else {
            return None;
        };
        let all = bundles.iter().chain([&bundle]);
        Some(v1::Predecessor {
            task_id: self.task.0,
            succeeded: self.succeeded,
            bundles: all.map(|digest| digest.0.to_vec()).collect(),
            change: Some(change.into()),
        })
    }
}
