//! One file per command.

pub mod accounts;
pub mod add;
pub mod agents;
pub mod apply;
pub mod backup;
pub mod branches;
pub mod budget;
pub mod cancel;
pub mod check;
pub mod compact;
pub mod completions;
pub mod config;
pub mod context;
pub mod credentials;
pub mod demo;
pub mod diff;
pub mod files;
pub mod logs;
pub mod man;
pub mod priority;
pub mod purge;
pub mod release;
pub mod restore;
pub mod retry;
pub mod schedules;
pub mod show;
pub mod start;
pub mod status;
pub mod stop;
pub mod tasks;
pub mod token;
pub mod usage;
pub mod version;
pub mod wait;
pub mod watch;
mod which;
pub mod workers;

use std::{collections::BTreeSet, pin::pin, time::Duration};

use futures::{Stream, StreamExt, stream};
use orchestra_proto::v1;
use orchestra_types::TaskId;
use serde_json::json;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::{
    app::App,
    cli::CtlCommand,
    client::status_error,
    error::{Error, Result, or_untold},
    exit::Exit,
    interrupt::Interrupt,
    json::task::Task,
    ui::{
        queued,
        status::{style, told, words},
        style::{Line, Style},
    },
    writing::CallOff,
};

/// Runs a command. Ctrl-C, as other signals that end it, ends the waiting, never the tasks, and what is written to a checkout comes to
/// its end; `start` and `demo` have their own use for it.
pub async fn run(app: &App, command: CtlCommand) -> Result<Exit> {
    if matches!(command, CtlCommand::Start(_) | CtlCommand::Demo(_)) {
        return dispatch(app, command).await;
    }
    // Heard from here on, before anything is asked of the head.
    let mut interrupt = Interrupt::listen()?;
    let rest = Rest::of(&command);
    let only = only_task(&command);
    let mut ended = pin!(dispatch(app, command));
    let ended = tokio::select! {
        // A command that has more to say of Ctrl-C goes first.
        biased;
        ended = &mut ended => ended,
        () = interrupt.recv() => match app.writing.call_off() {
            CallOff::InTime => return Err(interrupted(rest, app.submitting.call_off())),
            // It says itself what was done, as soon as it is to begin with the next one.
            CallOff::Between => timeout(SAYS_WITHIN, ended)
                .await
                .unwrap_or_else(|_late| Err(between(rest))),
            CallOff::TooLate => {
                app.ui.warn(format!("the interrupt came too late: {}", up_to_the_end(rest)));
                ended.await
            }
        },
    };
    ended.map_err(|error| {
        let error = app.about_named_head(error);
        match only {
            Some(task) => error.about(task),
            None => error,
        }
    })
}

/// The task that the command is about, where it names one and no other.
fn only_task(command: &CtlCommand) -> Option<TaskId> {
    match command {
        CtlCommand::Show(args) => Some(args.task),
        CtlCommand::Logs(args) => Some(args.task),
        CtlCommand::Diff(args) => Some(args.task),
        CtlCommand::Files(args) => Some(args.task),
        CtlCommand::Budget(args) => args.task,
        _ => None,
    }
}

/// Whether a command that was interrupted in time may leave what it has begun on other threads: nothing of
/// it is written anywhere but to temporary files.
pub fn lets_go(command: &CtlCommand) -> bool {
    match Rest::of(command) {
        Rest::Submits | Rest::Unwritten | Rest::Removes => true,
        Rest::GoesOn | Rest::Stops => false,
    }
}

/// How long a command may take to say what was done before it was interrupted.
const SAYS_WITHIN: Duration = Duration::from_secs(5);

/// What there is to say of the rest of a command that was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// Tasks go on without it.
    GoesOn,
    /// A stop that has begun is not taken back.
    Stops,
    /// It had not begun to write.
    Unwritten,
    /// It removes branches, one after the other.
    Removes,
    /// Tasks are made, and sent when they are whole.
    Submits,
}

impl Rest {
    fn of(command: &CtlCommand) -> Self {
        match command {
            CtlCommand::Stop(_) => Self::Stops,
            CtlCommand::Apply(_) => Self::Unwritten,
            CtlCommand::Branches(_) => Self::Removes,
            CtlCommand::Add(_) => Self::Submits,
            _ => Self::GoesOn,
        }
    }
}

