//! A task's life from assignment to its end.

use std::time::Duration;

use orchestra_types::{ApplyResult, FailureCode, TaskStatus};

use super::{
    bench::{Bench, attempt, finished, reply, starts, task, worker},
    budgets,
};
use crate::{
    CancelRefused, Change, Input, Message, Reply, ReportBody, RequestId, Step, StopReason,
};

fn busy_bench() -> Bench {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 1, &[]);
    bench
}

#[test]
fn a_task_succeeds_only_after_its_result_was_put_in_place() {
    let mut bench = busy_bench();
    let id = bench.add(task());
    let _ = bench.report("w", 1, attempt(id, 1), ReportBody::Started);
    assert_eq!(bench.status(id), TaskStatus::Running);
    let step = bench.finish("w", 1, attempt(id, 1), None);
    assert!(step.messages.contains(&Message::Close {
        attempt: attempt(id, 1),
        status: Some(TaskStatus::Succeeded)
    }));
    assert_eq!(bench.status(id), TaskStatus::Running);
    let _ = bench.close(attempt(id, 1));
    assert_eq!(bench.status(id), TaskStatus::Succeeded);
}

#[test]
fn what_is_put_in_place_is_told_from_what_takes_a_slot() {
    let mut bench = busy_bench();
    let [first, second] = [(); 2].map(|()| bench.add(task()));
    let _ = bench.report("w", 1, attempt(first, 1), ReportBody::Started);
    let _ = bench.finish("w", 1, attempt(first, 1), None);
    let _ = bench.report("w", 1, attempt(second, 1), ReportBody::Started);
    let counted = |bench: &Bench| {
        let counts = bench.core.counts();
        (counts.with_status(TaskStatus::Running), counts.finishing())
    };
    assert_eq!(counted(&bench), (2, 1), "one slot, one that runs");
    let _ = bench.give(Input::Prioritise {
        request: RequestId(9),
        task: first,
        priority: orchestra_types::Priority::High,
    });
    assert_eq!(counted(&bench), (2, 1));
    let _ = bench.restart();
    assert_eq!(counted(&bench), (2, 1));
    let _ = bench.close(attempt(first, 1));
    assert_eq!(counted(&bench), (1, 0));
}

#[test]
fn a_task_without_a_project_has_no_place_for_a_result_and_ends_with_its_report() {
    let mut bench = busy_bench();
    let mut stray = task();
    stray.spec.project = None;
    let id = bench.add(stray);
    let step = bench.finish("w", 1, attempt(id, 1), None);
    assert_eq!(bench.status(id), TaskStatus::Succeeded);
    let closes = |message: &Message| matches!(message, Message::Close { .. });
    assert!(!step.messages.iter().any(closes));
}

#[test]
fn a_report_is_recorded_once_however_often_it_comes() {
    let mut bench = busy_bench();
    let id = bench.add(task());
    let _ = bench.finish("w", 1, attempt(id, 1), None);
    bench.seqs.insert("w".parse().unwrap(), 0);
    let again = bench.finish("w", 1, attempt(id, 1), Some(FailureCode::AgentFailed));
    assert_eq!(again.changes, []);
    assert_eq!(
        again.messages,
        [Message::AckReports {
            connection: crate::ConnectionId(1),
            up_to: 1
        }]
    );
}

#[test]
fn a_gap_in_the_reports_ends_the_stream_and_records_nothing() {
    let mut bench = busy_bench();
    let id = bench.add(task());
    bench.seqs.insert("w".parse().unwrap(), 5);
    let step = bench.finish("w", 1, attempt(id, 1), None);
    assert_eq!(step.changes, []);
    assert_eq!(
        step.messages,
        [Message::Disconnect {
            connection: crate::ConnectionId(1)
        }]
    );
}

#[test]
fn a_failure_without_retries_fails_with_its_reason() {
    let mut bench = busy_bench();
    let id = bench.add(task());
    let _ = bench.finish("w", 1, attempt(id, 1), Some(FailureCode::AgentFailed));
    let _ = bench.close(attempt(id, 1));
    let view = bench.core.task(id).unwrap();
    assert_eq!(view.status, TaskStatus::Failed);
    assert_eq!(view.reason.map(|r| r.code), Some(FailureCode::AgentFailed));
}

