//! `--agents claude:2`: how many of a runner may run at once.

use std::{collections::BTreeSet, fmt, num::NonZeroU32, str::FromStr};

use orchestra_types::{RunnerName, runner::KNOWN_RUNNERS};

use crate::{
    error::{Error, Result},
    json::fleet::{Runner, Worker},
    ui::{escape::line, suggest::nearest},
};

/// A runner and how many of it may run at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentCount {
    /// The runner.
    pub runner: RunnerName,
    /// How many.
    pub count: NonZeroU32,
}

impl fmt::Display for AgentCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.runner, self.count)
    }
}

impl FromStr for AgentCount {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let Some((name, count)) = text.split_once(':') else {
            return Err(format!("`{text}` lacks a number; write {text}:2"));
        };
        let wrong = |_| format!("`{count}` is not a number of agents; write {name}:2");
        let count = count.parse().map_err(wrong)?;
        let runner: RunnerName = name
            .parse()
            .map_err(|e: orchestra_types::id::ParseIdError| e.to_string())?;
        // A name that is nearly a known one is a typo; another one may be in the configuration.
        match nearest(name, KNOWN_RUNNERS) {
            Some(known) if known != name => {
                Err(format!("unknown runner `{name}`; did you mean `{known}`?"))
            }
            Some(_) | None => Ok(Self { runner, count }),
        }
    }
}

/// Refuses a runner that stands there twice.
pub fn each_once(counts: &[AgentCount]) -> Result<()> {
    let mut seen = BTreeSet::new();
    match counts.iter().find(|count| !seen.insert(&count.runner)) {
        None => Ok(()),
        Some(twice) => Err(Error::usage(format!(
            "--agents names `{}` twice",
            twice.runner
        ))),
    }
}

/// Which of the runners that were asked for cannot work, and why.
pub fn lacking(counts: &[AgentCount], worker: &Worker) -> Vec<String> {
    let why = |runner: &Runner| match (runner.state, &runner.reason) {
        ("ready", _) => None,
        (_, Some(reason)) => Some(format!("`{}` is not ready: {}", runner.name, line(reason))),
        (_, None) => Some(format!("`{}` is not found on PATH", runner.name)),
    };
    counts
        .iter()
        .filter_map(|count| {
            worker
                .runners
                .iter()
                .find(|r| r.name == count.runner.as_str())
        })
        .filter_map(why)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> std::result::Result<String, String> {
        text.parse::<AgentCount>().map(|a| a.to_string())
    }

    #[test]
    fn a_count_is_a_number_and_never_zero() {
        assert_eq!(read("claude:2"), Ok("claude:2".into()));
        assert_eq!(
            read("codex").unwrap_err(),
            "`codex` lacks a number; write codex:2"
        );
        assert_eq!(
            read("claude:0").unwrap_err(),
            "`0` is not a number of agents; write claude:2"
        );
        assert!(read("claude:many").is_err() && read(":2").is_err());
    }

    #[test]
    fn a_mistyped_runner_is_suggested_and_an_own_name_passes() {
        assert_eq!(
            read("cluade:2").unwrap_err(),
            "unknown runner `cluade`; did you mean `claude`?"
        );
        assert_eq!(read("my-bot:1"), Ok("my-bot:1".into()));
    }

    #[test]
    fn a_runner_is_named_once() {
        let counts = |text: &str| -> Vec<AgentCount> {
            text.split(',').map(|one| one.parse().unwrap()).collect()
        };
        assert!(each_once(&counts("claude:2,codex:2")).is_ok());
        let error = each_once(&counts("claude:2,codex:1,claude:3")).unwrap_err();
        assert_eq!(error.to_string(), "--agents names `claude` twice");
    }
}
