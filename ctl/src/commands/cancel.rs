//! `ctl cancel`.

use std::{cmp::Reverse, collections::BTreeSet};

use futures::{StreamExt, stream};
use orchestra_proto::{
    Refused,
    v1::{self, cancelled::Answer as Changed},
};
use orchestra_types::{ScheduleId, TaskId, TaskStatus, limits};
use tonic::Code;

use crate::{
    app::App,
    changing,
    client::Client,
    commands::{
        refusal, schedules, show_answers,
        tasks::{StatusFilter, find},
        which::{Found, Which},
    },
    error::{Error, Result},
    exit::Exit,
    json::{refused, task::Task},
    ui::time::counted,
};

/// How many calls wait for their answer at a time.
const AT_ONCE: usize = 8;
/// Most subtasks that are named.
const NAMED_MAX: usize = 8;

/// Cancel tasks with their subtasks; the work of a running agent so far is kept
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctl cancel task_007 8
  ctl cancel task_007 --only            its subtasks go on
  ctl cancel --label area=docs          every open task with this label
  ctl cancel --status queued            everything that has not been given to a worker
  ctl cancel --status needs_review      everything that waits for a person: nothing more is wanted of it
  ctl cancel --submitter $USER          your own, on a shared cluster
  ctl cancel --all

The subtasks of a cancelled task, those that its agent has queued, are cancelled too: not with --only, and
with --status those alone that have such a status. What goes on is said. What its agent has queued with
--every is paused, and an agent that is being stopped can queue nothing more. Other schedules go on and
make new tasks; with --all that is said. Tasks that need review are not open: they stay, and are named, unless
--status or a TASK asks for them.")]
#[command(mut_arg("all", |arg| arg.help("Every open task")))]
#[command(mut_arg("label", |arg| arg.help("Every open one with this label; repeat it for more")))]
#[command(mut_arg("status", |arg| arg.help("Every one with this status: open, active, pending, or an exact status; repeat it or use commas")
    .value_parser(StatusFilter::named_for(StatusFilter::cancellable))))]
#[command(mut_arg("submitter", |arg| arg.help("Every open one of this submitter: user@host, or the user on whatever machine")))]
#[command(mut_arg("project", |arg| arg.help("Every open one of this project, by name or id")))]
pub struct Args {
    #[command(flatten)]
    which: Which,
    /// Leave their subtasks alone
    #[arg(long)]
    only: bool,
}

impl Args {
    /// Whether subtasks are cancelled too. Where a status chooses, it is the status that counts.
    fn with_subtasks(&self) -> bool {
        !self.only && self.which.status.is_empty()
    }
}

/// Cancels the tasks.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    args.which.require_some()?;
    let client = app.connect().await?;
    let named = args.which.are_named();
    let with_subtasks = args.with_subtasks();
    let everything = args.which.are_all();
    let waits = args.which.with_status(TaskStatus::NeedsReview);
    let Found { tasks, none } = args.which.find(&client, cancellable).await?;
    if tasks.is_empty() && !app.ui.is_json() {
        app.ui.next(format!("{none}; nothing was cancelled"));
    }
    let mut answers = cancel_all(&client, &tasks, named).await;
    if with_subtasks {
        let found = answers.len();
        cancel_below(&client, &tasks, &mut answers).await;
        if !app.ui.is_json() && answers.len() > found {
            let subtasks = counted((answers.len() - found) as u64, "subtask");
            let text = format!("with {subtasks}; `--only` would have left them alone");
            app.ui.next(text);
        }
        pause_schedules(app, &client, &answers).await;
    } else if let Some(text) = going_on(&answers) {
        app.ui.warn(text);
    }
    if let Some(waits) = waits.filter(|_| !app.ui.is_json()) {
        say_what_stays(app, &client, waits).await;
    }
    if let Some(text) = too_late(&answers) {
        app.ui.warn(text);
    }
    let forgotten = answers.iter().filter(|answer| answer.forgotten).count();
    if forgotten > 0 {
        let tasks = counted(forgotten as u64, "task");
        app.ui.warn(format!(
            "of what was chosen {tasks} ended and went at once: `retention` of the configuration keeps no more"
        ));
    }
    let answers = answers.into_iter().filter(|answer| !answer.forgotten);
    let answers = answers.map(|answer| answer.task);
    let shown = show_answers(app, stream::iter(answers)).await;
    if everything {
        warn_of_schedules(app, &client).await;
    }
    shown
}

