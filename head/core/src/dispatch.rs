//! Which task goes to which worker.
//!
//! After each step there is no ready task that fits a free slot. So it is enough to look at
//! workers that have gained room since (`fill`: the worker takes the task that goes first there)
//! and at classes that only now have a ready task (`place`: the task takes the best worker).
//! Whatever makes room usable must say so by `Core::touch`.

use std::collections::BTreeSet;

use orchestra_types::{AttemptId, RunnerName, TaskId, Timestamp, WorkerId};

use crate::{
    Core, Step,
    accounts::Accounts,
    change::Change,
    free::Spot,
    message::Message,
    queue::{ClassSet, Pick, Requirement, Turns},
    row::{AttemptRow, Last, State},
    view::Link,
    worker::Worker,
};

/// What counts as room.
#[derive(Clone, Copy)]
enum Room {
    /// A free slot.
    Slot,
    /// Also a place to wait at the worker.
    Ahead,
}

impl Room {
    /// Whether a worker's runner has such room.
    fn is_at(self, worker: &Worker, place: usize, accounts: &Accounts) -> bool {
        let at_once = match self {
            Self::Slot => worker.is_idle(place) || mutated!(WaitsWhileIdle),
            Self::Ahead => true,
        };
        at_once && worker.has_room(accounts, place)
    }
}

/// A search for the best spot for a task.
struct Search<'a> {
    core: &'a Core,
    requirement: &'a Requirement,
    room: Room,
    /// The worker of the latest attempt that failed.
    failed_on: Option<&'a WorkerId>,
    /// The worker that it is kept from.
    barred: Option<&'a WorkerId>,
    /// The workers at which nothing may wait now.
    closed: &'a BTreeSet<WorkerId>,
    best: Option<(Spot, &'a RunnerName)>,
}

impl<'a> Search<'a> {
    /// Goes through the lists of a runner, or of all.
    fn look(&mut self, runner: Option<&RunnerName>) {
        for (runner, spots) in self.core.free.lists(self.requirement, runner) {
            self.go_through(runner, spots);
        }
    }

    /// Goes through a list whose workers have the labels, until what comes is worse.
    fn go_through(&mut self, runner: &'a RunnerName, spots: &BTreeSet<Spot>) {
        for spot in spots {
            if self
                .best
                .as_ref()
                .is_some_and(|(best, _)| best.place < spot.place)
            {
                return;
            }
            if !self.does(spot) {
                continue;
            }
            self.keep_better(spot, runner);
            if Some(&spot.worker) != self.failed_on {
                return;
            }
        }
    }

    /// Asks one worker for its first runner that does.
    fn ask(&mut self, id: &WorkerId) {
        let Some(worker) = self.core.workers.get(id) else {
            return;
        };
        if !worker.suits(self.requirement) {
            return;
        }
        for (place, runner) in worker.row.info.runners.iter().enumerate() {
            let spot = Spot {
                place,
                load: worker.load(),
                worker: id.clone(),
            };
            if self.does(&spot) {
                return self.keep_better(&spot, &runner.name);
            }
        }
    }

    fn does(&self, spot: &Spot) -> bool {
        self.barred != Some(&spot.worker)
            && !self.closed.contains(&spot.worker)
            && self.core.does(spot, self.requirement, self.room)
    }

    fn keep_better(&mut self, spot: &Spot, runner: &'a RunnerName) {
        let failed = |spot: &Spot| Some(&spot.worker) == self.failed_on;
        let better = self.best.as_ref().is_none_or(|(best, _)| {
            (spot.place, failed(spot), spot.load, &spot.worker)
                < (best.place, failed(best), best.load, &best.worker)
        });
        if better {
            self.best = Some((spot.clone(), runner));
        }
    }
}

/// A task and where it goes.
struct Match {
    pick: Pick,
    worker: WorkerId,
    /// The runner's place at the worker whose turn it is.
    turn: usize,
    /// The runner that does it; none when it is next, but has no room yet.
    runner: Option<RunnerName>,
}

