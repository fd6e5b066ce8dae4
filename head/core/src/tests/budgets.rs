//! What tasks, trees of tasks and projects may use.

mod projects;

use std::{collections::BTreeMap, time::Duration};

use orchestra_types::{
    AttemptId, Budget, BudgetChange, FailureCode, Measure, ProjectRef, TaskId, TaskStatus, Usage,
};

use super::bench::{Bench, attempt, finished, reply, starts, task, worker};
use crate::{
    Change, Config, ConnectionId, Input, Message, Meter, NewTask, Reading, Reply, ReportBody,
    RequestId, Step, StopReason, SubmitRefused,
};

const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn budget(text: &str) -> Budget {
    text.parse().unwrap()
}

#[test]
fn the_time_of_an_attempt_begins_with_its_agent() {
    let mut bench = bench();
    let id = bench.add(with("20s"));
    let stops = |step: &Step| {
        let mut all = step.messages.iter();
        all.any(|message| matches!(message, Message::Stop { .. }))
    };
    let beat = |bench: &mut Bench, seconds| {
        let _ = bench.give(Input::Heartbeat {
            connection: ConnectionId(1),
            worker: "a".parse().unwrap(),
        });
        stops(&bench.later(Duration::from_secs(seconds)))
    };
    assert!(!beat(&mut bench, 30), "it waits there, or is prepared");
    let _ = bench.report("a", 1, attempt(id, 1), ReportBody::Started);
    assert!(!beat(&mut bench, 19));
    assert!(beat(&mut bench, 1));
    let _ = end(&mut bench, attempt(id, 1), 0, None);
    let spent = bench.core.budget(id).map(|(_, spent)| spent.time);
    assert_eq!(spent, Some(Duration::from_secs(20)));
}

/// These limits in the place of those that are there.
pub(super) fn to(text: &str) -> BudgetChange {
    BudgetChange::Set {
        limits: budget(text),
        none: Vec::new(),
    }
}

/// No limit of tokens any more.
pub(super) fn without_tokens() -> BudgetChange {
    BudgetChange::Set {
        limits: Budget::default(),
        none: vec![Measure::Tokens],
    }
}

pub(super) fn with(text: &str) -> NewTask {
    let mut new = task();
    new.spec.budget = budget(text);
    new
}

pub(super) fn below(parent: TaskId) -> NewTask {
    let mut new = task();
    new.spec.parent = Some(parent);
    new
}

pub(super) fn in_project(text: &str) -> NewTask {
    let mut new = task();
    new.spec.project = Some(ProjectRef {
        id: text.parse().unwrap(),
        name: format!("{text}-name"),
        dir: "/p".into(),
        machine: "m".parse().unwrap(),
    });
    new
}

pub(super) fn bench() -> Bench {
    with_config(Config::default())
}

pub(super) fn with_config(config: Config) -> Bench {
    let mut bench = Bench::with(config);
    let _ = bench.attach(&worker("a", 8, &[("claude", 8)]), 1, &[]);
    bench
}

fn usage(tokens: u64) -> Usage {
    Usage {
        input_tokens: tokens,
        ..Usage::default()
    }
}

fn reading(tokens: u64) -> Reading {
    Reading {
        usage: usage(tokens),
        model: "m-1".to_owned(),
    }
}

pub(super) fn meter(bench: &mut Bench, id: AttemptId, tokens: u64) -> Step {
    bench.give(Input::Metered {
        connection: ConnectionId(1),
        worker: "a".parse().unwrap(),
        attempt: id,
        meter: Box::new(Meter {
            reading: reading(tokens),
            ..Meter::default()
        }),
    })
}

/// What is kept of the use of attempts that a step gives up.
fn told(step: &Step) -> Vec<Option<Reading>> {
    let ends = step.changes.iter().filter_map(|change| match change {
        Change::Outcome(row) if row.result.is_err() => Some(row.reading.clone()),
        _ => None,
    });
    ends.collect()
}

