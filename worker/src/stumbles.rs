//! Runners that cannot begin anything here, one attempt after the other.
//!
//! A worker that fails everything at once is the one that is always free: it would be given every task
//! of the queue. So a runner whose attempts never begin, through this worker's doing, is not ready for a
//! while, and for twice as long each time that it goes on like that.
//!
//! A workspace that cannot be made may be its project's doing. Where agents of another project have run here,
//! what one project alone cannot get counts once, and lets no other one wait; else it gives the shortest rest.

use std::{collections::BTreeMap, time::Duration};

use orchestra_types::{
    Exit, Failure, FailureCode, Outcome, ProjectId, RunnerName,
    runner::{Readiness, RunnerInfo, SHELL},
};
use tokio::sync::watch;

use crate::clock;

/// So many attempts in a row.
const IN_A_ROW: u32 = 3;
/// The first rest of a runner; each later one is twice as long.
const REST: Duration = Duration::from_secs(30);
/// The longest rest of a runner.
const REST_MAX: Duration = Duration::from_secs(600);

/// How often in a row a runner could not begin, and until when it rests. Times are since the machine's
/// start.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stumbling {
    times: u32,
    /// Whose workspace could not be made the last time.
    project: Option<ProjectId>,
    until: Duration,
    why: Failure,
}

impl Stumbling {
    fn rests(&self, now: Duration) -> bool {
        self.until > now
    }

    fn reason(&self) -> String {
        let times = self.times;
        let rest = rest(times).as_secs();
        let why = &self.why;
        format!(
            "its last {times} attempts could not begin here, so that it rests for {rest} s; the last one: {why}"
        )
    }
}

/// How long a runner rests that could not begin so often in a row.
fn rest(times: u32) -> Duration {
    match times.checked_sub(IN_A_ROW) {
        Some(more) => REST.saturating_mul(1 << more.min(16)).min(REST_MAX),
        None => Duration::ZERO,
    }
}

/// The project that may be to blame.
fn blamed<'a>(project: Option<&'a ProjectId>, why: &Failure) -> Option<&'a ProjectId> {
    project.filter(|_| why.code == FailureCode::WorkspaceFailed)
}

/// Whether a program could not be started that the task brought: it says nothing of the next task's.
fn is_of_the_task(runner: &RunnerName, why: &Failure) -> bool {
    runner.as_str() == SHELL && why.code == FailureCode::SpawnFailed
}

/// All that stumble; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Stumbles {
    known: watch::Sender<BTreeMap<RunnerName, Stumbling>>,
    /// The latest two projects of which agents have run here: one of them is another than any that fails.
    ran: watch::Sender<Vec<ProjectId>>,
}

impl Stumbles {
    /// An attempt of a runner has ended, for a task of this project.
    pub fn ended(&self, runner: &RunnerName, project: Option<&ProjectId>, outcome: &Outcome) {
        match outcome.untried() {
            Some(why) if is_of_the_task(runner, why) => {}
            Some(why) => self.stumbled(clock::since_boot(), runner, project, why),
            None => self.walked(runner, project, &outcome.exit),
        }
    }

    /// What was on its way when a rest began does not make it longer.
    fn stumbled(
        &self,
        now: Duration,
        runner: &RunnerName,
        project: Option<&ProjectId>,
        why: &Failure,
    ) {
        let blamed = blamed(project, why);
        let others_run = self.ran.borrow().iter().any(|ran| Some(ran) != blamed);
        self.known.send_if_modified(|known| {
            let before = known.get(runner);
            let was_blamed = before.and_then(|before| before.project.as_ref());
            let is_alone = blamed.is_some() && blamed == was_blamed;
            if (is_alone && others_run) || before.is_some_and(|before| before.rests(now)) {
                return false;
            }
            let times = before.map_or(0, |before| before.times).saturating_add(1);
            let times = if is_alone { times.min(IN_A_ROW) } else { times };
            let stumbling = Stumbling {
                times,
                project: blamed.or(was_blamed).cloned(),
                until: now + rest(times),
                why: why.clone(),
            };
            let rests = stumbling.rests(now);
            if rests {
                tracing::warn!(%runner, reason = stumbling.reason(), "runner rests");
            }
            known.insert(runner.clone(), stumbling);
            rests
        });
    }

