//! Which of a task's attempts counts, and what is there of it to apply.

use orchestra_types::ProjectId;

use super::{Task, Workplace};
use crate::json::{
    attempt::{Attempt, of_result},
    time::Time,
};

impl Task {
    /// The branch of the result, where `ctl apply` makes it: not where a directory without a
    /// repository was copied.
    pub fn branch_to_apply(&self) -> Option<&str> {
        let is_dir = self
            .project
            .as_ref()
            .is_some_and(|p| p.id.starts_with(ProjectId::PLACE));
        match &self.place {
            // A repository without a commit is known by its directory too, but it has a branch.
            Workplace::Repository { branch: None, .. } if is_dir => None,
            Workplace::Repository { .. } | Workplace::InPlace { .. } | Workplace::Empty => {
                self.branch.as_deref()
            }
        }
    }

    /// The attempt that its result is of, where the document has attempts.
    pub fn of_result(&self) -> Option<&Attempt> {
        self.attempts.as_deref().and_then(of_result)
    }

    /// The latest attempt, where the document has attempts.
    pub fn latest(&self) -> Option<&Attempt> {
        self.attempts.as_ref().and_then(|a| a.last())
    }

    /// When an attempt of it was given to its worker; none where it has no such attempt.
    pub fn given(&self, number: u32) -> Option<Time> {
        let mut attempts = self.attempts.iter().flatten();
        let attempt = attempts.find(|attempt| attempt.number == number)?;
        Some(attempt.assigned_at)
    }
}
