//! How much a task, a tree of tasks or a project may use, and how much it has used.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer};

use crate::{
    Usage,
    id::ParseIdError,
    time::{Words, parse_duration},
};

/// Why a limit of 0 is refused, wherever it is said.
pub const NOTHING_RUNS: &str =
    "a budget of 0 lets nothing run; leave it out where there is no limit";
const WANTED: &str = "budget (as 200k-tokens,5usd,1h,3-attempts)";

/// How much may be used. What is absent is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Budget {
    /// Tokens, sent and received.
    pub tokens: Option<u64>,
    /// Cost in millionths of a US dollar.
    pub cost_microusd: Option<u64>,
    /// Wall time of running agents.
    pub time: Option<Duration>,
    /// Attempts.
    pub attempts: Option<u32>,
}

/// How a budget is to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BudgetChange {
    /// Limits take the place of those that are there.
    Set {
        /// Which.
        limits: Budget,
        /// What is not limited any more.
        none: Vec<Measure>,
    },
    /// Limits that are there are raised by so much.
    Add(Budget),
}

/// What has been used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Tokens, sent and received.
    pub tokens: u64,
    /// Cost in millionths of a US dollar, as far as it is known.
    pub cost_microusd: u64,
    /// Wall time of agents.
    pub time: Duration,
    /// Attempts.
    pub attempts: u32,
}

impl Spent {
    /// The tokens and the cost of a usage.
    #[must_use]
    pub fn of(usage: &Usage) -> Self {
        Self {
            tokens: usage.input_tokens.saturating_add(usage.output_tokens),
            cost_microusd: usage.cost_microusd.unwrap_or(0),
            ..Self::default()
        }
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.saturating_add(other.tokens),
            cost_microusd: self.cost_microusd.saturating_add(other.cost_microusd),
            time: self.time.saturating_add(other.time),
            attempts: self.attempts.saturating_add(other.attempts),
        }
    }

    /// The cost; none where tokens were used and nobody knew a price of any.
    #[must_use]
    pub fn known_cost(&self) -> Option<u64> {
        (self.cost_microusd > 0 || self.tokens == 0).then_some(self.cost_microusd)
    }

    /// Whether nothing was used.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tokens, ", self.tokens)?;
        match self.known_cost() {
            Some(cost) => write!(f, "{}", Usd(cost))?,
            None => f.write_str("cost unknown")?,
        }
        write!(f, ", {}, {}", Words(self.time), attempts(self.attempts))
    }
}

fn attempts(count: u32) -> String {
    match count {
        1 => "1 attempt".to_owned(),
        count => format!("{count} attempts"),
    }
}

/// What a budget limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Tokens, sent and received.
    Tokens,
    /// Cost.
    Cost,
    /// Wall time of running agents.
    Time,
    /// Attempts.
    Attempts,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tokens, Self::Cost, Self::Time, Self::Attempts];

    /// The option of `ctl budget` that sets a limit of it, as `--attempts 3`.
    #[must_use]
    pub fn set(self) -> &'static str {
        match self {
            Self::Tokens => "--tokens 200k",
            Self::Cost => "--usd 5",
            Self::Time => "--time 2h",
            Self::Attempts => "--attempts 3",
        }
    }
}

/// In words: `tokens`.
impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tokens => "tokens",
            Self::Cost => "cost",
            Self::Time => "wall time",
            Self::Attempts => "attempts",
        })
    }
}

/// A limit that is used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    words: String,
    /// How much more than it is used: in tokens, millionths of a dollar, seconds or attempts.
    over: u64,
    of: Measure,
}

impl Limit {
    fn new(words: String, of: Measure, over: u64) -> Self {
        Self { words, of, over }
    }

    /// How much more is used than it allows, in words: `400 tokens`. Nothing where it is used up and no more.
    #[must_use]
    pub fn excess(&self) -> Option<String> {
        let over = self.over;
        let words = match self.of {
            Measure::Tokens => format!("{over} tokens"),
            Measure::Cost => Usd(over).to_string(),
            Measure::Time => Words(Duration::from_secs(over)).to_string(),
            Measure::Attempts => attempts(u32::try_from(over).unwrap_or(u32::MAX)),
        };
        (over > 0).then_some(words)
    }

