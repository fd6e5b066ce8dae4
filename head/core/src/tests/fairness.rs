//! Shares: that nobody waits for all tasks of somebody else, and how long one waits at most.

use std::{collections::BTreeMap, time::Duration};

use orchestra_types::{AttemptId, FailureCode, Priority, TaskId, runner::WorkerInfo};
use proptest::prelude::*;

use super::bench::{Bench, attempt, starts, task, worker};
use crate::{NewTask, ReportBody, State, Step};

impl NewTask {
    fn by(mut self, submitter: &str) -> Self {
        self.spec.submitter = submitter.to_owned();
        self
    }

    fn on(mut self, label: Option<&str>) -> Self {
        let labels = label.map(|label| (label.to_owned(), "yes".to_owned()));
        self.spec.requires = labels.into_iter().collect();
        self
    }
}

fn started(step: &Step) -> Vec<TaskId> {
    starts(step).into_iter().map(|(a, ..)| a.task).collect()
}

#[test]
fn ten_thousand_tasks_of_one_do_not_stop_the_one_of_another() {
    let mut bench = Bench::new();
    let first = bench.attach(&worker("w", 1, &[("claude", 1)]), 1, &[]);
    assert_eq!(started(&first), []);
    let many = (0..10_000).map(|_| task().by("many@host")).collect();
    bench.submit(many);
    let one = bench.add(task().by("one@host"));
    let step = bench.finish("w", 1, attempt(TaskId(1), 1), None);
    assert_eq!(started(&step), [one]);
    let step = bench.finish("w", 1, attempt(one, 1), None);
    assert_eq!(started(&step), [TaskId(2)]);
}

#[test]
fn shares_take_turns_and_each_keeps_its_own_order() {
    let mut bench = Bench::new();
    for submitter in ["a", "a", "a", "b", "b", "c"] {
        bench.add(task().by(submitter));
    }
    let step = bench.attach(&worker("w", 6, &[("claude", 6)]), 1, &[]);
    assert_eq!(started(&step), [1, 4, 6, 2, 5, 3].map(TaskId));
}

#[test]
fn a_share_that_comes_back_does_not_count_as_new() {
    let mut bench = Bench::new();
    let _ = bench.attach(&worker("w", 1, &[("claude", 1)]), 1, &[]);
    let running = bench.add(task().by("often"));
    let waiting = bench.add(task().by("patient"));
    // `often` has never more than one task, and each comes before the slot is free.
    let next = bench.add(task().by("often"));
    let step = bench.finish("w", 1, attempt(running, 1), None);
    assert_eq!(started(&step), [waiting]);
    let step = bench.finish("w", 1, attempt(waiting, 1), None);
    assert_eq!(started(&step), [next]);
}

#[test]
fn urgent_work_goes_before_a_turn() {
    let mut bench = Bench::new();
    bench.add(task().by("a"));
    bench.add(task().by("b"));
    let urgent = bench.add(task().by("a").priority(Priority::High));
    let more = bench.add(task().by("a").priority(Priority::High));
    let step = bench.attach(&worker("w", 4, &[("claude", 4)]), 1, &[]);
    assert_eq!(started(&step), [urgent, more, TaskId(2), TaskId(1)]);
}

#[test]
fn what_a_share_does_elsewhere_does_not_keep_it_waiting_here() {
    let mut bench = Bench::new();
    let info = worker("w", 3, &[("claude", 2), ("codex", 1)]);
    let busy: Vec<TaskId> = (0..40)
        .map(|_| bench.add(task().by("a").runner("claude")))
        .collect();
    let _ = bench.attach(&info, 1, &[]);
    for _ in 0..20 {
        bench.add(task().by("b").runner("codex"));
    }
    let one = bench.add(task().by("a").runner("codex"));
    let mut codex = 0;
    let mut claude = busy.into_iter();
    while bench.core.holder(attempt(one, 1)).is_none() {
        // Two tasks of `a` end on claude for each one of `b` on codex.
        for id in claude.by_ref().take(2) {
            let _ = bench.finish("w", 1, attempt(id, 1), None);
        }
        let running = bench.core.open_tasks().find(|id| {
            let view = bench.core.task(*id).unwrap();
            let last = view.row.last.as_ref();
            last.is_some_and(|last| last.runner.as_str() == "codex")
        });
        let _ = bench.finish("w", 1, attempt(running.unwrap(), 1), None);
        codex += 1;
        assert!(codex <= 2, "it waits for all of the other share");
    }
}

