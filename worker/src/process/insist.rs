//! What a worker does itself when a supervisor was told to end everything and does not: it is stopped (an agent
//! may have done that, as the same user), or it hangs.
//!
//! ```text
//! told ── 1 s ──► each second: end the processes, continue the supervisor ── … ──► end the supervisor too
//! ```
//!
//! To end the processes twice does no harm, so that comes soon. A supervisor that runs is ended late: it may have
//! to wait for a disk before it can say how its CLI ended.

use std::{path::PathBuf, time::Duration};

use orchestra_types::Exit;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{
    cage::{self, EMPTY_MAX, KillMethod},
    cgroup::Cgroup,
    files::{self, ExitRecord, Running},
    identity::Identity,
    supervisor::END_MAX,
};
use crate::blocking::blocking_unless_stopping;

/// How long a supervisor has to itself, and how often it is looked at then.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// In how many looks it is found stopped, and continued, before it is ended.
const STOPPED_MAX: u32 = 5;
/// How long one that runs may take.
const ANSWER_MAX: Duration = Duration::from_secs(120);
const _: () = assert!(ANSWER_MAX.as_secs() > END_MAX.as_secs() + 10);
/// How long one that was killed may take to be gone.
const GONE_MAX: Duration = EMPTY_MAX;
/// In how many looks in a row nothing is found below a process before nothing counts as left. In one look a
/// process may be missed that forks and ends.
const NONE_LOOKS: u32 = 3;

/// What was wrong with a supervisor that its worker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// It was stopped again and again.
    Stopped,
    /// It did not do what it was told for longer than all that may take.
    Hung,
}

/// What is to be done after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Wait,
    End(Silence),
    /// It was killed and is there all the same.
    Leave,
}

/// An order to end everything that was given.
#[derive(Debug)]
pub(super) struct Insistence {
    since: Instant,
    next: Instant,
    stopped: u32,
    ended: Option<(Silence, Instant)>,
}

impl Insistence {
    /// The order was given now.
    pub fn begin(now: Instant) -> Self {
        Self {
            since: now,
            next: now + LOOK_EVERY,
            stopped: 0,
            ended: None,
        }
    }

    /// When the next look is due.
    pub fn due(&self) -> Instant {
        self.next
    }

    /// Why the supervisor was ended, if it was.
    pub fn silence(&self) -> Option<Silence> {
        self.ended.map(|(silence, _)| silence)
    }

    /// Ends the processes and continues the supervisor, or ends it, when its time is over. False when even
    /// that was in vain.
    pub async fn look(&mut self, running: &Running) -> bool {
        self.next = Instant::now() + LOOK_EVERY;
        let of = running.clone();
        let stopped = blocking_unless_stopping(move || press(&of))
            .await
            .unwrap_or(false);
        match self.judge(Instant::now(), stopped) {
            Next::Wait => true,
            Next::Leave => false,
            Next::End(_) => {
                let of = running.clone();
                blocking_unless_stopping(move || end_supervisor(&of)).await;
                true
            }
        }
    }

    fn judge(&mut self, now: Instant, stopped: bool) -> Next {
        self.stopped += u32::from(stopped);
        if let Some((silence, at)) = self.ended {
            return match now.duration_since(at) >= GONE_MAX {
                true => Next::Leave,
                false => Next::End(silence),
            };
        }
        let silence = match self.stopped >= STOPPED_MAX {
            true => Silence::Stopped,
            false if now.duration_since(self.since) >= ANSWER_MAX => Silence::Hung,
            false => return Next::Wait,
        };
        self.ended = Some((silence, now));
        Next::End(silence)
    }
}

/// Ends what runs, and continues who should have done that; whether that one was stopped.
fn press(running: &Running) -> bool {
    kill_inside(running);
    running.supervisor.kill_below();
    if let Some(keeper) = &running.keeper {
        keeper.wake();
    }
    running.supervisor.wake()
}

fn kill_inside(running: &Running) {
    if let Some(cgroup) = &running.cgroup {
        Cgroup::at(PathBuf::from(cgroup)).kill();
    }
}

/// Ends everything below a supervisor, and then it: who is its orphan after that is nobody's, where it has no keeper.
fn end_supervisor(running: &Running) {
    kill_inside(running);
    end_below(&running.supervisor);
    // It may be gone by now.
    let _gone = running.supervisor.signal(Signal::KILL);
}