#[test]
fn retries_wait_longer_each_time_and_end_with_a_person() {
    let mut bench = busy_bench();
    let id = bench.add(task().retries(2));
    for number in 1..=2_u32 {
        let _ = bench.finish("w", 1, attempt(id, number), Some(FailureCode::AgentFailed));
        assert_eq!(
            starts(&bench.close(attempt(id, number))),
            [],
            "it waits first"
        );
        let due = bench.core.next_deadline().unwrap();
        let delay = due.since(bench.now).as_secs();
        let least = 10 * u64::from(number);
        assert!(
            (least..=least * 5 / 4).contains(&delay),
            "{delay} s after failure {number}"
        );
        let step = bench.later(due.since(bench.now));
        assert_eq!(starts(&step).len(), 1);
    }
    let _ = bench.finish("w", 1, attempt(id, 3), Some(FailureCode::AgentFailed));
    let _ = bench.close(attempt(id, 3));
    assert_eq!(bench.status(id), TaskStatus::NeedsReview);
}

#[test]
fn a_task_that_waits_for_a_person_can_be_cancelled_once() {
    let mut bench = busy_bench();
    let id = bench.add(task().retries(1));
    let behind = bench.add(task().after(id));
    let _ = bench.finish("w", 1, attempt(id, 1), Some(FailureCode::AgentFailed));
    let _ = bench.close(attempt(id, 1));
    let due = bench.core.next_deadline().unwrap();
    let _ = bench.later(due.since(bench.now));
    let _ = bench.finish("w", 1, attempt(id, 2), Some(FailureCode::AgentFailed));
    let _ = bench.close(attempt(id, 2));
    assert_eq!(bench.status(id), TaskStatus::NeedsReview);
    let waited = bench.core.task(id).unwrap().reason.unwrap().message;
    let cancel = |request| Input::Cancel {
        request: RequestId(request),
        task: id,
    };
    let step = bench.give(cancel(1));
    assert_eq!(reply(&step), Reply::Done(id));
    let view = bench.core.task(id).unwrap();
    assert_eq!(view.status, TaskStatus::Cancelled);
    let reason = view.reason.unwrap();
    assert_eq!(reason.code, FailureCode::Cancelled);
    assert!(reason.message.ends_with(&waited), "{}", reason.message);
    assert_eq!(bench.status(behind), TaskStatus::Blocked);
    let refused = CancelRefused::Ended(id, TaskStatus::Cancelled);
    assert_eq!(reply(&bench.give(cancel(2))), Reply::CancelRefused(refused));
}

#[test]
fn a_cancel_that_comes_when_the_result_is_put_in_place_is_too_late() {
    let mut bench = busy_bench();
    let id = bench.add(task());
    let _ = bench.finish("w", 1, attempt(id, 1), None);
    let cancel = Input::Cancel {
        request: RequestId(1),
        task: id,
    };
    let refused = Reply::CancelRefused(CancelRefused::Finishing(id));
    assert_eq!(reply(&bench.give(cancel)), refused);
    let _ = bench.close(attempt(id, 1));
    assert_eq!(bench.status(id), TaskStatus::Succeeded);
}

#[test]
fn what_a_retry_cannot_help_is_not_retried() {
    let mut bench = busy_bench();
    let id = bench.add(task().retries(5));
    let _ = bench.finish("w", 1, attempt(id, 1), Some(FailureCode::Auth));
    let _ = bench.close(attempt(id, 1));
    assert_eq!(bench.status(id), TaskStatus::Failed);
}

