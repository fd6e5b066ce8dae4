//! Where a task works, and how that is made ready.

use orchestra_types::{Place, SetUp};
use serde::Serialize;

use crate::json::some;

/// The project of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Project {
    /// `git-<hex>` or `dir-<hex>`.
    pub id: String,
    /// The directory's name.
    pub name: String,
    /// The directory.
    pub dir: String,
    /// The machine that the directory is on.
    pub machine: String,
}

/// How the clone of an attempt is made ready before its agent begins.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SetUpDocument {
    /// Run by `sh -c`; null where only files are copied.
    pub command: Option<String>,
    /// How long that may run.
    pub timeout_seconds: f64,
    /// Files of the checkout that git ignores and that are copied; never what is in them.
    pub files: Vec<String>,
}

impl From<SetUp> for SetUpDocument {
    fn from(set_up: SetUp) -> Self {
        Self {
            command: some(set_up.command),
            timeout_seconds: set_up.timeout.as_secs_f64(),
            files: set_up.files.into_iter().map(|f| f.path).collect(),
        }
    }
}

/// Where a task works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Workplace {
    /// In a private clone.
    Repository {
        /// The commit it starts from: `head`, or a snapshot of uncommitted changes on top of it.
        commit: String,
        /// The checkout's HEAD then.
        head: Option<String>,
        /// The checkout's branch then.
        branch: Option<String>,
    },
    /// In the directory itself.
    InPlace {
        /// The directory.
        dir: String,
        /// The machine.
        machine: String,
    },
    /// In an empty directory of its own.
    Empty,
}

impl From<Place> for Workplace {
    fn from(place: Place) -> Self {
        match place {
            Place::Repository {
                commit,
                head,
                branch,
                bundles: _,
                ignore_rules: _,
            } => Self::Repository {
                commit,
                head: some(head),
                branch: some(branch),
            },
            Place::InPlace { dir, machine } => Self::InPlace {
                dir: dir.to_string_lossy().into_owned(),
                machine: machine.to_string(),
            },
            Place::Empty => Self::Empty,
        }
    }
}
