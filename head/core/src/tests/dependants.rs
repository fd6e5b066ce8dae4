//! What the end of a task means for those that come after it, and new priorities.

use orchestra_types::{
    FailureCode,
    OnDependencyFailure::{Block, Cancel, Run},
    Priority, TaskId, TaskStatus,
};

use super::bench::{Bench, attempt, reply, rows, starts, task, worker};
use crate::{Change, Input, PriorityRefused, ReleaseRefused, Reply, RequestId, RetryRefused, Step};

fn busy_bench() -> Bench {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 1, &[]);
    bench
}

impl Bench {
    /// Ends attempt `number` of a task.
    fn ended(&mut self, id: TaskId, number: u32, failure: Option<FailureCode>) -> Step {
        let first = self.finish("w", 1, attempt(id, number), failure);
        let mut second = self.close(attempt(id, number));
        second.changes.splice(0..0, first.changes);
        second.messages.splice(0..0, first.messages);
        second
    }

    pub(super) fn ask(&mut self, ask: impl FnOnce(RequestId) -> Input) -> Reply {
        let step = self.give(ask(RequestId(1)));
        reply(&step)
    }
}

fn retry(task: TaskId) -> impl FnOnce(RequestId) -> Input {
    move |request| Input::Retry { request, task }
}

fn release(task: TaskId) -> impl FnOnce(RequestId) -> Input {
    move |request| Input::Release { request, task }
}

fn prioritise(task: TaskId, priority: Priority) -> impl FnOnce(RequestId) -> Input {
    move |request| Input::Prioritise {
        request,
        task,
        priority,
    }
}

#[test]
fn a_failed_task_blocks_cancels_or_frees_those_after_it_by_their_choice() {
    let mut bench = busy_bench();
    let plan = bench.add(task());
    let [blocked, cancelled, freed] =
        [Block, Cancel, Run].map(|choice| bench.add(task().after(plan).or(choice)));
    let _ = bench.ended(plan, 1, Some(FailureCode::AgentFailed));
    assert_eq!(bench.status(blocked), TaskStatus::Blocked);
    assert_eq!(bench.status(cancelled), TaskStatus::Cancelled);
    assert_eq!(bench.status(freed), TaskStatus::Assigned);
    for id in [blocked, cancelled] {
        let reason = bench.core.task(id).unwrap().reason.unwrap();
        assert_eq!(reason.code, FailureCode::DependencyFailed);
        assert_eq!(reason.message, "task_001 ended as failed");
    }
}

#[test]
fn a_cancelled_task_frees_its_dependants_by_their_choice() {
    let mut bench = Bench::new();
    let plan = bench.add(task());
    let [blocked, cancelled, freed] =
        [Block, Cancel, Run].map(|choice| bench.add(task().after(plan).or(choice)));
    let reply = bench.ask(|request| Input::Cancel {
        request,
        task: plan,
    });
    assert_eq!(reply, Reply::Done(plan));
    assert_eq!(bench.status(blocked), TaskStatus::Blocked);
    assert_eq!(bench.status(cancelled), TaskStatus::Cancelled);
    assert_eq!(bench.status(freed), TaskStatus::Queued);
}

#[test]
fn a_task_that_waits_for_a_person_counts_as_not_succeeded() {
    let mut bench = busy_bench();
    let plan = bench.add(task().retries(1));
    let cancelled = bench.add(task().after(plan).or(Cancel));
    let _ = bench.ended(plan, 1, Some(FailureCode::AgentFailed));
    assert_eq!(
        bench.status(cancelled),
        TaskStatus::Blocked,
        "a retry comes"
    );
    let due = bench.core.next_deadline().unwrap();
    let _ = bench.later(due.since(bench.now));
    let _ = bench.ended(plan, 2, Some(FailureCode::AgentFailed));
    assert_eq!(bench.status(plan), TaskStatus::NeedsReview);
    assert_eq!(bench.status(cancelled), TaskStatus::Cancelled);
}

#[test]
fn a_cancel_goes_down_a_chain_as_long_as_the_queue() {
    let mut bench = busy_bench();
    let first = bench.add(task());
    let chain = (0..50_000).map(|place: u32| match place {
        0 => task().after(first).or(Cancel),
        _ => task().after_place(place - 1).or(Cancel),
    });
    let Reply::Submitted { ids, .. } = bench.submit(chain.collect()) else {
        panic!("refused");
    };
    let step = bench.ended(first, 1, Some(FailureCode::Refused));
    assert_eq!(
        bench.core.counts().with_status(TaskStatus::Cancelled),
        50_000
    );
    let last = *ids.last().unwrap();
    let durable = |c: &Change| matches!(c, Change::Task(row) if row.id == last);
    assert!(step.changes.iter().any(durable));
    assert_eq!(
        bench.core.task(last).unwrap().reason.unwrap().message,
        "task_50000 ended as cancelled"
    );
}

