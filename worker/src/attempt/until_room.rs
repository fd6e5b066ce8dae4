//! Small writes of an attempt that wait while the disk is full.

use orchestra_types::AttemptId;
use tokio::{sync::watch, time::sleep};

use super::{machine::StopReason, run::Error};
use crate::room::{self, Full};

/// Writes a little, again and again as long as the disk is full. As with the journal, it is done at
/// once: a thread for it would cost several times what it takes.
pub(super) async fn with_room<T, E: Full>(
    attempt: AttemptId,
    work: impl Fn() -> Result<T, E>,
) -> Result<T, E> {
    let mut told = false;
    loop {
        match work() {
            Err(error) if error.is_full() => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%attempt, "the disk is full; the attempt waits for room");
                }
                sleep(room::RETRY_AFTER).await;
            }
            done => return done,
        }
    }
}

/// The same for an attempt of which nothing runs yet: one that is to stop is not held by a full disk.
pub(super) async fn with_room_unless_stopped<T>(
    attempt: AttemptId,
    stop: watch::Receiver<Option<StopReason>>,
    work: impl Fn() -> Result<T, Error>,
) -> Result<T, Error> {
    or_given_back(stop, with_room(attempt, work)).await
}

/// Does work of an attempt of which nothing runs yet, and that may wait for room.
pub(super) async fn or_given_back<T>(
    mut stop: watch::Receiver<Option<StopReason>>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let stopped = async { stop.wait_for(Option::is_some).await.ok().and_then(|r| *r) };
    tokio::select! {
        biased;
        // First, so that a stop changes nothing where there is room.
        done = work => done,
        reason = stopped => Err(match reason {
            // Without a fleet there is nobody to work for.
            Some(StopReason::Shutdown | StopReason::Revoked) | None => Error::Left,
            Some(StopReason::Groundless) => Error::Groundless,
            // What it came to cannot be written down; that it was given back can.
            Some(
                StopReason::Cancelled
                | StopReason::Budget
                | StopReason::Timeout
                | StopReason::Stalled
                | StopReason::Lost,
            ) => Error::NoRoom,
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use orchestra_types::TaskId;

    use super::{super::record, *};

    const ATTEMPT: AttemptId = AttemptId {
        task: TaskId(1),
        number: 1,
    };

    fn full() -> Error {
        Error::Record(record::Error::File {
            doing: "write",
            path: "attempt.json".into(),
            source: std::io::ErrorKind::StorageFull.into(),
        })
    }

    #[tokio::test]
    async fn what_waits_for_room_is_written_once_there_is_some() {
        let (_stop, wanted) = watch::channel(None);
        let tries = Cell::new(0);
        let written = with_room_unless_stopped(ATTEMPT, wanted, || {
            tries.set(tries.get() + 1);
            if tries.get() < 2 { Err(full()) } else { Ok(7) }
        });
        assert_eq!(written.await.unwrap(), 7);
        assert_eq!(tries.get(), 2);
    }

    #[tokio::test]
    async fn a_stop_is_not_held_by_a_full_disk_and_changes_nothing_where_there_is_room() {
        let (_stop, wanted) = watch::channel(Some(StopReason::Cancelled));
        let held = with_room_unless_stopped(ATTEMPT, wanted.clone(), || Err::<(), _>(full()));
        assert!(matches!(held.await, Err(Error::NoRoom)));
        let free = with_room_unless_stopped(ATTEMPT, wanted, || Ok(7));
        assert_eq!(free.await.unwrap(), 7);
        let (_stop, wanted) = watch::channel(Some(StopReason::Shutdown));
        let left = with_room_unless_stopped(ATTEMPT, wanted, || Err::<(), _>(full()));
        assert!(matches!(left.await, Err(Error::Left)));
    }
}
