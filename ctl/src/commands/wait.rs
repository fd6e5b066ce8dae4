//! `ctl wait`.

use std::time::Duration;

use futures::future::join;
use orchestra_types::{TaskId, TaskStatus, time::write_duration};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{
    app::App,
    calls::ASKED_AT_ONCE,
    client::Client,
    commands::{
        tasks::StatusFilter,
        which::{Found, Which as Chosen},
    },
    error::{Error, Result, heard_or_not, or_untold},
    exit::Exit,
    follow::{Which, ended_well, refuse_own, wait_for},
    json::task::Task,
    ui::{
        reason::Why,
        status::{label, style, words},
        style::{Line, Style},
    },
    values,
};

/// Most tasks whose ends are told where they cannot be printed.
const NAMED_MAX: usize = 8;

/// Wait until tasks have ended, or wait for a person
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code: 0 when all succeeded, 6 when one failed or was cancelled, 7 when one waits for a person,
124 when the time is over,
3 when it is over and the head cannot be reached, 9 when how they ended could not be printed.

Examples:
  ctl wait task_001 task_002
  ctl wait --any 4 5 6 --json | jq -r '.tasks[].id'     those that have ended, as soon as one has
  ctl wait 3 --timeout 10m && ctl apply 3
  ctl wait --label area=docs                every task with this label, also those that have ended
  ctl wait --label area=docs --status open  those that have not ended yet
  ctl wait --all                            every open task

What is chosen by an option is what is there when the command begins. A label names its tasks as their ids
would: one that has ended counts, and a label that no task has is an error (4). The other options choose
open tasks, and --status those that have it; where there is none, there is nothing to wait for (0).")]
#[command(mut_arg("all", |arg| arg.help("Every open task")))]
#[command(mut_arg("label", |arg| arg.help("Every task with this label, ended or not; repeat it for more")))]
#[command(mut_arg("status", |arg| arg.help("Every one with this status: open, active, pending, or an exact status; repeat it or use commas")))]
#[command(mut_arg("submitter", |arg| arg.help("Every open one of this submitter: user@host, or the user on whatever machine; with --label also those that have ended")))]
#[command(mut_arg("project", |arg| arg.help("Every open one of this project, by name or id; with --label also those that have ended")))]
pub struct Args {
    #[command(flatten)]
    tasks: Chosen,
    /// Until the first of them has ended: those that have are printed, and the exit code is theirs
    #[arg(long)]
    any: bool,
    /// Give up after this long, as 90s or 10m; the tasks go on. What is there then is looked at for two
    /// seconds at most. Default: never
    #[arg(long, value_name = "DURATION", value_parser = values::duration, allow_hyphen_values = true)]
    timeout: Option<Duration>,
}

/// Waits.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    args.tasks.require_some()?;
    let begun = Instant::now();
    let found = async {
        let client = app.connect().await?;
        let found = find(&client, args.tasks).await?;
        Ok((client, found))
    };
    let (client, Found { tasks: ids, none }) = match args.timeout {
        None => found.await?,
        // However short the limit is, what is there is looked at.
        Some(limit) => match timeout(limit.max(LAST_LOOK), found).await {
            Ok(found) => found?,
            Err(_) => return Err(unknown(app, limit, None)),
        },
    };
    if ids.is_empty() && !app.ui.is_json() {
        app.ui.next(format!("{none}; nothing to wait for"));
    }
    let which = match args.any {
        true => Which::Any,
        false => Which::All,
    };
    let wait = async {
        let tasks = client.tasks(&ids).await?;
        if args.timeout.is_none() {
            refuse_own(app, &client, &tasks, which).await?;
        }
        wait_for(&app.ui, &client, tasks, which).await
    };
    let tasks = match args.timeout {
        None => wait.await?,
        Some(limit) => match timeout(limit.saturating_sub(begun.elapsed()), wait).await {
            Ok(tasks) => tasks?,
            Err(_) => over(app, &client, &ids, limit, which).await?,
        },
    };
    or_untold(heard_or_not(show(app, &tasks)), || in_words(&tasks))?;
    Ok(ended_well(&tasks))
}

/// The tasks that are meant; none of a label is a mistake in it, and no success of its tasks.
async fn find(client: &Client, chosen: Chosen) -> Result<Found> {
    let labels = chosen.labels();
    let by_label = !labels.is_empty();
    let with_status = !chosen.status.is_empty();
    let statuses = |filters: &[StatusFilter]| Ok(waited_for(filters, by_label));
    let found = chosen.find(client, statuses).await?;
    if by_label && !with_status && found.tasks.is_empty() {
        let error = Error::new(Exit::NotFound, format!("{}: {labels}", found.none));
        return Err(error.hint("`ctl tasks --label KEY=VALUE` lists those with a label"));
    }
    Ok(found)
}

