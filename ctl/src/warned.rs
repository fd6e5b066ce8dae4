//! What the warnings of a result say, where a person looks at the result: a number alone is passed over.

use orchestra_types::TaskId;

use crate::{
    app::App,
    client::Client,
    json::{attempt::Attempt, task::Task},
    left_out::{self, Missing},
    ui::{detail::ids, escape::naming, time::counted},
};

/// How many are shown.
const SHOWN_MAX: usize = 5;

/// Says which changes are not in the task's result, the first of its warnings, and where all of them are.
pub async fn say(app: &App, client: &Client, task: &Task) {
    let Some(attempt) = task.of_result().filter(|_| !app.ui.is_json()) else {
        return;
    };
    for text in left_out(task.id, attempt) {
        app.ui.warn(text);
    }
    for missing in left_out::below(client, task).await {
        app.ui.warn(left_out_below(task.id, missing));
    }
    let count = attempt.changes.map_or(0, |changes| changes.warnings);
    if count == 0 {
        return;
    }
    let warnings = match client.files(task.id, attempt.number).await {
        Ok(files) => files.warnings,
        // Nothing that was done is undone by this.
        Err(_) => Vec::new(),
    };
    for text in said(&warnings, count, &task.id.to_string()) {
        app.ui.warn(naming(&text));
    }
}

/// Of each task that it comes after and whose change its files did not begin with.
fn left_out(id: TaskId, attempt: &Attempt) -> Vec<String> {
    let with = match attempt.built_on.as_slice() {
        [] => "the files that it began with".to_owned(),
        [one] => format!("the change of {one}"),
        several => format!("the changes of {}", ids(several)),
    };
    let says = |left: &TaskId| {
        format!(
            "the change of {left} was left out, since it conflicts with {with}: it is not in the result of {id}, \
             unless the agent has merged it; `ctl logs {id}` names the files, `ctl diff {left}` shows it"
        )
    };
    attempt.left_out.iter().map(says).collect()
}

/// Of a change that a task below it left out.
fn left_out_below(id: TaskId, Missing { change, by }: Missing) -> String {
    format!(
        "the change of {change} was left out of {by}, on which {id} is built: it is not in the result of {id} \
         either, unless an agent has merged it or you had it before; `ctl logs {by}` names the files, \
         `ctl diff {change}` shows it"
    )
}

fn said(warnings: &[String], count: u64, id: &str) -> Vec<String> {
    let mut said: Vec<String> = warnings.iter().take(SHOWN_MAX).cloned().collect();
    let more = count.saturating_sub(said.len() as u64);
    if said.is_empty() {
        let all = counted(count, "warning");
        said.push(format!("its changes have {all}: `ctl files {id}`"));
    } else if more > 0 {
        let more = counted(more, "more warning");
        said.push(format!("{more}: `ctl files {id}`"));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_warnings_are_said_and_the_others_counted() {
        let some = |count: usize| vec!["left out".to_owned(); count];
        assert_eq!(said(&some(2), 2, "task_001"), some(2));
        let many = said(&some(7), 7, "task_001");
        assert_eq!(many.len(), SHOWN_MAX + 1);
        assert_eq!(many[SHOWN_MAX], "2 more warnings: `ctl files task_001`");
        assert_eq!(
            said(&[], 1, "task_001"),
            ["its changes have 1 warning: `ctl files task_001`"]
        );
    }
}
