//! The options of a task, on the command line.

use std::{collections::BTreeMap, ops::RangeInclusive, path::PathBuf, time::Duration};

use clap::ValueHint;
use orchestra_types::{
    Budget, OnDependencyFailure, Priority, Recurrence, RunnerName, TaskId, budget, limits,
};

use crate::{
    error::{Error, Result},
    submit::{
        draft::Draft,
        moment::{Start, parse_moment, parse_rule},
    },
    values,
};

/// Options of a task. With --file they count for every task that does not say otherwise.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Task options")]
pub struct Options {
    /// How much it matters: high, normal or low. Default: normal
    #[arg(long, short, value_name = "PRIORITY", value_parser = values::priority(), hide_possible_values = true)]
    pub priority: Option<Priority>,
    /// The runner that must do it: claude, codex, …, shell. Default: whichever agent is free
    #[arg(long, short, alias = "runner", value_name = "RUNNER", value_parser = values::runner(), hide_possible_values = true)]
    pub agent: Option<RunnerName>,
    /// Runners that may do it while the account of those before them is parked; separate by commas
    #[arg(long, value_name = "RUNNER", value_delimiter = ',', value_parser = values::runner(), hide_possible_values = true)]
    pub fallback: Vec<RunnerName>,
    /// The model that the runner shall use. Default: the runner's own
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// Start only after these tasks have succeeded, with their changes in the files; repeat it or
    /// separate by commas
    #[arg(long, value_name = "TASK", value_delimiter = ',')]
    pub after: Vec<TaskId>,
    /// When one of those does not succeed: block (a person decides), cancel this task, or run it
    /// anyway. Default: block
    #[arg(long, alias = "on-failure", value_name = "CHOICE", value_parser = values::on_dependency_failure(), hide_possible_values = true)]
    pub on_dependency_failure: Option<OnDependencyFailure>,
    /// Not before this time: +2h by the head's clock, 18:30, "2026-11-21 18:30" or RFC 3339. One in the past is no reason to
    /// wait, which is said
    #[arg(long, value_name = "TIME", value_parser = parse_moment, allow_hyphen_values = true)]
    pub at: Option<Start>,
    /// Again and again: each 90s, 6h, 1d, or daily at a time as 18:30, which keeps the offset from UTC that
    /// this machine has now, also in summer; see `ctl schedules`
    #[arg(long, value_name = "RULE", value_parser = parse_rule, allow_hyphen_values = true, conflicts_with = "after")]
    pub every: Option<Recurrence>,
    /// How long it may wait until its first attempt begins, before it fails. Default: for ever
    #[arg(long, value_name = "DURATION", value_parser = queue_timeout, allow_hyphen_values = true)]
    pub queue_timeout: Option<Duration>,
    /// Stop an attempt after which nothing is heard of its agent for this long. Default: only note it
    #[arg(long, value_name = "DURATION", value_parser = stall_timeout, allow_hyphen_values = true)]
    pub stall_timeout: Option<Duration>,
    /// How long one attempt may run, as 90s, 30m, 1h30m. Default: 30m
    #[arg(long, value_name = "DURATION", value_parser = timeout, allow_hyphen_values = true)]
    pub timeout: Option<Duration>,
    /// How often a failure that can pass is tried again. Default: 0
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=limits::RETRIES_MAX.into()), allow_negative_numbers = true)]
    pub retries: Option<u32>,
    /// How many ports of its own an attempt must have, for servers that it starts: in its environment as
    /// ORCHESTRA_PORT, ORCHESTRA_PORT_1, ... Default: one, where there is one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=16), allow_negative_numbers = true)]
    pub ports: Option<u32>,
    /// What it and its subtasks may use, as 200k-tokens,5usd,1h,3-attempts. At the limit it stops,
    /// keeps its work and asks
    #[arg(long, value_name = "BUDGET", allow_hyphen_values = true)]
    pub budget: Option<Budget>,
    /// The tokens of the budget, as 5000, 200k, 1.5m
    #[arg(long, value_name = "N", value_parser = budget::tokens, allow_hyphen_values = true)]
    pub budget_tokens: Option<u64>,
    /// The cost of the budget in US dollars, where the CLI or the configuration tells it
    #[arg(long, value_name = "USD", value_parser = budget::usd, allow_hyphen_values = true)]
    pub budget_usd: Option<u64>,
    /// The wall time of the budget, as 30m, 2h
    #[arg(long, value_name = "DURATION", value_parser = values::duration, allow_hyphen_values = true)]
    pub budget_time: Option<Duration>,
    /// The task that this one is a part of: what it uses counts there too. Default inside an agent:
    /// the task that the agent works on
    #[arg(
        long,
        value_name = "TASK",
        env = "ORCHESTRA_TASK",
        hide_env_values = true
    )]
    pub parent: Option<TaskId>,
    /// A label for finding the task again; repeat it for more
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = pair)]
    pub label: Vec<(String, String)>,
    /// A label that the worker must have; repeat it for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub require: Vec<(String, String)>,
    /// A file that the agent is given; repeat it for more
    #[arg(long, value_name = "FILE")]
    pub context: Vec<PathBuf>,
    /// The repository or directory to work on. Default: the current directory
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub repo: Option<PathBuf>,
    /// Work in the directory itself instead of a snapshot or copy
    #[arg(long)]
    pub in_place: bool,
    /// Work in an empty directory, for no project, on any worker; its files are listed, and not kept
    #[arg(long, conflicts_with_all = ["repo", "in_place", "apply"])]
    pub no_repo: bool,
    /// Put the change into the checkout by itself on success
    #[arg(long)]
    pub apply: bool,
}

