//! Workers that will not come back, which a person has forgotten.
//!
//! One that comes back nevertheless is a new one to the head. Its reports go on where they were, since
//! it says at which it stands.

use orchestra_types::{Timestamp, WorkerId};

use crate::{
    Core, RequestId, Step,
    change::Change,
    message::{Message, RemoveRefused, Reply},
};

impl Core {
    pub(crate) fn on_remove_worker(
        &mut self,
        now: Timestamp,
        request: RequestId,
        id: &WorkerId,
        step: &mut Step,
    ) {
        // First: that a lease ended long ago says that the head was away, which counts for those of the
        // other workers too.
        self.end_leases(now, step);
        let reply = self.remove_worker(id, step);
        step.messages.push(Message::Reply { request, reply });
    }

    fn remove_worker(&mut self, id: &WorkerId, step: &mut Step) -> Reply {
        let Some(worker) = self.workers.get_mut(id) else {
            return Reply::NoWorker(id.clone());
        };
        if worker.is_connected() {
            return Reply::RemoveRefused(RemoveRefused::Connected(id.clone()));
        }
        if !worker.attempts.is_empty() && !mutated!(RemovedWithAttempts) {
            let attempts = worker.attempts.len();
            return Reply::RemoveRefused(RemoveRefused::Holds(id.clone(), attempts));
        }
        self.free.unlist(id, worker);
        self.accounts.release(&worker.row.info.runners);
        if let Some(ends) = worker.lease_ends {
            self.leases.remove(&(ends, id.clone()));
        }
        self.workers.remove(id);
        self.ahead.remove(id);
        self.touched.remove(id);
        self.parks_may_move();
        self.others_moved = true;
        if !mutated!(RemovalNotWritten) {
            step.changes.push(Change::ForgetWorker { id: id.clone() });
        }
        Reply::WorkerDone(id.clone())
    }
}
