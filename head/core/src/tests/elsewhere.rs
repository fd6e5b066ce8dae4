//! Retries go to another worker than the one that failed, while there is one, and never wait longer
//! for it than the bound says.

use std::time::Duration;

use orchestra_types::{FailureCode, TaskId, TaskStatus, Timestamp};

use super::bench::{Bench, attempt, starts, task, worker};
use crate::{Availability, Config, Input, Message, ReportBody, RequestId, Step};

/// The first retry waits this long, and up to a quarter more.
const BACKOFF: Duration = Duration::from_secs(10);
/// By then the first retry could start, and still waits for another worker.
const WAITS: Duration = Duration::from_secs(13);
/// By then it may go back.
const WAITED: Duration = Duration::from_secs(26);

/// Worker `a`, on which a task failed, and worker `b`, which has as many slots and is full.
fn failed_on_a() -> (Bench, TaskId) {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("a", 1, &[("claude", 1)]), 1, &[]);
    let id = bench.add(task().retries(1));
    let _ = bench.attach(&worker("b", 1, &[("claude", 1)]), 2, &[]);
    let busy = bench.add(task());
    assert_eq!(held_by(&bench, busy, 1), Some("b".to_owned()));
    fail(&mut bench, "a", 1, id, 1);
    (bench, id)
}

fn fail(bench: &mut Bench, worker: &str, connection: u64, id: TaskId, number: u32) {
    let failed = attempt(id, number);
    let _ = bench.finish(worker, connection, failed, Some(FailureCode::AgentFailed));
    let _ = bench.close(failed);
}

fn held_by(bench: &Bench, id: TaskId, number: u32) -> Option<String> {
    let holder = bench.core.holder(attempt(id, number));
    holder.map(ToString::to_string)
}

/// Time passes while the workers are heard of.
fn later(bench: &mut Bench, duration: Duration) -> Step {
    for (worker, connection) in [("a", 1), ("b", 2)] {
        let _ = bench.give(Input::Heartbeat {
            connection: crate::ConnectionId(connection),
            worker: worker.parse().unwrap(),
        });
    }
    bench.later(duration)
}

fn set(bench: &mut Bench, worker: &str, availability: Availability) -> Step {
    bench.give(Input::Availability {
        request: RequestId(1),
        worker: worker.parse().unwrap(),
        availability,
    })
}

#[test]
fn a_retry_does_not_go_back_while_another_worker_could_do_it() {
    let (mut bench, id) = failed_on_a();
    let step = later(&mut bench, WAITS);
    assert_eq!(starts(&step), [], "`a` is free, and failed");
    assert_eq!(bench.status(id), TaskStatus::Queued);
    let step = bench.finish("b", 2, attempt(TaskId(2), 1), None);
    assert_eq!(starts(&step), [(attempt(id, 2), 2, "claude".to_owned())]);
}

#[test]
fn a_retry_goes_back_when_it_has_waited_as_long_again_as_its_backoff() {
    let (mut bench, id) = failed_on_a();
    let failed_at = bench.now;
    let step = later(&mut bench, WAITED);
    assert_eq!(starts(&step), [(attempt(id, 2), 1, "claude".to_owned())]);
    let last = bench.core.task(id).unwrap().row.last.clone().unwrap();
    let avoids = last.avoids.unwrap();
    assert_eq!(avoids.worker.as_str(), "a");
    let waited = avoids.until.since(failed_at);
    assert!(
        (2 * BACKOFF..=BACKOFF * 5 / 2).contains(&waited),
        "{waited:?}"
    );
}

#[test]
fn others_are_not_held_up_by_a_retry_that_waits_for_another_worker() {
    let (mut bench, id) = failed_on_a();
    let _ = later(&mut bench, WAITS);
    let other = bench.add(task());
    assert_eq!(held_by(&bench, other, 1), Some("a".to_owned()));
    let step = bench.finish("b", 2, attempt(TaskId(2), 1), None);
    assert_eq!(starts(&step), [(attempt(id, 2), 2, "claude".to_owned())]);
}

#[test]
fn a_retry_goes_back_at_once_when_no_other_worker_could_do_it() {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("a", 1, &[("claude", 1)]), 1, &[]);
    let _ = bench.attach(&worker("b", 1, &[("codex", 1)]), 2, &[]);
    let id = bench.add(task().runner("claude").retries(1));
    fail(&mut bench, "a", 1, id, 1);
    let step = later(&mut bench, WAITS);
    assert_eq!(starts(&step), [(attempt(id, 2), 1, "claude".to_owned())]);
}

#[test]
fn the_last_other_worker_is_cordoned_and_the_retry_goes_back() {
    let (mut bench, id) = failed_on_a();
    let _ = later(&mut bench, WAITS);
    let step = set(&mut bench, "b", Availability::Cordoned);
    assert_eq!(starts(&step), [(attempt(id, 2), 1, "claude".to_owned())]);
}

