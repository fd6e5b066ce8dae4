//! What reaches the head, in a world's words.

use orchestra_core::{
    Availability, ConnectionId, Held, Input, Meter, NewSchedule, Reading, Report, RequestId,
    ScheduleChange,
};
use orchestra_types::{
    ApplyResult, AttemptId, Budget, BudgetChange, Measure, Priority, Recurrence, ScheduleId,
    TaskId, Timestamp,
    runner::{Readiness, WorkerInfo},
};

use crate::{
    cast::{Cast, PROJECT, RUNNERS, Said, Want, project, tokens, usage},
    shadow::Shadow,
};

/// What of a worker's description can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// How many attempts may run at once.
    pub slots: u32,
    /// Which runners are ready, as a set of their places.
    pub ready: u8,
    /// How many attempts of each runner may wait there beyond its slots.
    pub prefetch: [u8; RUNNERS.len()],
    /// Grows with each start of the machine.
    pub boot: u32,
}

/// Which project is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The one of that name, if it is known.
    Named,
    /// The same, also when it is not known yet.
    OfHere,
}

/// How a limit of tokens changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// It is this from now on.
    Set(u64),
    /// It is so much more.
    Add(u64),
    /// There is none any more.
    Lift,
}

impl Amount {
    fn change(self) -> BudgetChange {
        match self {
            Self::Set(limit) => BudgetChange::Set {
                limits: tokens(limit),
                none: Vec::new(),
            },
            Self::Add(more) => BudgetChange::Add(tokens(more)),
            Self::Lift => BudgetChange::Set {
                limits: Budget::default(),
                none: vec![Measure::Tokens],
            },
        }
    }

    /// Whether it is added.
    #[must_use]
    pub fn adds(self) -> bool {
        match self {
            Self::Add(_) => true,
            Self::Set(_) | Self::Lift => false,
        }
    }
}

/// A client's question.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Submit tasks.
    Submit {
        /// The number of the submission: its key.
        key: usize,
        /// The tasks.
        wants: Vec<Want>,
    },
    /// End a task.
    Cancel(TaskId),
    /// Try a task again.
    Retry(TaskId),
    /// Note that a change was put in place.
    Applied(TaskId),
    /// Give a worker something new, or nothing.
    Cordon(u8, Availability),
    /// Forget a worker.
    Remove(u8),
    /// Let a blocked task go.
    Release(TaskId),
    /// Give a task another priority.
    Prioritise(TaskId, Priority),
    /// Set how many tokens a task and its subtasks may use, or add some.
    Limit(TaskId, Amount),
    /// Set what the project may use in a day, or add to today's.
    Day(Amount, Whose),
    /// Make a task come again and again.
    Recur {
        /// The number of the request: its key.
        key: u64,
        /// What comes.
        want: Box<Want>,
        /// When.
        every: Recurrence,
        /// When the first one comes.
        first: Option<Timestamp>,
    },
    /// Pause, resume or delete a schedule.
    ChangeSchedule(ScheduleId, ScheduleChange),
}

/// One input of the head.
#[derive(Clone, Debug)]
pub enum Event {
    /// A client asks.
    Asked {
        /// For the answer.
        request: RequestId,
        /// What.
        ask: Ask,
    },
    /// A worker's stream began.
    Attached {
        /// The stream.
        connection: u64,
        /// Who.
        worker: u8,
        /// As it describes itself.
        look: Look,
        /// What it holds.
        held: Vec<Held>,
        /// Its first report that is not acknowledged; 0 when none waits.
        first_unacked: u64,
    },
    /// A worker's stream ended.
    Detached {
        /// The stream.
        connection: u64,
        /// Who.
        worker: u8,
    },
    /// A worker describes itself anew.
    Capacity {
        /// The stream.
        connection: u64,
        /// Who.
        worker: u8,
        /// As it describes itself.
        look: Look,
    },
    /// A sign of life.
    Heartbeat {
        /// The stream.
        connection: u64,
        /// Who.
        worker: u8,
    },
    /// A report.
    Reported {
        /// The stream.
        connection: u64,
        /// Who.
        worker: u8,
        /// Its number.
        seq: u64,
        /// About which attempt.
        attempt: AttemptId,
        /// What.
        said: Said,
        /// How many tokens its agent has used.
        used: u64,
        /// The worker's clock.
        clock: Timestamp,
    },
    /// What a running attempt has used so far.
    Metered {
        /// The stream.
        connection: u64,
        /// Who.
        worker: u8,
        /// Which attempt.
        attempt: AttemptId,
        /// How many tokens.
        used: u64,
    },
    /// An agent gave a sign of life.
    Active(AttemptId),
    /// A result is in place.
    Closed {
        /// Which attempt.
        attempt: AttemptId,
        /// Whether its change conflicted.
        conflict: bool,
    },
    /// Nothing more is to be started.
    StopAssigning,
    /// Somebody set the wall clock: so far ahead of the head's time, or behind.
    ClockSet(i64),
    /// The head was started, by the clock of now.
    ClockTaken,
    /// A deadline has passed.
    Tick,
    /// The head was started; only for the judge, it is no input.
    Restored,
}

