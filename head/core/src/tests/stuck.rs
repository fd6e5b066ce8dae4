//! A blocked task says which one keeps it from going on, however far before it that one is.

use std::collections::BTreeSet;

use orchestra_types::{ApplyResult, FailureCode, OnDependencyFailure, TaskId, TaskStatus};
use proptest::prelude::*;

use super::{
    bench::{Bench, attempt, task, worker},
    budgets::{below, raise, with},
};
use crate::{Input, Message, NewTask, RequestId, Step};

const POLICIES: [OnDependencyFailure; 3] = [
    OnDependencyFailure::Block,
    OnDependencyFailure::Cancel,
    OnDependencyFailure::Run,
];

/// One worker that takes one task after the other.
fn bench() -> Bench {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 1, &[]);
    bench
}

fn fail(bench: &mut Bench, id: TaskId) -> Step {
    let number = bench.core.task(id).unwrap().row.attempts;
    let _ = bench.finish("w", 1, attempt(id, number), Some(FailureCode::Refused));
    bench.close(attempt(id, number))
}

fn retry(bench: &mut Bench, task: TaskId) -> Step {
    let request = RequestId(1);
    bench.give(Input::Retry { request, task })
}

/// What a task says that it waits for in vain; none where it says nothing.
fn reason(bench: &Bench, id: TaskId) -> Option<String> {
    let reason = bench.core.task(id).unwrap().reason?;
    (reason.code == FailureCode::DependencyFailed).then_some(reason.message)
}

fn changed(step: &Step) -> BTreeSet<TaskId> {
    let changed = step.messages.iter().filter_map(|message| match message {
        Message::Changed { task } => Some(*task),
        _ => None,
    });
    changed.collect()
}

#[test]
fn the_last_of_a_chain_of_thousands_says_what_keeps_it_back() {
    let mut bench = bench();
    let chain: Vec<NewTask> = (0..5000)
        .map(|place: u32| match place.checked_sub(1) {
            Some(before) => task().after_place(before),
            None => task(),
        })
        .collect();
    bench.submit(chain);
    let (first, last) = (TaskId(1), TaskId(5000));
    assert_eq!(reason(&bench, last), None);
    let step = fail(&mut bench, first);
    let why = Some("task_001 ended as failed".to_owned());
    assert_eq!(reason(&bench, last), why);
    assert!(changed(&step).contains(&last), "its watchers are told");
    let step = retry(&mut bench, first);
    assert_eq!(reason(&bench, last), None);
    assert!(
        changed(&step).contains(&last),
        "they are told that it goes on"
    );
    let _ = fail(&mut bench, first);
    let late = bench.add(task().after(last));
    assert_eq!(reason(&bench, late), why);
    let _ = bench.restart();
    assert_eq!(reason(&bench, late), why);
}

#[test]
fn one_of_many_that_it_comes_after_keeps_it_back() {
    let mut bench = bench();
    let root = bench.add(task());
    let between: Vec<TaskId> = (0..300).map(|_| bench.add(task().after(root))).collect();
    let mut join = task();
    join.spec.after = between;
    let join = bench.add(join);
    let _ = fail(&mut bench, root);
    assert_eq!(
        reason(&bench, join),
        Some("task_001 ended as failed".to_owned())
    );
}

#[test]
fn whoever_comes_after_one_whose_budget_is_used_up_names_it_and_why() {
    let mut bench = bench();
    let parent = bench.add(with("1-attempts"));
    let _ = bench.finish("w", 1, attempt(parent, 1), None);
    let _ = bench.close(attempt(parent, 1));
    let held = bench.add(below(parent));
    let next = bench.add(task().after(held).or(OnDependencyFailure::Run));
    let last = bench.add(task().after(next));
    let why = |bench: &Bench, id: TaskId| {
        let reason = bench.core.task(id).unwrap().reason?;
        Some((reason.code, reason.message))
    };
    let says = |bench: &Bench, id: TaskId| {
        let (code, message) = why(bench, id).expect("it says why");
        assert_eq!(code, FailureCode::BudgetExceeded);
        let begin = format!("{held} waits: the budget of {parent} is used up");
        assert!(message.starts_with(&begin), "{message}");
    };
    says(&bench, next);
    says(&bench, last);
    let _ = bench.restart();
    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 1, &[]);
    says(&bench, last);
    let other = bench.add(below(parent));
    let after = bench.add(task().after(other));
    assert!(why(&bench, after).is_some());
    let step = raise(&mut bench, parent, "1-attempt");
    assert!(changed(&step).contains(&last), "its watchers are told");
    assert_eq!((why(&bench, next), why(&bench, last)), (None, None));
    // The other one was let into the queue, and the first one has taken what was given.
    let (_, message) = why(&bench, after).expect("it is kept back anew");
    let anew = format!("{other} waits: the budget of {parent} is used up at 2 attempts");
    assert!(message.starts_with(&anew), "{message}");
    let request = RequestId(1);
    let _ = bench.give(Input::Cancel {
        request,
        task: other,
    });
    assert_eq!(
        reason(&bench, after),
        Some(format!("{other} ended as cancelled"))
    );
}