#[test]
fn a_person_can_retry_what_failed_but_not_what_succeeded() {
    let mut bench = busy_bench();
    let id = bench.add(task());
    let _ = bench.finish("w", 1, attempt(id, 1), Some(FailureCode::AgentFailed));
    let _ = bench.close(attempt(id, 1));
    let step = bench.give(Input::Retry {
        request: RequestId(1),
        task: id,
    });
    assert_eq!(starts(&step), [(attempt(id, 2), 1, "claude".to_owned())]);
    assert_eq!(reply(&step), Reply::Done(id));
    let _ = bench.finish("w", 1, attempt(id, 2), None);
    let _ = bench.close(attempt(id, 2));
    let step = bench.give(Input::Retry {
        request: RequestId(2),
        task: id,
    });
    assert_eq!(
        reply(&step),
        Reply::RetryRefused(crate::RetryRefused::Succeeded(id))
    );
}

/// The projects' budgets are of a day, and so no reason to refuse.
#[test]
fn what_would_only_be_held_by_its_budget_is_not_tried_again() {
    let mut bench = budgets::bench();
    let id = bench.add(budgets::with("100tokens"));
    let failed = Some(FailureCode::AgentFailed);
    let _ = budgets::end(&mut bench, attempt(id, 1), 100, failed);
    assert_eq!(bench.status(id), TaskStatus::Failed);
    let retry = |request| Input::Retry { request, task: id };
    let refused = match bench.ask(retry) {
        Reply::RetryRefused(crate::RetryRefused::UsedUp(task, why)) => (task, why.code),
        reply => panic!("{reply:?}"),
    };
    assert_eq!(refused, (id, FailureCode::BudgetExceeded));
    assert_eq!(bench.status(id), TaskStatus::Failed);
    let _ = budgets::raise(&mut bench, id, "100tokens");
    assert_eq!(bench.ask(retry), Reply::Done(id));
    assert_eq!(bench.core.task(id).unwrap().row.attempts, 2);
}

#[test]
fn a_cancel_before_a_retry_keeps_how_the_last_attempt_ended() {
    let mut bench = busy_bench();
    let id = bench.add(task().retries(5));
    let cancel = |bench: &mut Bench| {
        let _ = bench.give(Input::Cancel {
            request: RequestId(1),
            task: id,
        });
    };
    let _ = bench.finish("w", 1, attempt(id, 1), Some(FailureCode::AgentFailed));
    let _ = bench.close(attempt(id, 1));
    assert_eq!(bench.status(id), TaskStatus::Queued);
    cancel(&mut bench);
    let says = |bench: &Bench| {
        let reason = bench.core.task(id).unwrap().reason.unwrap();
        assert_eq!(reason.code, FailureCode::Cancelled);
        let begin = "cancelled before it was tried again; the last attempt ended by agent_failed";
        assert!(reason.message.starts_with(begin), "{}", reason.message);
    };
    says(&bench);
    // The same while the result of its attempt is put in place.
    let _ = bench.give(Input::Retry {
        request: RequestId(2),
        task: id,
    });
    let _ = bench.finish("w", 1, attempt(id, 2), Some(FailureCode::AgentFailed));
    cancel(&mut bench);
    let _ = bench.close(attempt(id, 2));
    says(&bench);
}

#[test]
fn a_waiting_task_is_cancelled_at_once_and_a_running_one_by_its_worker() {
    let mut bench = busy_bench();
    let running = bench.add(task());
    let waiting = bench.add(task());
    let _ = bench.give(Input::Cancel {
        request: RequestId(1),
        task: waiting,
    });
    assert_eq!(bench.status(waiting), TaskStatus::Cancelled);
    let step = bench.give(Input::Cancel {
        request: RequestId(2),
        task: running,
    });
    let stop = Message::Stop {
        connection: crate::ConnectionId(1),
        attempt: attempt(running, 1),
        reason: StopReason::Cancelled,
    };
    assert!(step.messages.contains(&stop));
    let durable = step
        .changes
        .iter()
        .any(|c| matches!(c, Change::Task(r) if r.cancel_requested));
    assert!(durable, "the wish is durable before the worker is told");
    let _ = bench.finish("w", 1, attempt(running, 1), Some(FailureCode::AgentCrashed));
    let _ = bench.close(attempt(running, 1));
    assert_eq!(bench.status(running), TaskStatus::Cancelled);
}