    /// The option of `ctl budget` that raises it beyond what is used, as `--attempts +1`.
    #[must_use]
    pub fn raise(&self) -> String {
        let steps = |step: u64| self.over / step + 1;
        match self.of {
            Measure::Tokens => format!("--tokens +{}k", 100 * steps(100_000)),
            Measure::Cost => format!("--usd +{}", steps(1_000_000)),
            Measure::Time => format!("--time +{}h", steps(3600)),
            Measure::Attempts => format!("--attempts +{}", steps(1)),
        }
    }
}

/// In words: `200000 tokens`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl Budget {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }

    /// The first limit that stops a running agent.
    #[must_use]
    pub fn reached(&self, spent: &Spent) -> Option<Limit> {
        if let Some(limit) = self.tokens.filter(|limit| spent.tokens >= *limit) {
            return Some(Limit::new(
                format!("{limit} tokens"),
                Measure::Tokens,
                spent.tokens - limit,
            ));
        }
        if let Some(limit) = self.cost_microusd.filter(|l| spent.cost_microusd >= *l) {
            return Some(Limit::new(
                Usd(limit).to_string(),
                Measure::Cost,
                spent.cost_microusd - limit,
            ));
        }
        let time = self.time.filter(|limit| spent.time >= *limit);
        time.map(|limit| {
            let over = (spent.time - limit).as_secs();
            Limit::new(format!("{} of running", Words(limit)), Measure::Time, over)
        })
    }

    /// The first limit that stands against another attempt.
    #[must_use]
    pub fn forbids_start(&self, spent: &Spent) -> Option<Limit> {
        let no_more = self.attempts.filter(|limit| spent.attempts >= *limit);
        let no_more = no_more.map(|limit| {
            let over = u64::from(spent.attempts - limit);
            Limit::new(attempts(limit), Measure::Attempts, over)
        });
        self.reached(spent).or(no_more)
    }

    /// What this one says, else what `other` says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            tokens: self.tokens.or(other.tokens),
            cost_microusd: self.cost_microusd.or(other.cost_microusd),
            time: self.time.or(other.time),
            attempts: self.attempts.or(other.attempts),
        }
    }

    /// Whether there is a limit of it.
    #[must_use]
    pub fn limits(&self, measure: Measure) -> bool {
        match measure {
            Measure::Tokens => self.tokens.is_some(),
            Measure::Cost => self.cost_microusd.is_some(),
            Measure::Time => self.time.is_some(),
            Measure::Attempts => self.attempts.is_some(),
        }
    }

    /// Whether a limit is 0: nothing could ever run.
    #[must_use]
    pub fn has_zero(&self) -> bool {
        self.forbids_start(&Spent::default()).is_some()
    }

    /// The same without limits of these.
    #[must_use]
    pub fn without(mut self, none: &[Measure]) -> Self {
        for measure in none {
            match measure {
                Measure::Tokens => self.tokens = None,
                Measure::Cost => self.cost_microusd = None,
                Measure::Time => self.time = None,
                Measure::Attempts => self.attempts = None,
            }
        }
        self
    }

    /// The first limit that `more` would raise and that is not there.
    #[must_use]
    pub fn lacks(&self, more: &Self) -> Option<Measure> {
        let mut all = Measure::ALL.into_iter();
        all.find(|measure| more.limits(*measure) && !self.limits(*measure))
    }

    /// Each limit raised by what `more` says of it; one that is not there begins at that.
    #[must_use]
    pub fn raised(self, more: Self) -> Self {
        fn add<T>(now: Option<T>, more: Option<T>, sum: fn(T, T) -> T) -> Option<T> {
            match (now, more) {
                (Some(now), Some(more)) => Some(sum(now, more)),
                (now, more) => now.or(more),
            }
        }
        Self {
            tokens: add(self.tokens, more.tokens, u64::saturating_add),
            cost_microusd: add(self.cost_microusd, more.cost_microusd, u64::saturating_add),
            time: add(self.time, more.time, Duration::saturating_add),
            attempts: add(self.attempts, more.attempts, u32::saturating_add),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = self.tokens.map(|n| format!("{n} tokens"));
        let cost = self.cost_microusd.map(|n| Usd(n).to_string());
        let time = self.time.map(|t| Words(t).to_string());
        let attempts = self.attempts.map(attempts);
        let all: Vec<String> = [tokens, cost, time, attempts]
            .into_iter()
            .flatten()
            .collect();
        match all.as_slice() {
            [] => f.write_str("unlimited"),
            all => f.write_str(&all.join(", ")),
        }
    }
}

