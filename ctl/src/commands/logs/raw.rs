//! `ctl logs --raw` and `--stderr`: what the CLI itself printed.

use orchestra_types::{ArtifactKind, AttemptId, TaskId};

use crate::{
    app::App,
    client::Client,
    error::{Error, Result},
    exit::Exit,
    follow::{Changes, Events, Piece, Which, refuse_own},
    json::task::Task,
    stored,
    ui::{live::Voice, transcript},
};

/// Prints the stored log of an attempt that has ended; of one that runs, the lines so far, or
/// with `follow` all of them as they come.
pub async fn run(
    app: &App,
    client: &Client,
    id: TaskId,
    attempt: Option<u32>,
    follow: bool,
) -> Result<Exit> {
    let mut task = client.task(id).await?;
    if follow {
        refuse_own(app, client, std::slice::from_ref(&task), Which::All).await?;
        task = begun(app, client, task).await?;
    }
    let attempt = task.attempt(attempt)?;
    match attempt.artifact(ArtifactKind::Log) {
        Some(log) => stored::print(app, client, log).await?,
        None => {
            lines(
                app,
                client,
                AttemptId {
                    task: id,
                    number: attempt.number,
                },
                follow,
            )
            .await?
        }
    }
    Ok(Exit::Ok)
}

/// The task once it has an attempt, or as it is where it comes to none by itself.
async fn begun(app: &App, client: &Client, mut task: Task) -> Result<Task> {
    if task.attempt > 0 || task.rests() {
        return Ok(task);
    }
    let id = task.id;
    app.ui.next(format!(
        "{id} has not been started yet; its log is shown when it is"
    ));
    let mut changes = Changes::open(client, &[id], Voice::plain(app.ui)).await?;
    while task.attempt == 0 && !task.rests() {
        let mut news = changes.next().await?;
        if news.forgotten.contains(&id) {
            break;
        }
        task = news.tasks.pop().unwrap_or(task);
    }
    // The stream gives tasks without attempts.
    client.or_known(task).await
}

/// Prints what an attempt has printed on standard error.
pub async fn stderr(app: &App, client: &Client, id: TaskId, attempt: Option<u32>) -> Result<Exit> {
    let task = client.task(id).await?;
    let attempt = task.attempt(attempt)?;
    match attempt.artifact(ArtifactKind::Stderr) {
        Some(stderr) => stored::print(app, client, stderr).await?,
        None if attempt.exit.is_some() => {
            let number = attempt.number;
            app.ui
                .next(format!("{id}.{number} printed nothing on standard error"));
        }
        None => {
            let why = format!("what {id} prints on standard error is kept when it has ended");
            return Err(Error::new(Exit::NotFound, why).hint(format!(
                "`ctl wait {id}`, or `ctl logs {id} -f` for the rest"
            )));
        }
    }
    Ok(Exit::Ok)
}

/// The lines of an attempt whose log is not stored yet.
async fn lines(app: &App, client: &Client, attempt: AttemptId, follow: bool) -> Result<()> {
    let mut events = Events::open(client, attempt, follow, 0, Some(Voice::plain(app.ui))).await?;
    while let Some(piece) = events.next().await? {
        let batch = match piece {
            Piece::Events(batch) => batch,
            Piece::Gap(gap) => {
                app.ui.note(&transcript::gap(&gap));
                continue;
            }
        };
        // One line of the CLI can be several events: it stands beside the first of them.
        let raw = batch.iter().filter(|event| !event.raw.is_empty());
        let lines: String = raw.flat_map(|event| [event.raw.as_str(), "\n"]).collect();
        stored::print_text(&app.ui, lines.as_bytes())?;
    }
    Ok(())
}