#[test]
fn a_success_that_beats_the_cancel_stays_a_success() {
    let mut bench = busy_bench();
    let id = bench.add(task());
    let _ = bench.give(Input::Cancel {
        request: RequestId(1),
        task: id,
    });
    let _ = bench.finish("w", 1, attempt(id, 1), None);
    let _ = bench.close(attempt(id, 1));
    assert_eq!(bench.status(id), TaskStatus::Succeeded);
}

#[test]
fn a_dependant_starts_only_after_success_and_says_why_it_waits_otherwise() {
    let mut bench = busy_bench();
    let plan = bench.add(task());
    let build = bench.add(task().after(plan));
    let ship = bench.add(task().after(build));
    let _ = bench.finish("w", 1, attempt(plan, 1), Some(FailureCode::AgentFailed));
    let step = bench.close(attempt(plan, 1));
    for blocked in [build, ship] {
        assert!(step.messages.contains(&Message::Changed { task: blocked }));
        let view = bench.core.task(blocked).unwrap();
        assert_eq!(view.status, TaskStatus::Blocked);
        assert_eq!(
            view.reason.map(|r| r.code),
            Some(FailureCode::DependencyFailed)
        );
    }
    let _ = bench.give(Input::Retry {
        request: RequestId(1),
        task: plan,
    });
    let _ = bench.finish("w", 1, attempt(plan, 2), None);
    assert_eq!(
        bench.status(build),
        TaskStatus::Blocked,
        "the result is not in place yet"
    );
    let _ = bench.close(attempt(plan, 2));
    assert_eq!(bench.status(build), TaskStatus::Assigned);
}

#[test]
fn a_conflicting_apply_waits_for_a_person_and_ends_when_applied() {
    let mut bench = busy_bench();
    let id = bench.add(task());
    let _ = bench.finish("w", 1, attempt(id, 1), None);
    let apply = ApplyResult::Conflict {
        message: "a.rs has edits".into(),
    };
    let _ = bench.give(Input::Closed {
        attempt: attempt(id, 1),
        apply,
    });
    let view = bench.core.task(id).unwrap();
    assert_eq!(view.status, TaskStatus::NeedsReview);
    assert_eq!(
        view.reason.map(|r| r.code),
        Some(FailureCode::ApplyConflict)
    );
    let applied = ApplyResult::Applied { files: 1 };
    let _ = bench.give(Input::ApplyRecorded {
        request: RequestId(1),
        task: id,
        result: applied.clone(),
    });
    assert_eq!(bench.status(id), TaskStatus::Succeeded);
    let again = ApplyResult::Conflict {
        message: "a.rs has edits".into(),
    };
    let _ = bench.give(Input::ApplyRecorded {
        request: RequestId(2),
        task: id,
        result: again,
    });
    let view = bench.core.task(id).unwrap();
    assert_eq!(
        view.row.apply,
        Some(Box::new(applied)),
        "it is in the checkout"
    );
}

#[test]
fn a_silent_worker_loses_its_attempts_only_after_lease_and_grace() {
    let mut bench = busy_bench();
    let id = bench.add(task());
    let _ = bench.detach("w", 1);
    let _ = bench.later(Duration::from_secs(44));
    assert_eq!(bench.status(id), TaskStatus::Assigned);
    let _ = bench.later(Duration::from_secs(1));
    assert_eq!(bench.status(id), TaskStatus::Queued);
    assert_eq!(
        bench.core.task(id).unwrap().row.failures,
        0,
        "a loss is not the task's failure"
    );
}

#[test]
fn a_head_that_was_away_gives_every_worker_time_to_come_back() {
    let mut bench = busy_bench();
    let id = bench.add(task());
    let _ = bench.away(Duration::from_secs(3600));
    assert_eq!(bench.status(id), TaskStatus::Assigned);
    let _ = bench.later(Duration::from_secs(44));
    assert_eq!(bench.status(id), TaskStatus::Assigned);
    let _ = bench.later(Duration::from_secs(1));
    assert_eq!(bench.status(id), TaskStatus::Queued);
}

