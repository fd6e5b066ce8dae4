//! How a task's status looks: a symbol beside the word, so that neither colour nor symbol is
//! ever the only sign.

use orchestra_types::TaskStatus;

use super::style::{Line, Style};
use crate::json::task::Task;

/// The symbol of a status.
pub fn symbol(status: TaskStatus) -> &'static str {
    match status {
        TaskStatus::Blocked => "◌",
        TaskStatus::Queued => "○",
        TaskStatus::Assigned => "◔",
        TaskStatus::Running => "●",
        TaskStatus::Succeeded => "✓",
        TaskStatus::Failed => "✗",
        TaskStatus::Cancelled => "⊘",
        TaskStatus::NeedsReview => "!",
    }
}

/// The style of a status.
pub fn style(status: TaskStatus) -> Style {
    match status {
        TaskStatus::Blocked | TaskStatus::Cancelled => Style::Dim,
        TaskStatus::Queued => Style::Plain,
        TaskStatus::Assigned | TaskStatus::Running => Style::Active,
        TaskStatus::Succeeded => Style::Good,
        TaskStatus::Failed => Style::Bad,
        TaskStatus::NeedsReview => Style::Attention,
    }
}

/// The status in words: `needs review`.
pub fn words(status: TaskStatus) -> String {
    status.as_str().replace('_', " ")
}

/// `✓ succeeded`.
pub fn label(status: TaskStatus) -> String {
    format!("{} {}", symbol(status), words(status))
}

/// The same of a task, and whether a cancel is on its way: its agent ends, or its worker is away.
pub fn told(task: &Task) -> String {
    match task.is_being_cancelled() {
        true => format!("{}, cancel requested", label(task.status)),
        false => label(task.status),
    }
}

/// `queued 3 · running 2`, only what is not zero.
pub fn counts(counts: impl IntoIterator<Item = (TaskStatus, u64)>) -> Line {
    let mut line = Line::default();
    for (status, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        if !line.0.is_empty() {
            line = line.with(Style::Dim, " · ");
        }
        line = line.with(
            style(status),
            format!("{} {count} {}", symbol(status), words(status)),
        );
    }
    if line.0.is_empty() {
        Line::of(Style::Dim, "no tasks yet")
    } else {
        line
    }
}
