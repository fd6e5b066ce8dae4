//! Who and what appears in worlds: made once for each thread, copied into each world.

use std::{collections::BTreeMap, time::Duration};

use orchestra_core::{Config, NewTask, ReportBody};
use orchestra_types::{
    AccountName, Budget, Exit, Failure, FailureCode, MachineId, OnDependencyFailure, Outcome,
    Place, Priority, ProjectRef, RunnerName, TaskId, TaskSpec, Timestamp, Usage, WorkerId,
    runner::{RunnerInfo, WorkerInfo},
};

/// Most workers of a world.
pub const WORKERS_MAX: usize = 3;
/// The runners of a world; the last one takes only tasks that name it.
pub const RUNNERS: [&str; 3] = ["claude", "codex", "shell"];

/// How many attempts of each runner may run on a worker.
pub const RUNNER_SLOTS: u32 = 2;

/// Accounts of a world: one that all workers have for the first runner, and one of each worker for
/// the second. The third runner has none.
pub const ACCOUNTS: usize = 1 + WORKERS_MAX;
/// When an account works again that met a limit.
pub const LIMIT_RESETS_AFTER: Duration = Duration::from_secs(40);

/// The number of the account that a runner of a worker uses.
#[must_use]
pub fn account(worker: u8, runner: u8) -> Option<usize> {
    match runner {
        0 => Some(0),
        1 => Some(1 + usize::from(worker)),
        _ => None,
    }
}

/// The one project.
pub const PROJECT: &str = "dir-1";

/// The places of runners to fall back on, best first.
pub type Fallback = [Option<u8>; 2];

/// Who submits.
pub const PEOPLE: [&str; 2] = ["x", "y"];

/// Names and templates.
#[derive(Debug)]
pub struct Cast {
    /// The core's numbers, before a world draws its own.
    pub config: Config,
    /// Names of runners, as [`RUNNERS`] has them.
    pub runners: Vec<RunnerName>,
    /// Workers as they describe themselves at first.
    pub workers: Vec<WorkerInfo>,
    spec: TaskSpec,
    project: ProjectRef,
    outcome: Outcome,
}

/// A task as a client asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// How much it matters.
    pub priority: Priority,
    /// The place of a runner in [`RUNNERS`].
    pub runner: Option<u8>,
    /// The places of the runners that it falls back on, one after the other.
    pub fallback: Fallback,
    /// The worker on whose machine it must run.
    pub machine: Option<u8>,
    /// Whether the worker must have the label that only the first one has.
    pub labelled: bool,
    /// How many more attempts a failure may have.
    pub retries: u32,
    /// Existing tasks that it comes after, as a set of ids below 64.
    pub after: u64,
    /// Tasks of the same submission that it comes after, as a set of places.
    pub after_index: u64,
    /// Whether it belongs to a project: its result is put in place.
    pub project: bool,
    /// Which of two people submits it.
    pub share: u8,
    /// What becomes of it when one that it comes after does not succeed.
    pub policy: OnDependencyFailure,
    /// It is not started before this moment.
    pub start_at: Option<Timestamp>,
    /// How many seconds it may wait for a worker, run, and be silent; 0 is no limit.
    pub limits: [u64; 3],
    /// How many tokens it and its subtasks may use; 0 is no limit.
    pub budget: u64,
    /// The task that it is a part of; one with a budget.
    pub parent: Option<TaskId>,
}

impl Want {
    /// A task that asks for nothing in particular.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            priority: Priority::Normal,
            runner: None,
            fallback: [None; 2],
            machine: None,
            labelled: false,
            retries: 0,
            after: 0,
            after_index: 0,
            project: false,
            share: 0,
            policy: OnDependencyFailure::Block,
            start_at: None,
            limits: [0; 3],
            budget: 0,
            parent: None,
        }
    }
}

