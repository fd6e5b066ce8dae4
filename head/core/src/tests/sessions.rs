//! Workers that come back.

use std::time::Duration;

use orchestra_types::{FailureCode, TaskId, TaskStatus, runner::WorkerInfo};

use super::bench::{Bench, attempt, finished, held, rows, starts, task, worker};
use crate::{
    Availability, Change, ConnectionId, Input, Message, NewTask, ReportBody, RequestId, Step,
    Welcome,
};

fn welcome(step: &Step) -> Welcome {
    let found = step.messages.iter().find_map(|m| match m {
        Message::Welcome { welcome, .. } => Some(welcome.clone()),
        _ => None,
    });
    found.expect("each attachment is welcomed")
}

/// A worker, connected, that was told to start a task.
fn assigned() -> (Bench, WorkerInfo, TaskId) {
    let mut bench = Bench::new();
    let info = worker("w", 1, &[("claude", 1)]);
    let _ = bench.attach(&info, 1, &[]);
    let id = bench.add(task());
    (bench, info, id)
}

/// The same when its agent runs.
fn running() -> (Bench, WorkerInfo, TaskId) {
    let (mut bench, info, id) = assigned();
    let _ = bench.report("w", 1, attempt(id, 1), ReportBody::Started);
    (bench, info, id)
}

/// Whether the result of the first attempt is kept.
fn keeps_first(step: &Step) -> bool {
    let is_first = |change: &Change| matches!(change, Change::Outcome(row) if row.id.number == 1);
    step.changes.iter().any(is_first)
}

#[test]
fn a_worker_that_comes_back_keeps_its_attempts() {
    let (mut bench, info, id) = running();
    assert_eq!(bench.detach("w", 1), Step::default());
    let step = bench.attach(&info, 2, &held(id, 1, true));
    let expected = Welcome {
        epoch: 2,
        acked_up_to: 1,
        keep: vec![attempt(id, 1)],
        kill: Vec::new(),
        unknown: Vec::new(),
    };
    assert_eq!(welcome(&step), expected);
    assert_eq!(starts(&step), []);
    assert_eq!(bench.status(id), TaskStatus::Running);
}

#[test]
fn a_head_from_a_backup_goes_on_with_a_worker_that_was_told_more() {
    let mut bench = Bench::new();
    let info = worker("w", 1, &[("claude", 1)]);
    // The backup knows the task as waiting. Since then the worker was given it twice, and its
    // reports up to the sixth were acknowledged.
    let id = bench.add(task());
    let step = bench.attach_ahead(&info, 1, &held(id, 2, true), 7);
    let expected = Welcome {
        epoch: 1,
        acked_up_to: 6,
        keep: Vec::new(),
        kill: vec![attempt(id, 2)],
        unknown: vec![attempt(id, 2)],
    };
    assert_eq!(welcome(&step), expected);
    assert_eq!(
        starts(&step)[0].0,
        attempt(id, 3),
        "no number is given again"
    );
    let step = bench.report("w", 1, attempt(id, 3), ReportBody::Started);
    assert!(!step.messages.contains(&Message::Disconnect {
        connection: ConnectionId(1)
    }));
    assert_eq!(bench.status(id), TaskStatus::Running);
}

#[test]
fn a_number_that_is_passed_over_costs_no_late_result() {
    let (mut bench, info, id) = running();
    let _ = bench.detach("w", 1);
    let _ = bench.later(Duration::from_secs(24 * 3600));
    assert_eq!(bench.status(id), TaskStatus::Queued, "it is given up");
    let other = worker("v", 1, &[("claude", 1)]);
    let step = bench.attach(&other, 2, &held(id, 3, true));
    assert_eq!(starts(&step)[0].0, attempt(id, 4));
    let _ = bench.attach(&info, 3, &held(id, 1, true));
    let late = bench.finish("w", 3, attempt(id, 1), None);
    assert!(keeps_first(&late), "its work is dropped");
}

#[test]
fn no_number_that_a_worker_names_costs_the_late_result_of_another_one() {
    let (mut bench, info, id) = running();
    let _ = bench.detach("w", 1);
    let _ = bench.later(Duration::from_secs(24 * 3600));
    // It cannot take the task, and says again and again that it was given it often.
    let liar = worker("v", 1, &[("codex", 1)]);
    for (connection, number) in (2..).zip([16, 10, 16, 17, 18, 32, 64, 900, 1001]) {
        let _ = bench.attach(&liar, connection, &held(id, number, true));
    }
    let _ = bench.attach(&info, 20, &[]);
    let late = bench.finish("w", 20, attempt(id, 1), None);
    assert!(keeps_first(&late), "its work is dropped");
}

