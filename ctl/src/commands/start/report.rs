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
        ui.next("next: ctl add \"Create README.md with project description\" --follow");
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
            line(runner.version.as_deref().unwrap_or("built in"))
                .into_owned()
                .into(),
            runner.slots.to_string().into(),
            state,
        ]);
    }
    table
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
