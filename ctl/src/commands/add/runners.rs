//! Whether anybody can do what is asked for.

use std::collections::BTreeSet;

use orchestra_types::RunnerName;

use crate::{app::App, client::Client, error::Result, json::fleet::Runner, submit::draft::Draft};

/// The runners that the tasks name; none stands for any agent.
pub fn runners(drafts: &[Draft]) -> BTreeSet<Option<RunnerName>> {
    let shell = |draft: &Draft| draft.agent.is_none() && draft.command.is_some();
    drafts
        .iter()
        .filter(|draft| !shell(draft))
        .map(|draft| draft.agent.clone())
        .collect()
}

/// Says which of the tasks will wait because no worker can take them.
pub async fn warn_of_runners(
    app: &App,
    client: &Client,
    wanted: &BTreeSet<Option<RunnerName>>,
) -> Result<()> {
    let workers = client.workers().await?;
    let connected = workers.iter().filter(|worker| worker.state == "connected");
    let ready: Vec<&Runner> = connected
        .flat_map(|worker| &worker.runners)
        .filter(|r| r.state == "ready")
        .collect();
    for runner in wanted {
        let (there, name) = match runner {
            Some(name) => (
                ready.iter().any(|r| r.name == name.as_str()),
                format!("`{name}`"),
            ),
            None => (
                ready.iter().any(|r| r.agentic),
                "any AI coding CLI".to_owned(),
            ),
        };
        if !there {
            let text = format!("no worker has {name} ready; the task waits until one has");
            app.ui.warn(text + " (`ctl workers -v` says why)");
        }
    }
    Ok(())
}
