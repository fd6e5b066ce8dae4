//! One task as a person writes it, and the specification that it becomes.

mod command;
mod values;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use nix::unistd::{Uid, User};
use orchestra_config::Config;
use orchestra_proto::{
    convert::{NO_READER, submitted_spec},
    v1,
};
use orchestra_types::{
    Budget, OnDependencyFailure, Place, Priority, Recurrence, RunnerName, ShellCommand, TaskId,
    TaskSpec,
    runner::{KNOWN_RUNNERS, SHELL},
};
use serde::Deserialize;

use super::moment::Start;
use crate::{
    error::{Error, Result},
    ui::{now, suggest::did_you_mean},
};

/// The keys of a task in a file, `runner` and `requires` being other names for two of them.
pub const KEYS: [&str; 27] = [
    "fallback",
    "budget",
    "parent",
    "description",
    "name",
    "priority",
    "agent",
    "runner",
    "model",
    "after",
    "on_dependency_failure",
    "at",
    "every",
    "queue_timeout",
    "stall_timeout",
    "timeout",
    "retries",
    "ports",
    "labels",
    "require",
    "requires",
    "context",
    "command",
    "repo",
    "in_place",
    "no_repo",
    "apply",
];

/// One task as a person writes it, in arguments or in a file. The keys of the file are documented
/// in `docs/task-file.md`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Draft {
    /// What the agent shall do.
    #[serde(deserialize_with = "values::or_default")]
    pub description: String,
    /// A name by which other tasks of the same file can say `after`.
    pub name: Option<String>,
    /// How much it matters.
    pub priority: Option<Priority>,
    /// The runner that must do it.
    #[serde(alias = "runner")]
    pub agent: Option<RunnerName>,
    /// Runners that may do it while the account of those before them is parked.
    #[serde(deserialize_with = "values::runners")]
    pub fallback: Vec<RunnerName>,
    /// The model that the runner shall use.
    pub model: Option<String>,
    /// Tasks that must have succeeded first: ids, or names of tasks in the same file.
    #[serde(deserialize_with = "values::one_or_many")]
    pub after: Vec<String>,
    /// What becomes of it when one of them does not succeed.
    pub on_dependency_failure: Option<OnDependencyFailure>,
    /// It is not started before this moment.
    #[serde(rename = "at", deserialize_with = "values::moment")]
    pub start_at: Option<Start>,
    /// It comes again and again.
    #[serde(deserialize_with = "values::rule")]
    pub every: Option<Recurrence>,
    /// How long it may wait for a worker.
    #[serde(deserialize_with = "values::duration")]
    pub queue_timeout: Option<Duration>,
    /// How long its agent may be silent.
    #[serde(deserialize_with = "values::duration")]
    pub stall_timeout: Option<Duration>,
    /// How long one attempt may run.
    #[serde(deserialize_with = "values::duration")]
    pub timeout: Option<Duration>,
    /// How many more attempts a failure may have.
    pub retries: Option<u32>,
    /// How many ports of its own an attempt must have.
    pub ports: Option<u32>,
    /// What it and its subtasks may use.
    pub budget: Option<Budget>,
    /// The task that it is a part of.
    pub parent: Option<TaskId>,
    /// Labels, for finding tasks again.
    #[serde(deserialize_with = "values::or_default")]
    pub labels: BTreeMap<String, String>,
    /// Labels that the worker must have.
    #[serde(alias = "requires", deserialize_with = "values::or_default")]
    pub require: BTreeMap<String, String>,
    /// Files that the agent is given.
    #[serde(deserialize_with = "values::or_default")]
    pub context: Vec<PathBuf>,
    /// The command, for the `shell` runner.
    #[serde(deserialize_with = "values::command")]
    pub command: Option<ShellCommand>,
    /// The repository or directory.
    pub repo: Option<PathBuf>,
    /// Work in the directory itself.
    pub in_place: Option<bool>,
    /// Work in an empty directory, for no project.
    pub no_repo: Option<bool>,
    /// Put the change into the checkout on success.
    pub apply: Option<bool>,
    /// Where it stands: `tasks.yaml:12`; none for arguments.
    #[serde(skip)]
    pub at: Option<String>,
}

