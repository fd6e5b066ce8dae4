//! How many of what came to which end. Every series is there from the start, with 0: a failure of a
//! kind that never was before is seen, too.

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter},
};
use orchestra_types::FailureCode;

/// The result of what has no failure.
pub(super) const SUCCEEDED: &str = "succeeded";

#[derive(Clone)]
pub(super) struct Ends {
    attempts: Counter<u64>,
}

impl Ends {
    pub fn new(meter: &Meter) -> Self {
        let ends = Self {
            attempts: meter
                .u64_counter("orchestra.attempts.ended")
                .with_description("Attempts that ended.")
                .build(),
        };
        for result in results() {
            ends.attempts.add(0, &of_result(result));
        }
        ends
    }

    pub fn attempt(&self, result: &'static str) {
        self.attempts.add(1, &of_result(result));
    }
}

/// Every result that an attempt can have.
pub(super) fn results() -> impl Iterator<Item = &'static str> {
    [SUCCEEDED]
        .into_iter()
        .chain(FailureCode::ALL.map(FailureCode::as_str))
}

fn of_result(result: &'static str) -> [KeyValue; 1] {
    [KeyValue::new("result", result)]
}