    /// An agent has run. One that was stopped before, or whose project is to blame, says nothing.
    fn walked(&self, runner: &RunnerName, project: Option<&ProjectId>, exit: &Exit) {
        match exit {
            Exit::NotStarted { .. } => {}
            Exit::Code(_) | Exit::Signal(_) | Exit::Stopped | Exit::Unknown => {
                if let Some(project) = project {
                    self.note_run(project);
                }
                self.known
                    .send_if_modified(|known| known.remove(runner).is_some());
            }
        }
    }

    fn note_run(&self, project: &ProjectId) {
        self.ran.send_modify(|ran| {
            ran.retain(|known| known != project);
            ran.insert(0, project.clone());
            ran.truncate(2);
        });
    }

    /// The programs or logins here are others than before.
    pub fn forget(&self) {
        self.known
            .send_if_modified(|known| !std::mem::take(known).is_empty());
    }

    /// For whoever describes the runners.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch {
            known: self.known.subscribe(),
        }
    }
}

/// Sees which runners rest.
#[derive(Debug)]
pub struct Watch {
    known: watch::Receiver<BTreeMap<RunnerName, Stumbling>>,
}

impl Watch {
    /// The runners as they are with this: who rests is not ready.
    #[must_use]
    pub fn limit(&mut self, runners: Vec<RunnerInfo>) -> Vec<RunnerInfo> {
        self.limit_at(clock::since_boot(), runners)
    }

    fn limit_at(&mut self, now: Duration, mut runners: Vec<RunnerInfo>) -> Vec<RunnerInfo> {
        let known = self.known.borrow_and_update();
        for runner in &mut runners {
            if runner.readiness == Readiness::Ready
                && let Some(stumbling) = known.get(&runner.name)
                && stumbling.rests(now)
            {
                let reason = stumbling.reason();
                runner.readiness = Readiness::NotReady { reason };
            }
        }
        runners
    }

