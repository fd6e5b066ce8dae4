//! The core itself: its state, and the one door to it.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::{AttemptId, RunnerName, TaskId, Timestamp, WorkerId};

use crate::{
    Calendar, Config, accounts::Accounts, attempt::Reporter, budgets::Budgets, change::Change,
    facts::FactsPool, free::Free, higher::Given, input::Input, keys::Keys, message::Message,
    overdue::Overdue, queue::Queue, retention::Finished, schedule::Schedules, session::Told,
    table::TaskTable, view::Counts, worker::Worker,
};

/// What an input leads to. First every change is made durable, then the messages are sent.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// To be made durable together.
    pub changes: Vec<Change>,
    /// To be sent afterwards, in this order.
    pub messages: Vec<Message>,
}

/// All tasks and workers, and every decision about them.
#[derive(Debug)]
pub struct Core {
    pub(crate) config: Config,
    /// How far the wall clock is ahead of steady time.
    pub(crate) calendar: Calendar,
    pub(crate) tasks: TaskTable,
    pub(crate) facts: FactsPool,
    /// Which tasks come after a task and have not been freed by it yet.
    pub(crate) dependants: BTreeMap<TaskId, BTreeSet<TaskId>>,
    /// Blocked tasks that do not go on by themselves, each with the one that ended without success.
    pub(crate) stuck: BTreeMap<TaskId, TaskId>,
    pub(crate) queue: Queue,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    /// Where there is room.
    pub(crate) free: Free,
    /// Workers that hold more than they can run.
    pub(crate) ahead: BTreeSet<WorkerId>,
    /// Attempts that were called back, each for the worker that has room for it.
    pub(crate) called_back: BTreeMap<AttemptId, WorkerId>,
    /// Workers that hold something which has waited too long since the last dispatch.
    pub(crate) late: BTreeSet<WorkerId>,
    /// Workers that may have gained room since the last dispatch.
    pub(crate) touched: BTreeSet<WorkerId>,
    /// When each worker's lease ends.
    pub(crate) leases: BTreeSet<(Timestamp, WorkerId)>,
    pub(crate) keys: Keys,
    /// What is over, in the order in which it is forgotten.
    pub(crate) finished: Finished,
    pub(crate) accounts: Accounts,
    pub(crate) budgets: Budgets,
    /// Runners without capacity because their accounts are parked, as far as tasks fall back on
    /// others meanwhile.
    pub(crate) parked: BTreeSet<RunnerName>,
    /// Whether `parked` may have changed.
    pub(crate) parks_moved: bool,
    /// Whether there may be other workers than before for tasks that avoid one.
    pub(crate) others_moved: bool,
    pub(crate) last_id: TaskId,
    pub(crate) counts: Counts,
    /// How many tasks each task comes after, added up.
    pub(crate) edges: usize,
    pub(crate) given: Given,
    /// A task that is given to a worker and has another priority since the last dispatch.
    pub(crate) reordered: Option<TaskId>,
    /// The clocks of tasks.
    pub(crate) overdue: Overdue,
    /// Recurring tasks.
    pub(crate) schedules: Schedules,
    pub(crate) assigning: bool,
    /// The latest moment of which an earlier head has written something, by its clock.
    pub(crate) known_until: Timestamp,
}

