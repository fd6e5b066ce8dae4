//! How many of what came to which end. Every series is there from the start, with 0: a failure of a
//! kind that never was before is seen, too.

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter},
};
use orchestra_types::{FailureCode, TaskStatus};

use super::instruments::counter;

/// The result of what has no failure.
const SUCCEEDED: &str = "succeeded";
/// Why an attempt can be given up.
const GIVEN_UP: [FailureCode; 5] = [
    FailureCode::WorkerLost,
    FailureCode::Cancelled,
    FailureCode::Timeout,
    FailureCode::Stalled,
    FailureCode::BudgetExceeded,
];

#[derive(Clone)]
pub(super) struct Ends {
    attempts: Counter<u64>,
    given_up: Counter<u64>,
    tasks: Counter<u64>,
}

impl Ends {
    pub fn new(meter: &Meter) -> Self {
        let count = |name, unit, description| counter(meter, name, unit, description);
        let ends = Self {
            attempts: count(
                "orchestra.attempts.ended",
                "{attempt}",
                "Attempts that ended.",
            ),
            given_up: count(
                "orchestra.attempts.given_up",
                "{attempt}",
                "Attempts that were given up, and may still end.",
            ),
            tasks: count("orchestra.tasks.ended", "{task}", "Tasks that ended."),
        };
        ends.begin_at_zero();
        ends
    }

    fn begin_at_zero(&self) {
        self.attempts.add(0, &of_attempt(None));
        self.tasks.add(0, &of_task(TaskStatus::Succeeded, None));
        for code in FailureCode::ALL {
            self.attempts.add(0, &of_attempt(Some(code)));
            let unsuccessful = TaskStatus::ALL.into_iter().filter(|s| s.is_ended());
            for status in unsuccessful.filter(|s| *s != TaskStatus::Succeeded) {
                self.tasks.add(0, &of_task(status, Some(code)));
            }
        }
        for code in GIVEN_UP {
            self.given_up.add(0, &of_attempt(Some(code)));
        }
    }

    pub fn attempt(&self, failure: Option<FailureCode>) {
        self.attempts.add(1, &of_attempt(failure));
    }

    pub fn attempt_given_up(&self, why: FailureCode) {
        self.given_up.add(1, &of_attempt(Some(why)));
    }

    pub fn task(&self, status: TaskStatus, failure: Option<FailureCode>) {
        self.tasks.add(1, &of_task(status, failure));
    }
}

/// The label of how something ended.
pub(super) fn result(failure: Option<FailureCode>) -> KeyValue {
    KeyValue::new("result", failure.map_or(SUCCEEDED, FailureCode::as_str))
}

fn of_attempt(failure: Option<FailureCode>) -> [KeyValue; 1] {
    [result(failure)]
}

fn of_task(status: TaskStatus, failure: Option<FailureCode>) -> [KeyValue; 2] {
    [KeyValue::new("status", status.as_str()), result(failure)]
}
