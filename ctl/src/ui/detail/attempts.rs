//! The attempts of a task, one a line.

use std::collections::BTreeMap;

use orchestra_types::FailureCode;

use crate::{
    json::{
        attempt::Attempt,
        task::{Reason, Task},
    },
    ui::{
        again::Again,
        changes,
        escape::line,
        status::{style, words},
        style::{Line, Style},
        task::worker_called,
        time::{duration, usage},
    },
};

pub(super) fn attempts(task: &Task, names: &BTreeMap<String, String>, again: Again) -> Vec<Line> {
    let attempts = task.attempts.as_deref().unwrap_or_default();
    if attempts.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![Line::default(), Line::of(Style::Bold, "attempts")];
    lines.extend(
        attempts
            .iter()
            .map(|attempt| one_attempt(attempt, task, names, again)),
    );
    lines
}

/// That an attempt was given up, for whoever has followed it; none where it has ended, which its events say.
pub fn given_up(task: &Task, number: u32, again: Again) -> Option<Line> {
    let mut attempts = task.attempts.iter().flatten();
    let reason = attempts.find(|a| a.number == number)?.reason.as_ref();
    let reason = reason.filter(|reason| reason.code == FailureCode::WorkerLost)?;
    let which = Line::of(Style::Dim, format!("  attempt {number} "));
    Some(failed(which, reason, again))
}

fn failed(which: Line, reason: &Reason, again: Again) -> Line {
    let message = format!(": {}", again.spell(&line(&reason.message)));
    which
        .with(Style::Bad, format!("✗ {}", reason.code))
        .with(Style::Plain, message)
}

fn one_attempt(
    attempt: &Attempt,
    task: &Task,
    names: &BTreeMap<String, String>,
    again: Again,
) -> Line {
    let worker = attempt
        .worker
        .as_ref()
        .map_or("-".to_owned(), |id| worker_called(id, names));
    let who = format!(
        "{} on {}",
        line(attempt.runner.as_deref().unwrap_or("-")),
        worker
    );
    let line_so_far = Line::of(Style::Dim, format!("  {} ", attempt.number))
        .with(Style::Plain, format!("{who}  "));
    let with_end = match (&attempt.exit, &attempt.reason) {
        (None, _) => line_so_far.with(style(task.status), words(task.status)),
        (Some(_), None) if attempt.number < task.attempt => {
            line_so_far.with(Style::Good, "✓ succeeded").with(
                Style::Plain,
                format!("; attempt {} came after it", attempt.number + 1),
            )
        }
        (Some(_), None) => line_so_far.with(Style::Good, "✓ succeeded"),
        (Some(_), Some(reason)) => failed(line_so_far, reason, again),
    };
    let mut rest = Vec::new();
    if let (Some(start), Some(end)) = (attempt.started_at, attempt.finished_at) {
        rest.push(duration(end.0.since(start.0)));
    }
    rest.extend(
        attempt
            .changes
            .filter(|c| c.files > 0 || c.warnings > 0)
            .map(|c| changes::summary(&c)),
    );
    rest.extend(attempt.usage.as_ref().map(usage).filter(|u| !u.is_empty()));
    let rest: String = rest.iter().map(|part| format!(" · {part}")).collect();
    with_end.with(Style::Dim, rest)
}
