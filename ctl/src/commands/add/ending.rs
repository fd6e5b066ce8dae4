//! What `--wait` and `--follow` end with.

use orchestra_types::{TaskId, TaskStatus, Timestamp};
use serde_json::json;

use super::Then;
use crate::{
    app::App,
    apply::{self, How, bits},
    client::Client,
    error::{Error, Result, heard_or_not},
    exit::Exit,
    follow::{closing, ended_well},
    interrupt::Interrupt,
    json::{task::Task, time::Time},
    submit::{Submitted, draft::Draft, moment::Start},
    ui::{detail, time::ago},
    warned,
};

/// Most tasks that are named after Ctrl-C.
const NAMED_MAX: usize = 8;

/// What `waits` gives. Ctrl-C ends only the waiting, and then it is said for what.
pub async fn or_interrupted<T>(
    interrupt: &mut Interrupt,
    ids: &[TaskId],
    waits: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        ended = waits => ended,
        () = interrupt.recv() => Err(interrupted(ids)),
    }
}

/// The tasks are queued, and whoever reads standard output was not told: to add them again would queue
/// them twice.
pub fn untold(error: Error, submitted: &Submitted, key: Option<&str>) -> Error {
    if !error.is_unwritten() {
        return error;
    }
    let names = |ids: Vec<String>| match &ids[..] {
        [first, .., last] if ids.len() > NAMED_MAX => format!("{first} to {last}"),
        _ => ids.join(", "),
    };
    let tasks = submitted.ids.iter().map(ToString::to_string);
    let schedules = submitted.schedules.iter().map(ToString::to_string);
    let all = [names(tasks.collect()), names(schedules.collect())];
    let all: Vec<String> = all.into_iter().filter(|ids| !ids.is_empty()).collect();
    let have = match submitted.ids.len() + submitted.schedules.len() {
        1 => "has",
        _ => "have",
    };
    let message = format!(
        "{} {have} been queued, and could not be told",
        all.join(" and ")
    );
    let error = Error::new(Exit::Untold, message).because(error);
    error.hint(match key {
        Some(key) => {
            format!("the same command with `--key {key}` prints the ids and queues nothing")
        }
        None => "do not add them again; `ctl tasks` lists them".to_owned(),
    })
}

/// That a task was to start at a time that is over; the first of them, where there are several.
pub fn late(drafts: &[Draft], now: Timestamp) -> Option<String> {
    let named = |draft: &Draft| draft.start_at.and_then(Start::at);
    let is_late = |draft: &&Draft| named(draft).is_some_and(|at| at < now);
    let late: Vec<&Draft> = drafts.iter().filter(is_late).collect();
    let first = late.first()?;
    let at = named(first)?;
    let whose = match &first.at {
        Some(place) => format!("{place}: `at`"),
        None => "--at".to_owned(),
    };
    let others = match late.len() - 1 {
        0 => String::new(),
        more => format!("; so it is with {more} more"),
    };
    let (day, ago) = (Time(at), ago(at, now));
    Some(format!(
        "{whose} is in the past ({day}, {ago}): it need not wait{others}"
    ))
}

/// Nobody may have been told the ids yet.
fn interrupted(ids: &[TaskId]) -> Error {
    let goes_on = match ids {
        [] => "nothing was queued".to_owned(),
        [id] => {
            format!("{id} goes on; `ctl wait {id}` waits for it, `ctl logs {id} -f` follows it")
        }
        [first, .., last] if ids.len() > NAMED_MAX => format!(
            "{first} to {last} go on; `ctl tasks --after-id {}` lists them",
            first.0 - 1
        ),
        several => {
            let named: Vec<String> = several.iter().map(ToString::to_string).collect();
            let (all, words) = (named.join(", "), named.join(" "));
            format!("{all} go on; `ctl wait {words}` waits for them")
        }
    };
    Error::new(Exit::Interrupted, format!("interrupted; {goes_on}"))
}

