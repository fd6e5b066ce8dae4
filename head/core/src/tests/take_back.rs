//! Workers that were given up and come back while their tasks still wait.

use std::time::Duration;

use orchestra_types::{FailureCode, TaskId, TaskStatus, Timestamp, Usage, runner::WorkerInfo};

use super::bench::{Bench, attempt, finished, held, starts, task, worker};
use super::budgets::{meter, with};
use super::retract::{ahead, three_at_a};
use crate::{
    Change, ConnectionId, Held, Input, Link, Message, NewTask, ReportBody, RequestId, Step,
    StopReason,
};

/// Longer than a lease and its grace, and shorter than the delay of the retry after it.
const AWAY: Duration = Duration::from_secs(46);

fn alone() -> (Bench, WorkerInfo) {
    let mut bench = Bench::new();
    let info = worker("a", 1, &[("claude", 1)]);
    let _ = bench.attach(&info, 1, &[]);
    (bench, info)
}

/// A task whose worker was given up while its agent ran.
fn lost(bench: &mut Bench, new: NewTask) -> TaskId {
    let id = bench.add(new);
    let _ = bench.report("a", 1, attempt(id, 1), ReportBody::Started);
    let _ = bench.later(AWAY);
    assert_eq!(bench.status(id), TaskStatus::Queued);
    assert_eq!(row(bench, id).losses, 1);
    id
}

fn row(bench: &Bench, id: TaskId) -> crate::TaskRow {
    bench.core.task(id).expect("it is there").row.clone()
}

/// What the worker was told to end at its welcome.
fn killed(step: &Step) -> bool {
    let mut welcomes = step.messages.iter().filter_map(|m| match m {
        Message::Welcome { welcome, .. } => Some(welcome),
        _ => None,
    });
    let welcome = welcomes.next().expect("each attachment is welcomed");
    assert_eq!(welcome.keep.is_empty(), !welcome.kill.is_empty());
    !welcome.kill.is_empty()
}

fn used(body: ReportBody, tokens: u64) -> ReportBody {
    let ReportBody::Finished(mut outcome) = body else {
        panic!("it is a result");
    };
    outcome.usage = Usage {
        input_tokens: tokens,
        ..Usage::default()
    };
    ReportBody::Finished(outcome)
}

#[test]
fn an_agent_goes_on_whose_worker_comes_back_before_anybody_else_has_its_task() {
    let (mut bench, info) = alone();
    let id = lost(&mut bench, task());
    let step = bench.attach(&info, 2, &held(id, 1, true));
    assert!(!killed(&step));
    assert_eq!(starts(&step), []);
    let written = step
        .changes
        .iter()
        .any(|change| matches!(change, Change::Task(row) if row.id == id && row.losses == 0));
    assert!(
        written,
        "a worker that is told to go on is durably its holder"
    );
    let gone = Change::ForgetOutcome { id: attempt(id, 1) };
    assert!(step.changes.contains(&gone), "its loss is no result");
    assert_eq!(bench.status(id), TaskStatus::Running);
    let now = row(&bench, id);
    assert_eq!((now.attempts, now.losses, now.given_up), (1, 0, 0));
    assert_eq!(now.reason, None);
    let _ = bench.finish("a", 2, attempt(id, 1), None);
    let _ = bench.close(attempt(id, 1));
    assert_eq!(bench.status(id), TaskStatus::Succeeded);
    assert_eq!(row(&bench, id).attempts, 1);
}

#[test]
fn it_holds_its_slot_again_and_is_there_after_a_restart() {
    let (mut bench, info) = alone();
    let id = lost(&mut bench, task());
    let other = bench.add(task());
    let step = bench.attach(&info, 2, &held(id, 1, true));
    assert_eq!(starts(&step), [], "the one slot is taken");
    assert_eq!(bench.status(other), TaskStatus::Queued);
    let _ = bench.restart();
    assert_eq!(bench.status(id), TaskStatus::Running);
    let _ = bench.attach(&info, 3, &held(id, 1, true));
    let step = bench.finish("a", 3, attempt(id, 1), None);
    assert_eq!(starts(&step).len(), 1, "the slot is free: {step:?}");
}

#[test]
fn its_one_result_is_recorded_once() {
    let (mut bench, info) = alone();
    let id = lost(&mut bench, task());
    let _ = bench.attach(&info, 2, &held(id, 1, true));
    let results = |step: &Step| {
        let ends = step.changes.iter();
        ends.filter(|c| matches!(c, Change::Outcome(_))).count()
    };
    assert_eq!(results(&bench.finish("a", 2, attempt(id, 1), None)), 1);
    assert_eq!(results(&bench.finish("a", 2, attempt(id, 1), None)), 0);
}