impl Draft {
    /// What this draft says, else what `defaults` says.
    #[must_use]
    pub fn or(self, defaults: &Self) -> Self {
        let map = |own: BTreeMap<_, _>, others: &BTreeMap<_, _>| {
            let mut merged = others.clone();
            merged.extend(own);
            merged
        };
        // What a task says of its place itself stands above what is said for all.
        let names_a_repo = self.repo.is_some() || self.in_place.is_some() || self.apply.is_some();
        let wants_one = self.no_repo != Some(true);
        Self {
            priority: self.priority.or(defaults.priority),
            agent: self.agent.or_else(|| defaults.agent.clone()),
            fallback: if self.fallback.is_empty() {
                defaults.fallback.clone()
            } else {
                self.fallback
            },
            model: self.model.or_else(|| defaults.model.clone()),
            after: if self.after.is_empty() {
                defaults.after.clone()
            } else {
                self.after
            },
            on_dependency_failure: self
                .on_dependency_failure
                .or(defaults.on_dependency_failure),
            start_at: self.start_at.or(defaults.start_at),
            every: self.every.or(defaults.every),
            queue_timeout: self.queue_timeout.or(defaults.queue_timeout),
            stall_timeout: self.stall_timeout.or(defaults.stall_timeout),
            timeout: self.timeout.or(defaults.timeout),
            retries: self.retries.or(defaults.retries),
            ports: self.ports.or(defaults.ports),
            budget: self.budget.or(defaults.budget),
            parent: self.parent.or(defaults.parent),
            labels: map(self.labels, &defaults.labels),
            require: map(self.require, &defaults.require),
            // A command would not see it.
            context: if self.context.is_empty() && self.command.is_none() {
                defaults.context.clone()
            } else {
                self.context
            },
            no_repo: self.no_repo.or(defaults.no_repo.filter(|_| !names_a_repo)),
            repo: self
                .repo
                .or_else(|| defaults.repo.clone().filter(|_| wants_one)),
            in_place: self.in_place.or(defaults.in_place.filter(|_| wants_one)),
            apply: self.apply.or(defaults.apply.filter(|_| wants_one)),
            ..self
        }
    }

    /// The specification, complete but for its place and uploads. It has passed the same checks
    /// that the head makes.
    pub fn spec(&self, config: &Config) -> Result<TaskSpec> {
        let runner_timeout = self
            .agent
            .as_ref()
            .and_then(|name| config.runners.get(name))
            .and_then(|runner| runner.timeout);
        if let Some((why, hint)) = self.command.as_ref().and_then(command::fault) {
            let error = Error::failed(format!("{} command: {why}", self.what()));
            return Err(match hint {
                Some(hint) => error.hint(hint),
                None => error,
            });
        }
        let description = match &self.command {
            Some(command) if self.description.trim().is_empty() => command_line(command),
            Some(_) | None => self.description.clone(),
        };
        let runner = match (&self.agent, &self.command) {
            (None, Some(_)) => Some("shell".parse().expect("shell is a name")),
            (agent, _) => agent.clone(),
        };
        let spec = TaskSpec {
            description,
            priority: self.priority.unwrap_or(config.queue.default_priority),
            runner,
            model: self.model.clone(),
            after: Vec::new(),
            on_dependency_failure: self.on_dependency_failure.unwrap_or_default(),
            // For a head that cannot be told that it is relative.
            start_at: self.start_at.map(|start| start.by(now())),
            schedule: None,
            queue_timeout: self.queue_timeout,
            stall_timeout: self.stall_timeout,
            timeout: self
                .timeout
                .or(runner_timeout)
                .unwrap_or(config.queue.default_timeout),
            retries: self.retries.unwrap_or(config.queue.retries),
            ports: self.ports,
            labels: self.labels.clone(),
            requires: self.require.clone(),
            context_files: Vec::new(),
            project: None,
            place: Place::Empty,
            set_up: None,
            apply: self.apply.unwrap_or(false),
            command: self.command.clone(),
            submitter: submitter(),
            traceparent: match self.every {
                None => std::env::var("TRACEPARENT").unwrap_or_default(),
                // Each run is a trace of its own.
                Some(_) => String::new(),
            },
            fallback: self.fallback.clone(),
            budget: self.budget.unwrap_or_default(),
            parent: self.parent,
        };
        let is_for_shell = spec.runner.as_ref().is_some_and(|r| r.as_str() == SHELL);
        if is_for_shell && !self.context.is_empty() {
            // Before any of it is uploaded.
            return Err(Error::failed(format!(
                "{} context: {NO_READER}",
                self.what()
            )));
        }
        // One set of rules: those of the wire.
        submitted_spec(v1::TaskSpec::from(spec)).map_err(|e| {
            let unknown = match e.field == "fallback" {
                true => self.unknown_fallback(config),
                false => String::new(),
            };
            Error::failed(format!("{} {}: {}{unknown}", self.what(), e.field, e.why))
        })
    }