/// A worker with one slot, at which `shell` tasks may wait and `claude` tasks may not.
fn one_slot() -> Bench {
    let mut bench = Bench::new();
    let mut info = worker("w", 1, &[("claude", 1), ("shell", 1)]);
    info.runners[1].prefetch = 2;
    let _ = bench.attach(&info, 1, &[]);
    bench
}

#[test]
fn what_may_wait_at_a_worker_does_not_go_before_the_turn_of_what_may_not() {
    let mut bench = one_slot();
    let shell: Vec<TaskId> = (0..20).map(|_| bench.add(task().runner("shell"))).collect();
    let claude = bench.add(task().runner("claude"));
    let mut ended = 0;
    while bench.core.holder(attempt(claude, 1)).is_none() {
        let _ = bench.finish("w", 1, attempt(shell[ended], 1), None);
        ended += 1;
        assert!(ended <= 4, "it waits for all of the other runner");
    }
}

#[test]
fn what_is_urgent_and_may_not_wait_at_a_worker_gets_its_next_slot() {
    let mut bench = one_slot();
    let shell: Vec<TaskId> = (0..5).map(|_| bench.add(task().runner("shell"))).collect();
    let _ = bench.report("w", 1, attempt(shell[0], 1), ReportBody::Started);
    let claude = bench.add(task().runner("claude").priority(Priority::High));
    for id in &shell[1..3] {
        let step = bench.report("w", 1, attempt(*id, 1), ReportBody::GivenBack);
        assert_eq!(started(&step), []);
    }
    let step = bench.finish("w", 1, attempt(shell[0], 1), None);
    assert_eq!(started(&step), [claude, shell[1], shell[2]]);
}

/// A world in which slots are scarce and some shares have much more to do than others.
struct World {
    bench: Bench,
    workers: Vec<WorkerInfo>,
    running: Vec<(AttemptId, usize)>,
    /// For each task that counts as high, by worker, while it waited: starts of its own share, and
    /// those of others on slots that fit it.
    passed: BTreeMap<(TaskId, usize), (u64, u64)>,
}

const SHARES: [&str; 3] = ["a", "b", "c"];
const RUNNERS: [&str; 2] = ["claude", "codex"];

#[derive(Clone, Debug)]
enum Act {
    Submit {
        share: usize,
        runner: Option<usize>,
        label: bool,
        priority: usize,
        count: usize,
    },
    Finish(usize),
    Fail(usize),
    Wait(u64),
    Breathe(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let submit = (
        0..SHARES.len(),
        prop::option::of(0..RUNNERS.len()),
        any::<bool>(),
        0..3_usize,
    );
    let submit = (submit, prop_oneof![4 => 1..4_usize, 1 => 20..40_usize]);
    prop_oneof![
        2 => submit.prop_map(|((share, runner, label, priority), count)| Act::Submit {
            share, runner, label, priority, count,
        }),
        8 => any::<prop::sample::Index>().prop_map(|n| Act::Finish(n.index(1000))),
        2 => any::<prop::sample::Index>().prop_map(|n| Act::Fail(n.index(1000))),
        1 => (1..40_u64).prop_map(Act::Wait),
        2 => (1..20_u64).prop_map(Act::Breathe),
    ]
}

impl World {
    fn new(unfair: bool) -> Self {
        let mut bench = Bench::new();
        bench.core.queue.unfair = unfair;
        let mut gpu = worker("gpu", 2, &[("claude", 2), ("codex", 1)]);
        gpu.labels.insert("gpu".to_owned(), "yes".to_owned());
        let workers = vec![worker("plain", 2, &[("claude", 1), ("codex", 2)]), gpu];
        for (n, info) in workers.iter().enumerate() {
            let _ = bench.attach(info, n as u64, &[]);
        }
        let (running, passed) = (Vec::new(), BTreeMap::new());
        Self {
            bench,
            workers,
            running,
            passed,
        }
    }