#[test]
fn a_head_that_never_heard_of_the_start_notes_it_when_it_takes_an_attempt_back() {
    let (mut bench, info) = alone();
    let id = bench.add(task());
    let assigned_at = bench.now;
    let _ = bench.later(AWAY);
    assert_eq!(bench.status(id), TaskStatus::Queued);
    let step = bench.attach(&info, 2, &held(id, 1, true));
    assert_eq!(bench.status(id), TaskStatus::Running);
    let noted = step.changes.iter().find_map(|change| match change {
        Change::Attempt(row) => Some((row.assigned_at, row.started_at)),
        _ => None,
    });
    assert_eq!(noted, Some((assigned_at, Some(bench.now))));
}

#[test]
fn what_never_began_begins_anew() {
    let (mut bench, info) = alone();
    let id = bench.add(task());
    let _ = bench.later(AWAY);
    assert!(killed(&bench.attach(&info, 2, &held(id, 1, false))));
    assert_eq!(bench.status(id), TaskStatus::Queued);
}

#[test]
fn a_task_that_another_worker_has_had_is_not_taken_back() {
    let (mut bench, info) = alone();
    let id = lost(&mut bench, task());
    let other = worker("b", 1, &[("claude", 1)]);
    let _ = bench.attach(&other, 2, &[]);
    let step = bench.later(Duration::from_secs(20));
    assert_eq!(starts(&step)[0].0, attempt(id, 2));
    assert!(killed(&bench.attach(&info, 3, &held(id, 1, true))));
    assert_eq!(row(&bench, id).attempts, 2);
    // Nor when that one is lost as well.
    let beats = |bench: &mut Bench| {
        let _ = bench.give(Input::Heartbeat {
            connection: ConnectionId(3),
            worker: info.id.clone(),
        });
    };
    for _ in 0..5 {
        beats(&mut bench);
        let _ = bench.later(Duration::from_secs(10));
    }
    assert_eq!(row(&bench, id).losses, 2);
    assert!(killed(&bench.attach(&info, 4, &held(id, 1, true))));
}

#[test]
fn a_cancelled_task_is_not_taken_back_nor_one_that_a_person_began_anew() {
    let (mut bench, info) = alone();
    let id = lost(&mut bench, task());
    let _ = bench.give(Input::Cancel {
        request: RequestId(1),
        task: id,
    });
    assert!(killed(&bench.attach(&info, 2, &held(id, 1, true))));
    assert_eq!(bench.status(id), TaskStatus::Cancelled);
    let _ = bench.detach("a", 2);
    let _ = bench.give(Input::Retry {
        request: RequestId(2),
        task: id,
    });
    assert!(killed(&bench.attach(&info, 3, &held(id, 1, true))));
    assert_eq!(row(&bench, id).attempts, 2, "it is begun anew");
}

#[test]
fn a_machine_that_was_started_anew_has_no_agent_to_go_on() {
    let (mut bench, mut info) = alone();
    let id = lost(&mut bench, task());
    info.boot_id = "another".to_owned();
    assert!(killed(&bench.attach(&info, 2, &held(id, 1, true))));
    assert_eq!(bench.status(id), TaskStatus::Queued);
}

#[test]
fn what_a_worker_was_told_to_end_is_not_taken_back_when_it_comes_again() {
    let (mut bench, mut info) = alone();
    let id = lost(&mut bench, task());
    info.boot_id = "another".to_owned();
    let step = bench.attach(&info, 2, &held(id, 1, true));
    assert!(killed(&step));
    let written = |step: &Step| {
        let mut changes = step.changes.iter();
        changes.any(|change| matches!(change, Change::Task(row) if row.id == id))
    };
    assert!(written(&step), "it is told when it is durable");
    // Its stream breaks off before what it reports of that is known, and so does the head.
    let step = bench.attach(&info, 3, &held(id, 1, true));
    assert!(killed(&step) && !written(&step), "it is known already");
    let _ = bench.restart();
    assert!(killed(&bench.attach(&info, 4, &held(id, 1, true))));
    assert_eq!(bench.status(id), TaskStatus::Queued);
    // The end that it was told is kept, and is none of the task's.
    let _ = bench.finish("a", 4, attempt(id, 1), Some(FailureCode::WorkerLost));
    assert_eq!(bench.status(id), TaskStatus::Queued);
    let step = bench.later(Duration::from_secs(20));
    assert_eq!(starts(&step)[0].0, attempt(id, 2));
}