pub(super) fn end(
    bench: &mut Bench,
    id: AttemptId,
    tokens: u64,
    failure: Option<FailureCode>,
) -> Step {
    let ReportBody::Finished(mut outcome) = finished(failure) else {
        unreachable!("it is an end");
    };
    outcome.usage = usage(tokens);
    // It ran for as long as the head saw it run.
    outcome.finished_at = bench.now;
    let mut all = bench.report("a", 1, id, ReportBody::Finished(outcome));
    let closed = bench.close(id);
    all.changes.extend(closed.changes);
    all.messages.extend(closed.messages);
    all
}

/// An attempt that was stopped for its budget ends.
pub(super) fn end_over_budget(bench: &mut Bench, id: AttemptId, tokens: u64) -> Step {
    end(bench, id, tokens, Some(FailureCode::BudgetExceeded))
}

/// What was ordered to stop, and why.
pub(super) fn stops(step: &Step) -> Vec<(TaskId, StopReason)> {
    let stop = |message: &Message| match message {
        Message::Stop {
            attempt, reason, ..
        } => Some((attempt.task, *reason)),
        _ => None,
    };
    step.messages.iter().filter_map(stop).collect()
}

pub(super) fn raise(bench: &mut Bench, task: TaskId, text: &str) -> Step {
    bench.give(Input::SetTaskBudget {
        request: RequestId(1),
        task,
        change: BudgetChange::Add(budget(text)),
    })
}

pub(super) fn set(bench: &mut Bench, task: TaskId, text: &str) -> Step {
    bench.give(Input::SetTaskBudget {
        request: RequestId(1),
        task,
        change: to(text),
    })
}

pub(super) fn reason(bench: &Bench, id: TaskId) -> (FailureCode, String) {
    let reason = bench
        .core
        .task(id)
        .unwrap()
        .reason
        .expect("there is a reason");
    (reason.code, reason.message)
}

pub(super) fn pass(bench: &mut Bench, duration: Duration) -> Step {
    let mut all = Step::default();
    let end = bench.now.plus(duration);
    while bench.now < end {
        let part = end.since(bench.now).min(Duration::from_secs(10));
        let later = bench.later(part);
        all.changes.extend(later.changes);
        all.messages.extend(later.messages);
        let beat = bench.give(Input::Heartbeat {
            connection: ConnectionId(1),
            worker: "a".parse().unwrap(),
        });
        all.messages.extend(beat.messages);
    }
    all
}

#[test]
fn a_running_attempt_is_stopped_at_its_budget_and_the_task_asks() {
    let mut bench = bench();
    let id = bench.add(with("100tokens"));
    assert_eq!(stops(&meter(&mut bench, attempt(id, 1), 99)), []);
    let step = meter(&mut bench, attempt(id, 1), 100);
    assert_eq!(stops(&step), [(id, StopReason::Budget)]);
    assert_eq!(stops(&meter(&mut bench, attempt(id, 1), 120)), [], "once");
    let _ = end_over_budget(&mut bench, attempt(id, 1), 130);
    assert_eq!(bench.status(id), TaskStatus::NeedsReview);
    let (code, text) = reason(&bench, id);
    assert_eq!(code, FailureCode::BudgetExceeded);
    assert!(
        text.contains("100 tokens") && text.contains("130 tokens"),
        "{text}"
    );
    assert!(
        text.ends_with("by `ctl budget task_001 --tokens +100k`?"),
        "it asks: {text}"
    );
    assert_eq!(bench.core.task(id).unwrap().row.failures, 0, "not charged");
}

#[test]
fn a_task_that_goes_on_does_not_ask_for_what_it_was_given() {
    let mut bench = bench();
    let id = bench.add(with("100tokens"));
    let _ = meter(&mut bench, attempt(id, 1), 100);
    let _ = end_over_budget(&mut bench, attempt(id, 1), 100);
    assert_eq!(reason(&bench, id).0, FailureCode::BudgetExceeded);
    let step = raise(&mut bench, id, "100tokens");
    assert_eq!(starts(&step).len(), 1);
    let says = |bench: &Bench| bench.core.task(id).unwrap().reason;
    assert_eq!(says(&bench), None, "it runs");
    let _ = bench.detach("a", 1);
    let _ = bench.restart();
    assert_eq!(says(&bench), None, "also after a restart");
}

