//! Limits that a person sets, raises or takes away, and what was used before.

use std::time::Duration;

use orchestra_types::{FailureCode, Measure, TaskId, TaskStatus, Timestamp};

use super::{
    bench::{attempt, reply, starts, task, worker},
    budgets::{
        below, bench, budget, end, end_over_budget, meter, pass, raise, set, stops, to, with,
        without_tokens,
    },
};
use crate::{Input, RaiseRefused, Reply, ReportBody, RequestId, StopReason};

#[test]
fn a_raise_lets_the_task_go_on_and_counts_from_what_was_used() {
    let mut bench = bench();
    let id = bench.add(with("100tokens"));
    let _ = meter(&mut bench, attempt(id, 1), 100);
    let _ = end_over_budget(&mut bench, attempt(id, 1), 130);
    let step = raise(&mut bench, id, "10tokens");
    assert_eq!(starts(&step), [], "110 are used up as well");
    assert_eq!(bench.status(id), TaskStatus::NeedsReview);
    let step = raise(&mut bench, id, "100tokens");
    assert_eq!(reply(&step), Reply::Done(id));
    assert_eq!(starts(&step).len(), 1);
    assert_eq!(stops(&meter(&mut bench, attempt(id, 2), 79)), []);
    assert_eq!(stops(&meter(&mut bench, attempt(id, 2), 80)).len(), 1);
}

#[test]
fn a_budget_may_be_set_while_a_task_runs() {
    let mut bench = bench();
    let id = bench.add(task());
    let _ = meter(&mut bench, attempt(id, 1), 500);
    let step = bench.give(Input::SetTaskBudget {
        request: RequestId(1),
        task: id,
        change: to("600tokens"),
    });
    assert_eq!(stops(&step), []);
    assert_eq!(stops(&meter(&mut bench, attempt(id, 1), 600)).len(), 1);
    assert_eq!(bench.core.budget(TaskId(77)), None);
    assert_eq!(Timestamp(0).since(bench.now), Duration::ZERO);
}

#[test]
fn a_raise_of_a_limit_that_is_not_there_changes_nothing() {
    let mut bench = bench();
    let id = bench.add(with("100tokens"));
    let _ = meter(&mut bench, attempt(id, 1), 50);
    let refused = |lacks| {
        Reply::RaiseRefused(RaiseRefused::Task {
            id,
            lacks,
            used_up: None,
        })
    };
    let step = raise(&mut bench, id, "100tokens,1s");
    assert_eq!(reply(&step), refused(Measure::Time));
    assert_eq!((step.changes.len(), step.messages.len()), (0, 1));
    assert_eq!(bench.core.budget(id).unwrap().0, budget("100tokens"));
    let unlimited = bench.add(task());
    let step = raise(&mut bench, unlimited, "1s");
    assert_eq!((step.changes.len(), step.messages.len()), (0, 1));
    assert!(bench.core.budget(unlimited).unwrap().0.is_unlimited());
}

#[test]
fn a_raise_for_a_subtask_names_the_budget_that_holds_it() {
    let mut bench = bench();
    let root = bench.add(with("100tokens"));
    let part = bench.add(below(root));
    let _ = end_over_budget(&mut bench, attempt(part, 1), 100);
    assert_eq!(bench.status(part), TaskStatus::NeedsReview);
    let step = raise(&mut bench, part, "1h");
    let Reply::RaiseRefused(RaiseRefused::Task { used_up, .. }) = reply(&step) else {
        panic!("{:?}", reply(&step));
    };
    let text = used_up.expect("there is one").message;
    assert!(
        text.contains("`ctl budget task_001 --tokens +100k`"),
        "{text}"
    );
    assert_eq!(bench.status(part), TaskStatus::NeedsReview);
}

#[test]
fn a_limit_that_is_taken_away_holds_nobody_also_after_a_restart() {
    let mut bench = bench();
    let id = bench.add(with("100tokens,1h"));
    let over = Some(FailureCode::BudgetExceeded);
    let _ = end(&mut bench, attempt(id, 1), 100, over);
    assert_eq!(bench.status(id), TaskStatus::NeedsReview);
    let step = bench.give(Input::SetTaskBudget {
        request: RequestId(1),
        task: id,
        change: without_tokens(),
    });
    assert_eq!(starts(&step).len(), 1, "it goes on");
    assert_eq!(stops(&meter(&mut bench, attempt(id, 2), 900)), []);
    assert_eq!(bench.core.budget(id).unwrap().0, budget("1h"));
    let _ = bench.restart();
    assert_eq!(bench.core.budget(id).unwrap().0, budget("1h"));
}

#[test]
fn a_budget_that_comes_later_counts_what_was_used_before() {
    let mut bench = bench();
    let mut new = task();
    new.spec.retries = 9;
    let id = bench.add(new);
    let _ = bench.report("a", 1, attempt(id, 1), ReportBody::Started);
    let _ = bench.later(Duration::from_secs(5));
    let failed = Some(FailureCode::AgentFailed);
    let _ = end(&mut bench, attempt(id, 1), 70, failed);
    let _ = pass(&mut bench, Duration::from_secs(30));
    let _ = meter(&mut bench, attempt(id, 2), 20);
    let (limits, spent) = bench.core.budget(id).unwrap();
    assert!(limits.is_unlimited());
    assert_eq!((spent.tokens, spent.attempts), (90, 2));
    let step = set(&mut bench, id, "100tokens");
    assert_eq!(stops(&step), []);
    assert_eq!(stops(&meter(&mut bench, attempt(id, 2), 29)), []);
    let step = meter(&mut bench, attempt(id, 2), 30);
    assert_eq!(stops(&step), [(id, StopReason::Budget)]);
    let _ = end_over_budget(&mut bench, attempt(id, 2), 35);
    let (_, spent) = bench.core.budget(id).unwrap();
    assert_eq!((spent.tokens, spent.attempts), (105, 2));
    assert!(spent.time >= Duration::from_secs(5), "{spent}");
}

#[test]
fn a_budget_that_is_used_up_when_it_comes_stops_what_runs() {
    let mut bench = bench();
    let id = bench.add(task());
    let _ = meter(&mut bench, attempt(id, 1), 500);
    let step = set(&mut bench, id, "500tokens");
    assert_eq!(stops(&step), [(id, StopReason::Budget)]);
}

#[test]
fn what_a_task_used_counts_when_its_first_subtask_comes_and_after_a_restart() {
    let mut bench = bench();
    let root = bench.add(task());
    let _ = end(
        &mut bench,
        attempt(root, 1),
        70,
        Some(FailureCode::AgentFailed),
    );
    let part = bench.add(below(root));
    assert_eq!(bench.core.budget(root).unwrap().1.tokens, 70);
    let _ = bench.restart();
    assert_eq!(bench.core.budget(root).unwrap().1.tokens, 70);
    let held = crate::Held {
        attempt: attempt(part, 1),
        started: true,
        running: None,
    };
    let _ = bench.attach(&worker("a", 8, &[("claude", 8)]), 1, &[held]);
    let _ = end(&mut bench, attempt(part, 1), 5, None);
    let _ = set(&mut bench, root, "80tokens");
    let (limits, spent) = bench.core.budget(root).unwrap();
    assert_eq!((limits, spent.tokens), (budget("80tokens"), 75));
}