/// How an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result {
    /// Done.
    Good,
    /// Not done; another attempt may help.
    Bad,
    /// Not done, and no attempt will help.
    Hopeless,
    /// It never began, through its worker's doing.
    Unbegun,
    /// Its account met a limit.
    Limited,
    /// It was told to end.
    Cancelled,
    /// It was told to end because a budget is used up.
    OverBudget,
    /// It was told to end because it ran too long.
    TimedOut,
    /// It was told to end because nothing was heard of it.
    Silent,
    /// Its supervisor was gone, or its machine.
    Down,
    /// Its worker was told that it is not its own any more.
    GivenUp,
}

impl Result {
    /// The code that the worker reports.
    #[must_use]
    pub fn code(self) -> Option<FailureCode> {
        match self {
            Self::Good => None,
            Self::Bad => Some(FailureCode::AgentFailed),
            Self::Hopeless => Some(FailureCode::BadRequest),
            Self::Unbegun => Some(FailureCode::WorkspaceFailed),
            Self::Limited => Some(FailureCode::RateLimited),
            Self::Cancelled => Some(FailureCode::Cancelled),
            Self::TimedOut => Some(FailureCode::Timeout),
            Self::Silent => Some(FailureCode::Stalled),
            Self::OverBudget => Some(FailureCode::BudgetExceeded),
            Self::Down | Self::GivenUp => Some(FailureCode::WorkerLost),
        }
    }
}

/// What a report of a world says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The order is on the worker's disk.
    Accepted,
    /// The agent runs.
    Started,
    /// It was called back before it began.
    GivenBack,
    /// It is over.
    Finished(Result),
}

impl Cast {
    /// Makes everything.
    ///
    /// # Panics
    ///
    /// Never: the constant names are names.
    #[must_use]
    pub fn new() -> Self {
        let name = |text: &&str| text.parse::<RunnerName>().expect("a constant name");
        let runners: Vec<RunnerName> = RUNNERS.iter().map(name).collect();
        let config = Config {
            known_runners: runners.iter().cloned().collect(),
            ..Config::default()
        };
        Self {
            config,
            workers: (0..WORKERS_MAX).map(|n| worker(n, &runners)).collect(),
            runners,
            spec: TaskSpec::new(""),
            project: project(),
            outcome: outcome(),
        }
    }

    /// The place of a runner in [`RUNNERS`].
    #[must_use]
    pub fn runner(&self, name: &RunnerName) -> Option<u8> {
        let place = self.runners.iter().position(|known| known == name)?;
        u8::try_from(place).ok()
    }

    /// The number of a worker.
    #[must_use]
    pub fn worker(&self, id: &WorkerId) -> Option<u8> {
        let place = self.workers.iter().position(|known| known.id == *id)?;
        u8::try_from(place).ok()
    }

    /// The number of an account.
    #[must_use]
    pub fn account(&self, name: &AccountName) -> Option<usize> {
        let own = |worker: &WorkerInfo| AccountName::of_worker(&self.runners[1], &worker.id);
        if name.as_str() == "shared" {
            return Some(0);
        }
        let place = self.workers.iter().position(|w| own(w) == *name)?;
        Some(1 + place)
    }

    /// The number of the worker on this machine.
    #[must_use]
    pub fn machine(&self, id: &MachineId) -> Option<u8> {
        let place = self.workers.iter().position(|known| known.machine == *id)?;
        u8::try_from(place).ok()
    }