/// Says which tasks wait for a person: whoever chose some by anything but their status may think of them too.
async fn say_what_stays(app: &App, client: &Client, waits: v1::ListTasksRequest) {
    match find(client, waits).await {
        Ok(ids) => stays(&ids).into_iter().for_each(|text| app.ui.next(text)),
        // What was asked for is done.
        Err(error) => app.ui.warn(format!(
            "whether tasks that wait for a person stay is not known: {}; see `ctl tasks --status needs_review`",
            error.chain()
        )),
    }
}

/// Says which of what was chosen stay as they are, and how they are cancelled.
fn stays(ids: &[TaskId]) -> Option<String> {
    let named: Vec<String> = ids.iter().map(ToString::to_string).collect();
    match &named[..] {
        [] => None,
        [id] => Some(format!(
            "{id} waits for a person and stays; `ctl cancel {id}` cancels it too"
        )),
        [first, .., last] if named.len() > NAMED_MAX => Some(format!(
            "{} tasks wait for a person and stay, {first} to {last}; the same with `--status needs_review` \
             cancels them too",
            named.len()
        )),
        _ => Some(format!(
            "{} wait for a person and stay; `ctl cancel {}` cancels them too",
            named.join(", "),
            named.join(" ")
        )),
    }
}

/// Says what recurs all the same: whoever cancels everything may want nothing new either.
async fn warn_of_schedules(app: &App, client: &Client) {
    match schedules::going_on(client).await {
        Ok(ids) => {
            if let Some(text) = bring_more(&ids) {
                app.ui.warn(text);
            }
        }
        Err(error) => app.ui.warn(format!(
            "whether recurring tasks go on is not known: {}; see `ctl schedules`",
            error.chain()
        )),
    }
}

/// Says which schedules go on, and how they are paused.
fn bring_more(ids: &[ScheduleId]) -> Option<String> {
    let named: Vec<String> = ids.iter().map(ToString::to_string).collect();
    match &named[..] {
        [] => None,
        [id] => Some(format!(
            "{id} goes on and makes new tasks; `ctl schedules pause {id}` pauses it"
        )),
        [first, .., last] if named.len() > NAMED_MAX => Some(format!(
            "{} schedules go on and make new tasks, {first} to {last}; `ctl schedules pause ID ...` pauses \
             those that are named, `ctl schedules` lists them",
            named.len()
        )),
        _ => Some(format!(
            "{} schedules go on and make new tasks; `ctl schedules pause {}` pauses them",
            named.len(),
            named.join(" ")
        )),
    }
}

/// Pauses what agents of the cancelled tasks have asked to recur, and says so.
async fn pause_schedules(app: &App, client: &Client, answers: &[Answer]) {
    let cancelled = answers.iter().filter(|answer| answer.task.is_ok());
    let cancelled: BTreeSet<TaskId> = cancelled.map(|answer| answer.id).collect();
    if cancelled.is_empty() {
        return;
    }
    match schedules::pause_those_of(client, &cancelled).await {
        Ok(paused) => {
            for id in paused {
                app.ui.warn(format!(
                    "{id}, which an agent of these tasks has made, is paused; `ctl schedules delete {id}` \
                     ends it"
                ));
            }
        }
        Err(error) => app.ui.warn(format!(
            "what agents of these tasks have made to recur is not paused: {}; see `ctl schedules`",
            error.chain()
        )),
    }
}

/// What became of a task that was to be cancelled.
struct Answer {
    id: TaskId,
    task: Result<Task>,
    /// It had ended already.
    had_ended: bool,
    /// It was only found by an option, and the head has none of that id any more.
    forgotten: bool,
    /// Its subtasks that go on.
    below: Vec<TaskId>,
}

impl Answer {
    fn of_error(id: TaskId, error: Error) -> Self {
        Self {
            id,
            task: Err(error),
            had_ended: false,
            forgotten: false,
            below: Vec::new(),
        }
    }
}

/// Cancels the subtasks of what was cancelled, also those that are queued meanwhile. Who named a task
/// that had ended meant these.
async fn cancel_below(client: &Client, tasks: &[TaskId], answers: &mut Vec<Answer>) {
    for answer in &mut *answers {
        if answer.had_ended && answer.task.is_err() && !answer.below.is_empty() {
            let now = client.task(answer.id).await;
            // For one that is finishing it was too late, and that is said.
            if !now.as_ref().is_ok_and(|task| task.finishing) {
                answer.task = now;
            }
        }
    }
    let mut seen: BTreeSet<TaskId> = tasks.iter().copied().collect();
    let mut last = 0;
    loop {
        let below = answers[last..].iter().flat_map(|answer| &answer.below);
        let new: Vec<TaskId> = below.copied().filter(|id| seen.insert(*id)).collect();
        if new.is_empty() {
            return;
        }
        last = answers.len();
        answers.extend(cancel_all(client, &new, false).await);
    }
}

