//! The engine's loop: wait, decide, commit, deliver, answer.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use orchestra_core::{Change, Core, Input, Message, ReportBody, RequestId, Step};
use orchestra_types::{AttemptId, Timestamp, WorkerId, time::write_duration};
use tokio::{
    runtime::Handle as Runtime,
    sync::{
        mpsc::{self, error::TryRecvError},
        oneshot,
    },
    time::timeout,
};

use super::{
    Clock, Failed,
    clock::Look,
    command::{Ask, Command, Query, View},
    delivery::Delivery,
    observer::Observer,
};
use crate::{
    backup::Touched,
    memory,
    store::{Idle, Store},
};

/// Most inputs that share one commit.
const TURN_COMMANDS_MAX: usize = 1024;
/// Until a full disk is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Inputs that wait for room. With more, everything waits, and the workers feel it.
const HELD_MAX: usize = 64 * 1024;
/// Until the clocks are looked at again while a deadline is waited for: the wall clock may be set
/// meanwhile, and the timers do not count the time in which the machine is suspended.
const CLOCKS_EVERY: Duration = Duration::from_secs(30);
/// Until the store is asked again what there is to do, while the disk works for it.
const SOON: Duration = Duration::from_millis(20);

/// The core knows whom a task was given to last. Whom each of its attempts was given to the store knows, and the
/// input comes with that: of whose a result is, and which of the attempts that a worker holds were never given to it.
fn named(mut input: Input, core: &Core, store: &Store) -> Input {
    let latest = |attempt: AttemptId| core.task(attempt.task).map_or(0, |task| task.row.attempts);
    if let Input::Reported {
        report, given_to, ..
    } = &mut input
        && matches!(report.body, ReportBody::Finished(_))
        && report.attempt.number < latest(report.attempt)
    {
        let holder = holder_of(report.attempt, store);
        *given_to = holder.unwrap_or_default().map(Box::new);
    }
    if let Input::Attached {
        info, held, others, ..
    } = &mut input
    {
        // Also the latest: its number may have been passed over, and given to nobody.
        let held = held.iter().map(|held| held.attempt);
        let known = held.filter(|attempt| attempt.number <= latest(*attempt));
        let known: BTreeSet<AttemptId> = known.collect();
        // Where it cannot be read, nothing is taken from a worker that may be nowhere else.
        let its_own = |attempt| holder_of(attempt, store) == Some(Some(info.id.clone()));
        *others = known.into_iter().filter(|id| !its_own(*id)).collect();
    }
    input
}

/// Whom an attempt was given to, as its row says. None where that cannot be read.
fn holder_of(attempt: AttemptId, store: &Store) -> Option<Option<WorkerId>> {
    let row = store.attempt(attempt).inspect_err(|error| {
        tracing::error!(%attempt, %error, "it cannot be read who had an attempt");
    });
    row.ok().map(|row| row.map(|row| row.worker))
}

pub(super) struct State {
    core: Core,
    store: Store,
    clock: Clock,
    /// When the clocks were looked at last.
    looked: Look,
    /// The time of the latest input: it never goes back.
    now: Timestamp,
    inbox: mpsc::Receiver<Command>,
    delivery: Delivery,
    observer: Observer,
    /// Who wants to know which rows change.
    touched: Vec<Weak<Mutex<Touched>>>,
    running: bool,
    /// What waits for room on the disk: nobody hears that it is done before it is.
    held: VecDeque<Command>,
    memory: memory::Keeper,
    /// What the core is to hear of the clocks.
    clock_inputs: Vec<Input>,
}

/// What one turn of the loop gathers before its commit.
#[derive(Default)]
struct Turn {
    steps: Vec<Vec<Change>>,
    messages: Vec<Message>,
    queries: Vec<Query>,
    detached: bool,
}

/// Runs until it is told to stop or fails. `first` comes from the restoring of the core.
pub(super) fn run(
    mut state: State,
    first: Step,
    runtime: &Runtime,
    end: oneshot::Sender<Result<(), Failed>>,
) {
    let ran = state.run(first, runtime);
    // The store is closed before anybody hears of the end.
    let ended = match ran {
        Ok(()) => state.close(),
        Err(failed) => {
            drop(state);
            Err(failed)
        }
    };
    let _ = end.send(ended);
}

