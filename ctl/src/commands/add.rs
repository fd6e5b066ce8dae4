//! `ctl add`.

mod ending;
mod held;
mod options;
mod runners;

use std::path::PathBuf;

use orchestra_types::{ShellCommand, TaskId, limits};
use serde_json::{Value, json};

use crate::{
    app::App,
    blocking::blocking,
    client::Client,
    error::{Error, Result, heard_or_not},
    exit::Exit,
    follow::{Until, Which, follow, refuse_after_own, wait_for},
    interrupt::Interrupt,
    json::task::Task,
    submit::{
        self, Submitted,
        draft::Draft,
        file::{self, Source},
    },
    ui::{
        now,
        status::words,
        style::{Line, Style},
    },
};
use ending::{end, late, or_interrupted, untold};
use held::warn_of_held;
use options::Options;
use runners::{Asked, warn_of_workers};

pub use options::{mapping, pair};

/// Queue a task, or many from a file; prints their ids in order
#[derive(Debug, clap::Args)]
#[command(after_help = "\
In a git repository the task works at the top of a snapshot of it, uncommitted changes included, and its
change comes back as a branch that `ctl apply` puts into your checkout. Outside a repository it works on a
copy of the directory, without what `.gitignore` names; with --in-place, in the directory itself.

Examples:
  ctl add \"Create README.md with project description\" --follow
  ctl add \"Fix the failing test\" --agent claude --apply --wait
  ctl add \"Review it\" --after task_001 --priority high --label area=auth
  ctl add --context notes.md - < prompt.txt          the description from standard input
  ctl add --agent shell -- cargo test --workspace    a command instead of an agent
  ctl add --every 6h \"Update the dependencies\"       again and again; see ctl schedules
  ctl add -f tasks.yaml                              many at once; see docs/task-file.md
  ctl add --key nightly-$(date +%F) -f nightly.yaml  once, however often the script runs
  generate-tasks | ctl add -f -                      JSON lines or YAML from a pipe")]
pub struct Args {
    /// What the agent shall do; `-` reads it from standard input
    #[arg(conflicts_with = "file", required_unless_present_any = ["file", "command"])]
    pub description: Option<String>,
    /// Queue the tasks of this file (YAML list or JSON lines); `-` is standard input
    #[arg(long, short, value_name = "FILE", conflicts_with = "command")]
    pub file: Option<PathBuf>,
    /// A command for the `shell` runner, run as it is, without a shell
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
    /// A name for this submission, so that a script can be run again: while the head has the tasks, the
    /// same key prints their ids and queues nothing, whatever else is said
    #[arg(long, value_name = "KEY", value_parser = key)]
    pub key: Option<String>,
    #[command(flatten)]
    pub options: Options,
    /// Wait until all of them have ended
    #[arg(long, short)]
    pub wait: bool,
    /// Show the agent at work until it has ended; for one task
    #[arg(long, short = 'F', conflicts_with = "wait")]
    pub follow: bool,
}

/// Said of a recurring task in a repository: later edits and commits are nowhere in its runs.
const FROZEN: &str = "each run begins with the files as they are now; for those of its own day: --in-place, or \
                      `ctl add` without --every from cron";

/// Queues the tasks.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let then = match (args.follow, args.wait) {
        (true, _) => Then::Follow,
        (false, true) => Then::Wait,
        (false, false) => Then::Return,
    };
    let key = args.key.clone();
    // It may read standard input, which somebody types.
    let (mut drafts, base) = blocking(move || drafts(args)).await?;
    if then == Then::Follow && drafts.len() != 1 {
        return Err(Error::usage(format!(
            "--follow shows one task, and there are {}",
            drafts.len()
        ))
        .hint("use --wait, or `ctl watch`"));
    }
    if then != Then::Return && drafts.iter().any(|draft| draft.every.is_some()) {
        return Err(
            Error::usage("--wait and --follow do not go with a recurring task")
                .hint("`ctl watch` shows its runs"),
        );
    }
    let client = app.connect().await?;
    if then != Then::Return {
        let after: Vec<TaskId> = drafts.iter().flat_map(Draft::tasks_before).collect();
        refuse_after_own(app, &client, &after).await?;
    }
    let own = apply_here(app, &client, &mut drafts, then).await?;
    let asked = Asked::by(&drafts);
    let mut interrupt = Interrupt::listen()?;
    let named = key.is_some();
    let late = late(&drafts, now());
    let submitted = submit::submit(app, &client, drafts, &base, key.clone()).await?;
    if let Some(late) = late.filter(|_| !submitted.known) {
        app.ui.warn(late);
    }
    if named && submitted.known && then != Then::Follow && !app.ui.is_json() {
        let known = "this key was used before: nothing new is queued, these are the tasks of then";
        app.ui.next(known);
    }
    // They are queued, whatever can be said of them.
    if !submitted.known
        && let Err(error) = advise(app, &client, &asked, &submitted).await
    {
        app.ui.warn(error.chain());
    }
    let ids = &submitted.ids;
    let ended = async {
        let tasks = match then {
            Then::Return => return queued(app, &submitted).map(|()| Exit::Ok),
            Then::Wait => {
                tell_first(app, &submitted)?;
                let wait = async {
                    wait_for(
                        &app.ui,
                        &client,
                        all_queued(&client, ids).await?,
                        Which::All,
                    )
                    .await
                };
                or_interrupted(&mut interrupt, ids, wait).await?
            }
            Then::Follow => {
                // To a person it is said once more is known of the task.
                if app.ui.is_json() {
                    tell_first(app, &submitted)?;
                }
                let follow = async {
                    let task = client.queued(ids[0]).await?;
                    if !app.ui.is_json() {
                        app.ui.next(begun(&task, submitted.known));
                    }
                    follow(app, &client, task, Until::TaskEnds).await
                };
                vec![or_interrupted(&mut interrupt, ids, follow).await?]
            }
        };
        end(app, &client, tasks, then, &own, submitted.known).await
    };
    ended
        .await
        .map_err(|e| untold(e, &submitted, key.as_deref()))
}