/// Says which of what was only found it was too late for: nobody named them, so that they are not refused.
fn too_late(answers: &[Answer]) -> Option<String> {
    let finishing = |answer: &&Answer| answer.task.as_ref().is_ok_and(|task| task.finishing);
    let late = answers.iter().filter(|answer| answer.had_ended);
    let named: Vec<String> = late.filter(finishing).map(|a| a.id.to_string()).collect();
    match &named[..] {
        [] => None,
        [id] => Some(format!(
            "it was too late to cancel {id}: its agent has ended, and its result is being put in place"
        )),
        [first, .., last] if named.len() > NAMED_MAX => Some(format!(
            "it was too late to cancel {} tasks, {first} to {last}: their agents have ended, and their results are \
             being put in place",
            named.len()
        )),
        _ => Some(format!(
            "it was too late to cancel {}: their agents have ended, and their results are being put in place",
            named.join(", ")
        )),
    }
}

/// Says which subtasks go on, and how they are cancelled.
fn going_on(answers: &[Answer]) -> Option<String> {
    let below: BTreeSet<TaskId> = answers.iter().flat_map(|a| a.below.clone()).collect();
    let named: Vec<String> = below.iter().map(ToString::to_string).collect();
    let words = named.join(" ");
    match &named[..] {
        [] => None,
        [id] => Some(format!(
            "the subtask {id} goes on; `ctl cancel {id}` cancels it"
        )),
        [first, .., last] if named.len() > NAMED_MAX => Some(format!(
            "{} subtasks go on, {first} to {last}; without --only and --status `ctl cancel` cancels them too",
            named.len()
        )),
        _ => Some(format!(
            "the subtasks {} go on; `ctl cancel {words}` cancels them",
            named.join(", ")
        )),
    }
}

