//! The wall clock is set forward or back while the head runs: what is a moment of the calendar follows
//! it, and what is an interval does not.

use std::{collections::BTreeMap, time::Duration};

use orchestra_types::{
    FailureCode, OnDependencyFailure, Priority, Recurrence, TaskId, TaskStatus, Timestamp,
};

use super::{
    bench::{Bench, attempt, finished, starts, task, worker},
    budgets::{budget, end, in_project},
};
use crate::{
    Config, ConnectionId, Input, Message, NewSchedule, NewTask, ReportBody, RequestId, Step,
    StopReason,
};

const S: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR_MS: i64 = 3_600_000;

/// A worker with room, that is heard of for ever.
fn bench() -> Bench {
    with(Config::default())
}

fn with(config: Config) -> Bench {
    let mut bench = Bench::with(Config {
        lease: 1000 * DAY,
        ..config
    });
    // In the middle of a day.
    bench.now = Timestamp(0).plus(20_000 * DAY + 12 * HOUR);
    let _ = bench.attach(&worker("a", 4, &[("claude", 4)]), 1, &[]);
    bench
}

impl Bench {
    fn set_clock(&mut self, ahead_ms: i64) -> Step {
        self.give(Input::ClockSet { ahead_ms })
    }

    fn not_before(&self, id: TaskId) -> Timestamp {
        match self.core.task(id).unwrap().row.state {
            crate::State::Queued { not_before, .. } => not_before,
            ref other => panic!("not queued: {other:?}"),
        }
    }

    fn runs(&self) -> u64 {
        self.core.schedules().map(|row| row.runs).sum()
    }

    fn recur(&mut self, every: Recurrence, first: Option<Timestamp>) {
        let mut spec = *task().spec;
        spec.project = None;
        let _ = self.give(Input::Schedule {
            request: RequestId(1),
            key: "key".into(),
            schedules: vec![NewSchedule { spec, every, first }],
        });
    }

    /// Every run ends at once, for so long.
    fn end_runs(&mut self, duration: Duration) {
        let end = self.now.plus(duration);
        while self.now < end {
            let _ = self.later(MINUTE.min(end.since(self.now)));
            let last = self.core.schedules().find_map(|row| row.last);
            let _ = last.map(|task| {
                self.give(Input::Cancel {
                    request: RequestId(1),
                    task,
                })
            });
            let _ = last.map(|task| self.finish("a", 1, attempt(task, 1), None));
            let _ = last.map(|task| self.close(attempt(task, 1)));
        }
    }
}

fn at(moment: Timestamp) -> NewTask {
    let mut new = task();
    new.spec.start_at = Some(moment);
    new
}

fn stops(step: &Step) -> Vec<StopReason> {
    let stop = |message: &Message| match message {
        Message::Stop { reason, .. } => Some(*reason),
        _ => None,
    };
    step.messages.iter().filter_map(stop).collect()
}

#[test]
fn a_task_starts_when_the_wall_clock_shows_its_time_and_it_was_set_forward() {
    let mut bench = bench();
    let wall = bench.now.plus(HOUR);
    let _ = bench.set_clock(HOUR_MS);
    let id = bench.add(at(wall.plus(3 * S)));
    assert_eq!(bench.core.next_deadline(), Some(bench.now.plus(3 * S)));
    assert_eq!(starts(&bench.later(2 * S)), []);
    assert_eq!(starts(&bench.later(S)).len(), 1);
    assert_eq!(bench.status(id), TaskStatus::Assigned);
    let later = bench.add(at(bench.now.plus(3 * HOUR)));
    assert_eq!(bench.status(later), TaskStatus::Queued);
    assert_eq!(starts(&bench.set_clock(3 * HOUR_MS)).len(), 1);
}

#[test]
fn a_task_does_not_start_before_its_time_when_the_wall_clock_was_set_back() {
    let mut bench = bench();
    let moment = bench.now.plus(MINUTE);
    let id = bench.add(at(moment));
    let _ = bench.set_clock(-HOUR_MS);
    assert_eq!(
        bench.core.next_deadline(),
        Some(bench.now.plus(HOUR + MINUTE))
    );
    assert_eq!(starts(&bench.later(HOUR)), []);
    assert_eq!(bench.not_before(id), moment);
    assert_eq!(starts(&bench.later(MINUTE)).len(), 1);
}