#[test]
fn nothing_is_taken_back_beyond_a_budget() {
    let (mut bench, info) = alone();
    let id = bench.add(with("100tok"));
    let _ = bench.report("a", 1, attempt(id, 1), ReportBody::Started);
    let _ = meter(&mut bench, attempt(id, 1), 100);
    let _ = bench.later(AWAY);
    assert!(killed(&bench.attach(&info, 2, &held(id, 1, true))));
    // One whose attempts are used up goes on: it is not another attempt.
    let (mut bench, info) = alone();
    let id = lost(&mut bench, with("1attempt"));
    assert!(!killed(&bench.attach(&info, 2, &held(id, 1, true))));
}

#[test]
fn what_it_uses_counts_once_whether_its_loss_was_counted_or_not() {
    for new in [task(), with("10000tok")] {
        let (mut bench, info) = alone();
        let id = bench.add(new);
        let _ = bench.report("a", 1, attempt(id, 1), ReportBody::Started);
        let _ = meter(&mut bench, attempt(id, 1), 70);
        let _ = bench.later(AWAY);
        let spent = |bench: &Bench| bench.core.budget(id).map(|(_, spent)| spent);
        let tokens = |bench: &Bench| spent(bench).map(|spent| (spent.tokens, spent.attempts));
        assert_eq!(tokens(&bench), Some((70, 1)));
        let _ = bench.attach(&info, 1, &held(id, 1, true));
        assert_eq!(tokens(&bench), Some((70, 1)));
        let _ = bench.restart();
        let _ = bench.attach(&info, 1, &held(id, 1, true));
        let _ = meter(&mut bench, attempt(id, 1), 90);
        assert_eq!(tokens(&bench), Some((90, 1)));
        let end = used(finished(None), 100);
        let _ = bench.report("a", 1, attempt(id, 1), end);
        assert_eq!(tokens(&bench), Some((100, 1)));
        assert_eq!(row(&bench, id).used().tokens, 100);
        let counted = row(&bench, id).last.map(|last| last.counted.len());
        assert_eq!(counted, Some(0));
    }
}

/// What a worker says of an agent that has run for so many seconds, and goes on.
fn goes_on(id: TaskId, seconds: u64) -> [Held; 1] {
    held(id, 1, true).map(|held| Held {
        running: Some(Duration::from_secs(seconds)),
        ..held
    })
}

/// A success of an attempt that says how long it ran.
fn ran(seconds: u64) -> ReportBody {
    let ReportBody::Finished(mut outcome) = finished(None) else {
        panic!("it is a result");
    };
    outcome.started_at = Timestamp(1_000_000);
    outcome.finished_at = outcome.started_at.plus(Duration::from_secs(seconds));
    ReportBody::Finished(outcome)
}

/// The seconds that a task's budget has counted, and its row.
fn seconds(bench: &Bench, id: TaskId) -> (u64, u64) {
    let (_, spent) = bench.core.budget(id).expect("it has a budget");
    (spent.time.as_secs(), row(bench, id).used().time.as_secs())
}

#[test]
fn the_time_while_its_worker_was_lost_counts_when_it_is_back_and_runs_still() {
    for is_restarted in [false, true] {
        let (mut bench, info) = alone();
        let id = lost(&mut bench, with("1h"));
        assert_eq!(seconds(&bench, id), (0, 0), "nothing was heard of it");
        let _ = bench.later(Duration::from_secs(10));
        if is_restarted {
            let _ = bench.restart();
        }
        let _ = bench.attach(&info, 1, &goes_on(id, 55));
        assert_eq!(seconds(&bench, id), (55, 55));
        if is_restarted {
            let _ = bench.restart();
            let _ = bench.attach(&info, 1, &goes_on(id, 55));
        }
        let _ = bench.later(Duration::from_secs(4));
        let _ = bench.report("a", 1, attempt(id, 1), ran(58));
        assert_eq!(seconds(&bench, id), (58, 58));
    }
}

#[test]
fn time_that_was_used_up_while_its_worker_was_lost_ends_it_when_it_is_back() {
    let (mut bench, info) = alone();
    let id = lost(&mut bench, with("50s"));
    let _ = bench.later(Duration::from_secs(10));
    let step = bench.attach(&info, 1, &goes_on(id, 56));
    assert!(!killed(&step), "its work is not thrown away");
    let told = |message: &Message| {
        let Message::Stop { reason, .. } = message else {
            return false;
        };
        *reason == StopReason::Budget
    };
    let mut messages = step.messages.iter();
    let welcome = |message: &Message| matches!(message, Message::Welcome { .. });
    assert!(messages.any(welcome), "{:?}", step.messages);
    // It hangs up on a head that says something else first.
    assert_eq!(
        messages.filter(|m| told(m)).count(),
        1,
        "{:?}",
        step.messages
    );
    let written =
        |change: &Change| matches!(change, Change::Ledger(row) if row.spent.time.as_secs() == 56);
    assert!(step.changes.iter().any(written), "{:?}", step.changes);
}