    /// A task as a client sends it.
    #[must_use]
    pub fn task(&self, want: &Want) -> NewTask {
        let mut spec = self.spec.clone();
        spec.priority = want.priority;
        spec.runner = want.runner.map(|n| self.runners[usize::from(n)].clone());
        let fallback = want.fallback.iter().flatten();
        spec.fallback = fallback
            .map(|n| self.runners[usize::from(*n)].clone())
            .collect();
        spec.retries = want.retries;
        spec.submitter = PEOPLE[usize::from(want.share)].to_owned();
        spec.on_dependency_failure = want.policy;
        spec.start_at = want.start_at;
        let [wait, run, silence] = want.limits.map(limit);
        spec.queue_timeout = wait;
        spec.timeout = run.unwrap_or_default();
        spec.stall_timeout = silence;
        spec.parent = want.parent;
        spec.budget = tokens(want.budget);
        if want.project {
            spec.project = Some(self.project.clone());
        }
        spec.after = bits(want.after).map(TaskId).collect();
        if let Some(machine) = want.machine {
            spec.place = Place::InPlace {
                dir: "/here".into(),
                machine: self.workers[usize::from(machine)].machine.clone(),
            };
        }
        if want.labelled {
            spec.requires = label();
        }
        let after_index = bits(want.after_index).filter_map(|n| u32::try_from(n).ok());
        NewTask {
            spec: Box::new(spec),
            after_index: after_index.collect(),
        }
    }

    /// A report's body as a worker sends it, by the worker's clock, with what its agent used.
    #[must_use]
    pub fn body(&self, said: Said, clock: Timestamp, used: u64) -> ReportBody {
        match said {
            Said::Accepted => ReportBody::Accepted,
            Said::Started => ReportBody::Started,
            Said::GivenBack => ReportBody::GivenBack,
            Said::Finished(result) => {
                let mut outcome = self.outcome.clone();
                outcome.failure = result.code().map(|code| Failure::new(code, ""));
                if result == Result::Down {
                    outcome.exit = Exit::Unknown;
                }
                if let (Result::Limited, Some(failure)) = (result, &mut outcome.failure) {
                    failure.resets_at = Some(clock.plus(LIMIT_RESETS_AFTER));
                }
                if result == Result::Unbegun {
                    let reason = String::new();
                    outcome.exit = Exit::NotStarted { reason };
                }
                outcome.finished_at = clock;
                outcome.usage = usage(used);
                ReportBody::Finished(Box::new(outcome))
            }
        }
    }
}

impl Default for Cast {
    fn default() -> Self {
        Self::new()
    }
}

fn limit(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// A budget of tokens; 0 is no limit.
#[must_use]
pub fn tokens(limit: u64) -> Budget {
    Budget {
        tokens: (limit > 0).then_some(limit),
        ..Budget::default()
    }
}

/// So many tokens.
#[must_use]
pub fn usage(tokens: u64) -> Usage {
    Usage {
        output_tokens: tokens,
        ..Usage::default()
    }
}

/// The members of a set, lowest first.
pub fn bits(mut set: u64) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| u64::from(set.trailing_zeros()))?;
        set &= set - 1;
        Some(lowest)
    })
}

fn label() -> BTreeMap<String, String> {
    BTreeMap::from([("gpu".to_owned(), "yes".to_owned())])
}

fn worker(n: usize, runners: &[RunnerName]) -> WorkerInfo {
    let name = ["a", "b", "c"][n];
    let runner = |runner: &RunnerName| RunnerInfo {
        slots: RUNNER_SLOTS,
        agentic: runner.as_str() != RUNNERS[2],
        account: (runner.as_str() == RUNNERS[0]).then(|| "shared".parse().expect("a name")),
        ..RunnerInfo::ready(runner.clone())
    };
    let machine = name.parse().expect("a constant name");
    WorkerInfo {
        boot_id: "1".to_owned(),
        incarnation: "1".to_owned(),
        slots: 2,
        labels: if n == 0 { label() } else { BTreeMap::new() },
        runners: runners.iter().map(runner).collect(),
        ..WorkerInfo::bare(name.parse().expect("a constant name"), machine)
    }
}

/// The project of all tasks that have one.
pub fn project() -> ProjectRef {
    ProjectRef {
        id: PROJECT.parse().expect("a constant name"),
        name: String::new(),
        dir: "/here".into(),
        machine: "a".parse().expect("a constant name"),
    }
}

fn outcome() -> Outcome {
    Outcome::bare(Exit::Code(0), Timestamp(0))
}
