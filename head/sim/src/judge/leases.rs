//! Links and leases, as the head's memory should have them.

use orchestra_core::Core;

use super::Judge;
use crate::{
    cover::Point,
    event::Event,
    rule::{Checked, hold},
    shadow::{At, Shade},
};

/// A lease that ended longer ago was missed because the head was away.
const MISSED_MS: u64 = 1000;

impl Judge {
    /// What an event says about who is there.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Attached {
                connection,
                worker,
                look,
                ..
            } => {
                let seen = &mut self.seen[usize::from(*worker)];
                if seen.connection.is_some() {
                    self.cover.hit(Point::StreamReplaced);
                }
                seen.connection = Some(*connection);
                seen.look = Some(*look);
                seen.lost = false;
                self.see(*worker);
            }
            Event::Detached { connection, worker } => {
                let seen = &mut self.seen[usize::from(*worker)];
                if seen.connection == Some(*connection) {
                    seen.connection = None;
                } else {
                    self.cover.hit(Point::StaleStream);
                }
            }
            Event::Capacity {
                connection,
                worker,
                look,
            } => {
                let seen = &mut self.seen[usize::from(*worker)];
                if seen.connection == Some(*connection) {
                    seen.look = Some(*look);
                }
            }
            Event::Heartbeat { connection, worker } => {
                if self.seen[usize::from(*worker)].connection == Some(*connection) {
                    self.see(*worker);
                }
            }
            Event::Reported {
                connection,
                worker,
                seq,
                ..
            } => {
                let n = usize::from(*worker);
                let gap = *seq > self.shadow.acked[n] + 1;
                if self.seen[n].connection == Some(*connection) && !gap {
                    self.see(*worker);
                }
            }
            Event::StopAssigning => self.assigning = false,
            Event::Asked { .. }
            | Event::Metered { .. }
            | Event::Active(_)
            | Event::Closed { .. }
            | Event::ClockSet(_)
            | Event::ClockTaken
            | Event::Tick
            | Event::Restored => {}
        }
    }

    /// When a lease that begins now ends.
    pub(super) fn lease_from(&self, now: u64) -> u64 {
        let lease = self.config.lease + self.config.lease_grace;
        now + u64::try_from(lease.as_millis()).unwrap_or(u64::MAX)
    }

    /// How long a lease lasts.
    #[must_use]
    pub fn lease_ms(&self) -> u64 {
        self.lease_from(0)
    }

    fn see(&mut self, worker: u8) {
        let ends = self.lease_from(self.now);
        let seen = &mut self.seen[usize::from(worker)];
        seen.heard = true;
        seen.lease_ends = Some(ends);
    }

    /// Which leases end now: none when the head was away, for then they all begin anew.
    pub(super) fn leases(&mut self) {
        self.expired = 0;
        self.freed = false;
        let first = self.seen.iter().filter_map(|seen| seen.lease_ends).min();
        let Some(first) = first.filter(|ends| *ends <= self.now) else {
            return;
        };
        if self.now - first > MISSED_MS {
            self.cover.hit(Point::LeaseRenewed);
            let ends = self.lease_from(self.now);
            for seen in &mut self.seen {
                seen.lease_ends = seen.lease_ends.map(|_| ends);
            }
            return;
        }
        for (n, seen) in self.seen.iter_mut().enumerate() {
            if seen.lease_ends.is_some_and(|ends| ends <= self.now) {
                self.cover.hit(Point::LeaseEnded);
                seen.lease_ends = None;
                seen.connection = None;
                seen.lost = true;
                self.expired |= 1 << n;
            }
        }
    }

    /// The core must be called again when the next lease ends or the next delay is over.
    pub(super) fn deadline(&self, core: &Core) -> Checked {
        let leases = self.seen.iter().filter_map(|seen| seen.lease_ends);
        let waits = |id, shade: &Shade| {
            matches!(shade.at, At::Queued { .. }) && self.used_up(id, shade).is_none()
        };
        let waiting = self.shadow.tasks().filter(|(id, shade)| waits(*id, shade));
        let moments = waiting.flat_map(|(_, shade)| {
            let not_before = match shade.at {
                At::Queued { not_before, .. } => Some(not_before),
                At::Nowhere
                | At::Blocked
                | At::Assigned { .. }
                | At::Running { .. }
                | At::Closing { .. }
                | At::Ended(_) => None,
            };
            [not_before, shade.avoids.map(|(_, until)| until)]
        });
        let moments = moments.flatten().filter(|at| *at > self.wall());
        let moments = moments.map(|at| self.steady(at));
        let due = leases.chain(moments).chain(self.clock_due());
        let due = due.chain(self.runs_due()).chain(self.midnight_due()).min();
        let asked = core.next_deadline().map(|at| at.0);
        let in_time = due.is_none_or(|due| asked.is_some_and(|asked| asked <= due));
        hold!(Deadlines, in_time, "due at {due:?}, it asks for {asked:?}");
        Ok(())
    }
}
