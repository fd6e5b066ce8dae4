//! Submissions: all tasks of one, or none.

use std::collections::BTreeSet;

use orchestra_types::{RunnerName, TaskId, Timestamp, limits};

use crate::{
    Core, RequestId, Step,
    change::Change,
    input::NewTask,
    message::{Message, Reply, SubmitRefused},
    queue::Place,
    row::{KeyRow, TaskFacts, TaskRow},
    task::{Task, Waits},
};

impl Core {
    pub(crate) fn on_submit(
        &mut self,
        now: Timestamp,
        request: RequestId,
        key: String,
        tasks: Vec<NewTask>,
        step: &mut Step,
    ) {
        let reply = match self.keys.get(&key) {
            Some(known) => Reply::Submitted {
                ids: known.ids().collect(),
                duplicate: true,
            },
            None => match self.refusal(&tasks) {
                Some(refused) => Reply::SubmitRefused(refused),
                None => self.accept(now, key, tasks, step),
            },
        };
        step.messages.push(Message::Reply { request, reply });
    }

    /// Takes the run of a schedule in.
    pub(crate) fn accept_run(
        &mut self,
        now: Timestamp,
        key: String,
        run: NewTask,
        step: &mut Step,
    ) -> TaskId {
        let id = TaskId(self.last_id.0 + 1);
        let _: Reply = self.accept(now, key, vec![run], step);
        id
    }

    fn accept(
        &mut self,
        now: Timestamp,
        key: String,
        tasks: Vec<NewTask>,
        step: &mut Step,
    ) -> Reply {
        let first = TaskId(self.last_id.0 + 1);
        let row = KeyRow {
            key,
            first,
            count: tasks.len() as u64,
            at: now,
        };
        self.last_id = TaskId(self.last_id.0 + row.count);
        let ids: Vec<TaskId> = row.ids().collect();
        if !mutated!(KeyNotWritten) {
            step.changes.push(Change::Key(row.clone()));
        }
        if !mutated!(KeyForgotten) {
            self.keys.insert(&row);
        }
        for (id, new) in ids.iter().zip(tasks) {
            self.create(now, *id, first, new, step);
        }
        Reply::Submitted {
            ids,
            duplicate: false,
        }
    }

    fn create(&mut self, now: Timestamp, id: TaskId, first: TaskId, new: NewTask, step: &mut Step) {
        let mut spec = new.spec;
        let inside = new
            .after_index
            .iter()
            .map(|index| TaskId(first.0 + u64::from(*index)));
        spec.after.extend(inside);
        // The spec keeps the order that was given: results are merged in it. The row is the set.
        let mut before = BTreeSet::new();
        spec.after.retain(|id| before.insert(*id));
        let before: Box<[TaskId]> = before.into_iter().collect();
        let facts = self.facts.share(TaskFacts::of(&spec));
        let standing = self.standing(now, now, &before, &facts);
        let row = TaskRow {
            id,
            created_at: now,
            facts,
            after: before,
            state: standing.state,
            attempts: 0,
            failures: 0,
            losses: 0,
            limited: 0,
            given_up: 0,
            last: None,
            started_at: None,
            cancel_requested: false,
            reason: standing.reason.map(Box::new),
            apply: None,
        };
        step.changes.push(Change::Spec { id, spec });
        self.insert(now, row, standing.waits_for);
        self.write(id, step);
        self.keep_back_if_stuck(id, step);
        self.settle_dependants(now, id, step);
    }

    /// Takes a task into memory.
    pub(crate) fn insert(&mut self, now: Timestamp, row: TaskRow, waits_for: Waits) {
        let id = row.id;
        self.enter_budgets(&row);
        self.edges += row.after.len();
        for before in waits_for.iter() {
            self.dependants.entry(before).or_default().insert(id);
        }
        self.tasks.insert(
            id,
            Task {
                row,
                waits_for,
                place: Place::default(),
            },
        );
        self.enter_state(now, id);
    }

