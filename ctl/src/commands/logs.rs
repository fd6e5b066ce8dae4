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
    json,
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
  ctl logs task_001 --json        the events, one JSON document a line")]
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
    /// Which attempt. Default: the latest
    #[arg(long, value_name = "N", conflicts_with = "follow", value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    attempt: Option<u32>,
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
    if !args.follow {
        let number = task.attempt(args.attempt)?.number;
        return so_far(
            app,
            &client,
            AttemptId {
                task: args.task,
                number,
            },
        )
        .await;
    }
    refuse_own(app, &client, std::slice::from_ref(&task), Which::All).await?;
    let mut task = follow(app, &client, task, Until::FromLatest).await?;
    if !app.ui.is_json() {
        apply::look_for_branch(app, &mut task).await;
        let lines = closing(&task, app.ui.again);
        lines.iter().for_each(|line| app.ui.note(line));
    }
    // One that ended before it was started has no log, as without --follow.
    task.attempt(None)?;
    Ok(Exit::Ok)
}

/// The events until this moment.
async fn so_far(app: &App, client: &Client, attempt: AttemptId) -> Result<Exit> {
    let mut events = Events::open(client, attempt, false, Some(Voice::plain(app.ui))).await?;
    let mut transcript = Transcript::new(app.ui.stdout.width);
    while let Some(piece) = events.next().await? {
        if app.ui.is_json() {
            let documents = json::event::documents(attempt, &piece);
            documents.iter().try_for_each(|d| app.ui.document_line(d))?;
        } else {
            let lines = transcript.piece(&piece);
            lines.iter().try_for_each(|line| app.ui.line(line))?;
        }
    }
    transcript
        .end()
        .iter()
        .try_for_each(|line| app.ui.line(line))?;
    Ok(Exit::Ok)
}