impl Core {
    /// A core without tasks or workers.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            queue: Queue::new(config.promote_after),
            accounts: Accounts::new(config.accounts.clone()),
            budgets: Budgets::default(),
            parked: BTreeSet::new(),
            parks_moved: false,
            others_moved: false,
            config,
            calendar: Calendar::default(),
            tasks: TaskTable::default(),
            facts: FactsPool::default(),
            dependants: BTreeMap::new(),
            stuck: BTreeMap::new(),
            workers: BTreeMap::new(),
            free: Free::default(),
            ahead: BTreeSet::new(),
            called_back: BTreeMap::new(),
            late: BTreeSet::new(),
            touched: BTreeSet::new(),
            leases: BTreeSet::new(),
            keys: Keys::default(),
            finished: Finished::default(),
            last_id: TaskId(0),
            counts: Counts::default(),
            edges: 0,
            given: Given::default(),
            reordered: None,
            overdue: Overdue::default(),
            schedules: Schedules::default(),
            assigning: true,
            known_until: Timestamp(0),
        }
    }

    /// Decides what follows from an input. Never fails, never waits.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Step {
        let mut step = Step::default();
        if !mutated!(DayAfterInput) {
            self.begin_day(now, &mut step);
        }
        match input {
            Input::Submit {
                request,
                key,
                tasks,
            } => {
                self.on_submit(now, request, key, tasks, &mut step);
            }
            Input::Cancel { request, task } => self.on_cancel(now, request, task, &mut step),
            Input::Retry { request, task } => self.on_retry(now, request, task, &mut step),
            Input::Release { request, task } => self.on_release(now, request, task, &mut step),
            Input::Prioritise {
                request,
                task,
                priority,
            } => {
                self.on_prioritise(now, request, task, priority, &mut step);
            }
            Input::ApplyRecorded {
                request,
                task,
                result,
            } => {
                self.on_apply_recorded(now, request, task, result, &mut step);
            }
            Input::Attached {
                connection,
                info,
                held,
                others,
                first_unacked,
            } => {
                let told = Told {
                    held: &held,
                    others: &others,
                    first_unacked,
                };
                self.on_attached(now, connection, *info, told, &mut step);
            }
            Input::Detached { connection, worker } => self.on_detached(connection, &worker),
            Input::Capacity { connection, info } => {
                self.on_capacity(connection, *info, &mut step);
            }
            Input::Heartbeat { connection, worker } => {
                self.on_heartbeat(now, connection, &worker);
            }
            Input::Reported {
                connection,
                worker,
                report,
                given_to,
            } => {
                let from = Reporter {
                    connection,
                    worker: &worker,
                    is_named: given_to.as_deref() == Some(&worker),
                };
                self.on_reported(now, &from, *report, &mut step);
            }
            Input::Metered {
                connection,
                worker,
                attempt,
                meter,
            } => {
                self.on_metered(now, connection, &worker, attempt, &meter, &mut step);
            }
            Input::SetAccount { request, name, max } => {
                self.on_set_account(request, name, max, &mut step);
            }
            Input::ResumeAccount { request, name } => {
                self.on_resume_account(request, name, &mut step);
            }
            Input::Schedule {
                request,
                key,
                schedules,
            } => {
                self.on_schedule(now, request, &key, schedules, &mut step);
            }
            Input::ChangeSchedule {
                request,
                schedule,
                change,
            } => {
                self.on_schedule_change(now, request, schedule, change, &mut step);
            }
            Input::Active { attempt } => self.on_active(now, attempt, &mut step),
            Input::Availability {
                request,
                worker,
                availability,
            } => {
                self.on_availability(request, &worker, availability, &mut step);
            }
            Input::RemoveWorker { request, worker } => {
                self.on_remove_worker(now, request, &worker, &mut step);
            }
            Input::SetTaskBudget {
                request,
                task,
                change,
            } => {
                let reply = self.set_task_budget(now, task, &change, &mut step);
                step.messages.push(Message::Reply { request, reply });
            }
            Input::SetProjectBudget {
                request,
                project,
                new,
                change,
            } => {
                let found = self.find_project_or(&project, new);
                let reply = self.set_project_budget(now, found, &change, &mut step);
                step.messages.push(Message::Reply { request, reply });
            }
            Input::Closed { attempt, apply } => self.on_closed(now, attempt, apply, &mut step),
            Input::ClockSet { ahead_ms } => self.on_clock_set(now, ahead_ms, &mut step),
            Input::ClockTaken => self.on_clock_taken(now, &mut step),
            Input::Resumed => self.on_resumed(now),
            Input::StopAssigning => self.stop_assigning(),
            Input::Tick => {}
        }
        self.on_deadlines(now, &mut step);
        self.dispatch(now, &mut step);
        step
    }

    /// When `Input::Tick` is due at the latest, if nothing else happens before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let lease = self.leases.first().map(|(at, _)| *at);
        let steady = [
            lease,
            self.next_forgetting(),
            self.overdue.next(),
            self.budgets.next_over(),
        ];
        let by_wall = [
            self.queue.next_due().filter(|_| !mutated!(DelaysNeverEnd)),
            self.queue
                .next_settling()
                .filter(|_| !mutated!(AvoidsForEver)),
            self.accounts.next_due(),
            self.schedules.next(),
            self.budgets.next_midnight(),
        ];
        let by_wall = by_wall.into_iter().flatten().min();
        let by_wall = by_wall.map(|at| self.calendar.steady(at));
        steady.into_iter().flatten().chain(by_wall).min()
    }

    fn on_deadlines(&mut self, now: Timestamp, step: &mut Step) {
        let wall = match mutated!(ClockIgnored) {
            true => now,
            false => self.wall(now),
        };
        while let Some(id) = self.queue.pop_due(wall) {
            let task = self.tasks.get(&id).expect("delayed tasks exist");
            self.queue.make_ready(id, task.place, task.wait());
        }
        self.settle_for_any(now);
        self.end_leases(now, step);
        self.end_overdue(now, step);
        self.run_schedules(now, step);
        self.forget_due(now, step);
        self.tick_accounts(now, step);
        self.tick_budgets(now, step);
    }
}