#[test]
fn a_task_that_loses_three_workers_waits_for_a_person() {
    let mut bench = busy_bench();
    let id = bench.add(task());
    for connection in 11..=13 {
        assert_eq!(bench.status(id), TaskStatus::Assigned);
        let _ = bench.later(Duration::from_secs(3600));
        let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), connection, &[]);
        let _ = bench.later(Duration::from_secs(20));
    }
    assert_eq!(bench.status(id), TaskStatus::NeedsReview);
}

#[test]
fn a_late_result_is_kept_and_changes_nothing() {
    let mut bench = busy_bench();
    let id = bench.add(task());
    let _ = bench.later(Duration::from_secs(100));
    assert_eq!(bench.status(id), TaskStatus::Queued);
    let _ = bench.attach(&worker("x", 1, &[("claude", 1)]), 2, &[]);
    let _ = bench.later(Duration::from_secs(20));
    assert_eq!(
        bench.core.holder(attempt(id, 2)).map(|w| w.as_str()),
        Some("x")
    );
    let held = [crate::Held {
        attempt: attempt(id, 1),
        started: true,
        running: None,
    }];
    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 3, &held);
    let step = bench.report("w", 3, attempt(id, 1), finished(None));
    let kept = step
        .changes
        .iter()
        .any(|c| matches!(c, Change::Outcome(r) if r.id.number == 1));
    assert!(kept, "the agent's work is kept");
    assert_eq!(
        bench.core.holder(attempt(id, 2)).map(|w| w.as_str()),
        Some("x")
    );
}

#[test]
fn a_late_result_is_taken_from_the_worker_that_had_the_attempt_alone() {
    let mut bench = busy_bench();
    let id = bench.add(task());
    let _ = bench.later(Duration::from_secs(100));
    let _ = bench.attach(&worker("x", 1, &[("claude", 1)]), 2, &[]);
    let _ = bench.later(Duration::from_secs(20));
    let _ = bench.attach(&worker("thief", 1, &[("codex", 1)]), 3, &[]);
    let kept = |step: &Step| {
        let mut changes = step.changes.iter();
        changes.any(|c| matches!(c, Change::Outcome(r) if r.id.number == 1))
    };
    for (name, connection) in [("thief", 3), ("x", 2)] {
        let step = bench.report(name, connection, attempt(id, 1), finished(None));
        assert!(!kept(&step), "{name} never had it");
    }
    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 4, &[]);
    let step = bench.report("w", 4, attempt(id, 1), finished(None));
    assert!(kept(&step), "the agent's work is kept");
}

#[test]
fn a_late_result_is_kept_after_a_person_began_anew_and_gave_up() {
    let mut bench = busy_bench();
    let id = bench.add(task());
    let _ = bench.later(Duration::from_secs(100));
    let request = RequestId(9);
    let _ = bench.give(Input::Cancel { request, task: id });
    let _ = bench.give(Input::Retry { request, task: id });
    let _ = bench.give(Input::Cancel { request, task: id });
    let held = [crate::Held {
        attempt: attempt(id, 1),
        started: true,
        running: None,
    }];
    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 3, &held);
    let step = bench.report("w", 3, attempt(id, 1), finished(None));
    let kept = |step: &Step| {
        let mut changes = step.changes.iter();
        changes.any(|c| matches!(c, Change::Outcome(r) if r.id.number == 1 && r.result.is_ok()))
    };
    assert!(kept(&step), "the agent's work is kept");
    let step = bench.report("w", 3, attempt(id, 1), finished(None));
    assert!(!kept(&step), "a recorded result stays");
    assert_eq!(bench.status(id), TaskStatus::Cancelled);
}

#[test]
fn a_worker_cannot_end_an_attempt_that_another_one_holds() {
    let mut bench = busy_bench();
    let id = bench.add(task());
    let _ = bench.attach(&worker("thief", 1, &[("codex", 1)]), 2, &[]);
    let step = bench.finish("thief", 2, attempt(id, 1), None);
    assert!(
        !step
            .changes
            .iter()
            .any(|c| matches!(c, Change::Outcome(_) | Change::Task(_)))
    );
    assert_eq!(bench.status(id), TaskStatus::Assigned);
}
