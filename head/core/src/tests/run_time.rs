//! For how long agents have run: over starts of the head by any clock, and after their end.

use std::time::Duration;

use orchestra_types::{AttemptId, FailureCode, TaskId, TaskStatus, Timestamp};

use super::{
    bench::{Bench, attempt, finished, task, worker},
    budgets::{below, bench, end, in_project, pass, stops, with},
};
use crate::{ConnectionId, Held, Input, Meter, Reading, ReportBody, RequestId, Step, StopReason};

const S: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

impl Bench {
    fn started(&mut self, id: TaskId) {
        let _ = self.report("a", 1, attempt(id, 1), ReportBody::Started);
        assert_eq!(self.status(id), TaskStatus::Running);
    }

    /// Worker `a` comes back and says for how long the agents of these first attempts have run.
    fn back(&mut self, running: &[(TaskId, Duration)]) -> Step {
        let held = running.iter().map(|(id, ran)| Held {
            attempt: attempt(*id, 1),
            started: true,
            running: Some(*ran),
        });
        let held: Vec<Held> = held.collect();
        self.attach(&worker("a", 8, &[("claude", 8)]), 1, &held)
    }

    /// The agent of an attempt has ended, and its result is on its way.
    fn agent_ended(&mut self, attempt: AttemptId, ran: Duration) -> Step {
        self.give(Input::Metered {
            connection: ConnectionId(1),
            worker: "a".parse().unwrap(),
            attempt,
            meter: Box::new(Meter {
                ran: Some(ran),
                ..Meter::default()
            }),
        })
    }

    fn time_of(&self, id: TaskId) -> Duration {
        self.core.budget_at(self.now, id).unwrap().1.time
    }
}

/// What ran for so long in all.
fn ran_for(ran: Duration, failure: Option<FailureCode>) -> ReportBody {
    let ReportBody::Finished(mut outcome) = finished(failure) else {
        unreachable!("it is an end");
    };
    outcome.finished_at = outcome.started_at.plus(ran);
    ReportBody::Finished(outcome)
}

/// Clocks by which the head is started again: right, ahead and behind.
fn clocks(now: Timestamp) -> [Timestamp; 3] {
    let behind = Timestamp(now.0 - 9 * 86_400_000);
    [now, now.plus(40 * DAY), behind]
}

#[test]
fn an_agent_is_ended_when_its_time_is_over_whatever_clock_the_head_was_started_by() {
    for place in 0..3 {
        let mut bench = bench();
        // The head waits for a minute longer than the worker.
        let id = bench.add(task());
        bench.started(id);
        let _ = pass(&mut bench, 50 * S);
        bench.now = clocks(bench.now)[place];
        let step = bench.restart();
        assert_eq!(stops(&step), [], "clock {place}");
        assert_eq!(stops(&bench.back(&[(id, 50 * S)])), [], "clock {place}");
        assert_eq!(stops(&pass(&mut bench, 69 * S)), [], "clock {place}");
        let step = pass(&mut bench, S);
        assert_eq!(stops(&step), [(id, StopReason::Timeout)], "clock {place}");
    }
}

#[test]
fn the_time_of_a_budget_counts_on_whatever_clock_the_head_was_started_by() {
    for place in 0..3 {
        let mut bench = bench();
        let id = bench.add(with("100s"));
        bench.started(id);
        let _ = pass(&mut bench, 30 * S);
        bench.now = clocks(bench.now)[place];
        let step = bench.restart();
        assert_eq!(stops(&step), [], "clock {place}");
        let _ = bench.back(&[(id, 30 * S)]);
        assert_eq!(bench.time_of(id), 30 * S, "clock {place}");
        let _ = pass(&mut bench, 10 * S);
        let _ = bench.report("a", 1, attempt(id, 1), ran_for(40 * S, None));
        assert_eq!(bench.time_of(id), 40 * S, "clock {place}");
    }
}

#[test]
fn a_worker_cannot_say_that_an_agent_ran_before_its_start_was_heard() {
    let mut bench = bench();
    let id = bench.add(with("100s"));
    bench.started(id);
    let _ = bench.back(&[(id, 90 * S)]);
    assert_eq!(bench.time_of(id), Duration::ZERO);
    let _ = pass(&mut bench, 30 * S);
    let _ = bench.restart();
    let _ = bench.back(&[(id, 90 * S)]);
    assert_eq!(bench.time_of(id), 30 * S);
}

#[test]
fn of_a_projects_day_only_that_counts_which_was_after_midnight() {
    let mut bench = bench();
    let midnight = Timestamp(12 * 86_400_000);
    bench.now = Timestamp(midnight.0 - 20_000);
    let _ = bench.back(&[]);
    let id = bench.add(in_project("p"));
    bench.started(id);
    let _ = pass(&mut bench, 30 * S);
    let _ = bench.restart();
    let _ = bench.back(&[(id, 30 * S)]);
    let _ = bench.give(Input::SetProjectBudget {
        request: RequestId(1),
        project: "p".to_owned(),
        new: None,
        change: super::budgets::to("60s"),
    });
    let spent = bench.core.project_budgets(bench.now)[0].spent;
    assert_eq!(spent.time, 10 * S);
}

