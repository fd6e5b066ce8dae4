//! Budgets and what was spent of them.

use std::time::Duration;

use orchestra_types::{Budget, Spent};

use crate::v1;

/// A budget for the wire; an unlimited one is left out.
#[must_use]
pub fn budget_to_wire(budget: Budget) -> Option<v1::Budget> {
    (!budget.is_unlimited()).then(|| budget.into())
}

/// A budget from the wire that may be absent.
#[must_use]
pub fn known_budget(wire: Option<v1::Budget>) -> Budget {
    wire.map(Into::into).unwrap_or_default()
}

impl From<v1::Budget> for Budget {
    fn from(wire: v1::Budget) -> Self {
        Self {
            tokens: wire.tokens,
            cost_microusd: wire.cost_microusd,
            time: wire.time_ms.map(Duration::from_millis),
            attempts: wire.attempts,
        }
    }
}

impl From<Budget> for v1::Budget {
    fn from(budget: Budget) -> Self {
        Self {
            tokens: budget.tokens,
            cost_microusd: budget.cost_microusd,
            time_ms: budget.time.map(ms),
            attempts: budget.attempts,
        }
    }
}

impl From<v1::Spent> for Spent {
    fn from(wire: v1::Spent) -> Self {
        Self {
            tokens: wire.tokens,
            cost_microusd: wire.cost_microusd,
            time: Duration::from_millis(wire.time_ms),
            attempts: wire.attempts,
        }
    }
}

impl From<Spent> for v1::Spent {
    fn from(spent: Spent) -> Self {
        Self {
            tokens: spent.tokens,
            cost_microusd: spent.cost_microusd,
            time_ms: ms(spent.time),
            attempts: spent.attempts,
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
