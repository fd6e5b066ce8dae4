//! Attempts of tasks.

use orchestra_proto::v1;
use orchestra_types::{Artifact, Exit, Outcome, TaskId, Usage};
use serde::Serialize;

use super::{manifest::Changes, refused, some, task::Reason, time::Time};
use crate::error::Result;

/// One run of a task on one worker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attempt {
    /// Counts from 1.
    pub number: u32,
    /// The runner.
    pub runner: Option<String>,
    /// The worker.
    pub worker: Option<String>,
    /// When it was given to the worker.
    pub assigned_at: Time,
    /// When the CLI started.
    pub started_at: Option<Time>,
    /// When its result was complete.
    pub finished_at: Option<Time>,
    /// How the CLI's process ended; null while it runs.
    pub exit: Option<Exit>,
    /// Why it is not a success.
    pub reason: Option<Reason>,
    /// The model that answered.
    pub model: Option<String>,
    /// The CLI's own session.
    pub session: Option<String>,
    /// Tokens and cost.
    pub usage: Option<Usage>,
    /// Counts of changed files.
    pub changes: Option<Changes>,
    /// The final text, cut.
    pub result: Option<String>,
    /// The branch of its result.
    pub branch: Option<String>,
    /// The commit of its result.
    pub commit: Option<String>,
    /// Branch and commit in its bundle, also where its result only passes on what it was built on.
    #[serde(skip)]
    pub tip: Option<(String, String)>,
    /// The commit that its change is told from, where that is not the snapshot.
    pub base: Option<String>,
    /// Tasks whose changes its files began with.
    pub built_on: Vec<TaskId>,
    /// Tasks whose changes conflict with those.
    pub left_out: Vec<TaskId>,
    /// What is stored at the head.
    pub artifacts: Vec<Artifact>,
}

impl Attempt {
    pub(crate) fn read(task: TaskId, wire: v1::Attempt) -> Result<Self> {
        let outcome = wire
            .outcome
            .map(Outcome::try_from)
            .transpose()
            .map_err(refused)?;
        let open = Self {
            number: wire.number,
            runner: some(wire.runner),
            worker: some(wire.worker),
            assigned_at: Time::from_ms(wire.assigned_at_ms),
            started_at: wire.started_at_ms.map(Time::from_ms),
            finished_at: wire.finished_at_ms.map(Time::from_ms),
            exit: None,
            reason: None,
            model: None,
            session: None,
            usage: None,
            changes: None,
            result: None,
            branch: None,
            commit: None,
            tip: None,
            base: None,
            built_on: Vec::new(),
            left_out: Vec::new(),
            artifacts: Vec::new(),
        };
        Ok(match outcome {
            None => open,
            Some(outcome) => Self {
                branch: own(&outcome, &outcome.branch),
                commit: own(&outcome, &outcome.commit),
                tip: tip(&outcome),
                base: some(outcome.built_on.commit),
                built_on: outcome.built_on.tasks,
                left_out: outcome.built_on.left_out,
                exit: Some(outcome.exit),
                reason: outcome.failure.map(|failure| Reason::of(task, failure)),
                model: some(outcome.model),
                session: some(outcome.session),
                usage: Some(outcome.usage),
                changes: Some(outcome.files.into()),
                result: some(outcome.text),
                artifacts: outcome.artifacts,
                ..open
            },
        })
    }
}

impl Attempt {
    /// Whether it ended without anything of what an agent did.
    pub fn is_of_nothing(&self) -> bool {
        let exit = self.exit.as_ref();
        exit.is_some_and(|exit| exit.is_of_nothing(&self.artifacts))
    }

    /// Whether it has left a change of files, or commits.
    fn has_change(&self) -> bool {
        self.commit.is_some() || self.changes.is_some_and(|changes| changes.files > 0)
    }
}

/// The attempt that the result of a task is of: the latest that has left anything, else the latest of all.
/// Where that one has failed and changed nothing, the work of one before it is worth more.
pub(super) fn of_result(attempts: &[Attempt]) -> Option<&Attempt> {
    let mut left = attempts.iter().rev();
    let latest = left.find(|attempt| !attempt.is_of_nothing());
    let latest = latest.or(attempts.last())?;
    if latest.reason.is_none() || latest.has_change() {
        return Some(latest);
    }
    let mut earlier = attempts.iter().rev();
    Some(
        earlier
            .find(|attempt| attempt.has_change())
            .unwrap_or(latest),
    )
}

/// What is said of its change; nothing where its result only passes on what it was built on.
fn own(outcome: &Outcome, text: &str) -> Option<String> {
    some(text.to_owned()).filter(|_| outcome.has_own_change())
}

fn tip(outcome: &Outcome) -> Option<(String, String)> {
    let bundle = outcome.result_bundle();
    bundle.map(|_| (outcome.branch.clone(), outcome.commit.clone()))
}