#[test]
fn what_ended_while_the_head_was_away_used_only_the_time_that_it_ran() {
    let mut bench = bench();
    let parent = bench.add(with("60s"));
    let _ = end(&mut bench, attempt(parent, 1), 0, None);
    let [one, two] = [bench.add(below(parent)), bench.add(below(parent))];
    bench.started(one);
    bench.started(two);
    bench.now = bench.now.plus(3600 * S);
    let _ = bench.restart();
    let held = [one, two].map(|part| super::bench::held(part, 1, true)[0]);
    let _ = bench.attach(&worker("a", 8, &[("claude", 8)]), 1, &held);
    let _ = bench.report("a", 1, attempt(one, 1), ran_for(20 * S, None));
    let crashed = Some(FailureCode::AgentFailed);
    let _ = bench.report("a", 1, attempt(two, 1), ran_for(20 * S, crashed));
    assert_eq!(bench.time_of(parent), 40 * S);
    let _ = bench.close(attempt(two, 1));
    let row = bench.core.task(two).unwrap().row;
    assert_eq!(row.failures, 1, "no budget has ended it");
}

#[test]
fn an_agent_that_has_ended_takes_no_more_time() {
    let mut bench = bench();
    let parent = bench.add(with("60s"));
    let other = bench.add(below(parent));
    bench.started(parent);
    let _ = pass(&mut bench, 20 * S);
    let _ = bench.agent_ended(attempt(parent, 1), 20 * S);
    bench.started(other);
    assert_eq!(stops(&pass(&mut bench, 39 * S)), []);
    assert_eq!(bench.time_of(parent), 59 * S, "20 s and 39 s");
    // Only what runs is to be stopped.
    let step = pass(&mut bench, S);
    assert_eq!(stops(&step), [(other, StopReason::Budget)]);
    let _ = pass(&mut bench, 3600 * S);
    let _ = bench.report("a", 1, attempt(parent, 1), ran_for(20 * S, None));
    let _ = bench.close(attempt(parent, 1));
    assert_eq!(bench.status(parent), TaskStatus::Succeeded);
}

#[test]
fn an_agent_that_has_ended_is_not_late_and_a_result_that_does_not_come_is_silence() {
    let mut bench = bench();
    let mut new = task();
    new.spec.stall_timeout = Some(60 * S);
    let id = bench.add(new);
    bench.started(id);
    let _ = pass(&mut bench, 30 * S);
    let _ = bench.agent_ended(attempt(id, 1), 30 * S);
    assert_eq!(stops(&pass(&mut bench, 3600 * S)), []);
    assert_eq!(bench.status(id), TaskStatus::Running);
    assert!(bench.core.task(id).unwrap().silent_since.is_some());
}

#[test]
fn what_was_to_end_and_brings_no_result_is_left_to_a_person() {
    let mut bench = bench();
    let id = bench.add(task());
    bench.started(id);
    let step = pass(&mut bench, 120 * S);
    assert_eq!(stops(&step), [(id, StopReason::Timeout)]);
    let _ = bench.agent_ended(attempt(id, 1), 121 * S);
    let _ = pass(&mut bench, 7200 * S);
    assert_eq!(bench.status(id), TaskStatus::NeedsReview);
}

#[test]
fn an_agent_that_uses_more_after_its_end_goes_on() {
    let mut bench = bench();
    let id = bench.add(with("100tokens, 60s"));
    bench.started(id);
    let _ = bench.agent_ended(attempt(id, 1), Duration::ZERO);
    let _ = pass(&mut bench, 10 * S);
    assert_eq!(bench.time_of(id), Duration::ZERO);
    let ended = |tokens: u64| {
        let usage = orchestra_types::Usage {
            input_tokens: tokens,
            ..Default::default()
        };
        Input::Metered {
            connection: ConnectionId(1),
            worker: "a".parse().unwrap(),
            attempt: attempt(id, 1),
            meter: Box::new(Meter {
                ran: Some(Duration::ZERO),
                reading: Reading {
                    usage,
                    ..Reading::default()
                },
                ..Meter::default()
            }),
        }
    };
    let _ = bench.give(ended(40));
    assert_eq!(bench.time_of(id), 10 * S);
    let step = bench.give(ended(100));
    assert_eq!(stops(&step), [(id, StopReason::Budget)]);
    // So does one that runs, as its worker says when it is back.
    let _ = bench.agent_ended(attempt(id, 1), 5 * S);
    let _ = bench.back(&[(id, 10 * S)]);
    let _ = pass(&mut bench, 10 * S);
    assert_eq!(bench.time_of(id), 20 * S);
}

