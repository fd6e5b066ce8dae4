//! What rows say, kept small, and whether it fits together.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_core::{Change, State, TaskRow};
use orchestra_types::{AttemptId, Digest, TaskId, WorkerId};

use super::{Finding, Level, RESTORE, Report};
use crate::store::{self, Lost, Row};

const REMOVE: &str = "`ctl check --repair` removes it, while the head is stopped";

/// More places where rows are lost say nothing new.
const LOST_MAX: usize = 1000;

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
    /// Rows that were there and cannot be read.
    lost: Vec<Lost>,
    /// Whether any row could not be read.
    unread: bool,
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
                self.unread = true;
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
            | Change::ForgetOutcome { .. }
            | Change::ForgetTask { .. }
            | Change::ForgetKey { .. }
            | Change::ForgetWorker { .. } => {}
        }
    }

    /// Takes in that rows cannot be read. Whether it is worth while to go on.
    pub fn lose(&mut self, lost: Lost) -> bool {
        self.unread = true;
        self.lost.push(lost);
        let goes_on = self.lost.len() < LOST_MAX;
        if !goes_on {
            let problem = "so much of it cannot be read that the rest was not looked at";
            self.findings
                .push(damage("the store".to_owned(), problem.to_owned(), RESTORE));
        }
        goes_on
    }

    /// Judges everything; gives what rows refer to.
    pub fn judge(mut self, changing: &BTreeSet<TaskId>, report: &mut Report) -> References {
        report.rows = self.rows;
        report.tasks = self.tasks.len() as u64;
        let mut findings = std::mem::take(&mut self.findings);
        self.judge_lost(&mut findings);
        self.judge_tasks(changing, &mut findings);
        self.judge_leftovers(changing, &mut findings);
        self.judge_keys(&mut findings);
        report.findings.append(&mut findings);
        self.references
    }

    /// How many rows are lost follows from those that tell of others.
    fn judge_lost(&self, findings: &mut Vec<Finding>) {
        for lost in &self.lost {
            let known = self.told_of().filter(|key| lost.covers(key)).count();
            let problem = format!("cannot be read, {known} at least: {}", lost.why.problem());
            findings.push(damage(lost.name(), problem, RESTORE));
        }
    }

    /// The keys of rows that are not there, and that others tell of.
    fn told_of(&self) -> impl Iterator<Item = Vec<u8>> {
        let specs = self.tasks.keys().filter(|id| !self.specs.contains(id));
        let attempts = self.tasks.iter().flat_map(|(id, task)| {
            let numbers = 1..=task.attempts;
            numbers.map(|number| AttemptId { task: *id, number })
        });
        let attempts = attempts.filter(|id| !self.attempts.contains(id));
        let tasks = self.specs.iter().filter(|id| !self.tasks.contains_key(id));
        let specs = specs.map(|id| store::spec_key(*id));
        let tasks = tasks.map(|id| store::task_key(*id));
        specs.chain(attempts.map(store::attempt_key)).chain(tasks)
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

    /// A row that cannot be read may be the one that refers to them: then nothing is left over.
    fn judge_leftovers(&self, changing: &BTreeSet<TaskId>, findings: &mut Vec<Finding>) {
        if self.unread {
            return;
        }
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