impl Core {
    /// Notes that a worker may have room that it did not have before, or has another load.
    pub(crate) fn touch(&mut self, worker: &WorkerId) {
        if !self.touched.contains(worker) {
            self.touched.insert(worker.clone());
        }
    }

    /// Whether a runner of a worker may be given another attempt now.
    pub(crate) fn has_room(&self, worker: &Worker, place: usize) -> bool {
        worker.has_room(&self.accounts, place)
    }

    /// Whether a spot's runner is a wanted one and has room.
    fn does(&self, spot: &Spot, requirement: &Requirement, room: Room) -> bool {
        self.workers.get(&spot.worker).is_some_and(|worker| {
            let runner = worker.row.info.runners.get(spot.place);
            runner.is_some_and(|runner| requirement.wants(runner, &self.parked))
                && room.is_at(worker, spot.place, &self.accounts)
        })
    }

    /// Assigns tasks until no ready task fits a free slot, and calls back what waits at the wrong place.
    pub(crate) fn dispatch(&mut self, now: Timestamp, step: &mut Step) {
        let late = std::mem::take(&mut self.late);
        if !self.assigning {
            self.call_back_late(&late, step);
            for worker in std::mem::take(&mut self.touched) {
                self.call_back_for(&worker, step);
            }
            return;
        }
        self.look_at_parks();
        self.look_elsewhere();
        let touched = std::mem::take(&mut self.touched);
        let fresh = self.queue.take_fresh();
        // First where a task begins at once; what is left may wait where that is allowed.
        for room in [Room::Slot, Room::Ahead] {
            for worker in &touched {
                self.fill(now, worker, room, step);
            }
            self.place(now, fresh.clone(), room, step);
        }
        self.call_back_late(&late, step);
        self.call_back_late(&touched, step);
        for worker in &touched {
            self.call_back_for(worker, step);
        }
        self.call_back_lower(now, step);
        self.touched.clear();
    }

    /// Gives a worker what goes first there, while it has room.
    fn fill(&mut self, now: Timestamp, id: &WorkerId, room: Room, step: &mut Step) {
        while self.give_next(now, id, room, step) {}
        self.relist(id);
    }

    /// Gives a worker what goes first there; whether there is something that has room.
    fn give_next(&mut self, now: Timestamp, id: &WorkerId, room: Room, step: &mut Step) -> bool {
        while let Some(found) = self.next_for(now, id, room) {
            if !self.pull_back(now, found.pick.task, step) {
                return self.assign(now, found, room, step);
            }
        }
        false
    }

    /// Which task goes next to a worker that has room. For measurements, after
    /// `Input::StopAssigning`: as long as tasks are assigned there is none after a step.
    pub fn would_start(&mut self, now: Timestamp, worker: &WorkerId) -> Option<TaskId> {
        let found = self.next_for(now, worker, Room::Slot)?;
        Some(found.pick.task)
    }

    fn next_for(&mut self, now: Timestamp, id: &WorkerId, room: Room) -> Option<Match> {
        let worker = self.workers.get_mut(id).filter(|w| w.can_take())?;
        worker.learn(&self.queue, &self.parked);
        let worker = &*worker;
        // Of the runners that could do something of the highest level, the one served longest ago.
        // To wait there is a turn too: who has none to wait must not be passed over by those who do.
        let waits = |place| match room {
            Room::Slot => false,
            Room::Ahead => worker.wants_slot(&self.accounts, place) && !mutated!(WaitsOutOfTurn),
        };
        let open = worker.desks.iter().enumerate();
        let open =
            open.filter(|(place, _)| room.is_at(worker, *place, &self.accounts) || waits(*place));
        let turns = open.filter_map(|(place, desk)| {
            let level = self.queue.level(now, &desk.fits)?;
            let served = if mutated!(RunnersTakeNoTurns) {
                0
            } else {
                desk.served
            };
            Some((std::cmp::Reverse(level), served, place))
        });
        let (_, _, turn) = turns.min()?;
        let desk = &worker.desks[turn];
        let pick = self.queue.pick(now, &desk.fits, &desk.turns)?;
        let requirement = self.queue.requirement(pick.class);
        let mut runners = worker.row.info.runners.iter().enumerate();
        let runner = runners.find(|(place, runner)| {
            requirement.wants(runner, &self.parked) && room.is_at(worker, *place, &self.accounts)
        });
        Some(Match {
            pick,
            worker: id.clone(),
            turn,
            runner: runner.map(|(_, runner)| runner.name.clone()),
        })
    }

