//! `ctl stop`.

mod worker;

use std::time::{Duration, Instant};

use orchestra_head::backup::headless;
use orchestra_proto::v1;
use orchestra_types::{TaskStatus, limits::STOP_GRACE, time::write_duration};
use serde_json::json;

use crate::{
    app::App,
    client::status_error,
    commands::start::kept,
    error::{Error, OrFailed, Result},
    exit::Exit,
    local::{joined, process::Process, record, stop_lock},
    ui::{
        Ui,
        style::{Line, Style},
        time::counted,
    },
    values,
};
use worker::{LocalWorker, stop_worker};

/// How long the head may take to stop once nothing runs any more.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// How often the head is asked what still runs.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Stop the local head and worker, after what runs on any machine has ended
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Waiting tasks stay in the queue and go on after the next `ctl start`. The wait may be interrupted: the head still
begins nothing new and ends by itself when what runs has ended; `ctl status` says so. A head waits for the agents of
all machines. With --now, or when --within is over, those of this machine are stopped, and their work so far is kept;
those of other machines go on, and report to the next head. With --leave-agents all go on, those of this machine
without a worker, and the next `ctl start`, of a newer version too, finds them again: for an upgrade. A head or
a worker that a signal has frozen goes on first, so that it ends in order.

Examples:
  ctl stop                     nothing new is started; when what runs anywhere has ended, all stops
  ctl stop --within 10m        but after 10 minutes agents are stopped
  ctl stop --leave-agents && ctl start --detach")]
pub struct Args {
    /// Stop at once; running agents of this machine are stopped and their work so far is kept
    #[arg(long)]
    pub now: bool,
    /// Wait at most so long for what runs, as 30s, 10m or 2h; then stop it as --now does
    #[arg(long, value_name = "TIME", value_parser = values::duration, allow_hyphen_values = true, conflicts_with = "now")]
    pub within: Option<Duration>,
    /// Stop at once; running agents run on, and the next start finds them again
    #[arg(long, conflicts_with_all = ["now", "within"])]
    pub leave_agents: bool,
}

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// After what runs has ended, or has had so long.
    Idle(Option<Duration>),
    /// At once.
    Now,
    /// At once, but agents run on.
    Leave,
}

/// Whether something still runs when the wait for the head is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waited {
    Idle,
    Late,
}

/// Stops the local cluster.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let when = match (args.now, args.leave_agents) {
        (_, true) => When::Leave,
        (true, false) => When::Now,
        (false, false) => When::Idle(args.within),
    };
    let stopped = stop(app, when).await?;
    if !stopped && (app.names_head() || joined::is_of_client_only(&app.state)) {
        return Err(elsewhere(app));
    }
    let left = worker::left(app);
    if left > 0 {
        let next = "`ctl start` finds them again, `ctl stop --now` stops them";
        let text = format!("{}; {next}", worker::go_on(left));
        match when {
            When::Leave => app.ui.note(&Line::of(Style::Dim, text)),
            When::Idle(_) | When::Now => app.ui.warn(text),
        }
    }
    let text = if stopped { "stopped" } else { "not running" };
    let document = json!({ "stopped": stopped, "state_dir": app.state.path() });
    let say = |_: &_| app.ui.line(&Line::of(Style::Plain, text));
    app.show_done(&document, || text.to_owned(), say)
}

/// Nothing runs here, and what was named may run well.
fn elsewhere(app: &App) -> Error {
    let state = app.state.path().display();
    Error::new(
        Exit::Refused,
        format!(
            "no head or worker runs in `{state}`, and `ctl stop` stops none on another machine"
        ),
    )
    .hint(match app.names_head() {
        true => "run it on the head's machine, without --head and ORCHESTRA_HEAD",
        false => "run it on the head's machine: this directory has a client's credentials alone",
    })
}