/// Ends all descendants of a process for which orphans come to it; those that were there to the last.
fn end_below(who: &Identity) -> Vec<i32> {
    let (mut left, mut none) = (Vec::new(), 0);
    cage::until(EMPTY_MAX, || {
        left = who.kill_below();
        none = if left.is_empty() { none + 1 } else { 0 };
        none >= NONE_LOOKS
    });
    left
}

/// Ends what a lost supervisor has left, and its keeper did not.
pub(super) fn bury(running: &Running) -> ExitRecord {
    // Somebody else's supervisor of that pid is not touched; our own may only hang.
    end_supervisor(running);
    let _gone = running.cli.as_ref().map(|cli| cli.signal(Signal::KILL));
    let (method, left) = match &running.cgroup {
        Some(path) => {
            let left = cage::clear_abandoned(PathBuf::from(path));
            (KillMethod::Cgroup, left)
        }
        None => (KillMethod::Subreaper, end_orphans(running)),
    };
    let supervisor = &running.supervisor;
    let gone = cage::until(GONE_MAX, || !supervisor.is_alive());
    let left = match gone {
        true => left,
        false => Some(
            left.into_iter()
                .flatten()
                .chain([supervisor.pid()])
                .collect(),
        ),
    };
    files::remove_dirs(&running.bounds);
    let mut record = ExitRecord::bare(Exit::Unknown, running.started_at, method);
    record.survivors = left.is_some();
    record.surviving = left.unwrap_or_default();
    record
}

/// Ends what came to the keeper of a supervisor that is gone, and then the keeper, which hangs. None where nothing
/// is left, else what is known of it.
fn end_orphans(running: &Running) -> Option<Vec<i32>> {
    let keeper = running.keeper.as_ref().filter(|keeper| keeper.is_alive());
    let Some(keeper) = keeper else {
        return end_marked(running);
    };
    let left = end_below(keeper);
    let is_all = keeper.is_alive();
    let _gone = keeper.signal(Signal::KILL);
    cage::until(GONE_MAX, || !keeper.is_alive());
    (!is_all || !left.is_empty()).then_some(left)
}

/// Ends what a supervisor has left whose keeper is gone too: orphans went to others, and are told from theirs by
/// the mark in their environment. None where none is left that has it: nothing lives through a restart of the
/// machine, and where everything was killed at once nothing is to be found. What an earlier version started has
/// no mark, and nobody knows what is left of it.
fn end_marked(running: &Running) -> Option<Vec<i32>> {
    let supervisor = &running.supervisor;
    if supervisor.is_of_another_boot() {
        return None;
    }
    if !running.marked {
        return Some(Vec::new());
    }
    let (mut left, mut none) = (Vec::new(), 0);
    cage::until(EMPTY_MAX, || {
        left = supervisor.kill_marked();
        none = if left.is_empty() { none + 1 } else { 0 };
        none >= NONE_LOOKS
    });
    (!left.is_empty()).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn who_runs_has_time_to_wait_for_a_disk_and_who_is_stopped_again_and_again_has_not() {
        let now = Instant::now();
        let mut runs = Insistence::begin(now);
        assert_eq!(runs.judge(now + END_MAX + 10 * S, false), Next::Wait);
        let hung = Next::End(Silence::Hung);
        assert_eq!(runs.judge(now + ANSWER_MAX, false), hung);
        let mut stopped = Insistence::begin(now);
        for look in 1..STOPPED_MAX {
            assert_eq!(stopped.judge(now + look * S, true), Next::Wait);
            assert_eq!(stopped.judge(now + look * S, false), Next::Wait);
        }
        assert_eq!(stopped.silence(), None);
        assert_eq!(
            stopped.judge(now + 9 * S, true),
            Next::End(Silence::Stopped)
        );
        assert_eq!(stopped.silence(), Some(Silence::Stopped));
    }

    #[test]
    fn who_cannot_be_killed_is_left_behind() {
        let now = Instant::now();
        let mut insistence = Insistence::begin(now);
        let hung = Next::End(Silence::Hung);
        assert_eq!(insistence.judge(now + ANSWER_MAX, false), hung);
        assert_eq!(insistence.judge(now + ANSWER_MAX + S, true), hung);
        let gone = now + ANSWER_MAX + GONE_MAX;
        assert_eq!(insistence.judge(gone, false), Next::Leave);
    }
}