/// Why a text is not a budget.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseBudgetError {
    /// It does not read.
    #[error(transparent)]
    Form(#[from] ParseIdError),
    /// A limit is 0.
    #[error("{NOTHING_RUNS}")]
    Zero,
}

impl FromStr for Budget {
    type Err = ParseBudgetError;

    /// Reads `200k-tokens,5usd,1h,3-attempts`, in any order, each at most once.
    fn from_str(text: &str) -> Result<Self, ParseBudgetError> {
        let refused = || {
            ParseBudgetError::Form(ParseIdError {
                text: text.chars().take(64).collect(),
                wanted: WANTED,
            })
        };
        let mut budget = Self::default();
        for part in text.split(',').map(str::trim) {
            let is_new = if let Some(number) = without(part, &["tokens", "token", "tok"]) {
                budget
                    .tokens
                    .replace(tokens(number).map_err(|_| refused())?)
                    .is_none()
            } else if let Some(number) = without(part, &["attempts", "attempt"]) {
                budget
                    .attempts
                    .replace(number.parse().map_err(|_| refused())?)
                    .is_none()
            } else if part.starts_with('$') || part.to_ascii_lowercase().ends_with("usd") {
                budget
                    .cost_microusd
                    .replace(usd(part).map_err(|_| refused())?)
                    .is_none()
            } else {
                budget
                    .time
                    .replace(parse_duration(part).map_err(|_| refused())?)
                    .is_none()
            };
            if !is_new {
                return Err(refused());
            }
        }
        if budget.has_zero() {
            return Err(ParseBudgetError::Zero);
        }
        Ok(budget)
    }
}

impl<'de> Deserialize<'de> for Budget {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Reads a number of tokens: `5000`, `200k`, `1.5m`.
pub fn tokens(text: &str) -> Result<u64, ParseIdError> {
    let refused = || ParseIdError {
        text: text.chars().take(64).collect(),
        wanted: "number of tokens (5000, 200k, 1.5m)",
    };
    let lower = text.trim().to_ascii_lowercase();
    let (number, unit) = match lower.strip_suffix('k') {
        Some(number) => (number, 1_000),
        None => match lower.strip_suffix('m') {
            Some(number) => (number, 1_000_000),
            None => (lower.as_str(), 1),
        },
    };
    decimal(number, unit).ok_or_else(refused)
}

/// Reads an amount of US dollars as millionths: `5`, `0.25`, `5usd`, `$5`.
pub fn usd(text: &str) -> Result<u64, ParseIdError> {
    let refused = || ParseIdError {
        text: text.chars().take(64).collect(),
        wanted: "amount of US dollars (5, 0.25, 5usd, $5)",
    };
    let lower = text.trim().to_ascii_lowercase();
    let number = lower.strip_prefix('$').unwrap_or(&lower);
    let number = number.strip_suffix("usd").unwrap_or(number).trim();
    decimal(number, 1_000_000).ok_or_else(refused)
}

/// A decimal number times `unit`, exactly; none where it is no such number or too fine.
fn decimal(text: &str, unit: u64) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > 9 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let scale = 10u64.pow(u32::try_from(part.len()).ok()?);
    let part: u64 = if part.is_empty() {
        0
    } else {
        part.parse().ok()?
    };
    let part = part.checked_mul(unit)?;
    if !part.is_multiple_of(scale) {
        return None;
    }
    whole.checked_mul(unit)?.checked_add(part / scale)
}

fn without<'a>(text: &'a str, units: &[&str]) -> Option<&'a str> {
    let found = units.iter().find_map(|unit| text.strip_suffix(unit))?;
    Some(found.trim_end_matches(['-', ' ']))
}

