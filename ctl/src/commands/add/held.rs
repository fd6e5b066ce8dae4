//! What keeps new tasks from their turn, other than workers: a task before them that failed, a budget
//! that is used up.

use orchestra_types::{TaskId, TaskStatus};

use crate::{
    app::App,
    client::Client,
    error::Result,
    json::task::{Reason, Task},
    submit::Submitted,
    ui::{escape::line, reason::split},
};

/// How many of the new tasks are looked at.
const LOOKED_AT: usize = 20;

/// Says which of the new tasks do not go on by themselves.
pub async fn warn_of_held(app: &App, client: &Client, submitted: &Submitted) -> Result<()> {
    let first = &submitted.ids[..submitted.ids.len().min(LOOKED_AT)];
    for text in texts(&client.tasks(first).await?) {
        app.ui.warn(text);
    }
    Ok(())
}

/// A line for each reason, with the tasks that have it.
fn texts(tasks: &[Task]) -> Vec<String> {
    let mut told: Vec<(&Task, &Reason, usize)> = Vec::new();
    for task in tasks {
        let Some(reason) = task.reason.as_ref().filter(|_| is_held(task)) else {
            continue;
        };
        let same = |(of, known, _): &&mut (&Task, &Reason, usize)| {
            (of.status, &known.message) == (task.status, &reason.message)
        };
        match told.iter_mut().find(same) {
            Some((_, _, more)) => *more += 1,
            None => told.push((task, reason, 0)),
        }
    }
    let texts = told.into_iter();
    let texts = texts.map(|(task, reason, more)| text(task.id, task.status, reason, more));
    texts.collect()
}

/// Whether it has not begun, and something else than a slot keeps it.
fn is_held(task: &Task) -> bool {
    match task.status {
        TaskStatus::Blocked | TaskStatus::Queued | TaskStatus::Cancelled => {
            task.attempts.as_ref().is_none_or(Vec::is_empty)
        }
        TaskStatus::Assigned
        | TaskStatus::Running
        | TaskStatus::Succeeded
        | TaskStatus::Failed
        | TaskStatus::NeedsReview => false,
    }
}

fn text(id: TaskId, status: TaskStatus, reason: &Reason, more: usize) -> String {
    let ids = match more {
        0 => id.to_string(),
        more => format!("{id} and {more} more"),
    };
    let does = match (status, more) {
        (TaskStatus::Cancelled, 0) => "was cancelled at once",
        (TaskStatus::Cancelled, _) => "were cancelled at once",
        (_, 0) => "waits",
        (_, _) => "wait",
    };
    let why = match split(&reason.message) {
        // All of it is what to do.
        ("", _, _) => line(&reason.message),
        (why, _, _) => line(why),
    };
    match status {
        TaskStatus::Cancelled => format!("{ids} {does}: {why}"),
        _ => format!("{ids} {does}: {why}; {}", line(&reason.advice)),
    }
}

#[cfg(test)]
mod tests {
    use orchestra_proto::v1;
    use orchestra_types::{Failure, FailureCode, Place};

    use super::*;

    fn task(id: u64, status: v1::TaskStatus, code: FailureCode, message: &str) -> Task {
        let spec = v1::TaskSpec {
            description: "x".into(),
            timeout_ms: 1,
            place: Some(Place::Empty.into()),
            ..Default::default()
        };
        let reason = (!message.is_empty()).then(|| Failure::new(code, message).into());
        Task::read(v1::Task {
            id,
            spec: Some(spec),
            status: status.into(),
            reason,
            ..Default::default()
        })
        .unwrap()
    }

    #[test]
    fn what_keeps_new_tasks_is_said_once_with_what_to_do() {
        let stuck = |id| {
            let code = FailureCode::DependencyFailed;
            task(id, v1::TaskStatus::Blocked, code, "task_001 failed")
        };
        let free = task(2, v1::TaskStatus::Queued, FailureCode::Internal, "");
        let said = texts(&[free, stuck(3), stuck(4)]);
        assert_eq!(said.len(), 1, "{said:?}");
        let begins = "task_003 and 1 more wait: task_001 failed; ";
        assert!(said[0].starts_with(begins) && said[0].len() > begins.len());
    }

    #[test]
    fn a_reason_that_is_all_advice_is_said_whole() {
        let (code, message) = (FailureCode::AccountFull, "x: `ctl accounts` shows it");
        let full = task(3, v1::TaskStatus::Queued, code, message);
        let said = texts(&[full]);
        assert!(
            said[0].starts_with("task_003 waits: x: `ctl accounts` shows it; "),
            "{said:?}"
        );
    }

    #[test]
    fn a_task_that_was_cancelled_as_it_came_is_told() {
        let code = FailureCode::DependencyFailed;
        let gone = task(3, v1::TaskStatus::Cancelled, code, "task_001 failed");
        let text = "task_003 was cancelled at once: task_001 failed";
        assert_eq!(texts(&[gone]), [text]);
    }
}
