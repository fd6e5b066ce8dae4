//! The instruments.

use std::{path::PathBuf, sync::Arc, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Histogram, Meter},
};
use orchestra_types::{FailureCode, Priority, TaskStatus, Usage};

use super::{
    ends::{self, Ends},
    levels::{self, Levels},
    uses::Uses,
};
use crate::door::Reason;

/// Bounds for what takes from milliseconds to days.
const WAIT_BOUNDS: [f64; 16] = [
    0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 14400.0,
    86400.0,
];
/// Bounds for a commit: from a tenth of a millisecond to what would worry an operator.
const COMMIT_BOUNDS: [f64; 13] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
];

/// The head's instruments. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    levels: Arc<Levels>,
    ends: Ends,
    uses: Uses,
    submitted: Counter<u64>,
    events: Counter<u64>,
    refused: Counter<u64>,
    queue_wait: Histogram<f64>,
    start: Histogram<f64>,
    attempt: Histogram<f64>,
    commit: Histogram<f64>,
}

impl Metrics {
    /// Makes the instruments; `store` is the directory whose size is watched.
    #[must_use]
    pub fn new(meter: &Meter, store: PathBuf) -> Self {
        let levels = Arc::<Levels>::default();
        observe(meter, &levels, store);
        let seconds = |name: &'static str, description: &'static str, bounds: &[f64]| {
            meter
                .f64_histogram(name)
                .with_unit("s")
                .with_description(description)
                .with_boundaries(bounds.to_vec())
                .build()
        };
        let count = |name, unit, description| counter(meter, name, unit, description);
        let metrics = Self {
            ends: Ends::new(meter),
            uses: Uses::new(meter),
            submitted: count(
                "orchestra.tasks.submitted",
                "{task}",
                "Tasks that were accepted.",
            ),
            events: count(
                "orchestra.events.received",
                "{event}",
                "Events of attempts that were made durable.",
            ),
            refused: count(
                "orchestra.connections.refused",
                "{connection}",
                "Connections that ended before their peer was known to belong to the cluster.",
            ),
            queue_wait: seconds(
                "orchestra.queue.wait",
                "Time from when a task could run until it was given to a worker.",
                &WAIT_BOUNDS,
            ),
            start: seconds(
                "orchestra.attempt.start",
                "Time from when an attempt was given to a worker until its agent was started.",
                &WAIT_BOUNDS,
            ),
            attempt: seconds(
                "orchestra.attempt.duration",
                "Time from the start of an attempt to its end.",
                &WAIT_BOUNDS,
            ),
            commit: seconds(
                "orchestra.store.commit",
                "Time that a commit took until it was durable.",
                &COMMIT_BOUNDS,
            ),
            levels,
        };
        metrics.begin_at_zero();
        metrics
    }

    /// A rate over time sees the first event of a series only where the series was there before it.
    fn begin_at_zero(&self) {
        for priority in Priority::ALL {
            self.submitted.add(0, &of_priority(priority));
        }
        self.events.add(0, &[]);
        for reason in Reason::ALL {
            self.refused.add(0, &of_reason(reason));
        }
    }

    /// The levels that the engine keeps up to date.
    #[must_use]
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// A task was accepted.
    pub fn task_submitted(&self, priority: Priority) {
        self.submitted.add(1, &of_priority(priority));
    }

    /// Events were made durable.
    pub fn events_received(&self, count: u64) {
        self.events.add(count, &[]);
    }

    /// A stranger was turned away.
    pub fn connection_refused(&self, reason: Reason) {
        self.refused.add(1, &of_reason(reason));
    }

    /// A task was given to a worker after it could have run for `waited`.
    pub fn task_assigned(&self, priority: Priority, waited: Duration) {
        self.queue_wait
            .record(waited.as_secs_f64(), &of_priority(priority));
    }

    /// The agent of an attempt was started, `waited` after its worker was given it.
    pub fn attempt_started(&self, runner: &str, waited: Duration) {
        let runner = KeyValue::new("runner", runner.to_owned());
        self.start.record(waited.as_secs_f64(), &[runner]);
    }