impl Options {
    /// A part of the budget that has an option of its own, too: nobody could see which counts.
    fn limit_given_twice(&self) -> Option<Error> {
        let whole = self.budget.unwrap_or_default();
        let given = [
            (
                "tokens",
                "tokens",
                whole.tokens.is_some() && self.budget_tokens.is_some(),
            ),
            (
                "usd",
                "cost",
                whole.cost_microusd.is_some() && self.budget_usd.is_some(),
            ),
            (
                "time",
                "time",
                whole.time.is_some() && self.budget_time.is_some(),
            ),
        ];
        let (part, what, _) = given.into_iter().find(|(.., twice)| *twice)?;
        let why = format!("--budget and --budget-{part} both say a limit of its {what}");
        Some(Error::usage(why).hint("name that limit once"))
    }

    /// A draft that says what the options say.
    pub fn draft(self) -> Result<Draft> {
        if let Some(error) = self.limit_given_twice() {
            return Err(error);
        }
        let whole = self.budget.unwrap_or_default();
        let parts = Budget {
            tokens: self.budget_tokens,
            cost_microusd: self.budget_usd,
            time: self.budget_time,
            attempts: None,
        };
        let budget = parts.or(whole);
        if budget.has_zero() {
            return Err(Error::usage(budget::NOTHING_RUNS));
        }
        Ok(Draft {
            budget: (!budget.is_unlimited()).then_some(budget),
            parent: self.parent,
            priority: self.priority,
            agent: self.agent,
            fallback: self.fallback,
            model: self.model,
            after: self.after.iter().map(ToString::to_string).collect(),
            on_dependency_failure: self.on_dependency_failure,
            start_at: self.at,
            every: self.every,
            queue_timeout: self.queue_timeout,
            stall_timeout: self.stall_timeout,
            timeout: self.timeout,
            retries: self.retries,
            ports: self.ports,
            labels: mapping("--label", self.label)?,
            require: mapping("--require", self.require)?,
            context: self.context,
            repo: self.repo,
            in_place: self.in_place.then_some(true),
            no_repo: self.no_repo.then_some(true),
            apply: self.apply.then_some(true),
            ..Draft::default()
        })
    }
}