impl Event {
    /// As the core takes it.
    ///
    /// # Panics
    ///
    /// When it is no input.
    #[must_use]
    pub fn input(&self, cast: &Cast, durable: &Shadow) -> Input {
        let id = |worker: &u8| cast.workers[usize::from(*worker)].id.clone();
        match self {
            Self::Asked { request, ask } => question(*request, ask, cast),
            Self::Attached {
                connection,
                worker,
                look,
                held,
                first_unacked,
            } => Input::Attached {
                connection: ConnectionId(*connection),
                info: Box::new(info(cast, *worker, *look)),
                held: held.clone(),
                others: held
                    .iter()
                    .map(|held| held.attempt)
                    .filter(|attempt| durable.given_to(*attempt) != Some(*worker))
                    .collect(),
                first_unacked: *first_unacked,
            },
            Self::Detached { connection, worker } => Input::Detached {
                connection: ConnectionId(*connection),
                worker: id(worker),
            },
            Self::Capacity {
                connection,
                worker,
                look,
            } => Input::Capacity {
                connection: ConnectionId(*connection),
                info: Box::new(info(cast, *worker, *look)),
            },
            Self::Heartbeat { connection, worker } => Input::Heartbeat {
                connection: ConnectionId(*connection),
                worker: id(worker),
            },
            Self::Reported {
                connection,
                worker,
                seq,
                attempt,
                said,
                used,
                clock,
            } => Input::Reported {
                connection: ConnectionId(*connection),
                worker: id(worker),
                report: Box::new(Report {
                    seq: *seq,
                    attempt: *attempt,
                    body: cast.body(*said, *clock, *used),
                }),
                given_to: durable
                    .given_to(*attempt)
                    .map(|worker| Box::new(id(&worker))),
            },
            Self::Metered {
                connection,
                worker,
                attempt,
                used,
            } => Input::Metered {
                connection: ConnectionId(*connection),
                worker: id(worker),
                attempt: *attempt,
                meter: Box::new(Meter {
                    reading: Reading {
                        usage: usage(*used),
                        ..Reading::default()
                    },
                    ..Meter::default()
                }),
            },
            Self::Active(attempt) => Input::Active { attempt: *attempt },
            Self::Closed { attempt, conflict } => Input::Closed {
                attempt: *attempt,
                apply: applied(*conflict),
            },
            Self::StopAssigning => Input::StopAssigning,
            Self::ClockSet(ahead_ms) => Input::ClockSet {
                ahead_ms: *ahead_ms,
            },
            Self::ClockTaken => Input::ClockTaken,
            Self::Tick => Input::Tick,
            Self::Restored => unreachable!("a restart is no input"),
        }
    }
}

fn question(request: RequestId, ask: &Ask, cast: &Cast) -> Input {
    match ask {
        Ask::Submit { key, wants } => Input::Submit {
            request,
            key: key.to_string(),
            tasks: wants.iter().map(|want| cast.task(want)).collect(),
        },
        Ask::Cancel(task) => Input::Cancel {
            request,
            task: *task,
        },
        Ask::Retry(task) => Input::Retry {
            request,
            task: *task,
        },
        Ask::Applied(task) => Input::ApplyRecorded {
            request,
            task: *task,
            result: ApplyResult::Applied { files: 1 },
        },
        Ask::Cordon(worker, availability) => Input::Availability {
            request,
            worker: cast.workers[usize::from(*worker)].id.clone(),
            availability: *availability,
        },
        Ask::Remove(worker) => Input::RemoveWorker {
            request,
            worker: cast.workers[usize::from(*worker)].id.clone(),
        },
        Ask::Limit(task, amount) => Input::SetTaskBudget {
            request,
            task: *task,
            change: amount.change(),
        },
        Ask::Day(amount, whose) => Input::SetProjectBudget {
            request,
            project: PROJECT.to_owned(),
            new: match whose {
                Whose::Named => None,
                Whose::OfHere => Some((project().id, project().name)),
            },
            change: amount.change(),
        },
        Ask::Recur {
            key,
            want,
            every,
            first,
        } => Input::Schedule {
            request,
            key: key.to_string(),
            schedules: vec![NewSchedule {
                spec: *cast.task(want).spec,
                every: *every,
                first: *first,
            }],
        },
        Ask::ChangeSchedule(schedule, change) => Input::ChangeSchedule {
            request,
            schedule: *schedule,
            change: *change,
        },
        Ask::Release(task) => Input::Release {
            request,
            task: *task,
        },
        Ask::Prioritise(task, priority) => Input::Prioritise {
            request,
            task: *task,
            priority: *priority,
        },
    }
}

fn applied(conflict: bool) -> ApplyResult {
    if conflict {
        ApplyResult::Conflict {
            message: String::new(),
        }
    } else {
        ApplyResult::NotRequested
    }
}

fn info(cast: &Cast, worker: u8, look: Look) -> WorkerInfo {
    let mut info = cast.workers[usize::from(worker)].clone();
    info.slots = look.slots;
    info.boot_id = look.boot.to_string();
    for (place, runner) in info.runners.iter_mut().enumerate() {
        runner.prefetch = u32::from(look.prefetch[place]);
        if look.ready & (1 << place) == 0 {
            runner.readiness = Readiness::Missing;
        }
    }
    info
}
