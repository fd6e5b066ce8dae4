//! `ctl start`: head and local worker in one command.

mod agents;
mod ending;
mod feed;
pub mod kept;
mod report;

use std::{ffi::OsString, fs::File, net::SocketAddr, time::Duration};

use orchestra_config::{durable, signals};

use crate::{
    app::App,
    commands::stop::{self, When},
    error::{Error, OrFailed, Result, or_untold},
    exit::Exit,
    json::fleet::{Status, Worker},
    local::{
        daemon::{Role, Starting},
        joined,
        process::Process,
        record, silent,
    },
    ui::{
        closed::takes_nothing,
        now, stopping,
        style::{Line, Style},
    },
};
use agents::AgentCount;
use kept::Options;
use report::Report;

/// How long to wait for another `ctl start` in the same state directory.
const LOCK_LIMIT: Duration = Duration::from_secs(60);
/// How long a head that is there may take to answer, or to end.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Start the head and a local worker, with credentials that are made the first time
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The worker takes the AI coding CLIs that it finds on PATH. Without --detach, ctl shows what
happens until Ctrl-C, then stops both. If they run already, ctl says so; one that is ending is waited for, and
started anew. With `nohup ctl start &` it
outlives the terminal, and SIGTERM or `ctl stop` ends it.

Examples:
  ctl start                                 stay in the foreground
  ctl start --detach                        go on in the background; stop with `ctl stop`
  ctl start --agents claude:2,codex:2       at most two of each at once; after `ctl stop --leave-agents` or a
                                            crash, the next start keeps to that if it says nothing else
  ctl start --listen 0.0.0.0:7117           let workers on other machines join (`ctl token create`)")]
pub struct Args {
    /// How many of a runner may run at once, as claude:2,codex:2. Default: as many as there are slots
    #[arg(long, value_name = "NAME:N,…", value_delimiter = ',')]
    pub agents: Vec<AgentCount>,
    /// How many agents may run at once in all. Default: 4, or the sum of --agents
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), allow_negative_numbers = true)]
    pub slots: Option<u32>,
    /// How long running agents may take to end when the worker is stopped; then they are killed.
    /// Default: as configured, else 15s
    #[arg(long, value_name = "TIME", env = "ORCHESTRA_STOP_WITHIN", value_parser = orchestra_config::stop_within, allow_hyphen_values = true)]
    pub stop_within: Option<Duration>,
    /// Return as soon as both serve; they go on in the background
    #[arg(long, short)]
    pub detach: bool,
    /// Address of the head's services. Default: that of the last start, else 127.0.0.1:7117, or a free port
    /// when that is taken
    #[arg(long, value_name = "IP:PORT", value_parser = orchestra_config::listen_address)]
    pub listen: Option<SocketAddr>,
}

/// Starts what does not run yet; in the foreground, stops it again at the end.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    app.config()?;
    agents::each_once(&args.agents)?;
    joined::refuse(&app.state, Exit::Usage)?;
    let dir = app.state.path().display();
    let made = app.state.make();
    made.or_failed(|| format!("failed to create `{dir}`"))?;
    let lock = lock(app).await?;
    let report = bring_up(app, &args).await?;
    drop(lock);
    let done = || "head and worker run".to_owned();
    or_untold(report.show(&app.ui, args.detach), done)?;
    warn(app, &args, &report);
    if args.detach || report.was_running() {
        return Ok(Exit::Ok);
    }
    foreground(app).await
}

/// Says what was asked for and is not so.
fn warn(app: &App, args: &Args, report: &Report) {
    let of_worker = !args.agents.is_empty() || args.slots.is_some() || args.stop_within.is_some();
    let changes_nothing =
        (report.worker_ran && of_worker) || (report.head_ran && args.listen.is_some());
    if changes_nothing {
        app.ui
            .warn("options have no effect on what runs already; `ctl stop`, then start again");
    }
    if let Some(exposed) = app.state.exposed() {
        app.ui.warn(exposed);
    }
    if let Some(closed) = &report.status.workers_closed {
        app.ui
            .warn(format!("no worker takes anything new: {closed}"));
    }
    for text in agents::lacking(&args.agents, &report.worker) {
        app.ui.warn(text);
    }
}

