//! The lease, not the connection, decides loss.

use std::{collections::BTreeSet, time::Duration};

use orchestra_types::{AttemptId, Timestamp, WorkerId};

use crate::{Core, Step, attempt::Loss, message::Message, view::Link};

/// A lease is ended at its time, give or take a little. One that ended longer ago than this was
/// missed because the head itself was away: stopped, suspended with its machine, or starved.
const MISSED: Duration = Duration::from_secs(1);

impl Core {
    /// Notes a sign of life: the worker's lease starts anew.
    pub(crate) fn see(&mut self, now: Timestamp, id: &WorkerId) {
        self.start_lease(now, id);
        if let Some(worker) = self.workers.get_mut(id) {
            worker.heard = true;
        }
    }

    /// The lease of a worker counts from now on.
    pub(crate) fn start_lease(&mut self, now: Timestamp, id: &WorkerId) {
        let ends = now.plus(self.config.lease).plus(self.config.lease_grace);
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        worker.last_seen = now;
        if let Some(old) = worker.lease_ends.replace(ends) {
            self.leases.remove(&(old, id.clone()));
        }
        self.leases.insert((ends, id.clone()));
    }

    /// Gives up what workers hold whose lease has ended.
    ///
    /// A head that was away cannot tell who was silent meanwhile: every lease starts anew then.
    pub(crate) fn end_leases(&mut self, now: Timestamp, step: &mut Step) {
        if mutated!(LeaseEndsWithStream) {
            let gone = self.workers.iter();
            let gone = gone.filter(|(_, w)| w.link == Link::Disconnected && !w.attempts.is_empty());
            let gone: Vec<WorkerId> = gone.map(|(id, _)| id.clone()).collect();
            self.leases.retain(|(_, id)| !gone.contains(id));
            gone.iter().for_each(|id| self.end_lease(now, id, step));
        }
        let first = self.leases.first().map(|(ends, _)| *ends);
        if mutated!(LeaseNeverEnds) {
            return;
        }
        let away = first.is_some_and(|ends| now.since(ends) > MISSED);
        if away && !mutated!(LeaseEndsWhileAway) {
            self.renew_leases(now);
        }
        while let Some((ends, id)) = self.leases.first().cloned() {
            if ends > now {
                return;
            }
            self.leases.pop_first();
            self.end_lease(now, &id, step);
        }
    }

    pub(crate) fn renew_leases(&mut self, now: Timestamp) {
        let ends = now.plus(self.config.lease).plus(self.config.lease_grace);
        let renewed = std::mem::take(&mut self.leases).into_iter();
        self.leases = renewed.map(|(_, id)| (ends, id)).collect();
        for (_, id) in &self.leases {
            let worker = self
                .workers
                .get_mut(id)
                .expect("leases are of known workers");
            worker.lease_ends = Some(ends);
        }
    }

    fn end_lease(&mut self, now: Timestamp, id: &WorkerId, step: &mut Step) {
        let worker = self
            .workers
            .get_mut(id)
            .expect("leases are of known workers");
        worker.lease_ends = None;
        match worker.link {
            // A stream without a sign of life: end it, so that the worker comes back on a new one.
            Link::Connected(connection) => step.messages.push(Message::Disconnect { connection }),
            Link::Disconnected | Link::Lost => {}
        }
        worker.link = Link::Lost;
        let silent = now.since(worker.last_seen).as_secs();
        let why = format!(
            "worker {} gave no sign of life for {silent} s",
            worker.row.info.name
        );
        let held: Vec<AttemptId> = worker.attempts.keys().copied().collect();
        let worker = self.workers.get(id);
        let ahead = worker.map_or_else(BTreeSet::new, |worker| self.ordered_ahead(worker));
        self.parks_may_move();
        self.touch(id);
        for attempt in held {
            let ahead = ahead.contains(&attempt);
            let why = match ahead {
                true => &format!("{why}; the task waited there for a slot"),
                false => &why,
            };
            self.lose(now, attempt, Loss { why, ahead }, step);
        }
    }
}