/// The statuses of what is waited for. One of a label that has failed before is not to be missed.
fn waited_for(filters: &[StatusFilter], by_label: bool) -> Vec<TaskStatus> {
    match (filters, by_label) {
        ([], true) => TaskStatus::ALL.to_vec(),
        ([], false) => StatusFilter::open(filters),
        (_, _) => StatusFilter::exactly(filters),
    }
}

/// How they ended: whoever cannot be told by standard output is not to take that for a task that failed.
fn in_words(tasks: &[Task]) -> String {
    if let [first, .., last] = tasks
        && tasks.len() > NAMED_MAX
    {
        return format!("the waiting for {} to {} is over", first.id, last.id);
    }
    let each = |task: &Task| format!("{} is {}", task.id, words(task.status));
    let each: Vec<String> = tasks.iter().map(each).collect();
    format!("the waiting is over: {}", each.join(", "))
}

fn show(app: &App, tasks: &[Task]) -> Result<()> {
    if app.ui.is_json() {
        return app.ui.document(&json!({ "tasks": tasks }));
    }
    for task in tasks {
        let line = Line::of(Style::Bold, format!("{}  ", task.id))
            .with(style(task.status), label(task.status));
        let why = Why::of(task);
        let why = why.map(|why| format!("  {}", why.whole(app.ui.again)));
        let why = why.unwrap_or_default();
        app.ui.line(&line.with(Style::Dim, why))?;
    }
    Ok(())
}

/// How long it is looked once more when the limit is over.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// The tasks, if they have ended in spite of a limit that is too short to see it.
async fn over(
    app: &App,
    client: &Client,
    ids: &[TaskId],
    limit: Duration,
    which: Which,
) -> Result<Vec<Task>> {
    let ended = async {
        let mut ended = Vec::new();
        for some in ids.chunks(ASKED_AT_ONCE) {
            let tasks = client.tasks(some).await?;
            let rest = tasks.iter().filter(|task| task.rests());
            ended.extend(rest.map(|task| task.id));
            // One that does not rest is enough to know.
            if which == Which::All && !tasks.iter().all(Task::rests) {
                break;
            }
        }
        if !which.is_over(ended.len(), ids.len() - ended.len()) {
            return Err(not_yet(limit, which));
        }
        client.whole_tasks(&ended).await
    };
    // At the same time: that the head does not answer is not to take as long again.
    match join(timeout(LAST_LOOK, ended), client.is_gone(LAST_LOOK)).await {
        (Ok(looked), _) => looked,
        (Err(_), true) => Err(unknown(app, limit, Some(&client.head().now()))),
        (Err(_), false) => Err(not_yet(limit, which)),
    }
}

/// Nobody can say how the tasks are.
fn unknown(app: &App, limit: Duration, head: Option<&str>) -> Error {
    let limit = write_duration(limit);
    let head = head.map(|head| format!(" at {head}")).unwrap_or_default();
    let error = Error::new(
        Exit::HeadNotRunning,
        format!(
            "the head{head} cannot be reached: whether the tasks have ended within {limit} is not known"
        ),
    );
    app.about_silent_head(error.hint(
        "what runs goes on without it; `ctl start` starts it, and `ctl wait` can be run again",
    ))
}

fn not_yet(limit: Duration, which: Which) -> Error {
    let limit = write_duration(limit);
    let which = match which {
        Which::All => "not all tasks have",
        Which::Any => "no task has",
    };
    Error::new(Exit::TimedOut, format!("{which} ended within {limit}"))
        .hint("they go on; `ctl tasks --status open` shows them")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_names_also_what_has_ended_and_other_options_what_is_open() {
        let of = |words: &[&str], by_label| {
            let filters: Vec<StatusFilter> = words.iter().map(|w| w.parse().unwrap()).collect();
            waited_for(&filters, by_label)
        };
        assert_eq!(of(&[], true), TaskStatus::ALL);
        let open = StatusFilter::open(&[]);
        assert_eq!(of(&[], false), open);
        assert_eq!(of(&["open"], true), open);
        assert_eq!(of(&["failed"], false), [TaskStatus::Failed]);
    }
}
