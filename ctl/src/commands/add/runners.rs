//! Whether anybody can do what is asked for.

use std::collections::BTreeSet;

use orchestra_types::RunnerName;

use crate::{app::App, client::Client, error::Result, json::fleet::Runner, submit::draft::Draft};

/// Whom a task names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// Any agent.
    Any,
    /// The runner that must do it.
    Named(RunnerName),
    /// A runner that may do it instead.
    Fallback(RunnerName),
}

/// The runners that the tasks name.
pub fn runners(drafts: &[Draft]) -> BTreeSet<Wanted> {
    let shell = |draft: &Draft| draft.agent.is_none() && draft.command.is_some();
    let first = drafts.iter().filter(|draft| !shell(draft)).map(|draft| {
        let agent = draft.agent.clone();
        agent.map_or(Wanted::Any, Wanted::Named)
    });
    let others = drafts.iter().flat_map(|draft| draft.fallback.clone());
    first.chain(others.map(Wanted::Fallback)).collect()
}

/// Says which of the tasks will wait because no worker can take them, and which fallbacks stand in
/// for nobody.
pub async fn warn_of_runners(app: &App, client: &Client, wanted: &BTreeSet<Wanted>) -> Result<()> {
    let workers = client.workers().await?;
    let connected = workers.iter().filter(|worker| worker.state == "connected");
    let ready: Vec<&Runner> = connected
        .flat_map(|worker| &worker.runners)
        .filter(|r| r.state == "ready")
        .collect();
    for text in wanted.iter().filter_map(|w| missing(w, &ready)) {
        app.ui.warn(text + " (`ctl workers -v` says why)");
    }
    Ok(())
}

/// What it means that nobody who is ready is the wanted one; none where somebody is.
fn missing(wanted: &Wanted, ready: &[&Runner]) -> Option<String> {
    let there = |name: &RunnerName| ready.iter().any(|r| r.name == name.as_str());
    let (there, text) = match wanted {
        Wanted::Any => (
            ready.iter().any(|r| r.agentic),
            "no worker has any AI coding CLI ready; the task waits until one has".to_owned(),
        ),
        Wanted::Named(name) => (
            there(name),
            format!("no worker has `{name}` ready; the task waits until one has"),
        ),
        Wanted::Fallback(name) => (
            there(name),
            format!(
                "no worker has the fallback `{name}` ready; it stands in for nobody until one has"
            ),
        ),
    };
    (!there).then_some(text)
}

#[cfg(test)]
mod tests {
    use orchestra_proto::v1;

    use super::*;
    use crate::json::fleet::Worker;

    #[test]
    fn every_runner_that_nobody_has_is_named() {
        let claude = v1::RunnerInfo {
            name: "claude".into(),
            readiness: "ready".into(),
            slots: 1,
            ..Default::default()
        };
        let info = v1::WorkerInfo {
            id: "w-1".into(),
            machine: "m".into(),
            runners: vec![claude],
            ..Default::default()
        };
        let worker = Worker::read(v1::Worker {
            info: Some(info),
            ..Default::default()
        });
        let worker = worker.unwrap();
        let ready: Vec<&Runner> = worker.runners.iter().collect();
        let draft = Draft {
            agent: Some("claude".parse().unwrap()),
            fallback: ["claude", "nope"].map(|name| name.parse().unwrap()).into(),
            ..Draft::default()
        };
        let said: Vec<String> = runners(&[draft])
            .iter()
            .filter_map(|wanted| missing(wanted, &ready))
            .collect();
        assert_eq!(
            said,
            ["no worker has the fallback `nope` ready; it stands in for nobody until one has"]
        );
    }
}
