//! `ctl stop`.

use std::time::Duration;

use orchestra_proto::v1;
use orchestra_types::limits::STOP_GRACE;
use serde_json::json;

use crate::{
    app::App,
    client::status_error,
    error::{Error, OrFailed, Result},
    exit::Exit,
    local::{process::Process, record},
    ui::{
        Ui,
        style::{Line, Style},
        time::counted,
    },
};

/// How long the head may take to stop once nothing runs any more.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// How long the worker may take: its agents get the three rungs of the stop ladder.
const WORKER_LIMIT: Duration = Duration::from_secs(3 * STOP_GRACE.as_secs() + 15);
/// How often the head is asked what still runs.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Stop the local head and worker, after what runs has ended
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Waiting tasks stay in the queue and go on after the next `ctl start`. With --now, agents that run
are stopped; their work so far is kept. With --leave-agents they run on without a worker, and the next
`ctl start`, of a newer version too, finds them again: for an upgrade.")]
pub struct Args {
    /// Stop at once; running agents are stopped and their work so far is kept
    #[arg(long)]
    pub now: bool,
    /// Stop at once; running agents run on, and the next start finds them again
    #[arg(long, conflicts_with = "now")]
    pub leave_agents: bool,
}

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// After what runs has ended.
    Idle,
    /// At once.
    Now,
    /// At once, but agents run on.
    Leave,
}

/// Stops the local cluster.
pub async fn run(app: &App, args: Args) -> Result<Exit> {
    let when = match (args.now, args.leave_agents) {
        (_, true) => When::Leave,
        (true, false) => When::Now,
        (false, false) => When::Idle,
    };
    let stopped = stop(app, when).await?;
    let text = if stopped { "stopped" } else { "not running" };
    if app.ui.is_json() {
        app.ui
            .document(&json!({ "stopped": stopped, "state_dir": app.state.path() }))?;
    } else {
        app.ui.line(&Line::of(Style::Plain, text))?;
    }
    Ok(Exit::Ok)
}

/// Stops head and worker; false if neither was running.
pub async fn stop(app: &App, when: When) -> Result<bool> {
    let head = record::head(&app.state)?;
    let worker = record::worker(&app.state)?;
    let running = head.is_some() || worker.is_some();
    match when {
        // Agents first: the head takes what they have done so far before it goes.
        When::Now | When::Leave => {
            stop_worker(&app.ui, worker, when).await?;
            stop_head(app, head, when).await?;
        }
        When::Idle => {
            stop_head(app, head, when).await?;
            stop_worker(&app.ui, worker, when).await?;
        }
    }
    Ok(running)
}

async fn stop_head(app: &App, head: Option<Process>, when: When) -> Result<()> {
    let Some(head) = head else { return Ok(()) };
    match ask_head(app, &head, when).await {
        Ok(()) => {}
        Err(e) => {
            app.ui.warn(format!(
                "the head does not answer ({}); ending its process",
                e.chain()
            ));
            head.terminate()
                .or_failed(|| "failed to stop the head".to_owned())?;
        }
    }
    end(&app.ui, "head", &head, HEAD_LIMIT).await
}

/// Asks the head to stop and waits while tasks run.
async fn ask_head(app: &App, head: &Process, when: When) -> Result<()> {
    let client = app.connect().await?;
    let request = v1::ShutdownRequest {
        now: when != When::Idle,
    };
    client
        .admin()
        .shutdown(request)
        .await
        .map_err(|s| status_error(&s))?;
    let mut said = 0;
    while !head
        .ended_within(LOOK_EVERY)
        .await
        .or_failed(|| "failed to wait for the head".to_owned())?
    {
        // It may be gone at any moment: then there is nothing to count.
        let Ok(answer) = client.admin().get_status(v1::GetStatusRequest {}).await else {
            return Ok(());
        };
        let busy = answer.into_inner().agents_busy;
        if busy == 0 {
            return Ok(());
        }
        if busy != said {
            let text = format!(
                "waiting for {} to end (--now stops them)",
                counted(busy.into(), "agent")
            );
            app.ui.note(&Line::of(Style::Dim, text));
            said = busy;
        }
    }
    Ok(())
}

async fn stop_worker(ui: &Ui, worker: Option<Process>, when: When) -> Result<()> {
    let Some(worker) = worker else { return Ok(()) };
    let asked = match when {
        When::Leave => worker.hang_up(),
        When::Idle | When::Now => worker.terminate(),
    };
    asked.or_failed(|| "failed to stop the worker".to_owned())?;
    end(ui, "worker", &worker, WORKER_LIMIT).await
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