    /// What is said of a fallback that nobody here knows, besides what else is wrong with it.
    fn unknown_fallback(&self, config: &Config) -> String {
        let own = || config.runners.keys().map(RunnerName::as_str);
        let is_known = |name: &str| own().chain(KNOWN_RUNNERS).any(|known| known == name);
        let unknown = self.fallback.iter().find(|name| !is_known(name.as_str()));
        unknown.map_or(String::new(), |name| {
            let guess = did_you_mean(name.as_str(), own().chain(KNOWN_RUNNERS));
            format!("; nor is there a runner `{name}` in the configuration here{guess}")
        })
    }

    /// Whether it names this runner.
    pub fn names_runner(&self, name: &str) -> bool {
        let mut all = self.agent.iter().chain(&self.fallback);
        all.any(|runner| runner.as_str() == name)
    }

    /// Whether it comes after this task of the head's, or is a part of it.
    pub fn names_task(&self, id: TaskId) -> bool {
        self.parent == Some(id) || self.tasks_before().any(|before| before == id)
    }

    /// The tasks of the head's that it comes after.
    pub fn tasks_before(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.after.iter().filter_map(|text| text.parse().ok())
    }

    /// Whether it works for no project.
    pub fn is_without_repo(&self) -> Result<bool> {
        let no_repo = self.no_repo.unwrap_or(false);
        let needs_one = self.in_place == Some(true) || self.apply == Some(true);
        if no_repo && (needs_one || self.repo.is_some()) {
            return Err(Error::failed(format!(
                "{} no_repo cannot be together with repo, in_place or apply",
                self.what()
            ))
            .hint("leave out one of them"));
        }
        Ok(no_repo)
    }

    /// With its place in a file.
    #[must_use]
    pub fn standing_at(mut self, file: &str, line: u64) -> Self {
        self.at = Some(format!("{file}:{line}"));
        self
    }

    /// The error, with the place of this draft in front.
    pub fn blame(&self, error: Error) -> Error {
        match &self.at {
            Some(at) => error.at(at),
            None => error,
        }
    }

    /// How messages call this draft.
    pub fn what(&self) -> String {
        self.name
            .as_ref()
            .map_or_else(|| "the task's".to_owned(), |name| format!("task `{name}`:"))
    }
}

fn command_line(command: &ShellCommand) -> String {
    match command {
        ShellCommand::Line(line) => line.clone(),
        ShellCommand::Argv(args) => args.join(" "),
    }
}

fn submitter() -> String {
    let named = ["USER", "LOGNAME"].map(|name| std::env::var(name).ok());
    let user = user(named.into_iter().flatten(), Uid::effective());
    let host = hostname::get()
        .map(|h| h.to_string_lossy().into_owned())
        .unwrap_or_default();
    let text = format!("{user}@{host}");
    text.chars().filter(|c| !c.is_control()).take(256).collect()
}