impl State {
    pub fn new(
        core: Core,
        store: Store,
        clock: Clock,
        inbox: mpsc::Receiver<Command>,
        delivery: Delivery,
        observer: Observer,
    ) -> Self {
        Self {
            core,
            store,
            now: clock.now(),
            clock,
            looked: Look::now(),
            inbox,
            delivery,
            observer,
            touched: Vec::new(),
            running: true,
            held: VecDeque::new(),
            memory: memory::Keeper::new(),
            clock_inputs: vec![Input::ClockTaken],
        }
    }

    fn run(&mut self, first: Step, runtime: &Runtime) -> Result<(), Failed> {
        let mut turn = Turn::default();
        turn.add(first);
        self.finish(turn)?;
        while self.running {
            let commands = self.wait(runtime)?;
            let turn = self.decide(commands);
            self.finish(turn)?;
        }
        Ok(())
    }

    fn close(self) -> Result<(), Failed> {
        Ok(self.store.close()?)
    }

    /// The commands that wait; none when the core's deadline came first. While nobody waits, the
    /// store does what it has put off.
    fn wait(&mut self, runtime: &Runtime) -> Result<Vec<Command>, Failed> {
        let mut commands = Vec::new();
        while commands.is_empty() && self.running {
            if self.store.room().is_err() && !self.store.has_own_room() {
                // Not even the core's own changes have room: everything waits, reads too.
                std::thread::sleep(LOOK_EVERY);
                continue;
            }
            self.take_waiting(&mut commands);
            let deadline = self.core.next_deadline();
            let rest = deadline.map(|at| at.since(self.clock.now()));
            let moved = self.look_at_clocks();
            if !commands.is_empty() || rest == Some(Duration::ZERO) || moved {
                break;
            }
            let rest = rest.map(|rest| rest.min(CLOCKS_EVERY));
            let rest = match self.held.is_empty() {
                true => rest,
                false => Some(rest.map_or(LOOK_EVERY, |rest| rest.min(LOOK_EVERY))),
            };
            match self.store.idle()? {
                Idle::More => {}
                Idle::Soon => {
                    let soon = rest.map_or(SOON, |rest| rest.min(SOON));
                    self.sleep(runtime, Some(soon), &mut commands);
                }
                Idle::Nothing if self.memory.tidy() => {}
                Idle::Nothing => self.sleep(runtime, rest, &mut commands),
            }
        }
        Ok(commands)
    }

