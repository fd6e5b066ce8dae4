//! What has a higher level goes before what waits at workers.

use orchestra_core::Availability;
use orchestra_types::{AttemptId, TaskId};

use super::{Before, Judge};
use crate::{
    cast::{Said, WORKERS_MAX, bits},
    event::{Ask, Event},
    rule::{Checked, hold},
    shadow::{At, Shade, bit},
};

impl Judge {
    /// Before a step: whom its event may let go before others.
    pub(super) fn note_higher(&mut self, event: &Event, before: &Before) {
        self.calls.before_at = 0;
        self.calls.came = 0;
        self.calls.refused = match event {
            Event::Reported { attempt, said, .. } => {
                let begun = match said {
                    Said::Started | Said::Finished(_) => true,
                    Said::Accepted | Said::GivenBack => false,
                };
                // One behind a gap is not taken.
                before.fresh && begun && self.calls.before.contains(attempt)
            }
            _ => false,
        };
        if let Some((id, shade)) = self.reprioritised(event)
            && matches!(shade.at, At::Assigned { .. })
        {
            self.calls.came |= bit(id);
        }
    }

    /// The task that gets another priority by an event, as it was.
    fn reprioritised(&self, event: &Event) -> Option<(TaskId, Shade)> {
        match event {
            Event::Asked {
                ask: Ask::Prioritise(id, priority),
                ..
            } => {
                let shade = self.shadow.task(*id);
                (shade.priority != *priority).then_some((*id, shade))
            }
            _ => None,
        }
    }

    /// Whether something of a higher level than an attempt waits at its worker since this step, or
    /// could wait there without it.
    pub(super) fn goes_before(&self, lower: &Shade, worker: usize) -> bool {
        let own = self.level(self.rank(lower));
        let came = bits(self.calls.came).any(|id| {
            let shade = self.shadow.task(TaskId(id));
            self.level(self.rank(&shade)) > own && waits_at(&shade, worker)
        });
        came || self.waiting().any(|(_, higher)| {
            let level = self.level(self.rank(higher));
            level > own && self.is_next_without(higher, worker)
        })
    }

    /// Whether a task is next at a worker once what was called back is gone, and what waits there
    /// and has a lower level.
    fn is_next_without(&self, shade: &Shade, worker: usize) -> bool {
        let mut load = self.load();
        let called = self.calls.open.iter().copied();
        let level = self.level(self.rank(shade));
        for attempt in called.chain(self.lower_at(worker, level)) {
            if let At::Assigned { worker: w, runner } = self.shadow.task(attempt.task).at
                && usize::from(w) == worker
            {
                load.all[worker] -= 1;
                load.by_runner[worker][usize::from(runner)] -= 1;
            }
        }
        self.wants_slot(shade, worker, &load)
    }

    /// What a worker may not have begun, has a lower level and was not called back.
    fn lower_at(&self, worker: usize, level: u8) -> impl Iterator<Item = AttemptId> {
        let all = self.candidates(worker);
        all.filter(move |attempt| self.level(self.rank(&self.shadow.task(attempt.task))) < level)
    }

    /// After each step what waits at a worker has no lower level than what came behind it; and what
    /// came into the queue and finds no room has called back what has a lower level, at one worker.
    pub(super) fn higher_goes_first(&self, was: u64, event: &Event) -> Checked {
        for id in bits(self.calls.came).map(TaskId) {
            self.nothing_lower_before(id)?;
        }
        let named = self.reprioritised_queued(event);
        for (id, shade) in self.waiting() {
            let due = matches!(shade.at, At::Queued { not_before, .. } if not_before > was);
            let risen = self.has_moved(id) || due || self.calls.refused || named == Some(id);
            if risen && self.is_first(id, shade) {
                self.goes_somewhere(id, shade)?;
            }
        }
        Ok(())
    }

    fn reprioritised_queued(&self, event: &Event) -> Option<TaskId> {
        match event {
            Event::Asked {
                ask: Ask::Prioritise(id, _),
                ..
            } if self.changed & bit(*id) != 0 => Some(*id),
            _ => None,
        }
    }

    fn nothing_lower_before(&self, id: TaskId) -> Checked {
        let shade = self.shadow.task(id);
        let At::Assigned { worker, .. } = shade.at else {
            return Ok(());
        };
        let number = shade.attempts;
        let called = self.calls.open.contains(&AttemptId { task: id, number });
        let n = usize::from(worker);
        if called || self.seen[n].connection.is_none() || self.beyond(n, &self.load()) == 0 {
            return Ok(());
        }
        let mut lower = self.lower_at(n, self.level(self.rank(&shade)));
        // What came with the same step may be behind it.
        let first = lower.find(|attempt| !self.has_moved(attempt.task));
        let right = first.is_none();
        hold!(CallBack, right, "{first:?} waits at {worker} before {id}");
        Ok(())
    }

    /// Whether nothing like it is before a task.
    fn is_first(&self, id: TaskId, shade: &Shade) -> bool {
        let mut rivals = self.waiting().filter(|(other, _)| *other != id);
        !rivals.any(|(_, rival)| {
            rival.required() == shade.required() && self.rank(rival) <= self.rank(shade)
        })
    }

    fn goes_somewhere(&self, id: TaskId, shade: &Shade) -> Checked {
        let open = |n: &usize| {
            self.shadow.availability[*n] == Availability::Open && self.seen[*n].connection.is_some()
        };
        let level = self.level(self.rank(shade));
        let load = self.load();
        let fits =
            |n: &usize| open(n) && self.beyond(*n, &load) > 0 && self.is_next_without(shade, *n);
        let fits: Vec<usize> = (0..WORKERS_MAX).filter(fits).collect();
        let called = fits.iter().any(|n| self.calls.before_at & (1 << n) != 0);
        let mut lower = fits.iter().flat_map(|n| self.lower_at(*n, level));
        let first = lower.next();
        let right = called || first.is_none();
        hold!(CallBack, right, "{first:?} waits at a worker before {id}");
        Ok(())
    }
}

fn waits_at(shade: &Shade, worker: usize) -> bool {
    matches!(shade.at, At::Assigned { worker: w, .. } if usize::from(w) == worker)
}
