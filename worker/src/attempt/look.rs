//! Looks at what a running agent has changed so far, now and then, beside it.

use std::time::Duration;

use orchestra_types::{AttemptId, Manifest};
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{collect::Job, run::Attempt};
use crate::{blocking::blocking, clock, interim::Interims};

/// The shortest and the longest time from one look to the next.
const WAIT_MIN: Duration = Duration::from_secs(1);
const WAIT_MAX: Duration = Duration::from_secs(16);
/// A wait is at least so many times as long as the look before it: looks take less than a twentieth
/// of one processor, however large the tree is.
const REST: u32 = 20;

/// The looks at one agent.
pub(super) struct Looks {
    stop: oneshot::Sender<()>,
    task: JoinSet<()>,
}

impl Looks {
    /// Ends them, with the one that is under way.
    pub async fn end(mut self) {
        drop(self.stop);
        if let Some(Err(error)) = self.task.join_next().await {
            tracing::error!(%error, "looking at what an agent has changed failed");
        }
    }
}

impl Attempt {
    /// Begins to look. The looks end with what is given back, too.
    pub(super) fn look_beside(&self) -> Looks {
        let (stop, stopped) = oneshot::channel();
        let looker = Looker {
            attempt: self.id,
            job: self.job(),
            interims: self.shared.interims.clone(),
            newest: None,
        };
        let mut task = JoinSet::new();
        task.spawn(looker.run(stopped));
        Looks { stop, task }
    }
}

struct Looker {
    attempt: AttemptId,
    job: Job,
    interims: Interims,
    newest: Option<Manifest>,
}

impl Looker {
    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut wait = WAIT_MIN;
        loop {
            tokio::select! {
                biased;
                _ = &mut stopped => return,
                () = sleep(wait) => {}
            }
            let began = Instant::now();
            let changed = self.look().await;
            wait = next(wait, changed, began.elapsed());
        }
    }

    /// Looks once; whether there was something new.
    async fn look(&mut self) -> bool {
        let (job, at) = (self.job.clone(), clock::now());
        match blocking(move || job.look()).await {
            Ok(manifest) if self.newest.as_ref() == Some(&manifest) => false,
            Ok(manifest) => {
                self.interims.note(self.attempt, manifest.clone(), at);
                self.newest = Some(manifest);
                true
            }
            Err(failure) => {
                // The agent works on it; the result is gathered when it has ended.
                tracing::debug!(attempt = %self.attempt, %failure, "no interim list of files");
                false
            }
        }
    }
}

/// How long to wait after a look: soon again when something changed, later and later when not.
fn next(waited: Duration, changed: bool, took: Duration) -> Duration {
    let wait = match changed {
        true => WAIT_MIN,
        false => (waited * 2).min(WAIT_MAX),
    };
    wait.max(took * REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_are_seldom_where_nothing_changes_and_where_they_take_long() {
        let quick = Duration::from_millis(10);
        let waits = std::iter::successors(Some(WAIT_MIN), |wait| Some(next(*wait, false, quick)));
        let waits: Vec<u64> = waits.take(7).map(|wait| wait.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 16, 16]);
        assert_eq!(next(WAIT_MAX, true, quick), WAIT_MIN);
        let slow = Duration::from_secs(5);
        assert_eq!(next(WAIT_MIN, true, slow), Duration::from_secs(100));
    }
}
