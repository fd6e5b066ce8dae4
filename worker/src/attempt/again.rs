//! Gathers a result until it is whole. On a full disk that is done for one attempt after another, and what was
//! half gathered is taken back first: side by side each would hold the room that one of them needs.

use std::{future::pending, mem, sync::Arc, time::Duration};

use orchestra_types::FailureCode;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::sleep,
};

use super::{
    collect::Collected,
    machine::StopReason,
    run::{Attempt, Error, chain},
};
use crate::{blocking::blocking, clock, disk, room};

/// For how long it is tried again, once at least, where the disk was found full and has room by now, or another
/// one than is looked at is full.
const FOUND_FULL_FOR: Duration = Duration::from_secs(60);
/// The same where nothing says why it failed: git does not always say that a disk was full.
const UNCLEAR_FOR: Duration = Duration::from_secs(2);
/// How much more room is worth another try: 64 KiB.
const MORE_BYTES: u64 = 64 * 1024;
/// How often it is looked whether there is more before it is tried again in any case: what a quota leaves is not seen.
const LOOKS_MAX: u32 = 20;

/// What came of gathering a result once.
enum Tried {
    Done(Result<Collected, Error>),
    /// It is to be done again, for that reason. What it had made is gone.
    Failed {
        collected: Result<Collected, Error>,
        again: Again,
        /// How many bytes it had for all that it made: it needs more.
        had: u64,
    },
}

/// That it may gather; alone for as long as it has this.
#[derive(Debug)]
enum Turn {
    BesideOthers,
    Alone(#[expect(dead_code, reason = "it ends the turn when it goes")] OwnedSemaphorePermit),
}

/// Why a result is to be gathered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// The disk is full: until it has room.
    LacksRoom,
    /// It has room: for so long.
    For(Duration),
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    WaitForRoom,
    /// It is told, once, and tried again.
    Tell,
    Wait,
    GiveUp,
}

impl Attempt {
    /// What the agent has done, as files to be sent. What a full disk does not take is not given up: the work is
    /// only here.
    pub(super) async fn gather(&mut self, text: &str) -> Result<Collected, Error> {
        let (mut reclaimed, mut has_failed, mut waited) = (false, false, false);
        let mut failing_since = None;
        let collected = loop {
            let asked = clock::since_boot();
            let Some(turn) = self.turn(has_failed).await else {
                let why = "the disk had no room to gather results side by side, and the task was cancelled while \
                           this one waited for others";
                match self.leave_ungathered(text, why).await {
                    Some(left) => break Ok(left),
                    None => continue,
                }
            };
            // To wait for others is no part of the time for which it is tried.
            let others = clock::since_boot().saturating_sub(asked);
            failing_since = failing_since.map(|since: Duration| since.saturating_add(others));
            let tried = self.try_to_gather(text).await;
            drop(turn);
            let (collected, again, had) = match tried {
                Tried::Done(collected) => break collected,
                Tried::Failed {
                    collected,
                    again,
                    had,
                } => (collected, again, had),
            };
            has_failed = true;
            if again == Again::LacksRoom && !mem::replace(&mut reclaimed, true) {
                self.reclaim().await?;
                continue;
            }
            match next(again, &mut failing_since, clock::since_boot()) {
                Next::WaitForRoom if waited && self.is_cancelled() => {
                    let why = "the disk had no room for the result, and the task was cancelled";
                    if let Some(left) = self.leave_ungathered(text, why).await {
                        break Ok(left);
                    }
                }
                Next::WaitForRoom => {
                    self.until_there_is_more(had).await;
                    waited = true;
                    continue;
                }
                Next::Tell => {
                    let said = said(&collected);
                    tracing::warn!(attempt = %self.id, said, "the result is gathered again");
                    self.tell("collecting", said)?;
                }
                Next::Wait => {}
                Next::GiveUp => break collected,
            }
            sleep(room::RETRY_AFTER).await;
        };
        self.waits_no_longer();
        collected
    }

    /// Waits until no other attempt gathers, where room is short. While there is enough, all gather at once.
    /// None where it was cancelled before it had its turn.
    async fn turn(&self, has_failed: bool) -> Option<Turn> {
        if !has_failed && !self.lacks_room() {
            return Some(Turn::BesideOthers);
        }
        let as_for_room = room::RETRY_AFTER * LOOKS_MAX;
        turn(
            &self.shared.gathering,
            self.control.stop.clone(),
            as_for_room,
        )
        .await
    }

    async fn try_to_gather(&self, text: &str) -> Tried {
        let (job, text, shared) = (self.job(), text.to_owned(), self.shared.clone());
        let id = self.id;
        blocking(move || {
            let collected = job.collect(&text);
            // Before it is taken back what fills the disk.
            let room = shared.look_for_room();
            let Some(again) = why_again(&collected, room.lacking().is_some()) else {
                return Tried::Done(collected);
            };
            let made = job.discard().unwrap_or_else(|error| {
                tracing::warn!(attempt = %id, error = chain(&error), "what was half gathered takes room");
                0
            });
            Tried::Failed {
                collected,
                again,
                had: room.free.saturating_add(made),
            }
        })
        .await
    }

    fn is_cancelled(&self) -> bool {
        *self.control.stop.borrow() == Some(StopReason::Cancelled)
    }

