//! From the order to a command line.

use orchestra_types::{Failure, FailureCode, runner::Readiness};

use super::{earlier::Earlier, environment, run::Attempt};
use crate::{
    cli::{self, Adapter, CommandLine, Launch},
    ports::Lease,
    process::{LOG_BYTES_MAX, Spawn},
    prompt::{self, Document},
};

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
