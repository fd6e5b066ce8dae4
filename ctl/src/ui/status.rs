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

/// The same of a task, where it runs with what there is to know: that only its result is put in place, or that
/// a cancel is on its way, because its agent ends or its worker is away.
pub fn told(task: &Task) -> String {
    if task.finishing {
        return FINISHING.to_owned();
    }
    match task.is_being_cancelled() {
        true => format!("{}, cancel requested", label(task.status)),
        false => label(task.status),
    }
}

/// What is said of a running task whose attempt has ended.
const FINISHING: &str = "◕ finishing";

/// `○ 3 queued · ● 2 running · ◕ 1 finishing`, only what is not zero. Those that are finishing are counted
/// among the running ones, and told apart: they take no slot.
pub fn counts(counts: impl IntoIterator<Item = (TaskStatus, u64)>, finishing: u64) -> Line {
    let mut parts = Vec::new();
    for (status, count) in counts {
        let finishing = match status {
            TaskStatus::Running => finishing.min(count),
            _ => 0,
        };
        parts.push((status, label(status), count - finishing));
        parts.push((status, FINISHING.to_owned(), finishing));
    }
    let mut line = Line::default();
    for (status, label, count) in parts.into_iter().filter(|(_, _, count)| *count > 0) {
        if !line.0.is_empty() {
            line = line.with(Style::Dim, " · ");
        }
        line = line.with(style(status), label.replacen(' ', &format!(" {count} "), 1));
    }
    if line.0.is_empty() {
        Line::of(Style::Dim, "no tasks yet")
    } else {
        line
    }
}