#[test]
fn an_order_that_was_lost_on_the_way_is_given_again_with_the_same_number() {
    let (mut bench, info, id) = assigned();
    let step = bench.attach(&info, 2, &[]);
    assert_eq!(starts(&step), [(attempt(id, 1), 2, "claude".to_owned())]);
    assert!(step.messages.contains(&Message::Disconnect {
        connection: ConnectionId(1)
    }));
}

#[test]
fn a_running_attempt_that_its_worker_forgot_is_lost_at_once() {
    let (mut bench, info, id) = running();
    let _ = bench.attach(&info, 2, &[]);
    assert_eq!(bench.status(id), TaskStatus::Queued);
    let step = bench.later(Duration::from_secs(20));
    assert_eq!(starts(&step), [(attempt(id, 2), 2, "claude".to_owned())]);
}

#[test]
fn an_attempt_whose_result_is_not_stored_is_lost_and_a_stale_one_changes_nothing() {
    let (mut bench, _, id) = running();
    let _ = bench.report("w", 1, attempt(id, 1), ReportBody::Unstored);
    assert_eq!(bench.status(id), TaskStatus::Queued);
    let row = bench.core.task(id).unwrap().row.clone();
    assert_eq!((row.losses, row.failures), (1, 0));
    let step = bench.later(Duration::from_secs(20));
    assert_eq!(starts(&step), [(attempt(id, 2), 1, "claude".to_owned())]);
    let stale = bench.report("w", 1, attempt(id, 1), ReportBody::Unstored);
    let acks = |change: &Change| matches!(change, Change::Acked { .. });
    assert!(stale.changes.iter().all(acks), "{stale:?}");
    assert_eq!(bench.status(id), TaskStatus::Assigned);
}

#[test]
fn what_a_revoked_worker_has_stopped_is_tried_again_and_its_work_is_kept() {
    let (mut bench, info, id) = running();
    let _ = bench.detach("w", 1);
    let _ = bench.attach(&info, 2, &held(id, 1, true));
    let revoked = finished(Some(FailureCode::WorkerRevoked));
    let step = bench.report("w", 2, attempt(id, 1), revoked);
    assert_eq!(bench.status(id), TaskStatus::Queued);
    let row = bench.core.task(id).unwrap().row.clone();
    assert_eq!((row.losses, row.failures), (1, 0));
    let mut ends = step.changes.iter().filter_map(|change| match change {
        Change::Outcome(row) => Some(row.result.is_ok()),
        _ => None,
    });
    assert_eq!(ends.next_back(), Some(true), "its result is kept: {step:?}");
    let step = bench.later(Duration::from_secs(20));
    assert_eq!(starts(&step), [(attempt(id, 2), 2, "claude".to_owned())]);
}

#[test]
fn a_stale_attempt_is_to_be_killed_and_an_unacknowledged_end_is_not() {
    let mut bench = Bench::new();
    let info = worker("w", 2, &[("claude", 2)]);
    let _ = bench.attach(&info, 1, &[]);
    let done = bench.add(task());
    let _ = bench.finish("w", 1, attempt(done, 1), None);
    let unknown = attempt(TaskId(99), 1);
    let held = [held(done, 1, true), held(unknown.task, 1, true)].concat();
    let welcome = welcome(&bench.attach(&info, 2, &held));
    assert_eq!((welcome.keep, welcome.kill), (Vec::new(), vec![unknown]));
    assert_eq!(welcome.acked_up_to, 1);
}

#[test]
fn what_was_given_to_another_worker_under_the_same_number_is_not_known_here() {
    let mut bench = Bench::new();
    let (one, other) = (
        worker("w", 1, &[("claude", 1)]),
        worker("v", 1, &[("claude", 1)]),
    );
    let _ = bench.attach(&one, 1, &[]);
    let id = bench.add(task());
    let _ = bench.report("w", 1, attempt(id, 1), ReportBody::Started);
    // It has the attempt from the life of this head that came after the backup.
    let welcome_of = |step| {
        let welcome = welcome(&step);
        (welcome.keep, welcome.kill, welcome.unknown)
    };
    let latest = vec![attempt(id, 1)];
    let step = bench.attach(&other, 2, &held(id, 1, true));
    assert_eq!(
        welcome_of(step),
        (Vec::new(), latest.clone(), latest.clone())
    );
    // Also when there is a later one, and its own is known to be that.
    let _ = bench.later(Duration::from_secs(60));
    let step = bench.attach(&other, 3, &[]);
    assert_eq!(starts(&step), [(attempt(id, 2), 3, "claude".to_owned())]);
    let step = bench.attach(&one, 4, &held(id, 1, true));
    assert_eq!(welcome_of(step), (Vec::new(), latest.clone(), Vec::new()));
    let both = [held(id, 1, true), held(id, 2, true)].concat();
    let step = bench.attach(&other, 5, &both);
    assert_eq!(
        welcome_of(step),
        (vec![attempt(id, 2)], latest.clone(), latest)
    );
}