/// Cancels all, and answers in the same order. The latest go first: each task that a cancelled one
/// keeps back is told of it, and those of a chain that are gone before need not be.
async fn cancel_all(client: &Client, tasks: &[TaskId], named: bool) -> Vec<Answer> {
    let mut places: Vec<usize> = (0..tasks.len()).collect();
    places.sort_by_key(|place| Reverse(tasks[*place]));
    let answers = stream::iter(places.chunks(limits::CHANGE_TASKS_MAX))
        .map(async |places| {
            let ids: Vec<TaskId> = places.iter().map(|place| tasks[*place]).collect();
            places.iter().zip(cancel(client, &ids, named).await)
        })
        .buffered(AT_ONCE)
        .flat_map(stream::iter);
    let mut answers: Vec<(&usize, Answer)> = answers.collect().await;
    answers.sort_by_key(|(place, _)| *place);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

/// Cancels some tasks in one call. What is said of one that ended before it could be cancelled
/// depends on whether it was `named`: one that was only found by an option is shown as it is.
async fn cancel(client: &Client, ids: &[TaskId], named: bool) -> Vec<Answer> {
    let request = v1::CancelTasksRequest {
        ids: ids.iter().map(|id| id.0).collect(),
    };
    let call =
        changing::patiently(async || client.admin().cancel_tasks(request.clone()).await).await;
    let answers = match call {
        Ok(response) if response.answers.len() == ids.len() => response.answers,
        Ok(_) => {
            let error = refused(Refused::new("answers", "not one for each task"));
            return vec![Answer::of_error(ids[0], error)];
        }
        Err(error) => return vec![Answer::of_error(ids[0], error)],
    };
    let mut tasks = Vec::with_capacity(ids.len());
    for (&id, cancelled) in ids.iter().zip(answers) {
        let had_ended = matches!(&cancelled.answer, Some(Changed::Refused(why)) if has_ended(why));
        let forgotten = matches!(&cancelled.answer, Some(Changed::Refused(why))
            if !named && Code::from_i32(why.code) == Code::NotFound);
        let task = match cancelled.answer {
            Some(Changed::Task(task)) => Task::read(task),
            Some(Changed::Refused(_)) if !named && had_ended => client.task(id).await,
            Some(Changed::Refused(why)) => Err(refusal(why)),
            None => Err(refused(Refused::new("answer", "is missing"))),
        };
        tasks.push(Answer {
            id,
            task: task.map_err(|e| e.about(id)),
            had_ended,
            forgotten,
            below: cancelled.going_on.into_iter().map(TaskId).collect(),
        });
    }
    tasks
}

fn has_ended(why: &v1::Refusal) -> bool {
    Code::from_i32(why.code) == Code::FailedPrecondition
}

/// What can be cancelled of that.
fn cancellable(filters: &[StatusFilter]) -> Result<Vec<TaskStatus>> {
    let statuses = StatusFilter::cancellable(filters);
    if statuses.is_empty() {
        return Err(Error::usage("a task with this status has ended already"));
    }
    Ok(statuses)
}

#[cfg(test)]
mod tests {
    use orchestra_types::TaskSpec;

    use super::*;

    #[test]
    fn schedules_that_go_on_are_named_with_the_command_that_pauses_them() {
        let said = |count: u64| bring_more(&(1..=count).map(ScheduleId).collect::<Vec<_>>());
        assert_eq!(said(0), None);
        let one = "schedule_001 goes on and makes new tasks; `ctl schedules pause schedule_001` pauses it";
        assert_eq!(said(1).as_deref(), Some(one));
        let two = "2 schedules go on and make new tasks; `ctl schedules pause schedule_001 schedule_002` pauses them";
        assert_eq!(said(2).as_deref(), Some(two));
        let many = said(30).unwrap();
        assert!(
            many.starts_with(
                "30 schedules go on and make new tasks, schedule_001 to schedule_030;"
            ),
            "{many}"
        );
    }

    #[test]
    fn what_waits_for_a_person_is_named_with_the_command_that_cancels_it() {
        let said = |count: u64| stays(&(1..=count).map(TaskId).collect::<Vec<_>>());
        assert_eq!(said(0), None);
        let one = "task_001 waits for a person and stays; `ctl cancel task_001` cancels it too";
        assert_eq!(said(1).as_deref(), Some(one));
        let two = "task_001, task_002 wait for a person and stay; `ctl cancel task_001 task_002` cancels them too";
        assert_eq!(said(2).as_deref(), Some(two));
        let many = said(30).unwrap();
        assert!(
            many.contains("the same with `--status needs_review`"),
            "{many}"
        );
    }

    #[test]
    fn what_was_found_too_late_is_named() {
        let answer = |id, had_ended, finishing| {
            let wire = v1::Task {
                id,
                spec: Some(TaskSpec::new("x").into()),
                status: v1::TaskStatus::Running.into(),
                finishing,
                ..v1::Task::default()
            };
            Answer {
                task: Task::read(wire),
                had_ended,
                ..Answer::of_error(TaskId(id), Error::failed("x"))
            }
        };
        let late = |ids: std::ops::Range<u64>| {
            let mut all = vec![answer(1, false, false), answer(2, true, false)];
            all.extend(ids.map(|id| answer(id, true, true)));
            too_late(&all)
        };
        assert_eq!(late(3..3), None);
        let one = "it was too late to cancel task_003: its agent has ended, and its result is being put in place";
        assert_eq!(late(3..4).as_deref(), Some(one));
        let two = late(3..5).unwrap();
        assert!(two.starts_with("it was too late to cancel task_003, task_004: their"));
        let many = late(3..99).unwrap();
        assert!(many.starts_with("it was too late to cancel 96 tasks, task_003 to task_098: "));
    }

    #[test]
    fn what_goes_on_is_named_with_the_command_that_cancels_it() {
        let said = |ids: std::ops::Range<u64>| {
            going_on(&[Answer {
                below: ids.map(TaskId).collect(),
                ..Answer::of_error(TaskId(1), Error::failed("x"))
            }])
        };
        assert_eq!(said(0..0), None);
        let one = "the subtask task_002 goes on; `ctl cancel task_002` cancels it";
        assert_eq!(said(2..3).as_deref(), Some(one));
        let two =
            "the subtasks task_002, task_003 go on; `ctl cancel task_002 task_003` cancels them";
        assert_eq!(said(2..4).as_deref(), Some(two));
        let many = said(2..99).unwrap();
        assert!(
            many.starts_with("97 subtasks go on, task_002 to task_098; "),
            "{many}"
        );
    }
}