#[test]
fn a_time_that_comes_again_is_waited_for_again() {
    let mut bench = Bench::new();
    let id = bench.add(at(bench.now.plus(MINUTE)));
    let _ = bench.later(2 * MINUTE);
    let _ = bench.set_clock(-HOUR_MS);
    let _ = bench.attach(&worker("a", 1, &[("claude", 1)]), 1, &[]);
    assert_eq!(bench.status(id), TaskStatus::Queued);
    let at_once = bench.add(task());
    assert_eq!(bench.status(at_once), TaskStatus::Assigned);
}

#[test]
fn what_may_start_at_once_does_so_after_the_wall_clock_was_set_back_also_after_a_restart() {
    for restarts in [false, true] {
        let mut bench = Bench::new();
        let id = bench.add(task());
        let step = bench.set_clock(-HOUR_MS);
        assert_eq!(
            step.changes.len(),
            1,
            "its moment has come by this clock too"
        );
        if restarts {
            bench.now = Timestamp(bench.now.0 - HOUR.as_millis() as u64);
            let _ = bench.restart();
        }
        let _ = bench.give(Input::Prioritise {
            request: RequestId(1),
            task: id,
            priority: Priority::High,
        });
        let _ = bench.attach(&worker("a", 1, &[("claude", 1)]), 1, &[]);
        assert_eq!(bench.status(id), TaskStatus::Assigned, "{restarts}");
    }
}

#[test]
fn the_delay_of_a_retry_is_no_longer_when_the_wall_clock_is_set_back() {
    let mut bench = bench();
    let id = bench.add(task().retries(3));
    let _ = bench.finish("a", 1, attempt(id, 1), Some(FailureCode::AgentFailed));
    let _ = bench.close(attempt(id, 1));
    let delay = bench.not_before(id).since(bench.now);
    assert!(delay > Duration::ZERO);
    let _ = bench.set_clock(-HOUR_MS);
    let first = bench.core.next_deadline();
    assert_eq!(first, Some(bench.now.plus(delay)));
    assert_eq!(starts(&bench.later(delay)).len(), 1);
}

/// The head is started anew, by a clock that is so much behind the one of before.
fn start_behind(bench: &mut Bench, by: Duration) -> Step {
    bench.now = Timestamp(bench.now.0 - orchestra_types::time::millis(by));
    let _ = bench.restart();
    bench.give(Input::ClockTaken)
}

#[test]
fn the_delay_of_a_retry_does_not_last_as_long_as_the_clock_was_ahead_before_a_start() {
    let mut bench = bench();
    let id = bench.add(task().retries(3));
    let moment = bench.now.plus(3 * DAY);
    let later = bench.add(at(moment));
    let _ = bench.finish("a", 1, attempt(id, 1), Some(FailureCode::AgentFailed));
    let _ = bench.close(attempt(id, 1));
    let delay = bench.not_before(id).since(bench.now);
    let kept = |bench: &mut Bench| {
        let _ = bench.restart();
        bench.give(Input::ClockTaken)
    };
    assert_eq!(kept(&mut bench), Step::default(), "no clock was ahead");
    let _ = start_behind(&mut bench, 40 * DAY);
    let wait = bench.not_before(id).since(bench.now);
    assert!(
        wait >= delay && wait <= 2 * delay,
        "{wait:?}, not {delay:?}"
    );
    assert_eq!(bench.not_before(later), moment, "a time to start at stays");
    assert_eq!(kept(&mut bench), Step::default(), "it is kept");
}

#[test]
fn an_account_is_not_parked_for_as_long_as_the_clock_was_ahead_before_a_start() {
    let (mut bench, _) = parked(None);
    let until = |bench: &Bench| bench.core.parked_accounts()[0].parked_until.unwrap();
    let wait = until(&bench).since(bench.now);
    let _ = start_behind(&mut bench, 40 * DAY);
    assert_eq!(until(&bench), bench.now.plus(wait));
    let written = bench.give(Input::ClockTaken);
    assert_eq!(written, Step::default());
}

#[test]
fn what_is_kept_is_by_the_wall_clock() {
    let mut bench = Bench::new();
    let moment = bench.now.plus(2 * HOUR);
    let id = bench.add(at(moment));
    let _ = bench.set_clock(HOUR_MS);
    let dependent = bench.add(task().after(id).or(OnDependencyFailure::Run));
    bench.now = bench.now.plus(HOUR);
    let _ = bench.restart();
    assert_eq!(bench.core.next_deadline(), Some(moment));
    assert_eq!(bench.status(dependent), TaskStatus::Blocked);
}

#[test]
fn runs_come_when_the_wall_clock_shows_their_time() {
    let mut bench = bench();
    bench.recur(Recurrence::Every(3 * HOUR), None);
    bench.end_runs(MINUTE);
    assert_eq!(bench.runs(), 1);
    let _ = bench.set_clock(3 * HOUR_MS);
    assert_eq!(bench.runs(), 2);
}