#[test]
fn no_worker_makes_more_of_the_time_that_it_was_lost_than_that_was() {
    let (mut bench, info) = alone();
    let id = lost(&mut bench, with("1h"));
    let _ = bench.later(Duration::from_secs(10));
    let _ = bench.attach(&info, 1, &goes_on(id, 3000));
    assert_eq!(seconds(&bench, id), (56, 56));
}

#[test]
fn an_agent_that_ended_while_its_worker_was_lost_has_used_the_time_that_it_ran() {
    let (mut bench, info) = alone();
    let id = lost(&mut bench, with("50s"));
    let _ = bench.later(Duration::from_secs(10));
    let _ = bench.attach(&info, 1, &held(id, 1, true));
    assert_eq!(seconds(&bench, id), (0, 0), "it may have ended long ago");
    let _ = bench.later(Duration::from_secs(1));
    let _ = bench.report("a", 1, attempt(id, 1), ran(53));
    assert_eq!(seconds(&bench, id), (53, 53));
    assert_eq!(bench.status(id), TaskStatus::Running, "it is put in place");
    assert_eq!(row(&bench, id).reason, None);
}

#[test]
fn the_time_of_a_late_result_that_is_not_taken_back_counts_too() {
    let (mut bench, info) = alone();
    let mut new = with("1h");
    new.spec.retries = 1;
    let id = lost(&mut bench, new);
    let _ = bench.attach(&worker("b", 1, &[("claude", 1)]), 2, &[]);
    let _ = bench.later(Duration::from_secs(20));
    assert_eq!(row(&bench, id).attempts, 2);
    let _ = bench.attach(&info, 3, &held(id, 1, true));
    let _ = bench.report("a", 3, attempt(id, 1), ran(60));
    assert_eq!(seconds(&bench, id), (60, 60));
}

#[test]
fn a_late_result_that_is_not_taken_back_counts_what_it_used() {
    let mut bench = Bench::new();
    let info = worker("a", 1, &[("claude", 1)]);
    let _ = bench.attach(&info, 1, &[]);
    let mut new = with("10000tok");
    new.spec.retries = 1;
    let id = bench.add(new);
    let _ = bench.report("a", 1, attempt(id, 1), ReportBody::Started);
    let _ = meter(&mut bench, attempt(id, 1), 70);
    let _ = bench.later(AWAY);
    let _ = bench.attach(&worker("b", 1, &[("claude", 1)]), 2, &[]);
    let _ = bench.later(Duration::from_secs(20));
    assert_eq!(row(&bench, id).attempts, 2);
    let _ = bench.attach(&info, 3, &held(id, 1, true));
    let late = used(finished(None), 100);
    let step = bench.report("a", 3, attempt(id, 1), late);
    let spent = bench.core.budget(id).map(|(_, spent)| spent.tokens);
    assert_eq!(spent, Some(100));
    let ledger = step.changes.iter().find_map(|change| match change {
        Change::Ledger(row) => Some(row.spent.tokens),
        _ => None,
    });
    assert_eq!(ledger, Some(100), "it is written");
    assert_eq!(row(&bench, id).used().tokens, 100);
}

#[test]
fn one_that_is_lost_again_and_comes_back_again_is_not_quarantined() {
    let (mut bench, info) = alone();
    let id = lost(&mut bench, task());
    for connection in 2..6 {
        let step = bench.attach(&info, connection, &held(id, 1, true));
        assert!(!killed(&step), "who comes back has not been lost");
        let _ = bench.later(AWAY);
        assert_eq!(row(&bench, id).losses, 1);
        assert!(bench.core.workers().all(|w| w.link == Link::Lost));
    }
}

#[test]
fn a_failed_attempt_that_is_taken_back_is_charged_as_a_failure() {
    let (mut bench, info) = alone();
    let id = lost(&mut bench, task());
    let _ = bench.attach(&info, 2, &held(id, 1, true));
    let _ = bench.finish("a", 2, attempt(id, 1), Some(FailureCode::AgentFailed));
    let _ = bench.close(attempt(id, 1));
    assert_eq!(bench.status(id), TaskStatus::Failed);
}

