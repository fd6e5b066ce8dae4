//! The ports of one attempt: given before its CLI is started, its own until that has ended.

use std::fs;

use orchestra_config::durable;
use orchestra_types::{Failure, FailureCode};
use serde::{Deserialize, Serialize};

use super::{
    files::Files,
    record,
    run::{Attempt, Error},
    until_room::with_room_unless_stopped,
};
use crate::ports::{Lease, Ports};

/// The ports of an attempt that an earlier worker process has given.
///
/// IMPORTANT: for all attempts, before any attempt is begun: others must not get them.
pub fn keep(files: &Files, ports: &Ports) -> Option<Lease> {
    // Without them it has none; what does not read was never given to a CLI.
    let record = fs::read(files.record()).ok()?;
    let given = durable::last_line(&record, |line| {
        let given: Given = serde_json::from_slice(line).ok()?;
        Some(given.ports)
    });
    let earlier = || serde_json::from_slice(&fs::read(files.ports()).ok()?).ok();
    Some(ports.keep(given.or_else(earlier)?))
}

/// A line of its record.
#[derive(Serialize, Deserialize)]
struct Given {
    ports: Vec<u16>,
}

impl Attempt {
    /// Makes sure that it has the ports that it must have, and has written them down.
    pub async fn take_ports(&mut self) -> Result<Result<(), Failure>, Error> {
        if self.ports.is_some() {
            return Ok(Ok(()));
        }
        let wanted = self.order.spec.ports;
        let count = wanted.unwrap_or(1) as usize;
        let Some(lease) = self.shared.ports.take(count) else {
            return Ok(match wanted {
                None => Ok(()),
                Some(count) => Err(none_left(count)),
            });
        };
        let ports = lease.ports().to_vec();
        let given = Given { ports };
        let write = || Ok(record::add(&self.files, &given)?);
        with_room_unless_stopped(self.id, self.control.stop.clone(), write).await?;
        if wanted.is_some() {
            let list: Vec<_> = given.ports.iter().map(ToString::to_string).collect();
            let word = if list.len() == 1 { "port" } else { "ports" };
            self.tell("ports", format!("{word} {} for it alone", list.join(", ")))?;
        }
        self.ports = Some(lease);
        Ok(Ok(()))
    }
}

fn none_left(count: u32) -> Failure {
    let ports = if count == 1 { "port" } else { "ports" };
    let why = format!(
        "this worker has no {count} {ports} left to give: widen `worker.ports` in its configuration, or have fewer \
         attempts at once (`worker.slots`) or fewer `ports` of each"
    );
    Failure::new(FailureCode::WorkspaceFailed, why)
}
