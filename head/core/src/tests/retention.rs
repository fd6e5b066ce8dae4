//! What is over is forgotten, and nothing that is still needed.

use std::time::Duration;

use orchestra_types::{AttemptId, FailureCode, TaskId, TaskStatus};

use super::bench::{Bench, task, worker};
use crate::{Change, Config, Input, Message, NewTask, Reply, RequestId, Retention, Rows, Step};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn bench(retention: Retention) -> Bench {
    let mut bench = Bench::with(Config {
        retention,
        lease: 1000 * DAY,
        ..Config::default()
    });
    let _ = bench.attach(&worker("w", 1000, &[("claude", 1000)]), 1, &[]);
    bench
}

/// Adds a task and ends it.
fn ended(bench: &mut Bench, task: NewTask, failure: Option<FailureCode>) -> TaskId {
    let id = bench.add(task);
    let _ = end(bench, id, failure);
    id
}

/// Ends a task; gives what changes with that.
fn end(bench: &mut Bench, id: TaskId, failure: Option<FailureCode>) -> Step {
    let attempt = AttemptId {
        task: id,
        number: bench.core.task(id).unwrap().row.attempts,
    };
    let mut step = bench.finish("w", 1, attempt, failure);
    step.changes.extend(bench.close(attempt).changes);
    step
}

fn forgotten(step: &Step) -> Vec<TaskId> {
    let changes = step.changes.iter();
    let tasks = changes.filter_map(|change| match change {
        Change::ForgetTask { id, .. } => Some(*id),
        _ => None,
    });
    tasks.collect()
}

fn keys_forgotten(step: &Step) -> Vec<&str> {
    let changes = step.changes.iter();
    let keys = changes.filter_map(|change| match change {
        Change::ForgetKey { key } => Some(key.as_str()),
        _ => None,
    });
    keys.collect()
}

#[test]
fn a_clock_that_is_weeks_ahead_at_a_start_forgets_nothing_for_its_age_on_the_first_day() {
    let mut bench = bench(Retention::default());
    let _ = ended(&mut bench, task(), None);
    let _ = bench.add(task());
    let rows = super::bench::rows(&bench.kept);
    bench.now = bench.now.plus(40 * DAY);
    let now = bench.now;
    let _ = bench.restart();
    assert_eq!(bench.core.doubt().map(|doubt| doubt.ahead), Some(40 * DAY));
    assert_eq!(bench.core.forgettable(bench.now).count(), 0);
    let step = bench.later(DAY - Duration::from_secs(1));
    assert_eq!(forgotten(&step), []);
    assert_eq!(forgotten(&bench.later(Duration::from_secs(1))), [TaskId(1)]);
    let mut few = Bench::with(Config::default());
    let config = Config {
        retention: Retention {
            finished_max: 0,
            ..Retention::default()
        },
        ..Config::default()
    };
    (few.core, _) = crate::Core::restore(config, now, rows);
    few.now = now;
    assert!(few.core.doubt().is_some());
    let step = few.give(Input::Tick);
    assert_eq!(forgotten(&step).len(), 1, "how many there may be holds");
}

#[test]
fn a_finished_task_is_forgotten_when_its_time_is_over_with_all_of_its_rows() {
    let mut bench = bench(Retention {
        finished_for: 30 * DAY,
        ..Retention::default()
    });
    let id = ended(&mut bench, task(), None);
    let before = bench.later(29 * DAY);
    assert_eq!(forgotten(&before), []);
    let step = bench.later(DAY + Duration::from_secs(1));
    assert_eq!(
        step.changes,
        [Change::ForgetTask { id, attempts: 1 }],
        "the newest submission's key stays"
    );
    let last = AttemptId {
        task: id,
        number: 1,
    };
    assert_eq!(step.messages, [Message::Forgotten { last }]);
    assert!(bench.core.task(id).is_none());
    assert_eq!(bench.core.counts().with_status(TaskStatus::Succeeded), 0);
    assert_eq!(bench.core.next_forgetting(), None);
}

#[test]
fn a_backlog_that_is_cancelled_pushes_out_no_results() {
    let mut bench = bench(Retention {
        finished_max: 3,
        ..Retention::default()
    });
    let done: Vec<TaskId> = (0..2).map(|_| ended(&mut bench, task(), None)).collect();
    let mut later = task();
    later.spec.start_at = Some(bench.now.plus(DAY));
    let backlog: Vec<TaskId> = (0..4).map(|_| bench.add(later.clone())).collect();
    let mut gone = Vec::new();
    for id in &backlog {
        let step = bench.give(Input::Cancel {
            request: RequestId(1),
            task: *id,
        });
        gone.extend(forgotten(&step));
        gone.extend(forgotten(&bench.later(Duration::from_secs(1))));
    }
    assert_eq!(gone, backlog[..3]);
    // What was done goes when there is nothing else.
    for _ in 0..2 {
        let id = bench.add(task());
        gone.extend(forgotten(&end(&mut bench, id, None)));
        gone.extend(forgotten(&bench.later(Duration::from_secs(1))));
    }
    assert_eq!(gone[3..], [backlog[3], done[0]]);
}

#[test]
fn too_many_finished_tasks_are_forgotten_in_the_order_of_their_ends() {
    let mut bench = bench(Retention {
        finished_max: 3,
        ..Retention::default()
    });
    let ids: Vec<TaskId> = (0..6).map(|_| bench.add(task())).collect();
    let mut gone = Vec::new();
    for id in ids.iter().rev() {
        gone.extend(forgotten(&end(&mut bench, *id, None)));
        gone.extend(forgotten(&bench.later(Duration::from_secs(1))));
    }
    assert_eq!(gone, [ids[5], ids[4], ids[3]]);
    let left = bench.core.list(&crate::Filter {
        limit: 10,
        ..Default::default()
    });
    assert_eq!(left.ids, ids[..3]);
}