/// Three tasks at a worker with one slot, of which the first runs, and longer than its lease of silence.
fn lost_ahead() -> (Bench, [TaskId; 3]) {
    let (mut bench, ids) = three_at_a();
    let _ = bench.later(AWAY);
    (bench, ids)
}

#[test]
fn what_waited_for_a_slot_of_a_lost_worker_is_not_charged_for_it() {
    let (mut bench, ids) = lost_ahead();
    let [first, second, third] = ids.map(|id| row(&bench, id));
    assert_eq!((first.losses, first.moved()), (1, 0));
    for waited in [&second, &third] {
        assert_eq!((waited.losses, waited.failures, waited.moved()), (0, 0, 1));
        assert_eq!(waited.used().attempts, 0, "no budget pays for it");
        let reason = waited.reason.as_ref().expect("it says why it waits again");
        assert_eq!(reason.code, FailureCode::WorkerLost);
        assert!(
            reason.message.ends_with("waited there for a slot"),
            "{reason:?}"
        );
    }
    // Another worker has them at once: nothing is retried.
    let other = worker("b", 2, &[("shell", 2)]);
    let step = bench.attach(&other, 2, &[]);
    let ids = [ids[1], ids[2]].map(|id| (attempt(id, 2), 2, "shell".to_owned()));
    assert_eq!(starts(&step), ids);
}

#[test]
fn what_always_waits_at_workers_that_are_lost_is_charged_in_the_end() {
    let (mut bench, ids) = three_at_a();
    let mut connection = 1;
    while row(&bench, ids[1]).losses == 0 {
        assert!(connection <= 21, "{:?}", row(&bench, ids[1]));
        let _ = bench.later(AWAY);
        connection += 1;
        // The first one is never given up by its worker, and keeps the slot.
        let _ = bench.attach(&ahead("a"), connection, &held(ids[0], 1, true));
    }
    assert_eq!(row(&bench, ids[1]).moved(), 20);
}

#[test]
fn what_began_while_nobody_heard_goes_on_and_nothing_stays_counted() {
    let (mut bench, ids) = lost_ahead();
    let before = row(&bench, ids[1]);
    assert_eq!(before.moved(), 1);
    let step = bench.attach(&ahead("a"), 2, &held(ids[1], 1, true));
    assert!(!killed(&step));
    let now = row(&bench, ids[1]);
    assert_eq!((now.moved(), now.losses, now.given_up), (0, 0, 0));
    assert_eq!(bench.status(ids[1]), TaskStatus::Running);
    let _ = bench.finish("a", 2, attempt(ids[1], 1), None);
    let _ = bench.close(attempt(ids[1], 1));
    assert_eq!(row(&bench, ids[1]).used().attempts, 1, "it counts once");
}

#[test]
fn what_may_have_begun_at_a_lost_worker_does_not_end_as_if_nobody_had_taken_it() {
    let mut bench = Bench::new();
    let _ = bench.attach(&ahead("a"), 1, &[]);
    let first = bench.add(task().runner("shell"));
    let mut new = task().runner("shell");
    new.spec.queue_timeout = Some(AWAY + Duration::from_secs(60));
    let second = bench.add(new);
    let _ = bench.report("a", 1, attempt(first, 1), ReportBody::Started);
    let _ = bench.later(AWAY);
    let _ = bench.later(Duration::from_secs(3600));
    assert_eq!(bench.status(second), TaskStatus::Queued);
    // The first one ended while nobody heard, and this one began in its slot.
    let _ = bench.attach(&ahead("a"), 2, &held(second, 1, true));
    assert_eq!(bench.status(second), TaskStatus::Running);
}

#[test]
fn what_runs_beyond_the_slots_of_its_runner_takes_those_of_others() {
    let mut bench = Bench::new();
    let mut info = worker("a", 2, &[("shell", 2), ("claude", 1)]);
    info.runners[1].prefetch = 1;
    let _ = bench.attach(&info, 1, &[]);
    let runs = [(); 2].map(|()| bench.add(task().runner("shell")));
    for id in runs {
        let _ = bench.report("a", 1, attempt(id, 1), ReportBody::Started);
    }
    let waits = bench.add(task().runner("claude"));
    assert_eq!(bench.status(waits), TaskStatus::Assigned);
    info.runners[0].slots = 1;
    let still = runs.map(|id| held(id, 1, true)).concat();
    let _ = bench.attach(&info, 2, &[still, held(waits, 1, false).to_vec()].concat());
    let _ = bench.later(AWAY);
    assert_eq!(
        (row(&bench, waits).losses, row(&bench, waits).moved()),
        (0, 1)
    );
}