#[test]
fn a_number_that_was_passed_over_is_not_known_the_second_time_either() {
    let (mut bench, info, id) = running();
    let _ = bench.give(Input::Availability {
        request: RequestId(1),
        worker: "w".parse().unwrap(),
        availability: Availability::Cordoned,
    });
    let _ = bench.detach("w", 1);
    let _ = bench.later(Duration::from_secs(60));
    // The first welcome does not arrive: what is not known is put aside only when it does.
    for connection in [2, 3] {
        let step = bench.attach(&info, connection, &held(id, 2, true));
        assert_eq!(bench.core.task(id).unwrap().row.attempts, 2);
        let unknown = vec![attempt(id, 2)];
        assert_eq!(welcome(&step).unknown, unknown, "stream {connection}");
        assert_eq!(welcome(&step).kill, unknown);
    }
}

#[test]
fn a_cancel_reaches_a_worker_that_was_away() {
    let (mut bench, info, id) = assigned();
    let _ = bench.detach("w", 1);
    let step = bench.give(Input::Cancel {
        request: RequestId(1),
        task: id,
    });
    assert!(
        !step
            .messages
            .iter()
            .any(|m| matches!(m, Message::Stop { .. }))
    );
    let step = bench.attach(&info, 2, &held(id, 1, true));
    let stops = |m: &Message| {
        matches!(
            m,
            Message::Stop {
                connection: ConnectionId(2),
                ..
            }
        )
    };
    assert!(step.messages.iter().any(stops));
}

#[test]
fn words_from_a_replaced_stream_change_nothing() {
    let (mut bench, info, id) = assigned();
    let _ = bench.attach(&info, 2, &held(id, 1, false));
    let step = bench.report("w", 1, attempt(id, 1), ReportBody::Started);
    assert_eq!(step, Step::default());
    assert_eq!(bench.detach("w", 1), Step::default());
    assert!(
        bench
            .core
            .workers()
            .all(|w| w.link == crate::Link::Connected(ConnectionId(2)))
    );
}

#[test]
fn a_restored_core_goes_on_where_it_was() {
    let mut bench = Bench::new();
    let info = worker("w", 1, &[("claude", 1)]);
    let mut changes = bench.attach(&info, 1, &[]).changes;
    let submit = |key: &str, tasks: Vec<NewTask>| Input::Submit {
        request: RequestId(1),
        key: key.to_owned(),
        tasks,
    };
    let tasks = vec![task(), task().after_place(0), task()];
    changes.extend(bench.give(submit("a", tasks.clone())).changes);
    let first = TaskId(1);
    changes.extend(bench.finish("w", 1, attempt(first, 1), None).changes);
    let before = bench.core.counts();
    let step = bench.restore(rows(&changes));
    assert_eq!(bench.core.counts(), before);
    let close = Message::Close {
        attempt: attempt(first, 1),
        status: Some(TaskStatus::Succeeded),
    };
    assert_eq!(
        step.messages,
        [close],
        "what was being put in place is put in place again"
    );
    let _ = bench.close(attempt(first, 1));
    assert_eq!(bench.status(TaskId(2)), TaskStatus::Queued);
    let again = bench.submit_as("a", tasks);
    assert!(matches!(
        again,
        crate::Reply::Submitted {
            duplicate: true,
            ..
        }
    ));
    let new = bench.add(task());
    assert_eq!(new, TaskId(4), "ids are never used twice");
}

#[test]
fn when_a_worker_was_last_seen_is_not_the_heads_start() {
    let (mut bench, info, _) = assigned();
    let seen = |bench: &Bench| {
        let worker = bench.core.workers().next();
        worker.expect("it is known").last_seen
    };
    let before = seen(&bench);
    assert!(before.is_some());
    let _ = bench.detach("w", 1);
    assert_eq!(seen(&bench), before);
    let _ = bench.restart();
    assert_eq!(seen(&bench), None);
    let _ = bench.attach(&info, 2, &[]);
    assert!(seen(&bench).is_some());
}