/// Shows what happens until Ctrl-C or the end of the head, then stops both.
async fn foreground(app: &App) -> Result<Exit> {
    let client = app.connect().await?;
    let told = tokio::select! {
        told = feed::follow(&app.ui, &client) => told,
        signal = stop_signal() => signal.or_failed(|| "failed to wait for Ctrl-C".to_owned()),
    };
    app.ui.note(&Line::of(
        Style::Dim,
        "stopping; the work of running agents is kept",
    ));
    stop::stop(app, When::Now).await?;
    app.ui.say("stopped");
    told.map(|()| Exit::Ok)
}

/// Ends with Ctrl-C, SIGTERM or SIGHUP, of these two not with what was ignored from the start.
pub async fn stop_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signals::hear(SignalKind::interrupt())?;
    let mut hang_up = signals::hear(SignalKind::hangup())?;
    tokio::select! {
        () = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
        () = hang_up.recv() => Ok(()),
    }
}

/// Starts the head and the worker, each unless it runs.
pub async fn bring_up(app: &App, args: &Args) -> Result<Report> {
    app.refuse_foreign_state()?;
    let head_ran = head_serves(app).await?;
    let head = if head_ran {
        None
    } else {
        Some(start_head(app, args).await?)
    };
    match bring_up_worker(app, args).await {
        Ok((worker, worker_ran)) => {
            let client = app.connect().await?;
            let mut status = client.status().await?;
            status.workers_closed = takes_nothing(&client.workers().await?);
            Ok(Report {
                status,
                worker,
                head_ran,
                worker_ran,
            })
        }
        Err(e) => {
            // A head that only this command wanted does not stay behind.
            head.into_iter().for_each(Starting::abandon);
            Err(e)
        }
    }
}

/// Whether a head serves, and goes on to: nobody is about to stop it.
async fn head_serves(app: &App) -> Result<bool> {
    loop {
        let serves = match record::head(&app.state)? {
            None => false,
            Some(head) => serves(app, &head).await?,
        };
        // What was there while a stop was at work may have ended since.
        if !ending::stop(app).await? {
            return Ok(serves);
        }
    }
}

/// Whether the head that is there serves; false once it has ended. One that does neither is given time:
/// it may be about to end, or busy.
async fn serves(app: &App, head: &Process) -> Result<bool> {
    let answers = tokio::time::timeout(ANSWER_LIMIT, answer_of(app));
    let status = tokio::select! {
        answer = answers => match answer {
            Ok(status) => status?,
            Err(_) => return Err(silent(app, head)),
        },
        ended = head.ended() => return match ended {
            Ok(()) => Ok(false),
            Err(e) => Err(silent(app, head).because(e)),
        },
    };
    refuse_while_tasks_hold(&status)?;
    if status.stopping_since.is_some() {
        ending::process(app, Role::Head, head).await?;
        return Ok(false);
    }
    Ok(true)
}

/// What it answers, however long that takes.
async fn answer_of(app: &App) -> Result<Status> {
    loop {
        let asked = async { app.connect().await?.status().await };
        match asked.await {
            Err(e) if e.exit() == Exit::HeadNotRunning => tokio::time::sleep(ASK_EVERY).await,
            answered => return answered,
        }
    }
}

fn silent(app: &App, head: &Process) -> Error {
    let secs = ANSWER_LIMIT.as_secs();
    let text = format!("the head runs, and has not answered for {secs} s");
    Error::new(Exit::HeadNotRunning, text).hint(silent::hint(&app.state, head))
}

/// A head that was asked to stop begins nothing: a start beside it would look as if it did. While tasks run
/// nobody knows when it ends, so that this is not waited for.
fn refuse_while_tasks_hold(status: &Status) -> Result<()> {
    let words = stopping::words(status, now());
    match words.filter(|_| stopping::running(status) > 0) {
        Some(words) => Err(Error::new(Exit::Refused, words).hint(stopping::NEXT)),
        None => Ok(()),
    }
}

