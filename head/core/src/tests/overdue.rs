//! What takes too long, retries that help and tasks that take workers down.

use std::time::Duration;

use orchestra_types::{Exit, FailureCode, TaskId, TaskStatus, Timestamp};

use super::bench::{Bench, attempt, finished, rows, starts, task, worker};
use crate::{
    Change, ConnectionId, Held, Input, Message, NewTask, ReportBody, RequestId, Step, StopReason,
};

const S: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn busy_bench() -> Bench {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 1, &[]);
    bench
}

impl Bench {
    /// Time passes, and worker `w` gives signs of life.
    fn beating(&mut self, duration: Duration) -> Step {
        let end = self.now.plus(duration);
        let mut all = Step::default();
        while self.now < end {
            let step = self.later((5 * S).min(end.since(self.now)));
            all.changes.extend(step.changes);
            all.messages.extend(step.messages);
            let _ = self.give(Input::Heartbeat {
                connection: ConnectionId(1),
                worker: "w".parse().unwrap(),
            });
        }
        all
    }

    fn running(&mut self, new: NewTask) -> TaskId {
        let id = self.add(new);
        let _ = self.report("w", 1, attempt(id, 1), ReportBody::Started);
        assert_eq!(self.status(id), TaskStatus::Running);
        id
    }

    fn reason(&self, id: TaskId) -> Option<FailureCode> {
        self.core.task(id).unwrap().reason.map(|reason| reason.code)
    }

    fn silent_since(&self, id: TaskId) -> Option<Timestamp> {
        self.core.task(id).unwrap().silent_since
    }
}

fn stops(step: &Step) -> Vec<StopReason> {
    let stop = |message: &Message| match message {
        Message::Stop { reason, .. } => Some(*reason),
        _ => None,
    };
    step.messages.iter().filter_map(stop).collect()
}

fn waits_at_most(limit: Duration) -> NewTask {
    let mut new = task();
    new.spec.queue_timeout = Some(limit);
    new
}

fn stalls_after(limit: Duration) -> NewTask {
    let mut new = task();
    new.spec.timeout = 100 * MINUTE;
    new.spec.stall_timeout = Some(limit);
    new
}

#[test]
fn a_task_that_no_worker_takes_in_time_fails_with_its_own_code() {
    let mut bench = Bench::new();
    let id = bench.add(waits_at_most(MINUTE));
    let _ = bench.later(59 * S);
    assert_eq!(bench.status(id), TaskStatus::Queued);
    let _ = bench.later(S);
    assert_eq!(bench.status(id), TaskStatus::Failed);
    assert_eq!(bench.reason(id), Some(FailureCode::QueueTimeout));
    assert_eq!(
        bench.core.next_deadline().map(|at| at > bench.now),
        Some(true)
    );
}

#[test]
fn only_the_wait_for_the_first_attempt_has_an_end() {
    let mut bench = busy_bench();
    let mut new = waits_at_most(MINUTE);
    new.spec.retries = 1;
    let id = bench.add(new);
    let _ = bench.beating(2 * MINUTE);
    assert_eq!(bench.status(id), TaskStatus::Assigned, "it waits no more");
    let _ = bench.finish("w", 1, attempt(id, 1), Some(FailureCode::AgentFailed));
    let _ = bench.close(attempt(id, 1));
    let _ = bench.away(Duration::ZERO);
    assert_eq!(bench.status(id), TaskStatus::Queued);
    let _ = bench.later(3600 * S);
    assert_eq!(
        bench.status(id),
        TaskStatus::Queued,
        "the worker is lost, the retry waits"
    );
}

#[test]
fn the_wait_counts_from_the_moment_at_which_a_task_could_run() {
    let mut bench = Bench::new();
    let mut later = waits_at_most(MINUTE);
    later.spec.start_at = Some(bench.now.plus(10 * MINUTE));
    let id = bench.add(later);
    let _ = bench.later(10 * MINUTE + 59 * S);
    assert_eq!(bench.status(id), TaskStatus::Queued);
    let _ = bench.later(S);
    assert_eq!(bench.status(id), TaskStatus::Failed);
}