fn interrupted(rest: Rest, submission: CallOff) -> Error {
    let goes_on = match rest {
        Rest::Submits => match submission {
            CallOff::InTime => "interrupted; nothing was queued",
            CallOff::Between | CallOff::TooLate => {
                "interrupted before the head has answered; the tasks may be queued: `ctl tasks` lists them"
            }
        },
        Rest::GoesOn => "interrupted; what is queued or running goes on",
        Rest::Unwritten => "interrupted; nothing was applied",
        Rest::Removes => "interrupted; no branch was removed",
        Rest::Stops => {
            "interrupted; the stop goes on: nothing new begins, and the head ends when nothing \
             runs. The worker of this machine stays: `ctl stop` again waits for both, `ctl stop --now` ends them"
        }
    };
    Error::new(Exit::Interrupted, goes_on)
}

/// What is said where some of it was done, and the command does not say it itself in time.
fn between(rest: Rest) -> Error {
    match rest {
        Rest::Removes => branches::interrupted(),
        Rest::Unwritten | Rest::GoesOn | Rest::Stops | Rest::Submits => apply::interrupted(),
    }
}

/// What goes on after an interrupt that came too late.
fn up_to_the_end(rest: Rest) -> &'static str {
    match rest {
        Rest::Removes => "the branch that is being removed goes, and the others stay",
        Rest::Unwritten | Rest::GoesOn | Rest::Stops | Rest::Submits => {
            "the checkout is being written to, up to the end"
        }
    }
}

async fn dispatch(app: &App, command: CtlCommand) -> Result<Exit> {
    match command {
        CtlCommand::Demo(args) => demo::run(app, args).await,
        CtlCommand::Start(args) => start::run(app, args).await,
        CtlCommand::Stop(args) => stop::run(app, args).await,
        CtlCommand::Add(args) => add::run(app, *args).await,
        CtlCommand::Status(args) => status::run(app, args).await,
        CtlCommand::Tasks(args) => tasks::run(app, args).await,
        CtlCommand::Agents(args) => agents::run(app, args).await,
        CtlCommand::Budget(args) => budget::run(app, args).await,
        CtlCommand::Accounts(args) => accounts::run(app, args).await,
        CtlCommand::Usage(args) => usage::run(app, args).await,
        CtlCommand::Workers(args) => workers::run(app, args).await,
        CtlCommand::Show(args) => show::run(app, args).await,
        CtlCommand::Wait(args) => wait::run(app, args).await,
        CtlCommand::Watch(args) => watch::run(app, args).await,
        CtlCommand::Logs(args) => logs::run(app, args).await,
        CtlCommand::Diff(args) => diff::run(app, args).await,
        CtlCommand::Files(args) => files::run(app, args).await,
        CtlCommand::Apply(args) => apply::run(app, args).await,
        CtlCommand::Branches(args) => branches::run(app, args).await,
        CtlCommand::Schedules(args) => schedules::run(app, args).await,
        CtlCommand::Context(args) => context::run(app, args).await,
        CtlCommand::Cancel(args) => cancel::run(app, *args).await,
        CtlCommand::Priority(args) => priority::run(app, args).await,
        CtlCommand::Release(args) => release::run(app, args).await,
        CtlCommand::Retry(args) => retry::run(app, *args).await,
        CtlCommand::Backup(args) => backup::run(app, args).await,
        CtlCommand::Restore(args) => restore::run(app, args).await,
        CtlCommand::Check(args) => check::run(app, args).await,
        CtlCommand::Compact(args) => compact::run(app, args).await,
        CtlCommand::Purge(args) => purge::run(app, args).await,
        CtlCommand::Credentials(args) => credentials::run(app, args).await,
        CtlCommand::Token(args) => token::run(app, args).await,
        CtlCommand::Config(args) => config::run(app, args),
        CtlCommand::Completions(args) => completions::run(&app.ui, &args),
        CtlCommand::Man(args) => man::run(&app.ui, &args),
    }
}

/// Whether each task waits for the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// One after the other.
    AsNamed,
    /// Many at the same time: the head makes one commit of many changes.
    Any,
}

impl Order {
    fn at_once(self) -> usize {
        match self {
            Self::AsNamed => 1,
            Self::Any => 64,
        }
    }
}

/// What was named, each once, in the order in which it was.
fn each_once<T: Ord + Copy>(mut named: Vec<T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    named.retain(|one| seen.insert(*one));
    named
}

/// Does `act` to each task and shows what became of it.
async fn each_task(
    app: &App,
    ids: Vec<TaskId>,
    order: Order,
    act: impl AsyncFn(TaskId) -> Result<Task>,
) -> Result<Exit> {
    each_task_changed(app, ids, order, act, |_| String::new()).await
}