async fn start_head(app: &App, args: &Args) -> Result<Starting> {
    let mut options: Vec<OsString> = config_option(app);
    if let Some(listen) = args.listen {
        options.extend(["--listen".into(), listen.to_string().into()]);
    }
    let mut head = Starting::spawn(Role::Head, &app.state, options)?;
    let ready = head.until(async |pid| {
        let serves = record::head(&app.state)?.is_some_and(|head| head.pid() == pid);
        if serves {
            app.connect().await.map(Some)
        } else {
            Ok(None)
        }
    });
    match ready.await {
        Ok(_) => Ok(head),
        Err(e) => {
            head.abandon();
            Err(e)
        }
    }
}

/// The local worker, and whether it ran before. One that is ending is waited for.
async fn bring_up_worker(app: &App, args: &Args) -> Result<(Worker, bool)> {
    if let Some(process) = record::worker(&app.state)? {
        if let Some(worker) = running_worker(app, &process).await? {
            return Ok((worker, true));
        }
        ending::process(app, Role::Worker, &process).await?;
    }
    Ok((start_worker(app, args).await?, false))
}

async fn start_worker(app: &App, args: &Args) -> Result<Worker> {
    let mut options = config_option(app);
    let (of_worker, taken) = Options::or_of(args, last(app));
    options.extend(of_worker.arguments().into_iter().map(OsString::from));
    if let Some(taken) = taken {
        let text =
            format!("the worker starts as it did last, with {taken}; `ctl stop` forgets that");
        app.ui.note(&Line::of(Style::Dim, text));
    }
    let client = app.connect().await?;
    let mut worker = Starting::spawn(Role::Worker, &app.state, options)?;
    let ready = worker.until(async |pid| {
        let workers = client.workers().await?;
        Ok(workers
            .into_iter()
            .find(|w| w.pid == pid && w.state == "connected"))
    });
    match ready.await {
        Ok(connected) => {
            if let Err(error) = of_worker.keep(&app.state) {
                app.ui.warn(error.chain());
            }
            Ok(connected)
        }
        Err(e) => {
            worker.abandon();
            Err(e)
        }
    }
}

/// The local worker that ran before, as the head knows it; none where it is ending or has ended. It may
/// still be connecting.
async fn running_worker(app: &App, process: &Process) -> Result<Option<Worker>> {
    let client = app.connect().await?;
    let deadline = tokio::time::Instant::now() + crate::local::daemon::START_LIMIT;
    let mut id = String::new();
    loop {
        // IMPORTANT: before the head is asked, which hears of one that is ending for a while.
        match record::worker_record(&app.state)? {
            Some(record) if record.ending => return Ok(None),
            Some(record) => id = record.id,
            None => {}
        }
        let known = client
            .workers()
            .await?
            .into_iter()
            .find(|w| w.id.as_str() == id && w.state == "connected");
        if let Some(worker) = known {
            return Ok(Some(worker));
        }
        if tokio::time::Instant::now() > deadline {
            return Err(
                Error::failed("the local worker runs but does not connect to the head").hint(
                    format!("its log is `{}`", Role::Worker.log(&app.state).display()),
                ),
            );
        }
        let ended = process.ended_within(ASK_EVERY).await;
        if ended.or_failed(|| "failed to look for the worker".to_owned())? {
            return Ok(None);
        }
    }
}

/// What a worker is started with that is to be as the last one was.
pub fn worker_options(app: &App) -> Vec<OsString> {
    let mut options = config_option(app);
    options.extend(last(app).arguments().into_iter().map(OsString::from));
    options
}

/// Those of the last start, as far as they can be read.
fn last(app: &App) -> Options {
    Options::of_last(&app.state).unwrap_or_else(|error| {
        app.ui.warn(error.chain());
        Options::default()
    })
}

fn config_option(app: &App) -> Vec<OsString> {
    let file = app
        .config_file()
        .and_then(|path| std::path::absolute(path).ok());
    file.map(|path| vec!["--config".into(), path.into()])
        .unwrap_or_default()
}

/// One start at a time in one state directory.
async fn lock(app: &App) -> Result<File> {
    use rustix::fs::{FlockOperation, flock};
    let path = app.state.path().join("start.lock");
    let file = durable::create_private(&path)
        .or_failed(|| format!("failed to create `{}`", path.display()))?;
    let deadline = tokio::time::Instant::now() + LOCK_LIMIT;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(e) => {
                return Err(Error::failed(
                    "another `ctl start` is at work in this state directory",
                )
                .because(e));
            }
        }
    }
}