/// Shows millionths of a US dollar.
#[derive(Clone, Copy, Debug)]
pub struct Usd(pub u64);

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1_000_000, self.0 % 1_000_000);
        match part {
            0 => write!(f, "{whole} USD"),
            part if part.is_multiple_of(10_000) => write!(f, "{whole}.{:02} USD", part / 10_000),
            part => write!(f, "{whole}.{part:06} USD"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(text: &str) -> Budget {
        text.parse().unwrap()
    }

    #[test]
    fn a_budget_reads_as_people_write_it() {
        let all = budget("200k-tokens, 5usd,1h,3-attempts");
        assert_eq!(all.tokens, Some(200_000));
        assert_eq!(all.cost_microusd, Some(5_000_000));
        assert_eq!(all.time, Some(Duration::from_secs(3600)));
        assert_eq!(all.attempts, Some(3));
        assert_eq!(budget("$0.25").cost_microusd, Some(250_000));
        assert_eq!(budget("1.5mtokens").tokens, Some(1_500_000));
        assert_eq!(
            all.to_string(),
            "200000 tokens, 5 USD, 1 h, 3 attempts",
            "and is told in words"
        );
    }

    #[test]
    fn what_is_not_a_budget_is_refused() {
        for text in [
            "",
            "5",
            "tokens",
            "-5usd",
            "5usd,6usd",
            "1e9tokens",
            "0.0000001usd",
            "99999999999999999999tokens",
            "1.0000000000usd",
        ] {
            assert!(text.parse::<Budget>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_limit_of_nothing_is_refused_with_the_same_words_everywhere() {
        for text in ["0tokens", "5usd,0s", "0.0usd", "1h,0-attempts"] {
            let refused = text.parse::<Budget>().unwrap_err();
            assert_eq!(refused.to_string(), NOTHING_RUNS, "{text}");
        }
        let some = budget("5tokens,1usd,1h,2-attempts");
        assert_eq!(
            some.without(&[Measure::Cost, Measure::Time]),
            budget("5tokens,2-attempts")
        );
        assert!(some.without(&Measure::ALL).is_unlimited());
    }

    #[test]
    fn each_limit_is_reached_by_its_own_use_and_attempts_stop_only_the_next() {
        let spent = Spent {
            tokens: 10,
            cost_microusd: 20,
            time: Duration::from_secs(30),
            attempts: 1,
        };
        for text in ["10tokens", "0.00002usd", "30s"] {
            assert!(budget(text).reached(&spent).is_some(), "{text}");
        }
        for text in ["11tokens", "0.000021usd", "31s", "1-attempt"] {
            assert_eq!(budget(text).reached(&spent), None, "{text}");
        }
        assert!(budget("1-attempt").forbids_start(&spent).is_some());
        assert!(spent.to_string().ends_with(", 1 attempt"), "{spent}");
        assert_eq!(budget("1-attempt").to_string(), "1 attempt");
        assert_eq!(budget("2-attempts").forbids_start(&spent), None);
        let excess = |text: &str| budget(text).forbids_start(&spent).unwrap().excess();
        assert_eq!(excess("1-attempt"), None);
    }

    #[test]
    fn a_cost_that_nobody_knows_is_not_told_as_none() {
        let spent = |tokens, cost_microusd| Spent {
            tokens,
            cost_microusd,
            ..Spent::default()
        };
        let unknown = spent(10, 0).to_string();
        assert_eq!(unknown, "10 tokens, cost unknown, 0 s, 0 attempts");
        assert!(spent(10, 30_000).to_string().contains(", 0.03 USD,"));
        assert!(spent(0, 0).to_string().contains(", 0 USD,"));
    }

    #[test]
    fn the_raise_that_is_advised_is_enough() {
        let used = Spent {
            tokens: 350_000,
            cost_microusd: 4_500_000,
            time: Duration::from_secs(3 * 3600),
            attempts: 6,
        };
        for (limit, advised, more) in [
            ("100k-tokens", "--tokens +300k", "300k-tokens"),
            ("350k-tokens", "--tokens +100k", "100k-tokens"),
            ("1usd", "--usd +4", "4usd"),
            ("1h", "--time +3h", "3h"),
            ("2-attempts", "--attempts +5", "5-attempts"),
        ] {
            let limited = budget(limit);
            assert_eq!(limited.forbids_start(&used).unwrap().raise(), advised);
            let raised = limited.raised(budget(more));
            assert_eq!(raised.forbids_start(&used), None, "{limit}");
        }
    }

    #[test]
    fn a_raise_adds_to_a_limit_and_says_which_one_is_not_there() {
        let limited = budget("1k-tokens,1h");
        let more = budget("100tokens,2h");
        assert_eq!(limited.lacks(&more), None);
        assert_eq!(limited.raised(more), budget("1100tokens,3h"));
        assert_eq!(limited.lacks(&budget("1usd,1h")), Some(Measure::Cost));
        assert_eq!(
            Budget::default().lacks(&budget("1-attempt")),
            Some(Measure::Attempts)
        );
    }
}