#[test]
fn runs_go_on_after_the_wall_clock_was_set_back_and_a_little_step_repeats_none() {
    for (every, back, within) in [
        (Recurrence::Every(10 * MINUTE), 30 * DAY, 20 * MINUTE),
        (
            Recurrence::Daily {
                minute: 12 * 60 + 1,
                ahead: 0,
            },
            30 * DAY,
            2 * DAY,
        ),
    ] {
        let mut bench = bench();
        bench.recur(every, None);
        bench.end_runs(2 * MINUTE);
        assert_eq!(bench.runs(), 1, "{every}");
        let back = i64::try_from(back.as_millis()).unwrap();
        let _ = bench.set_clock(-60_000);
        bench.end_runs(2 * MINUTE);
        assert_eq!(bench.runs(), 1, "{every}: the same moment again");
        let _ = bench.set_clock(-back);
        bench.end_runs(within);
        assert!(bench.runs() > 1, "{every}: it waits for the later clock");
    }
}

#[test]
fn a_first_run_that_a_person_wants_later_stays_there() {
    let mut bench = bench();
    let first = bench.now.plus(DAY);
    bench.recur(Recurrence::Every(MINUTE), Some(first));
    let _ = bench.set_clock(-HOUR_MS);
    assert_eq!(bench.core.schedules().next().unwrap().next, first);
    assert_eq!(bench.core.next_deadline(), Some(bench.now.plus(DAY + HOUR)));
}

#[test]
fn a_run_that_found_the_queue_full_waits_no_longer() {
    let mut bench = with(Config {
        queue_max: 1,
        ..Config::default()
    });
    let open = bench.add(task());
    bench.recur(Recurrence::Every(HOUR), None);
    assert_eq!(bench.runs(), 0);
    let _ = bench.finish("a", 1, attempt(open, 1), None);
    let _ = bench.close(attempt(open, 1));
    let _ = bench.set_clock(-10_000);
    let _ = bench.later(MINUTE - S);
    assert_eq!(bench.runs(), 0);
    let _ = bench.later(S);
    assert_eq!(bench.runs(), 1);
}

#[test]
fn a_run_whose_moment_is_to_come_again_is_not_made_before_it() {
    let mut bench = bench();
    bench.recur(Recurrence::Every(HOUR), None);
    let _ = bench.later(HOUR + S);
    let last = bench.core.schedules().find_map(|row| row.last).unwrap();
    let _ = bench.set_clock(-60_000);
    let _ = bench.finish("a", 1, attempt(last, 1), None);
    assert_eq!(bench.runs(), 1, "it was due, and is not yet by this clock");
    let _ = bench.later(MINUTE - S);
    assert_eq!(bench.runs(), 2);
}

#[test]
fn a_day_of_a_budget_begins_by_the_wall_clock() {
    let mut bench = with(Config {
        budgets: BTreeMap::from([("p".to_owned(), budget("100tokens"))]),
        ..Config::default()
    });
    let id = bench.add(in_project("p"));
    let _ = bench.report("a", 1, attempt(id, 1), ReportBody::Started);
    let _ = end(&mut bench, attempt(id, 1), 100, None);
    let waits = bench.add(in_project("p"));
    assert_eq!(bench.status(waits), TaskStatus::Queued);
    let _ = bench.set_clock(11 * HOUR_MS);
    assert_eq!(bench.core.next_deadline(), Some(bench.now.plus(HOUR)));
    assert_eq!(starts(&bench.set_clock(13 * HOUR_MS)).len(), 1);
    let used = |bench: &Bench| bench.core.project_budgets(bench.now)[0].spent.tokens;
    let _ = end(&mut bench, attempt(waits, 1), 70, None);
    assert_eq!(used(&bench), 70);
    let _ = bench.set_clock(0);
    assert_eq!(used(&bench), 70, "the day before does not come again");
    let _ = bench.set_clock(-40 * 24 * HOUR_MS);
    assert_eq!(used(&bench), 0, "a clock that was days ahead was not right");
}

/// A bench with a task whose account met a limit, which is over then by what its provider says.
fn parked(reset: Option<Duration>) -> (Bench, TaskId) {
    let mut bench = bench();
    let id = bench.add(task());
    let ReportBody::Finished(mut outcome) = finished(Some(FailureCode::RateLimited)) else {
        unreachable!("it is an end");
    };
    if let Some(failure) = &mut outcome.failure {
        failure.resets_at = reset.map(|reset| bench.now.plus(reset));
    }
    let _ = bench.report("a", 1, attempt(id, 1), ReportBody::Finished(outcome));
    let _ = bench.close(attempt(id, 1));
    assert_eq!(bench.core.parked_accounts().len(), 1);
    (bench, id)
}