/// Stops head and worker; false if neither was running.
pub async fn stop(app: &App, when: When) -> Result<bool> {
    let _at_work = stop_lock::set(&app.state);
    let head = record::head(&app.state)?;
    let mut worker = LocalWorker::find(app)?;
    let mut not_found = None;
    if when == When::Now && worker.is_none() {
        worker = found_or(&mut not_found, LocalWorker::of_what_is_left(app).await);
    }
    let running = head.is_some() || worker.is_some();
    if !running && matches!(when, When::Idle(_)) {
        refuse_while_agents_are_left(app)?;
    }
    if let Some(head) = &head {
        thaw(&app.ui, "head", head)?;
    }
    if let Some(worker) = &worker {
        thaw(&app.ui, "worker", &worker.process)?;
    }
    // One that waits for the last agents ends as soon as the worker has stopped them.
    let ends_by_itself = head.is_some() && is_stopping(app).await;
    if head.is_none() && worker.is_some() && matches!(when, When::Idle(_)) {
        refuse_while_agents_run(app, "no head runs here")?;
    }
    if !matches!(when, When::Idle(_)) {
        // Agents first: the head takes what they have done so far before it goes.
        stop_worker(&app.ui, worker.take(), when).await?;
    }
    if let Some(head) = head {
        if ask_head(app, &head, when, ends_by_itself).await? == Waited::Late {
            app.ui.note(&Line::of(
                Style::Dim,
                "time is over: agents of this machine are stopped",
            ));
            if worker.is_none() {
                worker = found_or(&mut not_found, LocalWorker::of_what_is_left(app).await);
            }
            stop_worker(&app.ui, worker.take(), When::Now).await?;
            // Agents on other machines hold it: they go on, and it finds them again.
            if !has_ended(&head).await? {
                ask_head(app, &head, When::Now, true).await?;
            }
        }
        end(&app.ui, "head", &head, HEAD_LIMIT).await?;
        if matches!(when, When::Idle(_)) && record::has_head_died(&app.state) {
            refuse_while_agents_run(app, "the head has died")?;
        }
    }
    stop_worker(&app.ui, worker, when).await?;
    if when != When::Leave && worker::left(app) == 0 {
        kept::forget(&app.state)?;
    }
    not_found.map_or(Ok(running), Err)
}

/// Where agents that go on cannot be found again, the rest is stopped all the same.
fn found_or(
    not_found: &mut Option<Error>,
    found: Result<Option<LocalWorker>>,
) -> Option<LocalWorker> {
    found.unwrap_or_else(|error| {
        *not_found = Some(error);
        None
    })
}

/// One that a signal has stopped would hear nothing, and its agents and files would be left as they are.
fn thaw(ui: &Ui, name: &str, process: &Process) -> Result<()> {
    if !process.is_stopped() {
        return Ok(());
    }
    ui.warn(format!(
        "the {name} (process {}) was frozen by a signal; it goes on, so that it can end in order",
        process.pid()
    ));
    let went_on = process.go_on();
    went_on.or_failed(|| format!("failed to let the {name} go on"))
}

/// What brings the head of this directory back: one that is lost cannot be started.
fn first(app: &App) -> &'static str {
    match headless(&app.state) {
        Some(_) => "`ctl restore FILE`, then `ctl start`",
        None => "`ctl start`",
    }
}

/// They were left by `--leave-agents`, or by a worker that was killed.
fn refuse_while_agents_are_left(app: &App) -> Result<()> {
    let left = worker::left(app);
    if left == 0 {
        return Ok(());
    }
    Err(Error::new(
        Exit::Refused,
        format!(
            "no head runs here, and {}: nothing would wait for them",
            worker::go_on(left)
        ),
    )
    .hint(format!(
        "{} finds them again; `ctl stop --now` stops them, and their work so far is kept",
        first(app)
    )))
}

/// Only a head knows when agents have ended, and takes what they have done.
fn refuse_while_agents_run(app: &App, why: &str) -> Result<()> {
    let attempts = app.state.worker().join("attempts");
    let held = std::fs::read_dir(attempts).map_or(0, |entries| entries.flatten().count());
    if held == 0 {
        return Ok(());
    }
    let agents = counted(held as u64, "attempt");
    Err(Error::new(
        Exit::Refused,
        format!("the worker has {agents}, and {why}: nothing would wait for them"),
    )
    .hint(format!(
        "{} first, if this is the head's machine; else `ctl workers drain` at the head; --now stops them, and \
         --leave-agents lets them run on",
        first(app)
    )))
}

/// Whether the head was asked to stop before, and waits for what runs.
async fn is_stopping(app: &App) -> bool {
    let Ok(client) = app.connect().await else {
        return false;
    };
    // Asked once: a head that does not answer is not waited for here.
    let status = client.admin().get_status(v1::GetStatusRequest {}).await;
    status.is_ok_and(|status| status.into_inner().stopping_since_ms.is_some())
}

