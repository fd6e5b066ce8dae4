//! Whether anybody can do what is asked for.

use std::collections::{BTreeMap, BTreeSet};

use orchestra_types::RunnerName;

use crate::{
    app::App,
    client::Client,
    error::Result,
    json::fleet::{Runner, Worker},
    submit::draft::Draft,
    ui::queued::{Need, Obstacle},
};

/// Whom a task names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    /// Any agent.
    Any,
    /// The runner that must do it.
    Named(RunnerName),
    /// A runner that may do it instead.
    Fallback(RunnerName),
}

/// The runners that the tasks name.
fn runners(drafts: &[Draft]) -> BTreeSet<Wanted> {
    let shell = |draft: &Draft| draft.agent.is_none() && draft.command.is_some();
    let first = drafts.iter().filter(|draft| !shell(draft)).map(|draft| {
        let agent = draft.agent.clone();
        agent.map_or(Wanted::Any, Wanted::Named)
    });
    let others = drafts.iter().flat_map(|draft| draft.fallback.clone());
    first.chain(others.map(Wanted::Fallback)).collect()
}

/// What a task needs of a worker, beside the place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Needed {
    runner: Option<String>,
    fallback: Vec<String>,
    requires: BTreeMap<String, String>,
}

/// What the tasks ask of workers.
#[derive(Debug)]
pub struct Asked {
    runners: BTreeSet<Wanted>,
    needs: BTreeSet<Needed>,
}

impl Asked {
    /// Of these tasks.
    pub fn by(drafts: &[Draft]) -> Self {
        Self {
            runners: runners(drafts),
            needs: drafts.iter().map(Needed::by).collect(),
        }
    }
}

impl Needed {
    fn by(draft: &Draft) -> Self {
        let shell = draft.command.as_ref().map(|_| "shell".to_owned());
        Self {
            runner: draft.agent.as_ref().map(ToString::to_string).or(shell),
            fallback: draft.fallback.iter().map(ToString::to_string).collect(),
            requires: draft.require.clone(),
        }
    }

    fn as_need(&self) -> Need<'_> {
        Need {
            runner: self.runner.as_deref(),
            fallback: &self.fallback,
            requires: &self.requires,
            place: None,
        }
    }
}

/// Says which of the tasks will wait because no worker can take them, and which fallbacks stand in
/// for nobody.
pub async fn warn_of_workers(app: &App, client: &Client, asked: &Asked) -> Result<()> {
    let workers = client.workers().await?;
    for text in texts(asked, &workers) {
        app.ui.warn(text);
    }
    Ok(())
}

fn texts(asked: &Asked, workers: &[Worker]) -> Vec<String> {
    let connected = workers.iter().filter(|worker| worker.state == "connected");
    let ready: Vec<&Runner> = connected
        .flat_map(|worker| &worker.runners)
        .filter(|r| r.state == "ready")
        .collect();
    let missing = asked.runners.iter().filter_map(|w| missing(w, &ready));
    let mut texts: Vec<String> = missing
        .map(|text| text + " (`ctl workers -v` says why)")
        .collect();
    let told = !texts.is_empty();
    let needs = asked.needs.iter();
    let obstacles: BTreeSet<Obstacle> = needs
        .filter_map(|needed| needed.as_need().obstacle(workers))
        .collect();
    texts.extend(obstacles.into_iter().filter_map(|obstacle| match obstacle {
        // That is why the runner is missing.
        Obstacle::NoWorker(_) | Obstacle::NotReady(_) if told => None,
        Obstacle::NoWorker(text) | Obstacle::NotReady(text) | Obstacle::Unfit(text) => {
            Some(format!("the task waits: {text}"))
        }
    }));
    texts
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

    fn worker() -> Worker {
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
        Worker::read(v1::Worker {
            info: Some(info),
            state: "connected".into(),
            ..Default::default()
        })
        .unwrap()
    }

    fn said(draft: Draft, workers: &[Worker]) -> Vec<String> {
        texts(&Asked::by(&[draft]), workers)
    }

    #[test]
    fn labels_that_no_worker_has_and_workers_that_take_nothing_are_named() {
        let agent = || Draft {
            agent: Some("claude".parse().unwrap()),
            ..Draft::default()
        };
        let mars = Draft {
            require: [("zone".to_owned(), "mars".to_owned())].into(),
            ..agent()
        };
        assert_eq!(said(agent(), &[worker()]), [""; 0]);
        assert_eq!(
            said(mars, &[worker()]),
            ["the task waits: no worker has zone=mars; `ctl workers -v` shows their labels"]
        );
        let mut cordoned = worker();
        cordoned.availability = "cordoned".into();
        let text = said(agent(), &[cordoned]);
        assert!(text[0].contains("is cordoned; `ctl workers uncordon"));
        let nobody = said(agent(), &[]);
        assert_eq!(nobody.len(), 1, "one reason is enough: {nobody:?}");
        let command = Draft {
            command: Some(orchestra_types::ShellCommand::Argv(vec!["true".into()])),
            ..Draft::default()
        };
        let nobody = said(command, &[]);
        assert!(nobody[0].starts_with("the task waits: no worker is connected"));
    }

    #[test]
    fn every_runner_that_nobody_has_is_named() {
        let worker = worker();
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
