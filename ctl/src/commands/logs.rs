//! `ctl logs`.

mod raw;

use orchestra_types::{AttemptId, TaskId};

use crate::{
    app::App,
    apply,
    client::Client,
    error::Result,
    exit::Exit,
    follow::{Events, Until, Which, closing, follow, refuse_own},
    json::{self, task::Task},
    ui::{live::Voice, transcript::Transcript},
};

/// Show what a task's agent said and did
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ctl logs task_001 -f            as it happens, until the task has ended
  ctl logs task_001 --raw -f      what the CLI itself prints, from the start of its attempt to the end
  ctl logs task_001 --raw > log   what the CLI itself printed, byte for byte
  ctl logs task_001 --stderr      what it printed on standard error
  ctl logs task_001 --json        the events, one JSON document a line
  ctl logs task_001 --json -f --attempt 1 --after 57
                                  on from there, where a script that was stopped had them until then: `attempt` and
                                  `seq` of the last line that it has read are these numbers")]
pub struct Args {
    /// The task, as task_001 or 1
    #[arg(value_name = "TASK")]
    pub(super) task: TaskId,
    /// Go on as it happens, until the task has ended
    #[arg(long, short)]
    follow: bool,
    /// Show what the CLI itself printed; byte for byte when not on a terminal
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Show what it printed on standard error, once the attempt has ended
    #[arg(long, conflicts_with_all = ["json", "raw", "follow"])]
    stderr: bool,
    /// Which attempt; with --follow, those after it too. Default: the latest
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    attempt: Option<u32>,
    /// Only the events of the attempt after the one with this number, which is `seq` in --json and counts from 1 in each
    /// attempt; of a gap it is `to`. Default: 0, which is all
    #[arg(long, value_name = "SEQ", conflicts_with_all = ["raw", "stderr"], allow_negative_numbers = true)]
    after: Option<u64>,
}

/// Shows the log.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let client = app.connect().await?;
    if args.raw {
        return raw::run(app, &client, args.task, args.attempt, args.follow).await;
    }
    if args.stderr {
        return raw::stderr(app, &client, args.task, args.attempt).await;
    }
    let task = client.task(args.task).await?;
    let after = args.after.unwrap_or(0);
    if !args.follow {
        let attempt = AttemptId {
            task: args.task,
            number: task.attempt(args.attempt)?.number,
        };
        return so_far(app, &client, attempt, after).await;
    }
    refuse_own(app, &client, std::slice::from_ref(&task), Which::All).await?;
    let until = Until::From {
        attempt: first_followed(&task, &args)?,
        after,
    };
    let mut task = follow(app, &client, task, until).await?;
    if !app.ui.is_json() {
        apply::look_for_branch(app, &mut task).await;
        let lines = closing(&task, app.ui.again);
        lines.iter().for_each(|line| app.ui.note(line));
    }
    // One that ended before it was started has no log, as without --follow.
    task.attempt(None)?;
    Ok(Exit::Ok)
}

/// The attempt to begin with; 0 where there is none yet, and nothing of one is named.
fn first_followed(task: &Task, args: &Args) -> Result<u32> {
    match (args.attempt, args.after) {
        (None, None) => Ok(task.attempt),
        (_, _) => Ok(task.attempt(args.attempt)?.number),
    }
}

/// The events until this moment.
async fn so_far(app: &App, client: &Client, attempt: AttemptId, after: u64) -> Result<Exit> {
    let voice = Some(Voice::plain(app.ui));
    let mut events = Events::open(client, attempt, false, after, voice).await?;
    let mut transcript = Transcript::new(app.ui.stdout.width);
    let mut is_empty = true;
    while let Some(piece) = events.next().await? {
        is_empty = false;
        if app.ui.is_json() {
            let documents = json::event::documents(attempt, &piece);
            app.ui.document_lines(&documents)?;
        } else {
            app.ui.lines(&transcript.piece(&piece))?;
        }
    }
    app.ui.lines(&transcript.end())?;
    if is_empty && after > 0 && !app.ui.is_json() {
        app.ui.next(format!("{attempt} has no event after {after}"));
    }
    Ok(Exit::Ok)
}
