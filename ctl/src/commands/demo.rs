//! `ctl demo`: a whole cluster and a small workflow, of which only the model is scripted.
//!
//! ```text
//! stage   a directory of its own: scratch repository, configuration
//! cluster scripted model, head, two workers: real processes with mutual TLS
//! story   plan -> two implementations side by side -> review, told live
//! finale  the tasks, the diff, where everything lies, what to type next
//! ```

mod cluster;
mod finale;
mod stage;
mod story;

use std::{io, path::PathBuf, pin::Pin};

use crate::{
    app::App,
    commands::start::stop_signal,
    error::{Error, OrFailed, Result},
    exit::Exit,
    ui::style::{Line, Style},
};
use cluster::Cluster;
use stage::Stage;

/// Show the main job with a scripted model: a plan, two implementations, a review
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It starts a head and two workers in a directory of its own, lets agents change a scratch repository,
stops everything and keeps the results. It needs no key, no AI coding CLI and no network: the model
follows a script, all the rest is what `ctl start` runs.")]
pub struct Args {
    /// Where to keep the results; it must not exist yet. Default: a new temporary directory
    #[arg(long, value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

/// Runs the demo. Whatever happens, it stops what it has started.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let stage = Stage::set(args.dir)?;
    app.ui.note(&Line::of(Style::Bold, "Orchestra demo. ").with(
        Style::Plain,
        "The model is scripted; head, workers, agents and files are real.",
    ));
    let stopped = stop_signal();
    tokio::pin!(stopped);
    let (cluster, interrupted) = start(app, &stage, stopped.as_mut()).await?;
    let told = if interrupted {
        Ok(Exit::Interrupted)
    } else {
        tokio::select! {
            signal = stopped => signal
                .or_failed(|| "failed to wait for Ctrl-C".to_owned())
                .map(|()| Exit::Interrupted),
            told = tell(app, &cluster, &stage) => told,
        }
    };
    app.ui.next("stopping head and workers");
    let ended = cluster.stop().await;
    let exit = told.and_then(|exit| ended.map(|()| exit));
    finale::next_steps(
        app,
        &stage,
        exit.as_ref().is_ok_and(|exit| *exit == Exit::Ok),
    );
    exit
}

/// Starts the cluster. A signal meanwhile is acted on afterwards, when all of it can be stopped:
/// a process that is just starting could be missed.
async fn start(
    app: &App,
    stage: &Stage,
    mut stopped: Pin<&mut impl Future<Output = io::Result<()>>>,
) -> Result<(Cluster, bool)> {
    let starting = Cluster::start(app, stage);
    tokio::pin!(starting);
    let mut interrupted = false;
    loop {
        tokio::select! {
            biased;
            _ = stopped.as_mut(), if !interrupted => interrupted = true,
            cluster = &mut starting => return match cluster {
                // Ctrl-C in a terminal reaches what has not left the terminal's session yet.
                Err(_) if interrupted => Err(Error::new(Exit::Interrupted, "interrupted")),
                cluster => Ok((cluster?, interrupted)),
            },
        }
    }
}

async fn tell(app: &App, cluster: &Cluster, stage: &Stage) -> Result<Exit> {
    let tasks = story::run(cluster, stage).await?;
    finale::show(app, cluster, stage, &tasks).await?;
    Ok(Exit::Ok)
}