#[test]
fn a_task_is_not_started_before_its_time() {
    let mut bench = busy_bench();
    let mut later = task();
    later.spec.start_at = Some(bench.now.plus(MINUTE));
    let id = bench.add(later);
    assert_eq!(starts(&bench.beating(59 * S)), []);
    let step = bench.beating(S);
    assert_eq!(starts(&step), [(attempt(id, 1), 1, "claude".to_owned())]);
}

#[test]
fn a_time_to_start_counts_after_those_that_come_before_too() {
    let mut bench = busy_bench();
    let plan = bench.add(task());
    let mut later = task().after(plan);
    later.spec.start_at = Some(bench.now.plus(MINUTE));
    let id = bench.add(later);
    let _ = bench.finish("w", 1, attempt(plan, 1), None);
    let _ = bench.close(attempt(plan, 1));
    assert_eq!(bench.status(id), TaskStatus::Queued);
    assert_eq!(starts(&bench.beating(MINUTE)).len(), 1);
}

#[test]
fn the_head_ends_an_attempt_whose_worker_does_not() {
    let mut bench = busy_bench();
    let id = bench.running(task());
    assert_eq!(stops(&bench.beating(119 * S)), [], "the worker comes first");
    assert_eq!(stops(&bench.beating(S)), [StopReason::Timeout]);
    // The worker says that it timed out: an ordinary failure.
    let _ = bench.finish("w", 1, attempt(id, 1), Some(FailureCode::Timeout));
    let _ = bench.close(attempt(id, 1));
    assert_eq!(bench.status(id), TaskStatus::Failed);
    assert_eq!(bench.reason(id), Some(FailureCode::Timeout));
}

#[test]
fn an_attempt_that_a_worker_cannot_end_is_left_to_a_person() {
    let mut bench = busy_bench();
    let id = bench.running(task().retries(5));
    let _ = bench.beating(2 * MINUTE);
    let step = bench.beating(10 * MINUTE);
    assert_eq!(starts(&step), [], "it may still run there");
    assert_eq!(bench.status(id), TaskStatus::NeedsReview);
    assert_eq!(bench.reason(id), Some(FailureCode::Timeout));
    let late = bench.finish("w", 1, attempt(id, 1), None);
    let kept = |change: &Change| matches!(change, Change::Outcome(row) if row.result.is_ok());
    assert!(late.changes.iter().any(kept), "its late result is kept");
}

#[test]
fn a_head_that_was_away_gives_nothing_up_that_could_not_be_ended_meanwhile() {
    let mut bench = busy_bench();
    let id = bench.running(task());
    let step = bench.beating(3 * MINUTE);
    assert_eq!(stops(&step), [StopReason::Timeout]);
    let _ = bench.away(60 * MINUTE);
    assert_eq!(bench.status(id), TaskStatus::Running);
    let _ = bench.beating(9 * MINUTE);
    assert_eq!(bench.status(id), TaskStatus::Running);
    let _ = bench.beating(2 * MINUTE);
    assert_eq!(bench.status(id), TaskStatus::NeedsReview);
}

#[test]
fn a_worker_that_was_away_is_told_again_to_end_it() {
    let mut bench = busy_bench();
    let id = bench.running(task());
    let _ = bench.beating(2 * MINUTE);
    let held = [Held {
        attempt: attempt(id, 1),
        started: true,
        running: None,
    }];
    let step = bench.attach(&worker("w", 1, &[("claude", 1)]), 2, &held);
    assert_eq!(stops(&step), [StopReason::Timeout]);
}