#[test]
fn an_account_is_tried_again_when_the_wall_clock_shows_what_its_provider_said() {
    let (mut bench, _) = parked(Some(2 * HOUR));
    let _ = bench.set_clock(HOUR_MS);
    assert_eq!(bench.core.next_deadline(), Some(bench.now.plus(HOUR)));
    assert_eq!(starts(&bench.later(HOUR)).len(), 1);
    for restarts in [false, true] {
        let (mut bench, _) = parked(Some(2 * HOUR));
        let told = bench.now.plus(2 * HOUR);
        if restarts {
            let _ = bench.restart();
        }
        let _ = bench.set_clock(-HOUR_MS);
        assert_eq!(bench.core.parked_accounts()[0].parked_until, Some(told));
        let _ = bench.later(3 * HOUR - S);
        assert_eq!(bench.core.parked_accounts().len(), 1);
        let _ = bench.later(S);
        assert_eq!(bench.core.parked_accounts().len(), 0);
    }
}

#[test]
fn an_account_of_which_nothing_was_said_does_not_rest_longer() {
    let (mut bench, _) = parked(None);
    let rest = bench.core.next_deadline().unwrap().since(bench.now);
    let _ = bench.set_clock(-HOUR_MS);
    assert_eq!(bench.core.next_deadline(), Some(bench.now.plus(rest)));
    assert_eq!(starts(&bench.later(rest)).len(), 1);
}

#[test]
fn leases_and_timeouts_do_not_follow_the_wall_clock() {
    for ahead_ms in [3 * HOUR_MS, -3 * HOUR_MS] {
        let mut bench = Bench::new();
        let _ = bench.attach(&worker("a", 1, &[("claude", 1)]), 1, &[]);
        let id = bench.add(task());
        let _ = bench.report("a", 1, attempt(id, 1), ReportBody::Started);
        let mut waits = task();
        waits.spec.queue_timeout = Some(30 * S);
        let waits = bench.add(waits);
        let before = bench.core.next_deadline();
        let step = bench.set_clock(ahead_ms);
        assert_eq!((stops(&step), bench.core.next_deadline()), (vec![], before));
        assert_eq!(bench.core.workers().next().unwrap().link, connected());
        let _ = bench.later(10 * S);
        let _ = bench.give(Input::Prioritise {
            request: RequestId(1),
            task: waits,
            priority: Priority::High,
        });
        let _ = bench.later(10 * S);
        assert_eq!(bench.status(waits), TaskStatus::Queued, "{ahead_ms}");
        let _ = bench.later(10 * S);
        assert_eq!(bench.status(waits), TaskStatus::Failed, "{ahead_ms}");
    }
}

fn connected() -> crate::Link {
    crate::Link::Connected(ConnectionId(1))
}

#[test]
fn a_wait_for_a_worker_begins_when_the_time_to_start_has_come() {
    let mut bench = Bench::new();
    let mut new = at(bench.now.plus(2 * HOUR));
    new.spec.queue_timeout = Some(MINUTE);
    let id = bench.add(new);
    let _ = bench.set_clock(3 * HOUR_MS);
    let _ = bench.later(MINUTE - S);
    assert_eq!(bench.status(id), TaskStatus::Queued);
    let _ = bench.set_clock(0);
    let _ = bench.later(HOUR);
    assert_eq!(bench.status(id), TaskStatus::Queued, "it is to come again");
    let _ = bench.later(2 * HOUR);
    assert_eq!(bench.status(id), TaskStatus::Failed);
}

#[test]
fn nobody_is_lost_or_given_up_when_the_machine_wakes() {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("a", 1, &[("claude", 1)]), 1, &[]);
    let id = bench.add(task());
    let lease = bench.core.next_deadline().unwrap().since(bench.now);
    // It wakes just when the lease ends: nobody can tell from the time alone that it slept.
    bench.now = bench.now.plus(lease);
    let _ = bench.give(Input::Resumed);
    let _ = bench.later(lease - S);
    assert_eq!(bench.status(id), TaskStatus::Assigned);
    assert_eq!(bench.core.workers().next().unwrap().link, connected());
    let _ = bench.later(S);
    assert_eq!(bench.core.workers().next().unwrap().link, crate::Link::Lost);
}