/// Applies what ctl is to apply, shows how the tasks ended, and says so by the exit code.
pub async fn end(
    app: &App,
    client: &Client,
    mut tasks: Vec<Task>,
    then: Then,
    own: &[bool],
    known: bool,
) -> Result<Exit> {
    let mut refused = None;
    for (task, own) in tasks.iter_mut().zip(own) {
        if task.status != TaskStatus::Succeeded || !task.has_change_to_apply() {
            continue;
        }
        if *own && task.was_cancelled_too_late() {
            let id = task.id;
            app.ui.warn(format!(
                "{id} is not applied: a person had cancelled it before its result was there; `ctl apply {id}` puts \
                 it there"
            ));
        } else if *own {
            match apply::apply(app, client, task, None, How::WorkTree).await {
                Ok(_) => *task = client.whole_task(task.id).await?,
                Err(e) => refused = Some(e),
            }
        }
        bits::say(app, client, task).await;
    }
    heard_or_not(show_ends(app, client, &mut tasks, then, known).await)?;
    refused.map_or_else(|| Ok(ended_well(&tasks)), Err)
}

async fn show_ends(
    app: &App,
    client: &Client,
    tasks: &mut [Task],
    then: Then,
    known: bool,
) -> Result<()> {
    match (app.ui.is_json(), then) {
        (true, Then::Follow) => tasks.iter().try_for_each(|task| app.ui.document_line(task)),
        (true, _) => app.ui.document(&json!({ "tasks": tasks, "known": known })),
        (false, _) => {
            for task in tasks {
                apply::look_for_branch(app, task).await;
                show_end(app, task)?;
                warned::say(app, client, task).await;
            }
            Ok(())
        }
    }
}

fn show_end(app: &App, task: &Task) -> Result<()> {
    closing(task, app.ui.again)
        .iter()
        .try_for_each(|line| app.ui.line(line))?;
    if let Some(next) = detail::next_step(task) {
        app.ui.next(format!("next: {next}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::again::Again;

    fn said(ids: std::ops::RangeInclusive<u64>) -> String {
        let ids: Vec<TaskId> = ids.map(TaskId).collect();
        interrupted(&ids).to_string()
    }

    #[test]
    fn what_was_queued_and_not_told_is_named_with_the_way_to_it() {
        let submitted = |ids: std::ops::Range<u64>| Submitted {
            ids: ids.map(TaskId).collect(),
            schedules: Vec::new(),
            stopping: false,
            frozen: false,
            known: false,
        };
        let full = || Error::unwritten(std::io::Error::other("disk full"));
        let error = untold(full(), &submitted(7..8), Some("k1"));
        assert_eq!(error.exit(), Exit::Untold);
        assert_eq!(
            error.chain(),
            "task_007 has been queued, and could not be told: failed to write to standard output: disk full"
        );
        let hint = error.next_step(Again::default()).unwrap();
        assert!(hint.contains("`--key k1`"), "{hint}");
        let many = untold(full(), &submitted(7..20), None).to_string();
        assert!(
            many.starts_with("task_007 to task_019 have been queued"),
            "{many}"
        );
        let gone = untold(Error::reader_gone(), &submitted(7..8), None);
        assert!(gone.is_reader_gone());
        let other = untold(Error::failed("it broke"), &submitted(7..8), None);
        assert_eq!(other.exit(), Exit::Failed);
    }

    #[test]
    fn a_time_that_is_over_is_told() {
        let at = |ms: Option<u64>| Draft {
            start_at: ms.map(Timestamp).map(Start::At),
            ..Draft::default()
        };
        let now = Timestamp(7_200_000);
        assert_eq!(late(&[at(None), at(Some(7_200_001))], now), None);
        assert_eq!(
            late(&[at(None), at(Some(0))], now).unwrap(),
            "--at is in the past (1970-01-01T00:00:00.000Z, 2h ago): it need not wait"
        );
        let file = [at(Some(0)).standing_at("t", 3), at(Some(1))];
        let said = late(&file, now).unwrap();
        assert!(said.starts_with("t:3: `at` is in the past"), "{said}");
        assert!(said.ends_with("; so it is with 1 more"), "{said}");
    }

    #[test]
    fn ctrl_c_names_what_goes_on_and_how_to_wait_for_it() {
        assert_eq!(
            said(1..=1),
            "interrupted; task_001 goes on; \
             `ctl wait task_001` waits for it, `ctl logs task_001 -f` follows it"
        );
        assert_eq!(
            said(2..=3),
            "interrupted; task_002, task_003 go on; `ctl wait task_002 task_003` waits for them"
        );
        assert_eq!(
            said(1..=100),
            "interrupted; task_001 to task_100 go on; `ctl tasks --after-id 0` lists them"
        );
    }
}
