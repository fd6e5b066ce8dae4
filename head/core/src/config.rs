//! Numbers that an operator may set.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{Core, Room};
use orchestra_types::{
    AccountName, Budget, Outcome, ProjectId, RunnerName, Spent, Usage, limits,
    runner::{KNOWN_RUNNERS, NOOP},
};

/// What the core is told once, at its start.
#[derive(Clone, Debug)]
pub struct Config {
    /// A task that has waited this long counts as one priority higher.
    pub promote_after: Duration,
    /// How long the first retry waits; each later one waits twice as long.
    pub retry_delay: Duration,
    /// Longest delay of a retry.
    pub retry_delay_max: Duration,
    /// How long after its last sign of life a worker still holds its attempts.
    pub lease: Duration,
    /// How much longer a lost attempt is waited for.
    pub lease_grace: Duration,
    /// A task that loses this many workers waits for a person.
    pub losses_max: u32,
    /// How long a task whose attempt never began waits for another worker than the one that it never
    /// began on.
    pub moved_for: Duration,
    /// So often a task goes on to another worker without being charged.
    pub moved_max: u32,
    /// How much later than the worker the head ends an attempt that runs longer than it may.
    pub timeout_margin: Duration,
    /// How long a worker may take to end an attempt that it was told to end.
    pub give_up_after: Duration,
    /// An agent of which nothing was heard for this long is noted as silent.
    pub stall_notice: Duration,
    /// Most tasks that have not ended.
    pub queue_max: u64,
    /// What tasks may take of the memory besides.
    pub room: Room,
    /// How many attempts accounts may have at once.
    pub accounts: BTreeMap<AccountName, u32>,
    /// What projects may use in a day, by id or name.
    pub budgets: BTreeMap<String, Budget>,
    /// What other projects may use in a day.
    pub budget_default: Budget,
    /// What tokens cost, by the model's name or the beginning of it.
    pub prices: BTreeMap<String, Price>,
    /// Runner names that are accepted even when no worker has them yet.
    pub known_runners: BTreeSet<RunnerName>,
    /// How long what is over is kept.
    pub retention: Retention,
}

/// How long what is over is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// A task that ended this long ago is forgotten.
    pub finished_for: Duration,
    /// Most finished tasks that are kept; the ones that ended first go first.
    pub finished_max: u64,
    /// How long a submission can be repeated with its key, when all its tasks are forgotten.
    pub keys_for: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            finished_for: 30 * DAY,
            finished_max: 100_000,
            keys_for: 7 * DAY,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        let known = KNOWN_RUNNERS.iter().chain([&NOOP]);
        let known = known.map(|name| name.parse().expect("constant names are names"));
        Self {
            promote_after: Duration::from_secs(30 * 60),
            retry_delay: Duration::from_secs(10),
            retry_delay_max: Duration::from_secs(3600),
            lease: limits::LEASE,
            lease_grace: limits::LEASE_GRACE,
            losses_max: 3,
            moved_for: Duration::from_secs(600),
            moved_max: 20,
            timeout_margin: Duration::from_secs(60),
            give_up_after: Duration::from_secs(600),
            stall_notice: Duration::from_secs(600),
            queue_max: 1_000_000,
            room: Room::default(),
            accounts: BTreeMap::new(),
            budgets: BTreeMap::new(),
            budget_default: Budget::default(),
            prices: BTreeMap::new(),
            known_runners: known.collect(),
            retention: Retention::default(),
        }
    }
}

/// What a million tokens cost, in millionths of a US dollar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Sent ones.
    pub input: u64,
    /// Sent ones that were read from a cache.
    pub cached: u64,
    /// Received ones.
    pub output: u64,
}

impl Price {
    fn cost(&self, usage: &Usage) -> u64 {
        let of = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
        let plain = usage.input_tokens.saturating_sub(usage.cached_tokens);
        let sum = of(plain, self.input)
            + of(usage.cached_tokens, self.cached)
            + of(usage.output_tokens, self.output);
        u64::try_from(sum / 1_000_000).unwrap_or(u64::MAX)
    }
}

impl Config {
    /// What a project may use in a day.
    pub(crate) fn daily_budget(&self, id: &ProjectId, name: &str) -> Budget {
        let own = self.own_budget(id, name);
        own.unwrap_or(self.budget_default)
    }

    /// The same where it is configured for this one.
    pub(crate) fn own_budget(&self, id: &ProjectId, name: &str) -> Option<Budget> {
        let by_id = self.budgets.get(id.as_str());
        by_id.or_else(|| self.budgets.get(name)).copied()
    }

    /// What a usage counts for: the CLI's own cost, else that of the price table.
    pub(crate) fn spent(&self, usage: &Usage, model: &str) -> Spent {
        let mut spent = Spent::of(usage);
        if usage.cost_microusd.is_none() {
            spent.cost_microusd = self.priced(usage, model).unwrap_or(0);
        }
        spent
    }

    /// What a usage costs by the price table; none where the model has no price.
    fn priced(&self, usage: &Usage, model: &str) -> Option<u64> {
        let prices = self.prices.iter();
        let matching = prices.filter(|(name, _)| model.starts_with(*name));
        let (_, price) = matching.max_by_key(|(name, _)| name.len())?;
        Some(price.cost(usage))
    }
}

impl Core {
    /// What an attempt has used by its own outcome, as budgets count it.
    #[must_use]
    pub fn spent_of(&self, outcome: &Outcome) -> Spent {
        self.config.spent(&outcome.usage, &outcome.model)
    }

    /// What an attempt cost, by its CLI, else by the price table; none where neither says it.
    #[must_use]
    pub fn cost_of(&self, usage: &Usage, model: &str) -> Option<u64> {
        let said = usage.with_known_cost().cost_microusd;
        said.or_else(|| self.config.priced(usage, model))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clis_own_cost_counts_before_the_price_of_the_longest_name() {
        let price = |input| Price {
            input,
            cached: 100_000,
            output: 5_000_000,
        };
        let config = Config {
            prices: [
                ("m".to_owned(), price(9)),
                ("m-1".to_owned(), price(1_000_000)),
            ]
            .into(),
            ..Config::default()
        };
        let usage = Usage {
            input_tokens: 3_000_000,
            cached_tokens: 1_000_000,
            output_tokens: 100_000,
            ..Usage::default()
        };
        let cost = |usage: &Usage, model| config.spent(usage, model).cost_microusd;
        assert_eq!(cost(&usage, "m-1-large"), 2_000_000 + 100_000 + 500_000);
        assert_eq!(cost(&usage, "other"), 0);
        let told = Usage {
            cost_microusd: Some(7),
            ..usage
        };
        assert_eq!(cost(&told, "m-1"), 7);
    }
}