    fn refusal(&self, tasks: &[NewTask]) -> Option<SubmitRefused> {
        if tasks.is_empty() {
            return Some(SubmitRefused::Empty);
        }
        if tasks.len() > limits::SUBMIT_TASKS_MAX {
            return Some(SubmitRefused::TooMany {
                limit: limits::SUBMIT_TASKS_MAX,
            });
        }
        if self.counts.open() + tasks.len() as u64 > self.config.queue_max {
            return Some(SubmitRefused::QueueFull {
                limit: self.config.queue_max,
            });
        }
        let each = tasks.iter().enumerate();
        if let Some(refused) = self.no_room(tasks) {
            return Some(refused);
        }
        let one = each
            .clone()
            .find_map(|(index, task)| self.task_refusal(index, task, tasks.len()));
        one.or_else(|| cycle(tasks).map(|indices| SubmitRefused::Cycle { indices }))
    }

    pub(crate) fn task_refusal(
        &self,
        index: usize,
        task: &NewTask,
        count: usize,
    ) -> Option<SubmitRefused> {
        if let Some(after) = task
            .spec
            .after
            .iter()
            .find(|id| !self.tasks.contains_key(id))
        {
            return Some(SubmitRefused::UnknownTask {
                index,
                after: *after,
            });
        }
        if let Some(after) = task
            .after_index
            .iter()
            .find(|place| **place as usize >= count)
        {
            return Some(SubmitRefused::UnknownIndex {
                index,
                after: *after,
            });
        }
        if let Some(parent) = task.spec.parent {
            let Some(above) = self.tasks.get(&parent) else {
                return Some(SubmitRefused::UnknownParent { index, parent });
            };
            if above.is_cancelled() && !mutated!(CancelledTaskGrows) {
                return Some(SubmitRefused::CancelledParent { index, parent });
            }
            if self.budgets.depth(parent) > limits::PARENTS_MAX {
                let limit = limits::PARENTS_MAX;
                return Some(SubmitRefused::TooDeep { index, limit });
            }
        }
        let runner = task.spec.runner.as_ref()?;
        if self.knows_runner(runner) {
            return None;
        }
        let known = self
            .config
            .known_runners
            .iter()
            .chain(self.advertised_runners());
        let known: BTreeSet<RunnerName> = known.cloned().collect();
        let known = known.into_iter().collect();
        Some(SubmitRefused::UnknownRunner {
            index,
            runner: runner.clone(),
            known,
        })
    }

    fn knows_runner(&self, runner: &RunnerName) -> bool {
        self.config.known_runners.contains(runner)
            || self.advertised_runners().any(|name| name == runner)
    }

    fn advertised_runners(&self) -> impl Iterator<Item = &RunnerName> {
        self.workers
            .values()
            .flat_map(|w| w.row.info.runners.iter().map(|r| &r.name))
    }
}

impl KeyRow {
    /// The tasks of the submission.
    pub fn ids(&self) -> impl Iterator<Item = TaskId> + use<> {
        let first = self.first.0;
        (first..first + self.count).map(TaskId)
    }
}

/// A circle among the tasks of a submission, if there is one. Tasks that exist already cannot come
/// after new ones, so only places within the submission can form one.
fn cycle(tasks: &[NewTask]) -> Option<Vec<usize>> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        New,
        OnPath,
        Done,
    }
    let mut marks = vec![Mark::New; tasks.len()];
    for start in 0..tasks.len() {
        // Each entry: a place, and how many of its dependencies have been followed.
        let mut path: Vec<(usize, usize)> = Vec::new();
        if marks[start] == Mark::New {
            marks[start] = Mark::OnPath;
            path.push((start, 0));
        }
        while let Some((at, followed)) = path.last_mut() {
            let Some(next) = tasks[*at].after_index.get(*followed) else {
                marks[*at] = Mark::Done;
                path.pop();
                continue;
            };
            *followed += 1;
            let next = *next as usize;
            match marks[next] {
                Mark::Done => {}
                Mark::New => {
                    marks[next] = Mark::OnPath;
                    path.push((next, 0));
                }
                Mark::OnPath => {
                    let on_circle = path.iter().map(|(at, _)| *at).skip_while(|at| *at != next);
                    return Some(on_circle.chain([next]).collect());
                }
            }
        }
    }
    None
}