#[test]
fn a_success_at_the_limit_stays_a_success() {
    let mut bench = bench();
    let id = bench.add(with("100tokens"));
    let _ = meter(&mut bench, attempt(id, 1), 100);
    let _ = end(&mut bench, attempt(id, 1), 105, None);
    assert_eq!(bench.status(id), TaskStatus::Succeeded);
}

#[test]
fn a_cancel_stands_above_a_budget() {
    let mut bench = bench();
    let id = bench.add(with("100tokens"));
    let _ = meter(&mut bench, attempt(id, 1), 100);
    let step = bench.give(Input::Cancel {
        request: RequestId(1),
        task: id,
    });
    assert_eq!(stops(&step), [(id, StopReason::Cancelled)]);
    let _ = end_over_budget(&mut bench, attempt(id, 1), 105);
    assert_eq!(bench.status(id), TaskStatus::Cancelled);
}

#[test]
fn wall_time_stops_at_its_moment_without_any_report() {
    let mut bench = bench();
    let id = bench.add(with("25s"));
    let _ = bench.report("a", 1, attempt(id, 1), ReportBody::Started);
    assert_eq!(stops(&pass(&mut bench, Duration::from_secs(20))), []);
    let step = bench.later(Duration::from_secs(5));
    assert_eq!(stops(&step), [(id, StopReason::Budget)]);
    assert!(
        bench.core.next_deadline() > Some(bench.now),
        "and is not due again"
    );
}

#[test]
fn attempts_end_with_a_question_and_not_with_one_more() {
    let mut bench = bench();
    let mut new = with("2-attempts");
    new.spec.retries = 9;
    let id = bench.add(new);
    let _ = end(
        &mut bench,
        attempt(id, 1),
        0,
        Some(FailureCode::AgentFailed),
    );
    let _ = pass(&mut bench, Duration::from_secs(30));
    let _ = end(
        &mut bench,
        attempt(id, 2),
        0,
        Some(FailureCode::AgentFailed),
    );
    assert_eq!(bench.status(id), TaskStatus::NeedsReview);
    let (code, text) = reason(&bench, id);
    assert_eq!(code, FailureCode::BudgetExceeded);
    assert!(
        text.contains("2 attempts") && text.contains("agent_failed"),
        "{text}"
    );
    let step = raise(&mut bench, id, "1-attempt");
    assert_eq!(starts(&step).len(), 1);
}

#[test]
fn subtasks_count_for_every_task_above_them() {
    let mut bench = bench();
    let root = bench.add(with("100tokens"));
    let middle = bench.add(below(root));
    let leaf = bench.add(below(middle));
    let _ = meter(&mut bench, attempt(leaf, 1), 40);
    let _ = meter(&mut bench, attempt(middle, 1), 40);
    let step = meter(&mut bench, attempt(root, 1), 20);
    let stopped: Vec<TaskId> = stops(&step).into_iter().map(|(id, _)| id).collect();
    assert_eq!(stopped, [root, middle, leaf]);
    for id in [leaf, middle, root] {
        let _ = end_over_budget(&mut bench, attempt(id, 1), 40);
        assert_eq!(bench.status(id), TaskStatus::NeedsReview);
        assert!(
            reason(&bench, id)
                .1
                .contains(&format!("the budget of {root}"))
        );
    }
    let late = bench.add(below(leaf));
    assert_eq!(
        bench.status(late),
        TaskStatus::Queued,
        "nothing starts under it"
    );
    assert_eq!(reason(&bench, late).0, FailureCode::BudgetExceeded);
    assert_eq!(bench.core.budget(root).unwrap().1.tokens, 120);
    assert_eq!(bench.core.budget(middle).unwrap().1.tokens, 80);

    let step = raise(&mut bench, root, "100tokens");
    let mut started: Vec<TaskId> = starts(&step).iter().map(|(a, ..)| a.task).collect();
    started.sort();
    assert_eq!(
        started,
        [root, middle, leaf, late],
        "a raise of the root frees all"
    );
}

