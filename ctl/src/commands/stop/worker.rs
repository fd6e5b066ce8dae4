//! The worker of this machine, as it is stopped.

use std::time::Duration;

use orchestra_types::limits::STOP_WITHIN;

use super::{When, end};
use crate::{
    app::App,
    commands::start,
    error::{Error, OrFailed, Result},
    local::{
        daemon::{Role, Starting},
        process::Process,
        record,
    },
    ui::{
        Ui,
        style::{Line, Style},
        time::counted,
    },
};

/// How much longer the worker may take than its agents: for a kill, for results, and for itself.
const WORKER_LIMIT: Duration = Duration::from_secs(15);

/// The worker of this machine.
pub struct LocalWorker {
    /// Its process.
    pub process: Process,
    /// How long its agents may take to end.
    stops_within: Duration,
}

/// How many agents run on without a worker, as far as that can be seen.
pub fn left(app: &App) -> u64 {
    match record::worker(&app.state) {
        Ok(None) => orchestra_worker::running(&app.state.worker()).map_or(0, |left| left as u64),
        Ok(Some(_)) | Err(_) => 0,
    }
}

/// That they do, in words.
pub fn go_on(left: u64) -> String {
    let go = if left == 1 { "goes" } else { "go" };
    format!("{} {go} on without a worker", counted(left, "agent"))
}

impl LocalWorker {
    /// The one that runs.
    pub fn find(app: &App) -> Result<Option<Self>> {
        let Some(process) = record::worker(&app.state)? else {
            return match record::is_worker_hidden(&app.state) {
                false => Ok(None),
                true => Err(Error::failed(
                    "a worker runs here, but it could not write which process it is",
                )
                .hint("is the disk full? `ctl workers -v` shows its pid; free some space, then try again")),
            };
        };
        let record = record::worker_record(&app.state)?;
        let stops_within = record.and_then(|record| record.stop_within_ms);
        Ok(Some(Self {
            process,
            stops_within: stops_within.map_or(STOP_WITHIN, Duration::from_millis),
        }))
    }

    /// One that is started for the agents that run on without a worker: nobody else knows how to end them in
    /// order, and keeps what they did. None where there are no such agents.
    pub async fn of_what_is_left(app: &App) -> Result<Option<Self>> {
        let agents = left(app);
        if agents == 0 {
            return Ok(None);
        }
        let text = format!("{}; one is started, which stops them", go_on(agents));
        app.ui.note(&Line::of(Style::Dim, text));
        // A start beside this one waits for the end of the stop.
        let options = start::worker_options(app);
        let mut worker = Starting::spawn(Role::Worker, &app.state, options)?;
        // It writes who it is as soon as it heeds a stop, which ends them.
        let found = worker.until(async |pid| {
            let found = record::worker(&app.state)?;
            Ok(found.filter(|found| found.pid() == pid).map(drop))
        });
        match found.await {
            Ok(()) => Self::find(app),
            Err(error) => {
                worker.abandon();
                Err(error)
            }
        }
    }
}

/// Stops it, and waits for its end.
pub async fn stop_worker(ui: &Ui, worker: Option<LocalWorker>, when: When) -> Result<()> {
    let Some(worker) = worker else { return Ok(()) };
    let asked = match when {
        When::Leave => worker.process.hang_up(),
        When::Idle(_) | When::Now => worker.process.terminate(),
    };
    asked.or_failed(|| "failed to stop the worker".to_owned())?;
    let limit = worker.stops_within + WORKER_LIMIT;
    end(ui, "worker", &worker.process, limit).await
}