/// Asks the head to stop, or ends a head that does not answer. One that may be ending by itself has
/// the time for that.
async fn ask_head(app: &App, head: &Process, when: When, ends_by_itself: bool) -> Result<Waited> {
    match wait_for_head(app, head, when).await {
        Ok(waited) => Ok(waited),
        Err(_) if ends_by_itself => Ok(Waited::Idle),
        Err(e) => {
            if matches!(when, When::Idle(_)) {
                // It may be another one that was asked: nobody's agents end because of that.
                let why = format!("the head does not answer ({})", e.chain());
                refuse_while_agents_run(app, &why)?;
            }
            app.ui.warn(format!(
                "the head does not answer ({}); ending its process",
                e.chain()
            ));
            head.terminate()
                .or_failed(|| "failed to stop the head".to_owned())?;
            Ok(Waited::Idle)
        }
    }
}

/// Asks the head to stop and waits while tasks run, if they are to end by themselves.
async fn wait_for_head(app: &App, head: &Process, when: When) -> Result<Waited> {
    let client = app.connect().await?;
    let now = !matches!(when, When::Idle(_));
    client
        .admin()
        .shutdown(v1::ShutdownRequest { now })
        .await
        .map_err(|s| status_error(&s))?;
    let When::Idle(within) = when else {
        return Ok(Waited::Idle);
    };
    let deadline = within.map(|within| Instant::now() + within);
    let mut said = Busy::default();
    while !has_ended(head).await? {
        // No answer says nothing of what runs: the head may be about to end, or slow, or frozen.
        let answer = client.admin().get_status(v1::GetStatusRequest {}).await;
        let busy = answer.ok().map(|answer| Busy::of(&answer.into_inner()));
        if busy.is_some_and(|busy| busy == Busy::default()) {
            return Ok(Waited::Idle);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Ok(Waited::Late);
        }
        if let Some(busy) = busy.filter(|&busy| busy != said) {
            app.ui.note(&Line::of(Style::Dim, waiting(busy, within)));
            said = busy;
        }
    }
    Ok(Waited::Idle)
}

async fn has_ended(head: &Process) -> Result<bool> {
    let ended = head.ended_within(LOOK_EVERY).await;
    ended.or_failed(|| "failed to wait for the head".to_owned())
}

/// What the head waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Busy {
    /// Agents of workers that are there.
    agents: u64,
    /// Tasks that are held besides: they wait at a worker, their worker is away, or their agent has ended
    /// just now.
    others: u64,
}

impl Busy {
    fn of(status: &v1::ClusterStatus) -> Self {
        let held = [TaskStatus::Assigned, TaskStatus::Running];
        let count = |of: TaskStatus| status.by_status.get(of.as_str()).copied().unwrap_or(0);
        let held: u64 = held.map(count).iter().sum();
        let agents = u64::from(status.agents_busy);
        Self {
            agents,
            others: held.saturating_sub(agents),
        }
    }
}

fn waiting(busy: Busy, within: Option<Duration>) -> String {
    let limit = match within {
        Some(within) => format!("for {} at most", write_duration(within)),
        None => "--now stops those of this machine".to_owned(),
    };
    let agents = counted(busy.agents, "agent");
    let others = counted(busy.others, "task");
    let whose = "whose worker is away, whose agent has not begun, or whose result is put in place";
    let what = match (busy.agents, busy.others) {
        (_, 0) => format!("{agents} to end"),
        (0, _) => format!("{others} {whose}"),
        (_, _) => format!("{agents} to end, and {others} {whose}"),
    };
    format!("waiting for {what} ({limit})")
}

/// Waits for the end of a process that was asked to, and ends it by force when it takes too long.
async fn end(ui: &Ui, name: &str, process: &Process, limit: Duration) -> Result<()> {
    let failed = || format!("failed to stop the {name}");
    if process.ended_within(limit).await.or_failed(failed)? {
        return Ok(());
    }
    ui.warn(format!(
        "the {name} did not stop within {} s; ending it by force",
        limit.as_secs()
    ));
    process.terminate().or_failed(failed)?;
    if !process.ended_within(STOP_GRACE).await.or_failed(failed)? {
        process.kill().or_failed(failed)?;
    }
    if process.ended_within(STOP_GRACE).await.or_failed(failed)? {
        return Ok(());
    }
    Err(Error::failed(format!(
        "the {name} (pid {}) does not end",
        process.pid()
    )))
}
