//! Workers that are given nothing new, because a person wants it.
//!
//! The wish is durable and stays over restarts of head and worker. What a worker has, it ends: a
//! cordon takes nothing away.

use orchestra_types::WorkerId;

use crate::{
    Core, RequestId, Step,
    change::Change,
    message::{Message, Reply},
    row::Availability,
    view::Link,
};

impl Core {
    pub(crate) fn on_availability(
        &mut self,
        request: RequestId,
        id: &WorkerId,
        availability: Availability,
        step: &mut Step,
    ) {
        let reply = self.set_availability(id, availability, step);
        step.messages.push(Message::Reply { request, reply });
    }

    fn set_availability(
        &mut self,
        id: &WorkerId,
        availability: Availability,
        step: &mut Step,
    ) -> Reply {
        let Some(worker) = self.workers.get_mut(id) else {
            return Reply::NoWorker(id.clone());
        };
        if worker.row.availability != availability {
            worker.row.availability = availability;
            step.changes
                .push(Change::Worker(Box::new(worker.row.clone())));
            match worker.link {
                Link::Connected(connection) => step.messages.push(Message::Availability {
                    connection,
                    availability,
                }),
                Link::Disconnected | Link::Lost => {}
            }
            self.others_moved = true;
            self.touch(id);
        }
        Reply::WorkerDone(id.clone())
    }
}
