//! A head that was asked to stop and waits for what runs: it takes tasks, and begins none.

use orchestra_types::{TaskStatus, Timestamp};

use super::time::{ago, counted};
use crate::json::fleet::Status;

/// How many tasks it waits for.
pub fn running(status: &Status) -> u64 {
    let of = |status_of: TaskStatus| status.tasks.get(status_of.as_str()).copied().unwrap_or(0);
    of(TaskStatus::Assigned) + of(TaskStatus::Running)
}

/// What to do about it.
pub const NEXT: &str =
    "`ctl stop --now` stops what runs and ends it at once; `ctl start` starts it again after that";

/// That it is stopping, since when, and when it ends; none where it is not.
pub fn words(status: &Status, now: Timestamp) -> Option<String> {
    let since = ago(status.stopping_since?.0, now);
    let running = running(status);
    let have = if running == 1 { "has" } else { "have" };
    Some(format!(
        "the head is stopping (asked to {since}): it begins no task, and ends when {} {have} ended",
        counted(running, "running task")
    ))
}

#[cfg(test)]
mod tests {
    use orchestra_proto::v1;

    use super::*;

    #[test]
    fn a_head_that_stops_says_since_when_and_what_it_waits_for() {
        let mut wire = v1::ClusterStatus {
            by_status: [("running".into(), 1), ("assigned".into(), 1)].into(),
            ..Default::default()
        };
        let now = Timestamp(100_000);
        assert_eq!(words(&Status::read(wire.clone()), now), None);
        wire.stopping_since_ms = Some(10_000);
        let said = words(&Status::read(wire), now).unwrap();
        let wanted = "the head is stopping (asked to 1m ago): it begins no task, and ends when \
                      2 running tasks have ended";
        assert_eq!(said, wanted);
    }
}
