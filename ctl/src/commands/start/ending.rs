//! What is ending is waited for: a start beside it would find it running, and then nothing would run.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    app::App,
    error::{Error, OrFailed, Result},
    exit::Exit,
    local::{daemon::Role, process::Process, stop_lock},
    ui::style::{Line, Style},
};

/// How long an end is waited for.
const LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Waits for the end of a head or worker that is ending.
pub async fn process(app: &App, role: Role, process: &Process) -> Result<()> {
    let name = role.as_str();
    let failed = || format!("failed to wait for the end of the {name}");
    if process
        .ended_within(Duration::ZERO)
        .await
        .or_failed(failed)?
    {
        return Ok(());
    }
    say(app, &format!("the {name} is ending"));
    if process.ended_within(LIMIT).await.or_failed(failed)? {
        return Ok(());
    }
    let (pid, log) = (process.pid(), role.log(&app.state));
    Err(late(&format!("the {name} is ending")).hint(format!(
        "`ctl start` again when process {pid} has ended, or `ctl stop --now` first, which ends it by force if it must; \
         its log is `{}`",
        log.display()
    )))
}

/// Waits until no `ctl stop` is at work; whether one was. It ends the worker first and the head after it, which
/// serves until then.
pub async fn stop(app: &App) -> Result<bool> {
    if !is_stopping(app)? {
        return Ok(false);
    }
    say(app, "a `ctl stop` is at work");
    let deadline = Instant::now() + LIMIT;
    while is_stopping(app)? {
        if Instant::now() >= deadline {
            let hint = "`ctl start` again when it is done; `ctl stop --now` waits for no task";
            return Err(late("a `ctl stop` is at work").hint(hint));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(true)
}

fn is_stopping(app: &App) -> Result<bool> {
    let looked = stop_lock::is_set(&app.state);
    looked.or_failed(|| "failed to find out whether a `ctl stop` is at work".to_owned())
}

fn say(app: &App, what: &str) {
    let secs = LIMIT.as_secs();
    let text = format!("{what}: waiting for the end of that, {secs} s at most");
    app.ui.note(&Line::of(Style::Dim, text));
}

fn late(what: &str) -> Error {
    let secs = LIMIT.as_secs();
    Error::new(
        Exit::Refused,
        format!("{what}, and has not ended after {secs} s"),
    )
}
