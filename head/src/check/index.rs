//! What rows say, kept small, and whether it fits together.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_core::{Change, State, TaskRow};
use orchestra_types::{AttemptId, Digest, TaskId, WorkerId};

use super::{Finding, Level, RESTORE, Report};
use crate::store::{self, Row};

const REMOVE: &str = "`ctl check --repair` removes it, while the head is stopped";

/// Rows that refer to stored files: the row's name, and the size that it says.
pub type References = BTreeMap<Digest, (String, Option<u64>)>;

/// What rows say.
#[derive(Debug, Default)]
pub struct Index {
    rows: u64,
    tasks: BTreeMap<TaskId, Task>,
    specs: BTreeSet<TaskId>,
    attempts: BTreeSet<AttemptId>,
    outcomes: BTreeSet<AttemptId>,
    workers: BTreeSet<WorkerId>,
    acked: BTreeSet<WorkerId>,
    /// First task and the one behind the last, with the key.
    keys: Vec<(TaskId, TaskId, String)>,
    references: References,
    findings: Vec<Finding>,
}

#[derive(Debug)]
struct Task {
    attempts: u32,
    ended: bool,
    /// An attempt is under way.
    held: bool,
    after: Box<[TaskId]>,
}

impl Index {
    /// Takes in a row.
    pub fn add(&mut self, row: &Row) {
        self.rows += 1;
        let change = match row.change() {
            Ok(change) => change,
            Err(error) => {
                self.findings
                    .push(damage(row.name(), error.to_string(), RESTORE));
                return;
            }
        };
        if let Some(digest) = row.large {
            self.references.insert(digest, (row.name(), None));
        }
        for reference in store::references(&change) {
            let named = (row.name(), reference.size);
            self.references.insert(reference.digest, named);
        }
        match change {
            Change::Task(row) => {
                self.tasks.insert(row.id, Task::of(&row));
            }
            Change::Spec { id, .. } => {
                self.specs.insert(id);
            }
            Change::Attempt(row) => {
                self.attempts.insert(row.id);
            }
            Change::Outcome(row) => {
                self.outcomes.insert(row.id);
            }
            Change::Worker(row) => {
                self.workers.insert(row.info.id);
            }
            Change::Acked { worker, .. } => {
                self.acked.insert(worker);
            }
            Change::Key(row) => {
                let end = TaskId(row.first.0.saturating_add(row.count));
                self.keys.push((row.first, end, row.key));
            }
            // Nothing refers to these, or a row never says them.
            Change::Account(_)
            | Change::Schedule(_)
            | Change::ForgetSchedule { .. }
            | Change::ScheduleIds { .. }
            | Change::Ledger(_)
            | Change::Project(_)
            | Change::ForgetTask { .. }
            | Change::ForgetKey { .. }
            | Change::ForgetWorker { .. } => {}
        }
    }

    /// Judges everything; gives what rows refer to.
    pub fn judge(mut self, changing: &BTreeSet<TaskId>, report: &mut Report) -> References {
        report.rows = self.rows;
        report.tasks = self.tasks.len() as u64;
        let mut findings = std::mem::take(&mut self.findings);
        self.judge_tasks(changing, &mut findings);
        self.judge_leftovers(changing, &mut findings);
        self.judge_keys(&mut findings);
        report.findings.append(&mut findings);
        self.references
    }

    fn judge_tasks(&self, changing: &BTreeSet<TaskId>, findings: &mut Vec<Finding>) {
        for (id, task) in self.tasks.iter().filter(|(id, _)| !changing.contains(id)) {
            let mut lacks = |what: &str| {
                findings.push(damage(id.to_string(), format!("lacks {what}"), RESTORE));
            };
            if !self.specs.contains(id) {
                lacks("its specification");
            }
            let last = AttemptId {
                task: *id,
                number: task.attempts,
            };
            if task.held && !self.attempts.contains(&last) {
                lacks("the attempt that is under way");
            }
            if !task.ended {
                let gone = task
                    .after
                    .iter()
                    .filter(|before| !self.tasks.contains_key(before));
                gone.for_each(|before| lacks(&format!("{before}, which it comes after")));
            }
        }
    }

    fn judge_leftovers(&self, changing: &BTreeSet<TaskId>, findings: &mut Vec<Finding>) {
        let gone = |id: &TaskId| !self.tasks.contains_key(id) && !changing.contains(id);
        let specs = self.specs.iter().filter(|id| gone(id));
        let specs = specs.map(|id| (store::spec_key(*id), id.to_string()));
        let attempts = self.attempts.iter().filter(|id| gone(&id.task));
        let attempts = attempts.map(|id| (store::attempt_key(*id), id.to_string()));
        let outcomes = self.outcomes.iter().filter(|id| gone(&id.task));
        let outcomes = outcomes.map(|id| (store::outcome_key(*id), id.to_string()));
        for (key, name) in specs.chain(attempts).chain(outcomes) {
            findings.push(Finding {
                level: Level::Leftover,
                what: name,
                problem: "is of a task that is not there".to_owned(),
                advice: REMOVE,
                leftover: Some(key),
            });
        }
        for worker in self.acked.difference(&self.workers) {
            findings.push(Finding {
                level: Level::Leftover,
                what: format!("the reports of {worker}"),
                problem: "are of a worker that is not there".to_owned(),
                advice: REMOVE,
                leftover: Some(store::acked_key(worker)),
            });
        }
    }

    /// Submissions never share an id, and every task came with one.
    fn judge_keys(&mut self, findings: &mut Vec<Finding>) {
        self.keys.sort();
        for pair in self.keys.windows(2) {
            let [(_, end, one), (first, _, other)] = pair else {
                continue;
            };
            if first < end {
                let problem = format!("shares {first} with the submission `{other}`");
                findings.push(damage(format!("the submission `{one}`"), problem, RESTORE));
            }
        }
        for id in self.tasks.keys() {
            let before = self.keys.partition_point(|(first, _, _)| first <= id);
            let covered = before
                .checked_sub(1)
                .is_some_and(|at| *id < self.keys[at].1);
            if !covered {
                let problem = "came with no submission that is known".to_owned();
                findings.push(damage(id.to_string(), problem, RESTORE));
            }
        }
    }
}

impl Task {
    fn of(row: &TaskRow) -> Self {
        let (ended, held) = match &row.state {
            State::Ended { .. } => (true, false),
            State::Assigned { .. } | State::Running { .. } | State::Closing { .. } => (false, true),
            State::Blocked | State::Queued { .. } => (false, false),
        };
        Self {
            attempts: row.attempts,
            ended,
            held,
            after: row.after.clone(),
        }
    }
}

fn damage(what: String, problem: String, advice: &'static str) -> Finding {
    Finding {
        level: Level::Damage,
        what,
        problem,
        advice,
        leftover: None,
    }
}
