//! One run from prompt to end: it always ends with a `result` or an `error` line.

use std::{io::Write, path::Path};

use crate::{
    args::Settings,
    events::Events,
    failure::{Code, Failure},
    instructions::Role,
    provider::Client,
    turn::{self, World},
};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With a final text.
    Finished,
    /// With a failure.
    Failed(Code),
}

/// Runs the main agent until it ends or `stop` does.
pub async fn run(
    settings: Result<Settings, Failure>,
    root: &Path,
    prompt: String,
    out: Box<dyn Write + Send>,
    stop: impl Future<Output = ()>,
) -> Ended {
    let events = Events::new(out);
    let work = work(settings, root, prompt, events.clone());
    let ended = tokio::select! {
        ended = work => ended,
        // Dropping the work kills the process groups of its commands.
        () = stop => Err(Failure::new(Code::Cancelled, "stopped by a signal")),
    };
    match ended {
        Ok(text) => {
            events.result(&text);
            Ended::Finished
        }
        Err(failure) => {
            events.abort_open_calls();
            events.error(&failure);
            Ended::Failed(failure.code)
        }
    }
}

async fn work(
    settings: Result<Settings, Failure>,
    root: &Path,
    prompt: String,
    events: Events,
) -> Result<String, Failure> {
    let settings = settings?;
    events.session(&settings.model);
    if prompt.trim().is_empty() {
        let message = "there is no prompt on standard input";
        return Err(Failure::new(Code::BadRequest, message));
    }
    let root = root.canonicalize().map_err(|error| {
        let root = root.display();
        Failure::new(
            Code::Internal,
            format!("failed to open the directory `{root}`: {error}"),
        )
    })?;
    let client = Client::new(&settings)?;
    let world = World {
        settings: &settings,
        client: &client,
        root: &root,
    };
    turn::run(&world, events, Role::Main, prompt).await
}
