//! What goes wrong.

use super::{World, net::Up};
use crate::{cover::Point, event::Event, plan::Switch, rule::Checked};

/// Each as often as the others, when it is on.
const FAULTS: [Switch; 12] = [
    Switch::HeadKilled,
    Switch::HeadSuspended,
    Switch::HeadStopped,
    Switch::Cuts,
    Switch::OneWay,
    Switch::HeadCuts,
    Switch::WorkerKilled,
    Switch::WorkerRebooted,
    Switch::WorkerGone,
    Switch::Twins,
    Switch::Capacity,
    Switch::LongWaits,
];

impl World<'_> {
    pub(super) fn fault(&mut self) -> Checked {
        // Beside the others, so that worlds without it stay as they are.
        if self.has(Switch::ClockSet) && self.random.once_in(6) {
            self.set_clock();
            return Ok(());
        }
        let fault = FAULTS[self.random.index(FAULTS.len())];
        if !self.has(fault) {
            return Ok(());
        }
        self.trace
            .line(self.clock, || format!("fault: {}", fault.name()));
        match fault {
            Switch::HeadKilled => {
                self.judge.cover.hit(Point::KilledIdle);
                return self.killed();
            }
            Switch::HeadStopped => return self.stopped(),
            Switch::HeadSuspended => self.suspend(),
            Switch::LongWaits => {
                let ms = self.random.below(90_000);
                return self.pass_time(ms);
            }
            Switch::Cuts => self.cut(),
            Switch::OneWay => self.deaden(),
            Switch::HeadCuts => self.head_cuts(),
            Switch::WorkerKilled => self.kill_worker(),
            Switch::WorkerRebooted => self.reboot(),
            Switch::WorkerGone => self.worker_goes(),
            Switch::Twins => self.twin(),
            _ => self.capacity(),
        }
        Ok(())
    }

    /// The head's machine sleeps: time passes, and the head looks only afterwards.
    fn suspend(&mut self) {
        let ms = self.random.below(90_000);
        let due = self.head.core.next_deadline();
        self.clock += ms;
        if due.is_some_and(|due| due < self.head_time()) {
            self.judge.cover.hit(Point::Suspended);
        }
    }

    /// Somebody sets the wall clock of the head's machine.
    fn set_clock(&mut self) {
        self.set = i64::try_from(self.random.below(120_000)).unwrap_or(0) - 60_000;
        self.trace
            .line(self.clock, || format!("wall clock set: {}", self.set));
        self.arrive(Event::ClockSet(self.set));
    }

    fn cut(&mut self) {
        let (worker, process) = self.somebody();
        let stream = self.process(worker, process).and_then(|w| w.stream);
        if let Some(id) = stream {
            self.judge.cover.hit(Point::StreamCut);
            self.leave(worker, process, id);
        }
    }

    fn deaden(&mut self) {
        if self.streams.is_empty() {
            return;
        }
        let place = self.random.index(self.streams.len());
        let up = self.random.once_in(2);
        self.judge.cover.hit(Point::StreamHalfDead);
        let stream = &mut self.streams[place];
        if up {
            stream.up_dead = true;
        } else {
            stream.down_dead = true;
        }
    }

    fn head_cuts(&mut self) {
        let open = |stream: &super::Stream| !stream.ended && stream.connection.is_some();
        if let Some(place) = self.streams.iter().position(open) {
            self.end_stream(place);
        }
    }

    fn kill_worker(&mut self) {
        let (worker, process) = self.somebody();
        self.judge.cover.hit(Point::WorkerKilled);
        let stream = self.process(worker, process).and_then(|w| w.stream);
        if let Some(id) = stream {
            self.leave(worker, process, id);
        }
        if let Some(worker) = self.process(worker, process) {
            worker.die();
        }
    }

    fn reboot(&mut self) {
        let (worker, _) = self.somebody();
        self.judge.cover.hit(Point::WorkerRebooted);
        let stream = self.process(worker, 0).and_then(|w| w.stream);
        if let Some(id) = stream {
            self.leave(worker, 0, id);
        }
        if let Some(worker) = self.process(worker, 0) {
            worker.reboot();
        }
    }

    /// One worker goes for ever, if another one stays that can do everything it could.
    fn worker_goes(&mut self) {
        if self.workers.len() < 2 || self.has(Switch::Requirements) {
            return;
        }
        let last = self.workers.len() - 1;
        if self.workers[last].gone {
            return;
        }
        self.judge.cover.hit(Point::WorkerGone);
        self.workers[last].gone = true;
        let number = self.workers[last].number;
        if let Some(id) = self.workers[last].stream {
            self.leave(number, 0, id);
        }
        self.twin = None;
    }

    /// A second process begins with a copy of the last worker's directory.
    fn twin(&mut self) {
        let Some(last) = self.workers.last() else {
            return;
        };
        if self.twin.is_some() || last.gone {
            return;
        }
        self.judge.cover.hit(Point::Twin);
        let mut twin = last.clone();
        twin.die();
        self.twin = Some(twin);
    }

    fn capacity(&mut self) {
        let (number, process) = self.somebody();
        let ready = u8::try_from(self.random.below(8)).unwrap_or(7);
        let slots = u32::try_from(self.random.between(0, 3)).unwrap_or(1);
        let prefetch = self.has(Switch::Prefetch) && self.random.once_in(2);
        let Some(worker) = self.process(number, process) else {
            return;
        };
        worker.look.ready = ready;
        worker.look.slots = slots;
        if prefetch {
            worker.look.prefetch.rotate_left(1);
        }
        let (look, stream) = (worker.look, worker.stream.filter(|_| worker.welcomed));
        if let Some(stream) = stream.and_then(|id| self.stream(id)) {
            stream.say(Up::Capacity(look));
        }
    }
}