#[test]
fn a_worker_that_is_back_late_with_what_ran_too_long_excuses_nobody_else() {
    let mut bench = bench();
    let (late, silent) = (bench.add(task()), bench.add(task()));
    bench.started(late);
    bench.started(silent);
    let _ = pass(&mut bench, 115 * S);
    let _ = bench.restart();
    let step = bench.later(10 * S);
    assert_eq!(stops(&step), []);
    let mut all = bench.back(&[(late, 125 * S), (silent, 10 * S)]);
    all.messages.extend(bench.later(Duration::ZERO).messages);
    assert_eq!(stops(&all), [(late, StopReason::Timeout)]);
    let watched = bench.core.task(silent).unwrap();
    assert_eq!(watched.silent_since, None);
}

#[test]
fn of_a_projects_day_nothing_counts_of_what_ended_yesterday_while_the_head_was_away() {
    let mut bench = bench();
    let midnight = Timestamp(12 * 86_400_000);
    bench.now = Timestamp(midnight.0 - 100_000);
    let _ = bench.back(&[]);
    let id = bench.add(in_project("p"));
    bench.started(id);
    let _ = pass(&mut bench, 10 * S);
    bench.now = midnight.plus(3600 * S);
    let _ = bench.restart();
    let held = super::bench::held(id, 1, true);
    let _ = bench.attach(&worker("a", 8, &[("claude", 8)]), 1, &held);
    let _ = bench.agent_ended(attempt(id, 1), 50 * S);
    let _ = bench.give(Input::SetProjectBudget {
        request: RequestId(1),
        project: "p".to_owned(),
        new: None,
        change: super::budgets::to("60s"),
    });
    let time = |bench: &Bench| bench.core.project_budgets(bench.now)[0].spent.time;
    assert_eq!(time(&bench), Duration::ZERO);
    let _ = bench.report("a", 1, attempt(id, 1), ran_for(50 * S, None));
    assert_eq!(time(&bench), Duration::ZERO);
}

#[test]
fn an_agent_whose_worker_is_lost_counts_until_it_was_heard_last() {
    let mut bench = bench();
    let id = bench.add(with("40s"));
    bench.started(id);
    let _ = pass(&mut bench, 10 * S);
    let _ = bench.detach("a", 1);
    let _ = bench.later(40 * S);
    let part = bench.add(below(id));
    assert!(
        bench.core.task(part).unwrap().reason.is_some(),
        "it seems to be used up"
    );
    let _ = bench.later(600 * S);
    assert_eq!(bench.status(id), TaskStatus::Queued, "its lease is over");
    assert_eq!(bench.time_of(id), 10 * S);
    assert_eq!(bench.core.task(part).unwrap().reason, None, "it may begin");
    // Its agent had ended soon after.
    let held = super::bench::held(id, 1, true);
    let _ = bench.attach(&worker("a", 8, &[("claude", 8)]), 2, &held);
    let _ = bench.report("a", 2, attempt(id, 1), ran_for(13 * S, None));
    assert_eq!(bench.time_of(id), 13 * S);
    let _ = bench.close(attempt(id, 1));
    assert_eq!(bench.status(id), TaskStatus::Succeeded);
}

#[test]
fn what_ran_before_a_start_of_the_head_and_never_comes_back_counts_as_far_as_is_known() {
    let mut bench = bench();
    let id = bench.add(with("500s"));
    bench.started(id);
    let _ = pass(&mut bench, 100 * S);
    let _last = bench.add(task());
    // The machine was off for a night.
    bench.now = bench.now.plus(DAY);
    let _ = bench.restart();
    let _ = bench.later(600 * S);
    assert_eq!(bench.status(id), TaskStatus::Queued, "its lease is over");
    assert_eq!(bench.time_of(id), 100 * S);
}

#[test]
fn what_ran_before_a_start_of_the_head_and_is_lost_counts_when_its_result_comes() {
    let mut bench = bench();
    let id = bench.add(with("500s"));
    bench.started(id);
    let _ = pass(&mut bench, 100 * S);
    let _ = bench.restart();
    let _ = bench.later(600 * S);
    assert_eq!(bench.status(id), TaskStatus::Queued, "its lease is over");
    let _ = bench.attach(&worker("b", 8, &[("claude", 8)]), 3, &[]);
    assert_eq!(bench.status(id), TaskStatus::Assigned);
    let held = super::bench::held(id, 1, true);
    let _ = bench.attach(&worker("a", 8, &[("claude", 8)]), 2, &held);
    let _ = bench.report("a", 2, attempt(id, 1), ran_for(130 * S, None));
    assert_eq!(bench.time_of(id), 130 * S);
}
