//! What `ctl start` says: where the head listens, which CLIs the worker has and lacks, what next.

use serde::Serialize;

use crate::{
    error::Result,
    json::fleet::{Runner, Status, Worker},
    ui::{
        Ui,
        escape::line,
        style::{Line, Style},
        table::{Cell, Table},
        time::counted,
    },
};

/// What is typed next where an agent can do it.
const NEXT_TASK: &str = "next: ctl add \"Create README.md with project description\" --follow";
/// The same where there is no agent.
const NEXT_COMMAND: &str = "next: ctl add --agent shell --follow -- COMMAND   needs no such CLI";
/// The runner that is part of Orchestra: nobody installs it.
const BUILT_IN: &str = "agent";

/// A cluster that runs.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The head.
    #[serde(rename = "head")]
    pub status: Status,
    /// The local worker.
    pub worker: Worker,
    /// Whether the head ran before.
    #[serde(rename = "head_already_running")]
    pub head_ran: bool,
    /// Whether the worker ran before.
    #[serde(rename = "worker_already_running")]
    pub worker_ran: bool,
}

impl Report {
    /// Whether there was nothing to do.
    pub fn was_running(&self) -> bool {
        self.head_ran && self.worker_ran
    }

    /// Prints it.
    pub fn show(&self, ui: &Ui, detached: bool) -> Result<()> {
        if ui.is_json() {
            return ui.document(self);
        }
        let text: String = self
            .lines()
            .iter()
            .map(|l| l.render(ui.stdout.colour) + "\n")
            .collect();
        ui.print(text)?;
        ui.table(&runners(&self.worker))?;
        if let Some(missing) = missing(&self.worker) {
            ui.line(&missing)?;
        }
        ui.next("");
        let path = std::env::var("PATH").ok().filter(|_| !self.worker_ran);
        if let Some(lacking) = lacking(&self.worker, path.as_deref()) {
            ui.warn(lacking);
            ui.next(NEXT_COMMAND);
        } else {
            ui.next(NEXT_TASK);
        }
        if detached || self.was_running() {
            ui.next("stop: ctl stop");
        } else {
            ui.next("stop: Ctrl-C");
        }
        Ok(())
    }

    fn lines(&self) -> Vec<Line> {
        let word = |ran: bool| if ran { "already running" } else { "started" };
        let head = Line::of(Style::Good, "● head    ")
            .with(Style::Plain, word(self.head_ran))
            .with(
                Style::Dim,
                format!(" · {} · pid {}", line(&self.status.listen), self.status.pid),
            );
        let worker = Line::of(Style::Good, "● worker  ")
            .with(Style::Plain, word(self.worker_ran))
            .with(
                Style::Dim,
                format!(
                    " · {} · {} · pid {}",
                    line(&self.worker.name),
                    counted(self.worker.slots.into(), "slot"),
                    self.worker.pid
                ),
            );
        let state = Line::of(
            Style::Dim,
            format!("  state   {}", line(&self.status.state_dir)),
        );
        vec![head, worker, state, Line::default()]
    }
}

/// The runners that are there, with version, whether they can work or not.
fn runners(worker: &Worker) -> Table {
    let mut table = Table::new(&["  RUNNER", "VERSION", ">AT ONCE", "STATE…"])
        .sparing(&["VERSION", "AT ONCE"])
        .wrapping();
    for runner in worker.runners.iter().filter(|r| r.state != "missing") {
        let state = match &runner.reason {
            None => Cell::new(runner.state, Style::Good),
            Some(reason) => Cell::new(format!("not ready: {}", line(reason)), Style::Attention),
        };
        table.row(vec![
            format!("  {}", line(&runner.name)).into(),
            line(version(runner)).into_owned().into(),
            runner.slots.to_string().into(),
            state,
        ]);
    }
    table
}