#[test]
fn a_queued_part_of_a_tree_waits_outside_the_queue_while_others_go_on() {
    let mut bench = Bench::new();
    let root = bench.add(with("100tokens"));
    let _ = bench.attach(&worker("a", 1, &[("claude", 1)]), 1, &[]);
    let part = bench.add(below(root));
    let other = bench.add(task());
    let _ = meter(&mut bench, attempt(root, 1), 100);
    let step = end_over_budget(&mut bench, attempt(root, 1), 100);
    assert_eq!(starts(&step)[0].0.task, other, "the part is passed over");
    assert_eq!(reason(&bench, part).0, FailureCode::BudgetExceeded);
    let _ = bench.give(Input::Cancel {
        request: RequestId(1),
        task: part,
    });
    assert_eq!(bench.status(part), TaskStatus::Cancelled);
}

#[test]
fn a_parent_must_exist_and_trees_have_a_depth() {
    let mut bench = bench();
    let refused = bench.submit(vec![below(TaskId(9))]);
    let parent = TaskId(9);
    let index = 0;
    assert_eq!(
        refused,
        Reply::SubmitRefused(SubmitRefused::UnknownParent { index, parent })
    );
    let mut last = bench.add(task());
    for _ in 0..32 {
        last = bench.add(below(last));
    }
    assert!(matches!(
        bench.submit(vec![below(last)]),
        Reply::SubmitRefused(SubmitRefused::TooDeep { .. })
    ));
}

#[test]
fn a_task_that_was_cancelled_gets_no_parts_until_it_is_tried_again() {
    let mut bench = bench();
    let _ = bench.attach(&worker("a", 1, &[("claude", 1)]), 1, &[]);
    let parent = bench.add(task());
    let _ = bench.give(Input::Cancel {
        request: RequestId(1),
        task: parent,
    });
    // Its agent has not ended yet.
    assert!(!bench.status(parent).is_ended());
    let index = 0;
    assert_eq!(
        bench.submit(vec![below(parent)]),
        Reply::SubmitRefused(SubmitRefused::CancelledParent { index, parent })
    );
}

#[test]
fn what_was_used_survives_a_restart_and_a_stop_is_ordered_again() {
    let mut bench = bench();
    let root = bench.add(with("100tokens"));
    let part = bench.add(below(root));
    let _ = end(&mut bench, attempt(part, 1), 70, None);
    let _ = raise(&mut bench, root, "20tokens");
    let _ = bench.restart();
    let (limits, spent) = bench.core.budget(root).unwrap();
    assert_eq!((limits, spent.tokens), (budget("120tokens"), 70));
    let held = crate::Held {
        attempt: attempt(root, 1),
        started: true,
        running: None,
    };
    let _ = bench.attach(&worker("a", 8, &[("claude", 8)]), 2, &[held]);
    let step = bench.give(Input::Metered {
        connection: ConnectionId(2),
        worker: "a".parse().unwrap(),
        attempt: attempt(root, 1),
        meter: Box::new(Meter {
            reading: reading(50),
            ..Meter::default()
        }),
    });
    assert_eq!(stops(&step), [(root, StopReason::Budget)]);
    let step = bench.attach(&worker("a", 8, &[("claude", 8)]), 3, &[held]);
    assert_eq!(
        stops(&step),
        [(root, StopReason::Budget)],
        "to who may have missed it"
    );
}

/// Worker `a` has one slot and lets one attempt wait; a task with this budget waits there.
fn waits_at_a(text: &str) -> (Bench, TaskId) {
    let mut bench = Bench::new();
    let mut info = worker("a", 1, &[("shell", 1)]);
    info.runners[0].prefetch = 1;
    let _ = bench.attach(&info, 1, &[]);
    let _ = bench.add(task().runner("shell"));
    let id = bench.add(with(text).runner("shell"));
    assert_eq!(bench.status(id), TaskStatus::Assigned);
    (bench, id)
}

#[test]
fn a_cancelled_attempt_that_is_given_back_uses_nothing() {
    let (mut bench, id) = waits_at_a("1h");
    let _ = bench.give(Input::Cancel {
        request: RequestId(1),
        task: id,
    });
    let _ = bench.report("a", 1, attempt(id, 1), ReportBody::GivenBack);
    assert_eq!(bench.status(id), TaskStatus::Cancelled);
    let (_, spent) = bench.core.budget(id).unwrap();
    assert!(spent.is_nothing(), "{spent}");
}