    fn take_waiting(&mut self, commands: &mut Vec<Command>) {
        if self.store.room().is_ok() {
            commands.extend(self.held.drain(..));
        } else if self.held.len() > HELD_MAX {
            return;
        }
        while commands.len() < TURN_COMMANDS_MAX {
            match self.inbox.try_recv() {
                Ok(command) => commands.push(command),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.running = false;
                    break;
                }
            }
        }
    }

    /// Until a command comes, at most so long.
    fn sleep(&mut self, runtime: &Runtime, at_most: Option<Duration>, commands: &mut Vec<Command>) {
        let receive = self.inbox.recv_many(commands, TURN_COMMANDS_MAX);
        let all_handles_gone = match at_most {
            None => runtime.block_on(receive) == 0,
            // A timer can only be made inside the runtime, hence the block.
            Some(at_most) => {
                let received = runtime.block_on(async { timeout(at_most, receive).await });
                received == Ok(0)
            }
        };
        if all_handles_gone {
            self.running = false;
        }
    }

    fn decide(&mut self, commands: Vec<Command>) -> Turn {
        let mut turn = Turn::default();
        for input in std::mem::take(&mut self.clock_inputs) {
            self.handle(self.clock.now(), input, &mut turn);
        }
        if commands.is_empty() {
            self.handle(self.clock.now(), Input::Tick, &mut turn);
        }
        let full = self.store.room().is_err();
        for command in commands {
            match full && command.waits_for_room() {
                true => self.held.push_back(command),
                false => self.take(command, &mut turn),
            }
        }
        turn
    }

    /// Whether the core has to hear of the clocks before anything else.
    fn look_at_clocks(&mut self) -> bool {
        let look = Look::now();
        let earlier = std::mem::replace(&mut self.looked, look);
        if look.has_slept_since(&earlier) {
            tracing::info!("the machine was suspended");
            self.clock_inputs.push(Input::Resumed);
        }
        if let Some((was, ahead_ms)) = self.clock.was_set(&look) {
            let (by, way) = match ahead_ms.checked_sub(was) {
                Some(by) if by < 0 => (by.unsigned_abs(), "back"),
                by => (by.unwrap_or(i64::MAX).unsigned_abs(), "forward"),
            };
            let by = write_duration(Duration::from_secs((by + 500) / 1000));
            tracing::warn!(
                "the wall clock was set {way} by {by}: times to start at, schedules and days of \
                 budgets follow it; timeouts and leases do not"
            );
            self.clock_inputs.push(Input::ClockSet { ahead_ms });
        }
        !self.clock_inputs.is_empty()
    }

    fn take(&mut self, command: Command, turn: &mut Turn) {
        match command {
            Command::Input { at, input } => {
                if let Input::Detached { connection, .. } = &input {
                    self.delivery.disconnect(*connection);
                    turn.detached = true;
                }
                self.handle(at, input, turn);
            }
            Command::Ask { at, ask, reply } => {
                let request = self.delivery.expect(reply);
                self.handle(at, ask.input(request), turn);
            }
            Command::Attach {
                at,
                connection,
                outbox,
                input,
            } => {
                self.delivery.connect(connection, outbox);
                self.handle(at, input, turn);
            }
            Command::Touch(touched) => self.touched.push(touched),
            Command::Query(query) => turn.queries.push(query),
            Command::Stop => self.running = false,
        }
    }

    fn handle(&mut self, at: Timestamp, input: Input, turn: &mut Turn) {
        self.now = self.now.max(at);
        let input = named(input, &self.core, &self.store);
        turn.add(self.core.handle(self.now, input));
    }

    /// Durable first, told second.
    fn finish(&mut self, turn: Turn) -> Result<(), Failed> {
        if !turn.steps.is_empty() {
            let began = Instant::now();
            self.store.commit(&turn.steps)?;
            self.observer
                .committed(began, &turn.steps, &self.core, &self.store);
            self.note_touched(&turn.steps);
            self.memory.note(turn.steps.iter().map(Vec::len).sum());
        }
        if turn.levels_changed() {
            self.observer.levels(&self.core);
        }
        // A long submission takes much memory: it goes before the store takes some.
        drop(turn.steps);
        self.delivery.deliver(turn.messages, &self.store)?;
        let view = View {
            core: &self.core,
            store: &self.store,
        };
        for query in turn.queries {
            query(&view);
        }
        self.store.keep_pace()?;
        Ok(())
    }
}

impl State {
    fn note_touched(&mut self, steps: &[Vec<Change>]) {
        self.touched.retain(|touched| {
            let Some(touched) = touched.upgrade() else {
                return false;
            };
            let mut touched = touched.lock().unwrap_or_else(PoisonError::into_inner);
            steps
                .iter()
                .flatten()
                .for_each(|change| touched.note(change));
            true
        });
    }
}

impl Turn {
    /// Whether tasks or workers may have changed: a detachment alone leaves no row.
    fn levels_changed(&self) -> bool {
        self.detached || !self.steps.is_empty()
    }

    fn add(&mut self, step: Step) {
        if !step.changes.is_empty() {
            self.steps.push(step.changes);
        }
        self.messages.extend(step.messages);
    }
}

impl Ask {
    fn input(self, request: RequestId) -> Input {
        match self {
            Self::Submit { key, tasks } => Input::Submit {
                request,
                key,
                tasks,
            },
            Self::Cancel(task) => Input::Cancel { request, task },
            Self::Retry(task) => Input::Retry { request, task },
            Self::Release(task) => Input::Release { request, task },
            Self::Prioritise(task, priority) => Input::Prioritise {
                request,
                task,
                priority,
            },
            Self::SetAccount { name, max } => Input::SetAccount { request, name, max },
            Self::ResumeAccount(name) => Input::ResumeAccount { request, name },
            Self::Schedule { key, schedules } => Input::Schedule {
                request,
                key,
                schedules,
            },
            Self::ChangeSchedule(schedule, change) => Input::ChangeSchedule {
                request,
                schedule,
                change,
            },
            Self::SetAvailability(worker, availability) => Input::Availability {
                request,
                worker,
                availability,
            },
            Self::RemoveWorker(worker) => Input::RemoveWorker { request, worker },
            Self::SetTaskBudget { task, change } => Input::SetTaskBudget {
                request,
                task,
                change,
            },
            Self::SetProjectBudget {
                project,
                new,
                change,
            } => Input::SetProjectBudget {
                request,
                project,
                new,
                change,
            },
            Self::RecordApply { task, result } => Input::ApplyRecorded {
                request,
                task,
                result,
            },
        }
    }
}