#[test]
fn silence_is_noted_and_the_next_event_takes_the_note_back() {
    let mut bench = busy_bench();
    let mut new = task();
    new.spec.timeout = 100 * MINUTE;
    let id = bench.running(new);
    let began = bench.now;
    let step = bench.beating(10 * MINUTE);
    assert_eq!(bench.silent_since(id), Some(began));
    assert!(step.messages.contains(&Message::Changed { task: id }));
    assert_eq!(stops(&step), [], "silence is not death");
    let step = bench.give(Input::Active {
        attempt: attempt(id, 1),
    });
    assert_eq!(bench.silent_since(id), None);
    assert!(step.messages.contains(&Message::Changed { task: id }));
    assert_eq!(step.changes, []);
}

#[test]
fn a_silent_attempt_is_stopped_where_the_task_says_so() {
    let mut bench = busy_bench();
    let id = bench.running(stalls_after(MINUTE));
    for _ in 0..10 {
        assert_eq!(stops(&bench.beating(50 * S)), []);
        let _ = bench.give(Input::Active {
            attempt: attempt(id, 1),
        });
    }
    assert_eq!(stops(&bench.beating(MINUTE)), [StopReason::Stalled]);
}

#[test]
fn a_sign_of_life_of_an_older_attempt_counts_for_nothing() {
    let mut bench = busy_bench();
    let id = bench.running(stalls_after(MINUTE));
    let _ = bench.beating(50 * S);
    let _ = bench.give(Input::Active {
        attempt: attempt(id, 7),
    });
    assert_eq!(stops(&bench.beating(10 * S)), [StopReason::Stalled]);
}

#[test]
fn a_head_that_was_away_heard_nobody_and_blames_nobody() {
    let mut bench = busy_bench();
    let id = bench.running(stalls_after(MINUTE));
    let step = bench.away(30 * MINUTE);
    assert_eq!(stops(&step), []);
    assert_eq!(bench.silent_since(id), None);
    assert_eq!(stops(&bench.beating(MINUTE)), [StopReason::Stalled]);
}

#[test]
fn clocks_go_on_after_a_restart() {
    let mut bench = Bench::new();
    let mut durable = bench
        .attach(&worker("w", 1, &[("claude", 1)]), 1, &[])
        .changes;
    let mut give = |bench: &mut Bench, new: NewTask| {
        let step = bench.give(Input::Submit {
            request: RequestId(1),
            key: format!("{:?}", new.spec.queue_timeout),
            tasks: vec![new],
        });
        durable.extend(step.changes);
    };
    give(&mut bench, task());
    give(&mut bench, waits_at_most(MINUTE));
    let step = bench.report("w", 1, attempt(TaskId(1), 1), ReportBody::Started);
    durable.extend(step.changes);
    let _ = bench.beating(30 * S);
    let _ = bench.restore(rows(&durable));
    let _ = bench.beating(30 * S);
    let waits = bench.status(TaskId(2));
    assert_eq!(waits, TaskStatus::Queued, "a worker may still come back");

    let held = [Held {
        attempt: attempt(TaskId(1), 1),
        started: true,
        running: Some(60 * S),
    }];
    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 1, &held);
    let _ = bench.beating(15 * S);
    assert_eq!(bench.reason(TaskId(2)), Some(FailureCode::QueueTimeout));
    assert_eq!(stops(&bench.beating(MINUTE)), [StopReason::Timeout]);
}

#[test]
fn a_wait_after_a_start_does_not_end_before_a_worker_is_back() {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 1, &[]);
    let _ = bench.restart();
    let id = bench.add(waits_at_most(5 * S));
    let _ = bench.later(10 * S);
    assert_eq!(bench.status(id), TaskStatus::Queued, "nobody is there yet");
    let _ = bench.attach(&worker("w", 0, &[("claude", 1)]), 1, &[]);
    let _ = bench.later(5 * S);
    assert_eq!(bench.reason(id), Some(FailureCode::QueueTimeout));
}