#[test]
fn an_attempt_that_is_given_up_has_used_what_it_used_until_then() {
    let mut bench = bench();
    let mut new = with("100tokens");
    new.spec.timeout = Duration::from_secs(60);
    let id = bench.add(new);
    let _ = bench.report("a", 1, attempt(id, 1), ReportBody::Started);
    let _ = meter(&mut bench, attempt(id, 1), 30);
    let step = pass(&mut bench, HOUR);
    assert_eq!(bench.status(id), TaskStatus::NeedsReview);
    assert_eq!(told(&step), [Some(reading(30))]);
    let (_, spent) = bench.core.budget(id).unwrap();
    assert_eq!((spent.tokens, spent.attempts), (30, 1));
    assert!(
        spent.time >= Duration::from_secs(60),
        "its time counts: {spent}"
    );
    let request = RequestId(1);
    let _ = bench.give(Input::Retry { request, task: id });
    let (_, spent) = bench.core.budget(id).unwrap();
    assert_eq!((spent.tokens, spent.attempts), (30, 2));
}

#[test]
fn a_lost_attempt_keeps_the_most_that_its_worker_had_told() {
    let mut bench = bench();
    let id = bench.add(task());
    let _ = bench.report("a", 1, attempt(id, 1), ReportBody::Started);
    for tokens in [20, 30, 25] {
        let _ = meter(&mut bench, attempt(id, 1), tokens);
    }
    let _ = bench.detach("a", 1);
    let step = bench.later(HOUR);
    assert_eq!(told(&step), [Some(reading(30))]);
    // What it has used is its result's to say.
    let held = super::bench::held(id, 1, true);
    let _ = bench.attach(&worker("a", 8, &[("claude", 8)]), 2, &held);
    let step = end(&mut bench, attempt(id, 1), 40, None);
    assert_eq!(told(&step), []);
}

#[test]
fn what_goes_on_below_a_task_is_known_and_what_was_told_to_end_does_not() {
    let mut bench = bench();
    let parent = bench.add(task());
    let (first, second) = (bench.add(below(parent)), bench.add(below(parent)));
    let part = bench.add(below(first));
    let all = |bench: &Bench| bench.core.going_on_below(&[parent, first, second]);
    assert_eq!(all(&bench), [vec![first, second, part], vec![], vec![]]);
    let _ = bench.restart();
    assert_eq!(all(&bench), [vec![first, second, part], vec![], vec![]]);
    assert_eq!(bench.core.going_on_below(&[first]), [[part]]);
    for id in [first, second] {
        let request = RequestId(9);
        let _ = bench.give(Input::Cancel { request, task: id });
    }
    assert_eq!(all(&bench), [vec![part], vec![], vec![]]);
}

#[test]
fn the_end_of_one_attempt_stops_another_one_under_the_same_budget() {
    let mut bench = bench();
    let parent = bench.add(with("100tokens"));
    let part = bench.add(below(parent));
    let step = end(&mut bench, attempt(part, 1), 100, None);
    assert_eq!(stops(&step), [(parent, StopReason::Budget)]);
}

#[test]
fn after_a_restart_workers_are_told_again_what_a_budget_stops() {
    let mut bench = bench();
    let parent = bench.add(with("100tokens"));
    let (part, other) = (bench.add(below(parent)), bench.add(below(parent)));
    let _ = end(&mut bench, attempt(part, 1), 100, None);
    let _ = bench.restart();
    let held = crate::Held {
        attempt: attempt(parent, 1),
        started: true,
        running: None,
    };
    let step = bench.attach(&worker("a", 8, &[("claude", 8)]), 2, &[held]);
    let other = attempt(other, 1);
    assert_eq!(starts(&step), [(other, 2, "claude".to_owned())]);
    let both = [parent, other.task].map(|id| (id, StopReason::Budget));
    assert_eq!(stops(&step), both);
}
