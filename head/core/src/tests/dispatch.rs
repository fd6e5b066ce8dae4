//! Which task goes where.

use std::time::Duration;

use orchestra_types::{FailureCode, Priority, TaskStatus, runner::Readiness};

use super::bench::{Bench, attempt, starts, task, worker};
use crate::Input;

#[test]
fn the_most_urgent_goes_first_and_equals_go_in_order() {
    let mut bench = Bench::new();
    let low = bench.add(task().priority(Priority::Low));
    let first = bench.add(task());
    let second = bench.add(task());
    let high = bench.add(task().priority(Priority::High));
    let step = bench.attach(&worker("w", 4, &[("claude", 4)]), 1, &[]);
    let order: Vec<_> = starts(&step).into_iter().map(|(a, ..)| a.task).collect();
    assert_eq!(order, [high, first, second, low]);
}

#[test]
fn a_long_waiter_is_promoted_past_newer_tasks_of_the_next_priority() {
    let mut bench = Bench::new();
    let low = bench.add(task().priority(Priority::Low));
    let _ = bench.later(Duration::from_secs(31 * 60));
    let normal = bench.add(task());
    let step = bench.attach(&worker("w", 2, &[("claude", 2)]), 1, &[]);
    let order: Vec<_> = starts(&step).into_iter().map(|(a, ..)| a.task).collect();
    assert_eq!(order, [low, normal]);
}

#[test]
fn no_more_is_ordered_than_there_are_slots() {
    let mut bench = Bench::new();
    for _ in 0..5 {
        bench.add(task());
    }
    let step = bench.attach(&worker("w", 3, &[("claude", 2), ("codex", 2)]), 1, &[]);
    let runners: Vec<String> = starts(&step)
        .into_iter()
        .map(|(.., runner)| runner)
        .collect();
    assert_eq!(runners, ["claude", "claude", "codex"]);
    let step = bench.finish("w", 1, attempt(orchestra_types::TaskId(1), 1), None);
    assert_eq!(
        starts(&step).len(),
        1,
        "a finished attempt frees its slot at once"
    );
}

#[test]
fn a_task_without_a_runner_never_goes_to_the_shell() {
    let mut bench = Bench::new();
    let id = bench.add(task());
    let step = bench.attach(&worker("w", 4, &[("shell", 4)]), 1, &[]);
    assert_eq!(starts(&step), []);
    let shell = bench.add(task().runner("shell"));
    assert_eq!(bench.status(shell), TaskStatus::Assigned);
    assert_eq!(bench.status(id), TaskStatus::Queued);
}

#[test]
fn the_least_loaded_worker_is_chosen() {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("a", 2, &[("claude", 2)]), 1, &[]);
    let _ = bench.attach(&worker("b", 2, &[("claude", 2)]), 2, &[]);
    let one = bench.add(task());
    let two = bench.add(task());
    let where_is = |id| bench.core.holder(attempt(id, 1)).map(ToString::to_string);
    assert_eq!(where_is(one).as_deref(), Some("a"));
    assert_eq!(where_is(two).as_deref(), Some("b"));
}

#[test]
fn labels_machine_and_readiness_are_required() {
    let mut bench = Bench::new();
    let mut wants_gpu = task();
    wants_gpu.spec.requires.insert("gpu".into(), "yes".into());
    let id = bench.add(wants_gpu);
    let mut info = worker("w", 1, &[("claude", 1)]);
    assert_eq!(starts(&bench.attach(&info, 1, &[])), []);
    info.labels.insert("gpu".into(), "yes".into());
    info.runners[0].readiness = Readiness::NotReady {
        reason: "not logged in".into(),
    };
    let connection = crate::ConnectionId(1);
    let step = bench.give(Input::Capacity {
        connection,
        info: Box::new(info.clone()),
    });
    assert_eq!(starts(&step), []);
    info.runners[0].readiness = Readiness::Ready;
    let step = bench.give(Input::Capacity {
        connection,
        info: Box::new(info),
    });
    assert_eq!(starts(&step), [(attempt(id, 1), 1, "claude".to_owned())]);
}

#[test]
fn nothing_is_started_after_stop_assigning() {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 1, &[]);
    assert_eq!(bench.give(Input::StopAssigning), crate::Step::default());
    let id = bench.add(task());
    assert_eq!(bench.status(id), TaskStatus::Queued);
}