    /// Leaves the agent's files to a person: nobody waits for the result of a task that was cancelled. Nothing, where
    /// there is no room to write down even that.
    async fn leave_ungathered(&self, text: &str, why: &'static str) -> Option<Collected> {
        let (job, text) = (self.job(), text.to_owned());
        match blocking(move || job.leave(&text, why)).await {
            Ok(left) => Some(left),
            Err(error) => {
                tracing::warn!(attempt = %self.id, error = chain(&error), "it waits for room, though it is cancelled");
                None
            }
        }
    }

    /// Waits until there is more room than it has `had`, a while at most. Whoever reads why the worker takes nothing
    /// new reads how much is wanted.
    async fn until_there_is_more(&self, had: u64) {
        self.waits_for_room(had);
        let enough = had.saturating_add(MORE_BYTES);
        for _ in 0..LOOKS_MAX {
            sleep(room::RETRY_AFTER).await;
            if self.shared.look_for_room().free >= enough {
                return;
            }
        }
    }
}

/// Waits for the turn. A cancel ends that, so long after it: the turn may come at once.
async fn turn(
    turns: &Arc<Semaphore>,
    mut stop: watch::Receiver<Option<StopReason>>,
    grace: Duration,
) -> Option<Turn> {
    let cancelled = async {
        let is_cancelled = |reason: &Option<StopReason>| *reason == Some(StopReason::Cancelled);
        if stop.wait_for(is_cancelled).await.is_err() {
            // Nobody is there who could.
            pending::<()>().await;
        }
        sleep(grace).await;
    };
    tokio::select! {
        biased;
        turn = turns.clone().acquire_owned() => {
            Some(Turn::Alone(turn.expect("the semaphore is never closed")))
        }
        () = cancelled => None,
    }
}

fn why_again(collected: &Result<Collected, Error>, lacks_room: bool) -> Option<Again> {
    let found_full = match collected {
        Ok((_, None, _)) => return None,
        Ok((_, Some(failure), _)) => failure.code == FailureCode::DiskFull,
        Err(error) => disk::is_full(error),
    };
    match (lacks_room, found_full) {
        (true, _) => Some(Again::LacksRoom),
        (false, true) => Some(Again::For(FOUND_FULL_FOR)),
        (false, false) => Some(Again::For(UNCLEAR_FOR)),
    }
}

/// `since` is when it failed first although there was room; however long it waited for room before does not count.
fn next(again: Again, since: &mut Option<Duration>, now: Duration) -> Next {
    match (again, *since) {
        (Again::LacksRoom, _) => {
            *since = None;
            Next::WaitForRoom
        }
        (Again::For(_), None) => {
            *since = Some(now);
            Next::Tell
        }
        (Again::For(limit), Some(at)) if now.saturating_sub(at) < limit => Next::Wait,
        (Again::For(_), Some(_)) => Next::GiveUp,
    }
}

/// Why it failed, in words.
fn said(collected: &Result<Collected, Error>) -> String {
    let why = match collected {
        Ok((_, failure, _)) => failure
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        Err(error) => chain(error),
    };
    format!("gathering the changed files failed, and is tried again: {why}")
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use futures::poll;

    use super::{
        super::collect::{Changes, failed, failed_by, not_written},
        *,
    };

    #[tokio::test]
    async fn a_cancel_ends_the_waiting_behind_another_one_that_gathers() {
        let turns = Arc::new(Semaphore::new(1));
        let (tell, stop) = watch::channel(None);
        let wait = || turn(&turns, stop.clone(), Duration::ZERO);
        let first = wait().await;
        assert!(matches!(first, Some(Turn::Alone(_))));
        let mut second = pin!(wait());
        for _ in 0..100 {
            assert!(poll!(&mut second).is_pending());
        }
        tell.send_replace(Some(StopReason::Cancelled));
        assert!(second.await.is_none());
        drop(first);
        assert!(wait().await.is_some(), "there is nobody to wait for");
    }

    #[test]
    fn however_long_the_disk_was_full_what_found_it_so_is_tried_again() {
        let (mut since, at) = (None, Duration::from_secs);
        let found_full = Again::For(FOUND_FULL_FOR);
        assert_eq!(next(found_full, &mut since, at(0)), Next::Tell);
        assert_eq!(next(found_full, &mut since, at(59)), Next::Wait);
        assert_eq!(next(found_full, &mut since, at(60)), Next::GiveUp);
        assert_eq!(
            next(Again::LacksRoom, &mut since, at(61)),
            Next::WaitForRoom
        );
        assert_eq!(
            next(Again::LacksRoom, &mut since, at(9000)),
            Next::WaitForRoom
        );
        assert_eq!(next(found_full, &mut since, at(9001)), Next::Tell);
        assert_eq!(next(found_full, &mut since, at(9060)), Next::Wait);
    }

    #[test]
    fn what_found_the_disk_full_is_done_again_also_when_there_is_room_by_now() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let gave = |failure| Ok((Changes::default(), failure, Vec::new()));
        let erred = || Err::<_, Error>(not_written("/somewhere".into())(full()));
        let many = Some(Again::For(FOUND_FULL_FOR));
        assert_eq!(why_again(&erred(), false), many);
        assert_eq!(why_again(&erred(), true), Some(Again::LacksRoom));
        let found_full = gave(Some(failed_by(&full())));
        assert_eq!(why_again(&found_full, false), many);
        let other = gave(Some(failed("a link".to_owned())));
        let few = Some(Again::For(UNCLEAR_FOR));
        assert_eq!(why_again(&other, false), few);
        assert_eq!(why_again(&other, true), Some(Again::LacksRoom));
        assert_eq!(why_again(&gave(None), true), None);
    }
}