/// Pairs of an option, of which none may name a key again.
pub fn mapping(option: &str, pairs: Vec<(String, String)>) -> Result<BTreeMap<String, String>> {
    let mut mapping = BTreeMap::new();
    for (key, value) in pairs {
        if mapping.insert(key.clone(), value).is_some() {
            return Err(Error::usage(format!("{option} names `{key}` twice")));
        }
    }
    Ok(mapping)
}

impl Draft {
    /// With absolute paths.
    pub fn absolute(mut self) -> Result<Self> {
        for path in self.context.iter_mut().chain(&mut self.repo) {
            *path = std::path::absolute(&*path).map_err(|e| {
                Error::failed(format!("failed to find `{}`", path.display())).because(e)
            })?;
        }
        Ok(self)
    }
}

fn within(
    text: &str,
    allowed: RangeInclusive<Duration>,
    words: &str,
) -> std::result::Result<Duration, String> {
    let duration = values::duration(text)?;
    match allowed.contains(&duration) {
        true => Ok(duration),
        false => Err(format!("it is {words}")),
    }
}

/// The shortest that is more than zero for the head.
const SHORTEST: Duration = Duration::from_millis(1);

fn timeout(text: &str) -> std::result::Result<Duration, String> {
    let words = "more than zero and at most 30 days";
    within(text, SHORTEST..=limits::TIMEOUT_MAX, words)
}

fn queue_timeout(text: &str) -> std::result::Result<Duration, String> {
    let words = "more than zero and at most 366 days";
    within(text, SHORTEST..=limits::QUEUE_TIMEOUT_MAX, words)
}

fn stall_timeout(text: &str) -> std::result::Result<Duration, String> {
    let allowed = limits::STALL_TIMEOUT_MIN..=limits::TIMEOUT_MAX;
    within(text, allowed, "10 s to 30 days")
}

/// `key=value`.
pub fn pair(text: &str) -> std::result::Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err(format!("`{text}` is not of the form KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn a_number_or_a_time_that_no_task_may_have_is_a_wrong_command_line() {
        for line in [
            "add --retries 101",
            "add --timeout 31d",
            "add --timeout 0s",
            "add --queue-timeout 367d",
            "add --stall-timeout 9s",
        ] {
            assert!(Line::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
        for line in [
            "add --retries 100",
            "add --timeout 30d",
            "add --queue-timeout 366d",
            "add --stall-timeout 10s",
        ] {
            assert!(Line::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_limit_that_two_options_name_is_refused() {
        let draft = |line: &str| {
            let line = Line::try_parse_from(line.split(' ')).unwrap();
            line.options.draft()
        };
        for (line, option, what) in [
            ("add --budget 2h --budget-time 1s", "--budget-time", "time"),
            (
                "add --budget 5usd,1h --budget-usd 2",
                "--budget-usd",
                "cost",
            ),
            (
                "add --budget-tokens 5 --budget 9-tokens",
                "--budget-tokens",
                "tokens",
            ),
        ] {
            let error = draft(line).unwrap_err();
            let said = format!("--budget and {option} both say a limit of its {what}");
            assert_eq!(error.to_string(), said);
        }
        let both = draft("add --budget 2h --budget-tokens 5").unwrap();
        let budget = both.budget.unwrap();
        assert_eq!(
            (budget.tokens, budget.time.unwrap().as_secs()),
            (Some(5), 7200)
        );
    }

    #[test]
    fn a_label_that_stands_twice_is_refused() {
        let pairs = |texts: &[&str]| texts.iter().map(|t| pair(t).unwrap()).collect();
        assert_eq!(mapping("--label", pairs(&["a=1", "b=1"])).unwrap().len(), 2);
        let error = mapping("--label", pairs(&["a=1", "a=2"])).unwrap_err();
        assert_eq!(error.to_string(), "--label names `a` twice");
    }
}
