//! Turns of shares and runners: how many others begin at a worker before one that counts as high.
//!
//! The bound is the one of docs/architecture.md, "The queue". Turns are counted while the task
//! waits for nothing but a slot of that worker.

use orchestra_types::TaskId;

use super::{Judge, choice::Load};
use crate::{
    cast::{RUNNERS, WORKERS_MAX},
    cover::Point,
    rule::{Checked, hold},
    shadow::{At, Shade},
};

/// The level of a task that counts as high.
const HIGH: u8 = 2;
/// Most shares: two people, each with and without a project.
const SHARES: usize = 4;

/// What went before a task at a worker.
#[derive(Clone, Copy, Debug)]
struct Passed {
    task: TaskId,
    worker: usize,
    /// Tasks of its own share, at any worker.
    own: u32,
    /// Tasks of each share.
    of: [u32; SHARES],
    /// The runners that took turns, as a set.
    runners: u8,
}

/// All of that.
#[derive(Debug, Default)]
pub(super) struct Turns {
    passed: Vec<Passed>,
    /// Workers at which something is to have its turn before anything else waits there, or was in
    /// the step before, as a set.
    pub closed: u8,
    /// What each worker had after the last step.
    load: [u32; WORKERS_MAX],
}

impl Judge {
    /// A task is given to a worker: that is one turn for all others that wait for a slot there.
    pub(super) fn count_turn(
        &mut self,
        id: TaskId,
        shade: &Shade,
        worker: usize,
        load: &Load,
    ) -> Checked {
        let high = |rival: &Shade| self.level(self.rank(rival)) == HIGH;
        let others = self.waiting().filter(|(other, _)| *other != id);
        let others = others.filter(|(_, rival)| high(rival));
        let others: Vec<(TaskId, Shade)> = others.map(|(id, rival)| (id, *rival)).collect();
        let waits = |task| others.iter().any(|(other, _)| *other == task);
        self.turns.passed.retain(|passed| waits(passed.task));
        for (other, rival) in others {
            let own = share(shade) == share(&rival);
            if !own && !self.wants_slot(&rival, worker, load) {
                continue;
            }
            self.cover.hit(Point::Passed);
            let runners = self.wanted(shade, worker) | self.wanted(&rival, worker);
            if own {
                self.note_own(other);
            }
            let passed = self.passed(other, worker);
            passed.of[share(shade)] += 1;
            passed.runners |= runners;
            let passed = *passed;
            bound(&passed, share(&rival))?;
        }
        Ok(())
    }

    /// A task of its own share goes before a task: that is one less before it, wherever it starts.
    fn note_own(&mut self, task: TaskId) {
        for worker in 0..WORKERS_MAX {
            self.passed(task, worker).own += 1;
        }
    }

    fn passed(&mut self, task: TaskId, worker: usize) -> &mut Passed {
        let all = &mut self.turns.passed;
        let known = all.iter();
        let mut known = known.enumerate();
        let known = known.find(|(_, passed)| passed.task == task && passed.worker == worker);
        let place = known.map_or(all.len(), |(place, _)| place);
        if place == all.len() {
            all.push(Passed {
                task,
                worker,
                own: 0,
                of: [0; SHARES],
                runners: 0,
            });
        }
        &mut all[place]
    }

    /// The runners of a worker that may do a task, as a set.
    fn wanted(&self, shade: &Shade, worker: usize) -> u8 {
        let ready = self.seen[worker].look.map_or(0, |look| look.ready);
        let wanted = (0..RUNNERS.len()).filter(|n| self.wants(shade, *n));
        ready & wanted.fold(0, |set, n| set | 1 << n)
    }

    /// After each step: at which workers nothing more is let wait for now. Until their load changes
    /// nobody looks at them again.
    pub(super) fn close_turns(&mut self, load: &Load) {
        for worker in 0..WORKERS_MAX {
            let comes = |(id, shade): (TaskId, &Shade)| {
                let there = matches!(shade.at, At::Queued { .. } | At::Assigned { .. });
                there && self.has_moved(id)
            };
            let same = self.turns.load[worker] == load.all[worker];
            if self.ahead_at_all(worker)
                && (self.is_closed(worker, load) || self.shadow.tasks().any(comes))
            {
                self.turns.closed |= 1 << worker;
            } else if !same {
                self.turns.closed &= !(1 << worker);
            }
            self.turns.load[worker] = load.all[worker];
        }
    }

    /// Whether something waits for a slot of a worker and cannot wait there.
    pub(super) fn is_closed(&self, worker: usize, load: &Load) -> bool {
        self.waiting().any(|(_, shade)| {
            self.wants_slot(shade, worker, load) && self.could_take(shade, worker, load).is_none()
        })
    }

    fn ahead_at_all(&self, worker: usize) -> bool {
        let look = self.seen[worker].look;
        look.is_some_and(|look| look.prefetch != [0; RUNNERS.len()])
    }
}

/// In the turns of the runner that does it each other share goes once before each task of its own;
/// and each other runner has one turn for each of those.
fn bound(passed: &Passed, own: usize) -> Checked {
    let others = (0..SHARES).filter(|n| *n != own && passed.of[*n] > 0);
    let others = others.fold(0, |count: u32, _| count + 1);
    let turns = others * (passed.own + 1) + passed.own;
    let runners = passed.runners.count_ones().max(1);
    let most = turns + (runners - 1) * (turns + 1);
    let all: u32 = passed.of.iter().sum();
    let Passed { task, worker, .. } = passed;
    hold!(
        Turns,
        all <= most,
        "{all} go before {task} at {worker}, not {most}: {passed:?}"
    );
    Ok(())
}

fn share(shade: &Shade) -> usize {
    usize::from(shade.share) * 2 + usize::from(shade.project)
}