/// Who submits: the first name that is one, else the one that the system has for the user, else its number.
fn user(mut named: impl Iterator<Item = String>, uid: Uid) -> String {
    let of_system = || User::from_uid(uid).ok().flatten().map(|user| user.name);
    named
        .find(|name| !name.trim().is_empty())
        .or_else(of_system)
        .unwrap_or_else(|| format!("uid{uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(description: &str) -> Draft {
        Draft {
            description: description.into(),
            ..Draft::default()
        }
    }

    #[test]
    fn what_is_not_said_comes_from_the_configuration() {
        let config = Config::default();
        let spec = draft("do it").spec(&config).unwrap();
        assert_eq!((spec.priority, spec.retries), (Priority::Normal, 0));
        assert_eq!(spec.timeout, config.queue.default_timeout);
        assert_eq!(spec.runner, None);
    }

    #[test]
    fn what_a_task_says_of_its_place_stands_above_what_is_said_for_all() {
        let nowhere = Draft {
            no_repo: Some(true),
            ..draft("x")
        };
        let applied = Draft {
            repo: Some("there".into()),
            apply: Some(true),
            ..draft("x")
        };
        let merged = nowhere.clone().or(&applied);
        assert_eq!((merged.repo.clone(), merged.apply), (None, None));
        assert!(merged.is_without_repo().unwrap());
        assert!(!applied.clone().or(&nowhere).is_without_repo().unwrap());
        assert!(draft("x").or(&nowhere).is_without_repo().unwrap());
        let both = Draft {
            no_repo: Some(true),
            ..applied
        };
        let error = both.is_without_repo().unwrap_err().to_string();
        assert!(error.contains("no_repo cannot be together"), "{error}");
    }

    #[test]
    fn an_empty_or_huge_description_is_refused_before_anything_is_sent() {
        let config = Config::default();
        let error = draft("  \n").spec(&config).unwrap_err().to_string();
        assert_eq!(
            error,
            "the task's description: is empty; say what the agent shall do"
        );
        let error = draft(&"x".repeat(1 << 20))
            .spec(&config)
            .unwrap_err()
            .to_string();
        assert!(error.contains("256 KiB"), "{error}");
    }

    #[test]
    fn a_submitter_without_a_name_in_the_environment_is_named_by_the_system() {
        let user = |named: &[&str], uid| {
            let named = named.iter().map(ToString::to_string);
            super::user(named, Uid::from_raw(uid))
        };
        assert_eq!(user(&["", "ada"], 0), "ada");
        assert_eq!(user(&[], 0), "root");
        assert_eq!(user(&[""], 4_000_000_001), "uid4000000001");
    }

    #[test]
    fn a_time_of_zero_is_refused_in_one_way() {
        let refused = |draft: Draft| draft.spec(&Config::default()).unwrap_err().to_string();
        let zero = Some(Duration::ZERO);
        let attempt = Draft {
            timeout: zero,
            ..draft("x")
        };
        let queue = Draft {
            queue_timeout: zero,
            ..draft("x")
        };
        let words = "must be more than zero and at most";
        assert_eq!(
            refused(attempt),
            format!("the task's timeout: {words} 30 days")
        );
        assert_eq!(
            refused(queue),
            format!("the task's queue_timeout: {words} 366 days")
        );
    }

    #[test]
    fn a_command_without_an_agent_is_for_the_shell_and_describes_itself() {
        let command = ShellCommand::Argv(vec!["cargo".into(), "test".into()]);
        let spec = Draft {
            command: Some(command),
            ..Draft::default()
        }
        .spec(&Config::default())
        .unwrap();
        assert_eq!(spec.description, "cargo test");
        assert_eq!(spec.runner.unwrap().as_str(), "shell");
    }

    #[test]
    fn an_empty_command_is_told_as_that() {
        for command in [
            ShellCommand::Line(" ".into()),
            ShellCommand::Argv(Vec::new()),
            ShellCommand::Argv(vec![String::new(), "x".into()]),
        ] {
            let draft = Draft {
                command: Some(command),
                ..Draft::default()
            };
            let error = draft.spec(&Config::default()).unwrap_err().to_string();
            assert_eq!(
                error,
                "the task's command: is empty; say what the shell shall run"
            );
        }
    }

    #[test]
    fn a_command_for_another_runner_is_refused_with_its_place() {
        let draft = Draft {
            command: Some(ShellCommand::Line("make".into())),
            agent: Some("claude".parse().unwrap()),
            ..draft("build it")
        }
        .standing_at("t.yaml", 7);
        let error = draft.blame(draft.spec(&Config::default()).unwrap_err());
        assert_eq!(
            error.to_string(),
            "t.yaml:7: the task's command: is for the runner `shell` only"
        );
    }

    #[test]
    fn a_fallback_that_nobody_knows_is_named_also_without_a_first_runner() {
        let refused = |name: &str| {
            let draft = Draft {
                fallback: vec![name.parse().unwrap()],
                ..draft("x")
            };
            draft.spec(&Config::default()).unwrap_err().to_string()
        };
        let unknown = refused("cluade");
        assert!(unknown.contains("needs a first runner"), "{unknown}");
        assert!(
            unknown.contains("a runner `cluade`") && unknown.ends_with("did you mean `claude`?"),
            "{unknown}"
        );
        assert!(!refused("claude").contains("nor is there"));
    }

    #[test]
    fn context_is_for_agents() {
        let notes = Draft {
            context: vec!["notes.md".into()],
            ..Draft::default()
        };
        let command = Draft {
            command: Some(ShellCommand::Line("make".into())),
            ..Draft::default()
        };
        let both = Draft {
            context: notes.context.clone(),
            ..command.clone()
        };
        let refused = both.spec(&Config::default()).unwrap_err().to_string();
        assert_eq!(refused, format!("the task's context: {NO_READER}"));
        assert!(command.or(&notes).spec(&Config::default()).is_ok());
        assert_eq!(draft("x").or(&notes).context, notes.context);
    }

    #[test]
    fn arguments_fill_in_what_a_task_of_the_file_leaves_open() {
        let own = Draft {
            priority: Some(Priority::Low),
            labels: [("a".into(), "1".into())].into(),
            ..draft("x")
        };
        let arguments = Draft {
            priority: Some(Priority::High),
            retries: Some(3),
            labels: [("a".into(), "2".into()), ("b".into(), "2".into())].into(),
            ..Draft::default()
        };
        let merged = own.or(&arguments);
        assert_eq!(
            (merged.priority, merged.retries),
            (Some(Priority::Low), Some(3))
        );
        assert_eq!(
            merged.labels,
            [("a".into(), "1".into()), ("b".into(), "2".into())].into()
        );
    }
}
