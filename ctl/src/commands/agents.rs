//! `ctl agents`.

use orchestra_proto::v1;
use serde::Serialize;

use crate::{
    app::App,
    client::patiently,
    error::Result,
    exit::Exit,
    json::fleet::Agent,
    ui::{
        escape::line,
        now,
        style::Style,
        table::{Cell, Table},
        time::ago,
    },
};

/// List agents: each slot of a runner on a worker, and what it works on or what waits there for it
#[derive(Debug, clap::Args)]
pub struct Args {}

const NOBODY: &str = "no agents: no worker has an AI coding CLI ready; `ctl workers -v` says why";

/// `ctl agents --json`.
#[derive(Debug, Serialize)]
struct Agents {
    agents: Vec<Agent>,
}

/// Lists agents.
pub async fn run(app: &App, _: Args) -> Result<Exit> {
    let client = app.connect().await?;
    let request = v1::ListAgentsRequest {};
    let answer = patiently(async || client.admin().list_agents(request).await).await?;
    let agents = answer
        .agents
        .into_iter()
        .map(Agent::read)
        .collect::<Result<Vec<_>>>()?;
    app.show(&Agents { agents }, |document| {
        if document.agents.is_empty() {
            app.ui.next(NOBODY);
            return Ok(());
        }
        app.ui.table(&table(&document.agents))
    })
}

fn table(agents: &[Agent]) -> Table {
    let now = now();
    let mut table = Table::new(&[
        "RUNNER",
        "WORKER",
        "STATE",
        ">SINCE",
        "TASK",
        "DESCRIPTION…",
    ])
    .sparing(&["SINCE", "DESCRIPTION", "WORKER"]);
    for agent in agents {
        let (symbol, style) = match agent.state.as_str() {
            "busy" => ("●", Style::Active),
            "idle" => ("○", Style::Plain),
            "waiting" => ("◔", Style::Dim),
            _ => ("◌", Style::Dim),
        };
        table.row(vec![
            line(&agent.runner).into_owned().into(),
            line(&agent.worker_name).into_owned().into(),
            Cell::new(format!("{symbol} {}", line(&agent.state)), style),
            Cell::new(
                agent.since.map(|t| ago(t.0, now)).unwrap_or_default(),
                Style::Dim,
            ),
            agent
                .attempt
                .map(|a| a.to_string())
                .unwrap_or_else(|| "-".to_owned())
                .into(),
            line(agent.description.as_deref().unwrap_or_default())
                .into_owned()
                .into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_agent_has_no_task_and_one_that_waits_is_not_busy() {
        let wire = |state: &str, attempt| v1::Agent {
            worker_name: "devbox".into(),
            runner: "claude".into(),
            state: state.into(),
            attempt,
            ..Default::default()
        };
        let busy = wire("busy", Some(v1::AttemptId { task: 3, number: 1 }));
        let ahead = wire("waiting", Some(v1::AttemptId { task: 4, number: 1 }));
        let agents = [busy, ahead, wire("idle", None)].map(|wire| Agent::read(wire).unwrap());
        assert_eq!(
            table(&agents).render(None, false),
            "RUNNER  WORKER  STATE      SINCE  TASK        DESCRIPTION\n\
             claude  devbox  ● busy            task_003.1\n\
             claude  devbox  ◔ waiting         task_004.1\n\
             claude  devbox  ○ idle            -\n"
        );
    }
}
