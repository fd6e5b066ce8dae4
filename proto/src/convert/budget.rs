//! Budgets and what was spent of them.

use std::time::Duration;

use orchestra_types::{
    Budget, BudgetChange, Measure, ProjectId, Spent, budget::NOTHING_RUNS, limits,
};

use super::{Refused, Result, millis};
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

/// What a person wants of a budget.
///
/// # Errors
/// It says nothing, a limit is 0, or something is to be added and taken away at once.
pub fn budget_change(wire: Option<v1::Budget>, add: bool, none: &[i32]) -> Result<BudgetChange> {
    let refused = |why| Err(Refused::new("budget", why));
    let limits = known_budget(wire);
    if limits.has_zero() {
        return refused(NOTHING_RUNS);
    }
    if limits.is_unlimited() && none.is_empty() {
        return refused("is empty; name tokens, cost, time or attempts");
    }
    if none.len() > Measure::ALL.len() || (add && !none.is_empty()) {
        return refused("what is added cannot be taken away as well");
    }
    let none: Vec<Measure> = none
        .iter()
        .map(|wire| measure(*wire))
        .collect::<Result<_>>()?;
    if none.iter().any(|measure| limits.limits(*measure)) {
        return refused("what is limited cannot be without a limit as well");
    }
    Ok(match add {
        true => BudgetChange::Add(limits),
        false => BudgetChange::Set { limits, none },
    })
}

/// A project that the head may not know yet, by its id and name; none where nothing is said.
///
/// # Errors
/// Only one of them is said, or one is not sound.
pub fn new_project(id: &str, name: String) -> Result<Option<(ProjectId, String)>> {
    match (id, name.as_str()) {
        ("", "") => Ok(None),
        ("", _) | (_, "") => Err(Refused::new("new_id", "is there only with new_name")),
        (_, _) => {
            let name = super::text("new_name", name, limits::NAME_BYTES_MAX)?;
            Ok(Some((super::name("new_id", id)?, name)))
        }
    }
}

fn measure(wire: i32) -> Result<Measure> {
    let unknown = || Refused::new("none", format!("unknown measure {wire}"));
    match v1::Measure::try_from(wire).map_err(|_| unknown())? {
        v1::Measure::Unspecified => Err(unknown()),
        v1::Measure::Tokens => Ok(Measure::Tokens),
        v1::Measure::Cost => Ok(Measure::Cost),
        v1::Measure::Time => Ok(Measure::Time),
        v1::Measure::Attempts => Ok(Measure::Attempts),
    }
}

impl From<Measure> for v1::Measure {
    fn from(measure: Measure) -> Self {
        match measure {
            Measure::Tokens => Self::Tokens,
            Measure::Cost => Self::Cost,
            Measure::Time => Self::Time,
            Measure::Attempts => Self::Attempts,
        }
    }
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
            time_ms: budget.time.map(millis),
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
            time_ms: millis(spent.time),
            attempts: spent.attempts,
        }
    }
}