    /// Finds workers for tasks whose class had no ready task before.
    fn place(&mut self, now: Timestamp, mut fresh: ClassSet, room: Room, step: &mut Step) {
        // Where what is next waits for a slot.
        let mut closed = BTreeSet::new();
        while let Some(pick) = self.queue.pick(now, &fresh, &Turns::default()) {
            if self.pull_back(now, pick.task, step) {
                continue;
            }
            match self.best_spot(pick, room, &closed) {
                Some((mut worker, runner)) => {
                    let given = match room {
                        Room::Slot => {
                            let turn = self.workers.get(&worker).and_then(|w| w.place_of(&runner));
                            let found = Match {
                                pick,
                                turn: turn.unwrap_or(0),
                                worker: worker.clone(),
                                runner: Some(runner),
                            };
                            self.assign(now, found, room, step)
                        }
                        Room::Ahead => {
                            worker = self.where_next_belongs(now, worker, pick, &closed);
                            self.give_next(now, &worker, room, step)
                        }
                    };
                    self.relist(&worker);
                    if !given {
                        closed.insert(worker);
                    }
                }
                // What else is in the class fits no free slot either.
                None => fresh.remove(pick.class),
            }
        }
    }

    /// What may wait at a worker is whatever is next there, which may belong to a better one; and there
    /// another one may be next. The first worker on this way where what is next belongs, or where the
    /// way comes back to.
    fn where_next_belongs(
        &mut self,
        now: Timestamp,
        worker: WorkerId,
        pick: Pick,
        closed: &BTreeSet<WorkerId>,
    ) -> WorkerId {
        let (mut at, mut passed) = (worker, BTreeSet::new());
        while let Some(next) = self.next_for(now, &at, Room::Ahead) {
            let belongs_here = passed.is_empty() && next.pick.task == pick.task;
            if belongs_here || !passed.insert(at.clone()) {
                break;
            }
            match self.best_spot(next.pick, Room::Ahead, closed) {
                Some((better, _)) if better != at => at = better,
                Some(_) | None => break,
            }
        }
        at
    }

    /// Runner preference first, then a worker that the task did not fail on, then the least loaded
    /// one, then the lowest id.
    fn best_spot(
        &self,
        pick: Pick,
        room: Room,
        closed: &BTreeSet<WorkerId>,
    ) -> Option<(WorkerId, RunnerName)> {
        let requirement = self.queue.requirement(pick.class);
        let last = self.tasks.get(&pick.task)?.row.last.as_deref();
        let failed_on = last.and_then(|last| last.avoids.as_ref());
        let failed_on = failed_on.map(|avoids| &avoids.worker);
        let mut search = Search {
            core: self,
            requirement,
            room,
            failed_on: failed_on.filter(|_| !mutated!(BackToTheSameWorker)),
            barred: failed_on.filter(|worker| self.queue.bars(pick.class, worker)),
            closed,
            best: None,
        };
        match (&requirement.machine, &requirement.runner) {
            (Some(machine), _) => {
                for id in self.free.on_machine(machine) {
                    search.ask(id);
                }
            }
            (None, Some(_)) => {
                let mut runners = requirement.open(&self.parked);
                while search.best.is_none()
                    && let Some(runner) = runners.next()
                {
                    search.look(Some(runner));
                }
            }
            (None, None) => search.look(None),
        }
        let (spot, runner) = search.best?;
        Some((spot.worker, runner.clone()))
    }

    /// Lists a worker among those with room, as it is now.
    fn relist(&mut self, id: &WorkerId) {
        if let Some(worker) = self.workers.get_mut(id) {
            self.free.list(id, worker);
        }
        self.note_ahead(id);
    }

