//! The process around a run: standard input and output, signals, exit code.

use std::{
    env,
    io::{self, Read},
    process::ExitCode,
};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    args::Args,
    failure::{Code, Failure},
    session::{self, Ended},
};

/// Largest prompt: 16 MiB.
const PROMPT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Runs the agent in the current directory on the prompt from standard input.
///
/// Exit codes: 0 finished, 1 failed, 130 stopped by a signal.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    let ended = runtime.block_on(serve(&args))?;
    // A thread that still waits for standard input must not hold up the end.
    runtime.shutdown_background();
    Ok(match ended {
        Ended::Finished => ExitCode::SUCCESS,
        Ended::Failed(Code::Cancelled) => ExitCode::from(130),
        Ended::Failed(_) => ExitCode::FAILURE,
    })
}

async fn serve(args: &Args) -> anyhow::Result<Ended> {
    let root = env::current_dir().context("failed to find the current directory")?;
    let mut stop = StopSignals::new().context("failed to listen for signals")?;
    let settings = args
        .settings(|name| env::var(name).ok())
        .map_err(|message| Failure::new(Code::BadRequest, message));
    let out = Box::new(io::stdout());
    let prompt = tokio::select! {
        prompt = read_prompt() => prompt.context("failed to read the prompt")?,
        () = stop.recv() => {
            return Ok(session::run(settings, &root, String::new(), out, async {}).await);
        }
    };
    Ok(session::run(settings, &root, prompt, out, stop.recv()).await)
}

async fn read_prompt() -> anyhow::Result<String> {
    let bytes = tokio::task::spawn_blocking(|| {
        let mut bytes = Vec::new();
        io::stdin()
            .lock()
            .take(PROMPT_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map(|_| bytes)
    })
    .await??;
    anyhow::ensure!(
        bytes.len() as u64 <= PROMPT_BYTES_MAX,
        "the prompt is longer than {PROMPT_BYTES_MAX} bytes"
    );
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl StopSignals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
