//! `ctl files`.

use orchestra_types::TaskId;

use crate::{
    app::App,
    error::Result,
    exit::Exit,
    ui::{self, changes, escape::naming, time::ago},
};

/// List the files that a task changed, or has changed so far
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The task, as task_001 or 1
    #[arg(value_name = "TASK")]
    pub(super) task: TaskId,
    /// Which attempt. Default: the latest that has left anything
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
}

/// Lists the files.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let client = app.connect().await?;
    let task = client.task(args.task).await?;
    let attempt = task.meant(&app.ui, args.attempt)?;
    let files = client.files(args.task, attempt.number).await?;
    app.show(&files, |document| {
        changes::lines(&document.files, usize::MAX)
            .iter()
            .try_for_each(|line| app.ui.line(line))?;
        document
            .warnings
            .iter()
            .for_each(|warning| app.ui.warn(naming(warning)));
        match document.interim_at {
            Some(at) => {
                let seen = ago(at.0, ui::now());
                app.ui
                    .next(format!("so far: the agent is at work; looked at {seen}"));
            }
            None if document.files.is_empty() => app.ui.next("no files changed"),
            None => {}
        }
        Ok(())
    })
}