#[test]
fn a_block_in_the_chain_stops_the_cancelling() {
    let mut bench = busy_bench();
    let first = bench.add(task());
    let second = bench.add(task().after(first).or(Block));
    let third = bench.add(task().after(second).or(Cancel));
    let _ = bench.ended(first, 1, Some(FailureCode::Refused));
    assert_eq!(bench.status(second), TaskStatus::Blocked);
    assert_eq!(bench.status(third), TaskStatus::Blocked);
}

#[test]
fn a_task_that_runs_anyway_still_waits_for_every_end() {
    let mut bench = busy_bench();
    let [one, two] = [bench.add(task()), bench.add(task())];
    let after = bench.add(task().after(one).after(two).or(Run));
    let _ = bench.ended(one, 1, Some(FailureCode::Refused));
    assert_eq!(bench.status(after), TaskStatus::Blocked);
    let step = bench.ended(two, 1, None);
    assert_eq!(starts(&step), [(attempt(after, 1), 1, "claude".to_owned())]);
}

#[test]
fn the_choice_counts_for_what_had_ended_before_the_submission() {
    let mut bench = busy_bench();
    let plan = bench.add(task());
    let _ = bench.ended(plan, 1, Some(FailureCode::Refused));
    let statuses = [Block, Cancel, Run].map(|choice| {
        let id = bench.add(task().after(plan).or(choice));
        bench.status(id)
    });
    assert_eq!(
        statuses,
        [
            TaskStatus::Blocked,
            TaskStatus::Cancelled,
            TaskStatus::Assigned
        ]
    );
    // Also for one that stands before the cancelled one in the same submission.
    let first = task().after_place(1).or(Cancel);
    let second = task().after(plan).or(Cancel);
    let Reply::Submitted { ids, .. } = bench.submit(vec![first, second]) else {
        panic!("refused");
    };
    assert_eq!(bench.status(ids[0]), TaskStatus::Cancelled);
}

#[test]
fn what_was_cancelled_with_another_task_is_retried_after_it() {
    let mut bench = busy_bench();
    let plan = bench.add(task());
    let after = bench.add(task().after(plan).or(Cancel));
    let _ = bench.ended(plan, 1, Some(FailureCode::Refused));
    let refused = RetryRefused::Behind(after, plan, TaskStatus::Failed);
    assert_eq!(bench.ask(retry(after)), Reply::RetryRefused(refused));
    assert_eq!(bench.ask(retry(plan)), Reply::Done(plan));
    assert_eq!(bench.ask(retry(after)), Reply::Done(after));
    assert_eq!(bench.status(after), TaskStatus::Blocked);
    let _ = bench.ended(plan, 2, None);
    assert_eq!(bench.status(after), TaskStatus::Assigned);
}

#[test]
fn what_runs_anyway_and_is_tried_again_waits_for_what_is_tried_again_before_it() {
    let mut bench = busy_bench();
    let [first, second] = {
        let first = bench.add(task());
        [first, bench.add(task().after(first).or(Run))]
    };
    let _ = bench.ended(first, 1, Some(FailureCode::AgentFailed));
    let _ = bench.ended(second, 1, Some(FailureCode::AgentFailed));
    for id in [first, second] {
        assert_eq!(bench.ask(retry(id)), Reply::Done(id));
    }
    assert_eq!(bench.status(second), TaskStatus::Blocked);
    let waits_for = |bench: &Bench| bench.core.task(second).unwrap().waits_for;
    assert_eq!(waits_for(&bench), [first]);
    let _ = bench.restart();
    assert_eq!(waits_for(&bench), [first], "the store says the same");
    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 2, &[]);
    let _ = bench.finish("w", 2, attempt(first, 2), Some(FailureCode::AgentFailed));
    let _ = bench.close(attempt(first, 2));
    assert_ne!(bench.status(second), TaskStatus::Blocked);
}

#[test]
fn a_restart_sees_what_a_cut_commit_had_not_reached() {
    let mut bench = busy_bench();
    let mut durable = Vec::new();
    let mut add = |bench: &mut Bench, new| {
        let step = bench.give(Input::Submit {
            request: RequestId(1),
            key: format!("{}", bench.core.counts().open()),
            tasks: vec![new],
        });
        durable.extend(step.changes);
    };
    let [plan, blocked, cancelled, freed] = [1, 2, 3, 4].map(TaskId);
    add(&mut bench, task());
    for choice in [Block, Cancel, Run] {
        add(&mut bench, task().after(plan).or(choice));
    }
    let step = bench.ended(plan, 1, Some(FailureCode::Refused));
    // Only the row of the one before is on the disk.
    let own = |change: &Change| matches!(change, Change::Task(row) if row.id == plan);
    durable.extend(step.changes.into_iter().filter(own));
    let step = bench.restore(rows(&durable));
    assert_eq!(bench.status(blocked), TaskStatus::Blocked);
    assert_eq!(bench.status(cancelled), TaskStatus::Cancelled);
    assert_eq!(bench.status(freed), TaskStatus::Queued);
    assert_eq!(step.changes.len(), 2, "both are made durable");
}