#[test]
fn a_retry_goes_to_another_worker_when_there_is_one() {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("a", 2, &[("claude", 2)]), 1, &[]);
    let _ = bench.attach(&worker("b", 2, &[("claude", 2)]), 2, &[]);
    let id = bench.add(task().retries(1));
    assert_eq!(
        bench.core.holder(attempt(id, 1)).map(|w| w.as_str()),
        Some("a")
    );
    let _ = bench.finish("a", 1, attempt(id, 1), Some(FailureCode::AgentFailed));
    let _ = bench.close(attempt(id, 1));
    let _ = bench.later(Duration::from_secs(20));
    assert_eq!(
        bench.core.holder(attempt(id, 2)).map(|w| w.as_str()),
        Some("b")
    );
}

#[test]
fn a_worker_takes_as_many_beyond_its_slots_as_it_grants_for_a_runner() {
    let mut bench = Bench::new();
    let mut info = worker("w", 2, &[("claude", 2), ("noop", 2)]);
    info.runners[1].prefetch = 3;
    info.runners[1].agentic = false;
    let _ = bench.attach(&info, 1, &[]);
    let quick: Vec<_> = (0..10).map(|_| bench.add(task().runner("noop"))).collect();
    let slow = bench.add(task().runner("claude"));
    let assigned = |bench: &Bench| {
        let taken = |id: &&_| bench.status(**id) == TaskStatus::Assigned;
        quick.iter().filter(taken).count()
    };
    assert_eq!(assigned(&bench), 5);
    assert_eq!(
        bench.status(slow),
        TaskStatus::Queued,
        "nothing is free for it"
    );
    for id in &quick[..3] {
        let step = bench.finish("w", 1, attempt(*id, 1), None);
        assert_eq!(starts(&step), [], "it is the turn of the other runner");
    }
    let step = bench.finish("w", 1, attempt(quick[3], 1), None);
    let next = (5..9).map(|n| (attempt(quick[n], 1), 1, "noop".to_owned()));
    let slow = (attempt(slow, 1), 1, "claude".to_owned());
    let all: Vec<_> = std::iter::once(slow).chain(next).collect();
    assert_eq!(starts(&step), all[..4]);
}

#[test]
fn labels_that_no_worker_has_any_more_are_not_kept() {
    let mut bench = Bench::new();
    let mut info = worker("w", 1, &[("claude", 1)]);
    let _ = bench.attach(&info, 1, &[]);
    for build in 0..100 {
        info.labels = [("build".to_owned(), build.to_string())].into();
        let step = bench.give(Input::Capacity {
            connection: crate::ConnectionId(1),
            info: Box::new(info.clone()),
        });
        assert_eq!(starts(&step), []);
    }
    assert!(bench.core.free.kinds() <= 2, "{}", bench.core.free.kinds());
    let mut wanted = task();
    wanted.spec.requires = info.labels;
    let id = bench.add(wanted);
    assert_eq!(bench.status(id), TaskStatus::Assigned);
}

/// A worker with one slot, at which one more attempt of the runners at these places may wait.
fn with_room_to_wait(id: &str, places: [usize; 2]) -> orchestra_types::runner::WorkerInfo {
    let mut info = worker(id, 1, &[("claude", 2), ("codex", 2), ("shell", 2)]);
    for place in places {
        info.runners[place].prefetch = 1;
    }
    info
}

#[test]
fn what_is_to_wait_goes_where_its_first_runner_may_although_it_is_next_elsewhere() {
    let mut bench = Bench::new();
    // Nothing of claude may wait at `a`, where codex has its turn before shell.
    let _ = bench.attach(&with_room_to_wait("a", [1, 2]), 1, &[]);
    let _ = bench.attach(&with_room_to_wait("b", [0, 2]), 2, &[]);
    let _ = [bench.add(task()), bench.add(task())];
    let step = bench.submit_step(vec![task().runner("shell"), task()]);
    let given: Vec<_> = starts(&step)
        .into_iter()
        .map(|(_, connection, runner)| (connection, runner))
        .collect();
    assert!(given.contains(&(2, "claude".to_owned())), "{given:?}");
}
