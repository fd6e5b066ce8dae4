//! Budgets, and what was used of them.

use orchestra_proto::v1;
use orchestra_types::{Budget, Spent};
use serde::Serialize;

use super::time::Time;

/// What may be used; null is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct BudgetDocument {
    /// Tokens, sent and received.
    pub tokens: Option<u64>,
    /// Cost in millionths of a US dollar.
    pub cost_microusd: Option<u64>,
    /// Wall time of agents.
    pub time_seconds: Option<f64>,
    /// Attempts.
    pub attempts: Option<u32>,
}

impl From<v1::Budget> for BudgetDocument {
    fn from(wire: v1::Budget) -> Self {
        let budget = Budget::from(wire);
        Self {
            tokens: budget.tokens,
            cost_microusd: budget.cost_microusd,
            time_seconds: budget.time.map(|time| time.as_secs_f64()),
            attempts: budget.attempts,
        }
    }
}

impl BudgetDocument {
    /// In words: `200000 tokens, 5 USD`.
    pub fn words(&self) -> String {
        self.budget().to_string()
    }

    /// The limits themselves.
    pub fn budget(&self) -> Budget {
        Budget {
            tokens: self.tokens,
            cost_microusd: self.cost_microusd,
            time: self.time_seconds.map(std::time::Duration::from_secs_f64),
            attempts: self.attempts,
        }
    }
}

/// What was used.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SpentDocument {
    /// Tokens, sent and received.
    pub tokens: u64,
    /// Cost in millionths of a US dollar, as far as it is known; null where no price of it is.
    pub cost_microusd: Option<u64>,
    /// Wall time of agents.
    pub time_seconds: f64,
    /// Attempts.
    pub attempts: u32,
}

impl From<v1::Spent> for SpentDocument {
    fn from(wire: v1::Spent) -> Self {
        let spent = Spent::from(wire);
        Self {
            tokens: spent.tokens,
            cost_microusd: spent.known_cost(),
            time_seconds: spent.time.as_secs_f64(),
            attempts: spent.attempts,
        }
    }
}

impl SpentDocument {
    /// In words: `1200 tokens, 0.02 USD, 40 s, 1 attempt`.
    pub fn words(&self) -> String {
        self.spent().to_string()
    }

    /// The amounts themselves.
    pub fn spent(&self) -> Spent {
        Spent {
            tokens: self.tokens,
            cost_microusd: self.cost_microusd.unwrap_or(0),
            time: std::time::Duration::from_secs_f64(self.time_seconds),
            attempts: self.attempts,
        }
    }
}

/// What a project may use in a day, in `ctl budget --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProjectBudget {
    /// The project's id.
    pub project: String,
    /// The directory's name.
    pub name: String,
    /// Per day; null without a limit.
    pub budget: Option<BudgetDocument>,
    /// With what was added for today.
    pub today: Option<BudgetDocument>,
    /// Today.
    pub spent: SpentDocument,
    /// It is used up; its tasks wait until then.
    pub until: Option<Time>,
}

impl ProjectBudget {
    /// Reads the head's answer.
    pub fn read(wire: v1::ProjectBudget) -> Self {
        Self {
            project: wire.project,
            name: wire.name,
            budget: wire.budget.map(Into::into),
            today: wire.today.map(Into::into),
            spent: wire.spent.unwrap_or_default().into(),
            until: wire.until_ms.map(Time::from_ms),
        }
    }
}
