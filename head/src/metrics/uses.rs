//! What the attempts that ended have used, by their runner.
//!
//! Not by project or submitter: nobody bounds how many of these there are.

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Meter},
};
use orchestra_types::Usage;

use super::instruments::counter;

#[derive(Clone)]
pub(super) struct Uses {
    tokens: Counter<u64>,
    cost: Counter<f64>,
}

impl Uses {
    pub fn new(meter: &Meter) -> Self {
        let cost = meter
            .f64_counter("orchestra.attempts.cost")
            .with_unit("{USD}")
            .with_description("US dollars that attempts that ended have cost, where it is known.");
        Self {
            tokens: counter(
                meter,
                "orchestra.attempts.tokens",
                "{token}",
                "Tokens that attempts that ended have used.",
            ),
            cost: cost.build(),
        }
    }

    /// Runners are no closed set: the series of one are there, with 0, once it is given something to do.
    pub fn begin_at_zero(&self, runner: &str) {
        self.add(runner, &Usage::default(), 0);
    }

    pub fn add(&self, runner: &str, usage: &Usage, cost_microusd: u64) {
        let runner = KeyValue::new("runner", runner.to_owned());
        for (kind, tokens) in [
            ("input", usage.input_tokens),
            ("output", usage.output_tokens),
            ("cached", usage.cached_tokens),
        ] {
            let labels = [runner.clone(), KeyValue::new("kind", kind)];
            self.tokens.add(tokens, &labels);
        }
        // Exact up to billions of dollars.
        self.cost.add(cost_microusd as f64 / 1e6, &[runner]);
    }
}
