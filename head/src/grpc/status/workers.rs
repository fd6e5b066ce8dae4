//! Why nothing came of what was asked of a worker.

use std::time::Duration;

use orchestra_core::{RemoveRefused, Reply};
use orchestra_types::WorkerId;
use tonic::Status;

use super::{Result, internal};
use crate::grpc::twins::Twin;

/// There is no such worker.
pub(in crate::grpc) fn no_worker(id: &WorkerId) -> Status {
    Status::not_found(format!(
        "there is no worker {id}; `ctl workers` lists all of them"
    ))
}

/// A worker has no session.
pub(in crate::grpc) fn worker_away(name: &str) -> Status {
    Status::failed_precondition(format!(
        "worker {name} is not connected; `ctl workers` shows since when"
    ))
}

/// A worker is asked already.
pub(in crate::grpc) fn worker_busy(name: &str) -> Status {
    Status::resource_exhausted(format!(
        "worker {name} is still at what it was asked before; try again later"
    ))
}

/// A worker does not know what it is asked for.
pub(in crate::grpc) fn worker_old(name: &str) -> Status {
    Status::failed_precondition(format!(
        "worker {name} has an older version, which cannot be asked for that; update it"
    ))
}

/// A worker could not do it.
pub(in crate::grpc) fn worker_failed(name: &str, why: &str) -> Status {
    Status::aborted(format!("worker {name}: {why}; its log has more"))
}

/// A worker's session ended before it answered.
pub(in crate::grpc) fn worker_left(name: &str) -> Status {
    Status::aborted(format!(
        "the connection to worker {name} ended before it answered; ask again"
    ))
}

/// A worker does not answer.
pub(in crate::grpc) fn worker_silent(name: &str, within: Duration) -> Status {
    Status::aborted(format!(
        "worker {name} did not answer within {} min; it may still be at it",
        within.as_secs() / 60
    ))
}

/// The answer to a change of one worker: its id, or why not.
pub(in crate::grpc) fn worker_done(reply: Reply) -> Result<WorkerId> {
    match reply {
        Reply::WorkerDone(id) => Ok(id),
        Reply::NoWorker(id) => Err(no_worker(&id)),
        _ => Err(internal("the engine answered another question")),
    }
}

/// A worker that stays listed.
pub(in crate::grpc) fn remove_refused(name: &str, why: &RemoveRefused) -> Status {
    Status::failed_precondition(match why {
        RemoveRefused::Connected(_) => {
            format!(
                "worker {name} is connected; stop `orchestra-worker` on its machine first, or shut it out with \
                 `ctl workers revoke`"
            )
        }
        RemoveRefused::Holds(_, attempts) => format!(
            "worker {name} may come back to what it runs (attempts: {attempts}); they are given up when its \
             lease is over, try again then"
        ),
    })
}

/// A worker's identity is in use by another installation.
pub(in crate::grpc) fn twin(twin: &Twin) -> Status {
    Status::already_exists(format!(
        "another worker uses this identity, on host {} and attached for {} s: this state directory is a copy of \
         its one; join again with a fresh directory, `orchestra-worker join --token … --state DIR`",
        twin.hostname,
        twin.attached_for.as_secs()
    ))
}
