//! An attempt that its worker could not begin says nothing of the task: another worker has it at once,
//! and it is not charged.

use std::time::Duration;

use orchestra_types::{Exit, FailureCode, TaskId, TaskStatus};

use super::bench::{Bench, attempt, finished, starts, task, worker};
use crate::{Config, Input, ReportBody, RequestId, Step};

/// Worker `a`, which has a task, and worker `b`, which has as many slots and is free.
fn given_to_a(config: Config) -> (Bench, TaskId) {
    let mut bench = Bench::with(config);
    let _ = bench.attach(&worker("a", 1, &[("claude", 1)]), 1, &[]);
    let id = bench.add(task());
    let _ = bench.attach(&worker("b", 1, &[("claude", 1)]), 2, &[]);
    (bench, id)
}

/// An attempt ends before its CLI began.
fn cannot_begin(
    bench: &mut Bench,
    on: (&str, u64),
    id: TaskId,
    number: u32,
    code: FailureCode,
) -> Step {
    let mut body = finished(Some(code));
    if let ReportBody::Finished(outcome) = &mut body {
        let reason = "no CLI".to_owned();
        outcome.exit = Exit::NotStarted { reason };
    }
    let _ = bench.report(on.0, on.1, attempt(id, number), body);
    bench.close(attempt(id, number))
}

#[test]
fn a_task_that_its_worker_cannot_begin_goes_to_another_one_at_once_and_is_not_charged() {
    for code in [
        FailureCode::SpawnFailed,
        FailureCode::WorkspaceFailed,
        FailureCode::DiskFull,
    ] {
        let (mut bench, id) = given_to_a(Config::default());
        let step = cannot_begin(&mut bench, ("a", 1), id, 1, code);
        assert_eq!(starts(&step), [(attempt(id, 2), 2, "claude".to_owned())]);
        let row = bench.core.task(id).unwrap().row;
        assert_eq!((row.failures, row.losses, row.moved()), (0, 0, 1), "{code}");
        let why = row.reason.as_ref().unwrap();
        assert_eq!(why.message, "it could not begin on a: said so");
        assert_eq!(why.code, code);
    }
}

#[test]
fn what_is_not_its_workers_doing_or_began_is_a_failure() {
    for code in [
        FailureCode::SetupFailed,
        FailureCode::Refused,
        FailureCode::WorkerLost,
    ] {
        let (mut bench, id) = given_to_a(Config::default());
        let _ = cannot_begin(&mut bench, ("a", 1), id, 1, code);
        assert_eq!(bench.status(id), TaskStatus::Failed, "{code}");
    }
    let (mut bench, id) = given_to_a(Config::default());
    let _ = bench.finish("a", 1, attempt(id, 1), Some(FailureCode::DiskFull));
    let _ = bench.close(attempt(id, 1));
    assert_eq!(bench.status(id), TaskStatus::Failed, "its agent had begun");
}

#[test]
fn where_nobody_is_logged_in_it_goes_to_another_worker_unless_tokens_were_used() {
    for (used, status) in [(0, TaskStatus::Assigned), (9, TaskStatus::Failed)] {
        let (mut bench, id) = given_to_a(Config::default());
        let mut body = finished(Some(FailureCode::Auth));
        if let ReportBody::Finished(outcome) = &mut body {
            outcome.usage.output_tokens = used;
        }
        let _ = bench.report("a", 1, attempt(id, 1), body);
        let _ = bench.close(attempt(id, 1));
        assert_eq!(bench.status(id), status, "{used} tokens");
    }
}

#[test]
fn where_no_other_worker_could_do_it_it_has_failed() {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("a", 1, &[("claude", 1)]), 1, &[]);
    let _ = bench.attach(&worker("b", 1, &[("codex", 1)]), 2, &[]);
    let id = bench.add(task().runner("claude"));
    let _ = cannot_begin(&mut bench, ("a", 1), id, 1, FailureCode::SpawnFailed);
    assert_eq!(bench.status(id), TaskStatus::Failed);
}

#[test]
fn it_waits_for_the_other_worker_while_the_one_that_could_not_begin_it_is_free() {
    let (mut bench, id) = given_to_a(Config::default());
    let busy = bench.add(task());
    let step = cannot_begin(&mut bench, ("a", 1), id, 1, FailureCode::SpawnFailed);
    assert_eq!(starts(&step), [], "`b` is busy");
    for _ in 0..5 {
        for (name, connection) in [("a", 1), ("b", 2)] {
            let _ = bench.give(Input::Heartbeat {
                connection: crate::ConnectionId(connection),
                worker: name.parse().unwrap(),
            });
        }
        assert_eq!(starts(&bench.later(Duration::from_secs(20))), []);
    }
    let step = bench.finish("b", 2, attempt(busy, 1), None);
    assert_eq!(starts(&step), [(attempt(id, 2), 2, "claude".to_owned())]);
}

#[test]
fn a_task_that_no_worker_can_begin_comes_to_an_end_and_a_person_may_try_it_again() {
    let config = Config {
        moved_max: 3,
        ..Config::default()
    };
    let (mut bench, id) = given_to_a(config);
    for (number, on) in (1..).zip([("a", 1), ("b", 2), ("a", 1)]) {
        let _ = cannot_begin(&mut bench, on, id, number, FailureCode::SpawnFailed);
        assert_eq!(bench.status(id), TaskStatus::Assigned, "{number}");
    }
    let _ = cannot_begin(&mut bench, ("b", 2), id, 4, FailureCode::SpawnFailed);
    assert_eq!(bench.status(id), TaskStatus::Failed);
    let request = RequestId(1);
    let _ = bench.give(Input::Retry { request, task: id });
    assert_eq!(bench.core.task(id).unwrap().row.moved(), 0);
}

#[test]
fn one_that_is_cancelled_meanwhile_goes_nowhere() {
    let (mut bench, id) = given_to_a(Config::default());
    let request = RequestId(1);
    let _ = bench.give(Input::Cancel { request, task: id });
    let step = cannot_begin(&mut bench, ("a", 1), id, 1, FailureCode::SpawnFailed);
    assert_eq!(starts(&step), []);
    assert_eq!(bench.status(id), TaskStatus::Cancelled);
}