#[test]
fn a_wait_after_a_start_does_not_last_for_those_that_do_not_come_or_could_not_take_it() {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 1, &[]);
    let _ = bench.restart();
    let waits = bench.add(waits_at_most(5 * S));
    let mut other = waits_at_most(5 * S);
    other.spec.runner = Some("codex".parse().unwrap());
    let other = bench.add(other);
    let _ = bench.later(5 * S);
    assert_eq!(bench.status(waits), TaskStatus::Queued);
    assert_eq!(bench.reason(other), Some(FailureCode::QueueTimeout));
    let _ = bench.later(40 * S);
    assert_eq!(bench.reason(waits), Some(FailureCode::QueueTimeout));
}

#[test]
fn a_retry_goes_to_another_worker_when_there_is_one() {
    let mut bench = busy_bench();
    let id = bench.add(task().retries(1));
    let _ = bench.finish("w", 1, attempt(id, 1), Some(FailureCode::AgentFailed));
    let _ = bench.close(attempt(id, 1));
    let _ = bench.attach(&worker("x", 1, &[("claude", 1)]), 2, &[]);
    let due = bench.core.next_deadline().unwrap();
    let step = bench.later(due.since(bench.now));
    assert_eq!(starts(&step), [(attempt(id, 2), 2, "claude".to_owned())]);
}

#[test]
fn the_reason_after_the_last_retry_counts_the_failures() {
    let mut bench = busy_bench();
    let id = bench.add(task().retries(1));
    for number in 1..=2 {
        let _ = bench.finish("w", 1, attempt(id, number), Some(FailureCode::AgentFailed));
        let _ = bench.close(attempt(id, number));
        let _ = bench.beating(15 * S);
    }
    assert_eq!(bench.status(id), TaskStatus::NeedsReview);
    let reason = bench.core.task(id).unwrap().reason.unwrap();
    assert_eq!(reason.message, "failed 2 times; last: said so");
}

#[test]
fn a_task_that_takes_workers_down_is_put_into_quarantine() {
    let mut bench = busy_bench();
    let id = bench.add(task().retries(100));
    for connection in 11..=13 {
        let _ = bench.later(3600 * S);
        let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), connection, &[]);
        let _ = bench.later(30 * S);
    }
    assert_eq!(bench.status(id), TaskStatus::NeedsReview);
    assert_eq!(bench.reason(id), Some(FailureCode::Quarantined));
}

#[test]
fn a_task_that_takes_supervisors_down_is_put_into_quarantine_too_and_one_that_a_person_stops_is_not()
 {
    for (exit, ends) in [
        (Exit::Unknown, FailureCode::Quarantined),
        (Exit::Stopped, FailureCode::WorkerLost),
    ] {
        let mut bench = busy_bench();
        let id = bench.add(task().retries(4));
        let mut reported = 0;
        while bench.status(id) == TaskStatus::Assigned {
            reported += 1;
            let ReportBody::Finished(mut outcome) = finished(Some(FailureCode::WorkerLost)) else {
                unreachable!("it is an end");
            };
            outcome.exit = exit.clone();
            let _ = bench.report("w", 1, attempt(id, reported), ReportBody::Finished(outcome));
            let _ = bench.close(attempt(id, reported));
            let _ = bench.beating(3600 * S);
        }
        assert_eq!(bench.status(id), TaskStatus::NeedsReview);
        assert_eq!(bench.reason(id), Some(ends));
        let most = if ends == FailureCode::Quarantined {
            3
        } else {
            5
        };
        assert_eq!(reported, most);
    }
}

#[test]
fn tasks_that_failed_together_do_not_come_back_together() {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("w", 20, &[("claude", 20)]), 1, &[]);
    let mut delays = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let id = bench.add(task().retries(1));
        let _ = bench.finish("w", 1, attempt(id, 1), Some(FailureCode::AgentFailed));
        let _ = bench.close(attempt(id, 1));
        let row = bench.core.task(id).unwrap().row.clone();
        let crate::State::Queued { not_before, .. } = row.state else {
            panic!("{:?}", row.state);
        };
        delays.insert(not_before.since(bench.now));
    }
    assert!(delays.len() >= 15, "{delays:?}");
    assert!(delays.iter().all(|delay| (10 * S..=13 * S).contains(delay)));
}
