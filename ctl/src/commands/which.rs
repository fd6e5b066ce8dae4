//! The tasks that a command is for: named, or chosen by what they are.

use clap::builder::NonEmptyStringValueParser;
use orchestra_proto::v1;
use orchestra_types::{TaskId, TaskStatus};

use crate::{
    client::Client,
    commands::{
        add::{mapping, pair},
        each_once,
        tasks::{StatusFilter, find, projects, unknown},
    },
    error::{Error, Result},
};

/// Named tasks, or options that choose some.
#[derive(Debug, clap::Args)]
pub struct Which {
    /// The tasks, as task_001 or 1
    #[arg(value_name = "TASK")]
    tasks: Vec<TaskId>,
    /// Every task that the command is for
    #[arg(long, conflicts_with = "tasks")]
    all: bool,
    /// Of them, every one with this label; repeat it for more
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = pair, conflicts_with = "tasks")]
    label: Vec<(String, String)>,
    /// Every one with this status; repeat it or use commas
    #[arg(
        long,
        short,
        value_name = "STATUS",
        value_delimiter = ',',
        value_parser = StatusFilter::named(),
        hide_possible_values = true,
        conflicts_with = "tasks"
    )]
    pub status: Vec<StatusFilter>,
    /// Of them, every one of this project, by name or id
    #[arg(long, value_name = "PROJECT", value_parser = NonEmptyStringValueParser::new(), conflicts_with = "tasks")]
    project: Option<String>,
    /// Of them, every one of this submitter: user@host, or the user on whatever machine
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), conflicts_with = "tasks")]
    submitter: Option<String>,
}

/// The tasks that are meant.
#[derive(Debug)]
pub struct Found {
    /// Each once.
    pub tasks: Vec<TaskId>,
    /// What is said where there are none.
    pub none: String,
}

impl Which {
    /// Whether the tasks themselves are named.
    pub fn are_named(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// Whether every task is meant, whatever it is of.
    pub fn are_all(&self) -> bool {
        self.all && !self.are_chosen()
    }

    /// Whether an option chooses some.
    fn are_chosen(&self) -> bool {
        let by_name = self.project.is_some() || self.submitter.is_some();
        by_name || !self.label.is_empty() || !self.status.is_empty()
    }

    /// The labels that choose them, as `area=docs size=small`; empty without any.
    pub fn labels(&self) -> String {
        let labels = self.label.iter();
        let labels: Vec<String> = labels
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        labels.join(" ")
    }

    /// Refuses a command line that means no tasks, or a label of two values.
    pub fn require_some(&self) -> Result<()> {
        mapping("--label", self.label.clone())?;
        if self.are_named() || self.all || self.are_chosen() {
            return Ok(());
        }
        Err(Error::usage("which tasks?").hint(
            "name them, or choose with --label KEY=VALUE, --status STATUS, --project PROJECT, \
             --submitter NAME or --all",
        ))
    }

    /// What finds the tasks that the options other than a status choose among those with this one; none where
    /// tasks are named, or a status chooses.
    pub fn with_status(&self, status: TaskStatus) -> Option<v1::ListTasksRequest> {
        (!self.are_named() && self.status.is_empty()).then(|| self.request([status]))
    }

    fn request(&self, statuses: impl IntoIterator<Item = TaskStatus>) -> v1::ListTasksRequest {
        let statuses = statuses.into_iter();
        v1::ListTasksRequest {
            statuses: statuses.map(|s| v1::TaskStatus::from(s).into()).collect(),
            labels: self.label.iter().cloned().collect(),
            project: self.project.clone().unwrap_or_default(),
            submitter: self.submitter.clone().unwrap_or_default(),
            ..Default::default()
        }
    }

    /// The named tasks, each once, or those that the options choose among the ones with these `statuses`.
    pub async fn find(
        self,
        client: &Client,
        statuses: impl FnOnce(&[StatusFilter]) -> Result<Vec<TaskStatus>>,
    ) -> Result<Found> {
        if self.are_named() {
            let (tasks, none) = (each_once(self.tasks), String::new());
            return Ok(Found { tasks, none });
        }
        let mut request = self.request(statuses(&self.status)?);
        if !request.project.is_empty() {
            let known = projects::known(client).await?;
            // By its id: a clone in a directory of another name has tasks of the same project.
            if let Some(id) = projects::meant(&request.project, known)? {
                request.project = id;
            }
        }
        let tasks = find(client, request.clone()).await?;
        let none = match (tasks.is_empty(), request.submitter.as_str()) {
            (true, wanted) if !wanted.is_empty() => unknown::submitter(client, wanted).await?,
            (_, _) => "no such task".to_owned(),
        };
        Ok(Found { tasks, none })
    }
}