    /// Waits until a runner rests, or one has rested; for ever once nobody says so any more.
    pub async fn changed(&mut self) {
        let now = clock::since_boot();
        let next = {
            let known = self.known.borrow();
            let rests = known.values().filter(|known| known.rests(now));
            rests.map(|known| known.until).min()
        };
        let rested = async {
            match next {
                Some(until) => clock::wait(until.saturating_sub(now)).await,
                None => std::future::pending().await,
            }
        };
        let stumbled = async {
            if self.known.changed().await.is_err() {
                std::future::pending().await
            }
        };
        tokio::select! {
            () = stumbled => {}
            () = rested => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use orchestra_types::Timestamp;

    use super::*;

    fn claude() -> RunnerName {
        "claude".parse().unwrap()
    }

    fn runner(name: &str) -> RunnerInfo {
        RunnerInfo::ready(name.parse().unwrap())
    }

    fn stumble(stumbles: &Stumbles, at: u64) {
        let why = Failure::new(FailureCode::SpawnFailed, "no interpreter");
        stumbles.stumbled(Duration::from_secs(at), &claude(), None, &why);
    }

    /// A workspace of this project could not be made.
    fn lacks_workspace(stumbles: &Stumbles, at: u64, project: Option<&str>) {
        let project = project.map(|id| id.parse::<ProjectId>().unwrap());
        let why = Failure::new(FailureCode::WorkspaceFailed, "no such commit");
        let at = Duration::from_secs(at);
        stumbles.stumbled(at, &claude(), project.as_ref(), &why);
    }

    /// Why the runner is not ready; empty when it is.
    fn rests(stumbles: &Stumbles, at: u64) -> String {
        let both = vec![runner("claude"), runner("codex")];
        let seen = stumbles.watch().limit_at(Duration::from_secs(at), both);
        assert_eq!(seen[1].readiness, Readiness::Ready, "another runner");
        match &seen[0].readiness {
            Readiness::NotReady { reason } => reason.clone(),
            Readiness::Ready => String::new(),
            Readiness::Missing => panic!("{seen:?}"),
        }
    }

    #[test]
    fn a_runner_rests_after_three_in_a_row_and_then_for_twice_as_long_each_time() {
        let stumbles = Stumbles::default();
        stumble(&stumbles, 100);
        stumble(&stumbles, 100);
        assert_eq!(rests(&stumbles, 100), "");
        stumble(&stumbles, 100);
        let why = rests(&stumbles, 129);
        assert!(
            why.contains("last 3 attempts")
                && why.contains("30 s")
                && why.contains("no interpreter"),
            "{why}"
        );
        assert_eq!(rests(&stumbles, 130), "", "it is tried again");
        stumble(&stumbles, 130);
        assert_ne!(rests(&stumbles, 189), "");
        assert_eq!(rests(&stumbles, 190), "");
        for again in 0..40 {
            stumble(&stumbles, 1000 + again * 600);
        }
        assert_ne!(rests(&stumbles, 1000 + 39 * 600 + 599), "");
        assert_eq!(rests(&stumbles, 1000 + 39 * 600 + 600), "");
    }

    #[test]
    fn what_was_on_its_way_when_a_rest_began_makes_it_no_longer() {
        let stumbles = Stumbles::default();
        (0..9).for_each(|_| stumble(&stumbles, 100));
        assert_eq!(rests(&stumbles, 130), "");
    }

    #[test]
    fn a_command_that_is_not_there_rests_nobody() {
        let ended = |runner: &str, code| {
            let stumbles = Stumbles::default();
            for _ in 0..9 {
                let reason = "not there".to_owned();
                let outcome = Outcome {
                    failure: Some(Failure::new(code, "not there")),
                    ..Outcome::bare(Exit::NotStarted { reason }, Timestamp(0))
                };
                stumbles.ended(&runner.parse().unwrap(), None, &outcome);
            }
            let seen = stumbles.watch().limit(vec![self::runner(runner)]);
            seen[0].readiness == Readiness::Ready
        };
        assert!(ended("shell", FailureCode::SpawnFailed));
        assert!(!ended("shell", FailureCode::WorkspaceFailed));
        assert!(!ended("claude", FailureCode::SpawnFailed));
    }

    #[test]
    fn what_one_project_alone_cannot_get_lets_no_other_one_wait() {
        let (one, other) = (Some("git-1a"), Some("git-2b"));
        let stumbles = Stumbles::default();
        for project in ["git-3c", "git-2b"] {
            let project: ProjectId = project.parse().unwrap();
            stumbles.walked(&claude(), Some(&project), &Exit::Code(0));
        }
        (0..9).for_each(|_| lacks_workspace(&stumbles, 100, one));
        assert_eq!(rests(&stumbles, 100), "");
        lacks_workspace(&stumbles, 100, other);
        assert_eq!(rests(&stumbles, 100), "");
        lacks_workspace(&stumbles, 100, one);
        assert!(rests(&stumbles, 129).contains("last 3 attempts"));
        // After the rest it is the same project's again that fails.
        (0..9).for_each(|_| lacks_workspace(&stumbles, 130, one));
        assert_eq!(rests(&stumbles, 130), "");

        // Where nothing else has run, nobody knows whose doing it is: the rest is short.
        let alone = Stumbles::default();
        for again in 0..9 {
            lacks_workspace(&alone, 100 + again * 30, one);
        }
        assert_ne!(rests(&alone, 100 + 8 * 30 + 29), "");
        assert_eq!(rests(&alone, 100 + 8 * 30 + 30), "");

        let of_none = Stumbles::default();
        (0..3).for_each(|_| lacks_workspace(&of_none, 100, None));
        assert_ne!(rests(&of_none, 129), "");
        // A runner that cannot be started is nobody's project's doing.
        let mixed = Stumbles::default();
        lacks_workspace(&mixed, 100, one);
        (0..2).for_each(|_| stumble(&mixed, 100));
        assert_ne!(rests(&mixed, 129), "");
    }

    #[test]
    fn an_agent_that_ran_ends_the_row() {
        let stumbles = Stumbles::default();
        (0..3).for_each(|_| stumble(&stumbles, 100));
        let stopped = Exit::NotStarted {
            reason: "cancelled".to_owned(),
        };
        stumbles.walked(&claude(), None, &stopped);
        assert_ne!(rests(&stumbles, 129), "");
        stumbles.walked(&claude(), None, &Exit::Code(1));
        assert_eq!(rests(&stumbles, 129), "");
        stumble(&stumbles, 130);
        assert_eq!(rests(&stumbles, 130), "");
    }

    #[test]
    fn other_programs_or_logins_end_a_rest() {
        let stumbles = Stumbles::default();
        (0..3).for_each(|_| stumble(&stumbles, 100));
        stumbles.forget();
        assert_eq!(rests(&stumbles, 101), "");
    }

    #[tokio::test]
    async fn who_describes_the_runners_hears_of_a_rest() {
        let stumbles = Stumbles::default();
        let mut watch = stumbles.watch();
        let _ = watch.limit(vec![]);
        let now = clock::since_boot().as_secs();
        (0..3).for_each(|_| stumble(&stumbles, now));
        watch.changed().await;
        let seen = watch.limit(vec![runner("claude")]);
        assert!(matches!(seen[0].readiness, Readiness::NotReady { .. }));
    }
}
