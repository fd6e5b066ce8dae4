//! From the order to a process.

use orchestra_types::{Failure, FailureCode, runner::Readiness};
use tokio::time::sleep;

use super::{
    earlier::Earlier,
    environment,
    run::{Attempt, Error, make_dir, remove_dir},
    until_room::with_room_unless_stopped,
};
use crate::{
    cli::{self, Adapter, CommandLine, Launch},
    ports::Lease,
    process::{LOG_BYTES_MAX, Process, ProcessError, Spawn},
    prompt::{self, Document},
    room,
};

/// How often a supervisor that began nothing is started, where the disk has room: it may have been full, and the
/// supervisor's log had no room for why.
const STARTS_MAX: u32 = 10;

impl Attempt {
    /// The adapter, told what it drives, and the command line it asks for.
    pub fn adapter(&self) -> Result<(Box<dyn Adapter>, CommandLine), Failure> {
        let runner = &self.order.runner;
        let config = self.shared.config.runners.get(runner);
        let mut adapter = cli::adapter_for(runner, config).ok_or_else(|| {
            let why = format!("this worker does not know how to drive `{runner}`");
            Failure::new(FailureCode::SpawnFailed, why)
        })?;
        let spec = &self.order.spec;
        let info = self.runner_info();
        let prompt = match &info {
            // A command is no reader of context.
            Some(info) if !info.agentic => spec.description.clone(),
            Some(_) | None => prompt::compose(&spec.description, &self.documents()),
        };
        let program = info.map(|info| info.path).unwrap_or_default();
        let launch = Launch {
            prompt: &prompt,
            cwd: &self.directory(),
            model: spec.model.as_deref(),
            program: program.as_ref(),
            config,
            command: spec.command.as_ref(),
            attempt: self.id,
            self_command: &self.shared.me.words(),
        };
        let line = adapter.command(&launch)?;
        Ok((adapter, line))
    }

    /// What the agent is told besides the description.
    fn documents(&self) -> Vec<Document> {
        let earlier = Earlier::load(&self.files).document();
        self.order
            .documents
            .iter()
            .cloned()
            .chain(earlier)
            .collect()
    }

    /// Refuses a runner that cannot work here, before anything is started.
    pub fn check_runner(&self) -> Result<(), Failure> {
        let runner = &self.order.runner;
        let why = match self.runner_info().map(|info| info.readiness) {
            Some(Readiness::Ready) => return Ok(()),
            Some(Readiness::NotReady { reason }) => format!("`{runner}` cannot work: {reason}"),
            Some(Readiness::Missing) | None => {
                format!("`{runner}` is not installed on this worker")
            }
        };
        Err(Failure::new(FailureCode::SpawnFailed, why))
    }

    fn runner_info(&self) -> Option<orchestra_types::runner::RunnerInfo> {
        let runners = self.shared.runners.borrow();
        runners
            .iter()
            .find(|info| info.name == self.order.runner)
            .cloned()
    }

    /// Starts it, but not where the head may have given it up meanwhile. An error that says that nothing began on a
    /// full disk is not the last word.
    pub async fn start_process(
        &self,
        line: CommandLine,
    ) -> Result<Option<Result<Process, ProcessError>>, Error> {
        let spawn = self.spawn(line);
        let mut starts = 1;
        loop {
            // A start that was cut short may have left a part of it.
            with_room_unless_stopped(self.id, self.control.stop.clone(), || {
                remove_dir(&self.files.process())?;
                make_dir(&self.files.process())
            })
            .await?;
            if !self.shared.lease.lasts() {
                return Ok(None);
            }
            let started = Process::start(&self.shared.nursery, &spawn).await;
            match &started {
                Err(error)
                    if began_nothing(error)
                        && !self.lacks_room()
                        && self.control.stop.borrow().is_none()
                        && starts < STARTS_MAX =>
                {
                    starts += 1;
                    sleep(room::RETRY_AFTER).await;
                }
                Ok(_) | Err(_) => return Ok(Some(started)),
            }
        }
    }

    /// What the supervisor is to start.
    pub fn spawn(&self, line: CommandLine) -> Spawn {
        let inherited = self.shared.environment.iter().cloned();
        let mut traceparent = orchestra_telemetry::traceparent(&tracing::Span::current());
        if traceparent.is_empty() {
            traceparent.clone_from(&self.order.traceparent);
        }
        let (program, args) = match self.set_up_command() {
            Some(set_up) => set_up.before(&self.shared.me.words(), &line.program, line.args),
            None => (line.program, line.args),
        };
        let own = environment::Own {
            attempt: self.id,
            state: &self.shared.state,
            // One that is gone meanwhile would have each `ctl` refused.
            config: self.shared.config_file.as_deref().filter(|f| f.is_file()),
            traceparent: &traceparent,
            ports: self.ports.as_ref().map_or(&[][..], Lease::ports),
        };
        Spawn {
            dir: self.files.process(),
            program,
            args,
            env: environment::compose(inherited, own, &line.env),
            cwd: self.directory(),
            stdin: line.stdin,
            keep_stdin: line.keep_stdin,
            limits: self.shared.limits,
            log_bytes_max: self
                .shared
                .config
                .worker
                .limits
                .output
                .unwrap_or(LOG_BYTES_MAX),
            ballast: self.shared.ballast.clone(),
        }
    }
}

/// Whether it may be started again.
pub(super) fn began_nothing(error: &ProcessError) -> bool {
    matches!(
        error,
        ProcessError::EndedAtOnce { .. } | ProcessError::Unordered { .. }
    )
}