#[test]
fn a_task_that_a_living_one_comes_after_stays_until_that_one_has_ended() {
    let mut bench = bench(Retention {
        finished_for: DAY,
        ..Retention::default()
    });
    let first = bench.add(task());
    let second = bench.add(task().after(first));
    let _ = end(&mut bench, first, None);
    // The second one runs for long: its agent was given the output of the first.
    assert_eq!(forgotten(&bench.later(3 * DAY)), []);
    let step = end(&mut bench, second, None);
    assert_eq!(forgotten(&step), [first], "its time was over long ago");
    assert_eq!(forgotten(&bench.later(2 * DAY)), [second]);
}

#[test]
fn a_parent_stays_as_long_as_a_part_of_it() {
    let mut bench = bench(Retention {
        finished_for: DAY,
        ..Retention::default()
    });
    let parent = ended(&mut bench, task(), None);
    let mut part = task();
    part.spec.parent = Some(parent);
    let part = bench.add(part);
    assert_eq!(forgotten(&bench.later(3 * DAY)), []);
    let step = end(&mut bench, part, None);
    assert_eq!(forgotten(&step), [], "the part is still kept");
    assert_eq!(forgotten(&bench.later(2 * DAY)), [part, parent]);
}

#[test]
fn a_failed_task_stays_as_long_as_one_that_waited_for_it_could_be_tried_again() {
    let mut bench = bench(Retention {
        finished_for: DAY,
        ..Retention::default()
    });
    let first = bench.add(task());
    let second = bench.add(task().after(first));
    let _ = end(&mut bench, first, Some(FailureCode::AgentFailed));
    let _ = bench.later(DAY / 2);
    let _ = bench.give(Input::Cancel {
        request: RequestId(1),
        task: second,
    });
    let day = bench.later(DAY * 3 / 4);
    assert_eq!(forgotten(&day), [], "a retry of the second waits for it");
    let both = bench.later(DAY);
    assert_eq!(forgotten(&both), [second, first]);
}

#[test]
fn a_key_goes_after_the_last_of_its_tasks_and_no_id_is_given_twice() {
    let mut bench = bench(Retention {
        finished_for: DAY,
        keys_for: 7 * DAY,
        ..Retention::default()
    });
    let old = bench.submit_as("old", vec![task()]);
    let _ = end(&mut bench, TaskId(1), None);
    let step = bench.later(10 * DAY);
    assert_eq!(forgotten(&step), [TaskId(1)]);
    assert_eq!(keys_forgotten(&step), [""; 0], "ids count on from it");
    let again = bench.submit_as("old", vec![task()]);
    let (
        Reply::Submitted { ids: first, .. },
        Reply::Submitted {
            ids: second,
            duplicate: true,
        },
    ) = (&old, &again)
    else {
        panic!("{old:?} {again:?}");
    };
    assert_eq!(first, second, "the answer stays the same");

    let id = ended(&mut bench, task(), None);
    assert_eq!(id, TaskId(2));
    assert!(
        bench.core.keys.get("old").is_none(),
        "it is not the newest any more"
    );

    // A restart has only the rows; the newest key says how far the ids have come.
    let key = crate::KeyRow {
        key: "key-1".into(),
        first: TaskId(2),
        count: 1,
        at: bench.now,
    };
    let _ = bench.restore(Rows {
        keys: vec![key],
        ..Rows::default()
    });
    assert_eq!(bench.add(task()), TaskId(3));
}

#[test]
fn after_a_restart_a_forgotten_success_still_counts_as_one() {
    let mut bench = bench(Retention::default());
    let first = bench.add(task());
    let second = bench.add(task().after(first));
    let _ = end(&mut bench, first, None);
    let _ = end(&mut bench, second, Some(FailureCode::AgentFailed));
    let row = bench.core.task(second).unwrap().row.clone();
    // The first is gone, the second is kept and may be tried again.
    let _ = bench.restore(Rows {
        tasks: vec![row],
        ..Rows::default()
    });
    let _ = bench.give(Input::Retry {
        request: RequestId(1),
        task: second,
    });
    assert_eq!(bench.status(second), TaskStatus::Queued);
}

#[test]
fn many_due_tasks_go_a_few_at_a_time_and_all_of_them_go() {
    let mut bench = bench(Retention {
        finished_for: DAY,
        ..Retention::default()
    });
    for _ in 0..500 {
        let _ = ended(&mut bench, task(), None);
    }
    let step = bench.away(2 * DAY);
    assert!(forgotten(&step).len() <= 50);
    let rest = bench.later(Duration::from_secs(60));
    assert_eq!(forgotten(&step).len() + forgotten(&rest).len(), 500);
    let next = bench.core.next_forgetting();
    assert!(next.is_some_and(|at| at > bench.now), "only keys are left");
}

#[test]
fn a_task_stays_while_something_below_it_is_kept_for_its_budget_counts_there() {
    let mut bench = bench(Retention {
        finished_for: DAY,
        ..Retention::default()
    });
    let part_of = |parent| {
        let mut part = task();
        part.spec.parent = Some(parent);
        part
    };
    let top = bench.add(task());
    let part = bench.add(part_of(top));
    let below = bench.add(part_of(part));
    let _ = end(&mut bench, part, None);
    let _ = end(&mut bench, top, None);
    let step = bench.later(3 * DAY);
    assert_eq!(forgotten(&step), []);
    let _ = end(&mut bench, below, None);
    let step = bench.later(2 * DAY);
    assert_eq!(forgotten(&step), [below, part, top]);
}