    /// The result of an attempt came.
    pub fn attempt_ended(&self, runner: &str, failure: Option<FailureCode>, took: Duration) {
        let runner = KeyValue::new("runner", runner.to_owned());
        let labels = [runner, ends::result(failure)];
        self.attempt.record(took.as_secs_f64(), &labels);
        self.ends.attempt(failure);
    }

    /// A runner has something to do.
    pub fn runner_seen(&self, runner: &str) {
        self.uses.begin_at_zero(runner);
    }

    /// The result of an attempt says what it used; the cost as far as it is known.
    pub fn attempt_used(&self, runner: &str, usage: &Usage, cost_microusd: u64) {
        self.uses.add(runner, usage, cost_microusd);
    }

    /// An attempt was given up without a result.
    pub fn attempt_given_up(&self, why: FailureCode) {
        self.ends.attempt_given_up(why);
    }

    /// A task ended.
    pub fn task_ended(&self, status: TaskStatus, failure: Option<FailureCode>) {
        self.ends.task(status, failure);
    }

    /// A commit is durable.
    pub fn committed(&self, took: Duration) {
        self.commit.record(took.as_secs_f64(), &[]);
    }
}

fn of_priority(priority: Priority) -> [KeyValue; 1] {
    [KeyValue::new("priority", priority.as_str())]
}

fn of_reason(reason: Reason) -> [KeyValue; 1] {
    [KeyValue::new("reason", reason.as_str())]
}

/// Registers what is read when someone looks. The meter keeps the callbacks.
fn observe(meter: &Meter, levels: &Arc<Levels>, store: PathBuf) {
    let of = || Arc::clone(levels);
    let (tasks, workers, agents, accounts) = (of(), of(), of(), of());
    let gauge = |name: &'static str, unit: &'static str, description: &'static str| {
        meter
            .u64_observable_gauge(name)
            .with_unit(unit)
            .with_description(description)
    };
    gauge("orchestra.tasks", "{task}", "Tasks, by status.")
        .with_callback(move |gauge| {
            for status in TaskStatus::ALL {
                let labels = [KeyValue::new("status", status.as_str())];
                gauge.observe(tasks.tasks(status), &labels);
            }
        })
        .build();
    gauge(
        "orchestra.workers.connected",
        "{worker}",
        "Workers that are connected.",
    )
    .with_callback(move |gauge| gauge.observe(workers.workers_connected(), &[]))
    .build();
    gauge(
        "orchestra.agents.busy",
        "{agent}",
        "Agents that work on an attempt.",
    )
    .with_callback(move |gauge| gauge.observe(agents.agents_busy(), &[]))
    .build();
    gauge(
        "orchestra.accounts.parked",
        "{account}",
        "Accounts at providers that nothing is started on until their limit resets.",
    )
    .with_callback(move |gauge| gauge.observe(accounts.accounts_parked(), &[]))
    .build();
    gauge(
        "orchestra.store.size",
        "By",
        "Bytes that the head's store takes on disk.",
    )
    .with_callback(move |gauge| {
        if let Ok(bytes) = levels::size_on_disk(&store) {
            gauge.observe(bytes, &[]);
        }
    })
    .build();
    let live = of();
    gauge(
        "orchestra.store.live",
        "By",
        "Bytes of the rows in the head's store, when all were read last.",
    )
    .with_callback(move |gauge| {
        if let Some(bytes) = live.live_bytes() {
            gauge.observe(bytes, &[]);
        }
    })
    .build();
    gauge(
        "orchestra.head.memory",
        "By",
        "Memory of the head that is in RAM.",
    )
    .with_callback(|gauge| {
        if let Some(bytes) = levels::resident_memory() {
            gauge.observe(bytes, &[]);
        }
    })
    .build();
}

/// A counter.
pub(super) fn counter(
    meter: &Meter,
    name: &'static str,
    unit: &'static str,
    description: &'static str,
) -> Counter<u64> {
    meter
        .u64_counter(name)
        .with_unit(unit)
        .with_description(description)
        .build()
}