    /// Gives a task to a worker; whether there is room for it.
    fn assign(&mut self, now: Timestamp, found: Match, room: Room, step: &mut Step) -> bool {
        let Match {
            pick,
            worker,
            turn,
            runner: Some(runner),
        } = found
        else {
            return false;
        };
        self.note_turn(&worker, turn, pick);
        match room {
            Room::Slot => {}
            // It comes last there, and what follows it in its class may wait there too.
            Room::Ahead => {
                self.queue.rise(pick.class);
                self.call_back_before(now, pick.task, &worker, step);
            }
        }
        let id: TaskId = pick.task;
        let task = self.tasks.get_mut(&id).expect("queued tasks exist");
        let waits_since = task.waits_since();
        task.row.attempts += 1;
        task.row.given_up <<= 1;
        let (used, moved) = (task.row.used(), task.row.moved());
        let last = task.row.last.take();
        let (avoids, counted) = last.map_or((None, Vec::new()), |l| (l.avoids, l.counted));
        task.row.last = Some(Box::new(Last {
            worker: worker.clone(),
            runner: runner.clone(),
            avoids,
            moved,
            waits_since,
            used,
            counted,
        }));
        let attempt = AttemptId {
            task: id,
            number: task.row.attempts,
        };
        step.changes.push(Change::Attempt(Box::new(AttemptRow {
            id: attempt,
            worker: worker.clone(),
            runner: runner.clone(),
            assigned_at: now,
            started_at: None,
        })));
        let assigned = State::Assigned {
            attempt: attempt.number,
            worker: worker.clone(),
            runner: runner.clone(),
            at: now,
        };
        self.set_state(now, id, assigned, step);
        if let Some(Link::Connected(connection)) = self.workers.get(&worker).map(|w| w.link) {
            step.messages.push(Message::Start {
                connection,
                attempt,
                runner,
            });
        }
        true
    }

    fn note_turn(&mut self, worker: &WorkerId, place: usize, pick: Pick) {
        let worker = self.workers.get_mut(worker);
        if let Some(desk) = worker.and_then(|w| w.desks.get_mut(place)) {
            desk.served = self.queue.serve(pick.share, &mut desk.turns);
        }
    }
}

#[cfg(test)]
impl Core {
    /// Whether a task waits for another worker than this one, which it failed on.
    fn keeps_away(&self, now: Timestamp, task: &crate::task::Task, worker: &Worker) -> bool {
        let requirement = Requirement::of(&task.row.facts);
        let avoided = &worker.row.info.id;
        let mut others = self.workers.values().filter(|w| w.row.info.id != *avoided);
        self.waits_for_another(now, task.row.id, avoided)
            && others.any(|w| self.could_do(w, &requirement, &self.parked))
    }

    /// A ready task that fits a free slot: there must be none after a step.
    pub(crate) fn missed(&self, now: Timestamp) -> Option<TaskId> {
        let waits = |task: &&crate::task::Task| matches!(&task.row.state, State::Queued { not_before, .. } if *not_before <= self.wall(now));
        let fits = |task: &crate::task::Task, at_once: bool| {
            let requirement = Requirement::of(&task.row.facts);
            self.workers.values().any(|worker| {
                let mut runners = worker.row.info.runners.iter().enumerate();
                worker.suits(&requirement)
                    && !self.keeps_away(now, task, worker)
                    && runners.any(|(at, r)| {
                        requirement.wants(r, &self.parked)
                            && self.has_room(worker, at)
                            && (!at_once || worker.is_idle(at))
                    })
            })
        };
        let waiting = self.tasks.values().filter(waits);
        let waiting: Vec<_> = waiting
            .filter(|t| !self.budgets.is_held(t.row.id))
            .collect();
        // While one waits for its turn, others need not wait at a worker.
        let ahead = waiting.iter().all(|task| fits(task, false));
        let mut waiting = waiting.into_iter();
        waiting
            .find(|task| fits(task, !ahead))
            .filter(|_| self.assigning)
            .map(|task| task.row.id)
    }
}
