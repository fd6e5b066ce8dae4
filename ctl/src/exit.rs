//! The exit codes of `ctl`: a documented contract (`docs/exit-codes.md`).

use std::process::ExitCode;

/// How `ctl` ends. Scripts rely on the numbers: a variant may be added, none may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for has been done.
    Ok,
    /// It could not be done: bad input, a file that cannot be read, an error of the head.
    Failed,
    /// The command line is wrong.
    Usage,
    /// The head is not running or cannot be reached.
    HeadNotRunning,
    /// There is no such task, file or result.
    NotFound,
    /// It was refused because of how things stand: a conflict, a task that has ended.
    Refused,
    /// A task that was waited for ended without success.
    TaskFailed,
    /// A task that was waited for waits for a person.
    NeedsReview,
    /// `ctl check` found damage.
    Damaged,
    /// It was done or found out, and could not be printed.
    Untold,
    /// The head went away before it answered: it was done, or it was not.
    Unanswered,
    /// The time given to wait is over.
    TimedOut,
    /// Ctrl-C.
    Interrupted,
    /// A bug in `ctl`.
    Bug,
}

impl Exit {
    /// All of them, by number.
    #[cfg(test)]
    pub const ALL: [Self; 14] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::HeadNotRunning,
        Self::NotFound,
        Self::Refused,
        Self::TaskFailed,
        Self::NeedsReview,
        Self::Damaged,
        Self::Untold,
        Self::Unanswered,
        Self::TimedOut,
        Self::Interrupted,
        Self::Bug,
    ];

    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::HeadNotRunning => 3,
            Self::NotFound => 4,
            Self::Refused => 5,
            Self::TaskFailed => 6,
            Self::NeedsReview => 7,
            Self::Damaged => 8,
            Self::Untold => 9,
            Self::Unanswered => 10,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
            Self::Bug => 255,
        }
    }

    /// The name, as in the error document of `--json`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::HeadNotRunning => "head_not_running",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::TaskFailed => "task_failed",
            Self::NeedsReview => "needs_review",
            Self::Damaged => "damaged",
            Self::Untold => "untold",
            Self::Unanswered => "unanswered",
            Self::TimedOut => "timed_out",
            Self::Interrupted => "interrupted",
            Self::Bug => "bug",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn every_exit_code_stands_in_the_documentation_with_its_number_and_name() {
        let page = include_str!("../../docs/exit-codes.md");
        for exit in Exit::ALL {
            let row = format!("| {} | `{}` |", exit.code(), exit.as_str());
            assert!(page.contains(&row), "docs/exit-codes.md lacks `{row}`");
        }
        let rows = page
            .lines()
            .filter(|l| l.starts_with("| ") && l.contains("| `"))
            .count();
        assert_eq!(rows, Exit::ALL.len());
    }
}