/// The version that it tells; a program of the user's own need not have any.
fn version(runner: &Runner) -> &str {
    let is_ours = matches!(runner.name.as_str(), "agent" | "shell" | "noop");
    match (&runner.version, is_ours) {
        (Some(version), _) => version,
        (None, true) => "built in",
        (None, false) => "-",
    }
}

/// That no agent can work here, why, and what helps; none where one can. `path` is where the worker has
/// looked, where that is known.
fn lacking(worker: &Worker, path: Option<&str>) -> Option<String> {
    let agents = || worker.runners.iter().filter(|runner| runner.agentic);
    if agents().any(|runner| runner.state == "ready") {
        return None;
    }
    let installed = agents().filter(|r| r.state != "missing" && r.name != BUILT_IN);
    let installed: Vec<String> = installed.map(|r| line(&r.name).into_owned()).collect();
    let after = "a task for an agent waits until then; no restart is needed";
    Some(match (installed.as_slice(), path) {
        ([], Some(path)) => format!(
            "no AI coding CLI was found on PATH ({}); install one of those above in such a directory: {after}",
            line(path)
        ),
        ([], None) => format!(
            "no AI coding CLI was found on the PATH that the worker was started with; install one of those \
             above there: {after}"
        ),
        (names, _) => format!(
            "no AI coding CLI can work yet: {}; the reason stands above. Mend it: {after}",
            names.join(", ")
        ),
    })
}

/// The runners that are not installed.
fn missing(worker: &Worker) -> Option<Line> {
    let names: Vec<&str> = worker
        .runners
        .iter()
        .filter(|r: &&Runner| r.state == "missing")
        .map(|r| r.name.as_str())
        .collect();
    (!names.is_empty()).then(|| {
        Line::of(
            Style::Dim,
            format!("  not found on PATH: {}", names.join(", ")),
        )
    })
}

#[cfg(test)]
mod tests {
    use orchestra_proto::v1;

    use super::*;

    fn worker(runners: &[(&str, &str)]) -> Worker {
        let runner = |(name, readiness): &(&str, &str)| v1::RunnerInfo {
            name: (*name).to_owned(),
            readiness: (*readiness).to_owned(),
            agentic: *name != "shell",
            slots: 1,
            ..Default::default()
        };
        let info = v1::WorkerInfo {
            id: "w-1".into(),
            machine: "m".into(),
            runners: runners.iter().map(runner).collect(),
            ..Default::default()
        };
        Worker::read(v1::Worker {
            info: Some(info),
            state: "connected".into(),
            ..Default::default()
        })
        .unwrap()
    }

    #[test]
    fn only_what_is_part_of_orchestra_is_built_in() {
        let names = ["agent", "shell", "noop", "mine", "claude"];
        let worker = worker(&names.map(|name| (name, "ready")));
        let versions: Vec<&str> = worker.runners.iter().map(version).collect();
        assert_eq!(versions, ["built in", "built in", "built in", "-", "-"]);
    }

    #[test]
    fn who_has_no_agent_is_told_so_and_where_it_was_looked_for() {
        let said = |runners: &[(&str, &str)], path| lacking(&worker(runners), path);
        let none = [
            ("claude", "missing"),
            ("agent", "not_ready"),
            ("shell", "ready"),
        ];
        let text = said(&none, Some("/usr/bin:/bin")).unwrap();
        assert!(
            text.starts_with("no AI coding CLI was found on PATH (/usr/bin:/bin); install"),
            "{text}"
        );
        let text = said(&none, None).unwrap();
        assert!(text.contains("that the worker was started with"), "{text}");
        let broken = [("claude", "not_ready"), ("shell", "ready")];
        let text = said(&broken, Some("/bin")).unwrap();
        assert!(
            text.starts_with("no AI coding CLI can work yet: claude;"),
            "{text}"
        );
        assert_eq!(
            said(&[("claude", "missing"), ("codex", "ready")], None),
            None
        );
        assert_eq!(said(&[("agent", "ready")], None), None);
    }
}