/// The same, where `change` says of each task what is other than before.
async fn each_task_changed(
    app: &App,
    ids: Vec<TaskId>,
    order: Order,
    act: impl AsyncFn(TaskId) -> Result<Task>,
    change: impl Fn(&Task) -> String,
) -> Result<Exit> {
    let answers = stream::iter(each_once(ids))
        .map(async |id| act(id).await.map_err(|e| e.about(id)))
        .buffered(order.at_once());
    show_changes(app, answers, change).await
}

/// Shows what became of each task. Goes on after a refusal, and then ends with the first one.
async fn show_answers(app: &App, answers: impl Stream<Item = Result<Task>>) -> Result<Exit> {
    show_changes(app, answers, |_| String::new()).await
}

async fn show_changes(
    app: &App,
    answers: impl Stream<Item = Result<Task>>,
    change: impl Fn(&Task) -> String,
) -> Result<Exit> {
    let mut tasks = Vec::new();
    let mut refused: Option<Error> = None;
    let mut answers = pin!(answers);
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(task) => tasks.push(task),
            Err(e) if refused.is_some() => app.ui.error(&e),
            Err(e) => refused = Some(e),
        }
    }
    match or_untold(show_all(app, &tasks, change), || in_words(&tasks)) {
        Ok(()) => refused.map_or(Ok(Exit::Ok), Err),
        // What was done matters more than what was not.
        Err(error) if error.exit() == Exit::Untold => {
            refused.iter().for_each(|e| app.ui.error(e));
            Err(error)
        }
        Err(error) => Err(error),
    }
}

fn show_all(app: &App, tasks: &[Task], change: impl Fn(&Task) -> String) -> Result<()> {
    match app.ui.is_json() {
        true => app.ui.document(&json!({ "tasks": tasks })),
        false => tasks
            .iter()
            .try_for_each(|task| answer(app, task, &change(task))),
    }
}

/// How the tasks are that a command has changed.
fn in_words(tasks: &[Task]) -> String {
    if tasks.is_empty() {
        return "nothing was changed".to_owned();
    }
    let each = |task: &Task| {
        let status = if task.is_being_cancelled() {
            "cancel requested".to_owned()
        } else {
            words(task.status)
        };
        format!("{} is changed ({status})", task.id)
    };
    let each: Vec<String> = tasks.iter().map(each).collect();
    each.join(", ")
}

/// Why one task of a call was left as it is.
fn refusal(why: v1::Refusal) -> Error {
    status_error(&Status::new(Code::from_i32(why.code), why.message))
}

/// Says what became of a task, with the `change` of it where there is one, and of one that is queued again
/// what it waits for.
fn answer(app: &App, task: &Task, change: &str) -> Result<()> {
    let line = match change {
        "" => in_short(task),
        change => in_short(task).with(Style::Plain, format!("  {change}")),
    };
    app.ui.line(&line)?;
    if let Some(held) = queued::held(task) {
        app.ui.warn(held);
    }
    Ok(())
}

/// `priority: high, before low`; no `before` where nobody knows it.
fn change(what: &str, before: Option<String>, now: &str) -> String {
    match before {
        Some(before) if before == now => format!("{what}: {now}, as before"),
        Some(before) => format!("{what}: {now}, before {before}"),
        None => format!("{what}: {now}"),
    }
}

fn in_short(task: &Task) -> Line {
    Line::of(Style::Bold, format!("{}  ", task.id)).with(style(task.status), told(task))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_with_what_was_before() {
        let said = |before: Option<&str>| change("priority", before.map(str::to_owned), "high");
        assert_eq!(said(Some("low")), "priority: high, before low");
        assert_eq!(said(Some("high")), "priority: high, as before");
        assert_eq!(said(None), "priority: high");
    }

    #[test]
    fn what_removes_branches_speaks_of_branches_where_it_is_interrupted() {
        let said = [
            interrupted(Rest::Removes, CallOff::InTime).to_string(),
            between(Rest::Removes).to_string(),
            up_to_the_end(Rest::Removes).to_owned(),
        ];
        assert!(said.iter().all(|said| said.contains("branch")), "{said:?}");
        assert!(up_to_the_end(Rest::Unwritten).contains("checkout"));
    }

    #[test]
    fn an_interrupted_submission_claims_no_more_than_is_known() {
        let says = |submission| interrupted(Rest::Submits, submission).to_string();
        assert_eq!(says(CallOff::InTime), "interrupted; nothing was queued");
        assert!(says(CallOff::TooLate).contains("may be queued"));
    }
}
