//! The tasks that a command is for: named, or chosen by what they are.

use orchestra_types::{TaskId, TaskStatus};

use crate::{
    client::Client,
    commands::{
        add::pair,
        each_once,
        tasks::{StatusFilter, find},
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
    #[arg(long, value_name = "PROJECT", conflicts_with = "tasks")]
    project: Option<String>,
}

impl Which {
    /// Whether the tasks themselves are named.
    pub fn are_named(&self) -> bool {
        !self.tasks.is_empty()
    }

    /// Whether every task is meant, whatever it is of.
    pub fn are_all(&self) -> bool {
        self.all && self.label.is_empty() && self.status.is_empty() && self.project.is_none()
    }

    /// Refuses a command line that means no tasks.
    pub fn require_some(&self) -> Result<()> {
        let chosen = self.all || !self.label.is_empty() || !self.status.is_empty();
        if self.are_named() || chosen || self.project.is_some() {
            return Ok(());
        }
        Err(Error::usage("which tasks?").hint(
            "name them, or choose with --label KEY=VALUE, --status STATUS, --project PROJECT or --all",
        ))
    }

    /// The named tasks, each once, or those that the options choose among the ones with these `statuses`.
    pub async fn find(
        self,
        client: &Client,
        statuses: impl FnOnce(&[StatusFilter]) -> Result<Vec<TaskStatus>>,
    ) -> Result<Vec<TaskId>> {
        if self.are_named() {
            return Ok(each_once(self.tasks));
        }
        find(client, statuses(&self.status)?, self.label, self.project).await
    }
}