    fn act(&mut self, act: &Act) {
        let waiting = self.high();
        let step = match act {
            Act::Submit {
                share,
                runner,
                label,
                priority,
                count,
            } => {
                let mut new = task().by(SHARES[*share]).on(label.then_some("gpu"));
                new.spec.retries = 3;
                new.spec.runner = runner.map(|n| RUNNERS[n].parse().unwrap());
                new.spec.priority = Priority::ALL[*priority];
                self.bench.submit_step(vec![new; *count])
            }
            Act::Finish(n) if !self.running.is_empty() => {
                let (attempt, at) = self.running.swap_remove(n % self.running.len());
                let id = self.workers[at].id.clone();
                self.bench.finish(id.as_str(), at as u64, attempt, None)
            }
            Act::Fail(n) if !self.running.is_empty() => {
                let (attempt, at) = self.running.swap_remove(n % self.running.len());
                let id = self.workers[at].id.clone();
                let failed = Some(FailureCode::AgentFailed);
                let mut step = (self.bench).finish(id.as_str(), at as u64, attempt, failed);
                let closed = self.bench.close(attempt);
                step.messages.extend(closed.messages);
                step
            }
            Act::Finish(_) | Act::Fail(_) => return,
            Act::Breathe(seconds) => self.bench.away(Duration::from_secs(*seconds)),
            Act::Wait(minutes) => {
                // Heartbeats are not the matter here: time jumps, as when the head was away.
                self.bench.away(Duration::from_secs(minutes * 60))
            }
        };
        for (attempt, connection, runner) in starts(&step) {
            self.running.push((attempt, connection as usize));
            self.count(&waiting, attempt.task, connection as usize, &runner);
        }
    }

    /// The ready tasks that count as high.
    fn high(&self) -> Vec<TaskId> {
        let half_an_hour = Duration::from_secs(30 * 60);
        let high = |id: &TaskId| {
            let row = self.bench.core.task(*id).unwrap().row;
            let steps = Priority::High as u32 - row.facts.priority as u32;
            let waited = self.bench.now.since(row.created_at);
            let now = self.bench.now;
            let ready = matches!(row.state, State::Queued { not_before, .. } if not_before <= now);
            ready && waited >= half_an_hour * steps
        };
        self.bench.core.open_tasks().filter(high).collect()
    }

    fn count(&mut self, waiting: &[TaskId], started: TaskId, at: usize, runner: &str) {
        self.passed.retain(|(id, _), _| *id != started);
        let core = &self.bench.core;
        let share = |id| &core.task(id).unwrap().row.facts.submitter;
        for id in waiting {
            let row = core.task(*id).unwrap().row;
            if *id == started || !matches!(row.state, State::Queued { .. }) {
                continue;
            }
            let wanted = row.facts.runner.as_ref();
            let wanted = wanted.is_none_or(|r| r.as_str() == runner);
            let labelled = row.facts.requires.is_empty() || at == 1;
            // While it waits for another worker, the slots of the one that it failed on do not fit.
            let avoids = row.last.as_ref().and_then(|last| last.avoids.as_ref());
            let avoids = avoids.filter(|avoids| avoids.until > self.bench.now);
            let avoids = avoids.is_some_and(|avoids| avoids.worker == self.workers[at].id);
            let passed = self.passed.entry((*id, at)).or_default();
            // In a turn of a runner that fits, a task of its own share may take another runner.
            if share(*id) == share(started) {
                passed.0 += 1;
            } else if wanted && labelled && !avoids {
                passed.1 += 1;
            }
        }
    }

    /// The task that waits longer than the bound allows.
    fn beyond_bound(&self) -> Option<(TaskId, (u64, u64))> {
        let (runners, shares) = (RUNNERS.len() as u64, SHARES.len() as u64);
        let beyond = |(own, others): (u64, u64)| others > runners * (own + 1) * shares;
        let mut all = self.passed.iter();
        all.find(|(_, passed)| beyond(**passed))
            .map(|((id, _), passed)| (*id, *passed))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_task_that_counts_as_high_waits_no_longer_than_the_bound(
        acts in prop::collection::vec(act(), 1..150),
    ) {
        let mut world = World::new(false);
        for act in &acts {
            world.act(act);
            prop_assert_eq!(world.beyond_bound(), None);
        }
    }
}

#[test]
fn without_turns_the_bound_does_not_hold() {
    let mut world = World::new(true);
    let flood = |share, count| Act::Submit {
        share,
        runner: None,
        label: false,
        priority: 0,
        count,
    };
    world.act(&flood(0, 40));
    world.act(&Act::Wait(1));
    world.act(&flood(1, 1));
    for _ in 0..30 {
        world.act(&Act::Finish(0));
    }
    assert!(world.beyond_bound().is_some());
}