/// Says what keeps the tasks from beginning.
async fn advise(app: &App, client: &Client, asked: &Asked, submitted: &Submitted) -> Result<()> {
    warn_of_workers(app, client, asked).await?;
    warn_of_held(app, client, submitted).await?;
    if submitted.stopping {
        app.ui.warn_of_stop(&client.status().await?);
    }
    Ok(())
}

async fn all_queued(client: &Client, ids: &[TaskId]) -> Result<Vec<Task>> {
    let mut tasks = Vec::with_capacity(ids.len());
    for id in ids {
        tasks.push(client.queued(*id).await?);
    }
    Ok(tasks)
}

/// A key as the head takes it.
fn key(text: &str) -> std::result::Result<String, String> {
    let fits = (1..=limits::KEY_BYTES_MAX).contains(&text.len());
    if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    let most = limits::KEY_BYTES_MAX;
    Err(format!(
        "a key is 1 to {most} letters, digits and signs of ASCII, without spaces"
    ))
}

/// What to do after the tasks are queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Return,
    Wait,
    Follow,
}

/// With a head on another machine nobody but ctl can reach the checkout: it takes `apply` over
/// from the head. Says of each task whether that is so.
async fn apply_here(
    app: &App,
    client: &Client,
    drafts: &mut [Draft],
    then: Then,
) -> Result<Vec<bool>> {
    let wanted: Vec<bool> = drafts
        .iter()
        .map(|draft| draft.apply == Some(true))
        .collect();
    if !wanted.contains(&true) || client.status().await?.machine == app.machine()?.as_str() {
        return Ok(vec![false; wanted.len()]);
    }
    if then == Then::Return {
        return Err(Error::usage(
            "--apply with a head on another machine needs --wait or --follow",
        )
        .hint(
            "that head cannot reach your checkout; or leave --apply away and use `ctl apply` later",
        ));
    }
    drafts.iter_mut().for_each(|draft| draft.apply = None);
    Ok(wanted)
}

/// The tasks that the arguments ask for, and the directory that their relative paths start from.
fn drafts(args: Args) -> Result<(Vec<Draft>, PathBuf)> {
    let options = args.options.draft()?;
    let Some(file) = args.file else {
        let description = match args.description.as_deref() {
            Some("-") => Source::Stdin.read()?,
            Some(text) if text.trim().is_empty() => {
                return Err(
                    Error::usage("the description is empty").hint("say what the agent shall do")
                );
            }
            Some(text) => text.to_owned(),
            None => String::new(),
        };
        let command = (!args.command.is_empty()).then_some(ShellCommand::Argv(args.command));
        return Ok((
            vec![Draft {
                description,
                command,
                ..options
            }],
            PathBuf::new(),
        ));
    };
    let source = Source::new(file);
    let tasks = file::parse(&source.read()?, &source.name())?;
    // Paths among the arguments start from the current directory, those in the file from its own.
    let options = options.absolute()?;
    Ok((
        tasks.into_iter().map(|task| task.or(&options)).collect(),
        source.base(),
    ))
}

/// Prints the ids.
fn queued(app: &App, submitted: &Submitted) -> Result<()> {
    let Submitted { ids, schedules, .. } = submitted;
    if app.ui.is_json() {
        return app.ui.document(&document(submitted));
    }
    announce(app, ids)?;
    app.ui.print(
        schedules
            .iter()
            .map(|id| format!("{id}\n"))
            .collect::<String>(),
    )?;
    if let ([id], true, false) = (&ids[..], app.ui.stdout.terminal, submitted.known) {
        app.ui.next(format!("queued; ctl logs {id} -f follows it"));
    }
    if submitted.frozen && !submitted.known {
        app.ui.next(FROZEN);
    }
    Ok(())
}

/// What `ctl add --json` says is queued.
fn document(submitted: &Submitted) -> Value {
    let Submitted { ids, schedules, .. } = submitted;
    let tasks: Vec<_> = ids.iter().map(|id| json!({ "id": id })).collect();
    let mut document = json!({ "tasks": tasks, "known": submitted.known });
    if !schedules.is_empty() {
        let schedules: Vec<_> = schedules.iter().map(|id| json!({ "id": id })).collect();
        document["schedules"] = json!(schedules);
    }
    document
}

/// Says what is queued before its end is waited for: whoever is killed meanwhile, and starts anew, goes on
/// with it. With `--json` on standard error, since standard output has only the document of the end.
fn tell_first(app: &App, submitted: &Submitted) -> Result<()> {
    if app.ui.is_json() {
        let queued = json!({ "queued": document(submitted) });
        app.ui.note(&Line::of(Style::Plain, queued.to_string()));
        return Ok(());
    }
    heard_or_not(announce(app, &submitted.ids))
}

/// What is said of the task that is followed.
fn begun(task: &Task, known: bool) -> String {
    match known {
        true => format!("already known as {} ({})", task.id, words(task.status)),
        false => format!("{} is queued", task.id),
    }
}

fn announce(app: &App, ids: &[TaskId]) -> Result<()> {
    app.ui
        .print(ids.iter().map(|id| format!("{id}\n")).collect::<String>())
}