#[test]
fn a_new_priority_counts_at_once_and_is_durable() {
    let mut bench = busy_bench();
    let running = bench.add(task());
    let [first, second] = [bench.add(task()), bench.add(task())];
    let step = bench.give(prioritise(second, Priority::High)(RequestId(1)));
    assert_eq!(reply(&step), Reply::Done(second));
    let durable =
        |c: &Change| matches!(c, Change::Task(row) if row.facts.priority == Priority::High);
    assert!(step.changes.iter().any(durable));
    assert_eq!(bench.core.counts().open_with_priority(Priority::High), 1);
    let step = bench.ended(running, 1, None);
    assert_eq!(starts(&step)[0].0, attempt(second, 1));
    let _ = bench.ended(second, 1, None);
    assert_eq!(bench.status(first), TaskStatus::Assigned);
    assert_eq!(bench.core.counts().open_with_priority(Priority::High), 0);
}

#[test]
fn a_blocked_task_takes_its_new_priority_into_the_queue() {
    let mut bench = busy_bench();
    let plan = bench.add(task());
    let [running, waiting] = [bench.add(task()), bench.add(task())];
    let after = bench.add(task().after(plan));
    assert_eq!(
        bench.ask(prioritise(after, Priority::High)),
        Reply::Done(after)
    );
    let _ = bench.ended(plan, 1, None);
    let step = bench.ended(running, 1, None);
    assert_eq!(starts(&step)[0].0, attempt(after, 1));
    assert_eq!(bench.status(waiting), TaskStatus::Queued);
}

#[test]
fn an_ended_task_keeps_its_priority() {
    let mut bench = busy_bench();
    let id = bench.add(task());
    let _ = bench.ended(id, 1, None);
    let refused = PriorityRefused::Ended(id, TaskStatus::Succeeded);
    assert_eq!(
        bench.ask(prioritise(id, Priority::Low)),
        Reply::PriorityRefused(refused)
    );
}

#[test]
fn a_blocked_task_that_is_let_go_runs_without_the_one_that_failed() {
    let mut bench = busy_bench();
    let plan = bench.add(task());
    let after = bench.add(task().after(plan));
    let behind = bench.add(task().after(after));
    let _ = bench.ended(plan, 1, Some(FailureCode::AgentFailed));
    let refused = ReleaseRefused::Waits(behind, after, TaskStatus::Blocked);
    assert_eq!(
        bench.ask(release(behind)),
        Reply::ReleaseRefused(refused),
        "what it waits for has not ended"
    );
    let step = bench.give(Input::Release {
        request: RequestId(1),
        task: after,
    });
    assert_eq!(starts(&step)[0].0, attempt(after, 1));
    let written = rows(&step.changes).tasks;
    let choice = written.last().map(|row| row.facts.on_dependency_failure);
    assert_eq!(choice, Some(Run), "it is written: a restart keeps it");
    assert_eq!(bench.core.task(behind).unwrap().reason, None);
    // Twice does no harm, and one that waits for none is told so.
    assert_eq!(bench.ask(release(after)), Reply::Done(after));
    let _ = bench.ended(after, 1, None);
    for (id, status) in [
        (after, TaskStatus::Succeeded),
        (behind, TaskStatus::Assigned),
        (plan, TaskStatus::Failed),
    ] {
        let refused = ReleaseRefused::NotBlocked(id, status);
        assert_eq!(bench.ask(release(id)), Reply::ReleaseRefused(refused));
    }
}

#[test]
fn a_task_that_is_let_go_still_waits_for_those_that_have_not_ended() {
    let mut bench = busy_bench();
    let [plan, other] = [bench.add(task()), bench.add(task())];
    let after = bench.add(task().after(plan).after(other));
    let refused = ReleaseRefused::Waits(after, plan, TaskStatus::Assigned);
    assert_eq!(
        bench.ask(release(after)),
        Reply::ReleaseRefused(refused),
        "nothing has failed"
    );
    let _ = bench.ended(plan, 1, Some(FailureCode::AgentFailed));
    assert_eq!(bench.ask(release(after)), Reply::Done(after));
    assert_eq!(bench.status(after), TaskStatus::Blocked);
    assert_eq!(bench.core.task(after).unwrap().reason, None);
    // Also that one may fail now.
    let _ = bench.ended(other, 1, Some(FailureCode::AgentFailed));
    assert_eq!(bench.status(after), TaskStatus::Assigned);
}