#[test]
fn another_worker_that_comes_back_is_waited_for_again() {
    let (mut bench, id) = failed_on_a();
    let _ = set(&mut bench, "b", Availability::Cordoned);
    let _ = set(&mut bench, "b", Availability::Open);
    assert_eq!(starts(&later(&mut bench, WAITS)), []);
    assert_eq!(starts(&later(&mut bench, BACKOFF)).len(), 1);
    assert_eq!(held_by(&bench, id, 2), Some("a".to_owned()));
}

#[test]
fn another_worker_that_is_lost_is_not_waited_for() {
    let config = Config::default();
    let retry_delay = config.lease + config.lease_grace;
    let mut bench = Bench::with(Config {
        retry_delay,
        ..config
    });
    let _ = bench.attach(&worker("a", 1, &[("claude", 1)]), 1, &[]);
    let id = bench.add(task().retries(1));
    let _ = bench.attach(&worker("b", 1, &[("claude", 1)]), 2, &[]);
    fail(&mut bench, "a", 1, id, 1);
    // Its stream breaks: it may come back, and is waited for until its lease has ended.
    let _ = bench.detach("b", 2);
    let mut step = Step::default();
    while starts(&step).is_empty() {
        let _ = bench.give(Input::Heartbeat {
            connection: crate::ConnectionId(1),
            worker: "a".parse().unwrap(),
        });
        step = bench.later(Duration::from_secs(1));
    }
    let last = bench.core.task(id).unwrap().row.last.clone().unwrap();
    assert_eq!(last.worker.as_str(), "a");
    assert!(
        bench.now < last.avoids.unwrap().until,
        "the lease ended first"
    );
}

#[test]
fn a_parked_account_of_the_other_worker_is_not_waited_for() {
    let (mut bench, id) = failed_on_a();
    let step = later(&mut bench, WAITS);
    assert_eq!(starts(&step), []);
    let step = bench.finish(
        "b",
        2,
        attempt(TaskId(2), 1),
        Some(FailureCode::RateLimited),
    );
    assert_eq!(starts(&step), [(attempt(id, 2), 1, "claude".to_owned())]);
}

#[test]
fn a_restart_does_not_send_a_retry_back() {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("a", 1, &[("claude", 1)]), 1, &[]);
    let id = bench.add(task().retries(1));
    let _ = bench.attach(&worker("b", 1, &[("claude", 1)]), 2, &[]);
    let failed = attempt(id, 1);
    let _ = bench.finish("a", 1, failed, Some(FailureCode::AgentFailed));
    let _ = bench.close(failed);
    let _ = bench.restart();
    let _ = bench.attach(&worker("a", 1, &[("claude", 1)]), 1, &[]);
    assert_eq!(starts(&later(&mut bench, WAITS)), [], "`b` comes back soon");
    let step = bench.attach(&worker("b", 1, &[("claude", 1)]), 2, &[]);
    assert_eq!(starts(&step), [(attempt(id, 2), 2, "claude".to_owned())]);
}

#[test]
fn a_person_who_tries_again_does_not_wait_for_another_worker() {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("a", 1, &[("claude", 1)]), 1, &[]);
    let id = bench.add(task());
    let _ = bench.attach(&worker("b", 1, &[("claude", 1)]), 2, &[]);
    let _ = bench.add(task());
    fail(&mut bench, "a", 1, id, 1);
    assert_eq!(bench.status(id), TaskStatus::Failed);
    let request = RequestId(1);
    let step = bench.give(Input::Retry { request, task: id });
    assert_eq!(starts(&step), [(attempt(id, 2), 1, "claude".to_owned())]);
    let row = bench.core.task(id).unwrap().row;
    let avoids = row
        .last
        .as_ref()
        .and_then(|last| last.avoids.clone())
        .unwrap();
    assert_eq!((avoids.worker.as_str(), avoids.until), ("a", Timestamp(0)));
}

#[test]
fn what_waits_at_another_worker_is_not_called_back_to_the_one_it_failed_on() {
    let ahead = |id: &str| {
        let mut info = worker(id, 1, &[("shell", 1)]);
        info.runners[0].prefetch = 2;
        info
    };
    let mut bench = Bench::new();
    let _ = bench.attach(&ahead("a"), 1, &[]);
    let id = bench.add(task().runner("shell").retries(1));
    let _ = bench.attach(&ahead("b"), 2, &[]);
    let busy = bench.add(task().runner("shell"));
    let _ = bench.report("b", 2, attempt(busy, 1), ReportBody::Started);
    fail(&mut bench, "a", 1, id, 1);
    let step = later(&mut bench, WAITS);
    let waits_at_b = [(attempt(id, 2), 2, "shell".to_owned())];
    assert_eq!(starts(&step), waits_at_b, "it waits where it did not fail");
    let called_back = |step: &Step| {
        let attempts = step.messages.iter().filter_map(|message| match message {
            Message::Retract { attempt, .. } => Some(*attempt),
            _ => None,
        });
        attempts.collect::<Vec<_>>()
    };
    let step = bench.attach(&ahead("a"), 3, &[]);
    assert_eq!(called_back(&step), []);
    let step = bench.attach(&ahead("c"), 4, &[]);
    assert_eq!(called_back(&step), [attempt(id, 2)], "`c` may have it");
}