/// The tasks without success before a blocked one, with only blocked ones between.
fn reasons_before(bench: &Bench, id: TaskId) -> BTreeSet<TaskId> {
    let mut open = vec![id];
    let (mut seen, mut found) = (BTreeSet::new(), BTreeSet::new());
    while let Some(id) = open.pop() {
        for before in bench.core.task(id).unwrap().waits_for {
            match bench.status(before) {
                TaskStatus::Failed | TaskStatus::Cancelled | TaskStatus::NeedsReview => {
                    found.insert(before);
                }
                TaskStatus::Blocked if seen.insert(before) => open.push(before),
                _ => {}
            }
        }
    }
    found
}

fn holds(bench: &Bench, tasks: u64) {
    for id in (1..=tasks).map(TaskId) {
        let before = match bench.status(id) {
            TaskStatus::Blocked => reasons_before(bench, id),
            _ => BTreeSet::new(),
        };
        let said = match bench.status(id) {
            TaskStatus::Blocked => reason(bench, id),
            _ => None,
        };
        let right = match &said {
            Some(said) => before.iter().any(|id| {
                let status = bench.status(*id);
                *said == format!("{id} ended as {status}")
            }),
            None => before.is_empty(),
        };
        assert!(right, "{id} says {said:?}, and {before:?} keep it back");
    }
}

proptest! {
    #[test]
    fn whatever_happens_a_blocked_task_says_what_keeps_it_back(
        acts in proptest::collection::vec((0..6_u8, any::<u64>(), any::<u64>()), 1..60)
    ) {
        let mut bench = bench();
        let mut tasks = 0;
        for (act, which, more) in acts {
            let id = TaskId(which % u64::max(tasks, 1) + 1);
            match act {
                _ if tasks == 0 => {
                    bench.add(task());
                    tasks = 1;
                }
                0 | 1 if tasks < 20 => {
                    let mut new = task().or(POLICIES[usize::try_from(more % 3).unwrap()]);
                    let chosen = (1..=tasks).filter(|n| more >> (n + 3) & 3 == 0);
                    new.spec.after = chosen.map(TaskId).collect();
                    bench.add(new);
                    tasks += 1;
                }
                2 => {
                    let _ = retry(&mut bench, id);
                }
                3 => {
                    let request = RequestId(1);
                    let _ = bench.give(Input::Cancel { request, task: id });
                }
                4 if more % 8 == 0 => {
                    let _ = bench.restart();
                    let held = (1..=tasks).map(TaskId).find(|id| bench.status(*id) == TaskStatus::Assigned);
                    let held = held.map(|id| crate::Held {
                        attempt: attempt(id, bench.core.task(id).unwrap().row.attempts),
                        started: false,
                        running: None,
                    });
                    let held: Vec<crate::Held> = held.into_iter().collect();
                    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 1, &held);
                }
                _ => {
                    let held = (1..=tasks).map(TaskId).find(|id| bench.status(*id) == TaskStatus::Assigned);
                    if let Some(id) = held {
                        let number = bench.core.task(id).unwrap().row.attempts;
                        let failure = (more % 2 == 0).then_some(FailureCode::Refused);
                        let _ = bench.finish("w", 1, attempt(id, number), failure);
                        let conflict = ApplyResult::Conflict { message: String::new() };
                        let apply = if more % 3 == 0 { conflict } else { ApplyResult::NotRequested };
                        let _ = bench.give(Input::Closed { attempt: attempt(id, number), apply });
                    }
                }
            }
            holds(&bench, tasks);
        }
    }
}
